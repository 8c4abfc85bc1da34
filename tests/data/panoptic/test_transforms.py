"""Random changes of images with segments, against what Pillow and NumPy make of the same random numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from swin_transformer_pytorch.data.images.dense_transforms import DenseTransform, normalize_bytes, resize_labels
from swin_transformer_pytorch.data.panoptic.augmentation import PanopticAugmentation
from swin_transformer_pytorch.data.panoptic.transforms import PanopticTrainingTransform
from swin_transformer_pytorch.data.samples import PanopticSample
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

PILLOW = DensePreprocessing(scale=None, antialias=True)
NONE = PanopticAugmentation.none()


def random_sample(height: int, width: int, *, seed: int = 0, crowd: int | None = None) -> PanopticSample:
    """Stripes of five segments and void."""
    random = np.random.default_rng(seed)
    ids = (np.arange(width)[None] * 6 // width + np.zeros((height, 1))).astype(np.int32)
    return PanopticSample(
        image=Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)),
        image_id=seed,
        segment_ids=ids,
        labels=np.array([4, 0, 2, 2, 1]),
        crowd=np.arange(5) == (-1 if crowd is None else crowd),
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_without_changes_training_sees_what_evaluation_sees() -> None:
    sample = random_sample(31, 47, crowd=2)
    pixels, targets = PanopticTrainingTransform(PILLOW, NONE)(sample, generator())
    assert torch.equal(pixels, DenseTransform(PILLOW)(sample.image).pixels)
    assert targets.labels.tolist() == [4, 0, 2, 1]
    np.testing.assert_array_equal(targets.masks.numpy(), sample.masks[[0, 1, 3, 4]])


@pytest.mark.parametrize("place", ["diagonal", "anywhere"])
@pytest.mark.parametrize("seed", range(8))
def test_large_scale_jitter_is_what_pillow_makes_of_the_same_chance(seed: int, place: Any) -> None:
    height, width = 40 + 7 * seed, 70 - 5 * seed
    sample = random_sample(height, width, seed=seed)
    augmentation = PanopticAugmentation(scale=(64, 64), crop_size=(64, 48), crop_place=place)
    pixels, targets = PanopticTrainingTransform(PILLOW, augmentation)(sample, generator(seed))

    chance = generator(seed)

    def uniform() -> float:
        return torch.rand((), generator=chance, dtype=torch.float64).item()

    side = int(64 * (0.1 + 1.9 * uniform()) + 0.5)
    factor = min(side / height, side / width)
    size = (int(height * factor + 0.5), int(width * factor + 0.5))
    image = sample.picture.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    ids = Image.fromarray(sample.segment_ids).resize((size[1], size[0]), Image.Resampling.NEAREST)
    free = (max(size[0] - 64, 0), max(size[1] - 48, 0))
    if place == "diagonal":
        share = uniform()
        top, left = round(free[0] * share), round(free[1] * share)
    else:
        top, left = (int(torch.randint(most + 1, (), generator=chance)) for most in free)
    canvas, segments = np.full((64, 48, 3), 128, dtype=np.uint8), np.zeros((64, 48), dtype=np.int32)
    part = np.asarray(image)[top : top + 64, left : left + 48]
    part_ids = np.asarray(ids)[top : top + 64, left : left + 48]
    if torch.rand((), generator=chance).item() < 0.5:
        part, part_ids = part[:, ::-1], part_ids[:, ::-1]
    canvas[: part.shape[0], : part.shape[1]] = part
    segments[: part.shape[0], : part.shape[1]] = part_ids

    assert torch.equal(pixels, normalize_bytes(canvas, PILLOW))
    assert targets.labels.tolist() == [4, 0, 2, 2, 1]
    np.testing.assert_array_equal(targets.masks.numpy(), segments == np.arange(1, 6)[:, None, None])


def test_a_segment_that_a_crop_empties_stays_as_the_authors_have_it() -> None:
    augmentation = replace(NONE, crop_size=(20, 10), crop_place="anywhere")
    _, targets = PanopticTrainingTransform(PILLOW, augmentation)(random_sample(20, 90), generator())
    assert len(targets) == 5 and targets.masks.shape == (5, 20, 10)
    assert not targets.masks.flatten(1).any(dim=1).all()


def test_steps_and_the_longest_side_are_kept_to() -> None:
    augmentation = replace(NONE, scale=(172, 43), ratio_range=(0.5, 2.0), ratio_step=0.1, max_long=100)
    transform = PanopticTrainingTransform(PILLOW, augmentation)
    sizes = {tuple(transform(random_sample(20, 40), generator(seed))[0].shape[1:]) for seed in range(300)}
    expected = set()
    for tenth in range(5, 21):
        short = 43 * tenth // 10  # 0.7 of 43 is 30
        factor = min(short / 20, 100 / 40)
        expected.add((int(20 * factor + 0.5), int(40 * factor + 0.5)))
    assert sizes == expected


def test_colours_change_the_image_alone() -> None:
    sample, augmentation = random_sample(16, 24), replace(NONE, photometric=True)
    changed = [PanopticTrainingTransform(PILLOW, augmentation)(sample, generator(seed)) for seed in range(6)]
    plain, masks = PanopticTrainingTransform(PILLOW, NONE)(sample, generator())
    assert any(not torch.equal(pixels, plain) for pixels, _ in changed)
    assert all(torch.equal(targets.masks, masks.masks) for _, targets in changed)


def test_ids_are_resized_to_the_nearest_pixel_as_pillow_does_it() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        height, width, *size = (int(side) for side in random.integers(1, 90, 4))
        ids = random.integers(0, 70_000, (height, width), dtype=np.int32)
        expected = Image.fromarray(ids).resize((size[1], size[0]), Image.Resampling.NEAREST)
        np.testing.assert_array_equal(resize_labels(ids, (size[0], size[1]), PILLOW), np.asarray(expected))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", (512, 1024)),
        ("crop_size", 0),
        ("ratio_range", (2.0, 0.1)),
        ("ratio_step", 0),
        ("max_long", -1),
        ("crop_place", "middle"),
        ("flip_prob", 2.0),
        ("photometric", 1),
    ],
)
def test_what_is_no_augmentation_is_named(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"augmentation {name}="):
        PanopticAugmentation(**{name: value})


def test_open_sizes_follow_evaluation() -> None:
    auto = PanopticAugmentation(scale="auto", crop_size="auto")
    assert (auto.at((1333, 800)).scale, auto.at((1333, 800)).crop_size) == ((1333, 800), (800, 800))
    assert (auto.at(None, 300).scale, auto.at(None, 300).crop_size) == (None, (300, 300))
    assert PanopticAugmentation().at(None) == PanopticAugmentation()
