"""Files are whole or as they were, whichever command writes them; what is no file is written directly."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch import whole
from swin_transformer_pytorch.cli import build_parser
from swin_transformer_pytorch.commands import benchmark
from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.data.scenes.files import write_scenes
from swin_transformer_pytorch.evaluation.coco import CocoEvaluator
from swin_transformer_pytorch.evaluation.report import Report
from swin_transformer_pytorch.visualize import class_scores_picture, picture_grid


@dataclass(frozen=True)
class _Figures(Report):
    top1: float = 0.5


def _benchmark(folder: Path) -> None:
    words = ("--models", "swin_tiny_patch4_window7_224", "--image-size", "32", "--batch-sizes", "1", "--rounds", "1")
    words += ("--peers", "--output", str(folder / "figures.json"))
    benchmark.run(build_parser("benchmark", benchmark).parse_args(words))


def _coco(folder: Path) -> None:
    scenes = open_scenes("scenes_sample", "val", num_scenes=1, image_size=(32, 32))
    CocoEvaluator(scenes.coco(), classes=scenes.classes).save_results(folder)


WRITERS: dict[str, Callable[[Path], object]] = {
    "report.json": lambda folder: _Figures().save(folder),
    "detections.bbox.json": _coco,
    "class_iou.png": lambda folder: class_scores_picture(
        {"a": 0.1, "b": 0.2}, folder / "class_iou.png", what="IoU", mean=0.1
    ),
    "grid.png": lambda folder: picture_grid([np.zeros((8, 8), np.uint8)], folder / "grid.png"),
    "figures.json": _benchmark,
}


@pytest.mark.parametrize("fails", ["os.fsync", "os.replace", "os.chmod"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_failure_leaves_the_old_file_and_no_litter(name, fails, tmp_path, monkeypatch) -> None:
    target, old = tmp_path / name, b"old"
    target.write_bytes(old)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"swin_transformer_pytorch.whole.{fails}", full)
        with pytest.raises(OSError, match=f"'{target}'"):
            WRITERS[name](tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {name: old}
    WRITERS[name](tmp_path)
    assert target.read_bytes() != old
    assert {path.name for path in tmp_path.iterdir()} <= {name, "detections.segm.json"}


@pytest.mark.parametrize("at", range(6))
def test_scenes_come_into_place_when_they_are_whole(at, tmp_path, monkeypatch) -> None:
    """The picture that does not fit is of any kind; a kill leaves folders that the next call replaces."""
    scenes = open_scenes("scenes_sample", "train", num_scenes=2, image_size=(32, 32))
    save, left = Image.Image.save, iter([True] * at)

    def full(*arguments: object) -> None:
        if not next(left, False):
            raise OSError(28, "No space left on device")
        save(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(OSError, match=f"'{tmp_path}'"):
            write_scenes(scenes, tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file() or path.name.startswith(".")] == []
    for folder in (tmp_path / f"{name}.partial" for name in (".train", "labels/.train", "annotations/.panoptic_train")):
        folder.mkdir(parents=True)
        (folder / "stale.png").write_bytes(b"half")
    files = write_scenes(scenes, tmp_path)
    names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    pictures = [f"{folder}/{index:06}.png" for folder in ("labels/train", "train") for index in range(2)]
    segments = [f"annotations/panoptic_train/{index:06}.png" for index in range(2)]
    documents = [f"annotations/{name}_train.json" for name in ("instances", "panoptic")]
    assert names == [*documents, *segments, "classes.txt", *pictures]
    assert files.images == tmp_path / "train" and not list(tmp_path.rglob(".*"))


def test_what_is_no_file_is_written_directly(tmp_path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_text()))
    reader.start()
    whole.write_text(fifo, "through")
    reader.join()
    assert read == ["through"] and fifo.is_fifo()
    whole.write_text(Path("/dev/null"), "gone")
    assert Path("/dev/null").is_char_device()
    handle = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    assert whole.is_stream(Path(f"/dev/fd/{handle}")) and whole.is_stream(Path(f"/proc/self/fd/{handle}"))
    os.close(handle)
    assert not whole.is_stream(Path("/dev/shm/new.json")) and not whole.is_stream(tmp_path / "new")
    with pytest.raises(IsADirectoryError):
        whole.write_text(tmp_path, "text")


def test_the_file_behind_a_link_is_replaced(tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link, file = tmp_path / "link", tmp_path / "elsewhere" / "file"
    link.symlink_to(file)
    for text in ("one", "two"):  # it leads to nothing at first
        whole.write_text(link, text)
        assert link.is_symlink() and file.read_text() == text
    assert len(list(file.parent.iterdir())) == 1


def test_a_lock_on_a_file_that_was_removed_meanwhile_is_none(tmp_path, monkeypatch) -> None:
    """Another process has finished, and removed the file, between this one's opening and locking it."""
    path, opened, real = tmp_path / "lock", [], os.open

    def removing(*arguments: object) -> int:
        opened.append(real(*arguments))
        if len(opened) < 3:
            path.unlink()
        return opened[-1]

    monkeypatch.setattr(whole, "os", SimpleNamespace(**{**vars(os), "open": removing}))
    with whole.locked(path, RuntimeError) as handle:
        assert len(opened) == 3 and os.path.samestat(os.fstat(handle), path.stat())


@pytest.mark.parametrize("words", [("models",), ("--version",)])
def test_a_full_stdout_is_one_line(words, tmp_path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    command = [sys.executable, "-m", "swin_transformer_pytorch", *words]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, timeout=60)
    assert done.returncode == 2
    assert done.stderr == "swin: error: [Errno 28] No space left on device\n"
