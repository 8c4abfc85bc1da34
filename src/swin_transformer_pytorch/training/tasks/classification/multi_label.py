"""Training where an image may have any number of the classes: binary cross entropy, and a validation by mAP."""

from __future__ import annotations

from itertools import chain

from torch import Tensor
from torch.nn import functional as F

from ....data.errors import DataError
from ....evaluation.multi_label import MultiLabelCounts
from .module import ClassificationTraining


class MultiLabelTraining(ClassificationTraining):
    """Trains a classifier of several labels an image.

    Metrics: "val_loss" (nats, the mean over images and classes), "val_map" and "val_f1" (in [0, 1], the means over the
    classes that some image has, see `MultiLabelReport`), "val_map_classes" and "val_num_classes" (how many these are,
    and all).
    """

    main_metric = "val_map"

    def targets(self, labels: Tensor) -> Tensor:
        return labels.float()

    def loss(self, logits: Tensor, targets: Tensor, weights: Tensor | None) -> dict[str, Tensor]:
        """The mean over classes, too; `weights` are what images that have a class count for one that has not."""
        smoothing = self.recipe.loss.label_smoothing
        # By what an image has and not by what smoothing makes of it, as in `ClassificationTraining.loss`.
        counts = None if weights is None else 1 + (weights - 1) * targets
        smooth = targets * (1 - smoothing) + smoothing / 2
        return {"loss_bce": F.binary_cross_entropy_with_logits(logits, smooth, weight=counts)}

    def begin_validation(self) -> None:
        super().begin_validation()
        self._labels = MultiLabelCounts(self.model.num_classes)

    def count(self, logits: Tensor, labels: Tensor) -> None:
        self._labels.add(logits, labels)
        loss = F.binary_cross_entropy_with_logits(logits, self.targets(labels), reduction="none")
        self._val_loss += loss.mean(dim=1).sum().item()

    def end_validation(self) -> dict[str, float]:
        of_ranks = self.gathered([(self._labels.batches, self._val_loss)])
        self._labels.batches = list(chain.from_iterable(batches for batches, _ in of_ranks))
        if not self._labels.batches:
            raise DataError("none of the validation images can be read; check the files")
        report = self._labels.report([str(index) for index in range(self.model.num_classes)])
        return {
            "val_loss": sum(loss for _, loss in of_ranks) / report.num_images,
            "val_map": report.mean_ap,
            "val_f1": report.f1,
            "val_map_classes": report.num_scored,
            "val_num_classes": self.model.num_classes,
        }
