"""COCO's panoptic format, from made-up folders."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.data.errors import DataError, ImageError, NothingFoundError, SampleError
from swin_transformer_pytorch.data.panoptic.annotations import read_panoptic
from swin_transformer_pytorch.data.panoptic.dataset import PanopticDataset
from swin_transformer_pytorch.data.panoptic.folders import PanopticFolder, find_panoptic
from swin_transformer_pytorch.data.panoptic.source import PanopticSource

IDS = np.array([[500, 500, 0, 70_000], [500, 3, 3, 70_000]])
CATEGORIES = [
    {"id": 90, "name": "car", "isthing": 1, "color": [255, 0, 0]},
    {"id": 7, "name": "person", "isthing": 1, "color": [0, 255, 0]},
    {"id": 200, "name": "sky", "isthing": 0, "color": [0, 0, 255]},
]
SEGMENTS = [
    {"id": 70_000, "category_id": 200, "area": 2, "bbox": [3, 0, 1, 2], "iscrowd": 0},
    {"id": 500, "category_id": 7, "area": 3, "bbox": [0, 0, 2, 2], "iscrowd": 1},
    {"id": 3, "category_id": 90, "area": 2, "bbox": [1, 1, 2, 1]},
]


def document(count: int = 1) -> dict[str, Any]:
    numbers = range(10, 10 + count)
    return {
        "images": [{"id": number, "file_name": f"{number}.jpg", "height": 2, "width": 4} for number in numbers],
        "annotations": [
            {"image_id": number, "file_name": f"{number}.png", "segments_info": [dict(one) for one in SEGMENTS]}
            for number in numbers
        ],
        "categories": [dict(one) for one in CATEGORIES],
    }


def write(
    root: Path,
    content: dict[str, Any],
    *,
    file: str = "annotations/panoptic_val2017.json",
    images: str = "val2017",
    ids: np.ndarray[Any, Any] = IDS,
) -> Path:
    """The JSON, and the images and PNGs that it names."""
    path = root / file
    segments = path.with_suffix("")
    for folder in (root / images, segments):
        folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    for image in content["images"]:
        Image.new("RGB", (4, 2), "green").save(root / images / image["file_name"])
    colours = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
    for annotation in content["annotations"]:
        Image.fromarray(colours).save(segments / annotation["file_name"])
    return root


def opened(root: Path, **options: Any) -> PanopticDataset:
    data = PanopticSource(root=str(root), **options).open("val")
    assert isinstance(data, PanopticDataset)
    return data


def test_an_image_has_its_segments(tmp_path: Path) -> None:
    data = opened(write(tmp_path, document(2)))
    assert (len(data), data.image_ids, data.image_sizes) == (2, [10, 11], [(2, 4)] * 2)
    assert data.classes == ("person", "car", "sky") and data.things == (0, 1)
    assert data.palette == ((0, 255, 0), (255, 0, 0), (0, 0, 255))
    assert data.category_ids == {"person": 7, "car": 90, "sky": 200}
    assert [path.name for path in data.paths] == ["10.jpg", "11.jpg"]
    assert [path.name for path in data.segment_paths] == ["10.png", "11.png"]
    sample = data[1]
    assert (sample.image_id, sample.image.size, len(sample)) == (11, (4, 2), 3)
    assert sample.segment_ids.tolist() == [[2, 2, 0, 1], [2, 3, 3, 1]] and sample.segment_ids.dtype == np.int32
    assert (sample.labels.tolist(), sample.crowd.tolist()) == ([2, 0, 1], [False, True, False])
    assert sample.masks.dtype == np.bool_
    for mask, one in zip(sample.masks, SEGMENTS, strict=True):
        np.testing.assert_array_equal(mask, one["id"] == IDS)
    assert data.class_counts() == {"person": 2, "car": 2, "sky": 2}


def test_a_sample_is_drawn_as_a_result(tmp_path: Path) -> None:
    data = opened(write(tmp_path, document()))
    result = data[0].segmentation(data.classes, data.things, data.palette)
    assert str(result) == "person 37.5%, sky 25.0%, car 25.0%" and result.palette == data.palette
    assert [one.is_thing for one in result.segments] == [False, True, True]
    assert result.plot(data[0].picture).width == 480


def test_what_a_result_saves_is_data(tmp_path: Path) -> None:
    data = opened(write(tmp_path, document()))
    result = data[0].segmentation((*data.classes, "tree"), data.things)
    result.save_coco(tmp_path / "saved" / "10.png", image_id=10, things=data.things)
    again = PanopticDataset(tmp_path / "saved", tmp_path / "saved/10.json", tmp_path / "saved")
    np.testing.assert_array_equal(again[0].segment_ids, data[0].segment_ids)
    np.testing.assert_array_equal(again[0].labels, data[0].labels)
    assert (again.classes, again.things) == ((*data.classes, "tree"), data.things)


def test_pixels_of_classes_that_a_model_has_not_are_void(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, document(2))
    with caplog.at_level(logging.WARNING):
        data = opened(tmp_path, classes=("tree", "car", "person"))
    assert "segments whose pixels are ignored, as the model has not their class: sky 2" in caplog.text
    sample = data[0]
    assert sample.segment_ids.tolist() == [[1, 1, 0, 0], [1, 2, 2, 0]]
    assert (sample.labels.tolist(), sample.crowd.tolist()) == ([2, 1], [True, False])
    assert data.things == (1, 2) and data.palette is None and data.category_ids == {"person": 7, "car": 90}
    assert data.class_counts() == {"tree": 0, "car": 2, "person": 2}
    with pytest.raises(DataError, match=r"none of the classes asked for \(tree\); its categories are person, car, sky"):
        opened(tmp_path, classes=("tree",))


def test_classes_are_chosen_and_merged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path, document(2))
    with caplog.at_level(logging.WARNING):
        data = opened(tmp_path, choice=["sky", "car"])
    assert "segments whose pixels are void, as data.classes has not their class: person 2" in caplog.text
    assert (data.classes, data.things, data.palette) == (("sky", "car"), (1,), ((0, 0, 255), (255, 0, 0)))
    assert data[1].segment_ids.tolist() == [[0, 0, 0, 1], [0, 2, 2, 1]] and data[1].labels.tolist() == [0, 1]
    merged = opened(tmp_path, choice={"moving": ["person", "car"], "rest": ["*"]}, classes=("rest", "moving"))
    assert (merged.things, merged[0].labels.tolist()) == ((1,), [0, 1, 1])
    assert merged[0].crowd.tolist() == [False, True, False]
    for choice, message in (
        (["sky", "cra"], "data.classes names 'cra'.*did you mean 'car'"),
        ({"x": ["sky", "car"]}, r"makes 'x' of things and of stuff of .*json: car \(thing\), sky \(stuff\)"),
    ):
        with pytest.raises(DataError, match=message):
            opened(tmp_path, choice=choice)


def test_stuff_that_becomes_one_class_is_one_segment(tmp_path: Path) -> None:
    content = document()
    for category in content["categories"]:
        category["isthing"] = 0
    data = opened(write(tmp_path, content), choice={"stuff": ["sky", "car", "person"]})
    sample = data[0]
    assert (sample.labels.tolist(), sample.crowd.tolist()) == ([0, 0], [False, True])
    assert sample.segment_ids.tolist() == [[2, 2, 0, 1], [2, 1, 1, 1]]


def test_images_without_an_annotation_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = document(3)
    del content["annotations"][1]
    with caplog.at_level(logging.WARNING):
        data = opened(write(tmp_path, content))
    assert data.image_ids == [10, 12] and "1 image without an annotation left out" in caplog.text
    content["annotations"] = []
    with pytest.raises(DataError, match="no image with an annotation"):
        opened(write(tmp_path, content))


def test_an_image_may_be_void_alone(tmp_path: Path) -> None:
    content = document()
    content["annotations"][0]["segments_info"] = []
    sample = opened(write(tmp_path, content, ids=IDS * 0))[0]
    assert len(sample) == 0 and sample.masks.shape == (0, 2, 4) and not sample.segment_ids.any()


Change = Callable[[dict[str, Any]], object]


def of_segment(**fields: Any) -> Change:
    return lambda content: content["annotations"][0]["segments_info"][1].update(fields)


def of_category(**fields: Any) -> Change:
    return lambda content: content["categories"][1].update(fields)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (of_segment(id=3), r"10\.png, segment 3: another one has the same id"),
        (of_segment(id="a"), r"10\.png, segment 'a': its id is 'a', not a whole number"),
        (of_segment(id=0), r"10\.png, segment 0: ids are 1 to 16,777,215"),
        (of_segment(id=1 << 24), r"segment 16777216: ids are 1 to"),
        (of_segment(category_id=8), r"10\.png, segment 500: its category_id 8 is none of the file's categories"),
        (of_segment(iscrowd=2), "segment 500: its iscrowd is 2"),
        (
            lambda content: content["annotations"][0]["segments_info"][1].pop("category_id"),
            r"10\.png, segment 500: it has no category_id",
        ),
        (lambda content: content["annotations"][0]["segments_info"].append(5), "segment number 3: it is 5"),
        (lambda content: content["annotations"][0].update(segments_info=None), "its segments_info is None"),
        (lambda content: content["annotations"][0].update(image_id=9), "its image_id 9 is none of the file's images"),
        (lambda content: content["annotations"][0].update(file_name=""), "its file_name is ''"),
        (
            lambda content: content["annotations"].append({**content["annotations"][0], "file_name": "b.png"}),
            r"image 10 has 10\.png and b\.png; each image has one PNG",
        ),
        (of_category(isthing=None), "category 7: its isthing is None"),
        (of_category(color=[1, 2]), r"category 7: its color is \[1, 2\]"),
        (of_category(name="car"), "has the name 'car' as well"),
        (of_category(id=90), "category 90: another one has the same id"),
        (lambda content: content["images"][0].update(width=0), "image 10: its width is 0"),
        (lambda content: content["images"].append(content["images"][0]), "image 10: another one has the same id"),
        (lambda content: content.pop("images"), "no list 'images'"),
        (lambda content: content["categories"].clear(), "no categories"),
        (
            lambda content: content.update(annotations=[{"id": 1, "image_id": 10, "bbox": [0, 0, 1, 1]}]),
            r"of objects \(bbox\) and not of segments",
        ),
    ],
)
def test_what_is_wrong_in_the_json_is_told_with_its_place(change: Change, message: str, tmp_path: Path) -> None:
    content = document()
    change(content)
    path = tmp_path / "panoptic.json"
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=message) as error:
        read_panoptic(path)
    assert str(path) in str(error.value)


def test_ids_beyond_the_json_are_told(tmp_path: Path) -> None:
    ids = np.where(IDS == 0, 65_793, IDS)
    data = opened(write(tmp_path, document(), ids=ids))
    with pytest.raises(SampleError, match=r"10\.png has the id 65793 at x=2, y=0 \(1 such pixel\).*panoptic_val2017"):
        data[0]


def test_ids_that_the_png_lacks_are_told(tmp_path: Path) -> None:
    data = opened(write(tmp_path, document(), ids=np.where(IDS == 500, 0, IDS)))
    with pytest.raises(SampleError, match=r"10\.png has no pixel of the ids 500 that .*panoptic_val2017\.json names"):
        data[0]


def test_sizes_that_differ_are_told(tmp_path: Path) -> None:
    data = opened(write(tmp_path, document(), ids=IDS[:, :3]))
    with pytest.raises(SampleError, match=r"10\.jpg has 4 x 2 pixels and .*10\.png 3 x 2"):
        data[0]
    content = document()
    content["images"][0]["width"] = 5
    with pytest.raises(SampleError, match=r"10\.jpg has 4 x 2 pixels and image 10 of .*\.json 5 x 2"):
        opened(write(tmp_path, content))[0]


def test_pngs_that_hold_no_ids_are_told(tmp_path: Path) -> None:
    write(tmp_path, document())
    path = tmp_path / "annotations/panoptic_val2017/10.png"
    content = path.read_bytes()
    data = opened(tmp_path)
    for make, message in (
        (lambda: Image.new("L", (4, 2)).save(path), r"10\.png has pixels of mode L"),
        (lambda: Image.new("RGBA", (4, 2)).save(path), r"10\.png has pixels of mode RGBA"),
        (lambda: Image.new("RGB", (4, 2)).save(path, format="JPEG"), r"10\.png is a JPEG file"),
        (lambda: path.write_bytes(content[: len(content) // 2]), r"10\.png is damaged"),
        (lambda: path.write_bytes(b"text"), r"10\.png is damaged or no image"),
        (path.unlink, r"10\.png does not exist"),
    ):
        make()
        with pytest.raises(SampleError, match=message):
            data[0]
    path.write_bytes(content)
    (tmp_path / "val2017/10.jpg").write_bytes(b"")
    with pytest.raises(ImageError, match=r"10\.jpg is empty"):
        data[0]


def test_a_png_of_too_many_pixels_is_refused(tmp_path: Path) -> None:
    write(tmp_path, document(), ids=np.tile(IDS, (2, 2)))
    with pytest.raises(ImageError, match=r"10\.png has 8 x 4 pixels, more than 16"):
        opened(tmp_path, max_pixels=16)[0]


def test_files_that_are_not_there_are_told_at_once(tmp_path: Path) -> None:
    write(tmp_path, document(8))
    for number in range(10, 17):
        (tmp_path / f"annotations/panoptic_val2017/{number}.png").unlink()
    with pytest.raises(DataError, match=r"image 10: there is no 10\.png in .*panoptic_val2017") as error:
        opened(tmp_path)
    assert "and 2 more" in str(error.value)
    content = document()
    write(tmp_path, content)
    content["annotations"][0]["file_name"] = "../10.png"
    (tmp_path / "annotations/panoptic_val2017.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"image 10: \.\./10\.png leads out of"):
        opened(tmp_path)
    content = document(2)
    write(tmp_path, content)
    content["annotations"][1]["file_name"] = "10.png"
    (tmp_path / "annotations/panoptic_val2017.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"images 10 and 11 read one file, .*10\.png"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("file", "images"),
    [
        ("annotations/panoptic_val2017.json", "val2017"),
        ("annotations/panoptic_val2017.json", "images/val2017"),
        ("annotations/panoptic_val2017.json", "val"),
        ("ade20k_panoptic_val.json", "images/validation"),
        ("panoptic_valid.json", "images"),
    ],
)
def test_layouts_are_found(file: str, images: str, tmp_path: Path) -> None:
    write(tmp_path, document(), file=file, images=images)
    found = find_panoptic(tmp_path, "val")
    assert found.images_folder == tmp_path / images and found.annotations_file == tmp_path / file
    assert len(opened(tmp_path)[0]) == 3
    part = PanopticFolder(
        images_folder=tmp_path / images,
        annotations_file=tmp_path / file,
        segments_folder=(tmp_path / file).with_suffix(""),
    )
    assert len(PanopticSource(val=part).open("val")) == 1
    with pytest.raises(NothingFoundError, match=r"no COCO panoptic annotations for 'train'"):
        find_panoptic(tmp_path, "train")


@pytest.mark.parametrize("ending", ["", "_trainId"])
def test_cityscapes_as_its_own_tool_makes_it(ending: str, tmp_path: Path) -> None:
    content = document(2)
    for image, annotation, name in zip(
        content["images"], content["annotations"], ["ulm_000000_000019", "bonn_000001_000019"], strict=True
    ):
        image |= {"id": name, "file_name": f"{name.partition('_')[0]}/{name}_leftImg8bit.png"}
        annotation |= {"image_id": name, "file_name": f"{name}_gtFine_panoptic.png"}
        (tmp_path / "leftImg8bit/val" / name.partition("_")[0]).mkdir(parents=True)
    content["categories"][0]["id"] = content["annotations"][0]["segments_info"][2]["category_id"] = 0
    content["annotations"][1]["segments_info"][2]["category_id"] = 0
    file = f"gtFine/cityscapes_panoptic_val{ending}.json"
    write(tmp_path, content, file=file, images="leftImg8bit/val")
    for image in content["images"]:
        image["file_name"] = f"{image['id']}_gtFine_leftImg8bit.png"  # so the tool has it
    (tmp_path / file).write_text(json.dumps(content))
    data = opened(tmp_path)
    assert data.image_ids == ["ulm_000000_000019", "bonn_000001_000019"] and data.classes == ("car", "person", "sky")
    assert [path.parent.name for path in data.paths] == ["ulm", "bonn"]
    assert (data[1].image_id, data[1].labels.tolist()) == ("bonn_000001_000019", [2, 1, 0])


def test_pngs_may_be_beside_the_images(tmp_path: Path) -> None:
    write(tmp_path, document())
    (tmp_path / "annotations/panoptic_val2017").rename(tmp_path / "panoptic_val2017")
    assert find_panoptic(tmp_path, "val").segments_folder == tmp_path / "panoptic_val2017"
    (tmp_path / "panoptic_val2017").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"no folder of PNGs; looked for annotations/panoptic_val2017/, panoptic_val"):
        find_panoptic(tmp_path, "val")
    (tmp_path / "val2017").rename(tmp_path / "pictures")
    with pytest.raises(DataError, match="no folder of images; looked for val2017/, images/val2017/, val/"):
        find_panoptic(tmp_path, "val")


def test_a_part_of_one_file_is_held_out(tmp_path: Path) -> None:
    write(tmp_path, document(10), file="annotations/panoptic.json", images="images")
    source = PanopticSource(root=str(tmp_path), val_fraction=0.3, seed=1)
    val, train = source.open("val"), source.open("train")
    assert (len(val), len(train)) == (3, 7) and not {*val.image_ids} & {*train.image_ids}
    assert len(val[0]) == 3


@pytest.mark.parametrize("option", [{"label_suffix": "_mask"}, {"ignore_label": 0}])
def test_options_of_label_maps_are_refused(option: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"can be of label PNGs alone, and .*panoptic_val2017\.json is COCO's"):
        opened(write(tmp_path, document()), **option)


def test_no_folder_and_several_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        find_panoptic(tmp_path / "none", "val")
    with pytest.raises(ValueError, match="split='all'"):
        find_panoptic(tmp_path, "all")
    write(tmp_path, document())
    write(tmp_path, document(), file="annotations/panoptic_val2014.json")
    with pytest.raises(DataError, match=r"panoptic_val2014\.json, annotations/panoptic_val2017\.json; keep one"):
        find_panoptic(tmp_path, "val")
    with pytest.raises(DataError, match="is not a folder; give the one that"):
        PanopticDataset(tmp_path / "none", tmp_path / "annotations/panoptic_val2017.json", tmp_path)
    with pytest.raises(DataError, match=r"a\.json does not exist"):
        read_panoptic(tmp_path / "a.json")
