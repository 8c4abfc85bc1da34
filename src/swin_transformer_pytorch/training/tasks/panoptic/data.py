"""Panoptic segmentation: from a recipe's `data` to batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from ....data.errors import DataError, some
from ....data.images.dense_transforms import DenseTransform, PreparedImage
from ....data.mask_batches import collate_masks
from ....data.panoptic.dataset import PanopticDataset
from ....data.panoptic.instance_maps import InstanceMaps
from ....data.panoptic.source import PanopticSource
from ....data.panoptic.transforms import PanopticTrainingTransform
from ....data.samples import PanopticSample
from ....data.scenes.panoptic import PanopticScenes
from ....weights.preprocessing import DensePreprocessing
from ...recipes.panoptic import PanopticDataRecipe, PanopticRecipe
from ...recipes.parts import RecipeError
from ..dense.data import DenseData

PanopticImages = PanopticDataset | InstanceMaps | PanopticScenes


def open_panoptic(recipe: PanopticDataRecipe, *, seed: int = 0) -> tuple[PanopticImages, PanopticImages]:
    """Opens what a recipe names: the images that are learnt from, and those of validation, of the same classes.

    Raises:
        DataError: files are missing or broken.
        RecipeError: the recipe does not say where they are.
    """
    source = recipe.source(seed=seed)
    train = source.open("train")
    if recipe.things is not None and not isinstance(train, InstanceMaps):
        says = (
            f"{train.annotations_file} says it itself (isthing)" if isinstance(train, PanopticDataset) else "scenes do"
        )
        raise RecipeError(f"data.things={recipe.things} is for label and instance PNGs, and {says}: leave it out")
    val = with_classes_of(source, train).open("val")
    _check_kinds(train, val)
    return train, val


def _check_kinds(train: PanopticImages, val: PanopticImages) -> None:
    """Raises a `DataError` where a class is of things in one part and of stuff in the other."""
    if not isinstance(train, PanopticDataset) or not isinstance(val, PanopticDataset):
        return
    kinds = [
        {name: "thing" if part.classes.index(name) in part.things else "stuff" for name in part.category_ids}
        for part in (train, val)
    ]
    if different := [name for name, kind in kinds[1].items() if kinds[0].get(name, kind) != kind]:
        listed = some([f"{name} ({kinds[0][name]}, then {kinds[1][name]})" for name in different])
        raise DataError(
            f"{train.annotations_file} and {val.annotations_file} differ in isthing: {listed}; correct one of them"
        )


def with_classes_of(source: PanopticSource, train: PanopticImages) -> PanopticSource:
    """Where other parts of the data are, with the classes and things of the training part."""
    return replace(source, classes=train.classes, things=tuple(train.classes[label] for label in train.things))


class PanopticData(DenseData):
    """A recipe's images with their segments as Lightning wants them.

    Training's batches are `MaskBatch`es; validation's are lists of (sample, prepared image), or texts that say what is
    wrong with an image.
    """

    def __init__(
        self, recipe: PanopticRecipe, train: PanopticImages, val: PanopticImages, preprocessing: DensePreprocessing
    ) -> None:
        super().__init__(
            recipe,
            train,
            val,
            groups=[0] * len(train),
            change=PanopticTrainingTransform(preprocessing, recipe.data.augmentation),
            prepare=PreparePanoptic(preprocessing),
            collate=partial(collate_masks, size_divisor=preprocessing.size_divisor),
        )
        self.counted = "segments"
        self._train_images = train

    def class_counts(self) -> dict[str, int] | None:
        return self._train_images.class_counts() if isinstance(self._train_images, PanopticDataset) else None


@dataclass(frozen=True)
class PreparePanoptic:
    """A sample, and its image as the model takes it."""

    preprocessing: DensePreprocessing

    def __call__(self, sample: PanopticSample) -> tuple[PanopticSample, PreparedImage]:
        return sample, DenseTransform(self.preprocessing)(sample.image)
