"""What other tools read of results, each through its own reader: nothing is lost but what the format lacks."""

from __future__ import annotations

import contextlib
import io
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swin_transformer_pytorch.extras import MissingExtraError
from swin_transformer_pytorch.results import Classification, Detections, SegmentationMap
from swin_transformer_pytorch.results.outlines import outline
from swin_transformer_pytorch.rle import encode_mask

CLASSES = ("cat", "fox", "caf\u00e9")
SIZE = (37, 53)


def make(seed: int, count: int, *, masks: bool = True) -> Detections:
    """Random objects; their boxes may reach beyond the image, as a model's do not."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 37, (count, 2))
    labels = rng.integers(0, len(CLASSES), count)
    return Detections(
        boxes_xyxy=np.concatenate([corners, corners + rng.uniform(0, 16, (count, 2))], axis=1),
        scores=np.sort(rng.random(count, dtype=np.float32))[::-1],
        labels=labels,
        names=tuple(CLASSES[label] for label in labels),
        image_size=SIZE,
        mask_rles=tuple(encode_mask(rng.random(SIZE) < share) for share in rng.random(count)) if masks else None,
    )


some_objects = st.builds(make, st.integers(0, 2**32 - 1), st.integers(0, 5), masks=st.booleans())


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
@given(some_objects, st.sampled_from(["label", "name", "none"]))
def test_coco_through_pycocotools(found: Detections, by: str) -> None:
    coco = pytest.importorskip("pycocotools.coco", reason="the reader of COCO's results").COCO
    ids = {"none": {"cat": 1, "fox": 2, "café": 3}}.get(by, {"cat": 17, "fox": 90, "café": 0})
    given_ids = {"label": [*ids.values()], "name": {**ids, "cafe\u0301": ids["café"]}, "none": None}[by]
    truth = coco()
    truth.dataset = {
        "images": [{"id": 9, "height": SIZE[0], "width": SIZE[1]}],
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
        "annotations": [],
    }
    records = json.loads(json.dumps(found.to_coco(9, given_ids)))
    assert len(records) == len(found)
    if not records:
        return  # pycocotools takes no empty list
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        read = truth.loadRes(records)
    entries = read.loadAnns(sorted(read.anns))
    names = {number: name for name, number in ids.items()}
    back = Detections(
        boxes_xyxy=[[x, y, x + w, y + h] for x, y, w, h in (entry["bbox"] for entry in entries)],
        scores=[entry["score"] for entry in entries],
        labels=found.labels,
        names=[names[entry["category_id"]] for entry in entries],
        image_size=SIZE,
        mask_rles=None if found.mask_rles is None else [encode_mask(read.annToMask(entry)) for entry in entries],
    )
    assert back == found


@pytest.mark.parametrize("ids", [[1, 2], {"cat": 1, "foxes": 2}])
def test_a_class_without_a_category_is_named(ids) -> None:
    found = make(0, 60, masks=False)
    with pytest.raises(ValueError, match="2 category_ids and the label 2|no fox, café: did you mean foxes"):
        found.to_coco(1, ids)


def read_yolo(lines: list[str], size: tuple[int, int]) -> Detections:
    """As the format's description has it."""
    height, width = size
    rows = [[float(word) for word in line.split(" ")] for line in lines]
    boxes = [
        ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
        for _, x, y, w, h, _ in rows
    ]
    labels = [int(row[0]) for row in rows]
    return Detections(
        boxes_xyxy=boxes,
        scores=[row[5] for row in rows],
        labels=labels,
        names=[CLASSES[label] for label in labels],
        image_size=size,
    )


@given(some_objects)
def test_yolo_through_a_parser_of_its_own(found: Detections) -> None:
    back = read_yolo(found.to_yolo(scores=True), SIZE)
    np.testing.assert_allclose(back.boxes_xyxy, found.boxes_xyxy, atol=1e-5)
    np.testing.assert_array_equal(back.scores, found.scores)
    assert (back.names, back.labels.tolist()) == (found.names, found.labels.tolist())
    plain = found.to_yolo()
    assert [line.rpartition(" ")[0] for line in found.to_yolo(scores=True)] == plain
    assert all(len(line.split(" ")) == 5 for line in plain)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
@given(st.builds(make, st.integers(0, 2**32 - 1), st.integers(0, 5)), st.booleans())
def test_yolo_outlines_through_coco_and_a_parser_of_its_own(found: Detections, scores: bool) -> None:
    """Parts, holes and single pixels: the polygon's pixels are the mask's, all of them."""
    coco_mask = pytest.importorskip("pycocotools.mask", reason="the reader of polygons")
    height, width = SIZE
    for index, line in enumerate(found.to_yolo(outlines=True, scores=scores)):
        label, *words = line.split(" ")
        if scores:
            assert np.float32(words.pop()) == found.scores[index]
        assert int(label) == found.labels[index]
        numbers = [float(word) for word in words]
        assert len(numbers) >= 8 and len(numbers) % 2 == 0 and min(numbers) >= 0 and max(numbers) <= 1
        polygon = (np.reshape(numbers, (-1, 2)) * (width, height)).ravel().tolist()
        back = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([polygon], height, width)))
        if found.mask(index).any():
            np.testing.assert_array_equal(back.astype(bool), found.mask(index))


@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]), st.integers(0, 2**32 - 1))
def test_an_outline_goes_along_edges_of_pixels_and_has_them_inside(
    height: int, width: int, share: float, seed: int
) -> None:
    """By the even-odd rule itself: from inside, a ray to the left crosses an odd number of sides."""
    mask = np.random.default_rng(seed).random((height, width)) < share
    corners = outline(mask)
    if not mask.any():
        assert corners.shape == (0, 2)
        return
    crossings = np.zeros(mask.shape, dtype=int)
    middles = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1)
    for (x1, y1), (x2, y2) in zip(corners.tolist(), np.roll(corners, -1, axis=0).tolist(), strict=True):
        between = (min(y1, y2) < middles[..., 1]) & (middles[..., 1] < max(y1, y2))
        at = x1 + (middles[..., 1] - y1) * ((x2 - x1) / (y2 - y1)) if y1 != y2 else 0
        crossings += between & (at < middles[..., 0])
    np.testing.assert_array_equal(crossings % 2 == 1, mask)


def test_outlines_need_masks_and_without_pixels_are_the_boxes() -> None:
    with pytest.raises(ValueError, match="have no masks"):
        make(0, 2, masks=False).to_yolo(outlines=True)
    empty = Detections(
        boxes_xyxy=[(0, 10, 26.5, 90)],
        scores=[1],
        labels=[0],
        names=["cat"],
        image_size=SIZE,
        mask_rles=[encode_mask(np.zeros(SIZE, dtype=bool))],
    )
    corners = "0.000000 0.270270 0.500000 0.270270 0.500000 1.000000 0.000000 1.000000"
    assert empty.to_yolo(outlines=True) == [f"0 {corners}"]


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_supervision(count: int, masks: bool) -> None:
    supervision = pytest.importorskip("supervision", reason="another toolbox of detections")
    found = make(3, count, masks=masks)
    other = found.to_supervision()
    assert isinstance(other, supervision.Detections) and len(other) == count
    np.testing.assert_array_equal(other.xyxy, found.boxes_xyxy)
    np.testing.assert_array_equal(other.confidence, found.scores)
    np.testing.assert_array_equal(other.class_id, found.labels)
    assert [str(name) for name in other["class_name"]] == [*found.names]
    assert (other.mask is None) == (not masks)
    if masks:
        np.testing.assert_array_equal(other.mask, found.masks)
    if count > 1:  # theirs are chosen alike
        assert [str(name) for name in other[other.confidence > 0.5]["class_name"]] == [*found.above(0.5).names]


@settings(max_examples=25)
@given(some_objects)
def test_a_table_of_objects(found: Detections) -> None:
    pytest.importorskip("pandas", reason="tables")
    frame = found.to_pandas()
    assert len(frame) == len(found)
    back = Detections(
        boxes_xyxy=frame[["left", "top", "right", "bottom"]].to_numpy(),
        scores=frame["score"].to_numpy(),
        labels=frame["label"].to_numpy(),
        names=tuple(frame["name"]),
        image_size=SIZE,
        mask_rles=[mask.encode() for mask in frame["mask"]] if "mask" in frame else None,
    )
    assert back == found


def test_tables_of_the_other_results() -> None:
    pytest.importorskip("pandas", reason="tables")
    classes = Classification(labels=(3, 1), scores=(0.75, 0.25), names=("fox", "cat"))
    assert classes.to_pandas().to_dict("records") == [
        {"name": "fox", "score": 0.75, "label": 3},
        {"name": "cat", "score": 0.25, "label": 1},
    ]
    mapped = SegmentationMap(labels=np.array([[2, 2, 2, 0], [2, 255, 2, 0]]), names=("sky", "sea", "sand"))
    assert mapped.to_pandas().to_dict("records") == [
        {"name": "sand", "pixels": 5, "share": 0.625, "label": 2},
        {"name": "sky", "pixels": 2, "share": 0.25, "label": 0},
    ]


@pytest.mark.parametrize(("package", "extra"), [("pandas", "tables"), ("supervision", "supervision")])
def test_what_is_not_installed_is_one_clear_error(package, extra, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"\[{extra}\]"):
        getattr(make(0, 1), f"to_{package}")()
