"""Grad-CAM (arXiv 1610.02391): the places of a layer's map that speak for an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..backbone.swin import Swin
from ..checks import shown
from ..models.config import FINE_TUNE_FIRST
from ..models.mask2former import Mask2Former
from ..names import did_you_mean
from ..predict import AnyImage, Predictor
from ..predict.task import class_names, name_of
from ..sizes import Size
from .query_targets import query_target
from .targets import Target, class_index, target_of
from .view import ExplainError, NotInImageError, View, find_swin, looking_into, view_of


@dataclass(frozen=True, kw_only=True, eq=False)
class GradCam:
    """What speaks for an answer, and which answer it is.

    Attributes:
        heat: float32, (height, width) of the image, in [0, 1]; 0 where the model does not look (beyond the crop of a
            classifier), and everywhere if nothing of the layer speaks for the answer.
        label: the class that is explained.
        name: its name.
        score: its probability; a detection's or segment's score; for a segmenter its part of the label map; all in
            [0, 1].
        box_xyxy: a detection's box in the image's pixels, else None.
        layer: the layer whose map it is.
    """

    heat: NDArray[np.float32]
    label: int
    name: str
    score: float
    box_xyxy: tuple[float, float, float, float] | None
    layer: str


def grad_cam(
    model_or_predictor: nn.Module | Predictor,
    image: AnyImage,
    target: int | str | None = None,
    layer: str | None = None,
    *,
    detection: int | None = None,
) -> NDArray[np.float32]:
    """Where in an image a model sees what speaks for its answer, by Grad-CAM (arXiv 1610.02391).

    Each channel of the layer's map is weighted with the mean of its gradient, and the sum is kept where it is positive.
    The map is then spread over the image, bilinearly, and brought to [0, 1]. Figures are those of the `grad-cam`
    package with the same layer. The model is in evaluation mode meanwhile, and afterwards as it was before.

    Memory is that of a forward pass, and what the layers after `layer` keep for their gradients.

    Args:
        model_or_predictor: a classifier, detector or segmenter of this package with weights that can be differentiated:
            neither exported nor optimised. A predictor looks at the image once: without `multi_scale`, `flip`, "slide".
        image: in any form that a `Predictor` takes, then prepared as the model says; or a batch of one as the model
            takes it, a tensor (1, C, H, W).
        target: a class, by name or index, whose logit (classification), whose best object's score (detection), or
            whose logits' mean over the pixels that are given the class (segmentation; over all, if none is) is
            explained; of a Mask2Former the sum over queries that its label map compares, or the probability of the
            query's class times its mask's mean, of the best object or the largest segment of the class. None: the
            likeliest class, the best object, the largest segment, the class with the most pixels.
        layer: a module of the model, by its name in `named_modules`, whose output is a map of the image. None: `norm1`
            of the last block, as in `grad-cam`'s example of Swin: what the block's attention is given in V1, and what
            it adds in V2.
        detection: for a detector, which of its objects in place of a class's best: 0 is the best, as in `Detections`;
            for panoptic answers, which of its `segments`.

    Returns:
        float32 (H, W) in [0, 1], in the image's own pixels. All 0 where nothing speaks for the answer.

    Raises:
        ExplainError: (a `ValueError`) there is no such class, object or layer, the layer gives no map, or the model has
            no gradients; the message says what to do.
    """
    return explain(model_or_predictor, image, target, layer, detection=detection).heat


def explain(
    model_or_predictor: nn.Module | Predictor,
    image: AnyImage,
    target: int | str | None = None,
    layer: str | None = None,
    *,
    detection: int | None = None,
) -> GradCam:
    """As `grad_cam`, with the class, the score, and the box that are explained."""
    with looking_into(model_or_predictor) as model:
        prefix, swin = find_swin(model)
        label = _checked(model, target, detection)
        name = layer or f"{prefix}layers.{len(swin.config.depths) - 1}.blocks.{swin.config.depths[-1] - 1}.norm1"
        view = view_of(model_or_predictor, model, image)
        values, stride, found = _cam(model, swin, view, name, label, detection)
    heat = view.spread(values, stride, smooth=True)
    heat -= np.nanmin(heat)
    heat /= np.nanmax(heat) or 1.0
    return GradCam(
        heat=np.nan_to_num(heat).astype(np.float32),
        label=found.label,
        name=name_of(class_names(model), found.label),
        score=found.score,
        box_xyxy=found.box_xyxy,
        layer=name,
    )


def _checked(model: Any, target: int | str | None, detection: int | None) -> int | None:
    """The target's class, where all that can be said without an image is right."""
    task = getattr(model, "task", None)
    if task == "pretraining":
        raise ExplainError(f"this {type(model).__name__} has no answer to be explained: {FINE_TUNE_FIRST}")
    if task not in ("classification", "detection", "segmentation", "panoptic") or model.num_classes == 0:
        raise ExplainError(
            f"this {type(model).__name__} has no answer to be explained: give a classifier with a head, a detector or "
            "a segmenter (attention_maps takes backbones too)"
        )
    many = task in ("detection", "panoptic")
    if detection is not None and (not many or target is not None):
        other = f"this model is for {task}" if not many else f"target={shown(target)} is given as well"
        raise ExplainError(
            f"detection={shown(detection)} chooses one object of a detector, or one segment, and {other}; leave one out"
        )
    if any(parameter.is_inference() for parameter in model.parameters()):
        raise ExplainError(
            "the model's weights were made under torch.inference_mode(), and no gradient can go through them: make or "
            "load it outside of that"
        )
    return None if target is None else class_index(model, target)


def _cam(
    model: nn.Module, swin: Swin, view: View, name: str, label: int | None, detection: int | None
) -> tuple[NDArray[np.float32], Size, Target]:
    """The map of cells, unscaled, their size in pixels of the input, and what is explained."""
    layers = dict(model.named_modules())
    if name not in layers:
        raise ExplainError(
            f"there is no layer {shown(name)}; {did_you_mean(name, layers)}model.named_modules() lists all"
        )
    maps: list[Any] = []

    def start_here(module: nn.Module, inputs: Any, output: Any) -> Any:
        """The graph begins with the layer's output, so that it does not matter what is learnt before it."""
        maps.append(output.detach().requires_grad_() if isinstance(output, Tensor) else output)
        return maps[-1].clone() if isinstance(output, Tensor) else output  # the next may work in place

    hook = layers[name].register_forward_hook(start_here)
    try:
        with torch.enable_grad():
            if isinstance(model, Mask2Former):
                found = query_target(model, view, label, detection)
            else:
                found = target_of(model, view, label, detection)
        if len(maps) != 1 or not isinstance(maps[0], Tensor) or maps[0].ndim != 4 or len(maps[0]) != 1:
            gives = " and ".join(str(tuple(one.shape) if isinstance(one, Tensor) else type(one)) for one in maps[:3])
            gives = f"runs {len(maps)} times for one image" if len(maps) != 1 else f"gives {gives}"
            raise ExplainError(f"layer={name!r} {gives}, which is not one map of the image; choose another layer")
        (output,) = maps
        if not found.value.requires_grad:
            raise ExplainError(
                f"gradients are cut between {name} and the answer: a part of the model detaches them, or runs under "
                "torch.no_grad(); put the original part back, or choose a later layer"
            )
        # Under checkpointing this runs layers once more, hooks included.
        (gradient,) = torch.autograd.grad(found.value, output, allow_unused=True)
    finally:
        hook.remove()
    if gradient is None:
        raise ExplainError(f"the answer does not depend on the output of {name}; choose another layer")
    inside = any(module is layers[name] for module in swin.modules())
    places = (1, 2) if inside and not isinstance(layers[name], nn.Conv2d) else (2, 3)
    channels = 3 if places == (1, 2) else 1
    weighted = output.detach().float() * gradient.float().mean(dim=places, keepdim=True)
    values = weighted.sum(dim=channels)[0].relu().cpu().numpy()
    return values, _stride(swin, view, values.shape, name), found


def _stride(swin: Swin, view: View, map_size: tuple[int, ...], name: str) -> Size:
    """Pixels of the input to a cell, from the stage that has maps of that size."""
    height, width = view.pixels.shape[2:]
    if map_size == (1, 1):
        raise NotInImageError(
            f"layer={name!r} has one cell for an image of {height} x {width} pixels, which shows no place: choose an "
            "earlier layer, or a larger image"
        )
    for stride in swin.config.stage_strides:
        if map_size == (-(-height // stride[0]), -(-width // stride[1])):
            return stride
    raise ExplainError(
        f"layer={name!r} gives a map of {' x '.join(map(str, map_size))} for {height} x {width} pixels, which is that "
        "of no stage; choose another layer"
    )
