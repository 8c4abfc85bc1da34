"""What is explained: the number of a model's answer that gradients are taken of, and what it is the number of."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..checks import cut, is_count, shown
from ..heads.roi_head import select_detections
from ..models.classification import probabilities
from ..names import by_name, did_you_mean
from ..predict.task import class_names, name_of
from .view import ExplainError, NotInImageError, View


@dataclass(frozen=True, kw_only=True)
class Target:
    """One number of an answer.

    Attributes:
        value: the number, with its graph.
        label: the class that it is of.
        score: what a user knows of it: a probability, a detection's or segment's score, or the class's part of the
            label map.
        box_xyxy: a detection's box in the image's pixels.
    """

    value: Float[Tensor, ""]
    label: int
    score: float
    box_xyxy: tuple[float, float, float, float] | None = None


def class_index(model: Any, target: int | str) -> int:
    """A class by its name or index.

    Raises:
        ExplainError: the model has no such class.
    """
    names, count = class_names(model) or (), int(model.num_classes)
    index: Any = int(target) if isinstance(target, np.integer) else target
    if isinstance(target, str):
        index = by_name({name: index for index, name in enumerate(names)})(target)
        index = int(target) if index is None and target.isdecimal() else index
    if index is None:
        known = f"the model knows {cut(', '.join(names))}" if names else f"its {count} classes have no names"
        raise ExplainError(
            f"there is no class {shown(target)}; {did_you_mean(str(target), names)}{known}; or give an index from 0 to "
            f"{count - 1}"
        )
    if not is_count(index, 0, count - 1):
        raise ExplainError(f"target={shown(index)} is none of the {count} classes: give 0 to {count - 1}, or a name")
    return int(index)


def target_of(model: Any, view: View, label: int | None, detection: int | None) -> Target:
    """Runs the model; see `explain.grad_cam`."""
    if model.task == "detection":
        return _object(model, view, label, detection)
    logits = model(view.pixels)[0].float()
    if model.task == "classification":
        label = int(logits.argmax()) if label is None else label
        score = probabilities(model, logits[None]).detach()[0, label]
        return Target(value=logits[label], label=label, score=float(score))
    labels = logits.argmax(dim=0)
    label = int(labels.flatten().mode().values) if label is None else label
    mine = labels == label
    value = logits[label][mine].mean() if mine.any() else logits[label].mean()
    return Target(value=value, label=label, score=float(mine.float().mean()))


def _object(model: Any, view: View, label: int | None, detection: int | None) -> Target:
    """One detection's score, as `Detector.forward` finds it, which keeps no graph."""
    sizes = [view.input_size]
    features = model.extract(view.pixels)
    proposals = model.rpn_head.propose(model.rpn_head(features), sizes, training=False)
    (raw,) = model.roi_head.forward_boxes(model.roi_head.extractors(features).boxes, proposals, sizes)
    boxes, scores, labels = select_detections(raw, view.input_size, view.scale_factor, rules=model.roi_head.rules)
    chosen = range(len(labels)) if label is None else [place for place, one in enumerate(labels) if int(one) == label]
    if not chosen:
        counts = Counter(name_of(class_names(model), int(one)) for one in labels)
        there = cut(", ".join(f"{count} {name}" for name, count in counts.items())) or "no object at all"
        what = "an object" if label is None else name_of(class_names(model), label)
        raise NotInImageError(
            f"the model does not find {what} in the image, but {there}; choose another image or target"
        )
    place = chosen[0] if detection is None else detection
    if not is_count(place, 0, len(labels) - 1):
        raise NotInImageError(
            f"detection={shown(detection)} is none of the {len(labels)} that the model finds: give 0 to "
            f"{len(labels) - 1}, best first"
        )
    left, top, right, bottom = boxes[place].tolist()
    return Target(
        value=scores[place],
        label=int(labels[place]),
        score=float(scores[place].detach()),
        box_xyxy=(left, top, right, bottom),
    )
