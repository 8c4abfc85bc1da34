"""One description of labelled images: each kind opens, and its fields reach the data set."""

import pickle
from pathlib import Path

import pytest
from PIL import Image

from swin_transformer_pytorch.data.classification.fashion import CLASSES
from swin_transformer_pytorch.data.classification.folder import ImageFolder
from swin_transformer_pytorch.data.classification.source import ClassificationSource
from swin_transformer_pytorch.data.errors import DataError, ImageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        for index in range(10):
            path = tmp_path / "photos" / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 6), (index, 0, 0)).save(path)
    return tmp_path / "photos"


def test_a_folder(folder: Path) -> None:
    source = ClassificationSource(root=str(folder), channels=1, val_fraction=0.3, seed=5)
    train, val, both = (source.open(split) for split in ("train", "val", None))
    assert (len(train), len(val), len(both)) == (14, 6, 20)
    assert train.classes == ("cat", "dog")
    assert train[0][0].mode == "L"
    same = ImageFolder(folder, "val", val_fraction=0.3, seed=5)
    assert isinstance(val, ImageFolder)
    assert val.samples == same.samples
    to_evaluate = ClassificationSource(root=str(folder), classes=("dog", "bird", "cat")).open(None)
    assert to_evaluate.classes == ("dog", "bird", "cat")
    assert [to_evaluate[index][1] for index in (0, 19)] == [2, 0]


def test_a_limit_of_pixels_in_any_process(folder: Path) -> None:
    image, _ = ClassificationSource(root=str(folder)).open(None)[0]
    pixels = image.width * image.height
    for limit in (pixels, pixels - 1):
        images = pickle.loads(pickle.dumps(ClassificationSource(root=str(folder), max_pixels=limit).open(None)))  # noqa: S301
        if limit == pixels:
            assert images[0][0].size == image.size
        else:
            with pytest.raises(ImageError, match=f"more than {limit}"):
                images[0]


def test_fashion_mnist_in_the_package_and_as_files(fashion_folder: Path) -> None:
    sample = ClassificationSource(kind="fashion_sample")
    whole = ClassificationSource(kind="fashion_mnist", root=str(fashion_folder))
    for source, sizes in ((sample, (2000, 1000, 1000)), (whole, (30, 20, 20))):
        opened = [source.open(split) for split in ("train", "val", None)]
        assert tuple(len(images) for images in opened) == sizes
        assert all(images.classes == CLASSES for images in opened)


@pytest.mark.parametrize("kind", ["folder", "fashion_mnist"])
def test_what_is_missing_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        ClassificationSource(kind=kind, root=str(tmp_path / "nowhere")).open("train")  # type: ignore[arg-type]
