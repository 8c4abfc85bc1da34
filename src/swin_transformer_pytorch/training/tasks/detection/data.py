"""Detection: from a recipe's `data` to batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Protocol

from ....data.detection.coco import CocoDataset, CocoFolder, DetectionSample, find_coco
from ....data.detection.transforms import DetectionTrainingTransform, aspect_groups, collate_detection
from ....data.images.dense_transforms import DenseTransform, PreparedImage
from ....data.scenes.dataset import SceneDataset, open_scenes
from ....weights.preprocessing import DensePreprocessing
from ...recipes.detection import DetectionDataRecipe, DetectionRecipe
from ...recipes.parts import RecipeError
from ..dense.data import DenseData


class DetectionImages(Protocol):
    """A data set of detection."""

    classes: tuple[str, ...]

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> DetectionSample: ...


@dataclass(frozen=True, kw_only=True)
class DetectionSplits:
    """The images that are learnt from and those that are not.

    Attributes:
        train: the former.
        val: the latter, those without objects too.
        groups: the shape of each training image, see `aspect_groups`.
        annotations: makes COCO's dictionary of the latter.
    """

    train: DetectionImages
    val: DetectionImages
    groups: list[int]
    annotations: Callable[[], Mapping[str, Any]]


def open_detection(recipe: DetectionDataRecipe, *, seed: int = 0, stuff: bool = False) -> DetectionSplits:
    """Opens the data set that a recipe names.

    Args:
        recipe: which.
        seed: chooses the scenes, where it is scenes.
        stuff: whether label maps are needed, as HTC does.

    Raises:
        DataError: files are missing or broken.
        RecipeError: the recipe does not say where they are.
    """
    if recipe.kind != "coco":
        return _open_scenes(recipe, seed)
    train_folder = _coco_folder(recipe, "train")
    stuff_folder = (recipe.train_stuff or train_folder.stuff_folder) if stuff else None
    if stuff and stuff_folder is None:
        raise RecipeError(
            f"{train_folder.images_folder} has no label maps of stuff, which HTC learns from: give data.train_stuff, "
            "or put them into stuffthingmaps/ (cocostuff's stuffthingmaps_trainval2017.zip)"
        )
    train = CocoDataset(
        train_folder.images_folder,
        train_folder.annotations_file,
        stuff_folder=stuff_folder,
        box_masks=recipe.box_masks,
    )
    val_folder = _coco_folder(recipe, "val")
    val = CocoDataset(
        val_folder.images_folder,
        val_folder.annotations_file,
        classes=train.classes,
        keep_empty=True,
        box_masks=recipe.box_masks,
    )
    return DetectionSplits(
        train=train, val=val, groups=aspect_groups(train.image_sizes), annotations=lambda: val.annotations
    )


def _coco_folder(recipe: DetectionDataRecipe, split: Literal["train", "val"]) -> CocoFolder:
    """What the recipe gives by name, else what is found in its root."""
    images, annotations = getattr(recipe, f"{split}_images"), getattr(recipe, f"{split}_annotations")
    if images is None and annotations is None:
        if recipe.root is None:
            raise RecipeError(
                "data.kind='coco' needs data.root: add --data.root FOLDER, or --data.train_images, "
                "--data.train_annotations, --data.val_images and --data.val_annotations"
            )
        return find_coco(recipe.root, split)
    for part, value in (("images", images), ("annotations", annotations)):
        if value is None:
            raise RecipeError(f"data.{split}_{part} is missing, and its counterpart is given: give both or neither")
    return CocoFolder(images_folder=images, annotations_file=annotations)


def _open_scenes(recipe: DetectionDataRecipe, seed: int) -> DetectionSplits:
    if recipe.kind == "scenes" and recipe.root is None:
        raise RecipeError("data.kind='scenes' needs data.root: add --data.root FOLDER with Fashion-MNIST's files")
    assert recipe.kind != "coco"
    opened: Callable[..., SceneDataset] = partial(
        open_scenes, recipe.kind, root=recipe.root, seed=seed, image_size=recipe.scene_size
    )
    train, val = opened("train", num_scenes=recipe.num_scenes), opened("val", num_scenes=recipe.num_val_scenes)
    return DetectionSplits(train=train, val=val, groups=[0] * len(train), annotations=val.coco)


class DetectionData(DenseData):
    """A recipe's images with their objects as Lightning wants them.

    Training's batches are `DetectionBatch`es; validation's are lists of (image id, prepared image), or texts that say
    what is wrong with an image.
    """

    def __init__(self, recipe: DetectionRecipe, splits: DetectionSplits, preprocessing: DensePreprocessing) -> None:
        super().__init__(
            recipe,
            splits.train,
            splits.val,
            groups=splits.groups,
            change=DetectionTrainingTransform(preprocessing, recipe.data.augmentation),
            prepare=PrepareDetection(preprocessing),
            collate=partial(collate_detection, size_divisor=preprocessing.size_divisor),
        )


@dataclass(frozen=True)
class PrepareDetection:
    """A sample's id and its image as the model takes it."""

    preprocessing: DensePreprocessing

    def __call__(self, sample: DetectionSample) -> tuple[int, PreparedImage]:
        return sample.image_id, DenseTransform(self.preprocessing)(sample.image)
