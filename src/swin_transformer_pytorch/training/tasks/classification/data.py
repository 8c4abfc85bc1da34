"""Classification: from a recipe's `data` to batches."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from ....data.classification.dataset import EvaluationDataset, Label, LabelledImages, TrainingDataset
from ....data.classification.folder import guessed_order, imagenet_synsets
from ....data.classification.shards import ShardImages
from ....data.errors import DataError
from ....data.transforms import create_transform
from ....evaluation.classification import collate_usable
from ....weights.imagenet_classes import class_names
from ....weights.preprocessing import Preprocessing
from ...engine.data import TrainingData
from ...engine.sampling import EpochBatches, TrainingLoader
from ...recipes.classification import DataRecipe, Recipe
from ...recipes.parts import chosen
from ...recipes.pretraining import PretrainingRecipe, UnlabelledDataRecipe
from ..channels import channel_statistics
from ..image_sizes import choose_image_size
from ..test_part import open_test
from ..white_level import white_level_of

_log = logging.getLogger(__name__)

FASHION_MEAN, FASHION_STD = (0.2860,), (0.3530,)
GREY_MEAN, GREY_STD = (0.449,), (0.226,)


@dataclass(frozen=True, kw_only=True)
class Splits:
    """The images that are learnt from and those that are not, with the classes that all have."""

    train: LabelledImages
    val: LabelledImages
    classes: tuple[str, ...]
    test: LabelledImages | None = None


def open_splits(recipe: DataRecipe, *, seed: int = 0) -> Splits:
    """Opens the data set that a recipe names.

    Raises:
        DataError: there are no images, or the two splits have other classes.
        RecipeError: `data.root` is missing.
    """
    source = recipe.source(seed=seed)
    train, val = source.open_both()
    if recipe.kind == "shards" and len(train.classes) < 2:
        found = f"the one class {train.classes[0]!r}" if train.classes else "images without labels"
        raise DataError(
            f"{recipe.root} has {found}; telling classes apart takes two or more, packed from their folders"
        )
    if tuple(train.classes) != tuple(val.classes):
        missing = sorted(set(train.classes) ^ set(val.classes))
        raise DataError(
            f"{recipe.root}: training and validation images have other classes; "
            f"only one of them has: {', '.join(missing[:10])}. Make the folders' names the same"
        )
    for name, images in (("training", train), ("validation", val)):
        if len(images) == 0:
            raise DataError(f"{recipe.root or recipe.kind}: there are no {name} images")
        if recipe.kind == "multi_label" and not images.labels.any():
            raise DataError(f"{recipe.root}: none of the {len(images)} {name} images has a label; label some")
    classes = tuple(train.classes)
    ordered = recipe.kind != "folder" or recipe.class_order is not None or recipe.classes is not None
    if not ordered and (guess := guessed_order(classes)):
        _log.warning("%s: %s", recipe.root, guess)
    # ImageNet's folders are named by synset; people read names.
    named = class_names("imagenet1k") if classes == imagenet_synsets() else None
    test = open_test(replace(source, classes=classes))
    return Splits(train=train, val=val, test=test, classes=named or classes)


def choose_preprocessing(
    recipe: DataRecipe | UnlabelledDataRecipe,
    in_channels: int,
    known: Preprocessing | None,
    own: Preprocessing | None = None,
    *,
    images: LabelledImages | None = None,
) -> Preprocessing:
    """How images become tensors: what the recipe says, else what the model's weights expect, else the kind's own.

    Args:
        recipe: its `image_size` and `resize_size`.
        in_channels: of the model.
        known: the model's own.
        own: that of its weights, or None.
        images: the training images, which "auto" looks at, and which are said where they lose much.
    """
    auto = recipe.image_size == "auto"
    if images is not None and (auto or (recipe.image_size is None and known is not None)):
        recipe = replace(recipe, image_size=choose_image_size(images, known or own, say=auto))
    assert recipe.image_size != "auto", "the images are given"
    if recipe.kind.startswith("fashion") and in_channels == 1:
        size = recipe.image_size or (known.image_size if known else 28)
        return Preprocessing(
            image_size=_pair(size), resize_size=recipe.resize_size or _pair(size), mean=FASHION_MEAN, std=FASHION_STD
        )
    if known is not None and recipe.image_size in (None, known.image_size, known.image_size[0]):
        size, resize = known.image_size, recipe.resize_size or known.resize_size
    else:
        size = _pair(recipe.image_size or 224)
        resize = recipe.resize_size or Preprocessing.imagenet(size).resize_size
    if known is not None and known.channels == in_channels:
        mean, std, filter_ = known.mean, known.std, known.interpolation
    elif in_channels == 1:
        mean, std, filter_ = GREY_MEAN, GREY_STD, "bicubic"
    elif in_channels == 3 or images is None:
        imagenet = Preprocessing.imagenet(size)
        mean, std, filter_ = imagenet.mean, imagenet.std, imagenet.interpolation
    else:
        mean, std = channel_statistics(images, in_channels)
        filter_ = "bicubic"
    white = white_level_of(images)
    return Preprocessing(
        image_size=size, resize_size=resize, interpolation=filter_, mean=mean, std=std, white_level=white
    )


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


class ClassificationData(TrainingData):
    """A recipe's images as Lightning wants them.

    Attributes:
        splits: the data sets.
        preprocessing: how an image becomes a tensor.
    """

    def __init__(self, recipe: Recipe, splits: Splits, preprocessing: Preprocessing) -> None:
        num_images, num_val_images = len(splits.train), len(splits.val)
        batch_size = fitting_batch_size(recipe, num_images)
        super().__init__(num_images, num_val_images, batch_size, recipe.data.num_workers)
        self.augmentation = recipe.data.augmentation
        self.sampling = recipe.data.sampling
        self.seed = recipe.trainer.seed
        self.splits = splits
        self.test_samples = splits.test
        self.preprocessing = preprocessing

    @property
    def validation_samples(self) -> LabelledImages:
        return self.splits.val

    def class_counts(self) -> dict[str, int]:
        labels, count = self.splits.train.labels, len(self.splits.classes)
        counts = labels.sum(axis=0, dtype=np.int64) if labels.ndim == 2 else np.bincount(labels, minlength=count)
        return dict(zip(self.splits.classes, counts.tolist(), strict=True))

    def training_loader(self, rank: int, world_size: int) -> TrainingLoader:
        transform = create_transform(self.preprocessing, train=True, augment=self.augmentation)
        dataset = TrainingDataset(self.splits.train, transform, seed=self.seed)
        self.train_samples = dataset.samples
        batches = EpochBatches(
            len(dataset),
            self.batch_size,
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            labels=self.splits.train.labels if self.sampling == "balanced" else None,
            **shard_order(self.splits.train, self.batch_size * world_size),
        )
        return TrainingLoader(dataset, batches, num_workers=self.num_workers, check=dataset.samples.check)

    def evaluated(self, samples: LabelledImages) -> DataLoader[tuple[Tensor, Label] | str]:
        dataset = EvaluationDataset(samples, create_transform(self.preprocessing))
        return self.evaluation_loader(dataset, collate_usable)


def shard_order(images: LabelledImages, global_batch: int) -> dict[str, Any]:
    """What `EpochBatches` is told of images that lie in shards, in steps of so many on all devices."""
    if not isinstance(images, ShardImages):
        return {}
    return {"order": images.order(global_batch), "want": None if images.ahead is None else images.ahead.want}


def fitting_batch_size(recipe: Recipe | PretrainingRecipe, num_images: int) -> int:
    """The recipe's batch size, or a device's share of the images where that is less, which is then logged."""
    devices = recipe.trainer.world_size
    share = num_images // devices
    if share < 1:
        raise DataError(f"{num_images} training images are too few for {devices} devices: lower trainer.devices")
    planned = chosen(recipe.data.batch_size)
    if share < planned:
        _log.warning(
            "data.batch_size=%d is larger than the %d training images that a device has; training with batches of %d",
            planned,
            share,
            share,
        )
    return min(share, planned)
