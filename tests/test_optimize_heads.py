"""Heads of optimised detectors and segmenters, and one large map in bands: the answers of the models they come from."""

import copy
import dataclasses
from contextlib import nullcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.optimized import SMALL, assert_near, classifier, one_thread, randomised
from torch import nn

from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import DetectorConfig, SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.detection import Detector
from swin_transformer_pytorch.optimize import FusedLinear, OptimizeError, optimize_for_inference
from swin_transformer_pytorch.optimize import stages as stage_forms
from swin_transformer_pytorch.optimize import swin as swin_forms
from swin_transformer_pytorch.optimize.convolution import FastConvolution, FastLevels
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

__all__ = ["one_thread"]  # a fixture of each test here


def wide_detector(method: str = "mask_rcnn", version: int = 1) -> Detector:
    """With heads of so many channels that they take the package's own convolutions."""
    config = DetectorConfig(
        method=method,
        backbone=SMALL.replace(version=version),
        num_classes=3,
        fpn_dim=64,
        fc_dim=16,
        score_threshold=0.1,
    )
    model = randomised(build(ModelDescription(config=config, preprocessing=DensePreprocessing(scale=None))))
    with torch.no_grad():
        model.rpn_head.rpn_cls.weight.mul_(30)
    return model


def forms(model: nn.Module) -> set[str]:
    return {module.form for module in model.modules() if isinstance(module, FastConvolution)}


@pytest.mark.parametrize(
    ("method", "version"), [("mask_rcnn", 1), ("mask_rcnn", 2), ("cascade_mask_rcnn", 1), ("htc", 1)]
)
def test_same_raw_predictions_of_a_detectors_heads(method: str, version: int) -> None:
    """Before anything is chosen: rounding may choose otherwise where scores are equal."""
    model = wide_detector(method, version)
    fast = optimize_for_inference(model)
    assert not any(type(module) in (nn.Conv2d, nn.Linear) for module in fast.modules())
    for size in [(2, 3, 96, 128), (1, 3, 37, 90)]:
        images = torch.randn(size)
        with torch.inference_mode():
            expected, got = model.extract(images), fast.extract(images)
            for one, other in zip(got, expected, strict=True):
                assert_near(one, other)
            assert_near(fast.rpn_head(got).logits, model.rpn_head(expected).logits)
            assert_near(fast.rpn_head(got).deltas, model.rpn_head(expected).deltas)
            regions = [torch.rand(7, 4).cumsum(1) * 20 for _ in images]
            sizes = [size[2:]] * len(images)
            labels = [torch.arange(7) % 3 for _ in images]
            heads = [
                (
                    one.roi_head.forward_boxes(e.boxes, regions, sizes),
                    one.roi_head.forward_masks(e.masks, regions, labels),
                )
                for one, e in ((fast, fast.roi_head.extractors(got)), (model, model.roi_head.extractors(expected)))
            ]
            for mine, plain in zip(heads[0][0], heads[1][0], strict=True):
                assert_near(mine.logits, plain.logits)
                assert_near(mine.deltas, plain.deltas)
            for mine, plain in zip(heads[0][1], heads[1][1], strict=True):
                assert_near(mine, plain)


def test_same_segmentation_with_levels_packed() -> None:
    config = SegmenterConfig(backbone=SMALL, num_classes=4, decode_dim=64, auxiliary_dim=8, auxiliary_index=1)
    model = randomised(build(ModelDescription(config=config)))
    fast = optimize_for_inference(model)
    assert isinstance(fast.decode_head.fpn_bottleneck, FastLevels)
    for size in [(2, 3, 64, 90), (1, 3, 150, 131), (1, 3, 8, 8)]:
        images = torch.randn(size)
        with torch.inference_mode():
            assert_near(fast(images), model(images))
    images = torch.randn(2, 3, 64, 90)
    with torch.inference_mode():
        half = optimize_for_inference(model, torch.bfloat16)(images.bfloat16())
        assert_near(half.float(), model(images), 5e-2)


HEAD_CHANGES = [
    (name, change)
    for name in (
        "neck.lateral_convs.0.conv", "neck.fpn_convs.0.conv", "neck.fpn_convs.1", "neck", "rpn_head.rpn_conv",
        "rpn_head.rpn_cls", "roi_head.mask_head.convs.0.conv", "roi_head.mask_head.conv_logits",
    )
    for change in ("hooked", "patched")
]  # fmt: skip


@pytest.mark.parametrize(("name", "change"), HEAD_CHANGES)
def test_heads_that_are_not_as_they_were_made_stay(name: str, change: str) -> None:
    model = wide_detector()
    called = []

    def note(*_: object) -> None:
        called.append(name)

    module = model.get_submodule(name)
    if change == "hooked":
        module.register_forward_hook(note)
    else:
        original = module.forward
        module.forward = lambda *inputs: (note(), original(*inputs))[1]
    fast = optimize_for_inference(model)
    images = torch.randn(1, 3, 96, 128)
    with torch.inference_mode():
        expected, got = model(images), fast(images)
    assert called and len(called) % 2 == 0
    assert len(got[0]) == len(expected[0])
    assert forms(fast)


@pytest.mark.parametrize("method", ["mask_rcnn", "cascade_mask_rcnn"])
def test_a_detector_that_finds_nothing(method: str) -> None:
    model = wide_detector(method)
    model.roi_head.rules = dataclasses.replace(model.roi_head.rules, score_threshold=1.0)
    for one in (model, optimize_for_inference(model)):
        (found,) = one(torch.randn(1, 3, 64, 64))
        assert len(found) == 0 and found.masks.shape == (0, 28, 28)
    fast = optimize_for_inference(model)
    layer = next(module for module in fast.roi_head.modules() if isinstance(module, FusedLinear))
    assert layer(torch.empty(0, layer.in_features)).shape == (0, layer.out_features)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(64, 96, 3, padding=1),
        nn.Conv2d(64, 96, 1, bias=False),
        nn.Conv2d(64, 96, 5, stride=2, padding=1, dilation=2, groups=4),
        nn.Conv2d(5, 7, 3, padding=1),
        nn.Conv2d(8, 8, (1, 3), padding=(0, 1)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_convolution_of_any_form(layer: nn.Conv2d, dtype: torch.dtype) -> None:
    layer = copy.deepcopy(layer).to(dtype)
    fast = FastConvolution(layer)
    for size in [(2, 21, 18), (1, 40, 33), (0, 12, 12)]:
        x = torch.randn(size[0], layer.in_channels, *size[1:], dtype=dtype)
        with torch.inference_mode():
            expected, got = layer(x), fast(x, relu=True)
            assert got.dtype == dtype and got.shape == expected.shape
            if len(x):
                assert_near(got.double(), expected.relu().double(), 1e-5 if dtype != torch.bfloat16 else 2e-2)
    with pytest.raises(OptimizeError, match="no derivatives") if fast.form != "plain" else nullcontext():
        fast(torch.randn(1, layer.in_channels, 12, 12, dtype=dtype, requires_grad=True))


@settings(max_examples=12, deadline=None)
@given(size=st.tuples(st.integers(1, 60), st.integers(1, 60)), batch=st.integers(1, 2), version=st.sampled_from([1, 2]))
def test_same_map_in_bands(size: tuple[int, int], batch: int, version: int) -> None:
    model = classifier(version=version, patch_size=1, depths=(2, 2), num_heads=(2, 2), window_size=(4, 3))
    with pytest.MonkeyPatch.context() as patch:
        for module in (swin_forms, stage_forms):
            patch.setattr(module, "PIECE_TOKENS", 150)
        fast, images = optimize_for_inference(model), torch.randn(batch, 3, *size)
        with torch.inference_mode():
            assert_near(fast(images), model(images))
