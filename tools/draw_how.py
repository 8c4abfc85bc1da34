"""Draws docs/images/how-*.png, the figures of docs/how-a-swin-works.md, by the package's own functions.

python tools/draw_how.py
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

import swin_transformer_pytorch as swin
from swin_transformer_pytorch.backbone.attention import log_spaced_coords
from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.ops import merge, partition, relative_position_index, shift_mask

FOLDER = Path(__file__).parents[1] / "docs" / "images"
_WINDOW_COLOUR, _PATCH_COLOUR, _SIDE = "#e5443c", "#ffffff", 64
_QUERY = 27  # row 3, column 3 of a window of 8 x 8


def main() -> None:
    drawings: dict[str, Callable[[], Figure]] = {
        "windows": _windows,
        "bias": _bias,
        "shift": _shift,
        "mask": _mask,
        "merging": _merging,
        "v2": _v2,
    }
    for name, draw in drawings.items():
        path = FOLDER / f"how-{name}.png"
        draw().savefig(path, dpi=100)
        with Image.open(path) as picture:
            small = picture.convert("RGB").quantize(128)
        small.save(path, optimize=True)
        print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


def _scene() -> Image.Image:
    return open_scenes("scenes_sample", "val", num_scenes=3, image_size=(_SIDE, _SIDE))[2].picture


def _panels(titles: list[str], height: float = 2.9) -> tuple[Figure, list[Any]]:
    figure = Figure(figsize=(2.6 * len(titles), height), layout="constrained")
    panels = [figure.add_subplot(1, len(titles), place + 1) for place in range(len(titles))]
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title, fontsize=10)
        panel.set_xticks([])
        panel.set_yticks([])
    return figure, panels


def _grid(panel: Any, side: int, step: int, colour: str, width: float) -> None:
    for place in range(0, side + 1, step):
        panel.axhline(place - 0.5, color=colour, linewidth=width)
        panel.axvline(place - 0.5, color=colour, linewidth=width)


def _windows() -> Figure:
    figure, panels = _panels(["image, 64 x 64 pixels", "256 patches of 4 x 4", "16 windows of 4 x 4 patches"])
    for panel, grids in zip(panels, ((), (4,), (4, 16)), strict=True):
        panel.imshow(_scene(), interpolation="nearest")
        for step in grids:
            _grid(panel, _SIDE, step, _WINDOW_COLOUR if step > 4 else _PATCH_COLOUR, 2 if step > 4 else 0.5)
    return figure


def _bias() -> Figure:
    figure, panels = _panels(["row of the table, by offset", "trained bias, a head", "another head"])
    index = relative_position_index((4, 4)).view(16, 16)
    rows = np.zeros((7, 7), int)
    for query in range(16):
        for key in range(16):
            y, x = query // 4 - key // 4, query % 4 - key % 4
            rows[y + 3, x + 3] = index[query, key]
    panels[0].imshow(rows, cmap="Blues", alpha=0.6)
    for (y, x), row in np.ndenumerate(rows):
        panels[0].text(x, y, row, ha="center", va="center", fontsize=8)
    panels[0].set_xlabel("columns: query - key, -3 to 3", fontsize=8)
    panels[0].set_ylabel("rows: -3 to 3", fontsize=8)
    attention: Any = swin.load_model("scenes_detection").get_submodule("backbone.layers.1.blocks.0.attn")
    bias = attention.relative_position_bias((8, 8)).detach()[:, _QUERY].view(-1, 8, 8)
    limit = float(bias.abs().max())
    for panel, head in zip(panels[1:], (0, 2), strict=True):
        panel.imshow(bias[head], cmap="RdBu_r", vmin=-limit, vmax=limit)
        _grid(panel, 8, 1, _PATCH_COLOUR, 0.5)
        panel.plot(_QUERY % 8, _QUERY // 8, "k.", markersize=8)
        panel.set_xlabel("red: more, blue: less, dot: the query", fontsize=8)
    return figure


def _shift() -> Figure:
    figure, panels = _panels(["windows of a shifted block", "the map rolled by 2, cut as always"])
    scene = np.asarray(_scene())
    tokens = torch.from_numpy(scene.copy()).view(1, _SIDE, _SIDE, 3)
    rolled = tokens.roll((-8, -8), dims=(1, 2))
    assert torch.equal(merge(partition(rolled, (16, 16)), (_SIDE, _SIDE), (16, 16)), rolled)
    panels[0].imshow(scene, interpolation="nearest")
    for place in range(8, _SIDE, 16):
        panels[0].axhline(place - 0.5, color=_WINDOW_COLOUR, linewidth=2)
        panels[0].axvline(place - 0.5, color=_WINDOW_COLOUR, linewidth=2)
    panels[1].imshow(rolled[0], interpolation="nearest")
    _grid(panels[1], _SIDE, 16, _WINDOW_COLOUR, 2)
    for panel, edge in ((panels[0], 8), (panels[1], _SIDE - 8)):
        panel.axhline(edge - 0.5, color="#ffd400", linewidth=2, linestyle=":")
        panel.axvline(edge - 0.5, color="#ffd400", linewidth=2, linestyle=":")
        panel.set_xlabel("dotted: where the map is parted and joined", fontsize=8)
    return figure


def _mask() -> Figure:
    figure, panels = _panels(["inside", "last column", "last row", "corner"])
    mask = shift_mask((16, 16), (4, 4), (2, 2), device=torch.device("cpu"), dtype=torch.float32)
    for panel, window in zip(panels, (0, 3, 12, 15), strict=True):
        panel.imshow(mask[window], cmap="Blues_r", vmin=-100, vmax=0)
        _grid(panel, 16, 4, "#b0b0b0", 0.7)
    return figure


def _merging() -> Figure:
    titles = [f"stage {stage + 1}: tokens of {4 << stage} pixels" for stage in range(3)]
    figure, panels = _panels(titles)
    for stage, panel in enumerate(panels):
        panel.imshow(_scene(), interpolation="nearest")
        _grid(panel, _SIDE, 4 << stage, _PATCH_COLOUR, 0.5)
        _grid(panel, _SIDE, 16 << stage, _WINDOW_COLOUR, 2)
    return figure


def _v2() -> Figure:
    figure = Figure(figsize=(6.2, 3.1), layout="constrained")
    panel = figure.add_subplot()
    for window, colour in ((16, _WINDOW_COLOUR), (8, "#1f6feb")):
        offsets = np.arange(1 - window, window)
        side = 2 * window - 1
        seen = log_spaced_coords((window, window), (8, 8))[::side, 0][:side]
        panel.plot(offsets, seen, ".-", color=colour, label=f"window {window}: up to {seen.max():.2f}", linewidth=1)
    steps = np.arange(-15, 16)
    panel.plot(steps, steps / 7 * math.log2(9) / 3, "--", color="#888888", label="linear: up to 2.26", linewidth=1)
    panel.set_xlabel("offset in tokens", fontsize=9)
    panel.set_ylabel("what the MLP gets", fontsize=9)
    panel.legend(fontsize=8)
    panel.grid(alpha=0.3)
    return figure


if __name__ == "__main__":
    main()
