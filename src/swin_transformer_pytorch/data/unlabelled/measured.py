"""Images to measure a model of masked pre-training on, each with one mask for ever."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..classification.dataset import EvaluationDataset, LabelledImages
from ..classification.transforms import EvaluationTransform
from ..images.masking import MaskRule

Masked = tuple[Tensor, Tensor]
"""An image (C, h, w) and of each of its patches whether it is hidden; or batches of both."""


class MeasuredImages(Dataset[Masked | str]):
    """Items are `Masked`, or what is wrong with an image that cannot be used, as text."""

    def __init__(self, base: LabelledImages, transform: EvaluationTransform, rule: MaskRule) -> None:
        self.images = EvaluationDataset(base, transform)
        self.rule = rule

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Masked | str:
        item = self.images[index]
        return item if isinstance(item, str) else (item[0], self.rule.fixed(index))


def collate_measured(items: Sequence[Masked | str]) -> tuple[Masked | None, list[str]]:
    """A batch, or None if no image could be read; and what is wrong with others."""
    usable = [item for item in items if not isinstance(item, str)]
    batch = (torch.stack([image for image, _ in usable]), torch.stack([mask for _, mask in usable])) if usable else None
    return batch, [item for item in items if isinstance(item, str)]
