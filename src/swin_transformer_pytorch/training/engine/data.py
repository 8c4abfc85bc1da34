"""Lightning's data module, whatever the task: training's loader, and the place that it has reached."""

from __future__ import annotations

import logging
import os
import zlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cached_property
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader, Dataset, Subset

from ...data.images.unusable import ReplacedSamples, Samples
from ..recipes.parts import RecipeError
from .sampling import TrainingLoader
from .stopping import leave_stopping_to_the_run

_log = logging.getLogger(__name__)


class TrainingData(LightningDataModule):
    """A recipe's images as Lightning wants them. Its state is the place that training has reached.

    Attributes:
        num_images: training images.
        num_val_images: validation images.
        counted: what `class_counts` counts.
        batch_size: images of a batch on one device.
        train_samples: what training's batches are made of, once they are; it knows which images could not be used.
        test_samples: what the run is measured on at its end, or None.
        num_workers: processes that read images; no more than this process has cores. It changes no result.
        stretched: by what the batches of an epoch on a device are more than they were before the run was resumed, on
            more devices then.
    """

    counted = "images"

    def __init__(self, num_images: int, num_val_images: int, batch_size: int, num_workers: int) -> None:
        super().__init__()
        self.num_images = num_images
        self.num_val_images = num_val_images
        self.batch_size = batch_size
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.num_workers = min(num_workers, cores)
        self.train_samples: ReplacedSamples[Any] | None = None
        self.test_samples: Samples[Any] | None = None
        self._loader: TrainingLoader | None = None
        self._place = {"epoch": 0, "step": 0}
        self.stretched = Fraction(1)
        self._steps_before: int | None = None

    @property
    def parts(self) -> int:
        """What of an epoch's order all devices take at once, in its smallest parts: images."""
        return self.batch_size * self.rank_and_world_size()[1]

    @property
    @abstractmethod
    def validation_samples(self) -> Samples[Any]:
        """The validation images with their labels, as the data set gives them."""

    @cached_property
    def validation_names(self) -> int | None:
        """A checksum of their files' names, wherever they lie now; None where they are not of files."""
        paths = getattr(self.validation_samples, "paths", None)
        return None if paths is None else zlib.crc32("\n".join(os.path.basename(path) for path in paths).encode())

    @abstractmethod
    def evaluated(self, samples: Any) -> DataLoader[Any]:
        """Batches of images to measure on."""

    def val_dataloader(self) -> DataLoader[Any]:
        return self.evaluated(self.validation_samples)

    def test_dataloader(self) -> DataLoader[Any]:
        return self.evaluated(self.test_samples)

    @abstractmethod
    def training_loader(self, rank: int, world_size: int) -> TrainingLoader:
        """That rank's batches."""

    def class_counts(self) -> Mapping[str, int] | None:
        """How often training has each class, by its name; None where that takes reading the images."""
        return None

    def train_dataloader(self) -> TrainingLoader:
        self._loader = self.training_loader(*self.rank_and_world_size())
        self._go_to_place()
        return self._loader

    def evaluation_loader(
        self, dataset: Dataset[Any], collate: Callable[[list[Any]], Any], batch_size: int | None = None
    ) -> DataLoader[Any]:
        """Each rank's share, without the repeated images that equal shares would need. Where there are fewer images
        than ranks, a share is one batch of none, so that all ranks do the same.
        """
        rank, world_size = self.rank_and_world_size()
        share, size = range(rank, len(dataset), world_size), batch_size or self.batch_size  # type: ignore[arg-type]
        places = list(range(len(share)))
        return DataLoader(
            Subset(dataset, share),
            batch_sampler=[places[start : start + size] for start in range(0, max(len(places), 1), size)],
            num_workers=self.num_workers,
            collate_fn=collate,
            worker_init_fn=leave_stopping_to_the_run,
            generator=torch.Generator(),
        )

    def teardown(self, stage: str) -> None:
        # Its worker processes end with it.
        self.state_dict()
        self._loader = None

    def state_dict(self) -> dict[str, Any]:
        if self._loader is not None:
            self._place = {"epoch": self._loader.epoch, "step": self._loader.step}
        taken = {"parts": self.parts} | ({} if self._loader is None else {"steps": len(self._loader)})
        return {**self._place, **taken, "num_images": self.num_images, "validation": self.validation_names}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.stretched = Fraction(state_dict.get("parts", self.parts), self.parts)
        self._place = {"epoch": int(state_dict["epoch"]), "step": int(state_dict["step"] * self.stretched)}
        if self.stretched != 1 and "steps" in state_dict:
            self._steps_before = state_dict["steps"]
        before = state_dict.get("num_images")
        if before not in (None, self.num_images):
            _log.warning(
                "the run began with %d training images and goes on with %d: it is another run now",
                before,
                self.num_images,
            )
        if state_dict.get("validation", self.validation_names) != self.validation_names:
            _log.warning(
                "the validation images are others than the run began with: it may have learnt from some of them, and "
                "its best validation is not to be compared; a new run, or a folder of their own, keeps them apart"
            )
        # With sharded weights the loader is there before the checkpoint is read.
        self._go_to_place()

    def _go_to_place(self) -> None:
        """Has the loader go on at the place; a `RecipeError` where the epochs of before had other steps."""
        if self._loader is None:
            return
        if self._steps_before is not None and self._steps_before * self.stretched != len(self._loader):
            raise RecipeError(
                f"the run's epochs have {self._steps_before} batches on each device and would have {len(self._loader)} "
                "now, with other steps: resume it with the trainer.devices and data.batch_size that it began with"
            )
        self._loader.epoch, self._loader.step = self._place["epoch"], self._place["step"]

    def rank_and_world_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
