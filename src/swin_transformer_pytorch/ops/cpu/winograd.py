"""The CPU's own 3x3 convolutions as operators, in float32: Winograd's F(4x4, 3x3) on channels-last maps.

They have no gradients: `ops.convolution` has. All tensors are float32 and contiguous, numbers of channels are multiples
of `MULTIPLE`; anything else is a ValueError.
"""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from .library import run
from .operators import check_memory, register

MULTIPLE = 16
PLACES = 36


def pack_kernel(weight: Tensor, *, of_gradient: bool = False) -> Tensor:
    """A weight (D, C, 3, 3) in the form of 36 places, each in panels, for `convolve_into`: shape (36, C, D).

    Args:
        of_gradient: for the gradient of the map, which is a convolution of the result's: shape (36, D, C).
    """
    packed: Tensor = torch.ops.swin_transformer_pytorch.pack_kernel(weight.detach().contiguous(), of_gradient)
    return packed


def convolve_into(out: Tensor, x: Tensor, packed: Tensor, bias: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """Writes the convolution of x, padded by 1, plus bias into `out`, with `relu` without what is below 0.

    Args:
        out: (B, H, W, D); not the memory of another argument.
        x: (B, H, W, C).
        packed: (36, C, D), from `pack_kernel`.
        bias: (D,).
    """
    torch.ops.swin_transformer_pytorch.convolve_into(out, x, packed, bias, relu)
    return out


def kernel_gradient(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient of the weight (D, C, 3, 3), from the map (B, H, W, C) and the result's gradient (B, H, W, D)."""
    taps: Tensor = torch.ops.swin_transformer_pytorch.kernel_gradient(x, grad)  # (3, 3, C, D)
    return taps.permute(3, 2, 0, 1)


def _pack(weight: Tensor, of_gradient: bool) -> Tensor:
    packed = _empty_kernel(weight, of_gradient)
    check_memory(weight)
    run("swin_winograd_pack", weight.data_ptr(), *weight.shape[:2], of_gradient, packed.data_ptr())
    return packed


def _empty_kernel(weight: Tensor, of_gradient: bool) -> Tensor:
    if weight.ndim != 4 or weight.shape[2:] != (3, 3):
        raise ValueError(f"a kernel to pack is {tuple(weight.shape)}; it must be (columns, channels, 3, 3)")
    _check_channels(weight.shape[0], weight.shape[1])
    columns, channels = weight.shape[:2]
    return weight.new_empty(PLACES, *((columns, channels) if of_gradient else (channels, columns)))


def _convolve_into(out: Tensor, x: Tensor, packed: Tensor, bias: Tensor | None, relu: bool) -> None:
    _check_convolution(out, x, packed, bias, relu)
    check_memory(out, x, packed, bias)
    run(
        "swin_winograd",
        x.data_ptr(),
        packed.data_ptr(),
        None if bias is None else bias.data_ptr(),
        out.data_ptr(),
        *x.shape,
        packed.shape[2],
        relu,
    )


def _check_convolution(out: Tensor, x: Tensor, packed: Tensor, bias: Tensor | None, relu: bool) -> None:
    _, channels, columns = packed.shape
    _check_channels(channels, columns)
    if x.ndim != 4 or x.shape[3] != channels:
        raise ValueError(f"x is {tuple(x.shape)}; the layer takes (batch, height, width, {channels})")
    if out.shape != (*x.shape[:3], columns):
        raise ValueError(f"out is {tuple(out.shape)}; the layer makes {(*x.shape[:3], columns)} of {tuple(x.shape)}")
    if bias is not None and bias.shape != (columns,):
        raise ValueError(f"bias is {tuple(bias.shape)}; it must be ({columns},)")


def _kernel_gradient(x: Tensor, grad: Tensor) -> Tensor:
    taps = _empty_taps(x, grad)
    check_memory(x, grad)
    if not x.numel():
        return taps.zero_()
    channels, columns = x.shape[3], grad.shape[3]
    floats = ctypes.c_int64()
    run("swin_winograd_space", channels, columns, ctypes.addressof(floats))
    space = x.new_empty(floats.value)
    run(
        "swin_winograd_weight_gradient",
        x.data_ptr(),
        grad.data_ptr(),
        taps.data_ptr(),
        space.data_ptr(),
        *x.shape,
        columns,
    )
    return taps


def _empty_taps(x: Tensor, grad: Tensor) -> Tensor:
    if x.ndim != 4 or grad.ndim != 4 or x.shape[:3] != grad.shape[:3]:
        raise ValueError(f"x is {tuple(x.shape)} and grad {tuple(grad.shape)}; both must be (batch, height, width, _)")
    _check_channels(x.shape[3], grad.shape[3])
    return x.new_empty(3, 3, x.shape[3], grad.shape[3])


def _check_channels(*counts: int) -> None:
    if any(not count or count % MULTIPLE for count in counts):
        raise ValueError(f"a convolution has {' and '.join(map(str, counts))} channels, not multiples of {MULTIPLE}")


register("pack_kernel(Tensor weight, bool of_gradient) -> Tensor", _pack, _empty_kernel)
register(
    "convolve_into(Tensor(a!) out, Tensor x, Tensor packed, Tensor? bias, bool relu) -> ()",
    _convolve_into,
    _check_convolution,
)
register("kernel_gradient(Tensor x, Tensor grad) -> Tensor", _kernel_gradient, _empty_taps)
