"""Fits a state dict to a model of another window, class count or channel count: what may differ, and nothing else.

Pure functions; `load.py` applies what they give, and `adapt_dense.py` has what whole detectors and segmenters add.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from ..sizes import Size
from .formats.official import is_dense_norm, is_masked_pretraining
from .geometric import LEAST_WINDOW, resize_bias_table_geometrically
from .imagenet_classes import imagenet22k_to_1k
from .report import Change

Windows = tuple[Size | None, Size | None]

_HEAD = ("head.weight", "head.bias")
_NORM = ("norm.weight", "norm.bias")
_FIRST_CONVOLUTION = "patch_embed.proj.weight"
_TABLE = "relative_position_bias_table"


@dataclass(frozen=True, kw_only=True)
class ClassParameters:
    """A model's parameters whose rows follow one set of classes: a file of other classes leaves them fresh.

    Attributes:
        names: in the model; the first has one row a class, and `background` more.
        background: rows that stand for none of the classes.
        of: what has these classes, "head" or "semantic branch"; empty for the model itself.
    """

    names: tuple[str, ...]
    background: int = 0
    of: str = ""


@dataclass
class Fit:
    """A state dict fitted to a model: the tensors to copy, what was changed, and what does not fit."""

    tensors: dict[str, Tensor]
    resized: list[Change] = field(default_factory=list)
    sliced: list[Change] = field(default_factory=list)
    adapted: list[Change] = field(default_factory=list)
    fresh: list[Change] = field(default_factory=list)
    dropped: list[Change] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshaped: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        return not (self.missing or self.unexpected or self.misshaped)

    @property
    def as_they_are(self) -> tuple[str, ...]:
        changed = {change.key for change in (*self.resized, *self.sliced, *self.adapted)}
        return tuple(key for key in self.tensors if key not in changed)


def fit_state_dict(
    state_dict: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    class_parameters: Sequence[ClassParameters] = (),
    *,
    windows: Windows = (None, None),
) -> Fit:
    """Fits tensors of official names to those of a model.

    Args:
        state_dict: what was read, derived buffers left out.
        target: the model's state dict; only its shapes are looked at.
        class_parameters: what the model says of its classes.
        windows: the one that the file's bias tables are of, and the model's; None for square.
    """
    fit = fit_backbone(state_dict, target, windows)
    fit_classes(fit, target, class_parameters)
    return compare(fit, target)


def fit_backbone(state_dict: Mapping[str, Tensor], target: Mapping[str, Tensor], windows: Windows) -> Fit:
    """As `fit_state_dict`, before it looks whether all of it fits now."""
    fit = Fit(dict(state_dict))
    masked = any(map(is_masked_pretraining, state_dict))
    unwanted = [key for key in fit.tensors if is_masked_pretraining(key) and key not in target]
    _drop(fit, unwanted, "mask_token and decoder are of masked pre-training (SimMIM) alone")
    _fit_norms(fit, target)
    _fit_head(fit, target)
    for key in target:
        if key.endswith(_TABLE):
            _fit_table(fit, key, target[key], windows, masked=masked)
    _fit_first_convolution(fit, target)
    return fit


def fit_classes(fit: Fit, target: Mapping[str, Tensor], class_parameters: Sequence[ClassParameters]) -> None:
    """Leaves fresh what has other classes in the file; with the same classes another shape is a misfit.

    Rows that do not depend on the class, as those of boxes that all classes share, are kept.
    """
    for group in class_parameters:
        counted = fit.tensors.get(group.names[0])
        if counted is None or counted.ndim != target[group.names[0]].ndim:
            continue
        held, wanted = (len(tensor) - group.background for tensor in (counted, target[group.names[0]]))
        file, model = (f"the file's {group.of}", "the model's") if group.of else ("the file", "the model")
        why = f"{file} has {held:,} classes, {model} {wanted:,}; left as initialised, so train the model"
        for key in group.names if held != wanted else ():
            tensor = fit.tensors.get(key)
            if tensor is not None and tensor.shape[1:] == target[key].shape[1:] and tensor.shape != target[key].shape:
                del fit.tensors[key]
                fit.fresh.append(Change(key, why))


def compare(fit: Fit, target: Mapping[str, Tensor]) -> Fit:
    """Notes in `fit` what is missing, unexpected and misshaped."""
    fresh = {change.key for change in fit.fresh}
    fit.missing = [key for key in target if key not in fit.tensors and key not in fresh]
    fit.unexpected = [key for key in fit.tensors if key not in target]
    for key, tensor in fit.tensors.items():
        if key not in target:
            continue
        if tensor.shape != target[key].shape:
            fit.misshaped.append(f"{key}: {tuple(tensor.shape)} in the file, {tuple(target[key].shape)} in the model")
        elif tensor.is_floating_point() != target[key].is_floating_point():
            fit.misshaped.append(f"{key}: {tensor.dtype} in the file, {target[key].dtype} in the model")
    return fit


def resize_bias_table(table: Tensor, source_window: Size, target_window: Size) -> Tensor:
    """A V1 bias table for another window: bicubic over its two offsets, as the official code does it.

    Args:
        table: ((2h - 1) * (2w - 1), heads) for the source window (h, w), row by row.
    """
    sides = [(2 * height - 1, 2 * width - 1) for height, width in (source_window, target_window)]
    grid = table.t().reshape(1, -1, *sides[0])  # 1 heads 2h-1 2w-1
    if not table.is_floating_point() or table.element_size() < 4:
        grid = grid.float()
    resized = F.interpolate(grid, size=sides[1], mode="bicubic", align_corners=False)
    return resized.flatten(2)[0].t().contiguous().to(table.dtype)


def adapt_first_convolution(weight: Tensor, in_channels: int) -> Tensor:
    """A first convolution for images of other channels.

    One channel takes the sum over the old ones, which is what a grey image in each of them gives. More repeat the old
    ones in turn, scaled so that the answer to a flat image keeps its size.
    """
    old = weight.shape[1]
    if in_channels == 1:
        return weight.sum(dim=1, keepdim=True)
    turns = torch.arange(in_channels, device=weight.device) % old
    return weight.index_select(1, turns) * (old / in_channels)


def _fit_norms(fit: Fit, target: Mapping[str, Tensor]) -> None:
    """A dense model has a norm on each map, a classifier one at its end; neither is of use to the other."""
    dense = [key for key in target if is_dense_norm(key)]
    if not dense or "norm.weight" in target:
        return
    _drop(fit, [key for key in _NORM if key in fit.tensors], "the classifier's norm; this model has one on each map")
    if not any(is_dense_norm(key) for key in fit.tensors):
        why = "the file is a classifier's, which has no norm on each map; left as initialised, so train the model"
        fit.fresh += [Change(key, why) for key in dense]


def _fit_head(fit: Fit, target: Mapping[str, Tensor]) -> None:
    in_file = [key for key in _HEAD if key in fit.tensors]
    in_model = [key for key in _HEAD if key in target]
    if not in_model:
        _drop(fit, in_file, "the model has no head")
        return
    if not in_file:
        fit.fresh += [Change(key, "the file has no head; left as initialised, so train the model") for key in in_model]
        return
    for key in in_file if in_file == in_model else ():
        tensor, width = fit.tensors[key], target[key].shape[1:]
        if (tensor.shape, target[key].shape) == ((21841, *width), (1000, *width)):
            fit.tensors[key] = tensor.index_select(0, torch.tensor(imagenet22k_to_1k(), device=tensor.device))
            fit.sliced.append(Change(key, "the 1,000 rows of ImageNet-1K's classes, of 21,841"))


def _fit_table(fit: Fit, key: str, wanted: Tensor, windows: Windows, *, masked: bool) -> None:
    """As the official code does it, which has a way of its own for files of masked pre-training."""
    table = fit.tensors.get(key)
    if table is None or table.ndim != 2 or table.shape[1:] != wanted.shape[1:]:
        return
    source, target = _window(table, windows[0]), _window(wanted, windows[1])
    if table.shape == wanted.shape and (windows[0] is None or source == target):
        return
    if source is None or target is None or not table.is_floating_point():
        return
    masked = masked and min(source) >= LEAST_WINDOW
    fit.tensors[key] = (resize_bias_table_geometrically if masked else resize_bias_table)(table, source, target)
    how = "a cubic spline on a geometric grid, as SimMIM's fine-tuning does it" if masked else "bicubic"
    why = f"bias table from window {source[0]}x{source[1]} to {target[0]}x{target[1]}, {how}"
    fit.resized.append(Change(key, why))


def _window(table: Tensor, known: Size | None) -> Size | None:
    """The window that a table of that many offsets is for: the known one if it agrees, else a square one."""
    offsets = table.shape[0]
    if known is not None and (2 * known[0] - 1) * (2 * known[1] - 1) == offsets:
        return known
    side = math.isqrt(offsets)
    return ((side + 1) // 2, (side + 1) // 2) if side * side == offsets and side % 2 else None


def _fit_first_convolution(fit: Fit, target: Mapping[str, Tensor]) -> None:
    weight, wanted = fit.tensors.get(_FIRST_CONVOLUTION), target.get(_FIRST_CONVOLUTION)
    if weight is None or wanted is None or weight.ndim != 4 or not weight.is_floating_point():
        return
    old, new = weight.shape[1], wanted.shape[1]
    others_agree = weight.shape[0] == wanted.shape[0] and weight.shape[2:] == wanted.shape[2:]
    # Only grey and RGB have a known meaning; other images' channels are not each other's.
    if old == new or old not in (1, 3) or not others_agree:
        return
    weight = weight if weight.element_size() > 1 else weight.float()  # torch adds no numbers of 8 bits
    fit.tensors[_FIRST_CONVOLUTION] = adapt_first_convolution(weight, new)
    how = "summed over its channels" if new == 1 else f"its channels repeated in turn, scaled by {old}/{new}"
    fit.adapted.append(Change(_FIRST_CONVOLUTION, f"from {old} to {new} input channels: {how}"))


def _drop(fit: Fit, keys: list[str], why: str) -> None:
    for key in keys:
        del fit.tensors[key]
        fit.dropped.append(Change(key, why))
