import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.data.errors import DataError, ImageError
from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.data.segmentation import label_maps
from swin_transformer_pytorch.data.segmentation.classes import read_classes
from swin_transformer_pytorch.data.segmentation.dataset import SceneLabelMaps, SegmentationFolder, open_segmentation
from swin_transformer_pytorch.data.segmentation.folders import find_segmentation
from swin_transformer_pytorch.data.segmentation.label_maps import read_label_map

CLASSES = ("sky", "road", "tree")
LABELS = np.array([[0, 1, 2, 255], [2, 1, 0, 0]], dtype=np.uint8)


def fill(root, images="images", labels="labels", count=1, values=LABELS, names=None):
    """Images with label maps of these values."""
    for name in names or [f"{number}" for number in range(count)]:
        for folder in (images, labels):
            (root / folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", values.shape[::-1], "green").save(root / images / f"{name}.jpg")
        Image.fromarray(values).save(root / labels / f"{name}.png")
    return root


def folder(root, **options):
    return SegmentationFolder(root / "images", root / "labels", **{"classes": CLASSES, **options})


def png(values, bits, kind=0):
    """A PNG of these stored values with 1, 2, 4 or 16 bits, which PIL does not write."""
    rows = b""
    for row in values:
        if bits == 16:
            rows += b"\0" + row.astype(">u2").tobytes()
        else:
            places = np.unpackbits(row[:, None].astype(np.uint8), axis=1)[:, 8 - bits :]
            rows += b"\0" + np.packbits(places.ravel()).tobytes()

    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_images_and_label_maps_are_paired_by_name_in_folders_inside_too(tmp_path):
    fill(tmp_path, names=["b", "inside/a.x", "a"])
    fill(tmp_path, images="others", names=["without an image"])
    data = folder(tmp_path)
    assert data.names == ("a", "b", "inside/a.x")
    sample = data[2]
    assert (sample.name, sample.image.mode, sample.image.size) == ("inside/a.x", "RGB", (4, 2))
    assert sample.labels.dtype == np.uint8
    np.testing.assert_array_equal(sample.labels, LABELS)
    assert (data.classes, data.palette) == (CLASSES, None)


def test_ignore_label_and_ade20ks_rule(tmp_path):
    fill(tmp_path, values=np.array([[0, 1, 2, 3, 255]], dtype=np.uint8))
    names = (*CLASSES, "car")
    assert folder(tmp_path, classes=names)[0].labels.tolist() == [[0, 1, 2, 3, 255]]
    assert folder(tmp_path, classes=names, ignore_label=1)[0].labels.tolist() == [[0, 255, 2, 3, 255]]
    assert folder(tmp_path, reduce_zero_label=True)[0].labels.tolist() == [[255, 0, 1, 2, 255]]
    assert folder(tmp_path, reduce_zero_label=True, ignore_label=3)[0].labels.tolist() == [[255, 0, 1, 255, 255]]


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_values_are_taken_as_stored(tmp_path, bits):
    values = (np.arange(24).reshape(3, 8) % 2**bits).astype(np.uint8)
    path = tmp_path / "labels.png"
    path.write_bytes(png(values, bits))
    np.testing.assert_array_equal(read_label_map(path), values)


@pytest.mark.parametrize("count", [2, 4, 16, 200])
def test_indices_of_a_palette_count(tmp_path, count):
    values = (np.arange(256).reshape(16, 16) % count).astype(np.uint8)
    image = Image.fromarray(values)
    image.putpalette([channel for index in range(count) for channel in (255 - index, index, 7)])
    image.save(tmp_path / "labels.png", bits=8 if count > 16 else {2: 1, 4: 2, 16: 4}[count])
    np.testing.assert_array_equal(read_label_map(tmp_path / "labels.png", palette=((1, 2, 3),)), values)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_become_labels(tmp_path, mode):
    palette = ((0, 0, 255), (9, 9, 9), (0, 255, 0))
    values = LABELS % 3
    Image.fromarray(np.array(palette, dtype=np.uint8)[values]).convert(mode).save(tmp_path / "labels.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "labels.png", palette), values)
    with pytest.raises(DataError, match="none are known"):
        read_label_map(tmp_path / "labels.png")
    with pytest.raises(DataError, match=r"labels\.png has the colour \(0, 255, 0\) at x=2, y=0 \(2 such pixels\)"):
        read_label_map(tmp_path / "labels.png", palette[:2])
    with pytest.raises(DataError, match=r"\(9, 9, 9\) stands for several classes"):
        read_label_map(tmp_path / "labels.png", (*palette, (9, 9, 9)))


def test_a_missing_label_map_names_the_pair(tmp_path):
    fill(tmp_path, count=8)
    for name in ("1", "2", "3", "4", "5", "6", "7"):
        (tmp_path / "labels" / f"{name}.png").unlink()
    (tmp_path / "labels" / "1.jpg").write_bytes(b"")
    with pytest.raises(DataError) as error:
        folder(tmp_path)
    message = str(error.value)
    assert "7 of 8 images" in message and "and 2 more" in message
    assert f"{tmp_path / 'images' / '1.jpg'} needs {tmp_path / 'labels' / '1.png'} (there is 1.jpg" in message


def test_two_images_of_one_name_are_an_error(tmp_path):
    fill(tmp_path)
    Image.new("RGB", (4, 2)).save(tmp_path / "images" / "0.png")
    with pytest.raises(DataError, match=r"0\.jpg and .*0\.png would share"):
        folder(tmp_path)


NFC, NFD = "k\u00e4fer/\u00e9", "ka\u0308fer/e\u0301"


@pytest.mark.parametrize(("image", "label_map"), [(NFC, NFD), (NFD, NFC)])
def test_a_label_map_is_found_in_either_form_of_unicode(tmp_path, image, label_map):
    fill(tmp_path, labels="others", names=[image])
    fill(tmp_path, images="others", names=[label_map])
    assert folder(tmp_path).names == (image,)
    fill(tmp_path, images="images", labels="none", names=[label_map])
    with pytest.raises(DataError, match="would share one label map"):
        folder(tmp_path)
    fill(tmp_path, names=[image, label_map])
    fill(tmp_path, names=[label_map], values=LABELS[:1])
    assert {one.name: one.labels.shape for one in folder(tmp_path)} == {image: (2, 4), label_map: (1, 4)}


def test_sizes_that_differ_name_the_pair(tmp_path):
    fill(tmp_path)
    Image.new("RGB", (4, 3)).save(tmp_path / "images" / "0.jpg")
    with pytest.raises(DataError, match=r"images.0\.jpg has 4 x 3 pixels and its label map .*labels.0\.png 4 x 2"):
        folder(tmp_path)[0]


@pytest.mark.parametrize(
    ("reduced", "count", "told"), [(False, 2, "2 classes, 0 to 1"), (True, 1, "1 classes, 1 to 1")]
)
def test_labels_beyond_the_classes_name_the_pair(tmp_path, reduced, count, told):
    fill(tmp_path)
    with pytest.raises(DataError, match=r"labels.0\.png of .*images.0\.jpg has the label 2 at x=2, y=0, and") as error:
        folder(tmp_path, classes=CLASSES[:count], reduce_zero_label=reduced)[0]
    assert told in str(error.value)


@pytest.mark.parametrize("kind", [0, 2])
def test_a_label_map_of_16_bits_is_refused_at_once(tmp_path, kind):
    fill(tmp_path)
    values = np.zeros((2, 12 if kind == 2 else 4), dtype=np.uint16)
    (tmp_path / "labels" / "0.png").write_bytes(png(values, 16, kind))
    with pytest.raises(DataError, match=r"images.0\.jpg: the label map .*labels.0\.png is a PNG of 16 bits"):
        folder(tmp_path)


def test_a_jpeg_is_no_label_map(tmp_path):
    fill(tmp_path)
    Image.fromarray(LABELS).save(tmp_path / "labels" / "0.png", format="JPEG")
    with pytest.raises(DataError, match=r"images.0\.jpg: the label map .*labels.0\.png is a JPEG"):
        folder(tmp_path)


def test_a_damaged_label_map_names_the_pair(tmp_path):
    fill(tmp_path, values=np.random.default_rng(0).integers(0, 3, (50, 50), dtype=np.uint8))
    path = tmp_path / "labels" / "0.png"
    path.write_bytes(path.read_bytes()[:200])
    data = folder(tmp_path)
    with pytest.raises(DataError, match=r"images.0\.jpg: the label map .*labels.0\.png is damaged"):
        data[0]
    path.unlink()
    with pytest.raises(DataError, match=r"images.0\.jpg: the label map .*labels.0\.png cannot be read"):
        data[0]


def test_a_colour_of_no_class_names_the_pair(tmp_path):
    fill(tmp_path)
    Image.new("RGB", (4, 2), (7, 8, 9)).save(tmp_path / "labels" / "0.png")
    pair = r"images.0\.jpg: the label map .*labels.0\.png has"
    with pytest.raises(DataError, match=rf"{pair} the colour \(7, 8, 9\) at x=0, y=0 \(8 such pixels\)"):
        folder(tmp_path, palette=[(0, 0, 0), (0, 0, 1), (0, 0, 2)])[0]
    with pytest.raises(DataError, match=rf"{pair} colours \(mode RGB\), and none are known"):
        folder(tmp_path)[0]


def test_classes_must_be_known(tmp_path):
    fill(tmp_path)
    with pytest.raises(DataError, match=r"are not known; write their names.*classes\.txt"):
        folder(tmp_path, classes=None)
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    assert folder(tmp_path, classes=None).classes == CLASSES
    (tmp_path / "labels" / "classes.json").write_text('{"earth": [1, 2, 3]}')
    assert folder(tmp_path, classes=None).palette == ((1, 2, 3),), "the nearest file counts"
    assert folder(tmp_path, classes=tmp_path / "classes.txt").classes == CLASSES
    with pytest.raises(DataError, match="256 classes"):
        folder(tmp_path, classes=[str(number) for number in range(256)])
    with pytest.raises(ValueError, match="2 colours for 3 classes"):
        folder(tmp_path, palette=[(0, 0, 0), (1, 1, 1)])
    with pytest.raises(ValueError, match="ignore_label=256"):
        folder(tmp_path, ignore_label=256)


@pytest.mark.parametrize(
    ("name", "text", "names", "palette"),
    [
        ("a.txt", "sky\n\n traffic light \r\nroad", ("sky", "traffic light", "road"), None),
        ("a.txt", "\ufeff0 0 255 sky\n7, 8, 9, old tree\n", ("sky", "old tree"), ((0, 0, 255), (7, 8, 9))),
        ("a.json", '["sky", "road"]', ("sky", "road"), None),
        ("a.json", '{"sky": [1, 2, 3], "road": [4, 5, 6]}', ("sky", "road"), ((1, 2, 3), (4, 5, 6))),
        ("a.json", '[{"name": "sky", "color": [1, 2, 3]}]', ("sky",), ((1, 2, 3),)),
        ("a.json", '[{"name": "sky"}, "road"]', ("sky", "road"), None),
    ],
)
def test_files_of_classes(tmp_path, name, text, names, palette):
    (tmp_path / name).write_text(text, encoding="utf-8")
    read = read_classes(tmp_path / name)
    assert (read.names, read.palette) == (names, palette)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", " \n", "names no classes"),
        ("a.txt", "sky\nroad\nsky", r"line 3: the class 'sky' is there already \(line 1\)"),
        ("a.txt", "1 2 3 sky\nroad", "line 2: 'road' has no colour and the first class has"),
        ("a.txt", "1 2 256 sky", "beyond 255"),
        ("a.txt", "\n".join(map(str, range(256))), "256 classes"),
        ("a.json", "{", "no JSON"),
        ("a.json", "3", "holds neither"),
        ("a.json", "[3]", "entry 0 is 3"),
        ("a.json", '{"sky": "blue"}', "the colour of 'sky' is 'blue'"),
        ("missing.txt", None, "cannot be read"),
    ],
)
def test_broken_files_of_classes_say_where(tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_classes(tmp_path / name)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images/{}", "labels/{}"),
        ("images/{}", "annotations/{}"),
        ("{}/images", "{}/masks"),
        ("{}", "labels/{}"),
    ],
)
@pytest.mark.parametrize("names", [("train", "val"), ("training", "validation"), ("train", "valid")])
def test_layouts(tmp_path, images, labels, names):
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    for name, count in zip(names, (3, 2), strict=True):
        fill(tmp_path, images.format(name), labels.format(name), count)
    train, val = (open_segmentation(tmp_path, split) for split in ("train", "val"))
    assert (len(train), len(val)) == (3, 2)
    assert train.classes == val.classes == CLASSES
    assert val[1].labels.shape == (2, 4)


@pytest.mark.parametrize("part", ["", "/train"])
def test_a_part_is_held_out_where_there_is_no_validation_folder(tmp_path, part):
    (tmp_path / "classes.json").write_text(json.dumps(CLASSES))
    fill(tmp_path, f"images{part}", f"labels{part}", 10)
    train, val = (set(open_segmentation(tmp_path, split).names) for split in ("train", "val"))
    assert (len(train), len(val), len(train | val)) == (8, 2, 10)
    assert set(open_segmentation(tmp_path, "val").names) == val
    assert set(open_segmentation(tmp_path, "val", seed=1).names) != val
    assert len(open_segmentation(tmp_path, "train", val_fraction=0)) == 10
    with pytest.raises(DataError, match="leaves none for 'val'"):
        open_segmentation(tmp_path, "val", val_fraction=0)
    with pytest.raises(ValueError, match="val_fraction=1"):
        open_segmentation(tmp_path, "val", val_fraction=1)


def test_ade20k_is_known_by_its_folders(tmp_path):
    for name in ("training", "validation"):
        fill(tmp_path, f"images/{name}", f"annotations/{name}", values=np.array([[0, 1, 150]], dtype=np.uint8))
    data = open_segmentation(tmp_path, "val")
    assert (len(data.classes), data.classes[0], data.classes[149]) == (150, "wall", "flag")
    assert data.palette[0] == (120, 120, 120)
    assert data[0].labels.tolist() == [[255, 0, 149]]
    assert find_segmentation(tmp_path, "train").ade20k
    (tmp_path / "classes.txt").write_text("\n".join(map(str, range(151))))
    assert open_segmentation(tmp_path, "val")[0].labels.tolist() == [[0, 1, 150]], "one's own classes come first"


def ade20k_like(root, values):
    for name in ("training", "validation"):
        fill(root, f"images/{name}", f"annotations/{name}", 3, values=np.array([values], dtype=np.uint8))
    return root


@pytest.mark.parametrize(("values", "highest"), [([0, 1], 1), ([0, 255], 0), ([0, 20, 255], 20), ([3, 151], 151)])
def test_what_ade20k_cannot_be_is_not_taken_for_it(tmp_path, values, highest):
    root = ade20k_like(tmp_path, values)
    for split in ("train", "val"):
        with pytest.raises(
            DataError, match=rf"highest label of the [13] label maps looked at is {highest}, where"
        ) as e:
            open_segmentation(root, split)
        assert str(root / "classes.txt") in str(e.value) and "--data.kind ade20k" in str(e.value)
    known = open_segmentation(root, "train", kind="ade20k")
    assert len(known.classes) == 150 and known.reduce_zero_label and not known.guess
    own = open_segmentation(root, "train", classes=[f"class {index}" for index in range(200)])
    assert own[0].labels.tolist() == [values] and not own.guess


@pytest.mark.parametrize("values", [[0, 21], [0, 1, 150, 255], [150]])
def test_what_may_be_ade20k_is_taken_for_it_and_says_so(tmp_path, values):
    data = open_segmentation(ade20k_like(tmp_path, values), "val")
    assert data.reduce_zero_label
    assert "taken for ADE20K" in data.guess and data.select([0]).guess == data.guess


def test_an_ignored_label_and_damaged_maps_say_nothing_of_ade20k(tmp_path):
    root = ade20k_like(tmp_path, [0, 1, 200])
    with pytest.raises(DataError, match="is 1, where"):
        open_segmentation(root, "train", ignore_label=200)
    for path in (root / "annotations" / "training").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    assert open_segmentation(root, "train").reduce_zero_label, "they are named when they are read"


def test_known_ade20k_has_no_other_classes(tmp_path):
    root = ade20k_like(tmp_path, [0, 150])
    (root / "classes.txt").write_text("\n".join(map(str, range(151))))
    with pytest.raises(DataError, match=r"classes\.txt has classes, and ADE20K's are known: use --data\.kind folder"):
        open_segmentation(root, "train", kind="ade20k")


@pytest.mark.parametrize(
    ("kind", "file", "text"),
    [
        ("coco", "annotations/instances_default.json", '{"images": [], "annotations": [], "categories": []}'),
        ("labelme", "1.json", '{"shapes": []}'),
        ("cvat", "annotations.xml", "<annotations/>"),
        ("label_studio", "export.json", '[{"id": 1, "annotations": []}]'),
    ],
)
def test_outlines_of_objects_are_proposed_where_there_are_no_label_maps(tmp_path, kind, file, text):
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(text)
    with pytest.raises(DataError, match=f"but annotations of objects: --data.kind {kind} draws their outlines; looked"):
        find_segmentation(tmp_path, "train")


def test_what_was_looked_for_is_listed(tmp_path):
    (tmp_path / "photos").mkdir()
    for split in ("train", "val", "test"):
        with pytest.raises(DataError, match="looked for") as error:
            find_segmentation(tmp_path, split)
        first, *lines = str(error.value).splitlines()
        assert {f"  images/{split}/ with labels/{split}/", f"  {split}/images/ with {split}/labels/"} <= {*lines}
        assert ("  images/ with labels/" in lines) == (split != "test")
        assert len({*lines}) == len(lines) <= 10
        assert "annotations of objects" not in first
    with pytest.raises(DataError, match="is not a folder"):
        find_segmentation(tmp_path / "missing", "train")
    fill(tmp_path, "images/val", "labels/val")
    with pytest.raises(DataError, match="for 'train'"):
        find_segmentation(tmp_path, "train")
    with pytest.raises(ValueError, match="split='all'"):
        find_segmentation(tmp_path, "all")


def test_empty_and_missing_folders_are_named(tmp_path):
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"labels is not a folder; .* label maps"):
        folder(tmp_path)
    (tmp_path / "labels").mkdir()
    with pytest.raises(DataError, match="holds no images"):
        folder(tmp_path)


def test_scenes_as_label_maps():
    scenes = open_scenes("scenes_sample", "train", num_scenes=3, image_size=(64, 64))
    maps = SceneLabelMaps(scenes)
    assert len(maps) == 3 and maps.classes[-1] == "ground" and len(maps.palette) == 11
    np.testing.assert_array_equal(maps[2].labels, scenes[2].semantic)
    assert maps[2].name == "000002"


@pytest.mark.parametrize("pixels", [1, 7, 10**6])
def test_colours_are_looked_up_in_pieces(tmp_path, monkeypatch, pixels):
    monkeypatch.setattr(label_maps, "_CHUNK_PIXELS", pixels)
    palette = ((9, 0, 0), (0, 9, 0), (0, 0, 9))
    values = np.random.default_rng(0).integers(0, 3, (11, 5), dtype=np.uint8)
    colours = np.array(palette, dtype=np.uint8)[values]
    Image.fromarray(colours).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_map(tmp_path / "a.png", palette), values)
    colours[7:9, 3] = (1, 2, 3)
    Image.fromarray(colours).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"\(1, 2, 3\) at x=3, y=7 \(2 such pixels\)"):
        read_label_map(tmp_path / "a.png", palette)


@pytest.mark.parametrize("size", [(60_000, 60_000), (2, 2**31 - 1), (15_000, 15_000)])
@pytest.mark.parametrize("kind", [0, 2, 3])
def test_a_label_map_that_claims_too_many_pixels_is_refused_at_once(tmp_path, size, kind):
    fill(tmp_path)
    content = bytearray(png(LABELS, 8, kind))
    content[16:24] = struct.pack(">II", *size)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    (tmp_path / "labels" / "0.png").write_bytes(content)
    with pytest.raises(ImageError, match=rf"0\.png has {size[0]} x {size[1]} pixels"):
        folder(tmp_path).read_labels(0)
