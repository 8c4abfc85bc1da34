"""Deformable attention against the same written number by number."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from swin_transformer_pytorch.ops import deformable as module
from swin_transformer_pytorch.ops.deformable import deformable_attention

SIZES = [(3, 5), (2, 2), (1, 4)]
TOKENS = sum(height * width for height, width in SIZES)


def inputs(seed: int = 0, low: float = -0.4, high: float = 1.4) -> tuple[Tensor, Tensor, Tensor]:
    """Values, places also beyond the maps, and weights that do not sum to 1."""
    generator = torch.Generator().manual_seed(seed)
    value = torch.randn(2, TOKENS, 2, 3, generator=generator, dtype=torch.float64)
    locations = torch.rand(2, 6, 2, len(SIZES), 4, 2, generator=generator, dtype=torch.float64) * (high - low) + low
    weights = torch.randn(2, 6, 2, len(SIZES), 4, generator=generator, dtype=torch.float64)
    return value, locations, weights


def read(of_map: Tensor, height: int, width: int, x: float, y: float) -> Tensor:
    """A bilinear reading of (height * width, D); what lies beyond the map is 0."""
    column, row = x * width - 0.5, y * height - 0.5
    left, top = math.floor(column), math.floor(row)
    total = torch.zeros(of_map.shape[1], dtype=of_map.dtype)
    for i, share_y in ((top, 1 - (row - top)), (top + 1, row - top)):
        for j, share_x in ((left, 1 - (column - left)), (left + 1, column - left)):
            if 0 <= i < height and 0 <= j < width:
                total += share_y * share_x * of_map[i * width + j]
    return total


def by_loops(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
    batch, queries, heads, _, points, _ = locations.shape
    out = torch.zeros(batch, queries, heads, value.shape[3], dtype=value.dtype)
    for b in range(batch):
        for q in range(queries):
            for h in range(heads):
                start = 0
                for level, (height, width) in enumerate(SIZES):
                    of_map = value[b, start : start + height * width, h]
                    start += height * width
                    for p in range(points):
                        x, y = locations[b, q, h, level, p].tolist()
                        out[b, q, h] += weights[b, q, h, level, p] * read(of_map, height, width, x, y)
    return out.flatten(2)


def test_it_is_its_definition() -> None:
    arguments = inputs()
    expected = by_loops(*arguments)
    assert expected.abs().max() > 1
    value, locations, weights = arguments
    actual = deformable_attention(value, SIZES, locations, weights)
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_the_centre_of_a_cell_gives_the_cell() -> None:
    value, locations, weights = inputs()
    weights = torch.zeros_like(weights)
    weights[:, 0, :, 0, 0] = 1
    locations[:, 0, :, 0, 0] = torch.tensor([(3 + 0.5) / 5, (1 + 0.5) / 3], dtype=torch.float64)
    actual = deformable_attention(value, SIZES, locations, weights)
    torch.testing.assert_close(actual[:, 0], value[:, 1 * 5 + 3].flatten(1))
    assert not actual[:, 1:].any()


def test_gradients() -> None:
    # Away from the centres of cells, where the slope of a bilinear reading jumps.
    value, locations, weights = (one.requires_grad_() for one in inputs(seed=3))
    assert torch.autograd.gradcheck(
        lambda v, where, w: deformable_attention(v, SIZES, where, w), (value, locations, weights)
    )


def test_what_was_read_is_not_kept_and_its_gradients_are_autograds() -> None:
    stored: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        stored[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    sizes, points = [(12, 10), (6, 5)], 4
    value = torch.randn(2, 150, 2, 16, dtype=torch.float64, requires_grad=True)
    locations = torch.rand(2, 150, 2, 2, points, 2, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 150, 2, 2, points, dtype=torch.float64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = deformable_attention(value, sizes, locations, weights)
    assert sum(stored.values()) < value.numel() * points * 8, "less than what is read of one map"
    weight = torch.randn_like(out)
    actual = torch.autograd.grad((out * weight).sum(), (value, locations, weights))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "is_transformed", lambda: True)
        out = deformable_attention(value, sizes, locations, weights)
    expected = torch.autograd.grad((out * weight).sum(), (value, locations, weights))
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("wanted", [(True, False, False), (False, True, False), (False, False, True)])
def test_each_gradient_can_be_had_alone(wanted: tuple[bool, ...]) -> None:
    arguments = [one.requires_grad_(want) for one, want in zip(inputs(), wanted, strict=True)]
    deformable_attention(arguments[0], SIZES, arguments[1], arguments[2]).sum().backward()
    whole = [one.detach().requires_grad_() for one in arguments]
    deformable_attention(whole[0], SIZES, whole[1], whole[2]).sum().backward()
    for one, other, want in zip(arguments, whole, wanted, strict=True):
        assert (one.grad is not None) == want
        if want:
            torch.testing.assert_close(one.grad, other.grad)


def test_functions_of_torch_func_see_the_operators() -> None:
    value, locations, weights = inputs()
    plain = torch.func.grad(lambda v: deformable_attention(v, SIZES, locations, weights).sum())(value)
    value.requires_grad_()
    deformable_attention(value, SIZES, locations, weights).sum().backward()
    torch.testing.assert_close(plain, value.grad)


@pytest.mark.parametrize(("low", "high"), [(-0.4, 1.4), (2.0, 9.0), (-1e30, 1e30)])
def test_bags_read_what_the_reference_reads(low: float, high: float, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def bags(*arguments: Any, real: Any = module._bags) -> Tensor:
        asked.append(arguments)
        result: Tensor = real(*arguments)
        return result

    monkeypatch.setattr(module, "_bags", bags)
    value, locations, weights = (one.float() for one in inputs(seed=5, low=low, high=high))
    expected = deformable_attention(value.double(), SIZES, locations.double(), weights.double())
    assert not asked, "float64 is the reference's"
    actual = deformable_attention(value, SIZES, locations, weights)
    assert asked and actual.dtype == torch.float32 and actual.is_contiguous()
    torch.testing.assert_close(actual, expected.float(), rtol=1e-5, atol=1e-5)
    for learns in (value, locations, weights):
        asked.clear()
        plain = deformable_attention(value, SIZES, locations, weights.requires_grad_(learns is weights))
        assert bool(asked) == (learns is not weights)
        torch.testing.assert_close(plain, actual, rtol=1e-5, atol=1e-5)


def test_bags_of_a_batch_are_those_of_its_images() -> None:
    value, locations, weights = (one.float() for one in inputs(seed=6))
    both = deformable_attention(value, SIZES, locations, weights)
    for image in (0, 1):
        alone = deformable_attention(*(value[image : image + 1], SIZES, locations[image : image + 1]), weights[[image]])
        assert torch.equal(alone, both[image : image + 1])


def test_places_far_beyond_the_maps_read_nothing() -> None:
    value, locations, weights = inputs(low=2.0, high=9.0)
    assert not deformable_attention(value, SIZES, locations, weights).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_computed_in_float32(dtype: torch.dtype) -> None:
    value, locations, weights = (one.float() for one in inputs())
    value, weights = value.to(dtype), weights.to(dtype)
    actual = deformable_attention(value, SIZES, locations, weights)
    expected = deformable_attention(value.float(), SIZES, locations, weights.float())
    assert actual.dtype == dtype
    torch.testing.assert_close(actual, expected.to(dtype), rtol=0, atol=0)


def test_images_and_queries_do_not_see_each_other() -> None:
    value, locations, weights = inputs()
    all_of_them = deformable_attention(value, SIZES, locations, weights)
    alone = deformable_attention(value[1:], SIZES, locations[1:, 2:4], weights[1:, 2:4])
    torch.testing.assert_close(alone, all_of_them[1:, 2:4])


def test_maps_that_do_not_fit_are_named() -> None:
    value, locations, weights = inputs()
    with pytest.raises(ValueError, match="2 map_sizes for locations in 3 maps"):
        deformable_attention(value, SIZES[:2], locations, weights)
    with pytest.raises(ValueError, match="value has 23 tokens, and maps of 3 x 5, 2 x 2, 1 x 5 have another number"):
        deformable_attention(value, [*SIZES[:2], (1, 5)], locations, weights)
