"""The decode head against the same written with plain functions."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from swin_transformer_pytorch.heads.conv import ConvModule
from swin_transformer_pytorch.heads.upernet import FCNHead, UPerHead
from swin_transformer_pytorch.ops.resized_convolution import concatenate_levels

DIMS = (6, 12, 24)
SIZES = [(13, 10), (7, 5), (4, 3)]


def randomised(head: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(0)
    for tensor in head.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) * 0.8 + 0.1 - (tensor.ndim == 4) * 0.5)
    return head.double().eval()


def maps(batch: int = 2) -> list[Tensor]:
    return [torch.randn(batch, dim, *size, dtype=torch.float64) for dim, size in zip(DIMS, SIZES, strict=True)]


def conv_module(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    kernel = weights[f"{name}.conv.weight"]
    x = F.conv2d(x, kernel, padding=kernel.shape[2] // 2)
    statistics = (weights[f"{name}.bn.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
    return F.batch_norm(x, *statistics, eps=1e-5).relu()


def resize(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, like.shape[2:], mode="bilinear", align_corners=False)


def plain_head(weights: dict[str, Tensor], x: list[Tensor], pool_scales: tuple[int, ...]) -> Tensor:
    pooled = [
        resize(conv_module(weights, f"psp_modules.{k}.1", F.adaptive_avg_pool2d(x[-1], scale)), x[-1])
        for k, scale in enumerate(pool_scales)
    ]
    laterals = [conv_module(weights, f"lateral_convs.{i}", x[i]) for i in range(len(x) - 1)]
    laterals.append(conv_module(weights, "bottleneck", torch.cat([x[-1], *pooled], 1)))
    for i in range(len(x) - 2, -1, -1):
        laterals[i] = laterals[i] + resize(laterals[i + 1], laterals[i])
    levels = [conv_module(weights, f"fpn_convs.{i}", laterals[i]) for i in range(len(x) - 1)] + [laterals[-1]]
    joined = conv_module(weights, "fpn_bottleneck", torch.cat([resize(level, levels[0]) for level in levels], 1))
    return F.conv2d(joined, weights["conv_seg.weight"], weights["conv_seg.bias"])


@pytest.mark.parametrize("pool_scales", [(1, 2, 3, 6), (2,)])
@pytest.mark.parametrize("channels", [2, 48])
def test_the_decode_head_is_its_description(pool_scales: tuple[int, ...], channels: int) -> None:
    head = randomised(UPerHead(DIMS, channels, 5, pool_scales, 0.1))
    x = maps()
    expected = plain_head(head.state_dict(), x, pool_scales)
    assert expected.shape == (2, 5, *SIZES[0])
    torch.testing.assert_close(head(x), expected, atol=1e-10, rtol=1e-10)


def test_maps_are_left_as_they_were() -> None:
    x = maps()
    before = [one.clone() for one in x]
    randomised(UPerHead(DIMS, 4, 5, (1, 2), 0.1))(x)
    for one, copy in zip(x, before, strict=True):
        torch.testing.assert_close(one, copy, atol=0, rtol=0)


def test_the_auxiliary_head() -> None:
    head = randomised(FCNHead(6, 4, 5, 0.1))
    x = maps()[0]
    weights = head.state_dict()
    hidden = conv_module(weights, "convs.0", x)
    torch.testing.assert_close(head(x), F.conv2d(hidden, weights["conv_seg.weight"], weights["conv_seg.bias"]))


def test_the_official_initialisation() -> None:
    torch.manual_seed(0)
    head = UPerHead((64, 64), 256, 150, (1,), 0.1)
    assert head.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not head.conv_seg.bias.any()
    # Kaiming, fan out: the variance of a layer of 256 outputs and 3x3 taps.
    assert head.fpn_convs[0].conv.weight.std().item() == pytest.approx(math.sqrt(2 / (256 * 9)), rel=0.02)
    assert head.fpn_convs[0].conv.bias is None
    assert (head.fpn_convs[0].bn.weight == 1).all()


def test_dropout_takes_whole_channels() -> None:
    head = UPerHead(DIMS, 16, 16, (2,), 0.5).train()
    seen: list[Tensor] = []
    head.conv_seg.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    head([x.float() for x in maps()])
    zero = (seen[0] == 0).flatten(2).all(dim=2)
    assert 0.2 < zero.float().mean() < 0.8


def test_one_cell_has_no_batch_statistics() -> None:
    module = ConvModule(3, 2, 1, norm=True)
    with pytest.raises(ValueError, match="at least 2"):
        module(torch.randn(1, 3, 1, 1))
    assert module(torch.randn(2, 3, 1, 1)).shape == (2, 2, 1, 1)
    assert module.eval()(torch.randn(1, 3, 1, 1)).shape == (1, 2, 1, 1)


def hooked(layer: nn.Module) -> None:
    layer.register_forward_hook(lambda module, inputs, out: 2 * out + 0.5)


def hooked_before(layer: nn.Module) -> None:
    layer.register_forward_pre_hook(lambda module, inputs: (inputs[0] * 2 + 0.5,))


def patched(layer: nn.Module) -> None:
    original = layer.forward
    layer.forward = lambda x: 2 * original(x) + 0.5


@pytest.mark.parametrize("change", [hooked, hooked_before, patched])
@pytest.mark.parametrize(
    "name", ["fpn_bottleneck", "fpn_bottleneck.conv", "fpn_bottleneck.bn", "bottleneck", "conv_seg"]
)
def test_changes_to_the_last_convolution_are_part_of_the_answer(name: str, change: Callable[[nn.Module], None]) -> None:
    """The same as in a head whose last block is one of another class, which cannot be taken apart."""

    class Block(ConvModule):
        pass

    head = randomised(UPerHead(DIMS, 48, 5, (2,), 0.1))
    x = maps()
    before = head(x)
    change(head.get_submodule(name))
    changed = head(x)
    head.fpn_bottleneck.__class__ = Block
    torch.testing.assert_close(changed, head(x), rtol=1e-9, atol=1e-9)
    assert (changed - before).abs().max() > 1e-3


def test_another_last_convolution() -> None:
    head = randomised(UPerHead(DIMS, 48, 5, (2,), 0.1))
    expected = head(maps())
    for conv in (
        nn.Conv2d(3 * 48, 48, 3, padding=2, dilation=2),
        nn.Conv2d(3 * 48, 48, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3 * 48, 48, 1),
        nn.Sequential(nn.Conv2d(3 * 48, 8, 1), nn.Conv2d(8, 48, 3, padding=1)),
    ):
        head.fpn_bottleneck.conv = conv.double()
        x = maps()
        joined = concatenate_levels(head_levels(head, x))
        torch.testing.assert_close(head(x), head.conv_seg(head.fpn_bottleneck(joined)))
        assert head(x).shape == expected.shape


def head_levels(head: UPerHead, x: list[Tensor]) -> list[Tensor]:
    """What the last block gets, seen by a block of another class in its place."""
    seen: list[Tensor] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UPerHead, "_fuse", lambda self, levels: (seen.extend(levels), levels[0][:, :48])[1])
        head(x)
    return seen
