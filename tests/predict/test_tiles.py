"""Objects of large images, found tile by tile: each once, whole, with its own pixels."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.predict import Predictor
from swin_transformer_pytorch.predict.tiles import merge_tiles, tiles_of
from swin_transformer_pytorch.results import Detections
from swin_transformer_pytorch.rle import encode_mask

Size = tuple[int, int]
Box = tuple[int, int, int, int]

sides = st.integers(20, 90)


@given(size=st.tuples(sides, sides), crop=st.tuples(st.integers(8, 40), st.integers(8, 40)), data=st.data())
def test_tiles_cover_an_image_and_are_of_one_size(size: Size, crop: Size, data: st.DataObject) -> None:
    stride = tuple(data.draw(st.integers(1, side)) for side in crop)
    seen = np.zeros(size, dtype=int)
    for tile in tiles_of(size, crop, stride):  # type: ignore[arg-type]
        assert tile.of(seen).shape == tuple(min(pair) for pair in zip(size, crop, strict=True))
        tile.of(seen)[...] += 1
    assert seen.min() >= 1


def masks_of(boxes: list[Box], size: Size) -> list[np.ndarray[Any, Any]]:
    """Each box but a corner, so that masks are no boxes."""
    masks = []
    for left, top, right, bottom in boxes:
        mask = np.zeros(size, dtype=np.bool_)
        mask[top:bottom, left:right] = True
        mask[top : (top + bottom) // 2, left : (left + right) // 2] = False
        masks.append(mask)
    return masks


def seen_by(tile: Any, boxes: list[Box], labels: list[int], masks: list[Any], seed: int) -> Detections:
    """What a detector without a fault finds in a tile: the part of each object that is in it, in any order."""
    found = []
    for box, label, mask in zip(boxes, labels, masks, strict=True):
        left, top, right, bottom = (
            max(box[0], tile.left), max(box[1], tile.top), min(box[2], tile.right), min(box[3], tile.bottom)
        )  # fmt: skip
        if left < right and top < bottom:
            part = (left - tile.left, top - tile.top, right - tile.left, bottom - tile.top)
            found.append((part, label, encode_mask(tile.of(mask))))
    random = np.random.default_rng(seed)
    order = random.permutation(len(found)).tolist()
    return Detections(
        boxes_xyxy=[found[i][0] for i in order],
        scores=np.sort(random.uniform(0.3, 1, len(found)))[::-1],
        labels=[found[i][1] for i in order],
        names=[f"class {found[i][1]}" for i in order],
        image_size=(tile.bottom - tile.top, tile.right - tile.left),
        mask_rles=[found[i][2] for i in order],
    )


def check(size: Size, crop: Size, stride: Size, boxes: list[Box], labels: list[int]) -> None:
    tiles, masks = tiles_of(size, crop, stride), masks_of(boxes, size)
    found = [seen_by(tile, boxes, labels, masks, seed) for seed, tile in enumerate(tiles)]
    merged = merge_tiles(found, tiles, size)
    assert sorted(map(tuple, merged.boxes_xyxy.astype(int).tolist())) == sorted(boxes)
    assert merged.image_size == size and (np.diff(merged.scores) <= 0).all()
    for index, box in enumerate(merged.boxes_xyxy.astype(int).tolist()):
        place = boxes.index(tuple(box))
        assert (merged.labels[index], merged.names[index]) == (labels[place], f"class {labels[place]}")
        np.testing.assert_array_equal(merged.mask(index), masks[place])


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_objects_of_any_size_are_found_once_wherever_the_seams_are(data: st.DataObject) -> None:
    """Of classes of their own, so that they may overlap; smaller than what tiles share, and larger than a tile."""
    size = data.draw(st.tuples(sides, sides))
    crop = data.draw(st.tuples(st.integers(12, 40), st.integers(12, 40)))
    stride = (max(1, crop[0] * 2 // 3), max(1, crop[1] * 2 // 3))
    boxes: list[Box] = []
    for _ in range(data.draw(st.integers(0, 5))):
        left, top = data.draw(st.integers(0, size[1] - 6)), data.draw(st.integers(0, size[0] - 6))
        right, bottom = data.draw(st.integers(left + 5, size[1])), data.draw(st.integers(top + 5, size[0]))
        if (box := (left, top, right, bottom)) not in boxes:
            boxes.append(box)
    check(size, crop, stride, boxes, list(range(len(boxes))))


def test_neighbours_of_one_class_on_the_seams_of_a_large_image_stay_two() -> None:
    """4,096 x 4,096 pixels, tiles of 800: pairs beside each other on each seam of the first rows and columns."""
    boxes: list[Box] = []
    for seam in (533, 800, 1066, 1333, 3296):
        boxes += [(seam - 60, 200, seam - 4, 260), (seam + 4, 200, seam + 60, 260)]
        boxes += [(2000, seam - 60, 2060, seam - 4), (2000, seam + 4, 2060, seam + 60)]
        boxes += [(seam - 40, seam + 10, seam + 40, seam + 90)]
    check((4096, 4096), (800, 800), (533, 533), boxes, [0] * len(boxes))


def test_a_part_that_is_taken_for_another_class_by_a_lower_score_is_left_out() -> None:
    tiles = tiles_of((40, 60), (40, 40), (40, 20))
    size = (40, 40)
    whole = Detections(boxes_xyxy=[(24, 5, 36, 30)], scores=[0.9], labels=[1], names=["cat"], image_size=size)
    part = Detections(boxes_xyxy=[(4, 5, 16, 30)], scores=[0.5], labels=[2], names=["dog"], image_size=size)
    cut = Detections(boxes_xyxy=[(0, 5, 16, 30)], scores=[0.5], labels=[2], names=["dog"], image_size=size)
    assert merge_tiles([whole, part], tiles, (40, 60)).names == ("cat", "dog"), "both tiles see all of it"
    assert merge_tiles([whole, cut], tiles, (40, 60)).names == ("cat",)
    surer = Detections(boxes_xyxy=[(0, 5, 16, 30)], scores=[0.95], labels=[2], names=["dog"], image_size=size)
    assert merge_tiles([whole, surer], tiles, (40, 60)).names == ("dog", "cat")
    assert merge_tiles([cut.above(1), cut.above(1)], tiles, (40, 60)).mask_rles is None


def test_an_image_that_one_tile_holds_has_the_answer_of_the_whole(detector: Any, images: list[Image.Image]) -> None:
    whole = [Predictor(detector, device="cpu")(image) for image in images]
    for crop in ((90, 90), (400, 300)):
        assert Predictor(detector, device="cpu", mode="slide", crop_size=crop)(images) == whole


def test_scenes_side_by_side_have_the_objects_that_each_has_alone() -> None:
    scenes = open_scenes("scenes_sample", "val", num_scenes=9)
    wall = Image.new("RGB", (384, 384))
    for index in range(9):
        wall.paste(scenes[index].image, (128 * (index % 3), 128 * (index // 3)))
    alone = Predictor("scenes_detection", device="cpu", score_threshold=0.7)
    tiled = Predictor(
        "scenes_detection", device="cpu", score_threshold=0.4, mode="slide", crop_size=(128, 128), stride=(64, 64)
    )(wall)
    again = count = 0
    for index in range(9):
        shift = np.array([128 * (index % 3), 128 * (index // 3)] * 2)
        for box, label in zip(*((one := alone(scenes[index].image)).boxes_xyxy + shift, one.labels), strict=True):
            near = np.abs(tiled.boxes_xyxy - box).max(axis=1) < 8
            count += 1
            again += int((near & (tiled.labels == label)).sum() == 1)
    assert count >= 6 and again >= 0.75 * count


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "slide", "flip": True}, "has one view"),
        ({"mode": "tiles"}, "mode='tiles' is not known"),
        ({"crop_size": (64, 64)}, "add mode='slide'"),
        ({"mode": "slide", "crop_size": (64, 64), "stride": (65, 64)}, "leaves gaps"),
        ({"mode": "slide", "crop_size": (0, 64)}, r"crop_size=\(0, 64\)"),
    ],
)
def test_what_does_not_go_together_is_refused(detector: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Predictor(detector, device="cpu", **options)
