"""Images of 8 bits resized, moved and normalised with Pillow's own numbers, many times as fast.

Each function runs on one thread, that of its caller: a loader has many processes at work, each on images of its own.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from torch import Tensor

from ...sizes import Size
from .build import KernelBuildError
from .library import functions, run, say_once

Filter = Literal["bilinear", "bicubic"]

_FILTERS: dict[Filter, Image.Resampling] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def why_not() -> str | None:
    """None where these functions can be used, which builds them if need be; else the reason, in one line, which is
    logged. Asked once a process, or once for a process and all that it forks.

    They can where the library is to be had and gives what the installed Pillow gives.
    """
    return _found()[0]


def resize(
    image: UInt8[np.ndarray, "H W C"],
    size: Size,
    filter: Filter,
    *,
    window: tuple[int, int, int, int] | None = None,
    flip: bool = False,
) -> UInt8[np.ndarray, "h w C"]:
    """What Pillow's `resize` gives, to the bit.

    Args:
        image: of 1 or 3 channels; a part of a larger one will do.
        size: (height, width) that it is resized to.
        filter: Pillow's, with antialiasing.
        window: (top, left, height, width) of the part of the result to make; None for all.
        flip: whether to mirror what is made, left to right.
    """
    top, left, height, width = window or (0, 0, *size)
    out = np.empty((height, width, image.shape[2]), dtype=np.uint8)
    _resample(image, size, filter, (top, left, height, width), flip, None, out.ctypes.data, _order())
    return out


def resize_normalized(
    image: UInt8[np.ndarray, "H W C"],
    size: Size,
    filter: Filter,
    levels: Float32[Tensor, "C 258"],
    *,
    window: tuple[int, int, int, int] | None = None,
    flip: bool = False,
    out: Float32[Tensor, "C h w"] | None = None,
) -> Float32[Tensor, "C h w"]:
    """Likewise, with each byte then replaced by what `levels` has for it, see `by_level`; into `out`, if given."""
    top, left, height, width = window or (0, 0, *size)
    out = _room(out, (image.shape[2], height, width))
    _resample(image, size, filter, (top, left, height, width), flip, levels, out.data_ptr(), _order())
    return out


def by_level(
    image: UInt8[np.ndarray, "H W C"], levels: Float32[Tensor, "C 258"], *, out: Float32[Tensor, "C H W"] | None = None
) -> Float32[Tensor, "C H W"]:
    """Each byte replaced by what `levels` has for it, and channels put first; into `out`, if that is given.

    Args:
        image: of 1 or 3 channels.
        levels: for each channel the 256 new values, then a mean and a standard deviation: (byte / 255 - mean) /
            deviation is computed instead of being looked up where that gives the same bits. A deviation of 0: never.
        out: where the result goes.
    """
    height, width, channels = image.shape
    out = _room(out, (channels, height, width))
    image = np.ascontiguousarray(image)
    run("swin_levels", image.ctypes.data, height * width, channels, levels.data_ptr(), out.data_ptr())
    return out


def affine(
    image: UInt8[np.ndarray, "H W 3"], matrix: Sequence[float | int], fill: tuple[int, ...]
) -> UInt8[np.ndarray, "H W 3"]:
    """What Pillow's `transform` gives of an affine map with its bicubic filter, to the bit.

    Args:
        image: colours.
        matrix: six numbers; the pixel at (x, y) of the result comes from (ax + by + c, dx + ey + f).
        fill: the colour of what comes from beyond the image.
    """
    image = np.ascontiguousarray(image)
    out = np.empty_like(image)
    numbers, colour = (ctypes.c_double * 6)(*matrix), (ctypes.c_uint8 * 3)(*fill)
    run("swin_affine", image.ctypes.data, image.shape[0], image.shape[1], numbers, colour, out.ctypes.data)
    return out


def _room(out: Tensor | None, shape: tuple[int, int, int]) -> Tensor:
    if out is None:
        return torch.empty(shape, dtype=torch.float32)
    if out.shape != shape or out.dtype != torch.float32 or not out.is_contiguous() or out.device.type != "cpu":
        raise ValueError(f"out is {out.dtype} {tuple(out.shape)}; give a contiguous float32 tensor {shape} on the CPU")
    return out


# Which of the two passes comes first changes the rounding between them. Along rows it is in Pillow up to 12; 13 begins
# with columns where that leaves out many more rows than columns.
Order = Literal["rows", "fewer"]


def _resample(
    image: UInt8[np.ndarray, "H W C"],
    size: Size,
    filter: Filter,
    window: tuple[int, int, int, int],
    flip: bool,
    levels: Float32[Tensor, "C 258"] | None,
    out: int,
    order: Order,
) -> None:
    height, width, channels = image.shape
    if image.dtype != np.uint8 or channels not in (1, 3) or image.size == 0:
        raise ValueError(f"an image is uint8 (height, width, 1 or 3), not {image.dtype} {image.shape}")
    top, left, rows, columns = window
    if min(top, left) < 0 or min(rows, columns) < 1 or top + rows > size[0] or left + columns > size[1]:
        raise ValueError(f"window={window} is not within size={size}")
    if image.strides[1:] != (channels, 1) or image.strides[0] < 0:
        image = np.ascontiguousarray(image)
    columns_first = order == "fewer" and size[0] < height and height - size[0] > 2 * (width - size[1])
    sizes = (image.strides[0], height, width, channels, *size, *window, filter == "bicubic", columns_first, flip)
    run(
        "swin_resample",
        image.ctypes.data,
        (ctypes.c_int64 * 13)(*sizes),
        None if levels is None else levels.data_ptr(),
        out,
    )


def _order() -> Order:
    order = _found()[1]
    if order is None:
        raise KernelBuildError(f"images cannot be resized by the CPU kernels: {_found()[0]}")
    return order


@functools.cache
def _found() -> tuple[str | None, Order | None]:
    """Why the functions cannot be used, and the order of Pillow's passes."""
    order: Order | None = None
    try:
        functions()
        order = next((order for order in get_args(Order) if _agrees(order)), None)
        reason = None if order else f"Pillow {Image.__version__} gives other numbers, which are kept"
    except KernelBuildError as error:
        reason = f"{error}; `swin doctor --build` tries again"
    if reason is not None:
        say_once(f"images are resized and turned by Pillow and torchvision, which are slower: {reason}")
    return reason, order


def _agrees(order: Order) -> bool:
    """Whether small images become what the installed Pillow makes of them."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    for filter, resampling in _FILTERS.items():
        # In the order of 13 the passes along columns come first in the second, fourth and fifth.
        for size in ((20, 15), (9, 25), (60, 47), (25, 23), (17, 44), (24, 22)):
            out = np.empty((*size, 3), dtype=np.uint8)
            _resample(noise, size, filter, (0, 0, *size), False, None, out.ctypes.data, order)
            if not np.array_equal(out, np.asarray(picture.resize(size[::-1], resampling))):
                return False
    matrix, fill = (0.9, 0.3, 2.2, -0.4, 1.1, 3.7), (1, 2, 3)
    moved = picture.transform(picture.size, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC, fillcolor=fill)
    return np.array_equal(affine(noise, matrix, fill), np.asarray(moved))
