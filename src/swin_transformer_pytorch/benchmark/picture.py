"""The picture of a run: how far each library is from the floor, and what a pixel costs as images grow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..visualize.charts import new_figure, save_figure
from ..visualize.pictures import NEUTRAL, StrPath
from .libraries import FLOOR, OPENVINO, OPTIMIZED, OURS
from .measurement import Measurement
from .setting import BenchmarkError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# In the order of their bars.
_LOOKS = {
    OPTIMIZED: ("ours, optimized", "#0550ae"),
    OURS: ("ours, eager", "#54aeff"),
    OPENVINO: ("OpenVINO", "#1a7f37"),
    "timm": ("timm", "#bc4c00"),
    "torchvision": ("torchvision", "#e3a008"),
    "transformers": ("transformers", "#8250df"),
    FLOOR: ("floor: the products alone", NEUTRAL),
}
_MODES = {"inference": "inference", "training": "training step", "features": "maps of all stages"}


def benchmark_picture(bars: Sequence[Measurement], curve: Sequence[Measurement], path: StrPath, *, title: str) -> None:
    """Saves bars of time by setting and library, and lines of time a pixel by image size.

    Bars are multiples of the floor in a first panel, for settings that have one; in a second, for others, of the
    fastest library there that is not ours (of the fastest at all, where there are only ours).

    Args:
        bars: a group of bars a setting.
        curve: a point each, at the square root of the image's pixels. May be none, as bars may be.
        path: where; its ending is the format.
        title: a line above.

    Raises:
        BenchmarkError: if there is nothing to draw.
    """
    groups: dict[tuple[object, ...], list[Measurement]] = {}
    for m in bars:
        groups.setdefault(m.setting, []).append(m)
    floored = [group for group in groups.values() if any(m.library == FLOOR for m in group)]
    others = [group for group in groups.values() if group not in floored]
    below = ["others"] * bool(others) + ["curve"] * bool(curve)
    rows: list[Any] = [["floored"] * max(1, len(below))] * bool(floored) + [below] * bool(below)
    if not rows:
        raise BenchmarkError("there are no measurements to draw; measure at least one setting")
    figure = new_figure(10.0, 1.0 + 3.2 * len(rows))
    panels = figure.subplot_mosaic(rows)
    if floored:
        _draw_bars(panels["floored"], floored, FLOOR, "time / floor")
    if others:
        alone = all(m.library in (OURS, OPTIMIZED) for group in others for m in group)
        _draw_bars(panels["others"], others, None, "time / fastest" if alone else "time / fastest peer")
    if curve:
        _draw_curve(panels["curve"], curve)
    legends = (axes.get_legend_handles_labels() for axes in figure.axes)
    handles = {label: handle for legend in legends for handle, label in zip(*legend, strict=True)}
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=len(handles), frameon=False, fontsize=9
    )
    figure.suptitle(title, fontsize=9)
    save_figure(figure, path)


def _draw_bars(axes: Axes, groups: list[list[Measurement]], unit: str | None, ylabel: str) -> None:
    several_models = len({group[0].model for group in groups}) > 1
    labelled: set[str] = set()
    white = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # the dashed line does not go through a number
    for place, group in enumerate(groups):
        by_library = {m.library: m.seconds for m in group}
        peers = {name: seconds for name, seconds in by_library.items() if name not in (OURS, OPTIMIZED)}
        one = by_library[unit] if unit else min((peers or by_library).values())
        shown = [name for name in _LOOKS if name in by_library and name != FLOOR]
        width = 0.84 / max(1, len(shown))
        turned = 90 if width < 0.2 else 0  # else the numbers of neighbours run into each other
        for index, name in enumerate(shown):
            label, colour = _LOOKS[name]
            x, height = place + (index + 0.5 - len(shown) / 2) * width, by_library[name] / one
            bar = axes.bar(x, height, 0.92 * width, color=colour, label=label if name not in labelled else None)
            axes.bar_label(bar, fmt="%.2f", padding=2, fontsize=7, rotation=turned, bbox=white)
            labelled.add(name)
    axes.axhline(1.0, label=_LOOKS[FLOOR][0] if unit else None, color=NEUTRAL, linewidth=1.2, linestyle="--")
    axes.set_xticks(range(len(groups)), [_group_name(group[0], several_models) for group in groups], fontsize=8)
    axes.set_ylabel(ylabel)
    axes.set_title(", ".join(dict.fromkeys(_MODES[group[0].mode] for group in groups)), fontsize=10)
    axes.margins(y=0.12)
    axes.tick_params(axis="x", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def _group_name(m: Measurement, with_model: bool) -> str:
    images = "1 image" if m.batch_size == 1 else f"{m.batch_size} images"
    lines = [m.dtype, f"{images}, {m.image_size[0]}x{m.image_size[1]}"]
    if m.mode == "features":
        lines.append(_MODES[m.mode])
    if with_model:
        lines += m.model.replace("_patch4", "").replace("_window", "\nwindow").splitlines()
    return "\n".join(lines)


def _draw_curve(axes: Axes, curve: Sequence[Measurement]) -> None:
    dtypes = list(dict.fromkeys(m.dtype for m in curve))
    for name, (label, colour) in _LOOKS.items():
        for dtype, style in zip(dtypes, ("-", "--", ":"), strict=False):
            points = [m for m in curve if m.library == name and m.dtype == dtype]
            sides = [(m.image_size[0] * m.image_size[1]) ** 0.5 for m in points]
            microseconds = [m.nanoseconds_per_pixel / 1e3 for m in points]
            if points:
                known = label if dtype == dtypes[0] else None
                axes.plot(sides, microseconds, style, color=colour, label=known, marker="o", markersize=3.5)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("image side, pixels")
    axes.set_ylabel("microseconds / pixel")
    axes.set_title(f"cost of a pixel, {' and '.join(dtypes)}", fontsize=10)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
