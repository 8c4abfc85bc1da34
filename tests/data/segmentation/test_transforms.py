"""The random changes of segmentation training beside the official code's steps, written with OpenCV."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from swin_transformer_pytorch.data.images.hsv import hsv_to_rgb, rgb_to_hsv
from swin_transformer_pytorch.data.images.photometric import change_saturation, distort, shift_hue
from swin_transformer_pytorch.data.segmentation.augmentation import SegmentationAugmentation
from swin_transformer_pytorch.data.segmentation.dataset import SegmentationSample
from swin_transformer_pytorch.data.segmentation.transforms import (
    SegmentationTrainingTransform,
    collate_segmentation,
    random_crop,
)
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

# OpenCV's numbers of AVX2 and FMA3, whose names its Python module lacks.
FUSES = cv2.checkHardwareSupport(11) and cv2.checkHardwareSupport(12)
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def photo(seed=0, height=48, width=64):
    """A smooth picture in many colours; its width fills OpenCV's vectors, whose remainder rounds otherwise."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def sample(height=48, width=64, seed=0):
    labels = np.random.default_rng(seed).integers(0, 4, (height, width), dtype=np.uint8)
    labels[:2] = 255
    return SegmentationSample(image=Image.fromarray(photo(seed, height, width)), labels=labels, name="a")


def transform(**options):
    plain = {"scale": None, "ratio_range": (1, 1), "crop_size": None, "flip_prob": 0.0, "photometric": False}
    return SegmentationTrainingTransform(DensePreprocessing.ade20k(), SegmentationAugmentation(**{**plain, **options}))


def normalized(image):
    """mmcv's, in 64 bits."""
    return torch.from_numpy(((image.astype(np.float64) - MEAN) / STD).transpose(2, 0, 1))


def close(pixels, image):
    return torch.allclose(pixels.double(), normalized(image), atol=1e-5)


@pytest.mark.parametrize("red", range(0, 256, 15))
def test_rgb_to_hsv_is_opencvs(red):
    green, blue = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    image = np.stack([np.full_like(green, red), green, blue], axis=-1).astype(np.uint8)
    np.testing.assert_array_equal(rgb_to_hsv(image), cv2.cvtColor(image, cv2.COLOR_RGB2HSV))


@pytest.mark.parametrize("hue", range(0, 180, 11))
def test_hsv_to_rgb_is_opencvs_within_a_level_and_equal_where_it_fuses(hue):
    saturation, value = np.meshgrid(np.arange(256), np.arange(256), indexing="ij")
    image = np.stack([np.full_like(value, hue), saturation, value], axis=-1).astype(np.uint8)
    ours, theirs = hsv_to_rgb(image).astype(int), cv2.cvtColor(image, cv2.COLOR_HSV2RGB).astype(int)
    assert np.abs(ours - theirs).max() <= 1
    if FUSES:
        np.testing.assert_array_equal(ours, theirs)


def official_linear(image, alpha=1.0, beta=0.0):
    return np.clip(image.astype(np.float32) * alpha + beta, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("factor", [0.5, 0.83, 1.0, 1.37, 1.5])
def test_saturation_is_the_official_one(factor):
    image = photo()
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[:, :, 1] = official_linear(hsv[:, :, 1], alpha=factor)
    expected = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(int)
    assert np.abs(change_saturation(image, factor).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("steps", [-18, -1, 0, 17])
def test_hue_is_the_official_one(steps):
    image = photo(1)
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    hsv[:, :, 0] = (hsv[:, :, 0].astype(int) + steps) % 180
    expected = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(int)
    assert np.abs(shift_hue(image, steps).astype(int) - expected).max() <= 1


@pytest.mark.parametrize("seed", range(24))
def test_distortion_is_the_official_one_for_the_same_draws(seed):
    draws = seeded(seed)

    def coin():
        return int(torch.randint(2, (), generator=draws))

    def uniform(low, high):
        return low + (high - low) * torch.rand((), generator=draws, dtype=torch.float64).item()

    expected = image = photo(seed)
    if coin():
        expected = official_linear(expected, beta=uniform(-32, 32))
    mode = coin()
    if mode == 1 and coin():
        expected = official_linear(expected, alpha=uniform(0.5, 1.5))
    if coin():
        hsv = cv2.cvtColor(expected, cv2.COLOR_RGB2HSV)
        hsv[:, :, 1] = official_linear(hsv[:, :, 1], alpha=uniform(0.5, 1.5))
        expected = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if coin():
        hsv = cv2.cvtColor(expected, cv2.COLOR_RGB2HSV)
        hsv[:, :, 0] = (hsv[:, :, 0].astype(int) + int(torch.randint(-18, 18, (), generator=draws))) % 180
        expected = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if mode == 0 and coin():
        expected = official_linear(expected, alpha=uniform(0.5, 1.5))
    difference = np.abs(distort(image, seeded(seed)).astype(int) - expected)
    assert (difference > 0).mean() < 0.01
    if FUSES:
        assert difference.max() == 0


def test_distortion_changes_with_chance_and_leaves_its_input():
    image = photo()
    before = image.copy()
    results = [distort(image, seeded(seed)) for seed in range(40)]
    np.testing.assert_array_equal(image, before)
    assert any(np.array_equal(result, image) for result in results)
    assert sum(not np.array_equal(result, image) for result in results) > 30


def official_size(size, scale, ratio):
    """mmcv's `rescale_size` for the official random scale."""
    long, short = int(scale[0] * ratio), int(scale[1] * ratio)
    factor = min(long / max(size), short / min(size))
    return tuple(int(side * factor + 0.5) for side in size)


@pytest.mark.parametrize("seed", range(4))
def test_resize_is_opencvs(seed):
    made = sample(37, 53)
    pixels, labels = transform(scale=(100, 60), ratio_range=(0.5, 2.0))(made, seeded(seed))
    ratio = 0.5 + 1.5 * torch.rand((), generator=seeded(seed), dtype=torch.float64).item()
    height, width = official_size((37, 53), (100, 60), ratio)
    image = cv2.resize(np.asarray(made.image), (width, height), interpolation=cv2.INTER_LINEAR)
    assert close(pixels, image)
    expected = cv2.resize(made.labels, (width, height), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(labels.numpy(), expected)


def resize_shortest_edge(size, short, most):
    """detectron2's, with its way of rounding."""
    height, width = size
    scale = short / min(height, width)
    height, width = (short, scale * width) if height < width else (scale * height, short)
    if max(height, width) > most:
        again = most / max(height, width)
        height, width = height * again, width * again
    return int(height + 0.5), int(width + 0.5)


@pytest.mark.parametrize("side", [512, 640, 1024, 2048])
def test_steps_of_the_ratio_are_the_sides_of_mask2formers_recipes(side):
    policy = {"scale": (4 * side, side), "ratio_range": (0.5, 2.0), "ratio_step": 0.1, "max_long": 4 * side}
    change = transform(**policy)
    sides = [int(tenths * 0.1 * side) for tenths in range(5, 21)]
    found = set()
    for seed in range(120):
        size = tuple(int(one) for one in np.random.default_rng(seed).integers(side // 5, 2 * side, 2))
        short = sides[int(torch.randint(16, (), generator=seeded(seed)))]
        found.add(short)
        assert change._random_size(size, seeded(seed)) == resize_shortest_edge(size, short, 4 * side)
    assert found == set(sides)


def test_the_longer_side_has_its_most_whatever_the_ratio():
    wide = {"scale": (100, 60), "ratio_range": (0.5, 0.5)}
    assert transform(**wide)(sample(20, 60), seeded(0))[0].shape == (3, 17, 50)
    assert transform(**wide, max_long=100)(sample(20, 60), seeded(0))[0].shape == (3, 30, 90)


def test_it_is_resized_as_evaluation_resizes():
    made = sample(37, 53)
    options = SegmentationAugmentation(
        scale=(30, 20), ratio_range=(1, 1), crop_size=None, flip_prob=0.0, photometric=False
    )
    preprocessing = DensePreprocessing(scale=(30, 20), antialias=True)
    pixels, labels = SegmentationTrainingTransform(preprocessing, options)(made, seeded(0))
    assert close(pixels, np.asarray(made.image.resize((29, 20), Image.Resampling.BILINEAR)))
    np.testing.assert_array_equal(labels.numpy(), cv2.resize(made.labels, (29, 20), interpolation=cv2.INTER_NEAREST))


def test_what_a_crop_lacks_may_be_of_a_colour():
    made = sample(20, 40)
    pixels, labels = transform(crop_size=(32, 64), pad_value=128, photometric=True)(made, seeded(3))
    assert pixels.shape == (3, 32, 64) and labels.shape == (32, 64)
    assert close(pixels[:, 20:], np.full((12, 64, 3), 128)) and close(pixels[:, :, 40:], np.full((32, 24, 3), 128))
    assert (labels[20:] == 255).all() and (labels[:, 40:] == 255).all()
    np.testing.assert_array_equal(labels[:20, :40].numpy(), made.labels)


def test_without_a_scale_the_ratio_is_of_the_images_own_size():
    pixels, labels = transform(ratio_range=(1.5, 1.5))(sample(11, 20), seeded(0))
    assert pixels.shape == (3, 17, 30) and labels.shape == (17, 30)


def test_no_change_is_evaluations_image():
    made = sample()
    unchanged = SegmentationTrainingTransform(DensePreprocessing.ade20k(), SegmentationAugmentation.none())
    pixels, labels = unchanged(made, seeded(0))
    assert pixels.dtype == torch.float32 and close(pixels, np.asarray(made.image))
    assert labels.dtype == torch.uint8
    np.testing.assert_array_equal(labels.numpy(), made.labels)


def test_small_images_are_padded_with_nothing_and_ignored_labels():
    made = sample(20, 70)
    pixels, labels = transform(crop_size=(32, 64))(made, seeded(3))
    assert pixels.shape == (3, 32, 64) and labels.shape == (32, 64)
    assert (pixels[:, 20:] == 0).all() and (labels[20:] == 255).all()
    image = np.asarray(made.image)
    lefts = [left for left in range(7) if close(pixels[:, :20], image[:, left : left + 64])]
    assert len(lefts) == 1
    np.testing.assert_array_equal(labels[:20].numpy(), made.labels[:, lefts[0] : lefts[0] + 64])


def test_flip_takes_both_along():
    made = sample()
    pixels, labels = transform(flip_prob=1.0)(made, seeded(0))
    assert close(pixels, np.asarray(made.image)[:, ::-1])
    np.testing.assert_array_equal(labels.numpy(), made.labels[:, ::-1])


def official_crop(labels, size, cat_max_ratio, draws):
    def place():
        return [
            int(torch.randint(max(s - c, 0) + 1, (), generator=draws)) for s, c in zip(labels.shape, size, strict=True)
        ]

    top, left = place()
    if cat_max_ratio < 1:
        for _ in range(10):
            values, counts = np.unique(labels[top : top + size[0], left : left + size[1]], return_counts=True)
            counts = counts[values != 255]
            if len(counts) > 1 and counts.max() / counts.sum() < cat_max_ratio:
                break
            top, left = place()
    return top, left


@pytest.mark.parametrize("ratio", [0.6, 0.75, 1.0])
def test_crop_draws_again_as_the_official_code_does(ratio):
    labels = np.zeros((40, 40), dtype=np.uint8)
    labels[25:, 25:] = 1
    labels[:, :4] = 255
    places = [random_crop(labels, (12, 12), ratio, seeded(seed)) for seed in range(30)]
    assert places == [official_crop(labels, (12, 12), ratio, seeded(seed)) for seed in range(30)]


def test_crops_are_mostly_balanced():
    labels = np.zeros((40, 40), dtype=np.uint8)
    labels[25:, 25:] = 1

    def balanced(ratio):
        places = (random_crop(labels, (12, 12), ratio, seeded(seed)) for seed in range(30))
        shares = [labels[y : y + 12, x : x + 12].mean() for y, x in places]
        return sum(0.25 < share < 0.75 for share in shares)

    assert balanced(1.0) < 12 < 18 < balanced(0.75)


@pytest.mark.parametrize("value", [0, 255])
def test_crop_of_one_class_or_none_gives_up(value):
    top, left = random_crop(np.full((30, 20), value, dtype=np.uint8), (10, 25), 0.75, seeded(0))
    assert 0 <= top <= 20 and left == 0


def test_chance_comes_from_the_generator_alone():
    made, change = sample(), SegmentationTrainingTransform(DensePreprocessing.ade20k())
    first, second, other = (change(made, seeded(seed)) for seed in (5, 5, 6))
    assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    assert not torch.equal(first[0], other[0])
    assert first[0].shape == (3, 512, 512)


def test_a_batch_is_padded_to_its_largest():
    items = [transform()(sample(height, width), seeded(0)) for height, width in ((20, 31), (24, 18))]
    batch = collate_segmentation(items)
    assert batch.images.shape == (2, 3, 24, 31) and len(batch) == 2
    assert batch.labels.dtype == torch.int64
    assert (batch.labels[0, 20:] == 255).all() and (batch.labels[1, :, 18:] == 255).all()
    assert torch.equal(batch.labels[1, :, :18], items[1][1].long())
    assert torch.equal(batch.images[1, :, :, :18], items[1][0])
    assert collate_segmentation(items, 32).labels.shape == (2, 32, 32)
    assert batch.to("cpu").labels.shape == (2, 24, 31)
    with pytest.raises(ValueError, match="no images"):
        collate_segmentation([])


@pytest.mark.parametrize("channels", [1, 5])
def test_images_that_are_not_rgb_change_in_brightness_and_contrast_alone(channels: int):
    bands = np.random.default_rng(0).integers(0, 256, (48, 64, channels), dtype=np.uint8)
    seen = set()
    for seed in range(60):
        changed = distort(bands, seeded(seed))
        # One line for all bands: each level goes to one other, and these rise.
        levels = np.full(256, -1)
        for level in np.unique(bands):
            (levels[level],) = np.unique(changed[bands == level])
        assert (np.diff(levels[levels >= 0]) >= 0).all()
        seen.add(tuple(levels))
    assert len(seen) > 30
    preprocessing = DensePreprocessing(scale=None, size_divisor=1, mean=(128.0,) * channels, std=(60.0,) * channels)
    image = torch.from_numpy(bands).permute(2, 0, 1)
    pixels, _ = SegmentationTrainingTransform(preprocessing, SegmentationAugmentation(scale=None, crop_size=None))(
        replace(sample(), image=image), seeded(0)
    )
    assert pixels.shape[0] == channels


@pytest.mark.parametrize(
    "fields",
    [
        {"scale": (512, 2048)},
        {"scale": (512,)},
        {"crop_size": (0, 512)},
        {"crop_size": 512},
        {"ratio_range": (0, 1)},
        {"ratio_range": (2, 1)},
        {"ratio_range": (1,)},
        {"ratio_step": 0},
        {"max_long": 1023},
        {"pad_value": 256},
        {"cat_max_ratio": 0},
        {"flip_prob": 1.5},
        {"photometric": 1},
    ],
)
def test_impossible_augmentations_are_named(fields):
    (name,) = fields
    with pytest.raises(ValueError, match=f"augmentation {name}="):
        SegmentationAugmentation(**fields)


def test_the_most_of_the_longer_side_needs_a_scale():
    with pytest.raises(ValueError, match="augmentation max_long=4096 is not possible: use null with scale=auto"):
        SegmentationAugmentation(scale="auto", max_long=4096)


def test_lists_of_a_recipe_become_pairs():
    made = SegmentationAugmentation(scale=[64, 32], crop_size=[32, 32], ratio_range=[1, 2])
    assert (made.scale, made.crop_size, made.ratio_range) == ((64, 32), (32, 32), (1, 2))
