"""Optimised models: the same answers for every task and size, and clear words for what they cannot do."""

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from tests.optimized import SMALL, assert_near, classifier, one_thread, randomised
from torch import Tensor, nn

import swin_transformer_pytorch as swin
from swin_transformer_pytorch.backbone.attention import WindowAttention
from swin_transformer_pytorch.backbone.layers import Mlp, PatchEmbed
from swin_transformer_pytorch.backbone.swin import SwinBlock
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.models.config import DetectorConfig, SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.detection import Detector
from swin_transformer_pytorch.ops.cpu.library import why_not
from swin_transformer_pytorch.optimize import FusedLinear, OptimizeError, convolution, linear, optimize_for_inference
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

__all__ = ["one_thread"]  # a fixture of each test here


def detector() -> Detector:
    config = DetectorConfig(method="mask_rcnn", backbone=SMALL, num_classes=3, fpn_dim=8, fc_dim=16)
    model = randomised(build(ModelDescription(config=config, preprocessing=DensePreprocessing(scale=None))))
    with torch.no_grad():  # an untrained detector's predictions differ little from place to place
        model.rpn_head.rpn_cls.weight.mul_(30)
        model.roi_head.bbox_head.fc_cls.weight.mul_(30)
    return model


VERSIONS = [
    {},
    {"qkv_bias": False},
    {"single_window": "keep"},
    {"window_size": (2, 5)},
    {"patch_size": (2, 3)},
    {"version": 2},
    {"version": 2, "qkv_bias": False, "window_size": (3, 4)},
]


@pytest.fixture(params=["own", "torch"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The form of linear layers with those products, where this machine can have it."""
    monkeypatch.setenv("SWIN_PRODUCTS", request.param)
    if request.param == "own":
        if why_not() is not None:
            pytest.skip(f"no CPU kernel here: {why_not()}")
        return "panels"
    return "onednn" if torch.backends.mkldnn.is_available() else "plain"


@pytest.mark.parametrize("changes", VERSIONS)
@pytest.mark.parametrize("size", [(3, 64, 64), (1, 37, 90), (2, 9, 5)])
def test_same_logits_at_any_size(changes: dict[str, Any], size: tuple[int, int, int], form: str) -> None:
    model = classifier(**changes)
    fast = swin.optimize_for_inference(model)
    assert form in {module.form for module in fast.modules() if isinstance(module, FusedLinear)}
    images = torch.randn(size[0], 3, *size[1:])
    with torch.inference_mode():
        assert_near(fast(images), model(images))


def test_same_logits_in_pieces() -> None:
    # More tokens than a piece holds: of a batch in the first stage, and of a single image.
    model = classifier(patch_size=1, depths=(2, 1, 1))
    fast = optimize_for_inference(model)
    for size in [(5, 3, 40, 40), (1, 3, 70, 70)]:
        images = torch.randn(size)
        with torch.inference_mode():
            assert_near(fast(images), model(images))


@pytest.mark.parametrize("version", [1, 2])
def test_same_logits_in_half_precision(version: int) -> None:
    model = classifier(version=version)
    images = torch.randn(2, 3, 50, 64)
    with torch.inference_mode():
        expected = model(images)
        got = optimize_for_inference(model, torch.bfloat16)(images.bfloat16())
        assert got.dtype == torch.bfloat16
        assert_near(got.float(), expected, 5e-2)
        assert_near(optimize_for_inference(model, torch.float64)(images.double()).float(), expected)


def test_biases_are_not_rounded_before_they_are_computed() -> None:
    fast = optimize_for_inference(classifier(version=2), torch.bfloat16)
    (bias, *_) = [module.bias for module in fast.modules() if type(module).__name__ == "FastBlock"]
    assert bias.dtype == torch.float32
    assert not torch.equal(bias, bias.bfloat16().float())


def test_same_maps_of_a_backbone() -> None:
    model = randomised(swin.create_backbone("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1), embed_dim=24))
    fast = swin.optimize_for_inference(model)
    assert fast.channels == model.channels
    images = torch.randn(2, 3, 70, 100)
    with torch.inference_mode():
        for got, expected in zip(fast(images), model(images), strict=True):
            assert_near(got, expected)


def test_same_segmentation_with_norms_folded() -> None:
    config = SegmenterConfig(backbone=SMALL, num_classes=4, decode_dim=8, auxiliary_dim=8, auxiliary_index=1)
    model = randomised(build(ModelDescription(config=config)))
    fast = optimize_for_inference(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    images = torch.randn(2, 3, 64, 90)
    with torch.inference_mode():
        assert_near(fast(images), model(images))


def test_same_detections() -> None:
    model = detector()
    fast = optimize_for_inference(model)
    images = torch.randn(2, 3, 96, 128)
    with torch.inference_mode():
        for got, expected in zip(fast(images), model(images), strict=True):
            assert len(expected.scores)
            assert torch.equal(got.labels, expected.labels)
            torch.testing.assert_close(got.scores, expected.scores, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(got.boxes_xyxy, expected.boxes_xyxy, rtol=1e-4, atol=1e-2)
            torch.testing.assert_close(got.masks, expected.masks, rtol=1e-4, atol=1e-4)


def test_a_layer_that_gets_nothing(form: str) -> None:
    layer = FusedLinear(torch.randn(16, 32), torch.randn(16))
    assert layer.form == form
    assert layer(torch.empty(2, 0, 32)).shape == (2, 0, 16)


def test_images_of_another_dtype_are_an_error(form: str) -> None:
    fast = optimize_for_inference(classifier())
    for dtype in (torch.float64, torch.float16):
        with pytest.raises(OptimizeError, match=f"got {dtype} and takes torch.float32"):
            fast(torch.randn(2, 3, 64, 64, dtype=dtype))


@pytest.mark.usefixtures("form")
def test_autocast_may_round_before_it() -> None:
    layer, x = FusedLinear(torch.randn(16, 32), torch.randn(16)), torch.randn(5, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert_near(layer(x.bfloat16()), layer(x), 5e-2)
    images = torch.rand(2, 3, 64, 64)
    model = classifier()
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert_near(optimize_for_inference(model)(images).float(), model(images).float(), 5e-2)


def test_panels_mean_nothing_on_another_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIN_PRODUCTS", "own")
    layer = FusedLinear(torch.randn(16, 32), None)
    if layer.form != "panels":
        pytest.skip("no CPU kernel here")
    x = torch.randn(3, 32)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))  # which goes the way of pickle
    monkeypatch.setattr(linear, "panel_layout", lambda: "another")
    with pytest.raises(OptimizeError, match="another kind of processor"):
        copy.deepcopy(layer)


@pytest.mark.parametrize(("in_channels", "kernel_size"), [(None, 0), (4, 3), (3, 1)])
def test_what_onednn_has_packed_is_copied_and_saved(
    in_channels: int | None, kernel_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "has_packed_linear", lambda _: False)
    monkeypatch.setattr(convolution, "has_packed_convolution", lambda _: False)
    monkeypatch.setattr(convolution, "is_pointwise_convolution", lambda _: False)
    layer: linear.FusedLinear | convolution.FastConvolution
    if in_channels is None:
        layer, x = FusedLinear(torch.randn(16, 32), torch.randn(16)), torch.randn(3, 32)
    else:
        conv = torch.nn.Conv2d(in_channels, 8, kernel_size, stride=2, padding=1)
        layer, x = convolution.FastConvolution(conv), torch.randn(2, in_channels, 13, 9)
    if layer.form != "onednn":
        pytest.skip("no oneDNN here")
    expected = layer(x)
    for again in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):  # noqa: S301  # our own
        assert again.weight.is_mkldnn
        assert torch.equal(again(x), expected)


def test_predictor_takes_it() -> None:
    model = classifier()
    model.preprocessing = swin.create_model("swin_tiny_patch4_window7_224", depths=(1, 1, 1, 1)).preprocessing
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    fast = swin.Predictor(swin.optimize_for_inference(model), device="cpu")(image)
    slow = swin.Predictor(model, device="cpu")(image)
    assert fast.names == slow.names
    np.testing.assert_allclose(fast.scores, slow.scores, rtol=1e-3)


def test_the_model_is_left_as_it_is() -> None:
    model = classifier().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fast = optimize_for_inference(model)
    assert model.training and not fast.training
    assert isinstance(fast, SwinClassifier) and fast.classes == model.classes
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not fast(torch.randn(1, 3, 32, 32)).requires_grad


def test_what_it_cannot_do() -> None:
    model = classifier()
    fast = optimize_for_inference(model)
    assert fast.to("cpu", torch.float32) is fast
    with pytest.raises(OptimizeError, match="cannot go from cpu and torch.float32 to cpu and torch.float16"):
        fast.half()
    with pytest.raises(OptimizeError, match="has no state dict: save the model"):
        fast.state_dict()
    with pytest.raises(OptimizeError, match="optimised already"):
        optimize_for_inference(fast)
    with pytest.raises(OptimizeError, match="Linear holds no Swin"):
        optimize_for_inference(nn.Linear(2, 2))
    with pytest.raises(OptimizeError, match=r"dtype=torch.int8 is not possible: use torch.float32"):
        optimize_for_inference(model, torch.int8)


# In a process of its own: Dynamo does not trace the tests' check of annotated shapes. `aot_eager` traces all that the
# default backend does, in seconds instead of minutes.
COMPILED = """
import functools, torch
from swin_transformer_pytorch import SwinConfig, optimize_for_inference
from swin_transformer_pytorch.models.classification import SwinClassifier

torch.nn.Module.compile = functools.partialmethod(torch.nn.Module.compile, backend="aot_eager", fullgraph=True)
config = SwinConfig(version={version}, embed_dim=8, depths=(2,), num_heads=(1,), window_size=3)
model = SwinClassifier(config, num_classes=5).eval()
fast = optimize_for_inference(model, compile=True)
images = torch.randn(2, 3, 30, 41)
with torch.inference_mode():
    torch.testing.assert_close(fast(images), model(images), rtol=1e-4, atol=1e-4)
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
def test_compiled(version: int) -> None:
    done = subprocess.run([sys.executable, "-c", COMPILED.format(version=version)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class LoRA(nn.Module):
    """An adapter that takes its layer's weight itself, as some do."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.delta = nn.Parameter(0.2 * torch.randn_like(base.weight))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.base.weight + self.delta, self.base.bias)


class LinearWithMore(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x) + 0.5


class OtherBlock(SwinBlock):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def hooked(module: nn.Module) -> None:
    module.register_forward_hook(lambda module, inputs, out: 1.5 * out + 0.1)


def patched(module: nn.Module) -> None:
    original = module.forward
    module.forward = lambda *inputs: 1.5 * original(*inputs) + 0.1


def of_another_class(module: nn.Module) -> None:
    """As when a block is replaced by one that is derived from ours, or a layer by an adapter's."""
    module.__class__ = {nn.Linear: LinearWithMore, SwinBlock: OtherBlock}[type(module)]


def adapted(module: nn.Linear) -> nn.Module:
    return LoRA(module)


def normed(module: nn.Linear) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(module)


LAYERS = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
BLOCK = "layers.1.blocks.1"
CHANGES = [
    *[
        (f"{BLOCK}.{layer}", change)
        for layer in LAYERS
        for change in (hooked, patched, adapted, normed, of_another_class)
    ],
    *[(name, hooked) for name in (BLOCK, f"{BLOCK}.attn", f"{BLOCK}.mlp", f"{BLOCK}.drop_path", f"{BLOCK}.norm1")],
    *[(name, patched) for name in (BLOCK, f"{BLOCK}.attn", f"{BLOCK}.mlp", "layers.1", "patch_embed")],
    (BLOCK, of_another_class),
    *[
        (name, hooked)
        for name in ("patch_embed", "patch_embed.proj", "layers.0.downsample.reduction", "layers.0", "head")
    ],
    *[(name, adapted) for name in ("layers.0.downsample.reduction", "head")],
]


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_what_is_not_as_it_was_made_stays(name: str, change: Any, version: int, form: str) -> None:
    model = classifier(version=version)
    torch.manual_seed(1)
    module = model.get_submodule(name)
    stand_in = change(module)
    if stand_in is not None:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, stand_in)
    images = torch.randn(2, 3, 37, 90)
    fast = optimize_for_inference(model)
    with torch.inference_mode():
        expected = model(images)
        assert_near(fast(images), expected)
    # All the others are in their fastest form.
    assert form in {module.form for module in fast.modules() if isinstance(module, FusedLinear)}
    assert sum(type(module).__name__ == "FastBlock" for module in fast.modules()) >= 4


def test_another_first_convolution() -> None:
    model = classifier()
    model.patch_embed.proj = nn.Conv2d(3, 16, 7, stride=4, padding=2)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        assert_near(optimize_for_inference(model)(images), model(images))


def test_patched_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (WindowAttention, Mlp, SwinBlock, PatchEmbed):
        with monkeypatch.context() as patch:
            original = kind.forward
            patch.setattr(kind, "forward", lambda self, *inputs, original=original: 1.5 * original(self, *inputs))
            model = classifier()
            images = torch.randn(1, 3, 40, 40)
            with torch.inference_mode():
                assert_near(optimize_for_inference(model)(images), model(images))


def test_another_convolution_or_norm_of_a_head() -> None:
    config = SegmenterConfig(backbone=SMALL, num_classes=4, decode_dim=8, auxiliary_dim=8, auxiliary_index=1)
    model = randomised(build(ModelDescription(config=config)))
    hooked(model.decode_head.fpn_convs[0].conv)
    hooked(model.decode_head.lateral_convs[0].bn)
    hooked(model.decode_head.bottleneck)
    model.decode_head.fpn_convs[1].bn = nn.GroupNorm(2, 8)
    images = torch.randn(2, 3, 64, 90)
    with torch.inference_mode():
        assert_near(optimize_for_inference(model)(images), model(images))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")  # PyTorch's forward mode
@pytest.mark.parametrize("version", [1, 2])
def test_derivatives_are_refused_and_not_left_out(version: int, form: str) -> None:
    model = classifier(version=version)
    fast = optimize_for_inference(model)
    images = torch.randn(2, 3, 40, 40)
    calls = [
        lambda: fast(images.clone().requires_grad_()),
        lambda: torch.func.jvp(fast, (images,), (images,)),
        lambda: torch.func.vmap(lambda x: fast(x[None]))(images),
        lambda: torch.func.grad(lambda x: fast(x).sum())(images),
    ]
    for call in calls:
        if form == "plain":
            call()
        else:
            with pytest.raises(OptimizeError, match="no derivatives.*use the model that it was made from"):
                call()
    with torch.no_grad():
        assert_near(fast(images.clone().requires_grad_()), model(images))
