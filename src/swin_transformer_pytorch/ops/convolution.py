"""3x3 convolutions that keep a map's size, as heads are made of: on a CPU by its own products, in float32.

Winograd's form takes a quarter of the multiplications, in both directions; its rounding errors are a few times those
of PyTorch's convolutions (at most about 5e-6 of the largest value with 512 channels).
"""

from __future__ import annotations

from functools import partial
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .attention import choose_implementation, without_autocast
from .cpu.choice import why_not
from .cpu.winograd import MULTIPLE, convolve_into, kernel_gradient, pack_kernel
from .plain import is_differentiated_again, is_ordinary, is_plain, is_transformed, plain_gradients

_USUAL = ((3, 3), (1, 1), (1, 1), (1, 1), 1, "zeros")  # of `form_of`
_POINTWISE = ((1, 1), (1, 1), (0, 0), (1, 1), 1, "zeros")
# With fewer places of the result, packing a weight takes longer than the faster products save.
FEWEST_PLACES = 1024
# With fewer channels the changes of form take longer than the products; with more, a packed weight leaves the caches.
FEWEST_CHANNELS, MOST_CHANNELS = 64, 1024


def is_usual_convolution(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a layer is all that `convolve` does with its weight and bias: 3x3, and the map keeps its size."""
    return is_plain(layer, nn.Conv2d) and form_of(layer) == _USUAL


def is_pointwise_convolution(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a layer is a linear layer for each place of a map, with so many channels that it is faster as one."""
    return is_plain(layer, nn.Conv2d) and form_of(layer) == _POINTWISE and layer.in_channels >= FEWEST_CHANNELS


def form_of(layer: nn.Conv2d) -> tuple[object, ...]:
    """Kernel, stride, padding, dilation, groups and what is beyond the map."""
    return (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups, layer.padding_mode)


def has_packed_convolution(weight: Tensor) -> bool:
    """Whether the CPU's own convolution takes that weight, and is known to be the fastest here."""
    return (
        _is_ordinary(weight)
        and weight.ndim == 4
        and weight.shape[2:] == (3, 3)
        and all(size % MULTIPLE == 0 and FEWEST_CHANNELS <= size <= MOST_CHANNELS for size in weight.shape[:2])
        and why_not() is None
        and choose_implementation("cpu", training=False) == "cpu"
    )


def convolve(
    x: Float[Tensor, "B C H W"],
    weight: Float[Tensor, "D C 3 3"],
    bias: Float[Tensor, " D"] | None = None,
    *,
    relu: bool = False,
) -> Float[Tensor, "B D H W"]:
    """`torch.nn.functional.conv2d` with a padding of 1, and what is below 0 set to 0 if `relu`; with gradients."""
    if not _takes(x, weight, bias):
        out = F.conv2d(x, weight, bias, padding=1)
        return F.relu(out, inplace=True) if relu else out
    trains = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, weight, bias))
    result: Tensor = _Convolve.apply(x, weight, bias, relu) if trains else _convolve(x, weight, bias, relu)
    return result


def convolve_packed(
    x: Float[Tensor, "B C H W"], packed: Float[Tensor, "36 C D"], bias: Float[Tensor, " D"] | None, *, relu: bool
) -> Float[Tensor, "B D H W"]:
    """`convolve` with a weight from `pack_kernel`, without gradients; the result is channels-last in memory."""
    channels_last = x.permute(0, 2, 3, 1).contiguous()
    out = x.new_empty(*channels_last.shape[:3], packed.shape[2])
    return convolve_into(out, channels_last, packed, bias, relu=relu).permute(0, 3, 1, 2)


def _takes(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """As `ops.linear` has it: whoever looks at operators sees PyTorch's, and so does autocast."""
    if torch.compiler.is_compiling() or is_transformed() or not _is_ordinary(x) or x.ndim != 4:
        return False
    if x.shape[0] * x.shape[2] * x.shape[3] < FEWEST_PLACES or torch.is_autocast_enabled("cpu"):
        return False
    if torch._C._len_torch_dispatch_stack() or not has_packed_convolution(weight) or weight.shape[1] != x.shape[1]:
        return False
    return bias is None or (_is_ordinary(bias) and bias.shape == weight.shape[:1])


def _is_ordinary(tensor: Tensor) -> bool:
    return is_ordinary(tensor) and tensor.dtype == torch.float32


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
    return convolve_packed(x, pack_kernel(weight), None if bias is None else bias.contiguous(), relu=relu)


def _plain(relu: bool, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    out = F.conv2d(x, weight, bias, padding=1)
    return F.relu(out) if relu else out


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        out = _convolve(x, weight, bias, relu)
        ctx.relu = relu
        ctx.save_for_backward(x, weight, bias, out if relu else None)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, out = ctx.saved_tensors
        wants_x, wants_weight, wants_bias, _ = ctx.needs_input_grad
        with without_autocast("cpu"):
            if is_differentiated_again(grad):
                found = plain_gradients(partial(_plain, ctx.relu), (x, weight, bias), ctx.needs_input_grad[:3], grad)
                return (*found, None)
            if out is not None:
                grad = torch.ops.aten.threshold_backward(grad, out, 0)
            rows = grad.permute(0, 2, 3, 1).contiguous()
            grad_x = grad_weight = None
            if wants_x:
                grad_x = convolve_packed(
                    rows.permute(0, 3, 1, 2), pack_kernel(weight, of_gradient=True), None, relu=False
                )
            if wants_weight:
                grad_weight = kernel_gradient(x.permute(0, 2, 3, 1).contiguous(), rows)
            return grad_x, grad_weight, rows.sum((0, 1, 2)) if wants_bias else None, None
