"""Heat maps over images: what speaks for an answer, and what a token looks at. PIL only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .pictures import NEUTRAL, Picture, StrPath, as_rgb, picture_grid, readable, shortened, text_font

_MARK = "#00b7ff"  # none of the colours of heat
# From dark violet by red and orange to light yellow: each is lighter than the one before, for eyes of all kinds.
_COLOURS = np.array([(60, 10, 90), (140, 20, 110), (205, 55, 70), (245, 130, 25), (255, 245, 130)], dtype=np.float64)
_OPACITY = 0.85
_MASKED = 1e-30  # the shift mask leaves e**-100 or so


def heat_overlay(
    image: Picture,
    heat: NDArray[np.float32],
    caption: Sequence[str] = (),
    *,
    box_xyxy: tuple[float, float, float, float] | None = None,
    smooth: bool = True,
) -> Image.Image:
    """A grey image with heat over it, the more the more opaque.

    One longer than 1,024 pixels is shrunk to that, one shorter than 480 enlarged.

    Args:
        image: a PIL image or uint8 array.
        heat: (H, W) of the image, in [0, 1].
        caption: lines beneath it.
        box_xyxy: a frame in the image's pixels, such as that of the object which is explained.
        smooth: whether heat is interpolated where the image is enlarged; otherwise each of its pixels stays a square.

    Raises:
        ValueError: the image has another size than the heat.
    """
    picture, scale = readable(image, shortest=480, longest=1024, result_size=(heat.shape[0], heat.shape[1]))
    method = Image.Resampling.BILINEAR if smooth else Image.Resampling.NEAREST
    scaled = np.asarray(Image.fromarray(heat.astype(np.float32)).resize(picture.size, method)).clip(0, 1)
    steps = np.linspace(0, 1, len(_COLOURS))
    colours = np.stack([np.interp(scaled, steps, channel) for channel in _COLOURS.T], axis=-1)
    opacity = _OPACITY * scaled[..., None] ** 0.75
    grey = np.asarray(picture.convert("L").convert("RGB"), dtype=np.float64)
    shown = Image.fromarray((grey * (1 - opacity) + colours * opacity).round().astype(np.uint8))
    if box_xyxy is not None:
        corners = [round(side * scale) for side in box_xyxy]
        ImageDraw.Draw(shown).rectangle(
            (corners[0], corners[1], max(corners[0], corners[2] - 1), max(corners[1], corners[3] - 1)),
            outline=_MARK,
            width=max(2, max(shown.size) // 240),
        )
    return _with_caption(shown, caption)


def attention_picture(
    image: Picture,
    heat: NDArray[np.float32],
    cell_xyxy: tuple[float, float, float, float],
    path: StrPath,
    title: str = "mean of the heads",
) -> None:
    """Saves the image with what a token looks at over it, first by the mean of the heads, then by each alone.

    Each picture's heat is from 0 to its largest weight, which stands above it. What the token cannot look at is darker.

    Args:
        image: a PIL image or uint8 array.
        heat: (heads, H, W) weights; see `explain.TokenAttention`.
        cell_xyxy: the token, which gets a frame.
        path: where; its ending is the format.
        title: of the first picture.
    """
    maps = [heat.mean(axis=0), *heat]
    apart = heat.max(axis=0) < _MASKED
    dimmed = np.asarray(as_rgb(image)) * np.where(apart, 0.5, 1.0)[..., None]
    names = [title, *(f"head {head}" for head in range(len(heat)))]
    picture_grid(
        [
            heat_overlay(dimmed.astype(np.uint8), one / (one.max() or 1), box_xyxy=cell_xyxy, smooth=False)
            for one in maps
        ],
        path,
        titles=[f"{name}: up to {one.max():.2f}" for name, one in zip(names, maps, strict=True)],
    )


def _with_caption(picture: Image.Image, caption: Sequence[str]) -> Image.Image:
    if not caption:
        return picture
    width = max(320, picture.width)
    font = text_font(max(14, width // 36), caption)
    row = round(font.size * 1.5)
    canvas = Image.new("RGB", (width, picture.height + row * len(caption) + row // 3), "white")
    canvas.paste(picture, ((width - picture.width) // 2, 0))
    draw = ImageDraw.Draw(canvas)
    for place, line in enumerate(caption):
        text = shortened(line, draw, font, width - row)
        draw.text((row / 2, picture.height + row * (place + 0.6)), text, fill=NEUTRAL, font=font, anchor="lm")
    return canvas
