"""Images alone, wherever in a folder they lie; what is left out is said."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.data.errors import DataError, NothingFoundError
from swin_transformer_pytorch.data.unlabelled.folder import UnlabelledFolder
from swin_transformer_pytorch.data.unlabelled.source import UnlabelledSource

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write("a/b", 3)`: three pictures in that folder of the root, which is given back."""

    def make(folder: str, count: int) -> Path:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            pixels = np.full((6, 5, 3), index, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / folder / f"{index}.png")
        return tmp_path

    return make


def names(folder: UnlabelledFolder) -> set[str]:
    return {str(Path(path).relative_to(folder.root)) for path in folder.paths}


def test_all_images_in_a_folder_and_its_folders(write: Write) -> None:
    write(".", 2), write("a", 3)
    root = write("a/deeper", 1)
    (root / "notes.txt").write_text("no image")
    folder = UnlabelledFolder(root)
    assert names(folder) == {"0.png", "1.png", "a/0.png", "a/1.png", "a/2.png", "a/deeper/0.png"}
    image, label = folder[1]
    assert image.size == (5, 6) and label.size == 0
    assert folder.labels.shape == (6, 0) and folder.classes == ()


def test_a_part_is_set_apart_and_no_image_is_in_both(write: Write) -> None:
    root = write("x", 30)
    parts = [UnlabelledFolder(root, split, val_fraction=0.1, seed=5) for split in ("train", "val")]  # type: ignore[arg-type]
    assert [len(part) for part in parts] == [27, 3]
    assert len(names(parts[0]) | names(parts[1])) == 30
    assert len(UnlabelledFolder(root, "val", val_fraction=0.001)) == 1, "one image at least"


def test_parts_that_are_there_and_what_lies_beside_them(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    write("train/cats", 2), write("train", 1), write("valid", 2), write("test/cats", 1)
    root = write("more", 4)
    with caplog.at_level(logging.WARNING):
        assert names(UnlabelledFolder(root, "train")) == {"train/0.png", "train/cats/0.png", "train/cats/1.png"}
    assert "4 images beside it are left out: more 4" in caplog.text
    assert names(UnlabelledFolder(root, "val")) == names(UnlabelledFolder(root)) == {"valid/0.png", "valid/1.png"}
    assert names(UnlabelledFolder(root, "test")) == {"test/cats/0.png"}


def test_without_val_a_part_of_train_is_set_apart(write: Write) -> None:
    root = write("train", 10)
    parts = [UnlabelledFolder(root, split, val_fraction=0.2) for split in ("train", "val")]  # type: ignore[arg-type]
    assert [len(part) for part in parts] == [8, 2]
    assert len(UnlabelledFolder(root)) == 10


def test_mistakes_are_named(write: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        UnlabelledFolder(tmp_path / "none")
    with pytest.raises(DataError, match="holds no images"):
        UnlabelledFolder(tmp_path)
    with pytest.raises(DataError, match="1 image and data.val_fraction=0.01"):
        UnlabelledFolder(write("one", 1), "train")
    with pytest.raises(NothingFoundError, match="no folder 'test'"):
        UnlabelledFolder(tmp_path, "test")
    with pytest.raises(DataError, match="a folder 'val' and none called 'train'"):
        UnlabelledFolder(write("val", 2), "train")


def test_images_that_others_are_measured_on_are_not_learnt_from(write: Write, tmp_path: Path) -> None:
    root = write("Test", 3)
    write("more", 3)
    with pytest.raises(DataError, match="a folder 'Test' and none called 'train'"):
        UnlabelledFolder(root, "train")
    assert names(UnlabelledFolder(root, "test")) == {f"Test/{number}.png" for number in range(3)}
    write("Train", 4)
    assert len(UnlabelledFolder(root, "train", val_fraction=0.25)) == 3


def test_sources_open_each_kind(write: Write) -> None:
    root = write("x", 4)
    assert len(UnlabelledSource(root=str(root)).open("train")) == 3
    assert len(UnlabelledSource(kind="fashion_sample").open("val")) == 1000


def test_both_parts_share_what_was_found(write: Write) -> None:
    train, val = UnlabelledSource(root=str(write("x", 40)), val_fraction=0.25).open_both()
    assert isinstance(train, UnlabelledFolder) and isinstance(val, UnlabelledFolder)
    assert train.paths.text is val.paths.text
    assert names(val) == names(UnlabelledFolder(train.root, "val", val_fraction=0.25))
    assert (len(train), len(val)) == (30, 10)
    assert len(train.part("train")) == 30
