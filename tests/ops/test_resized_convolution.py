"""The convolution of resized levels against resizing, concatenating and convolving them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from swin_transformer_pytorch.ops.resized_convolution import convolve_levels, convolve_resized

QUICK = settings(max_examples=25, deadline=None)
sides = st.integers(1, 9)


def plain(levels: list[Tensor], weight: Tensor) -> Tensor:
    size = levels[0].shape[2:]
    resized = [F.interpolate(level, size=size, mode="bilinear", align_corners=False) for level in levels]
    return F.conv2d(torch.cat(resized, dim=1), weight, padding=1)


@QUICK
@given(height=sides, width=sides, target=st.tuples(sides, sides), batch=st.integers(1, 2))
def test_a_resized_map_is_convolved_at_its_own_size(
    height: int, width: int, target: tuple[int, int], batch: int
) -> None:
    x, weight = torch.randn(batch, 3, height, width).double(), torch.randn(2, 3, 3, 3).double()
    expected = F.conv2d(F.interpolate(x, size=target, mode="bilinear", align_corners=False), weight, padding=1)
    torch.testing.assert_close(convolve_resized(x, weight, target), expected, atol=1e-10, rtol=0)


@pytest.mark.parametrize("channels", [(2, 3, 4), (40, 40, 40)])
def test_levels_with_their_gradients(channels: tuple[int, ...]) -> None:
    sizes = [(11, 13), (6, 7), (3, 4)]
    levels = [torch.randn(2, dim, *size) for dim, size in zip(channels, sizes, strict=True)]
    inputs = [*levels, torch.randn(5, sum(channels), 3, 3) / 9]
    for tensor in inputs:
        tensor.requires_grad_()
    expected = plain(inputs[:-1], inputs[-1])
    actual = convolve_levels(inputs[:-1], inputs[-1])
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)
    upstream = torch.randn_like(expected)
    for ours, theirs in zip(
        torch.autograd.grad(actual, inputs, upstream), torch.autograd.grad(expected, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)


def test_a_single_level_is_a_plain_convolution() -> None:
    x, weight = torch.randn(1, 3, 5, 6), torch.randn(2, 3, 3, 3)
    torch.testing.assert_close(convolve_levels([x], weight), F.conv2d(x, weight, padding=1))


def test_no_level_is_resized_where_that_would_cost_more(monkeypatch: pytest.MonkeyPatch) -> None:
    levels = [torch.randn(1, 64, 16, 16), torch.randn(1, 64, 8, 8)]
    weight = torch.randn(8, 128, 3, 3)
    expected = plain(levels, weight)
    interpolate = F.interpolate

    def of_rows_only(x: Tensor, **options: object) -> Tensor:
        assert x.ndim == 3, "a map was resized"
        return interpolate(x, **options)

    monkeypatch.setattr(F, "interpolate", of_rows_only)
    torch.testing.assert_close(convolve_levels(levels, weight), expected, atol=1e-3, rtol=1e-4)
