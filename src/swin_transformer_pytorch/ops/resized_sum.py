"""A sum over the pixels of a map resized to an image, of which there is never more than a band of rows: what a
segmenter's losses take. Whole, the resized logits of 150 classes and their gradients are most of a training's memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F

from ..sizes import Size
from .attention import without_autocast
from .plain import is_differentiated_again, is_transformed, plain_gradients
from .resize_matrix import resize_matrix

BandLoss = Callable[[Tensor, int, slice], Tensor]
_BAND_NUMBERS = {"cpu": 1 << 21}  # of a band: it stays in a cache
_BAND_NUMBERS_ELSEWHERE = 1 << 25


def sum_over_resized(logits: Float[Tensor, "B C h w"], size: Size, loss: BandLoss) -> Float[Tensor, ""]:
    """The sum of `loss` over bands of `logits`, resized by `F.interpolate` (bilinear, no aligned corners).

    Where gradients are wanted they are computed at once, a band at a time, so that the backward pass has nothing left
    to do but to multiply. Compilers, `torch.func` and second derivatives get the whole map.

    Args:
        size: height and width that the logits are resized to.
        loss: of (1, C, rows, W) logits, the image's index in the batch and the band's rows: the sum over the band's
            pixels. It must depend on nothing else that has a gradient.
    """
    if torch.compiler.is_compiling() or is_transformed() or logits.numel() == 0:
        return _whole(size, loss, logits)
    wanted = torch.is_grad_enabled() and logits.requires_grad
    result: Tensor = _SumOverResized.apply(logits, size, loss, wanted)
    return result


def _whole(size: Size, loss: BandLoss, logits: Tensor) -> Tensor:
    resized = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)
    total = resized.new_zeros(())
    for image in range(len(logits)):
        total = total + loss(resized[image : image + 1], image, slice(0, size[0]))
    return total


def _bands(logits: Tensor, size: Size) -> Iterator[tuple[slice, slice]]:
    """Rows of the result, and those of the logits that they are made of."""
    height, target = logits.shape[2], size[0]
    numbers = _BAND_NUMBERS.get(logits.device.type, _BAND_NUMBERS_ELSEWHERE)
    rows = max(1, numbers // (logits.shape[1] * size[1]))
    for top in range(0, target, rows):
        bottom = min(top + rows, target)
        # One more on each side than exact arithmetic needs.
        first = int((top + 0.5) * height / target - 0.5) - 1
        last = int((bottom - 0.5) * height / target - 0.5) + 2
        yield slice(top, bottom), slice(max(first, 0), min(last, height - 1) + 1)


class _SumOverResized(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, size: Size, loss: BandLoss, wanted: bool) -> Tensor:
        total, gradient = logits.new_zeros(()), torch.zeros_like(logits) if wanted else None
        # What checkpoints and the like do with saved tensors is for graphs that stay: this one is gone at once.
        with without_autocast(logits.device.type), saved_tensors_hooks(lambda x: x, lambda x: x):
            weights = resize_matrix(logits.shape[2], size[0], logits)
            for image in range(len(logits)):
                for rows, sources in _bands(logits, size):
                    source = logits.detach()[image : image + 1, :, sources].requires_grad_(wanted)
                    with torch.set_grad_enabled(wanted):
                        wide = F.interpolate(
                            source, size=(source.shape[2], size[1]), mode="bilinear", align_corners=False
                        )
                        part = loss(weights[rows, sources] @ wide, image, rows)
                    total += part.detach()
                    if gradient is not None:
                        gradient[image : image + 1, :, sources] += torch.autograd.grad(part, source)[0]
        ctx.size, ctx.loss = size, loss
        ctx.save_for_backward(logits, gradient)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None, None]:
        logits, gradient = ctx.saved_tensors
        if is_differentiated_again(grad):
            with without_autocast(logits.device.type):
                function = partial(_whole, ctx.size, ctx.loss)
                return plain_gradients(function, (logits,), (True,), grad)[0], None, None, None
        return gradient * grad, None, None, None
