"""Whole detectors and segmenters: the backbone's names under `backbone.`, and heads beside it.

The official code (SwinTransformer/Swin-Transformer-Object-Detection and -Semantic-Segmentation), whose names are ours,
and OpenMMLab's own releases differ in the backbone alone. transformers has UPerNet (`UperNetForSemanticSegmentation`),
with other names for its batch norms and classifiers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from . import official, openmmlab, transformers
from .official import FormatError, StateDict, is_derived, is_official_key

DENSE_FORMATS = ("official", "transformers", "openmmlab")
BACKBONE = "backbone."

_HEAD = re.compile(r"(rpn_head|roi_head|decode_head|auxiliary_head)\..+")
_BESIDE_BACKBONE = re.compile(rf"neck\.(lateral_convs|fpn_convs)\.\d+\..+|global_attention\..+|{_HEAD.pattern}")
# As in `Detector` and `Segmenter`: what a tensor's name tells of the model, the first that is there.
_METHODS = {
    "decode_head.": "upernet",
    "roi_head.semantic_head.": "htc",
    "roi_head.bbox_head.0.": "cascade_mask_rcnn",
    "roi_head.bbox_head.": "mask_rcnn",
}
_UNUSED = ("backbone.norm.weight", "backbone.norm.bias")

# transformers -> official, in the heads.
_READ_HEAD: tuple[tuple[str, str], ...] = (
    (".batch_norm.", ".bn."),
    ("decode_head.classifier.", "decode_head.conv_seg."),
    ("auxiliary_head.classifier.", "auxiliary_head.conv_seg."),
)

_READ: dict[str, Callable[[StateDict], StateDict]] = {
    "official": official.to_official,
    "openmmlab": openmmlab.to_official,
    "transformers": transformers.to_official,
}


def is_whole(keys: Iterable[str]) -> bool:
    """Whether these are the keys, in any format, of a whole detector or segmenter, rather than of a backbone alone."""
    return any(_HEAD.fullmatch(key) for key in keys)


def is_whole_key(key: str) -> bool:
    """Whether `key` names a part of a whole model by its official name; those of heads are not spelt out here."""
    if key.startswith(BACKBONE):
        return is_official_key(key.removeprefix(BACKBONE))
    return _BESIDE_BACKBONE.fullmatch(key) is not None


def split(state_dict: Mapping[str, Tensor]) -> tuple[StateDict, StateDict]:
    """The backbone's tensors, without the prefix, and the others as they are."""
    backbone = {key.removeprefix(BACKBONE): v for key, v in state_dict.items() if key.startswith(BACKBONE)}
    return backbone, {key: v for key, v in state_dict.items() if not key.startswith(BACKBONE)}


def join(backbone: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> StateDict:
    """`split` undone."""
    return {**{f"{BACKBONE}{key}": tensor for key, tensor in backbone.items()}, **heads}


def task_of(keys: Iterable[str]) -> Literal["detection", "segmentation"] | None:
    """What a model of these keys is for; None where it is not a whole dense model."""
    method = method_of(keys)
    if method is None:
        return None
    return "segmentation" if method == "upernet" else "detection"


def method_of(keys: Iterable[str]) -> str | None:
    """mask_rcnn, cascade_mask_rcnn, htc or upernet; None where it is none of them."""
    keys = list(keys)
    return next(
        (method for start, method in _METHODS.items() if any(key.startswith(start) for key in keys)),
        None,
    )


def num_classes_of(state_dict: Mapping[str, Tensor]) -> int:
    """Classes of a whole model under the official names, without a detector's background; 0 where nothing tells."""
    for key, tensor in state_dict.items():
        if key == "decode_head.conv_seg.weight" and tensor.ndim == 4:
            return tensor.shape[0]
        if re.fullmatch(r"roi_head\.bbox_head\.(\d+\.)?fc_cls\.weight", key) and tensor.ndim == 2:
            return tensor.shape[0] - 1
    return 0


def to_official(state_dict: StateDict, source: str) -> StateDict:
    """Names of the official code, derived buffers left out. `source` is one of `DENSE_FORMATS`."""
    backbone, heads = split(state_dict)
    heads = {key: tensor for key, tensor in heads.items() if not is_derived(key)}
    if source == "transformers":
        heads = {_read_head(key): tensor for key, tensor in heads.items()}
    return join(_READ[source](backbone), heads)


def from_official(state_dict: StateDict, to: str) -> StateDict:
    """Names of another format, without what no dense model uses.

    For OpenMMLab and the official code the parameters and batch norms alone: their models make the index buffers
    themselves, and their loaders take a file without them. transformers' backbone has a last norm that it never uses,
    whose first values are written so that it loads strictly.

    Raises:
        FormatError: that format has no such models.
    """
    if to not in DENSE_FORMATS:
        raise FormatError(
            f"{to!r} has no place for a whole detector or segmenter: use one of {', '.join(DENSE_FORMATS)}, or convert "
            "its backbone alone"
        )
    backbone, heads = split({key: tensor for key, tensor in state_dict.items() if key not in _UNUSED})
    if to == "official":
        return join(backbone, heads)
    if to == "openmmlab":
        return {**openmmlab.from_official(backbone), **heads}
    if task_of(state_dict) != "segmentation" or any(key.endswith(".logit_scale") for key in backbone):
        raise FormatError(
            "'transformers' has UPerNet on Swin V1 alone of these models: use official or openmmlab, or convert the "
            "backbone alone"
        )
    last = backbone[f"norm{openmmlab.last_stage(backbone)}.weight"]
    unused = {"norm.weight": torch.ones_like(last), "norm.bias": torch.zeros_like(last)}
    named = transformers.from_official({**backbone, **unused})
    return join(named, {_write_head(key): tensor for key, tensor in heads.items()})


def _read_head(key: str) -> str:
    for theirs, ours in _READ_HEAD:
        key = key.replace(theirs, ours)
    return key


def _write_head(key: str) -> str:
    for theirs, ours in _READ_HEAD:
        key = key.replace(ours, theirs)
    return key
