"""Fits whole detectors and segmenters, and starts them from the weights of a classifier or a backbone.

The backbone goes through `adapt.py`. Of the heads only the layers whose size is the number of classes may differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from .adapt import ClassParameters, Fit, Windows, compare, fit_backbone, fit_classes
from .formats import dense
from .formats.official import is_dense_norm
from .report import Change

_COUNTER = ".num_batches_tracked"


def fit_whole_model(
    state_dict: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    class_parameters: Sequence[ClassParameters],
    *,
    windows: Windows,
) -> Fit:
    """Fits tensors of official names to a whole detector or segmenter.

    Args:
        state_dict: what was read: of such a model, or of a classifier or a backbone alone.
        target: the model's state dict; only its shapes are looked at.
        class_parameters: what the model says of its classes.
        windows: as for `fit_state_dict`.
    """
    whole = dense.is_whole(state_dict)
    backbone, heads = dense.split(state_dict) if whole else (dict(state_dict), {})
    wanted_backbone, wanted_heads = dense.split(target)
    fit = fit_backbone(backbone, wanted_backbone, windows)
    fit.tensors = dense.join(fit.tensors, {})
    for changes in (fit.resized, fit.sliced, fit.adapted, fit.fresh, *([fit.dropped] if whole else [])):
        changes[:] = [Change(dense.BACKBONE + change.key, change.why) for change in changes]
    if not whole:
        why = "the classifier's head, of no use to this model"
        fit.dropped[:] = [Change(each.key, why) if each.key.startswith("head.") else each for each in fit.dropped]
        why = "the file has a backbone alone, no heads of such a model; left as initialised, so train the model"
        fit.fresh += [Change(key, why) for key in wanted_heads]
        return compare(fit, target)
    fit.tensors |= heads
    fit_classes(fit, target, class_parameters)
    _fit_counters(fit, target)
    return compare(fit, target)


def backbone_of_whole_model(
    state_dict: Mapping[str, Tensor], target: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], list[Change]]:
    """The tensors of a whole model for a backbone that is built alone, and those that it has no use for."""
    backbone, heads = dense.split(state_dict)
    dropped = [Change(key, "a head's; the model is a backbone alone") for key in heads]
    for key in [key for key in backbone if is_dense_norm(key) and key not in target]:
        del backbone[key]
        dropped.append(Change(dense.BACKBONE + key, "the norm of a map that the model does not give"))
    return backbone, dropped


def _fit_counters(fit: Fit, target: Mapping[str, Tensor]) -> None:
    """Older files do not count a batch norm's batches, and nothing here reads the count."""
    missing = [
        key for key in target if key.endswith(_COUNTER) and key not in fit.tensors and _mean_of(key) in fit.tensors
    ]
    for key in missing:
        fit.tensors[key] = target[key].new_zeros(())
    if missing:
        fit.notes.append(f"{len(missing)} batch norms come without their count of batches, which no answer depends on")


def _mean_of(counter: str) -> str:
    return counter.removesuffix(_COUNTER) + ".running_mean"
