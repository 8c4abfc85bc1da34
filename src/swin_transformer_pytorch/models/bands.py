"""Maps that come in bands, so that they never exist at full size: resized band by band, reduced, and forgotten.

A band is a tensor (channels, rows, width); a map is a sequence of bands from its top to its bottom.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ..sizes import Size

# Of the same speed from 2**19 to 2**22 (a CPU's caches hold them), and small beside a row of windows.
BAND_ELEMENTS = 2**20
"""Numbers of a band."""


def resize_bands(
    bands: Iterable[Float[Tensor, "classes rows w"]], source_size: Size, target_size: Size, rows: int | None = None
) -> Iterator[Float[Tensor, "classes rows W"]]:
    """Bilinear resize with `align_corners=False` of a map that comes in bands.

    Every band that it gives but the last has that many rows; by default as many as keep what is held small, on
    either side of the resize.
    """
    same_rows = source_size[0] == target_size[0]
    held: Tensor | None = None
    top = 0  # of `held` in the source
    done = 0
    for band in bands:
        held = band if held is None or not held.shape[1] else torch.cat([held, band], dim=1)
        bottom = top + held.shape[1]
        if rows is None:
            of_source = band_rows(len(band), source_size[1]) * target_size[0] // source_size[0]
            rows = max(min(band_rows(len(band), target_size[1]), of_source), 1)
        while done < target_size[0]:
            end = min(done + rows, target_size[0])
            lower, upper, fraction = source_rows(done, end, source_size[0], target_size[0])
            if (end - 1 if same_rows else int(upper[-1])) >= bottom:
                break
            if same_rows:
                taken = held[:, done - top : end - top]
            else:
                first, second, weight = (x.to(held.device) for x in (lower - top, upper - top, fraction.unsqueeze(1)))
                taken = torch.lerp(held[:, first], held[:, second], weight)
            yield resize_columns(taken, target_size[1])
            done = end
            # The next rows may lie between the last ones that these used.
            unused = (done if same_rows else int(lower[-1])) - top
            held, top = held[:, unused:], top + unused


def band_rows(classes: int, width: int) -> int:
    """Rows of a band of that many channels and columns."""
    return max(BAND_ELEMENTS // max(classes * width, 1), 1)


def source_rows(
    start: int, stop: int, source: int, target: int
) -> tuple[Int[Tensor, " rows"], Int[Tensor, " rows"], Float[Tensor, " rows"]]:
    """For each row of the target the two rows of the source that it lies between, and how far it is from the first.

    In float32, as PyTorch's own resize has it.
    """
    position = (torch.arange(start, stop) + 0.5) * (torch.tensor(float(source)) / target) - 0.5
    position = position.clamp(min=0)
    lower = position.long().clamp(max=source - 1)
    return lower, (lower + 1).clamp(max=source - 1), position - lower


def resize_columns(x: Float[Tensor, "classes rows w"], width: int) -> Float[Tensor, "classes rows W"]:
    """Bilinear resize of each row."""
    if width == x.shape[2]:
        return x
    return F.interpolate(x.unsqueeze(0), size=(x.shape[1], width), mode="bilinear", align_corners=False)[0]
