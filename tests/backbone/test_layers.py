"""The parts around attention: stochastic depth, patch embedding and merging."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from swin_transformer_pytorch.backbone.attention import WindowAttention
from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.backbone.layers import DropPath, Mlp, PatchEmbed, PatchMerging
from swin_transformer_pytorch.backbone.swin import Swin, SwinBlock


def test_drop_path_drops_whole_samples_and_scales_the_rest() -> None:
    torch.manual_seed(0)
    x = torch.randn(4000, 2, 3, 5)

    out = DropPath(0.25).train()(x)

    kept = out.flatten(1).abs().sum(1) > 0
    assert torch.equal(out[~kept], torch.zeros_like(x[~kept]))
    torch.testing.assert_close(out[kept], x[kept] / 0.75)
    assert kept.float().mean().item() == pytest.approx(0.75, abs=0.03)


def test_drop_path_keeps_the_expected_value() -> None:
    torch.manual_seed(0)
    out = DropPath(0.4).train()(torch.ones(20000, 1))
    assert out.mean().item() == pytest.approx(1, abs=0.03)


def test_drop_path_is_nothing_in_eval_or_at_rate_zero() -> None:
    x = torch.randn(8, 2, 2, 3)
    assert DropPath(0.9).eval()(x) is x
    assert DropPath(0.0).train()(x) is x


def test_drop_path_follows_the_random_generator() -> None:
    x, layer = torch.ones(64, 1), DropPath(0.5).train()
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(layer(x))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("version", [1, 2])
def test_a_block_drops_attention_and_mlp_each_by_itself(version: int) -> None:
    config = SwinConfig(version=version, embed_dim=4, depths=(1,), num_heads=(1,), window_size=2)  # type: ignore[arg-type]
    block = SwinBlock(config, 0, shifted=False, drop_path_rate=0.5).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.copy_(torch.randn_like(parameter))
    x = torch.randn(1, 4, 4, 4, dtype=torch.float64).expand(256, -1, -1, -1)

    def after(branch: str, x: torch.Tensor, scale: float) -> torch.Tensor:
        if branch == "attention":
            run = lambda y: block.attn(y, (2, 2), (0, 0))  # noqa: E731
            norm = block.norm1
        else:
            run, norm = block.mlp, block.norm2
        return x + scale * (run(norm(x)) if version == 1 else norm(run(x)))

    torch.manual_seed(0)
    with torch.no_grad():
        out = block.train()(x)
        counts = []
        for attention_scale in (0.0, 2.0):
            for mlp_scale in (0.0, 2.0):
                expected = after("mlp", after("attention", x[:1], attention_scale), mlp_scale)
                counts.append((out - expected).flatten(1).abs().amax(1).lt(1e-9).sum().item())
    assert sum(counts) == 256
    assert all(40 < count < 90 for count in counts)


def test_drop_path_rates_rise_linearly_over_the_blocks() -> None:
    model = Swin(SwinConfig(embed_dim=4, depths=(2, 3), num_heads=(1, 1), drop_path_rate=0.4))
    rates = [m.rate for m in model.modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 20), width=st.integers(1, 20), patch=st.tuples(st.integers(1, 5), st.integers(1, 5)))
def test_patch_embedding_pads_right_and_bottom_with_zeros(height: int, width: int, patch: tuple[int, int]) -> None:
    layer = PatchEmbed(2, 6, patch)
    images = torch.randn(2, 2, height, width)
    whole = F.pad(images, (0, -width % patch[1], 0, -height % patch[0]))

    tokens = layer(images)

    assert tokens.shape == (2, whole.shape[2] // patch[0], whole.shape[3] // patch[1], 6)
    last = whole[:, :, -patch[0] :, -patch[1] :].flatten(1)
    expected = layer.norm(last @ layer.proj.weight.flatten(1).T + layer.proj.bias)
    torch.testing.assert_close(tokens[:, -1, -1], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("norm_first", [True, False])
@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 9), width=st.integers(1, 9))
def test_patch_merging_orders_neighbours_as_the_official_code(norm_first: bool, height: int, width: int) -> None:
    layer = PatchMerging(3, norm_first=norm_first)
    x = torch.randn(2, height, width, 3)
    even = F.pad(x, (0, 0, 0, width % 2, 0, height % 2))

    # microsoft/Swin-Transformer, PatchMerging.forward: x0 to x3 are (row, column) 00, 10, 01, 11
    neighbours = [even[:, row::2, column::2] for row, column in ((0, 0), (1, 0), (0, 1), (1, 1))]
    joined = torch.cat(neighbours, -1)
    expected = layer.reduction(layer.norm(joined)) if norm_first else layer.norm(layer.reduction(joined))

    torch.testing.assert_close(layer(x), expected)


class Doubled(nn.Module):
    """As adapters of fine-tuning libraries do: a module in a layer's place that still shows its parameters."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.weight, self.bias = base, base.weight, base.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.base(x)


@pytest.mark.parametrize("name", ["fc1", "fc2"])
@pytest.mark.parametrize("rows", [16, 300])
def test_an_mlp_calls_what_is_put_in_a_layers_place_and_hooks(rows: int, name: str) -> None:
    torch.manual_seed(0)
    mlp, x = Mlp(32, 64), torch.randn(rows, 32)
    plain = mlp(x)
    seen = []
    layer = getattr(mlp, name)
    handle = layer.register_forward_hook(lambda layer, inputs, out: seen.append(out.shape))
    torch.testing.assert_close(mlp(x), plain, rtol=1e-4, atol=1e-5)
    assert seen == [(rows, layer.out_features)]
    handle.remove()
    setattr(mlp, name, Doubled(layer))
    with torch.no_grad():
        doubled = mlp(x)
        for parameter in layer.parameters():
            parameter.mul_(2)
        setattr(mlp, name, layer)
        torch.testing.assert_close(doubled, mlp(x), rtol=1e-4, atol=1e-5)


class Projections(nn.Module):
    """Each linear layer of the backbone that is not an MLP's, and what calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.merging = PatchMerging(16, norm_first=True)
        self.attention = WindowAttention(32, 2, (4, 4), qkv_bias=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.attention(self.merging(x), (4, 4), (0, 0))


@pytest.mark.parametrize("name", ["merging.reduction", "attention.qkv", "attention.proj"])
def test_projections_call_what_is_put_in_a_layers_place_and_hooks(name: str) -> None:
    torch.manual_seed(0)
    model, x = Projections(), torch.randn(2, 32, 32, 16)
    layer = model.get_submodule(name)
    plain = model(x)
    seen: list[str] = []
    for register in (
        layer.register_forward_hook,
        layer.register_forward_pre_hook,
        nn.modules.module.register_module_forward_hook,
    ):
        handle = register(lambda module, *_: seen.append(name) if module is layer else None)  # type: ignore[operator]
        torch.testing.assert_close(model(x), plain, rtol=1e-4, atol=1e-5)
        handle.remove()
    original = layer.forward
    layer.forward = lambda x: (seen.append(name), original(x))[1]  # as offloading does
    torch.testing.assert_close(model(x), plain, rtol=1e-4, atol=1e-5)
    del layer.forward
    assert seen == [name] * 4
