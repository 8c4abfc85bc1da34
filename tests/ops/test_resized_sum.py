"""Sums over a resized map, a band at a time, against the whole map."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from swin_transformer_pytorch.ops import resized_sum
from swin_transformer_pytorch.ops.resized_sum import sum_over_resized

sides = st.integers(1, 9)


@pytest.fixture(autouse=True)
def bands_of_few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(resized_sum._BAND_NUMBERS, "cpu", 50)


def cubes(weights: Tensor) -> resized_sum.BandLoss:
    """A loss that tells pixels apart."""
    return lambda band, image, rows: (band**3 * weights[image, :, rows]).sum()


def case(small: tuple[int, int], size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    logits = torch.randn(2, 3, *small, dtype=torch.float64, requires_grad=True)
    return logits, torch.randn(2, 3, *size, dtype=torch.float64)


@given(small=st.tuples(sides, sides), size=st.tuples(st.integers(1, 40), st.integers(1, 20)))
def test_sum_and_gradient_are_those_of_the_whole_map(small: tuple[int, int], size: tuple[int, int]) -> None:
    logits, weights = case(small, size)
    total = sum_over_resized(logits, size, cubes(weights))
    (gradient,) = torch.autograd.grad(2 * total, logits)
    expected = (F.interpolate(logits, size=size, mode="bilinear", align_corners=False) ** 3 * weights).sum()
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(2 * expected, logits)[0])


def test_the_gradient_can_be_differentiated() -> None:
    logits, weights = case((3, 2), (7, 5))

    def total(x: Tensor) -> Tensor:
        return sum_over_resized(x, (7, 5), cubes(weights))

    assert torch.autograd.gradcheck(total, logits)
    assert torch.autograd.gradgradcheck(total, logits)


def test_transforms_see_the_operators() -> None:
    logits, weights = case((3, 2), (7, 5))
    found = torch.func.grad(lambda x: sum_over_resized(x, (7, 5), cubes(weights)))(logits.detach())
    (expected,) = torch.autograd.grad(sum_over_resized(logits, (7, 5), cubes(weights)), logits)
    torch.testing.assert_close(found, expected)


def test_a_checkpoint_around_it_computes_all_once_more() -> None:
    logits, weights = case((3, 2), (7, 5))
    calls = []

    def total(x: Tensor) -> Tensor:
        calls.append(x)
        return sum_over_resized(x.tanh(), (7, 5), cubes(weights))

    checkpoint(total, logits, use_reentrant=False).backward()
    assert len(calls) == 2
    torch.testing.assert_close(logits.grad, torch.autograd.grad(total(logits), logits)[0])


def test_bands_are_never_the_whole_map() -> None:
    logits, weights = case((4, 4), (16, 16))
    seen: list[torch.Size] = []

    def loss(band: Tensor, image: int, rows: slice) -> Tensor:
        seen.append(band.shape)
        return (band * weights[image, :, rows]).sum()

    sum_over_resized(logits, (16, 16), loss)
    assert all(shape == (1, 3, 1, 16) for shape in seen) and len(seen) == 2 * 16


def test_without_gradients_none_are_computed() -> None:
    logits, weights = case((3, 3), (6, 6))

    def loss(band: Tensor, image: int, rows: slice) -> Tensor:
        assert not band.requires_grad
        return (band * weights[image, :, rows]).sum()

    with torch.no_grad():
        sum_over_resized(logits, (6, 6), loss)
    sum_over_resized(logits.detach(), (6, 6), loss)
