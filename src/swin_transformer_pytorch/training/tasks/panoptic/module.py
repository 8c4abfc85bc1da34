"""Training of panoptic segmenters as a Lightning module: the sum of losses, and a validation by panoptic quality."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ....data.images.dense_transforms import PreparedImage
from ....data.mask_batches import MaskBatch
from ....data.samples import PanopticSample
from ....evaluation.panoptic import PanopticEvaluator
from ....models.mask2former import Mask2Former
from ....models.mask_results import segments_of
from ...recipes.panoptic import PanopticRecipe
from ..dense.learning import mask_losses, queries_of
from ..dense.module import DenseTraining

Prepared = tuple[PanopticSample, PreparedImage]


class PanopticTraining(DenseTraining):
    """Trains a panoptic segmenter. Metrics, all in [0, 1]: "val_pq", "val_sq" and "val_rq" over all classes that there
    are or that were predicted, and the first over things and over stuff, "val_pq_things" and "val_pq_stuff", where
    there are some.
    """

    main_metric = "val_pq"
    warmup = ("schedule.warmup_steps", 0)
    model: Mask2Former
    recipe: PanopticRecipe

    def __init__(self, model: Mask2Former, recipe: PanopticRecipe, *, batch_size: int) -> None:
        super().__init__(model, recipe, batch_size=batch_size)
        self._evaluator = self._new_evaluator()

    def _new_evaluator(self) -> PanopticEvaluator:
        assert self.model.classes is not None, "the data has named them"
        return PanopticEvaluator(self.model.classes, self.model.config.thing_classes)

    def losses(self, batch: MaskBatch, batch_idx: int) -> dict[str, Tensor]:
        return mask_losses(self.model, batch)

    def begin_validation(self) -> None:
        self._evaluator = self._new_evaluator()

    def validation_step(self, batch: Sequence[Prepared | str], batch_idx: int) -> None:
        usable: list[Prepared] = self.unusable.usable(list(batch))
        images = [image for _, image in usable]
        # In full precision, as the official code tests.
        with torch.autocast(self.device.type, enabled=False):
            found = queries_of(self.model, images)
        names = self.model.classes  # looked up once: it looks at the class layer
        assert names is not None
        for one, (sample, _) in zip(found, usable, strict=True):
            found_segments = segments_of(self.model, one, names)
            self._evaluator.update(found_segments, sample.segment_ids, sample.labels, sample.crowd)

    def end_validation(self) -> dict[str, float]:
        total = self._new_evaluator()
        for counted in self.gathered([self._evaluator]):
            total.merge(counted)
        report = total.report()
        metrics = {"val_pq": report.all.pq, "val_sq": report.all.sq, "val_rq": report.all.rq}
        for name, part in (("things", report.things), ("stuff", report.stuff)):
            metrics |= {} if part is None else {f"val_pq_{name}": part.pq}
        return metrics
