"""Evaluation's preprocessing of dense models, with OpenCV in the way of mmcv as the reference."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from swin_transformer_pytorch.data.classification.augmentation import Augmentation
from swin_transformer_pytorch.data.detection.augmentation import DetectionAugmentation
from swin_transformer_pytorch.data.detection.transforms import DetectionTrainingTransform
from swin_transformer_pytorch.data.errors import ImageError
from swin_transformer_pytorch.data.images.dense_transforms import DenseTransform, normalize_bytes
from swin_transformer_pytorch.data.segmentation.augmentation import SegmentationAugmentation
from swin_transformer_pytorch.data.segmentation.transforms import SegmentationTrainingTransform
from swin_transformer_pytorch.data.transforms import create_transform
from swin_transformer_pytorch.ops.padding import pad_batch, padded_size
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing, Preprocessing

COCO = DensePreprocessing.coco()
SMALL = DensePreprocessing(scale=(120, 80))


def noise(height, width, channels=3, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def opencv(image, long, short):
    """mmcv's imrescale and mmdet's Normalize, from RGB bytes."""
    height, width = image.shape[:2]
    scale = min(long / max(height, width), short / min(height, width))
    new = int(width * scale + 0.5), int(height * scale + 0.5)
    resized = cv2.resize(image, new, interpolation=cv2.INTER_LINEAR).astype(np.float32)
    mean = np.float64(np.array(COCO.mean, dtype=np.float32).reshape(1, -1))
    inverse = 1 / np.float64(np.array(COCO.std, dtype=np.float32).reshape(1, -1))
    cv2.subtract(resized, mean, resized)
    cv2.multiply(resized, inverse, resized)
    factor = np.array([new[0] / width, new[1] / height] * 2, dtype=np.float32)
    return resized.transpose(2, 0, 1), factor


@pytest.mark.parametrize("size", [(480, 640), (333, 500), (1200, 801), (64, 64), (20, 900), (2000, 1500)])
def test_every_bit_is_the_official_codes(size):
    image = noise(*size)
    prepared = create_transform(COCO)(image)
    expected, factor = opencv(image, 1333, 800)
    np.testing.assert_array_equal(prepared.pixels.numpy(), expected)
    assert prepared.image_size == expected.shape[1:] == tuple(prepared.pixels.shape[1:])
    assert prepared.original_size == size
    np.testing.assert_array_equal(np.array(prepared.scale_factor), factor.astype(np.float64))


def detectron2(image, long, short):
    """Its ResizeShortestEdge, and the normalisation of its models, from RGB bytes."""
    height, width = image.shape[:2]
    scale = short / min(height, width)
    new = (short, scale * width) if height < width else (scale * height, short)
    if max(new) > long:
        new = [side * long / max(new) for side in new]
    rows, columns = (int(side + 0.5) for side in new)
    resized = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.BILINEAR))
    mean, std = (torch.tensor(values)[:, None, None] for values in (COCO.mean, COCO.std))
    return (torch.from_numpy(resized.copy()).permute(2, 0, 1) - mean) / std


@pytest.mark.parametrize("size", [(480, 640), (333, 500), (1200, 801), (64, 64), (20, 900), (2000, 1500), (999, 1333)])
def test_with_antialiasing_it_is_detectron2s(size):
    image = noise(*size)
    prepared = create_transform(DensePreprocessing(antialias=True))(image)
    expected = detectron2(image, 1333, 800)
    assert prepared.pixels.shape == expected.shape
    torch.testing.assert_close(prepared.pixels, expected, rtol=0, atol=1e-6)
    assert prepared.original_size == size


def test_both_resizes_enlarge_alike_and_shrink_otherwise():
    image = noise(40, 60)
    plain, smooth = DensePreprocessing(scale=(120, 80)), DensePreprocessing(scale=(120, 80), antialias=True)
    level = 1 / min(COCO.std)
    assert (DenseTransform(plain)(image).pixels - DenseTransform(smooth)(image).pixels).abs().max() < 1.01 * level
    image = noise(400, 600)
    assert DenseTransform(plain)(image).pixels.std() > 3 * DenseTransform(smooth)(image).pixels.std()


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_antialiasing_takes_each_channel_by_itself(channels):
    image = noise(50, 70, channels)
    described = DensePreprocessing(scale=(35, 35), antialias=True, mean=(0.0,) * channels, std=(1.0,) * channels)
    prepared = DenseTransform(described)(torch.from_numpy(image).permute(2, 0, 1))
    for channel in range(channels):
        alone = Image.fromarray(image[:, :, channel]).resize((35, 25), Image.Resampling.BILINEAR)
        assert np.array_equal(prepared.pixels[channel].numpy(), np.asarray(alone, dtype=np.float32))


def test_all_levels_are_normalised_as_by_opencv():
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    expected, _ = opencv(image, 16, 16)
    np.testing.assert_array_equal(normalize_bytes(image, COCO).numpy(), expected)


def test_every_form_of_an_image_gives_the_same(tmp_path):
    array = noise(50, 70)
    picture = Image.fromarray(array)
    picture.save(tmp_path / "a.png")
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    transform = DenseTransform(SMALL)
    expected = transform(array)
    assert expected.image_size == (80, 112)
    for image in (
        picture,
        str(tmp_path / "a.png"),
        tmp_path / "a.png",
        stream.getvalue(),
        tensor,
        tensor.float() / 255,
        tensor.double() / 255 + 1e-4,  # rounded to 8 bits
    ):
        assert torch.equal(transform(image).pixels, expected.pixels)


def test_grey_and_colour_fit_the_model():
    grey_model = DenseTransform(DensePreprocessing(scale=None, mean=(0.0,), std=(1.0,)))
    colour_model = DenseTransform(DensePreprocessing(scale=None, mean=(0.0,) * 3, std=(1.0,) * 3))
    grey = noise(9, 11, 1)[:, :, 0]
    assert torch.equal(grey_model(grey).pixels, torch.from_numpy(grey)[None].float())
    assert torch.equal(colour_model(grey).pixels, torch.from_numpy(grey)[None].float().expand(3, -1, -1))
    colour = Image.fromarray(noise(9, 11))
    luma = torch.from_numpy(np.asarray(colour.convert("L")).astype(np.float32))
    assert torch.equal(grey_model(colour).pixels, luma[None])
    five = DenseTransform(DensePreprocessing(scale=None, mean=(0.0,) * 5, std=(1.0,) * 5))
    bytes_of_five = torch.from_numpy(noise(9, 11, 5)).permute(2, 0, 1)
    assert torch.equal(five(bytes_of_five).pixels, bytes_of_five.float())


@pytest.mark.parametrize("channels", [1, 3])
def test_a_white_level_holds_for_files_and_opened_images(channels, tmp_path):
    levels = np.linspace(0, 4095, 48).round().astype(np.uint16).reshape(6, 8)
    Image.fromarray(levels).save(tmp_path / "a.png")
    transform = DenseTransform(
        DensePreprocessing(scale=None, mean=(0.0,) * channels, std=(1.0,) * channels, white_level=4095)
    )
    for source in (tmp_path / "a.png", (tmp_path / "a.png").read_bytes(), Image.open(tmp_path / "a.png")):
        found = transform(source).pixels.numpy()
        np.testing.assert_array_equal(found, np.broadcast_to(np.floor(levels * 255.0 / 4095 + 0.5), found.shape))


def test_strips_keep_at_least_one_pixel():
    prepared = DenseTransform(COCO)(noise(1, 4000))
    assert prepared.image_size == (1, 1333)
    assert DenseTransform(COCO)(noise(1, 1)).image_size == (800, 800)


def test_what_is_no_image_is_refused(tmp_path):
    transform = DenseTransform(SMALL)
    with pytest.raises(ImageError, match="does not exist"):
        transform(tmp_path / "none.png")
    with pytest.raises(ImageError, match="ambiguous"):
        transform(np.zeros((4, 4, 3)))


def test_a_batch_is_padded_with_zeros_to_multiples():
    images = [torch.ones(3, 40, 33), torch.ones(3, 20, 64)]
    batch = pad_batch(images, 32)
    assert batch.shape == (2, 3, 64, 64)
    assert batch[0, :, :40, :33].eq(1).all() and batch[1, :, :20].eq(1).all()
    assert batch.sum() == 3 * (40 * 33 + 20 * 64)
    assert pad_batch(images, 1).shape == (2, 3, 40, 64)
    assert torch.equal(pad_batch([images[0]], 1)[0], images[0])
    assert padded_size((33, 64), 32) == (64, 64)
    with pytest.raises(ValueError, match="batch of no images"):
        pad_batch([], 32)


class TestCreateTransform:
    def model(self, task, preprocessing=SMALL):
        model = nn.Linear(1, 1)
        model.task = task
        model.preprocessing = preprocessing
        return model

    def test_for_evaluation(self):
        for task in ("detection", "segmentation"):
            transform = create_transform(self.model(task))
            assert isinstance(transform, DenseTransform) and transform.preprocessing is SMALL

    def test_for_training(self):
        transform = create_transform(self.model("detection"), train=True)
        assert isinstance(transform, DetectionTrainingTransform)
        assert transform.augmentation == DetectionAugmentation()
        augment = DetectionAugmentation(flip_prob=0)
        assert create_transform(self.model("detection"), train=True, augment=augment).augmentation is augment
        assert create_transform(SMALL, train=True, augment=augment).augmentation is augment
        transform = create_transform(self.model("segmentation"), train=True)
        assert isinstance(transform, SegmentationTrainingTransform)
        assert transform.augmentation == SegmentationAugmentation()
        none = SegmentationAugmentation.none()
        assert create_transform(SMALL, train=True, augment=none).augmentation is none

    def test_what_does_not_fit_is_refused(self):
        with pytest.raises(ValueError, match="is not for detection; give DetectionAugmentation"):
            create_transform(self.model("detection"), train=True, augment=Augmentation())
        with pytest.raises(ValueError, match="is not for classification; give Augmentation"):
            create_transform(Preprocessing.imagenet(32), train=True, augment=DetectionAugmentation())
        with pytest.raises(ValueError, match="train=True"):
            create_transform(self.model("detection"), augment=DetectionAugmentation())
        with pytest.raises(ValueError, match="does not say for which task"):
            create_transform(SMALL, train=True)
        with pytest.raises(ValueError, match=r"model\.preprocessing = DensePreprocessing\.coco\(\)"):
            create_transform(self.model("detection", None))
        with pytest.raises(ValueError, match=r"model\.preprocessing = DensePreprocessing\.ade20k\(\)"):
            create_transform(self.model("segmentation", None))
