"""Images to what a Mask2Former answers: segments, objects with masks, or a class for each pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..data.images.dense_transforms import DenseTransform, PreparedImage
from ..data.images.pixels import ImageInput
from ..data.transforms import create_transform
from ..models.exported import ExportedMask2Former
from ..models.mask2former import Mask2Former
from ..models.mask2former_config import Answers
from ..models.mask_results import label_map_of, label_map_of_views, objects_of, segments_of
from ..models.query_masks import QueryMasks, query_masks
from ..models.segmentation_inference import RATIOS
from ..results import Detections, PanopticSegmentation, SegmentationMap
from .task import Prediction, check_class_layers, class_names, name_of, views_of


@dataclass(frozen=True, kw_only=True)
class EveryAnswer:
    """What the queries for one image say in each way, of one look at it.

    Attributes:
        panoptic: each pixel's segment.
        instance: things with masks and scores; they may overlap.
        semantic: each pixel's class.
    """

    panoptic: PanopticSegmentation
    instance: Detections
    semantic: SegmentationMap


class Mask2FormerTask:
    """Answers by the rules that its config names, at the image's own size. See `PredictionTask`.

    Args:
        model: its config's `answers` says what is given: `PanopticSegmentation`, `Detections` or `SegmentationMap`.
        score_threshold: of objects: least score of what is given; None for all that the model gives.
    """

    batch_size = 4

    def __init__(self, model: Mask2Former | ExportedMask2Former, *, score_threshold: float | None) -> None:
        check_class_layers(model)
        self.model = model
        self.score_threshold = score_threshold
        self.transform: DenseTransform = create_transform(model)
        known = class_names(model)
        self.names = tuple(name_of(known, label) for label in range(model.num_classes))

    def prepare(self, image: ImageInput) -> PreparedImage:
        """One image, resized and normalised but not padded."""
        (view,) = views_of(image, self.transform, (1.0,))
        return view

    def predict(self, prepared: Sequence[PreparedImage]) -> list[Prediction]:
        """See `models.panoptic_inference`."""
        answer: dict[Answers, Callable[[QueryMasks], Prediction]] = {
            "panoptic": self._segments,
            "instance": self._objects,
            "semantic": self._classes,
        }
        return [answer[self.model.config.answers](one) for one in self._queries(prepared)]

    def every_answer(self, prepared: Sequence[PreparedImage]) -> list[EveryAnswer]:
        """All three at once, of a model of panoptic answers, as the authors measure it."""
        return [
            EveryAnswer(panoptic=self._segments(one), instance=self._objects(one), semantic=self._classes(one))
            for one in self._queries(prepared)
        ]

    def _queries(self, prepared: Sequence[PreparedImage]) -> list[QueryMasks]:
        pixels = [image.pixels for image in prepared]
        return query_masks(self.model, pixels, [image.original_size for image in prepared])

    def _segments(self, image: QueryMasks) -> PanopticSegmentation:
        return segments_of(self.model, image, self.names)

    def _objects(self, image: QueryMasks) -> Detections:
        result = objects_of(self.model, image, self.names)
        return result if self.score_threshold is None else result.above(self.score_threshold)

    def _classes(self, image: QueryMasks) -> SegmentationMap:
        labels = label_map_of(self.model, image).cpu().numpy()
        return SegmentationMap(labels=labels, names=self.names, palette=self.model.palette)


class SeveralViewsTask:
    """A semantic Mask2Former's label map from several views of an image. See `PredictionTask`.

    Args:
        model: its config's `answers` is "semantic".
        multi_scale: whether to look at each image at each of the published ratios (`RATIOS`).
        flip: whether to look at its mirror image too.
    """

    batch_size = 4

    def __init__(self, model: Mask2Former | ExportedMask2Former, *, multi_scale: bool, flip: bool) -> None:
        one = Mask2FormerTask(model, score_threshold=None)
        self.model, self.transform, self.names = model, one.transform, one.names
        self.ratios = RATIOS if multi_scale else (1.0,)
        self.flip = flip

    def prepare(self, image: ImageInput) -> list[PreparedImage]:
        """One image at each ratio, resized and normalised but not padded."""
        return views_of(image, self.transform, self.ratios)

    def predict(self, prepared: Sequence[list[PreparedImage]]) -> list[SegmentationMap]:
        """See `models.mask_results.label_map_of_views`."""
        maps = [
            label_map_of_views(self.model, [view.pixels for view in views], views[0].original_size, flip=self.flip)
            for views in prepared
        ]
        return [SegmentationMap(labels=one.cpu().numpy(), names=self.names, palette=self.model.palette) for one in maps]
