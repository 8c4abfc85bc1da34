"""Fits whole detectors and segmenters, and starts them from the weights of a classifier or a backbone.

The backbone goes through `adapt.py`. Of the heads only the layers whose size is the number of classes may differ.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from .adapt import Fit, Pair, compare, fit_backbone
from .formats import dense, is_dense_norm
from .report import Change

# The layers whose rows are classes, by their official names; all of a detector's, or a segmenter's, change together.
_CLASSES = re.compile(
    r"roi_head\.bbox_head\.(\d+\.)?(fc_cls|fc_reg)\.(weight|bias)"
    r"|roi_head\.mask_head\.(\d+\.)?conv_logits\.(weight|bias)"
    r"|(decode_head|auxiliary_head)\.conv_seg\.(weight|bias)"
)
# The semantic branch has classes of its own.
_SEMANTIC = re.compile(r"roi_head\.semantic_head\.conv_logits\.(weight|bias)")
_COUNTER = ".num_batches_tracked"


def fit_whole_model(
    state_dict: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    *,
    source_window: Pair | None = None,
    target_window: Pair | None = None,
) -> Fit:
    """Fits tensors of official names to a whole detector or segmenter.

    Args:
        state_dict: what was read: of such a model, or of a classifier or a backbone alone.
        target: the model's state dict; only its shapes are looked at.
        source_window: as for `fit_state_dict`.
        target_window: as for `fit_state_dict`.
    """
    whole = dense.is_whole(state_dict)
    backbone, heads = dense.split(state_dict) if whole else (dict(state_dict), {})
    wanted_backbone, wanted_heads = dense.split(target)
    fit = fit_backbone(backbone, wanted_backbone, source_window=source_window, target_window=target_window)
    fit.tensors = dense.join(fit.tensors, {})
    for changes in (fit.resized, fit.sliced, fit.adapted, fit.fresh, *([fit.dropped] if whole else [])):
        changes[:] = [Change(dense.BACKBONE + change.key, change.why) for change in changes]
    if not whole:
        fit.dropped[:] = [_said_of_a_whole_model(change) for change in fit.dropped]
        why = "the file has a backbone alone, no heads of such a model; left as initialised, so train the model"
        fit.fresh += [Change(key, why) for key in wanted_heads]
        return compare(fit, target)
    fit.tensors |= heads
    _fit_classes(fit, target)
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


def is_backbone(target: Mapping[str, Tensor]) -> bool:
    """Whether these are the parameters of a backbone with norms on its maps, without a head."""
    return any(map(is_dense_norm, target)) and "norm.weight" not in target


def _said_of_a_whole_model(change: Change) -> Change:
    return (
        Change(change.key, "the classifier's head, of no use to this model")
        if change.key.startswith("head.")
        else change
    )


def _fit_classes(fit: Fit, target: Mapping[str, Tensor]) -> None:
    """Leaves fresh what has other classes in the file; with the same classes another shape is a misfit."""
    rows, wanted = dense.num_classes_of(fit.tensors), dense.num_classes_of(target)
    for key in list(fit.tensors):
        if key not in target or fit.tensors[key].shape[1:] != target[key].shape[1:]:
            continue
        if rows and wanted and rows != wanted and _CLASSES.fullmatch(key):
            # Boxes that do not depend on the class keep their regression.
            if fit.tensors[key].shape == target[key].shape:
                continue
            why = f"the file has {rows:,} classes, the model {wanted:,}; left as initialised, so train the model"
        elif _SEMANTIC.fullmatch(key) and fit.tensors[key].shape != target[key].shape:
            why = (
                f"the file's semantic branch has {len(fit.tensors[key]):,} classes, the model's {len(target[key]):,}; "
                "left as initialised, so train the model"
            )
        else:
            continue
        del fit.tensors[key]
        fit.fresh.append(Change(key, why))


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
