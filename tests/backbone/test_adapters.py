"""Researchers change our layers: what stands in a layer's place, or hooks it, is part of the answer and its gradients.

Each change is made to a model and to the official way of computing, which is written out below.
"""

import copy
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from swin_transformer_pytorch.backbone.attention import WindowAttentionV2
from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.backbone.swin import SwinBlock
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.ops import merge, partition, recompute, shift_mask

DIM = 32
Change = Callable[[nn.Module], nn.Module | None]


class LoRA(nn.Module):
    """As adapters are built: the layer inside, its weights hidden."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, 4, bias=False)
        self.up = nn.Linear(4, base.out_features, bias=False)
        nn.init.normal_(self.up.weight, std=0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


class LoRALinear(nn.Linear):
    """The other way adapters are built: a linear layer whose weight is not all there is."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(base.in_features, base.out_features, bias=base.bias is not None)
        self.load_state_dict(base.state_dict())
        self.delta = nn.Parameter(torch.randn_like(base.weight) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight + self.delta, self.bias)


class Shifted(nn.Module):
    """What it gives for zeros is no bias of the layer."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.before = base, nn.Parameter(torch.randn(base.in_features) * 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.base((x + self.before).tanh())


class DoubledWeight(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def parametrised(layer: nn.Module) -> None:
    parametrize.register_parametrization(layer, "weight", DoubledWeight())


def patched(layer: nn.Module) -> None:
    original = layer.forward
    layer.forward = lambda x: 3 * original(x) + 0.5  # as offloading and quantisation do


def hooked(layer: nn.Module) -> None:
    layer.register_forward_hook(lambda module, inputs, out: 3 * out + 0.5)


def hooked_in_place(layer: nn.Module) -> None:
    layer.register_forward_hook(lambda module, inputs, out: out.mul_(3).add_(0.5))


def hooked_before(layer: nn.Module) -> None:
    layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 3 + 0.5,))


def hooked_backward(layer: nn.Module) -> None:
    layer.register_full_backward_hook(lambda module, grads, grads_out: tuple(2 * grad for grad in grads))


LINEAR_CHANGES: list[Change] = [
    LoRA,
    LoRALinear,
    Shifted,
    lambda layer: nn.Sequential(layer, nn.LayerNorm(layer.out_features)),
    lambda layer: nn.Sequential(
        nn.Linear(layer.in_features, 8), nn.ReLU(inplace=True), nn.Linear(8, layer.out_features)
    ),
    lambda layer: nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is None),
    parametrised,
    lambda layer: parametrizations.weight_norm(layer),
    lambda layer: parametrizations.spectral_norm(layer).eval(),
    lambda layer: prune.random_unstructured(layer, "weight", amount=0.5),
    lambda layer: prune.l1_unstructured(layer, "bias" if layer.bias is not None else "weight", amount=0.3),
    patched,
    hooked,
    hooked_in_place,
    hooked_before,
    hooked_backward,
]


class ScaledNorm(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x + 1)


class WrappedNorm(nn.Module):
    """Keeps a frozen copy beside the norm, say, and has no weight of its own."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.inner = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x) * 2


NORM_CHANGES: list[Change] = [
    lambda norm: ScaledNorm(norm.normalized_shape),
    WrappedNorm,
    lambda norm: nn.Sequential(norm, nn.Tanh()),
    lambda norm: nn.RMSNorm(norm.normalized_shape),
    lambda norm: nn.Identity(),
    lambda norm: nn.LayerNorm(norm.normalized_shape, eps=0.1, elementwise_affine=False),
    lambda norm: nn.LayerNorm(norm.normalized_shape, bias=False),
    parametrised,
    patched,
    hooked,
    hooked_in_place,
    hooked_before,
    hooked_backward,
]


def official_attention(attn: nn.Module, x: Tensor, window: tuple[int, int], shift: tuple[int, int]) -> Tensor:
    """Pad, shift, cut, project, attend, and all that backwards, as in the official code: each layer called once."""
    batch, height, width, channels = x.shape
    x = F.pad(x, (0, 0, 0, -width % window[1], 0, -height % window[0]))
    size = (x.shape[1], x.shape[2])
    windows = partition(x.roll((-shift[0], -shift[1]), (1, 2)), window).flatten(0, 1)
    qkv = attn.qkv(windows)
    v2 = isinstance(attn, WindowAttentionV2)
    if v2 and attn.q_bias is not None:
        qkv = qkv + torch.cat([attn.q_bias, torch.zeros_like(attn.v_bias), attn.v_bias])
    q, k, v = qkv.unflatten(-1, (3, attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
    if v2:
        scores = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT * attn.score_scale()[:, None, None]
    else:
        scores = q @ k.mT / q.shape[-1] ** 0.5
    mask = shift_mask(size, window, shift, device=x.device, dtype=x.dtype)
    scores = scores + attn.relative_position_bias(window)
    scores = (scores.unflatten(0, (batch, -1)) + mask[:, None]).flatten(0, 1)
    out = attn.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    out = merge(out.unflatten(0, (batch, -1)), size, window).roll(shift, (1, 2))
    return out[:, :height, :width]


def official_mlp(mlp: nn.Module, x: Tensor) -> Tensor:
    return mlp.fc2(F.gelu(mlp.fc1(x)))


def official_block(block: SwinBlock, x: Tensor) -> Tensor:
    window = block.window_size
    shift = (window[0] // 2, window[1] // 2) if block.shifted else (0, 0)
    if block.norm_first:
        x = x + official_attention(block.attn, block.norm1(x), window, shift)
        return x + official_mlp(block.mlp, block.norm2(x))
    x = x + block.norm1(official_attention(block.attn, x, window, shift))
    return x + block.norm2(official_mlp(block.mlp, x))


def make_block(version: int, dtype: torch.dtype) -> SwinBlock:
    config = SwinConfig(
        version=version,  # type: ignore[arg-type]
        embed_dim=DIM,
        depths=(2,),
        num_heads=(2,),
        window_size=(4, 3),
        single_window="keep",
        drop_path_rate=0.0,
        mlp_ratio=2,
    )
    torch.manual_seed(0)
    block = SwinBlock(config, 0, shifted=True, drop_path_rate=0.0).to(dtype)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.3)
    return block


def apply(block: nn.Module, name: str, change: Change) -> None:
    parent, _, child = name.rpartition(".")
    layer = block.get_submodule(name)
    torch.manual_seed(1)
    stand_in = change(layer)
    if stand_in is not None and stand_in is not layer:
        setattr(block.get_submodule(parent), child, stand_in.to(next(block.parameters()).dtype))


def gradients(block: nn.Module, out: Tensor, x: Tensor) -> dict[str, Tensor]:
    wanted = {"x": x, **{name: p for name, p in block.named_parameters() if p.requires_grad}}
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(out.dtype)
    found = torch.autograd.grad(out, list(wanted.values()), upstream, allow_unused=True)
    return {name: grad for name, grad in zip(wanted, found, strict=True) if grad is not None}


def check_block(version: int, name: str, change: Change, dtype: torch.dtype) -> None:
    """On a map that windows do not fill, in float64 by PyTorch's operators and in float32 by our own."""
    block = make_block(version, dtype)
    apply(block, name, change)
    x = torch.randn(2, 14, 13, DIM, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    ours, theirs = (x.to(dtype).requires_grad_() for _ in range(2))
    out, expected = block(ours), official_block(block, theirs)
    tolerance = 1e-9 if dtype == torch.float64 else 2e-4
    torch.testing.assert_close(out, expected, rtol=tolerance, atol=tolerance)
    got, wanted = gradients(block, out, ours), gradients(block, expected, theirs)
    assert got.keys() == wanted.keys()
    for key, grad in wanted.items():
        size = grad.abs().max() + 1
        torch.testing.assert_close(
            got[key] / size, grad / size, rtol=0, atol=tolerance, msg=lambda text, key=key: f"{key}: {text}"
        )


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """In float32 the products of this package are taken, where they can be, whatever the processor."""
    monkeypatch.setenv("SWIN_PRODUCTS", "own")
    found: torch.dtype = request.param
    return found


def untouched(layer: nn.Module) -> None:
    """No change: what is compared is right."""


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"])
@pytest.mark.parametrize("change", [untouched, *LINEAR_CHANGES], ids=range(1 + len(LINEAR_CHANGES)))
def test_linear_layers_of_a_block(version: int, name: str, change: Change, dtype: torch.dtype) -> None:
    check_block(version, name, change, dtype)


@pytest.mark.parametrize("version", [1, 2])
def test_a_stand_in_that_changes_what_it_gets(version: int, dtype: torch.dtype) -> None:
    """Which is GELU's output, that the backward pass would compute again."""
    check_block(version, "mlp.fc2", lambda layer: nn.Sequential(nn.Hardtanh(-0.1, 0.5, inplace=True), layer), dtype)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", ["norm1", "norm2"])
@pytest.mark.parametrize("change", [untouched, *NORM_CHANGES], ids=range(1 + len(NORM_CHANGES)))
def test_norms_of_a_block(version: int, name: str, change: Change, dtype: torch.dtype) -> None:
    check_block(version, name, change, dtype)


@pytest.mark.parametrize("name", ["attn.cpb_mlp.0", "attn.cpb_mlp.2"])
@pytest.mark.parametrize("change", LINEAR_CHANGES[:-1], ids=range(len(LINEAR_CHANGES) - 1))
def test_the_bias_mlp_of_version_2(name: str, change: Change) -> None:
    check_block(2, name, change, torch.float64)


def global_hook(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
    return 1.5 * out + 0.1 if isinstance(module, nn.Linear | nn.LayerNorm) else None


@pytest.mark.parametrize("version", [1, 2])
def test_hooks_on_all_modules(version: int, dtype: torch.dtype) -> None:
    handle = nn.modules.module.register_module_forward_hook(global_hook)
    try:
        check_block(version, "mlp.fc1", untouched, dtype)
    finally:
        handle.remove()


@pytest.mark.parametrize("kind", [nn.LayerNorm, nn.Linear])
def test_a_class_whose_forward_is_patched(
    kind: type[nn.Module], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = kind.forward
    monkeypatch.setattr(kind, "forward", lambda self, x: 2 * original(self, x) + 0.5)
    check_block(1, "mlp.fc1", untouched, dtype)


@pytest.mark.parametrize("change", [untouched, *NORM_CHANGES], ids=range(1 + len(NORM_CHANGES)))
@pytest.mark.parametrize("version", [1, 2])
def test_patch_embedding_and_merging(version: int, change: Change) -> None:
    """Recomputed norms against stored ones."""
    grads = []
    for stored in (False, True):
        config = SwinConfig(version=version, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4)  # type: ignore[arg-type]
        torch.manual_seed(0)
        model = SwinClassifier(config, num_classes=3).double()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
        apply(model, "patch_embed.norm", change)
        apply(model, "layers.0.downsample.norm", change)
        images = torch.randn(2, 3, 30, 41, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        with pytest.MonkeyPatch.context() as patch:
            if stored:
                patch.setattr(recompute, "_is_wanted", lambda tensor: False)
            model(images).square().sum().backward()
        grads.append([p.grad for p in model.parameters() if p.grad is not None])
    assert len(grads[0]) == len(grads[1]) > 30
    for got, expected in zip(*grads, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def test_a_first_convolution_of_another_kind() -> None:
    model = SwinClassifier(SwinConfig(embed_dim=8, depths=(1,), num_heads=(1,), window_size=4), num_classes=3)
    images = torch.randn(1, 3, 32, 32)
    plain = model(images)
    model.patch_embed.proj = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 4, 4))
    assert model(images).shape == plain.shape
    model.patch_embed.proj = nn.Conv2d(5, 8, 4, 4)
    assert model(torch.randn(1, 5, 32, 32)).shape == plain.shape
    with pytest.raises(ValueError, match=r"takes \(batch, 5, height, width\)"):
        model(images)


@pytest.mark.parametrize("version", [1, 2])
def test_a_stand_in_is_called_once_and_learns(version: int) -> None:
    block = make_block(version, torch.float32)
    apply(block, "attn.qkv", LoRA)
    shapes: list[torch.Size] = []
    block.attn.qkv.register_forward_hook(lambda module, inputs, out: shapes.append(out.shape))
    block(torch.randn(1, 14, 13, DIM)).sum().backward()
    assert shapes == [(1, 16, 15, 3 * DIM)]  # the map with the zeros beyond it
    assert block.attn.qkv.up.weight.grad is not None and block.attn.qkv.up.weight.grad.any()


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ("x", "attn.qkv.weight"),
        ("norm1.weight", "attn.qkv.weight"),
        ("norm1.bias", "attn.qkv.weight"),
        ("attn.qkv.weight", "norm1.weight"),
        ("attn.proj.weight", "attn.qkv.weight"),
        ("norm2.weight", "mlp.fc1.weight"),
        ("mlp.fc1.weight", "norm2.weight"),
        ("mlp.fc2.weight", "mlp.fc1.weight"),
    ],
)
def test_what_is_changed_in_place_after_the_forward_pass_is_an_error(
    changed: str, wanted: str, dtype: torch.dtype
) -> None:
    """As in PyTorch, which does not look where tensors are computed again."""
    block = make_block(1, dtype)
    x = torch.randn(1, 20, 15, DIM, dtype=dtype)
    out = block(x)
    with torch.no_grad():
        (x if changed == "x" else block.get_parameter(changed)).mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(out.sum(), block.get_parameter(wanted))


@pytest.fixture
def quantised() -> Iterator[Callable[[nn.Module], nn.Module]]:
    with warnings.catch_warnings():  # PyTorch's own, which it wants to replace
        warnings.filterwarnings("ignore", "torch.ao.quantization is deprecated", DeprecationWarning)
        warnings.filterwarnings("ignore", r"(Typed|Untyped)Storage is deprecated", UserWarning)
        warnings.filterwarnings("ignore", ".*torch.per_tensor_affine.*|.*quantized", UserWarning)
        yield lambda model: torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", [(64, 64), (70, 45)])
def test_dynamic_quantisation(version: int, size: tuple[int, int], quantised: Callable[[nn.Module], nn.Module]) -> None:
    config = SwinConfig(version=version, embed_dim=32, depths=(2, 2), num_heads=(2, 4), window_size=4)  # type: ignore[arg-type]
    torch.manual_seed(0)
    model = SwinClassifier(config, num_classes=10).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.1)
    before = copy.deepcopy(model.state_dict())
    quick = quantised(model)
    assert not any(type(module) is nn.Linear for module in quick.modules())
    images = torch.randn(2, 3, *size)
    with torch.inference_mode():
        expected, got = model(images), quick(images)
    assert (got - expected).abs().max() < 0.05 * expected.abs().max()
    assert not torch.equal(got, expected)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
