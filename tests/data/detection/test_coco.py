"""Data sets in COCO's format, with pycocotools as the reference."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from swin_transformer_pytorch.data.detection.coco import CocoDataset, find_coco
from swin_transformer_pytorch.data.errors import DataError, SampleError

SQUARE = [[10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]]


def test_another_reader_makes_the_dictionary(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    labels = tmp_path / "labels.txt"
    labels.write_text("10 10 20 20", encoding="utf-8")

    def read(path):
        return document(annotation(1, bbox=[float(number) for number in path.read_text(encoding="utf-8").split()]))

    assert CocoDataset(tmp_path, labels, read=read)[0].boxes_xyxy.tolist() == [[10, 10, 30, 30]]


def annotation(number, **changes):
    values = {"id": number, "image_id": 7, "category_id": 3, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0}
    return {**values, "segmentation": SQUARE, **changes}


def document(*annotations, images=None):
    images = images or [{"id": 7, "file_name": "a.png", "width": 64, "height": 48}]
    categories = [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}]
    return {"images": images, "annotations": list(annotations), "categories": categories}


@pytest.fixture
def make(tmp_path):
    """Writes a data set and opens it; the size of its picture is that of the annotations."""

    def make(content, files=None, **options):
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        for name, (height, width) in (files or {"a.png": (48, 64)}).items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        path = tmp_path / "annotations.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return CocoDataset(folder, path, **options)

    return make


def random_polygons(random, height, width):
    """One to three polygons, corners beyond the border among them."""
    return [
        (random.uniform(-0.2, 1.2, (int(random.integers(3, 9)), 2)) * [width, height]).ravel().round(2).tolist()
        for _ in range(random.integers(1, 4))
    ]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools itself
def test_masks_of_every_form_are_pycocotools(make, tmp_path):
    random = np.random.default_rng(0)
    shapes = [random_polygons(random, 48, 64) for _ in range(20)]
    for share in (0.0, 0.3, 1.0):
        pixels = random.random((48, 64)) < share
        compressed = coco_mask.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"].decode()
        shapes.append({"size": [48, 64], "counts": compressed})
        runs = np.diff(np.flatnonzero(np.diff(pixels.T.ravel().astype(int), prepend=-1)), append=pixels.size)
        shapes.append({"size": [48, 64], "counts": ([0] if pixels[0, 0] else []) + runs.tolist()})
    annotations = [annotation(i + 1, segmentation=shape) for i, shape in enumerate(shapes)]
    sample = make(document(*annotations))[0]
    reference = COCO(str(tmp_path / "annotations.json"))
    assert sample.masks.shape == (26, 48, 64) and sample.masks.dtype == np.uint8
    for mask, number in zip(sample.masks, reference.anns, strict=True):
        np.testing.assert_array_equal(mask, reference.annToMask(reference.anns[number]), err_msg=str(number))


def test_a_sample_has_what_the_annotations_say(make):
    crowd = {"size": [48, 64], "counts": [100, 48 * 64 - 100]}
    dataset = make(
        document(
            annotation(1, category_id=90, bbox=[1.5, 2.25, 10.5, 20]), annotation(2, iscrowd=1, segmentation=crowd)
        )
    )
    sample = dataset[0]
    assert dataset.classes == ("cat", "dog")  # by ascending id
    assert len(dataset) == 1 and len(sample) == 2
    assert dataset.image_ids == [7] and dataset.image_sizes == [(48, 64)]
    assert sample.image_id == 7 and sample.image.mode == "RGB" and sample.image.size == (64, 48)
    np.testing.assert_array_equal(sample.boxes_xyxy, np.array([[1.5, 2.25, 12, 22.25], [10, 10, 30, 30]], np.float32))
    assert sample.labels.tolist() == [1, 0]
    assert sample.crowd.tolist() == [False, True]
    assert sample.masks[1].sum() == 48 * 64 - 100
    assert sample.semantic is None


def test_what_may_be_absent_is_filled_in(make):
    plain = annotation(1)
    del plain["iscrowd"], plain["area"]
    dataset = make(document(plain))
    assert dataset.annotations["annotations"][0]["area"] == 400
    assert dataset.annotations["annotations"][0]["iscrowd"] == 0
    assert dataset[0].crowd.tolist() == [False]


def test_objects_that_the_official_training_leaves_out(make):
    unusable = [
        annotation(2, bbox=[10, 10, 0.5, 20]),
        annotation(3, bbox=[10, 10, 20, 0.9]),
        annotation(4, area=0),
        annotation(5, bbox=[64, 10, 5, 5]),
        annotation(6, bbox=[10, -5, 5, 5]),
        annotation(7, ignore=1),
    ]
    sample = make(document(annotation(1), *unusable, annotation(8, bbox=[-5, 10, 10, 1])))[0]
    assert sample.boxes_xyxy.tolist() == [[10, 10, 30, 30], [-5, 10, 5, 11]]


def test_images_that_the_official_training_leaves_out(make):
    images = [
        {"id": number, "file_name": f"{number}.png", "width": width, "height": height}
        for number, height, width in [(1, 48, 64), (2, 31, 64), (3, 48, 31), (4, 48, 64), (5, 32, 32), (6, 48, 64)]
    ]
    files = {f"{i['id']}.png": (i["height"], i["width"]) for i in images}
    annotations = [annotation(n, image_id=n, bbox=[1, 1, 9, 9]) for n in (1, 2, 3)]
    annotations += [annotation(5, image_id=5, iscrowd=1), annotation(6, image_id=6, area=0)]
    content = document(*annotations, images=images)
    assert make(content, files).image_ids == [1, 5, 6]
    everything = make(content, files, keep_empty=True)
    assert everything.image_ids == [1, 2, 3, 4, 5, 6]
    assert everything[3].masks.shape == (0, 48, 64) and everything[3].boxes_xyxy.shape == (0, 4)
    assert len(everything[5]) == 0
    with pytest.raises(DataError, match=r"leaves no image to use: none of its 6 has an annotation of dog "):
        make(content, files, classes=["dog"])


def test_classes_of_a_model_set_the_order(make):
    content = document(annotation(1), annotation(2, category_id=90))
    sample = make(content, classes=["bird", "dog", "fish", "cat"])[0]
    assert sample.labels.tolist() == [3, 1]
    assert make(content, classes=["dog"])[0].labels.tolist() == [0]
    with pytest.raises(DataError, match=r"none of the classes asked for \(bird\); its categories are dog, cat"):
        make(content, classes=["bird"])


def test_files_are_found_below_and_beside(make):
    images = [
        {"id": 7, "file_name": "deep/a.png", "width": 64, "height": 48},
        {"id": 8, "file_name": "export\\images\\b.png", "width": 64, "height": 48},
    ]
    files = {"deep/a.png": (48, 64), "b.png": (48, 64)}
    assert len(make(document(annotation(1), annotation(2, image_id=8), images=images), files)) == 2


@pytest.mark.parametrize("shape", [None, [], {}, [[]], [[], []], [[1, 2]], [[1, 2, 3, 4]], [[], [1, 2, 3, 4]]])
def test_boxes_can_stand_for_masks(make, caplog, shape):
    bare = [annotation(1, segmentation=shape, bbox=[10.2, 5, 3, 2]), annotation(2, segmentation=shape), annotation(3)]
    if shape is None:
        del bare[0]["segmentation"]
    with pytest.raises(
        DataError, match=r"box_masks true.*\n  annotation 1: it has no .*\n  annotation 2: it has"
    ) as error:
        make(document(*bare))
    assert "annotation 3" not in str(error.value)
    assert ("polygon" in str(error.value)) == bool(shape)
    masks = make(document(*bare), box_masks=True)[0].masks
    assert masks[0].sum() == 6 and masks[0, 5:7, 10:13].all()
    assert masks[1].sum() == masks[2].sum() == 400
    assert "2 of 3 objects have no mask" in caplog.text


def test_of_several_polygons_those_without_an_area_are_passed_over(make):
    sample = make(document(annotation(1, segmentation=[[], [1, 1, 60, 40], *SQUARE])))[0]
    assert sample.masks[0].sum() == 400


@pytest.mark.parametrize(
    ("categories", "classes", "left_out"),
    [
        ([(3, "cat"), (4, "cat")], ("cat",), "4 (cat)"),
        ([(1, "cat"), (3, "cat")], ("cat",), "1 (cat)"),
        ([(1, "cat"), (2, "cat"), (3, "cat"), (4, "cat")], ("cat",), "2 (cat), 1 (cat), 4 (cat)"),
        ([(0, "cat"), (1, "dog"), (2, "dog"), (3, "cat")], ("dog", "cat"), "2 (dog), 0 (cat)"),
        ([(3, "caf\u00e9"), (4, "cafe\u0301")], ("caf\u00e9",), "4 (cafe\u0301)"),
    ],
)
def test_an_unused_category_of_a_name_that_is_there_is_left_out(make, caplog, categories, classes, left_out):
    content = {**document(annotation(1)), "categories": [{"id": number, "name": name} for number, name in categories]}
    dataset = make(content)
    assert dataset.classes == tuple(one["name"] for one in dataset.coco()["categories"]) == classes
    assert dataset[0].labels.tolist() == [len(classes) - 1]
    assert left_out in caplog.text and len(caplog.records) == 1


@pytest.mark.parametrize("names", [("cat", "cat", "cat"), ("caf\u00e9", "cafe\u0301", "dog"), ("x", "x", "y")])
def test_two_categories_of_a_name_with_annotations_are_an_error(make, names):
    content = document(annotation(1), annotation(2, category_id=4))
    content["categories"] = [{"id": number, "name": name} for number, name in enumerate(names, start=3)]
    with pytest.raises(DataError, match=f"broken categories.*\n  category 4: category 3 has the name {names[1]!r} as"):
        make(content)


NFC, NFD = "k\u00e4fer \u00e9", "ka\u0308fer e\u0301"


@pytest.mark.parametrize(("listed", "stored"), [(NFC, NFD), (NFD, NFC), (NFC, NFC), (NFD, NFD)])
@pytest.mark.parametrize("pattern", ["{}.png", "{}/a.png", "{}/in/{}.png", "away/{}.png"])
def test_a_name_is_found_in_either_form_of_unicode(make, listed, stored, pattern):
    path = pattern.format(stored, stored).removeprefix("away/")
    images = [{"id": 7, "file_name": pattern.format(listed, listed), "width": 64, "height": 48}]
    content = document(annotation(1), images=images)
    content["categories"] = [{"id": 3, "name": listed}]
    sample = make(content, {path: (48, 64)}, classes=["dog", stored])[0]
    assert sample.labels.tolist() == [1]


@pytest.mark.parametrize("listed", [(NFC, NFD), (NFD, NFC), (NFC,), (NFD,)])
def test_of_two_files_whose_names_look_the_same_the_exact_one_is_taken(make, listed):
    images = [
        {"id": number, "file_name": f"{name}.png", "width": 64, "height": 48 if name == NFC else 40}
        for number, name in enumerate(listed, start=7)
    ]
    content = document(*(annotation(image["id"], image_id=image["id"]) for image in images), images=images)
    dataset = make(content, {f"{NFC}.png": (48, 64), f"{NFD}.png": (40, 64)})
    assert [sample.image.height for sample in dataset] == [48 if name == NFC else 40 for name in listed]


@pytest.mark.parametrize(("image", "label_map"), [(NFC, NFD), (NFD, NFC)])
def test_a_stuff_map_is_found_in_either_form_of_unicode(make, tmp_path, image, label_map):
    (tmp_path / "stuff").mkdir()
    Image.new("L", (64, 48), 9).save(tmp_path / "stuff" / f"{label_map}.png")
    content = document(annotation(1), images=[{"id": 7, "file_name": f"{image}.png", "width": 64, "height": 48}])
    dataset = make(content, {f"{image}.png": (48, 64)}, stuff_folder=tmp_path / "stuff")
    assert (dataset[0].semantic == 9).all()


def test_stuff_maps(make, tmp_path):
    stuff = tmp_path / "stuff"
    stuff.mkdir()
    labels = np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8)
    Image.fromarray(labels).save(stuff / "a.png")
    content = document(annotation(1))
    np.testing.assert_array_equal(make(content, stuff_folder=stuff)[0].semantic, labels)
    palette = Image.fromarray(labels)
    palette.putpalette(list(range(256)) * 3)
    palette.save(stuff / "a.png")
    np.testing.assert_array_equal(make(content, stuff_folder=stuff)[0].semantic, labels)
    Image.fromarray(labels.astype(np.uint16)).save(stuff / "a.png")
    with pytest.raises(DataError, match=r"a\.png is an image of mode I;16; a label map is"):
        make(content, stuff_folder=stuff)[0]
    Image.fromarray(labels[:40]).save(stuff / "a.png")
    with pytest.raises(DataError, match=r"a\.png is \(40, 64\) \(height, width\) and its image \(48, 64\)"):
        make(content, stuff_folder=stuff)[0]
    (stuff / "a.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"a\.png is damaged"):
        make(content, stuff_folder=stuff)[0]
    (stuff / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.png does not exist: image 7 has no label map of stuff"):
        make(content, stuff_folder=stuff)[0]
    with pytest.raises(DataError, match="nowhere is not a folder"):
        make(content, stuff_folder=tmp_path / "nowhere")


BROKEN = [
    ({"bbox": [1, 2, 3]}, r"annotation 5: its bbox is \[1, 2, 3\], not four finite numbers"),
    ({"bbox": [1, 2, 3, float("nan")]}, r"annotation 5: its bbox is \[1, 2, 3, nan\]"),
    ({"bbox": "1 2 3 4"}, "annotation 5: its bbox is '1 2 3 4'"),
    ({"bbox": [1, 2, 3, None]}, "annotation 5: its bbox"),
    ({"category_id": 4}, "annotation 5: its category_id 4 is none of the file's categories"),
    ({"category_id": None}, "annotation 5: its category_id None"),
    ({"image_id": 8}, "annotation 5: its image_id 8 is none of the file's images"),
    ({"image_id": [7]}, r"annotation 5: its image_id \[7\]"),
    ({"id": "x"}, "annotation x: its id is 'x', not a whole number"),
    ({"iscrowd": 2}, "annotation 5: its iscrowd is 2"),
    ({"area": "big"}, "annotation 5: its area is 'big'"),
    ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "annotation 5: its polygon has 7 numbers, an odd count"),
    ({"segmentation": [[1, 2, 3]]}, "annotation 5: its polygon has 3 numbers, an odd count"),
    ({"segmentation": [1, 2, 3, 4, 5, 6]}, r"annotation 5: .* a list of numbers; .*\[\[x, y"),
    ({"segmentation": [[1, 2, 3, 4, 5, float("inf")]]}, "annotation 5: its polygon .* not a list of finite"),
    ({"segmentation": [[1, 2, 3, 4, 5, 1e12]]}, "annotation 5: its polygon reaches 1000000000000 pixels"),
    ({"segmentation": ["x"]}, "annotation 5: its segmentation|annotation 5: its polygon"),
    ({"segmentation": "x"}, "annotation 5: its segmentation is 'x', neither"),
    ({"segmentation": {"size": [48, 64]}}, "annotation 5: its run lengths have the counts None"),
    ({"segmentation": {"size": [48, 64], "counts": [1.5]}}, r"annotation 5: .* the counts \[1\.5\]"),
    (
        {"segmentation": {"size": [64, 48], "counts": [3072]}},
        r"annotation 5: its run lengths have the size \[64, 48\], and its image is \[48, 64\] \(height, width\)",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BROKEN)
def test_a_broken_annotation_is_named(make, changes, message):
    with pytest.raises(DataError, match=message) as error:
        make(document(annotation(1), annotation(5, **changes)))
    assert "annotations.json has broken annotations" in str(error.value)


@pytest.mark.parametrize("key", ["image_id", "category_id", "bbox", "id"])
def test_a_missing_key_is_named(make, key):
    broken = annotation(5)
    del broken[key]
    name = "annotation number 1: its id is None" if key == "id" else f"annotation 5: it has no '{key}'"
    with pytest.raises(DataError, match=name):
        make(document(annotation(1), broken))


def test_five_of_many_broken_annotations_are_named(make):
    with pytest.raises(DataError) as error:
        make(document(*(annotation(number, bbox=[]) for number in range(9))))
    assert re.findall(r"annotation (\d+):", str(error.value)) == list("01234")
    assert "and 4 more" in str(error.value)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([100, 100], "annotation 5: the run lengths make 200 pixels, and 48 x 64 has 3072"),
        ([-1, 3073], "annotation 5: run lengths must be"),
        ("~~~", "annotation 5: the run lengths hold characters"),
        ("0P", "annotation 5: the run lengths are cut short"),
        ("1", "annotation 5: the run lengths make 1 pixels"),
    ],
)
def test_damaged_run_lengths_are_named_when_they_are_read(make, counts, message):
    dataset = make(document(annotation(5, segmentation={"size": [48, 64], "counts": counts})))
    with pytest.raises(DataError, match=rf"annotations\.json: {message}"):
        dataset[0]


IMAGE = {"id": 7, "file_name": "a.png", "width": 64, "height": 48}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"images": [IMAGE, {**IMAGE, "file_name": "b.png"}]},
            r"images; .*\n  image 7: another one has the same",
        ),
        ({"images": [{**IMAGE, "width": 0}]}, "image 7: its width is 0"),
        ({"images": [{"id": 7, "file_name": "a.png", "width": 64}]}, "image 7: its height is None"),
        ({"images": [{**IMAGE, "file_name": None}]}, "image 7: its file_name is None"),
        ({"images": [5]}, "image number 0 is 5, not an object"),
        ({"categories": []}, "has no categories"),
        ({"categories": [{"id": 3}]}, "category 3: its name is None"),
        (
            {"annotations": [annotation(1), annotation(1)]},
            "annotation 1: another one has the same id; number",
        ),
        ({"annotations": None}, "has no list 'annotations'"),
        ({"images": [{**IMAGE, "file_name": "b.png"}]}, r"image 7: there is no b\.png in .*images"),
    ],
)
def test_a_broken_file_says_where(make, change, message):
    with pytest.raises(DataError, match=message) as error:
        make({**document(annotation(1)), **change})
    assert "annotations.json" in str(error.value)


def test_what_is_no_annotation_file(make, tmp_path):
    with pytest.raises(DataError, match=r"annotations\.json is not JSON \(Expecting"):
        make("{'images': 1}")
    with pytest.raises(DataError, match=r"annotations\.json holds a list, as a file of results does"):
        make([{"image_id": 7, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}])
    with pytest.raises(DataError, match=r"annotations\.json has no list 'images'"):
        make("5")
    (tmp_path / "annotations.json").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match="is not JSON"):
        CocoDataset(tmp_path, tmp_path / "annotations.json")
    with pytest.raises(DataError, match=r"none\.json does not exist"):
        CocoDataset(tmp_path, tmp_path / "none.json")
    with pytest.raises(DataError, match="is a folder; give COCO's annotation file"):
        CocoDataset(tmp_path, tmp_path)
    with pytest.raises(DataError, match="nowhere is not a folder"):
        CocoDataset(tmp_path / "nowhere", tmp_path / "annotations.json")


def test_a_picture_of_another_size_is_named(make):
    dataset = make(document(annotation(1)), {"a.png": (48, 65)})
    with pytest.raises(DataError, match=r"a\.png has 65 x 48 pixels; image 7 of .*annotations\.json has 64 x 48"):
        dataset[0]
    dataset = make(document(annotation(1)), {"a.png": (64, 48)})
    with pytest.raises(DataError, match=r"has 48 x 64 pixels, turned: width and height are swapped; image 7"):
        dataset[0]


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 8])
@pytest.mark.parametrize("stored", [(64, 48), (48, 64)])
def test_sides_swapped_by_a_rotation_are_told_from_those_in_the_annotations(make, stored, orientation):
    dataset = make(document(annotation(1)))  # of 64 x 48
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", stored).save(dataset.paths[0], exif=exif)
    if (stored == (64, 48)) == (orientation < 5):
        assert dataset[0].image.size == (64, 48)
        return
    why = "made without its EXIF rotation" if orientation >= 5 else "width and height are swapped"
    with pytest.raises(SampleError, match=rf"has 48 x 64 pixels, turned: .*{why}"):
        dataset[0]


@pytest.mark.parametrize(
    ("box", "far"),
    [
        ([10, 10, 20, 20], False),
        ([-0.5, -0.5, 65, 49], False),
        ([50, 10, 26, 20], False),
        ([50, 10, 40, 20], True),
        ([10, 10, 5000, 5000], True),
        ([-100, 10, 110, 20], True),
    ],
)
@pytest.mark.parametrize("keep_empty", [False, True])
def test_boxes_that_reach_far_outside_their_image_are_counted(make, caplog, box, far, keep_empty):
    area = box[2] * box[3]
    make(document(annotation(1), annotation(2, bbox=box, area=area)), keep_empty=keep_empty)
    told = [text for text in caplog.messages if "outside their image" in text]
    assert len(told) == far
    assert all(
        "1 of 2 boxes lie by more than half outside their image: annotations 2; correct them" in text for text in told
    )


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_train2017.json", "images/train2017"),
        ("annotations/instances_train.json", "train"),
        ("annotations/train.json", "images/train"),
        ("annotations/train.json", "images"),
        ("train/_annotations.coco.json", "train"),
        ("train/annotations.json", "train/images"),
        ("train.json", "train"),
        ("train.json", "images"),
        ("train.json", "."),
    ],
)
def test_layouts_of_folders(tmp_path, annotations, images):
    for name in (annotations, annotations.replace("train", "val")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    for name in (images, images.replace("train", "val")):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    (tmp_path / "annotations").mkdir(exist_ok=True)
    (tmp_path / "annotations" / "captions_train2017.json").write_text("{}")
    found = find_coco(tmp_path, "train")
    assert found.annotations_file == tmp_path / annotations and found.images_folder == tmp_path / images
    assert found.stuff_folder is None
    assert find_coco(tmp_path, "val").images_folder == tmp_path / images.replace("train", "val")
    if images.endswith("train2017"):
        (tmp_path / "stuffthingmaps" / "train2017").mkdir(parents=True)
        assert find_coco(tmp_path, "train").stuff_folder == tmp_path / "stuffthingmaps" / "train2017"


def test_validation_may_be_called_valid(tmp_path):
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid" / "_annotations.coco.json").write_text("{}")
    assert find_coco(tmp_path, "val").images_folder == tmp_path / "valid"


def test_what_was_looked_for_is_listed(tmp_path):
    with pytest.raises(
        DataError,
        match=r"no COCO annotations for 'train'; looked for annotations/instances_train\*\.json, .* train\.json",
    ):
        find_coco(tmp_path, "train")
    folder = tmp_path / "annotations"
    folder.mkdir()
    (folder / "instances_train2014.json").write_text("{}")
    with pytest.raises(DataError, match=r"has no folder of images; looked for train2014/, images/train2014/, train/"):
        find_coco(tmp_path, "train")
    (folder / "instances_train2017.json").write_text("{}")
    with pytest.raises(DataError, match="several annotation files .*2014.json, .*2017.json"):
        find_coco(tmp_path, "train")
    with pytest.raises(DataError, match="nowhere is not a folder"):
        find_coco(tmp_path / "nowhere", "train")
    with pytest.raises(ValueError, match="split='all' is not known"):
        find_coco(tmp_path, "all")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([{"iscrowd": 1, "segmentation": {"size": [48, 64], "counts": [0, 48 * 64]}}], "1 marked iscrowd"),
        ([{"area": 0}, {"area": -1}], "2 with an area of 0 or less"),
        ([{"bbox": [0.1, 0.2, 0.5, 0.4]}], r"multiply them"),
        ([{"ignore": True}, {"bbox": [500, 500, 20, 20]}], "1 marked ignore, 1 outside their image"),
    ],
)
def test_annotations_that_teach_nothing_are_an_error_by_count(make, changes, said):
    content = document(*(annotation(number, **change) for number, change in enumerate(changes, start=1)))
    with pytest.raises(DataError, match=rf"leaves no object to learn.*{said}"):
        make(content)
    assert len(make(content, keep_empty=True)) == 1  # an evaluation measures what there is


def test_objects_that_are_left_out_are_said_once_by_count(make, caplog):
    make(document(annotation(1), annotation(2, area=0), annotation(3, bbox=[10, 10, 0.5, 20]), annotation(4, area=0)))
    assert "2 with an area of 0 or less, 1 with a box below 1 pixel" in caplog.text


@pytest.mark.parametrize(
    ("names", "files"),
    [
        (("cam1/0.png", "cam2/0.png"), ("0.png",)),
        (("a.png", "a.png"), ("a.png",)),
        (("train/a.png", "a.png"), ("a.png",)),
    ],
)
def test_two_records_of_one_file_are_an_error_that_names_both(make, names, files):
    images = [{"id": i, "file_name": name, "width": 64, "height": 48} for i, name in enumerate(names, start=7)]
    content = document(annotation(1, image_id=7), annotation(2, image_id=8), images=images)
    with pytest.raises(DataError, match="7 .* and 8 .* read one file") as caught:
        make(content, files=dict.fromkeys(files, (48, 64)))
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize("name", ["../a.png", "x/../../a.png", "/etc/a.png", "..\\a.png"])
def test_a_name_that_leads_out_of_the_folder_is_refused_unless_asked_for(make, name, tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png")
    images = [{"id": 7, "file_name": name, "width": 64, "height": 48}]
    content = document(annotation(1), images=images)
    with pytest.raises(DataError, match=r"allow_outside=True, or --data\.allow_outside true"):
        make(content)
    if name == "../a.png":
        assert make(content, allow_outside=True)[0].image.size == (64, 48)


def test_whole_floats_are_whole_numbers(make):
    images = [{"id": 7.0, "file_name": "a.png", "width": 64.0, "height": 48.0}]
    content = document(annotation(1.0, image_id=7.0, category_id=3.0, iscrowd=0.0), images=images)
    dataset = make(content)
    assert (dataset.image_ids, dataset.image_sizes) == ([7], [(48, 64)])
    assert dataset[0].labels.tolist() == [0]


BEYOND = [1e39, -1e39, 1e308, 10**39, 10**400, float("nan"), float("-inf"), "1", None, [1]]


@pytest.mark.parametrize("value", BEYOND, ids=lambda value: f"{value!r:.9}")
@pytest.mark.parametrize("place", range(4))
def test_a_box_of_numbers_beyond_32_bits_is_named(make, value, place):
    box = [10, 10, 20, 20]
    box[place] = value
    with pytest.raises(DataError, match="annotation 1: its bbox is .* not four finite numbers") as error:
        make(document(annotation(1, bbox=box)))
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize("value", BEYOND[:-2], ids=lambda value: f"{value!r:.9}")
def test_areas_and_polygons_of_such_numbers_too(make, value):
    with pytest.raises(DataError, match="annotation 1: its area is"):
        make(document(annotation(1, area=value)))
    with pytest.raises(DataError, match="annotation 1: its polygon"):
        make(document(annotation(1, segmentation=[[*SQUARE[0], value, value]])))
    # Their sum is small, and they are not.
    if not isinstance(value, str) and abs(value) < float("inf"):
        with pytest.raises(DataError, match="annotation 1: its bbox"):
            make(document(annotation(1, bbox=[value, -value, 20, 20])))


@pytest.mark.parametrize("value", [10**4000, "x" * 10**6, [["a"] * 10**5], {"a": [1] * 10**5}], ids=range(4))
@pytest.mark.parametrize("key", ["id", "image_id", "category_id", "iscrowd", "area", "bbox", "segmentation"])
def test_values_of_any_size_make_a_short_message(make, key, value):
    with pytest.raises(DataError, match="annotation") as error:
        make(document(annotation(1), {**annotation(2), key: value}))[0]
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"images": ' * 50_000,
        json.dumps(document(annotation(1))).replace("400", "1" * 5000),
        json.dumps(document(annotation(1)))[:-9],
    ],
    ids=["lists", "objects", "digits", "cut"],
)
def test_json_that_cannot_be_read_is_named(make, text):
    with pytest.raises(DataError, match=r"annotations\.json is not JSON") as error:
        make(text)
    assert len(str(error.value)) < 1000


def test_a_damaged_map_of_stuff_is_named(make, tmp_path):
    stuff = tmp_path / "stuff"
    stuff.mkdir()
    Image.fromarray(np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)).save(stuff / "a.png")
    whole = (stuff / "a.png").read_bytes()
    read = 0
    for place in range(0, len(whole), 7):
        content = bytearray(whole)
        content[place] ^= 0xFF
        (stuff / "a.png").write_bytes(content)
        try:
            make(document(annotation(1)), stuff_folder=stuff)[0]
            read += 1
        except SampleError:
            pass
    assert read < 5
