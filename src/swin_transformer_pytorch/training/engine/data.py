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
from .processes import require_agreement
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
        self._lengths_before: dict[str, Fraction] = {}

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
        """A checksum of their files' names, or of shards' content, wherever they lie; None where there are neither."""
        samples = self.validation_samples
        if (checksum := getattr(samples, "checksum", None)) is not None:
            return int(checksum)
        if (paths := getattr(samples, "paths", None)) is None:
            return None
        total = 0
        for number, path in enumerate(paths):  # of millions, none is kept
            total = zlib.crc32(b"\n" * (number > 0) + os.fsencode(os.path.basename(path)), total)
        return total

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

    def setup(self, stage: str) -> None:
        # Each process has found its own, before it knew the others.
        facts: dict[str, int | None] = {"training images": self.num_images, "validation images": self.num_val_images}
        facts |= {"validation images' names": self.validation_names, "data.batch_size": self.batch_size}
        require_agreement(facts)

    def teardown(self, stage: str) -> None:
        # Its worker processes end with it.
        self.state_dict()
        self._loader = None

    def state_dict(self) -> dict[str, Any]:
        if self._loader is not None:
            self._place = {"epoch": self._loader.epoch, "step": self._loader.step}
        taken = {"parts": self.parts, "num_images": self.num_images, "validation": self.validation_names}
        return {**self._place, **taken, **self._lengths()}

    def _lengths(self) -> dict[str, int]:
        """The batches of an epoch and of a pass over the images, once they are known."""
        loader = self._loader
        return {} if loader is None else {"steps": len(loader), "steps_per_pass": loader.batches.steps_per_pass}

    def stretch(self, state_dict: Mapping[str, Any]) -> Fraction:
        """By what the batches of an epoch on a device are more than those of a state, which was of more devices."""
        return Fraction(state_dict.get("parts", self.parts), self.parts)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        stretch = self.stretch(state_dict)
        self._place = {"epoch": int(state_dict["epoch"]), "step": int(state_dict["step"] * stretch)}
        if stretch != 1:
            known = ("steps", "steps_per_pass")
            self._lengths_before = {name: state_dict[name] * stretch for name in known if name in state_dict}
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
        for name, now in self._lengths().items():
            if (before := self._lengths_before.get(name, now)) != now:
                what = "epochs" if name == "steps" else "passes over the images"
                raise RecipeError(
                    f"the run's {what} would have {now} batches on each device now, where those that it began with are "
                    f"{float(before):g}: other images a step; resume it with the trainer.devices and data.batch_size "
                    "that it began with"
                )
        self._loader.epoch, self._loader.step = self._place["epoch"], self._place["step"]

    def rank_and_world_size(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
