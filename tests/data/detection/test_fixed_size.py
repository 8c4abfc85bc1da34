"""Large-scale jitter and parts of a fixed size, against detectron2's steps written out with Pillow and numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tests.data.detection.test_transforms import scene, seeded

from swin_transformer_pytorch.data.detection.augmentation import DetectionAugmentation
from swin_transformer_pytorch.data.detection.transforms import DetectionTrainingTransform
from swin_transformer_pytorch.data.images.dense_transforms import normalize_bytes
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

PILLOW = DensePreprocessing(scale=(120, 80), antialias=True)
JITTER = DetectionAugmentation(crop_prob=0, jitter_range=(0.1, 2.0), fixed_size=(64, 64))
STEPS = DetectionAugmentation(crop_prob=0, scales=(32, 38, 44, 70), max_long=160, fixed_size=(48, 64))


def chance(generator):
    return torch.rand((), generator=generator).item()


def uniform(generator):
    return torch.rand((), generator=generator, dtype=torch.float64).item()


def below(number, generator):
    return int(torch.randint(number, (), generator=generator))


class Detectron2:
    """Flip, resize, crop and padding, one array at a time."""

    def __init__(self, sample):
        things = ~sample.crowd
        self.image, self.labels = np.asarray(sample.image), sample.labels[things]
        self.masks, self.boxes = list(sample.masks[things]), sample.boxes_xyxy[things].astype(np.float64)

    @property
    def size(self):
        return self.image.shape[:2]

    def flip(self):
        self.image, self.masks = self.image[:, ::-1], [mask[:, ::-1] for mask in self.masks]
        left, right = self.boxes[:, 0].copy(), self.boxes[:, 2].copy()
        self.boxes[:, 0], self.boxes[:, 2] = self.size[1] - right, self.size[1] - left

    def resize(self, height, width):
        ratios = width / self.size[1], height / self.size[0]
        self.image = np.asarray(Image.fromarray(self.image).resize((width, height), Image.Resampling.BILINEAR))
        nearest = Image.Resampling.NEAREST
        self.masks = [np.asarray(Image.fromarray(mask).resize((width, height), nearest)) for mask in self.masks]
        self.boxes *= [*ratios, *ratios]

    def crop(self, top, left, height, width):
        window = np.s_[top : top + height, left : left + width]
        self.image, self.masks = self.image[window], [mask[window] for mask in self.masks]
        self.boxes = np.clip(self.boxes - [left, top, left, top], 0, [width, height, width, height])

    def pad(self, size):
        image = np.full((*size, 3), 128, dtype=np.uint8)
        image[: self.size[0], : self.size[1]] = self.image
        padded = [np.zeros(size, dtype=np.uint8) for _ in self.masks]
        for place, mask in zip(padded, self.masks, strict=True):
            place[: self.size[0], : self.size[1]] = mask
        self.image, self.masks = image, padded


def large_scale_jitter(sample, generator):
    result = Detectron2(sample)
    if chance(generator) < 0.5:
        result.flip()
    chance(generator)  # whether it is DETR's crop: never
    scale = 0.1 + (2.0 - 0.1) * uniform(generator)
    output_scale = np.minimum(64 * scale / result.size[0], 64 * scale / result.size[1])
    result.resize(*np.round(np.multiply(result.size, output_scale)).astype(int).tolist())
    room = np.maximum(np.subtract(result.size, (64, 64)), 0)
    top, left = np.round(np.multiply(room, uniform(generator))).astype(int).tolist()
    result.crop(top, left, 64, 64)
    result.pad((64, 64))
    return result


def resize_shortest_edge(size, short, most):
    """detectron2's, with its way of rounding."""
    height, width = size
    scale = short / min(height, width)
    height, width = (short, scale * width) if height < width else (scale * height, short)
    if max(height, width) > most:
        again = most / max(height, width)
        height, width = height * again, width * again
    return int(height + 0.5), int(width + 0.5)


def crop_of_steps(sample, generator):
    result = Detectron2(sample)
    if chance(generator) < 0.5:
        result.flip()
    chance(generator)
    result.resize(*resize_shortest_edge(result.size, STEPS.scales[below(4, generator)], 160))
    height, width = min(48, result.size[0]), min(64, result.size[1])
    top = below(result.size[0] - height + 1, generator)
    left = below(result.size[1] - width + 1, generator)
    result.crop(top, left, height, width)
    result.pad((48, 64))
    return result


@pytest.mark.parametrize(("policy", "reference"), [(JITTER, large_scale_jitter), (STEPS, crop_of_steps)])
@pytest.mark.parametrize("seed", range(12))
def test_it_is_the_pipeline_of_detectron2(policy, reference, seed):
    random = np.random.default_rng(seed)
    sample = scene(int(random.integers(33, 120)), int(random.integers(33, 120)), seed=seed, semantic=False)
    pixels, targets = DetectionTrainingTransform(PILLOW, policy)(sample, seeded(seed))
    expected = reference(sample, seeded(seed))
    assert torch.equal(pixels, normalize_bytes(expected.image, PILLOW))
    kept = (expected.boxes[:, 2:] > expected.boxes[:, :2]).all(axis=1)
    np.testing.assert_allclose(targets.boxes_xyxy.numpy(), expected.boxes[kept], atol=1e-4)
    np.testing.assert_array_equal(targets.labels.numpy(), expected.labels[kept])
    masks = np.array(expected.masks, dtype=np.uint8)[kept].reshape(-1, *policy.fixed_size)
    np.testing.assert_array_equal(targets.masks.numpy(), masks)
    assert not masks[~kept[kept]].any()


def test_all_scales_and_both_ends_of_a_place_are_drawn():
    image = Image.fromarray(np.arange(80 * 60 * 3, dtype=np.uint32).astype(np.uint8).reshape(80, 60, 3))
    sample = replace(scene(80, 60, semantic=False), image=image)
    transform, generator = DetectionTrainingTransform(PILLOW, JITTER), seeded(1)
    grey = normalize_bytes(np.full((1, 1, 3), 128, dtype=np.uint8), PILLOW)
    heights = []
    for _ in range(150):
        pixels, _ = transform(sample, generator)
        assert pixels.shape == (3, 64, 64)
        heights.append(64 - int((pixels == grey).all(dim=0).all(dim=1).sum()))
    assert min(heights) < 13 and sum(height == 64 for height in heights) > 50


def test_without_objects_it_is_the_same_picture():
    full, empty = scene(70, 90, semantic=False), scene(70, 90, objects=0, semantic=False)
    transform = DetectionTrainingTransform(PILLOW, replace(JITTER, photometric=True))
    for seed in range(8):
        pixels, targets = transform(replace(empty, image=full.image), seeded(seed))
        assert targets.masks.shape == (0, 64, 64) and torch.equal(pixels, transform(full, seeded(seed))[0])


def test_colours_change_before_the_rest_is_grey():
    plain = replace(JITTER, flip_prob=0, jitter_range=(0.5, 0.5))
    sample = scene(60, 40, semantic=False)
    still = DetectionTrainingTransform(PILLOW, plain)(sample, seeded(0))[0]
    changed = [
        DetectionTrainingTransform(PILLOW, replace(plain, photometric=True))(sample, seeded(seed))[0]
        for seed in range(6)
    ]
    assert all(torch.equal(one[:, 32:], still[:, 32:]) for one in changed)
    assert any(not torch.equal(one[:, :32], still[:, :32]) for one in changed)


def test_label_maps_are_ignored_where_there_is_no_image():
    _, targets = DetectionTrainingTransform(PILLOW, replace(JITTER, jitter_range=(0.5, 0.5)))(scene(60, 60), seeded(0))
    assert targets.semantic.shape == (8, 8)
    assert (targets.semantic[4:] == 255).all() and not (targets.semantic[:4, :4] == 255).all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"jitter_range": (0.1, 2.0)}, r"fixed_size=None is not possible: use \[height, width\].*beside jitter_range"),
        ({"jitter_range": (2.0, 0.1), "fixed_size": (64, 64)}, "jitter_range="),
        ({"jitter_range": (0, 1), "fixed_size": (64, 64)}, "jitter_range="),
        ({"jitter_range": 2.0, "fixed_size": (64, 64)}, r"jitter_range=2\.0"),
        ({"fixed_size": 1024}, "fixed_size=1024"),
        ({"fixed_size": (0, 64)}, "fixed_size="),
        ({"photometric": 1}, "photometric=1"),
    ],
)
def test_impossible_augmentations_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        DetectionAugmentation(**values)


def test_augmentations_read_from_yaml():
    read = DetectionAugmentation(jitter_range=[0.1, 2], fixed_size=[64, 32])
    assert (read.jitter_range, read.fixed_size) == ((0.1, 2), (64, 32))
