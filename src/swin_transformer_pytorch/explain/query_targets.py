"""What is explained of a Mask2Former: a segment, an object, or a class's part of the label map."""

from __future__ import annotations

from collections import Counter

from jaxtyping import Float
from torch import Tensor

from ..checks import cut, is_count, shown
from ..heads.mask_outputs import MaskOutputs
from ..models.mask2former import Mask2Former
from ..models.panoptic_inference import MaskedInstances, PanopticSegments, instances, panoptic
from ..models.query_masks import QueryMasks
from ..predict.task import class_names, name_of
from ..sizes import Size
from .targets import Target
from .view import NotInImageError, View


def query_target(model: Mask2Former, view: View, label: int | None, place: int | None) -> Target:
    """Runs the model; see `explain.grad_cam`."""
    given: MaskOutputs = model(view.pixels)
    if model.config.answers == "semantic":
        return _class(given, view, label)
    found = _found(model, given, view)
    order = list(range(len(found)))
    if isinstance(found, MaskedInstances):
        order = [one for one in order if bool(found.masks[one].any())]
    elif place is None:
        order = found.areas.argsort(descending=True, stable=True).tolist()
    one = _chosen(model, found, order, label, place)
    box: tuple[float, float, float, float] | None = None
    if isinstance(found, MaskedInstances):
        left, top, right, bottom = found.boxes_xyxy[one].tolist()
        box = (left, top, right, bottom)
    own = int(found.labels[one])
    value = _score(given, view, int(found.queries[one]), own)
    return Target(value=value, label=own, score=min(float(found.scores[one]), 1.0), box_xyxy=box)


def _found(model: Mask2Former, given: MaskOutputs, view: View) -> MaskedInstances | PanopticSegments:
    config = model.config
    image = QueryMasks(
        class_logits=given.class_logits[0].detach().float(),
        mask_logits=given.mask_logits[0].detach().float(),
        padded_size=(view.pixels.shape[2], view.pixels.shape[3]),
        input_size=view.input_size,
        output_size=view.image_size,
    )
    if config.answers == "instance":
        return instances(image, max_detections=config.max_detections, policy=config.policy)
    return panoptic(
        image,
        config.thing_classes,
        least_probability=config.segment_threshold,
        least_share=config.overlap_threshold,
        policy=config.policy,
    )


def _chosen(
    model: Mask2Former,
    found: MaskedInstances | PanopticSegments,
    order: list[int],
    label: int | None,
    place: int | None,
) -> int:
    """Which of what was found: the first of a class, or that at a place."""
    labels = found.labels.tolist()
    fitting = [one for one in order if label in (None, labels[one])]
    if not fitting:
        counts = Counter(name_of(class_names(model), labels[one]) for one in order)
        there = cut(", ".join(f"{count} {name}" for name, count in counts.items())) or "nothing at all"
        what = "anything" if label is None else name_of(class_names(model), label)
        raise NotInImageError(
            f"the model does not find {what} in the image, but {there}; choose another image or target"
        )
    if place is None:
        return fitting[0]
    if not is_count(place, 0, len(order) - 1):
        raise NotInImageError(
            f"detection={shown(place)} is none of the {len(order)} that the model finds: give 0 to {len(order) - 1}, "
            "in the order of its answer"
        )
    return order[place]


def _score(given: MaskOutputs, view: View, query: int, label: int) -> Float[Tensor, ""]:
    """The probability of a query's class times the mean of its mask where that is."""
    logits = _inside(given.mask_logits[0, query].float(), view)
    own = logits > 0
    # A mask of less than a cell is nowhere above 0 before it is resized.
    mask = logits[own if own.any() else logits == logits.max()].sigmoid().mean()
    return given.class_logits[0, query].float().softmax(dim=0)[label] * mask


def _class(given: MaskOutputs, view: View, label: int | None) -> Target:
    """The mean of what is compared between classes, over the cells that are given the class."""
    probabilities = given.class_logits[0].float().softmax(dim=1)[:, :-1]
    masks = _inside(given.mask_logits[0].float(), view).sigmoid()
    scores = (probabilities.T @ masks.flatten(1)).unflatten(1, masks.shape[1:])
    labels = scores.argmax(dim=0)
    label = int(labels.flatten().mode().values) if label is None else label
    mine = labels == label
    value = scores[label][mine].mean() if mine.any() else scores[label].mean()
    return Target(value=value, label=label, score=float(mine.float().mean()))


def _inside(masks: Float[Tensor, "*queries h w"], view: View) -> Float[Tensor, "*queries _ _"]:
    """Without the cells that are padding alone."""
    padded: Size = (view.pixels.shape[2], view.pixels.shape[3])
    rows, columns = (
        -(-own * cells // whole) for own, cells, whole in zip(view.input_size, masks.shape[-2:], padded, strict=True)
    )
    return masks[..., :rows, :columns]
