"""The losses of pixels against scalar code."""

import math
from typing import Any

import pytest
import torch

from swin_transformer_pytorch.heads.pixel_losses import PixelLosses


def pixel_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return PixelLosses()(logits, labels)["loss_ce"]


def scalar_loss(logits: list[list[list[float]]], labels: list[list[int]]) -> float:
    """One image, logits[class][y][x] of the size of the labels."""
    total, pixels = 0.0, 0
    for y, row in enumerate(labels):
        for x, label in enumerate(row):
            pixels += 1
            if label != 255:
                scores = [plane[y][x] for plane in logits]
                total += math.log(sum(math.exp(score) for score in scores)) - scores[label]
    return total / pixels


def scalar_resize(plane: list[list[float]], size: tuple[int, int]) -> list[list[float]]:
    def at(values: list[float], index: int, target: int) -> float:
        position = max((index + 0.5) * len(values) / target - 0.5, 0.0)
        low = min(int(position), len(values) - 1)
        high = min(low + 1, len(values) - 1)
        return values[low] + (values[high] - values[low]) * (position - low)

    wide = [[at(row, x, size[1]) for x in range(size[1])] for row in plane]
    return [[at([row[x] for row in wide], y, size[0]) for x in range(size[1])] for y in range(size[0])]


def test_the_loss_is_a_mean_over_all_pixels_ignored_ones_too() -> None:
    logits, labels = torch.randn(2, 4, 3, 5), torch.randint(0, 4, (2, 7, 9))
    labels[:, :3, :4] = 255
    images = [
        scalar_loss([scalar_resize(plane, (7, 9)) for plane in one.tolist()], target.tolist())
        for one, target in zip(logits, labels, strict=True)
    ]
    assert pixel_cross_entropy(logits, labels).item() == pytest.approx(sum(images) / 2, rel=1e-5)


def test_only_ignored_pixels_are_no_loss_and_no_gradient() -> None:
    logits = torch.randn(1, 4, 3, 5, requires_grad=True)
    loss = pixel_cross_entropy(logits, torch.full((1, 6, 10), 255))
    loss.backward()
    assert loss.item() == 0 and not logits.grad.any()


def test_the_loss_is_in_float32_under_autocast() -> None:
    logits, labels = torch.randn(2, 4, 3, 5).bfloat16(), torch.randint(0, 4, (2, 6, 10))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = pixel_cross_entropy(logits, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, pixel_cross_entropy(logits.float(), labels))


def test_batches_that_differ_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 4, 4\).*\(1, 8, 8\)"):
        pixel_cross_entropy(torch.zeros(2, 3, 4, 4), torch.zeros(1, 8, 8, dtype=torch.long))


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("shape", [(2, 8), (2, 8, 8, 1)])
def test_labels_that_are_no_maps_are_an_error(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="one label map an image"):
        pixel_cross_entropy(torch.zeros(2, 3, 4, 4), torch.zeros(shape, dtype=torch.long))


def resized(logits: torch.Tensor, size: tuple[int, int]) -> list[list[list[list[float]]]]:
    return [[scalar_resize(plane, size) for plane in one.tolist()] for one in logits]


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("weights", [None, (0.5, 1.0, 4.0)])
def test_the_focal_loss_is_that_of_scalar_code(gamma: float, weights: tuple[float, ...] | None) -> None:
    logits, labels = 2 * torch.randn(2, 3, 2, 3), torch.randint(0, 3, (2, 5, 4))
    labels[0, 0] = 255
    total = 0.0
    for planes, target in zip(resized(logits, (5, 4)), labels.tolist(), strict=True):
        for y, row in enumerate(target):
            for x, label in enumerate(row):
                if label != 255:
                    exponents = [math.exp(plane[y][x]) for plane in planes]
                    share = exponents[label] / sum(exponents)
                    total -= (weights or (1, 1, 1))[label] * (1 - share) ** gamma * math.log(share)
    losses = PixelLosses(focal_gamma=gamma, class_weights=weights)(logits, labels)
    assert list(losses) == ["loss_focal"]
    assert losses["loss_focal"].item() == pytest.approx(total / labels.numel(), rel=1e-4)


def test_dice_is_the_overlap_of_the_classes_that_occur() -> None:
    logits, labels = 2 * torch.randn(2, 4, 2, 3), torch.randint(0, 3, (2, 5, 4))  # class 3 does not occur
    labels[1, :2] = 255
    overlap, size, there = [0.0] * 4, [0.0] * 4, [0] * 4
    for planes, target in zip(resized(logits, (5, 4)), labels.tolist(), strict=True):
        for y, row in enumerate(target):
            for x, label in enumerate(row):
                if label != 255:
                    exponents = [math.exp(plane[y][x]) for plane in planes]
                    for index, value in enumerate(exponents):
                        size[index] += value / sum(exponents)
                    overlap[label] += exponents[label] / sum(exponents)
                    there[label] += 1
    shares = [2 * overlap[i] / (size[i] + there[i]) for i in range(4) if there[i]]
    losses = PixelLosses(dice_weight=3.0)(logits, labels)
    assert list(losses) == ["loss_ce", "loss_dice"]
    assert losses["loss_dice"].item() == pytest.approx(3 * (1 - sum(shares) / len(shares)), rel=1e-4)


@pytest.mark.parametrize(
    "kind", [{}, {"focal_gamma": 0.5}, {"focal_gamma": 2.0}, {"dice_weight": 1.0}, {"class_weights": (0.0, 1.0, 2.0)}]
)
@pytest.mark.parametrize("labels", [torch.full((1, 4, 4), 255), torch.full((1, 4, 4), 1)])
def test_extremes_have_finite_losses_and_gradients(kind: dict[str, Any], labels: torch.Tensor) -> None:
    for scale in (0.0, 1e4):
        logits = (scale * torch.randn(1, 3, 2, 2)).requires_grad_()
        loss = torch.stack(list(PixelLosses(**kind)(logits, labels).values())).sum()
        loss.backward()
        assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()
        if (labels == 255).all():
            assert loss.item() == 0 and not logits.grad.any()


def test_a_batch_without_pixels_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(0, 8, 8\).*no pixel"):
        pixel_cross_entropy(torch.zeros(0, 3, 4, 4), torch.zeros(0, 8, 8, dtype=torch.long))
