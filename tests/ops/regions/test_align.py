"""Features of regions from all levels at once beside torchvision's, level by level."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from swin_transformer_pytorch.ops.attention import choose_implementation
from swin_transformer_pytorch.ops.regions import align

STRIDES = (4, 8, 16)

pytestmark = pytest.mark.skipif(choose_implementation("cpu", training=False) != "cpu", reason="no CPU kernel here")


def example(seed: int, regions: int, channels: int = 32) -> tuple[list[Tensor], Tensor, Tensor]:
    """Regions of all sizes, some beyond the map, without a side, or turned around."""
    torch.manual_seed(seed)
    maps = [torch.randn(2, channels, 37 // step, 50 // step) for step in (1, 2, 4)]
    corner = torch.rand(regions, 2) * 240 - 20
    size = torch.exp(torch.rand(regions, 2) * 6) - 1
    rois = torch.cat([torch.randint(0, 2, (regions, 1)).float(), corner, corner + size], dim=1)
    rois[::7, 3] = rois[::7, 1]
    rois[3::11, 3:] = rois[3::11, 1:3] - 5
    return maps, rois, torch.randint(0, 3, (regions,))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), regions=st.integers(0, 40), size=st.sampled_from([1, 7, 14]), flat=st.booleans())
def test_as_torchvision_has_it(seed: int, regions: int, size: int, flat: bool) -> None:
    maps, rois, levels = example(seed, regions)
    ours = [one.clone().requires_grad_() for one in maps]
    theirs = [one.double().requires_grad_() for one in maps]
    got = align.align_levels(ours, STRIDES, rois, levels, size, flat=flat)
    expected = align._by_level(theirs, STRIDES, rois.double(), levels, size)
    torch.testing.assert_close(got.double(), expected, rtol=1e-4, atol=1e-4)
    grad = torch.randn_like(got)
    grads = (
        torch.autograd.grad(got, ours, grad),
        torch.autograd.grad(expected, theirs, grad.double(), allow_unused=True),
    )
    for one, other in zip(*grads, strict=True):
        wanted = torch.zeros_like(one).double() if other is None else other
        torch.testing.assert_close(one.double(), wanted, rtol=1e-4, atol=1e-3)


def test_maps_of_other_types_are_computed_in_float32() -> None:
    maps, rois, levels = example(0, 30)
    half = [one.bfloat16() for one in maps]
    got = align.align_levels(half, STRIDES, rois, levels, 7)
    assert got.dtype == torch.bfloat16
    expected = align.align_levels([one.float() for one in half], STRIDES, rois, levels, 7)
    assert torch.equal(got, expected.bfloat16())


def test_regions_that_are_no_numbers_have_none() -> None:
    maps, _, levels = example(0, 3)
    huge = 3e38
    rois = torch.tensor([[0, 0, 0, float("nan"), 9], [0, -huge, 0, huge, 9], [0, 0, 0, float("inf"), 9]])
    assert not align.align_levels(maps, STRIDES, rois, levels, 7).any()


def test_a_region_of_an_image_that_is_not_there() -> None:
    maps, rois, levels = example(0, 3)
    rois[1, 0] = 2
    with pytest.raises(ValueError, match="there are 2"):
        align.align_levels(maps, STRIDES, rois, levels, 7)


def test_where_it_stands_back() -> None:
    maps, rois, _ = example(0, 3)
    assert align._takes(maps, rois)
    assert not align._takes([one[:, :9] for one in maps], rois)
    assert not align._takes(maps, rois.clone().requires_grad_())
    assert not align._takes(maps, rois.double())


def test_no_second_derivatives() -> None:
    maps, rois, levels = example(0, 5)
    first = maps[0].requires_grad_()
    (grad,) = torch.autograd.grad(
        align.align_levels(maps, STRIDES, rois, levels, 7).square().sum(), first, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable|differentiated"):
        torch.autograd.grad(grad.sum(), first)
