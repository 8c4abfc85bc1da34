"""Grey pictures on black, such as Fashion-MNIST's, cut out along their outline and laid into scenes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Fashion-MNIST's black has grains of up to about ten.
_THRESHOLD = 10
# Around the picture, so that outlines that touch its border are smooth as well.
_MARGIN = 2


@dataclass(frozen=True, kw_only=True)
class Cutout:
    """An item without its background.

    Attributes:
        grey: brightness, mode "L"; outside of the item it goes on as at the item's edge, so that resampling draws no
            dark rim.
        mask: 255 on the item and 0 elsewhere, mode "L", of the same size.
        area: pixels of the item.
    """

    grey: Image.Image
    mask: Image.Image
    area: int


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A cutout as it lies in a scene.

    Attributes:
        rows: the scene's rows that it may touch.
        columns: the same of columns.
        grey: float32 in [0, 1], (rows, columns).
        alpha: float32 in [0, 1], (rows, columns): 1 on the item, 0 off it, between them at its antialiased edge.
        area: pixels of the whole item, those beyond the scene's border too.
    """

    rows: slice
    columns: slice
    grey: NDArray[np.float32]
    alpha: NDArray[np.float32]
    area: float


def cut_out(image: NDArray[np.uint8]) -> Cutout:
    """Parts an item (h, w) from its black background; dark spots that the item encloses belong to it."""
    grey = np.pad(image, _MARGIN)
    mask = ~_background(grey <= _THRESHOLD)
    return Cutout(
        grey=Image.fromarray(_spread(grey, mask)),
        mask=Image.fromarray(mask.astype(np.uint8) * 255),
        area=int(mask.sum()),
    )


def place(
    cutout: Cutout, *, centre: tuple[float, float], zoom: float, angle: float, mirror: bool, size: tuple[int, int]
) -> Placed:
    """Resamples a cutout to where it lies in a scene.

    Args:
        cutout: the item.
        centre: (y, x) of its middle in the scene, pixels.
        zoom: scene pixels per pixel of the item.
        angle: anticlockwise rotation, degrees.
        mirror: whether left and right are swapped first.
        size: (height, width) of the scene.
    """
    sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
    width, height = cutout.grey.size
    reach_y = zoom * (abs(sine) * width + abs(cosine) * height) / 2
    reach_x = zoom * (abs(cosine) * width + abs(sine) * height) / 2
    rows, columns = _clip(centre[0], reach_y, size[0]), _clip(centre[1], reach_x, size[1])
    # From a place in the scene's window back to the item: PIL's transforms are the inverse ones.
    flip = -1 if mirror else 1
    a, b = flip * cosine / zoom, -flip * sine / zoom
    d, e = sine / zoom, cosine / zoom
    y, x = rows.start - centre[0], columns.start - centre[1]
    matrix = (a, b, a * x + b * y + width / 2, d, e, d * x + e * y + height / 2)
    window = (columns.stop - columns.start, rows.stop - rows.start)
    grey, mask = (
        _as_float(image.transform(window, Image.Transform.AFFINE, matrix, Image.Resampling.BICUBIC))
        for image in (cutout.grey, cutout.mask)
    )
    # The resampled mask goes from 0 to 1 over a pixel of the item, which is `zoom` of the scene: make that one.
    alpha = np.clip((mask - np.float32(0.5)) * np.float32(max(zoom, 1.0)) + np.float32(0.5), 0, 1)
    return Placed(rows=rows, columns=columns, grey=grey, alpha=alpha, area=cutout.area * zoom**2)


def _as_float(image: Image.Image) -> NDArray[np.float32]:
    return np.asarray(image, dtype=np.float32) / np.float32(255)


def _clip(centre: float, reach: float, size: int) -> slice:
    """The indices within `reach` of `centre` that lie in [0, size)."""
    start, stop = math.floor(centre - reach), math.ceil(centre + reach)
    return slice(min(max(start, 0), size - 1), max(min(stop, size), 1))


def _background(dark: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The dark pixels (h, w) from which a path of dark pixels, side by side, leads to the border, itself dark."""
    reached = np.zeros_like(dark)
    reached[0], reached[-1], reached[:, 0], reached[:, -1] = dark[0], dark[-1], dark[:, 0], dark[:, -1]
    count = -1
    while (now := int(reached.sum())) != count:
        count = now
        grown = reached.copy()
        grown[1:] |= reached[:-1]
        grown[:-1] |= reached[1:]
        grown[:, 1:] |= reached[:, :-1]
        grown[:, :-1] |= reached[:, 1:]
        reached = grown & dark
    return reached


def _spread(grey: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Lets the values at a mask's edge go on outward, a pixel a round, as the mean of the neighbours that have one."""
    values = np.where(mask, grey, 0).astype(np.float32)
    known = mask.astype(np.float32)
    for _ in range(2 * _MARGIN):
        total, count = _neighbours(values), _neighbours(known)
        new = (known == 0) & (count > 0)
        values[new] = total[new] / count[new]
        known[new] = 1
    return np.rint(values).astype(np.uint8)


def _neighbours(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The sum of the 3 x 3 pixels around each one, with nothing beyond the border."""
    padded = np.pad(values, 1)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    total: NDArray[np.float32] = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]
    return total
