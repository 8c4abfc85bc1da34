"""The training transform of detectors, against the official pipeline written out with OpenCV and numpy."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from swin_transformer_pytorch.data.detection.augmentation import DetectionAugmentation
from swin_transformer_pytorch.data.detection.transforms import (
    DetectionTrainingTransform,
    aspect_groups,
    collate_detection,
)
from swin_transformer_pytorch.data.images.dense_transforms import DenseTransform, normalize_bytes
from swin_transformer_pytorch.data.samples import DetectionSample
from swin_transformer_pytorch.ops.regions.instances import InstanceTargets
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

SMALL = DensePreprocessing(scale=(120, 80))
POLICY = DetectionAugmentation(scales=(48, 56, 64), max_long=100, crop_scales=(40, 50, 60), crop_range=(30, 50))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def scene(height=60, width=90, objects=6, seed=0, semantic=True):
    """Noise with rectangles of noise; the last object is a crowd."""
    random = np.random.default_rng(seed)
    corner = random.uniform(0, [width - 12, height - 12], (objects, 2))
    boxes = np.concatenate([corner, corner + random.uniform(3, 12, (objects, 2))], axis=1)
    masks = np.zeros((objects, height, width), dtype=np.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int), strict=True):
        mask[y0 : y1 + 1, x0 : x1 + 1] = random.integers(0, 2, (y1 - y0 + 1, x1 - x0 + 1))
    labels = random.integers(0, 256, (height, width), dtype=np.uint8)
    return DetectionSample(
        image=Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8)),
        image_id=seed,
        boxes_xyxy=boxes.astype(np.float32),
        labels=np.arange(objects, dtype=np.int64),
        masks=masks,
        crowd=np.arange(objects) == objects - 1,
        semantic=labels if semantic else None,
    )


class Official:
    """mmdet's RandomFlip, Resize and RandomCrop, one image and array at a time."""

    def __init__(self, sample):
        things = ~sample.crowd
        self.image = np.asarray(sample.image)
        self.boxes, self.labels = sample.boxes_xyxy[things], sample.labels[things]
        self.masks, self.semantic = list(sample.masks[things]), sample.semantic

    def flip(self):
        self.image, self.semantic = self.image[:, ::-1].copy(), self.semantic[:, ::-1].copy()
        self.masks = [mask[:, ::-1].copy() for mask in self.masks]
        flipped = self.boxes.copy()
        flipped[:, 0::4] = self.image.shape[1] - self.boxes[:, 2::4]
        flipped[:, 2::4] = self.image.shape[1] - self.boxes[:, 0::4]
        self.boxes = flipped

    def resize(self, short, long):
        height, width = self.image.shape[:2]
        scale = min(long / max(height, width), short / min(height, width))
        new = int(width * scale + 0.5), int(height * scale + 0.5)
        self.image = cv2.resize(self.image, new, interpolation=cv2.INTER_LINEAR)
        self.masks = [cv2.resize(mask, new, interpolation=cv2.INTER_NEAREST) for mask in self.masks]
        self.semantic = cv2.resize(self.semantic, new, interpolation=cv2.INTER_NEAREST)
        factor = np.array([new[0] / width, new[1] / height, new[0] / width, new[1] / height], dtype=np.float32)
        self.boxes = self.clip(self.boxes * factor)

    def crop(self, top, left, height, width):
        window = np.s_[top : top + height, left : left + width]
        self.image, self.semantic = self.image[window].copy(), self.semantic[window].copy()
        boxes = self.clip(self.boxes - np.array([left, top, left, top], dtype=np.float32))
        valid = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
        self.boxes, self.labels = boxes[valid], self.labels[valid]
        self.masks = [mask[window].copy() for mask, keep in zip(self.masks, valid, strict=True) if keep]

    def clip(self, boxes):
        height, width = self.image.shape[:2]
        boxes[:, 0::2] = np.clip(boxes[:, 0::2], 0, width)
        boxes[:, 1::2] = np.clip(boxes[:, 1::2], 0, height)
        return boxes

    def coarse_labels(self):
        height, width = (-(-side // 32) * 32 for side in self.image.shape[:2])
        padded = np.full((height, width), 255, dtype=np.uint8)
        padded[: self.image.shape[0], : self.image.shape[1]] = self.semantic
        return cv2.resize(padded, (width // 8, height // 8), interpolation=cv2.INTER_NEAREST)


def officially(sample, augmentation, generator):
    """The official pipeline with the draws that our transform makes, in its order."""

    def chance(probability):
        return torch.rand((), generator=generator).item() < probability

    def below(number):
        return int(torch.randint(number, (), generator=generator))

    result = Official(sample)
    if chance(augmentation.flip_prob):
        result.flip()
    if chance(augmentation.crop_prob):
        result.resize(augmentation.crop_scales[below(len(augmentation.crop_scales))], augmentation.max_long)
        least, most = augmentation.crop_range
        sides = result.image.shape[:2]
        parts = [min(side, least) + below(min(side, most) - min(side, least) + 1) for side in sides]
        places = [below(side - part + 1) for side, part in zip(sides, parts, strict=True)]
        result.crop(*places, *parts)
    result.resize(augmentation.scales[below(len(augmentation.scales))], augmentation.max_long)
    return result


@pytest.mark.parametrize("seed", range(30))
def test_it_is_the_official_pipeline(seed):
    random = np.random.default_rng(seed)
    sample = scene(int(random.integers(33, 120)), int(random.integers(33, 120)), seed=seed)
    pixels, targets = DetectionTrainingTransform(SMALL, POLICY)(sample, seeded(seed))
    expected = officially(sample, POLICY, seeded(seed))
    assert torch.equal(pixels, normalize_bytes(expected.image, SMALL))
    np.testing.assert_array_equal(targets.boxes_xyxy.numpy(), expected.boxes)
    np.testing.assert_array_equal(targets.labels.numpy(), expected.labels)
    assert targets.masks.shape == (len(targets), *expected.image.shape[:2])
    for mask, reference in zip(targets.masks, expected.masks, strict=True):
        np.testing.assert_array_equal(mask.numpy(), reference)
    np.testing.assert_array_equal(targets.semantic.numpy(), expected.coarse_labels())


def test_targets_are_plain_tensors_and_crowds_are_left_out():
    _, targets = DetectionTrainingTransform(SMALL, POLICY)(scene(), seeded())
    for value in (targets.boxes_xyxy, targets.labels, targets.masks, targets.semantic):
        assert type(value) is torch.Tensor and value.is_contiguous()
    assert targets.boxes_xyxy.dtype == torch.float32 and targets.labels.dtype == torch.int64
    assert targets.masks.dtype == torch.uint8 and targets.semantic.dtype == torch.uint8
    assert 5 not in targets.labels
    plain = DetectionTrainingTransform(SMALL, POLICY)(scene(semantic=False), seeded())[1]
    assert plain.semantic is None


def test_without_random_changes_it_is_evaluation():
    sample = scene()
    pixels, targets = DetectionTrainingTransform(SMALL, DetectionAugmentation.none())(sample, seeded())
    prepared = DenseTransform(SMALL)(sample.image)
    assert torch.equal(pixels, prepared.pixels)
    expected = torch.from_numpy(sample.boxes_xyxy[:5]) * torch.tensor(prepared.scale_factor)
    assert torch.equal(targets.boxes_xyxy, expected)


def test_chance_comes_from_the_generator_alone():
    transform = DetectionTrainingTransform(SMALL, POLICY)
    state = torch.get_rng_state()
    first, again, other = (transform(scene(), seeded(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0], again[0]) and torch.equal(first[1].masks, again[1].masks)
    assert first[0].shape != other[0].shape or not torch.equal(first[0], other[0])


def test_every_choice_is_made():
    transform = DetectionTrainingTransform(SMALL, POLICY)
    generator = seeded()
    shorter = [min(transform(scene(semantic=False), generator)[0].shape[1:]) for _ in range(40)]
    assert {48, 56, 64} <= set(shorter)


@pytest.mark.parametrize("objects", ["none", "crowds"])
def test_images_without_objects(objects):
    sample = scene(objects=1) if objects == "crowds" else scene(objects=0)
    for seed in range(6):
        pixels, targets = DetectionTrainingTransform(SMALL, POLICY)(sample, seeded(seed))
        assert len(targets) == 0 and targets.boxes_xyxy.shape == (0, 4)
        assert targets.masks.shape == (0, *pixels.shape[1:])


def test_a_crop_without_objects_is_as_good_as_any():
    sample = scene(60, 90, objects=2)
    sample.boxes_xyxy[:] = [0, 0, 3, 3]
    policy = DetectionAugmentation(crop_prob=1, crop_scales=(60,), crop_range=(8, 9), scales=(48,))
    counts = [len(DetectionTrainingTransform(SMALL, policy)(sample, seeded(seed))[1]) for seed in range(20)]
    assert 0 in counts


def test_boxes_beyond_the_border_are_clipped():
    sample = scene(objects=3)
    sample.boxes_xyxy[0] = [-5, -5, 200, 200]
    sample.boxes_xyxy[1] = [200, 10, 210, 20]
    _, targets = DetectionTrainingTransform(SMALL, DetectionAugmentation.none())(sample, seeded())
    assert targets.boxes_xyxy.tolist() == [[0, 0, 120, 80]]


def test_instaboost_moves_objects():
    sample = scene(seed=3)
    policy = DetectionAugmentation(flip_prob=0, crop_prob=0, scales=(), instaboost=True)
    still = DetectionTrainingTransform(SMALL, DetectionAugmentation.none())(sample, seeded())[0]
    moved = [DetectionTrainingTransform(SMALL, policy)(sample, seeded(seed))[0] for seed in range(6)]
    assert all(pixels.shape == still.shape for pixels in moved)
    assert any(not torch.equal(pixels, still) for pixels in moved)


def targets(height, width, semantic=None):
    return InstanceTargets(
        boxes_xyxy=torch.tensor([[0.0, 0.0, 5.0, 5.0]]),
        labels=torch.tensor([1]),
        masks=torch.ones(1, height, width, dtype=torch.uint8),
        semantic=semantic,
    )


def test_a_batch_has_the_size_of_its_largest():
    labels = torch.full((8, 4), 3, dtype=torch.uint8)
    items = [(torch.ones(3, 40, 20), targets(40, 20, labels)), (torch.ones(3, 30, 70), targets(30, 70))]
    batch = collate_detection(items)
    assert len(batch) == 2 and batch.images.shape == (2, 3, 64, 96)
    assert batch.image_sizes == [(40, 20), (30, 70)]
    assert batch.targets[0].semantic.shape == (8, 12)
    assert batch.targets[0].semantic[:, :4].eq(3).all() and batch.targets[0].semantic[:, 4:].eq(255).all()
    assert batch.targets[1] is items[1][1]
    assert collate_detection(items[1:], size_divisor=1).images.shape == (1, 3, 30, 70)
    assert batch.to("meta").images.device.type == batch.to("meta").targets[0].masks.device.type == "meta"
    with pytest.raises(ValueError, match="no images"):
        collate_detection([])


def test_groups_by_aspect():
    assert aspect_groups([(40, 60), (60, 40), (50, 50)]) == [1, 0, 0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"flip_prob": 1.5}, "flip_prob=1.5 is not possible: use a probability"),
        ({"crop_prob": True}, "crop_prob=True"),
        ({"scales": (0,)}, "scales="),
        ({"scales": 800}, "scales=800"),
        ({"crop_scales": ()}, "crop_scales="),
        ({"crop_range": (600, 384)}, "crop_range="),
        ({"crop_range": (600,)}, "crop_range="),
        ({"max_long": 700}, "max_long=700 is not possible: use a whole number of pixels, at least 800"),
        ({"instaboost": 1}, "instaboost=1"),
    ],
)
def test_impossible_augmentations_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        DetectionAugmentation(**values)


def test_augmentations_read_from_yaml():
    assert DetectionAugmentation(scales=[800], crop_prob=0).scales == (800,)
    assert DetectionAugmentation(scales=(160,), max_long=256, crop_prob=0).max_long == 256
    with pytest.raises(ValueError, match="max_long=256 .* at least 600"):
        DetectionAugmentation(scales=(160,), max_long=256)
