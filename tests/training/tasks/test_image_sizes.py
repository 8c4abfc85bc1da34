"""How large images become where a recipe says "auto", and what is said of it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from swin_transformer_pytorch.backbone.config import find_variant
from swin_transformer_pytorch.data.classification.folder import ImageFolder
from swin_transformer_pytorch.data.detection.augmentation import DetectionAugmentation
from swin_transformer_pytorch.data.errors import ImageError
from swin_transformer_pytorch.data.segmentation.augmentation import SegmentationAugmentation
from swin_transformer_pytorch.sizes import Size
from swin_transformer_pytorch.training import list_recipes, load_recipe
from swin_transformer_pytorch.training.recipes.classification import DataRecipe, Recipe
from swin_transformer_pytorch.training.tasks.classification.data import choose_preprocessing
from swin_transformer_pytorch.training.tasks.image_sizes import choose_image_size, dense_preprocessing, usual_sides
from swin_transformer_pytorch.weights.catalog import find_record
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing, Preprocessing

COCO, ADE20K = DensePreprocessing.coco(), DensePreprocessing.ade20k()


class Photos:
    """Grey photos of these sizes (height, width); 0 is one that cannot be read."""

    def __init__(self, sizes: Sequence[Size]) -> None:
        self.sizes = sizes
        self.read = 0

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        self.read += 1
        height, width = self.sizes[index]
        if height == 0:
            raise ImageError("damaged")
        return Image.new("L", (width, height)), 0


@pytest.mark.parametrize(
    ("sizes", "sides"),
    [
        ([(30, 40)], (40, 30)),
        ([(40, 30)], (40, 30)),
        ([(10, 10), (20, 50), (0, 0), (60, 30)], (50, 20)),
        ([(100, 100)] * 999 + [(5000, 5000)], (100, 100)),
        ([(0, 0)] * 3, None),
    ],
)
def test_the_usual_image_is_the_median_of_a_few(sizes: list[Size], sides: Size | None) -> None:
    photos = Photos(sizes)
    assert usual_sides(photos) == sides
    assert photos.read <= 16


@pytest.mark.parametrize(
    ("official", "size", "own", "scale", "said"),
    [
        # The weights' own, whatever the data.
        (ADE20K, (128, 128), (None,), None, "data.scale=null, as the weights had it"),
        (COCO, (480, 640), ((1333, 800),), (1333, 800), "data.scale=[1333, 800], as the weights had it"),
        # Far from the data: the fix is named.
        (COCO, (128, 128), ((1333, 800),), (1333, 800), '128 x 128 pixels, --data.scale "[427, 256]" is nearer'),
        (ADE20K, (600, 900), ((400, 100),), (400, 100), '900 x 600 pixels, --data.scale "[2048, 512]" is nearer'),
        # None of their own: the official one, which enlarges twofold at most.
        (ADE20K, (128, 128), None, (1024, 256), "data.scale=[1024, 256], by the training images"),
        (ADE20K, (2000, 3000), None, (2048, 512), "data.scale=[2048, 512], by the training images"),
        (COCO, (480, 640), None, (1333, 800), "data.scale=[1333, 800]"),
        (COCO, (300, 200), None, (666, 400), "data.scale=[666, 400]"),
        (COCO, (1, 1), None, (3, 2), "data.scale=[3, 2]"),
        (
            COCO,
            (0, 0),
            None,
            (1333, 800),
            "data.scale=[1333, 800], the usual; no training image that was looked at",
        ),
        (
            COCO,
            (0, 0),
            ((640, 400),),
            (640, 400),
            "as the weights had it; no training image that was looked at",
        ),
    ],
)
def test_an_open_scale_is_the_weights_own_else_by_the_data(
    official: DensePreprocessing, size: Size, own: Any, scale: Size | None, said: str, caplog: Any
) -> None:
    theirs = None if own is None else DensePreprocessing(scale=own[0])
    photos = Photos([size] * 3)
    assert dense_preprocessing(official, "auto", photos, None, theirs).scale == scale
    assert said in caplog.text
    assert ("is nearer" in caplog.text) == ("is nearer" in said)
    caplog.clear()
    given = dense_preprocessing(official, (96, 64), photos, None, theirs)
    assert (given.scale, given.size_divisor, caplog.messages) == ((96, 64), official.size_divisor, [])


@pytest.mark.parametrize(
    ("known", "size", "expected", "said"),
    [
        (224, (300, 500), (224, 224), "data.image_size=[224, 224], the model's own"),
        (224, (28, 28), (224, 224), "data.image_size=[224, 224], the model's own"),
        (224, (3000, 4000), (224, 224), "data.image_size=[224, 224], the model's own"),
        (28, (28, 28), (28, 28), "data.image_size=[28, 28], the model's own"),
        (28, (375, 500), (28, 28), "images of about 500 x 375 pixels it leaves little: --data.image_size 224 sees"),
        (28, (60, 60), (28, 28), "images of about 60 x 60 pixels it leaves little: --data.image_size 60 sees more"),
        (None, (60, 80), (60, 60), "data.image_size=[60, 60], by the training images"),
        (None, (375, 500), (224, 224), "data.image_size=[224, 224], by the training images"),
        (
            None,
            (0, 0),
            (224, 224),
            "data.image_size=[224, 224], usual; no training image that was looked at",
        ),
        (28, (0, 0), (28, 28), "the model's own; no training image that was looked at"),
    ],
)
def test_an_open_image_size_is_the_models_own_else_by_the_data(
    known: int | None, size: Size, expected: Size, said: str, caplog: Any
) -> None:
    own = None if known is None else Preprocessing.imagenet(known)
    photos = Photos([size] * 3)
    assert choose_image_size(photos, own, say=True) == expected
    assert said in caplog.text
    assert ("it leaves little" in caplog.text) == ("it leaves little" in said)
    caplog.clear()
    choose_image_size(photos, own, say=False)
    assert len(caplog.messages) == ("it leaves little" in said or "looked at" in said)


@pytest.mark.parametrize("image_size", [None, "auto"])
def test_a_classifiers_recipe_says_that_photos_lose_much(image_size: Any, tmp_path: Path, caplog: Any) -> None:
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (500, 375)).save(tmp_path / name / "1.png")
    recipe, own = DataRecipe(image_size=image_size), Preprocessing.imagenet(28)
    chosen = choose_preprocessing(recipe, 3, own, own, images=ImageFolder(tmp_path))
    assert chosen == own
    assert "--data.image_size 224 sees more" in caplog.text


def from_weights() -> list[Recipe]:
    """The official recipes that start a model of a published name from weights of the catalogue."""
    recipes = [load_recipe(name) for name in list_recipes("classification") if name != "finetune"]
    return [one for one in recipes if isinstance(one, Recipe) and one.model.name and one.model.weights]


@pytest.mark.parametrize("recipe", from_weights(), ids=lambda recipe: Path(recipe.output).name)
def test_official_recipes_train_at_their_models_size_whatever_their_weights_had(recipe: Recipe) -> None:
    weights, name = recipe.model.weights or "", recipe.model.name or ""
    full = weights if "." in weights else f"{name}.{weights}"
    chosen = choose_preprocessing(recipe.data, 3, find_record(*full.split(".")).preprocessing)
    assert chosen.image_size == (find_variant(name).image_size,) * 2


@pytest.mark.parametrize(
    ("scale", "scales", "max_long"),
    [
        ((1333, 800), DetectionAugmentation().scales, 1333),
        ((800, 480), (288, 307, 326, 346, 365, 384, 403, 422, 442, 461, 480), 800),
        ((2, 1), (1,) * 11, 2),
        (None, (), 1333),
    ],
)
def test_a_detectors_open_sizes_follow_evaluations(scale: Size | None, scales: Any, max_long: int) -> None:
    chosen = DetectionAugmentation(scales="auto", max_long="auto", crop_prob=0).at(scale)
    assert (chosen.scales, chosen.max_long) == (scales, max_long)
    assert DetectionAugmentation(crop_prob=0).at(scale) == DetectionAugmentation(crop_prob=0)
    assert DetectionAugmentation(max_long="auto").at((64, 32)).max_long == 800  # never below what it names itself


@pytest.mark.parametrize(
    ("scale", "side", "crop"), [((2048, 512), None, 512), ((1024, 256), 90, 256), (None, 128, 128), (None, None, 512)]
)
def test_a_segmenters_open_sizes_follow_evaluations(scale: Size | None, side: int | None, crop: int) -> None:
    chosen = SegmentationAugmentation(scale="auto", crop_size="auto").at(scale, side)
    assert (chosen.scale, chosen.crop_size) == (scale, (crop, crop))
    assert SegmentationAugmentation().at(scale, side) == SegmentationAugmentation()
