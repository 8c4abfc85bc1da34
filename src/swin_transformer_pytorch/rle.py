"""Masks as run lengths, in the compressed form of COCO: byte for byte what pycocotools writes and reads.

Pixels are counted down the columns, from the left one on; runs of zeros and ones alternate, zeros first. From the
fourth on, a run is stored as the difference from the run two before it, in digits of 5 bits, lowest first, with a
sixth bit that says whether more follow, each digit an ASCII character from "0" on. Only numpy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FIRST_CHARACTER = 48
_MORE = 0x20  # another digit follows
_SIGN = 0x10  # in the last digit: the number is negative
_LONGEST = 7  # digits of a difference of 32-bit numbers


def says_pixels(segmentation: Any) -> bool:
    """Whether COCO's "segmentation" of an object has an area: run lengths, or polygons, one of three points or more."""
    if isinstance(segmentation, list):
        return any(isinstance(polygon, list) and len(polygon) >= 6 for polygon in segmentation)
    return bool(segmentation)


def encode_mask(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> bytes:
    """A mask (H, W), anything but 0 being the object, as compressed run lengths."""
    return encode_counts(mask_counts(mask))


def decode_mask(counts: bytes | str, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) of compressed run lengths; `size` is (H, W).

    Raises:
        ValueError: the text is damaged, or its runs make another number of pixels.
    """
    return from_uncompressed(decode_counts(counts), size)


def mask_area(counts: bytes | str) -> int:
    """How many pixels the object has, from compressed run lengths."""
    return int(decode_counts(counts)[1::2].sum())


def mask_counts(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> NDArray[np.int64]:
    """The run lengths of a mask (H, W): zeros, ones, zeros, ...; the first is 0 where the first pixel is the object's.

    Raises:
        ValueError: it has not two axes.
    """
    if mask.ndim != 2:
        raise ValueError(f"one mask is (height, width), not {mask.shape}; encode several one at a time")
    height, width = mask.shape
    inside = mask.astype(bool, copy=False)
    columns = np.flatnonzero(inside.any(axis=0))
    if len(columns) == 0:
        return np.array([mask.size], dtype=np.int64)
    # Turning the mask on its side is what costs time, so it is done only where the object is.
    first, end = int(columns[0]), int(columns[-1]) + 1
    pixels = inside[:, first:end].T.ravel()
    changes = np.flatnonzero(pixels[1:] != pixels[:-1]) + 1
    before = [0] if pixels[0] else []
    after = [len(pixels)] if pixels[-1] and end < width else []
    places = np.concatenate([before, changes, after]).astype(np.int64) + first * height
    return np.diff(places, prepend=0, append=mask.size)


def placed_counts(part: NDArray[np.bool_], place: tuple[int, int], size: tuple[int, int]) -> NDArray[np.int64]:
    """The run lengths of a mask (H, W) = `size` of which `part` lies with its first pixel at `place`, (row, column).

    The rest of the mask, all zeros, is not laid out.
    """
    (height, width), (top, left) = size, place
    columns = np.zeros((part.shape[1], part.shape[0] + 1), dtype=np.int8)  # each ends with a zero, and its last run
    columns[:, :-1] = part.T
    column, row = np.divmod(np.flatnonzero(np.diff(columns.ravel(), prepend=0)), columns.shape[1])
    edges = (left + column) * height + top + row
    # A run to the foot of the mask and one from its head in the next column are one.
    joined = np.flatnonzero(edges[1:-1:2] == edges[2::2]) * 2 + 1
    edges = np.delete(edges, np.concatenate([joined, joined + 1]))
    if len(edges) and edges[-1] == height * width:
        edges = edges[:-1]
    return np.diff(edges, prepend=0, append=height * width)


def from_uncompressed(counts: Sequence[int] | NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask (H, W) of plain run lengths; `size` is (H, W).

    Raises:
        ValueError: a run is negative, or they make another number of pixels.
    """
    height, width = size
    total = sum(np.asarray(counts).tolist())  # as Python's numbers, which do not overflow
    if total != height * width:
        raise ValueError(f"the run lengths make {total} pixels, and {height} x {width} has {height * width}")
    if min(counts, default=0) < 0:
        raise ValueError("run lengths must be whole numbers of at least 0")
    runs = np.asarray(counts, dtype=np.int64)
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(pixels.reshape(width, height).T)


def encode_counts(counts: Sequence[int] | NDArray[np.int64]) -> bytes:
    """Run lengths in compressed form."""
    rest = np.array(counts, dtype=np.int64)
    rest[3:] -= np.asarray(counts, dtype=np.int64)[1:-2]
    digits = np.empty((len(rest), _LONGEST), dtype=np.uint8)
    used = np.zeros((len(rest), _LONGEST), dtype=bool)
    going = np.ones(len(rest), dtype=bool)
    for place in range(_LONGEST):
        digit = rest & 0x1F
        rest = rest >> 5
        more = np.where(digit & _SIGN, rest != -1, rest != 0)
        digits[:, place] = (digit | np.where(more, _MORE, 0)) + _FIRST_CHARACTER
        used[:, place] = going
        going = going & more
        if not going.any():
            break
    return digits[used].tobytes()


def decode_counts(counts: bytes | str) -> NDArray[np.int64]:
    """Compressed run lengths as numbers.

    Raises:
        ValueError: the text has other characters, or ends amid a number.
    """
    text = counts.encode("utf-8", "surrogatepass") if isinstance(counts, str) else bytes(counts)
    digits = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - _FIRST_CHARACTER
    if len(digits) == 0:
        return np.zeros(0, dtype=np.int64)
    if digits.min() < 0 or digits.max() >= 2 * _MORE:
        raise ValueError("the run lengths hold characters that COCO's compressed form does not have")
    ends = np.flatnonzero((digits & _MORE) == 0)
    if len(ends) == 0 or ends[-1] != len(digits) - 1:
        raise ValueError("the run lengths are cut short: the last number goes on")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST:
        raise ValueError("the run lengths hold a number beyond 32 bits")
    shifts = 5 * (np.arange(len(digits)) - starts.repeat(lengths))
    numbers = np.add.reduceat((digits & 0x1F) << shifts, starts)
    numbers -= np.where(digits[ends] & _SIGN, np.int64(1) << (5 * lengths), 0)
    numbers[1::2] = numbers[1::2].cumsum()
    numbers[2::2] = numbers[2::2].cumsum()
    return numbers
