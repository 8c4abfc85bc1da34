"""Detection: from a recipe's `data` to batches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ....data.detection.coco import CocoDataset, DetectionSample
from ....data.detection.source import FOLDER_KINDS
from ....data.detection.transforms import DetectionTrainingTransform, aspect_groups
from ....data.images.dense_transforms import DenseTransform, PreparedImage
from ....data.scenes.dataset import SceneDataset
from ....weights.preprocessing import DensePreprocessing
from ...recipes.detection import DetectionDataRecipe, DetectionRecipe
from ...recipes.parts import RecipeError
from ..dense.data import DenseData

DetectionImages = CocoDataset | SceneDataset


def open_detection(
    recipe: DetectionDataRecipe, *, seed: int = 0, stuff: bool = False
) -> tuple[DetectionImages, DetectionImages]:
    """Opens what a recipe names: the images that are learnt from, and those of validation, of the same classes.

    Args:
        recipe: which.
        seed: chooses the scenes, where it is scenes.
        stuff: whether label maps are needed, as HTC does.

    Raises:
        DataError: files are missing or broken.
        RecipeError: the recipe does not say where they are.
    """
    source = recipe.source(seed=seed, stuff=stuff)
    if stuff and source.kind in FOLDER_KINDS and (source.stuff_folder or source.folder("train").stuff_folder) is None:
        raise RecipeError(
            f"{source.folder('train').images_folder} has no label maps of stuff, which HTC learns from: give "
            "data.train_stuff, or put them into stuffthingmaps/ (cocostuff's stuffthingmaps_trainval2017.zip)"
        )
    train = source.open("train", training=True)
    return train, replace(source, classes=train.classes).open("val")


class DetectionData(DenseData):
    """A recipe's images with their objects as Lightning wants them.

    Training's batches are what `collate` makes of images and objects; validation's are lists of (image id, prepared
    image), or texts that say what is wrong with an image.
    """

    def __init__(
        self,
        recipe: DetectionRecipe,
        train: DetectionImages,
        val: DetectionImages,
        preprocessing: DensePreprocessing,
        collate: Callable[[list[Any]], Any],
    ) -> None:
        super().__init__(
            recipe,
            train,
            val,
            groups=aspect_groups(train.image_sizes) if isinstance(train, CocoDataset) else [0] * len(train),
            change=DetectionTrainingTransform(preprocessing, recipe.data.augmentation),
            prepare=PrepareDetection(preprocessing),
            collate=collate,
        )
        self.counted = "objects"
        self._train_images = train

    def class_counts(self) -> dict[str, int] | None:
        return self._train_images.class_counts() if isinstance(self._train_images, CocoDataset) else None


@dataclass(frozen=True)
class PrepareDetection:
    """A sample's id and its image as the model takes it."""

    preprocessing: DensePreprocessing

    def __call__(self, sample: DetectionSample) -> tuple[int, PreparedImage]:
        return sample.image_id, DenseTransform(self.preprocessing)(sample.image)
