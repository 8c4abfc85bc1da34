"""Segmentation: from a recipe's `data` to batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import UInt8

from ....data.images.dense_transforms import DenseTransform, PreparedImage
from ....data.scenes.dataset import open_scenes
from ....data.segmentation import dataset as data
from ....data.segmentation.dataset import SceneLabelMaps, SegmentationFolder, SegmentationSample, ade20k_folder
from ....data.segmentation.transforms import SegmentationTrainingTransform, collate_segmentation
from ....weights.preprocessing import DensePreprocessing
from ...recipes.parts import RecipeError
from ...recipes.segmentation import SegmentationDataRecipe, SegmentationRecipe
from ..dense.data import DenseData

Colour = tuple[int, int, int]


class SegmentationImages(Protocol):
    """A data set of segmentation."""

    classes: tuple[str, ...]
    palette: tuple[Colour, ...] | None

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> SegmentationSample: ...


@dataclass(frozen=True, kw_only=True)
class SegmentationSplits:
    """The images that are learnt from and those that are not; both have the same classes."""

    train: SegmentationImages
    val: SegmentationImages


def open_segmentation(recipe: SegmentationDataRecipe, *, seed: int = 0) -> SegmentationSplits:
    """Opens the data set that a recipe names.

    Raises:
        DataError: files are missing or broken.
        RecipeError: the recipe does not say where they are.
    """
    return SegmentationSplits(train=_open(recipe, "train", seed), val=_open(recipe, "val", seed))


def _open(recipe: SegmentationDataRecipe, split: Literal["train", "val"], seed: int) -> SegmentationImages:
    if recipe.kind == "scenes_sample" or recipe.kind == "scenes":
        if recipe.kind == "scenes" and recipe.root is None:
            raise RecipeError("data.kind='scenes' needs data.root: add --data.root FOLDER with Fashion-MNIST's files")
        number = recipe.num_scenes if split == "train" else recipe.num_val_scenes
        size = recipe.scene_size
        return SceneLabelMaps(
            open_scenes(recipe.kind, split, num_scenes=number, root=recipe.root, seed=seed, image_size=size)
        )
    images, labels = getattr(recipe, f"{split}_images"), getattr(recipe, f"{split}_labels")
    if images is None and labels is None:
        if recipe.root is None:
            raise RecipeError(
                f"data.kind={recipe.kind!r} needs data.root: add --data.root FOLDER, or --data.train_images, "
                "--data.train_labels, --data.val_images and --data.val_labels"
            )
        return data.open_segmentation(
            recipe.root,
            split,
            classes=recipe.classes,
            ignore_label=recipe.ignore_label,
            val_fraction=recipe.val_fraction,
            seed=seed,
        )
    for part, value in (("images", images), ("labels", labels)):
        if value is None:
            raise RecipeError(f"data.{split}_{part} is missing, and its counterpart is given: give both or neither")
    if recipe.kind == "ade20k":
        return ade20k_folder(images, labels, ignore_label=recipe.ignore_label)
    return SegmentationFolder(images, labels, classes=recipe.classes, ignore_label=recipe.ignore_label)


class SegmentationData(DenseData):
    """A recipe's images with their label maps as Lightning wants them.

    Training's batches are `SegmentationBatch`es; validation's are lists of (prepared image, label map), or texts that
    say what is wrong with an image.
    """

    def __init__(
        self, recipe: SegmentationRecipe, splits: SegmentationSplits, preprocessing: DensePreprocessing
    ) -> None:
        super().__init__(
            recipe,
            splits.train,
            splits.val,
            groups=[0] * len(splits.train),
            change=SegmentationTrainingTransform(preprocessing, recipe.data.augmentation),
            prepare=PrepareSegmentation(preprocessing),
            collate=collate_segmentation,
        )


@dataclass(frozen=True)
class PrepareSegmentation:
    """A sample's image as the model takes it, and its label map as it is."""

    preprocessing: DensePreprocessing

    def __call__(self, sample: SegmentationSample) -> tuple[PreparedImage, UInt8[np.ndarray, "H W"]]:
        return DenseTransform(self.preprocessing)(sample.image), sample.labels
