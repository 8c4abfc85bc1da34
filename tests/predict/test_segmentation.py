"""A class for each pixel of images of any size."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from swin_transformer_pytorch.data.images.dense_transforms import DenseTransform
from swin_transformer_pytorch.models.segmentation_inference import segment_multi_scale, segment_sliding
from swin_transformer_pytorch.predict import Predictor
from swin_transformer_pytorch.results import SegmentationMap


@torch.no_grad()
def reference(model, image):
    """Whole inference as the official code has it: two resizes, then the largest."""
    prepared = DenseTransform(model.preprocessing)(image)
    logits = model.eval()(prepared.pixels[None])
    for size in (prepared.image_size, prepared.original_size):
        logits = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    return logits[0].argmax(0).numpy()


def test_a_result_is_the_model_s_at_the_image_s_own_size(segmenter, images):
    result = Predictor(segmenter, device="cpu")(images[0])
    assert isinstance(result, SegmentationMap)
    assert result.labels.dtype == np.uint8
    assert result.names == segmenter.classes
    assert result.palette == segmenter.palette
    assert (result.labels == reference(segmenter, images[0])).mean() > 0.999  # ties by rounding


@pytest.mark.parametrize("options", [{}, {"mode": "slide", "crop_size": (48, 64)}, {"flip": True}])
def test_images_of_any_size_get_what_they_get_alone(segmenter, images, options):
    predictor = Predictor(segmenter, device="cpu", batch_size=5, **options)
    images = images[1:] if not options else images[3:]
    for image, together in zip(images, predictor(images), strict=True):
        assert together.image_size == image.size[::-1]
        assert (together.labels == predictor(image).labels).mean() > 0.999


def test_several_ratios_and_mirror_images(segmenter, images):
    result = Predictor(segmenter, device="cpu", multi_scale=True, flip=True)(images[4])
    views = []
    for ratio in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75):
        scale = (int(128 * ratio), int(48 * ratio))
        views.append(DenseTransform(dataclasses.replace(segmenter.preprocessing, scale=scale))(images[4]).pixels)
    expected = segment_multi_scale(segmenter.eval(), views, (40, 33), flip=True)
    np.testing.assert_array_equal(result.labels, expected)


def test_windows_see_large_images_as_they_are_and_enlarge_small_ones(segmenter):
    rng = np.random.default_rng(0)
    large = rng.integers(0, 256, (60, 100, 3), dtype=np.uint8)
    result = Predictor(segmenter, device="cpu", mode="slide")(large)
    pixels = DenseTransform(dataclasses.replace(segmenter.preprocessing, scale=None))(large).pixels
    assert pixels.shape[1:] == (60, 100)
    np.testing.assert_array_equal(result.labels, segment_sliding(segmenter.eval(), pixels, (48, 48), (32, 32)))
    small = Image.fromarray(large[:30, :40])
    covered = Predictor(segmenter, device="cpu", mode="slide", crop_size=(200, 200), stride=(99, 99))(small)
    whole = Predictor(segmenter, device="cpu")(small)
    assert (covered.labels == whole.labels).mean() > 0.999


def test_models_without_names_or_size(segmenter, images):
    segmenter.classes = segmenter.palette = None
    segmenter.preprocessing = dataclasses.replace(segmenter.preprocessing, scale=None)
    result = Predictor(segmenter, device="cpu", mode="slide", multi_scale=False)(images[0])
    assert result.names[10] == "class 10"
    assert result.palette is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "tiles"}, "mode='tiles' is not known"),
        ({"mode": "slide", "flip": True}, "has one view"),
        ({"crop_size": (32, 32)}, "are for windows"),
    ],
)
def test_options_that_do_not_go_together(segmenter, options, message):
    with pytest.raises(ValueError, match=message):
        Predictor(segmenter, device="cpu", **options)
