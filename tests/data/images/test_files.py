"""Finding image files in folders as people have them: links, loops, pipes, and names that are no text."""

import os
from pathlib import Path

import pytest
from PIL import Image

from swin_transformer_pytorch.data.errors import ImageError
from swin_transformer_pytorch.data.images.decode import read_image
from swin_transformer_pytorch.data.images.files import find_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos" / "inside").mkdir(parents=True)
    for name in ("a.png", "inside/b.png"):
        Image.new("RGB", (4, 4)).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.mark.parametrize("target", ["..", "../..", ".", "../inside"])
def test_a_link_back_up_is_not_followed(folder: Path, target: str) -> None:
    (folder / "inside" / "loop").symlink_to(target, target_is_directory=True)
    found = find_images(folder)
    assert found == [str(folder / "a.png"), str(folder / "inside" / "b.png")]


@pytest.mark.parametrize("target", ["../..", "../../.."])
def test_a_link_to_above_the_start_does_not_lead_beside_it(folder: Path, target: str) -> None:
    (folder / "inside" / "loop").symlink_to(target, target_is_directory=True)
    assert find_images(folder / "inside") == [str(folder / "inside" / "b.png")]


def test_two_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    for here, there in (("one", "two"), ("two", "one")):
        (tmp_path / here).mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / here / f"{here}.png")
        (tmp_path / here / "other").symlink_to(tmp_path / there, target_is_directory=True)
    assert len(find_images(tmp_path / "one")) == 2


def test_a_link_to_another_folder_or_a_file_is_followed(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Image.new("RGB", (4, 4)).save(elsewhere / "c.png")
    (folder / "linked").symlink_to(elsewhere, target_is_directory=True)
    (folder / "d.png").symlink_to(elsewhere / "c.png")
    names = [os.path.relpath(path, folder) for path in find_images(folder)]
    assert names == ["a.png", "d.png", "inside/b.png", "linked/c.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_passed_over_and_named_where_it_is_asked_for(folder: Path) -> None:
    os.mkfifo(folder / "pipe.png")
    assert str(folder / "pipe.png") not in find_images(folder)
    with pytest.raises(ImageError, match="no regular file"):
        read_image(folder / "pipe.png")
