"""InstaBoost: what moves, what stays, and that image, masks, boxes and semantic labels go together."""

import numpy as np
import pytest
import torch
from PIL import Image

from swin_transformer_pytorch.data.detection.instaboost import (
    InstaBoostPolicy,
    fill_hole,
    instaboost,
    overlapping_groups,
)
from swin_transformer_pytorch.data.samples import DetectionSample

SIZE = (60, 80)  # (height, width)


def scene(*boxes: tuple[int, int, int, int], crowd: tuple[bool, ...] | None = None) -> DetectionSample:
    """Rectangles, each of its own bright colour, on a dark ground; semantic labels 1, 2, ... on ground 9."""
    image = np.full((*SIZE, 3), 20, dtype=np.uint8)
    masks = np.zeros((len(boxes), *SIZE), dtype=np.uint8)
    semantic = np.full(SIZE, 9, dtype=np.uint8)
    for index, (x0, y0, x1, y1) in enumerate(boxes):
        masks[:, y0:y1, x0:x1] = 0
        masks[index, y0:y1, x0:x1] = 1
        image[y0:y1, x0:x1] = 150 + 20 * index
        semantic[y0:y1, x0:x1] = index + 1
    return DetectionSample(
        image=Image.fromarray(image),
        image_id=3,
        boxes_xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        labels=np.arange(len(boxes)),
        masks=masks,
        crowd=np.array(crowd or [False] * len(boxes), dtype=bool),
        semantic=semantic,
    )


def boosted(sample: DetectionSample, seed: int = 0, **fields: object) -> DetectionSample:
    policy = InstaBoostPolicy(**{"aug_ratio": 1.0, "color_prob": 0.0, **fields})  # type: ignore[arg-type]
    return instaboost(sample, torch.Generator().manual_seed(seed), policy)


STILL = {"scale": (1.0, 1.0), "theta": (0, 0), "dx": 1e9, "dy": 1e9}


def test_the_defaults_are_mmdets() -> None:
    policy = InstaBoostPolicy()
    assert policy.action_prob == (1, 0, 0) and policy.scale == (0.8, 1.2) and policy.dx == policy.dy == 15
    assert policy.theta == (-1, 1) and policy.color_prob == 0.5 and policy.aug_ratio == 0.5


def test_the_same_seed_gives_the_same_and_another_one_another() -> None:
    sample = scene((20, 15, 50, 45))
    first, again, other = boosted(sample, 1), boosted(sample, 1), boosted(sample, 2)
    assert first.image.tobytes() == again.image.tobytes() != other.image.tobytes()
    assert np.array_equal(first.masks, again.masks) and np.array_equal(first.boxes_xyxy, again.boxes_xyxy)


def test_half_of_the_images_stay_the_very_same() -> None:
    sample, generator = scene((20, 15, 50, 45)), torch.Generator().manual_seed(0)
    same = sum(instaboost(sample, generator) is sample for _ in range(100))
    assert 35 <= same <= 65


@pytest.mark.parametrize("seed", range(8))
def test_image_mask_box_and_label_move_together(seed: int) -> None:
    sample = scene((20, 15, 50, 45))
    result = boosted(sample, seed)
    mask = result.masks[0].astype(bool)
    image = np.asarray(result.image)
    assert bool((image[mask] >= 80).all()) and bool((image[~mask] <= 90).all())
    assert result.semantic is not None and bool((result.semantic[mask] == 1).mean() > 0.95)
    vacated = sample.masks[0].astype(bool) & ~mask
    assert bool((result.semantic[vacated] == 255).all())
    rows, columns = np.nonzero(mask)
    tight = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert result.boxes_xyxy[0].tolist() == tight
    # Within the policy: at most 20 percent larger or smaller, at most 2 pixels away, and a degree for both.
    assert 0.6 < mask.sum() / 900 < 1.5
    centre = (result.boxes_xyxy[0, :2] + result.boxes_xyxy[0, 2:]) / 2
    assert bool((np.abs(centre - np.array([35, 30])) <= 3).all())


def test_a_jitter_of_nothing_changes_no_pixel() -> None:
    sample = scene((20, 15, 50, 45), (40, 30, 60, 50))
    result = boosted(sample, **STILL)
    assert np.array_equal(result.masks, sample.masks) and np.array_equal(result.boxes_xyxy, sample.boxes_xyxy)
    inside = sample.masks.any(axis=0)
    assert np.array_equal(np.asarray(result.image)[inside], np.asarray(sample.image)[inside])
    assert np.array_equal(result.semantic[inside], sample.semantic[inside])  # type: ignore[index]


def test_a_pure_shift_is_exact() -> None:
    sample = scene((20, 15, 50, 45))
    shifts = set()
    for seed in range(40):
        result = boosted(sample, seed, scale=(1.0, 1.0), theta=(0, 0), dx=10.0, dy=10.0)
        x, y = (int(side) for side in result.boxes_xyxy[0, :2] - sample.boxes_xyxy[0, :2])
        assert np.array_equal(result.masks[0], np.roll(sample.masks[0], (y, x), axis=(0, 1)))
        shifts.add((x, y))
    assert max(abs(x) for x, _ in shifts) == 3 and len(shifts) > 4


def test_nothing_drawn_leaves_everything() -> None:
    sample = scene((20, 15, 50, 45))
    result = boosted(sample, action_prob=(0.0, 0.0, 1.0))
    assert result.image.tobytes() == sample.image.tobytes() and np.array_equal(result.masks, sample.masks)


def test_a_flip_mirrors_an_object_about_its_own_box() -> None:
    sample = scene((20, 15, 50, 45))
    half = sample.masks.copy()
    half[0, 15:30, 20:35] = 0  # an L
    sample = DetectionSample(**{**vars(sample), "masks": half})
    result = boosted(sample, action_prob=(0.0, 1.0, 0.0), **STILL)
    assert np.array_equal(result.masks[0, 15:45, 20:50], half[0, 15:45, 20:50][:, ::-1])


@pytest.mark.parametrize("box", [(0, 20, 30, 40), (55, 20, 80, 40), (20, 0, 40, 30), (20, 35, 40, 60)])
def test_what_the_border_may_have_cut_only_grows_and_outwards(box: tuple[int, int, int, int]) -> None:
    sample = scene(box)
    for seed in range(8):
        result = boosted(sample, seed, dx=5.0, dy=5.0, action_prob=(0.5, 0.5, 0.0))
        border = [(0, box[0] == 0), (1, box[1] == 0), (2, box[2] == 80), (3, box[3] == 60)]
        for side, touches in border:
            if touches:
                assert result.boxes_xyxy[0, side] == box[side]


def test_an_object_covered_by_another_loses_those_pixels_and_at_last_itself() -> None:
    sample = scene((20, 20, 30, 30), (31, 20, 41, 30))
    for seed in range(20):
        result = boosted(sample, seed, scale=(3.0, 3.0), theta=(0, 0))
        assert bool((result.masks.sum(axis=0) <= 1).all())
        assert len(result) == len(result.labels) == len(result.masks) == len(result.crowd)
    large = boosted(sample, 0, scale=(6.0, 6.0), theta=(0, 0))
    assert large.labels.tolist() == [1] or len(large) == 2


def test_crowds_stay() -> None:
    sample = scene((5, 5, 15, 15), (40, 20, 60, 40), crowd=(True, False))
    result = boosted(sample, 3)
    assert np.array_equal(result.masks[0], sample.masks[0]) and result.crowd.tolist() == [True, False]
    assert np.array_equal(np.asarray(result.image)[5:15, 5:15], np.asarray(sample.image)[5:15, 5:15])
    only = scene((5, 5, 15, 15), crowd=(True,))
    assert boosted(only) is only


def test_no_objects_and_one_pixel_objects_are_no_matter() -> None:
    empty = scene()
    assert boosted(empty) is empty
    dot = scene((30, 30, 31, 31))
    for seed in range(10):
        assert len(boosted(dot, seed)) <= 1


def test_colours_change_without_masks() -> None:
    sample = scene((20, 15, 50, 45))
    result = boosted(sample, 1, color_prob=1.0, **STILL)
    assert result.image.tobytes() != sample.image.tobytes() and np.array_equal(result.masks, sample.masks)


def test_groups_are_what_overlaps_also_by_way_of_others() -> None:
    boxes = np.array([[0, 0, 4, 4], [10, 0, 14, 4], [3, 0, 11, 4], [20, 0, 24, 4], [24, 0, 28, 4]], dtype=np.float32)
    assert overlapping_groups(boxes, np.ones(5, dtype=bool)) == [[0, 1, 2], [3], [4]]
    assert overlapping_groups(boxes, np.array([1, 1, 0, 0, 1], dtype=bool)) == [[0], [1], [4]]


def test_a_hole_is_filled_from_around_it() -> None:
    image = np.zeros((33, 47, 3), dtype=np.uint8)
    image[:] = (np.arange(47) * 5)[None, :, None]
    hole = np.zeros((33, 47), dtype=bool)
    hole[10:20, 15:30] = True
    broken = np.where(hole[..., None], 255, image).astype(np.uint8)
    filled = fill_hole(broken, hole)
    assert np.array_equal(filled[~hole], image[~hole])
    assert np.abs(filled.astype(int) - image)[hole].max() <= 25  # a ramp of 75 levels across the hole


def test_a_picture_of_nothing_but_hole_is_grey() -> None:
    assert bool((fill_hole(np.zeros((4, 5, 3), dtype=np.uint8), np.ones((4, 5), dtype=bool)) == 128).all())
