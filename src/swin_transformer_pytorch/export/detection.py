"""A detector in the form that exported graphs have: one image's objects without any branch on their number."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, get_args

import torch
import torchvision
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from ..heads.conv import ConvModule, fold_batch_norm
from ..heads.htc import HTCRoIHead
from ..heads.roi import RegionExtractor, region_levels, stack_regions
from ..heads.roi_head import scored_boxes
from ..heads.rpn import RPNOutputs, map_sizes
from ..heads.shapes import Maps
from ..models.detection import Detector, InstancePredictions
from ..models.detection_inference import detect, size_divisor
from ..models.exported import OBJECTS
from ..ops.padding import padding
from ..ops.regions.anchors import grid_anchors
from ..ops.regions.boxes import decode_boxes, scale_boxes
from .form import Form

Part = Literal["network", "objects"]
"""Of a detector in two files: what knows of no single objects, for any number of images, and one image's objects."""

PARTS: tuple[Part, ...] = get_args(Part)
THRESHOLD = "score_threshold"
"""Under this name a graph holds the least score of an object."""

SCALE_FACTOR = (0.8, 0.75, 0.8, 0.75)  # an example


def detector_form(exported: Detector, original: Detector, part: Part | None) -> Form:
    """A part of a detector, or all of it as one graph, for one image.

    Args:
        exported: a copy that may be changed, its stages in their own form already.
        original: what it was made from.
    """
    network, definition = (DetectorNetwork(detector) for detector in (exported, original))
    scale = torch.tensor(SCALE_FACTOR)
    if part == "network":
        return Form(network, definition, outputs=network.outputs)
    objects = DetectorObjects(exported)
    if part == "objects":
        return Form(
            objects,
            OriginalObjects(original),
            inputs=(*network.outputs, "image_size", "scale_factor"),
            outputs=OBJECTS,
            complete=lambda images, size: (*definition(images), torch.tensor(size), scale),
        )
    return Form(
        ExportedDetector(network, objects),
        OriginalDetector(original),
        inputs=("images", "scale_factor"),
        outputs=OBJECTS,
        complete=lambda images, _: (images, scale),
    )


def set_threshold(original: nn.Module, value: float) -> None:
    """Lets the definition of a form give objects that score more than that."""
    head = original.get_submodule("detector.roi_head")
    head.rules = dataclasses.replace(head.rules, score_threshold=value)  # type: ignore[arg-type, assignment, type-var]


class DetectorNetwork(nn.Module):
    """The part of a detector that knows of no single objects: images, padded inside -> maps and raw proposals."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector, self.divisor = detector, size_divisor(detector)

    @property
    def outputs(self) -> tuple[str, ...]:
        """The pyramid's maps, finest first, HTC's semantic one, and for every anchor a logit and four deltas."""
        maps = tuple(f"map{index}" for index in range(len(self.detector.rpn_head.rules.strides)))
        return (
            *maps,
            *(("semantics",) if isinstance(self.detector.roi_head, HTCRoIHead) else ()),
            "rpn_logits",
            "rpn_deltas",
        )

    def forward(self, images: Float[Tensor, "B C H W"]) -> tuple[Tensor, ...]:
        height, width = (padding(side, self.divisor) for side in images.shape[2:])
        features = self.detector.extract(F.pad(images, (0, width, 0, height)))
        raw, head = self.detector.rpn_head(features), self.detector.roi_head
        shared = [head.semantic_head.embed(features)] if isinstance(head, HTCRoIHead) else []
        return (*features, *shared, raw.logits, raw.deltas)


class DetectorObjects(nn.Module):
    """The rest: what `DetectorNetwork` gives for one image -> boxes, scores, labels, masks."""

    score_threshold: Float[Tensor, ""]

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.rpn_rules, self.roi_head = detector.rpn_head.rules, detector.roi_head
        self.register_buffer(THRESHOLD, torch.tensor(detector.roi_head.rules.score_threshold))
        for extractor in ("box_extractor", "mask_extractor", "semantic_extractor"):
            if hasattr(self.roi_head, extractor):
                exported = ExportedExtractor(**dataclasses.asdict(getattr(self.roi_head, extractor)))
                setattr(self.roi_head, extractor, exported)
        for module in self.roi_head.modules():
            if isinstance(module, ConvModule):
                fold_batch_norm(module)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        *maps, logits, deltas, image_size, scale_factor = inputs
        # As tensors: by ints the bounds would be the example's.
        size: Any = image_size.to(logits.dtype).unbind()
        head, rules = self.roi_head, self.roi_head.rules
        if isinstance(head, HTCRoIHead):
            *maps, semantics = maps
            extract = head.with_semantics(maps, semantics)
        else:
            extract = head.extractors(maps)
        regions = self._propose(RPNOutputs(logits=logits, deltas=deltas, map_sizes=map_sizes(maps)), size)
        (raw,) = head.forward_boxes(extract.boxes, [regions], [size])
        threshold: Any = self.score_threshold
        boxes, scores, labels = scored_boxes(raw, size, scale_factor, threshold)  # type: ignore[arg-type]
        kept = _suppress(boxes, scores, labels, rules.nms_threshold, rules.max_detections)
        boxes, labels = boxes[kept], labels[kept]
        rois = stack_regions([scale_boxes(boxes, scale_factor)])  # type: ignore[arg-type]
        grids = [
            grid.gather(1, labels[:, None, None, None].expand(-1, 1, *grid.shape[2:]))[:, 0].sigmoid()
            for grid in head.all_mask_logits(extract.masks(rois))
        ]
        return boxes, scores[kept], labels, torch.stack(grids).mean(dim=0)

    def _propose(self, raw: RPNOutputs, size: Any) -> Float[Tensor, "n 4"]:
        """`scored_proposals` of one image."""
        limits, start = self.rpn_rules.inference, 0
        boxes, scores = [], []
        for anchors in grid_anchors(raw.map_sizes, self.rpn_rules.strides):
            stop = start + anchors.shape[0]
            # Not `sigmoid`: ONNX Runtime's ends at 1e-8, and among lower scores the order would be lost.
            level = 1 / (1 + (-raw.logits[0, start:stop]).exp())
            # In the anchors' order: those in padding have equal scores, whose order not every runtime's TopK keeps.
            index = level.topk(_at_most(limits.per_level, anchors)).indices.sort().values
            boxes.append(decode_boxes(anchors[index], raw.deltas[0, start:stop][index], image_size=size))
            scores.append(level[index])
            start = stop
        levels = torch.cat([torch.full_like(one, level) for level, one in enumerate(scores)])
        together = torch.cat(boxes)
        return together[_suppress(together, torch.cat(scores), levels, limits.nms_threshold, limits.per_image)]


def _at_most(most: int, rows: Tensor) -> Any:
    """The number of rows, or `most` where there are more."""
    count: Any = torch.full((), rows.shape[0]).clamp(max=most).item()
    torch._check(count >= 0)
    torch._check(count <= rows.shape[0])
    return count


def _suppress(
    boxes: Float[Tensor, "n 4"], scores: Float[Tensor, " n"], groups: Tensor, threshold: float, most: int
) -> Int[Tensor, " kept"]:
    """`batched_nms` of boxes without negative coordinates, in one call, and the best `most` of what it keeps."""
    largest = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).max()  # a zero: there may be no box
    kept = torchvision.ops.nms(boxes + (groups * (largest + 1))[:, None], scores, threshold)
    return kept[: _at_most(most, kept)]


class ExportedExtractor(RegionExtractor):
    """`RegionExtractor` for exporters."""

    def __call__(self, features: Maps, rois: Float[Tensor, "n 5"]) -> Float[Tensor, "n C s s"]:
        # A region without area has no samples, and OpenVINO divides by their number: one beyond the map has zeros, too.
        is_empty = (rois[:, 3:] <= rois[:, 1:3]).any(dim=1, keepdim=True)
        rois = torch.where(is_empty, rois.new_tensor([0, -1e4, -1e4, -1e4 + 1, -1e4 + 1]), rois)
        levels = region_levels(rois[:, 1:], len(self.strides), self.strides[0])
        parts, order = [], []
        for level, stride in enumerate(self.strides):
            index = (levels == level).nonzero()[:, 0]
            order.append(index)
            parts.append(
                torchvision.ops.roi_align(
                    features[level],
                    rois[index],
                    self.output_size,
                    spatial_scale=1 / stride,
                    sampling_ratio=-1,
                    aligned=True,
                )
            )
        places = torch.cat(order)
        back = torch.zeros_like(levels).scatter(0, places, torch.arange(places.shape[0]))
        return torch.cat(parts).index_select(0, back)


class ExportedDetector(nn.Module):
    """A detector as one graph, for one image of any size, which is padded inside."""

    def __init__(self, network: DetectorNetwork, objects: DetectorObjects) -> None:
        super().__init__()
        self.network, self.objects = network, objects

    def forward(self, images: Float[Tensor, "1 C H W"], scale_factor: Float[Tensor, 4]) -> tuple[Tensor, ...]:
        size = torch.stack([torch.full((), side) for side in images.shape[2:]])
        objects: tuple[Tensor, ...] = self.objects(*self.network(images), size, scale_factor)
        return objects


class OriginalDetector(nn.Module):
    """What `ExportedDetector` has to equal."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, images: Float[Tensor, "1 C H W"], scale_factor: Float[Tensor, 4]) -> tuple[Tensor, ...]:
        return _tensors(*detect(self.detector, [images[0]], [scale_factor.tolist()]))


class OriginalObjects(nn.Module):
    """What `DetectorObjects` has to equal."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        *maps, logits, deltas, image_size, scale_factor = inputs
        maps = maps[: len(self.detector.rpn_head.rules.strides)]  # the rest is made of them
        height, width = image_size.tolist()
        raw = RPNOutputs(logits=logits, deltas=deltas, map_sizes=map_sizes(maps))
        regions = self.detector.rpn_head.propose(raw, [(height, width)], training=False)
        return _tensors(*self.detector.roi_head.predict(maps, regions, [(height, width)], [scale_factor.tolist()]))


def _tensors(found: InstancePredictions) -> tuple[Tensor, ...]:
    return found.boxes_xyxy, found.scores, found.labels, found.masks
