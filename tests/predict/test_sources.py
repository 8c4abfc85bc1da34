"""What many processes predict for is found once each, and read wherever it is."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image
from tools.flaky_store import serving

from swin_transformer_pytorch.data import stores
from swin_transformer_pytorch.data.errors import DataError, ImageError, StoreError
from swin_transformer_pytorch.predict import sources
from swin_transformer_pytorch.predict.sources import find_sources, images_of


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(file, format="PNG")
    return file.getvalue()


def write_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images, one in a folder of its own, a shard, and files that are neither."""
    for number, name in enumerate(("photos/a.png", "photos/sub/b.png", "photos/.hidden.png", "photos/c.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(png(number))
    (tmp_path / "photos/notes.txt").write_text("no image")
    write_tar(tmp_path / "photos/0.tar", {"x/1.png": png(10), "x/1.cls": b"3", "x/._1.png": b"", "2.PNG": png(11)})
    return tmp_path


def below(found: Any, folder: Path) -> list[str]:
    return [name.replace(str(folder), "ROOT") for name, problem in found if problem is None]


def test_folders_globs_and_tar_files_are_found_once_each(folder: Path) -> None:
    photos = folder / "photos"
    expected = ["ROOT/photos/a.png", "ROOT/photos/c.png", "ROOT/photos/sub/b.png", "ROOT/photos/0.tar"]
    assert below(find_sources([photos]), folder) == expected
    assert below(find_sources([photos, photos / "a.png", f"{photos}/*.tar", photos / "sub"]), folder) == expected
    assert below(find_sources([f"{photos}/*.tar"]), folder) == ["ROOT/photos/0.tar"]
    (folder / "shards").mkdir()
    (photos / "0.tar").rename(folder / "shards/0.tar")
    assert list(find_sources([folder / "shards"])) == [(str(folder / "shards/0.tar"), None)], "no images beside is fine"
    (folder / "empty").mkdir()
    problems = [problem for _, problem in find_sources([folder / "empty", folder / "*.bmp"])]
    assert all(isinstance(problem, ImageError) for problem in problems) and len(problems) == 2


@pytest.mark.parametrize("pattern", ["", "/*.png", "/**/*.png", "/a.png", "/0.tar", "/none.png"])
def test_stores_are_searched_as_folders_are(pattern: str, folder: Path) -> None:
    url = f"file://{folder}/photos"
    expected = {
        "": ["a.png", "c.png", "sub/b.png", "0.tar"],
        "/*.png": [".hidden.png", "a.png", "c.png"],  # whoever names it means it
        "/**/*.png": [".hidden.png", "a.png", "c.png", "sub/b.png"],
    }
    names = expected.get(pattern, [pattern[1:]])
    assert list(find_sources([url + pattern, url + pattern])) == [(f"{url}/{name}", None) for name in names]


def test_a_store_with_nothing_to_predict_for(folder: Path) -> None:
    ((name, problem),) = find_sources([f"file://{folder}/photos/*.bmp"])
    assert name.endswith("*.bmp") and "stands for no images" in str(problem)
    with pytest.raises(DataError, match="nostore://bucket/photos cannot be opened.*install the store's package"):
        list(find_sources(["nostore://bucket/photos"]))


def test_every_kind_gives_the_same_bytes(folder: Path) -> None:
    photos = folder / "photos"
    found = dict(images_of(find_sources([photos, f"file://{photos}/sub"])))
    assert found[str(photos / "a.png")] == str(photos / "a.png")
    assert found[f"file://{photos}/sub/b.png"] == png(1)
    assert found[f"{photos}/0.tar/x/1.png"] == png(10) and found[f"{photos}/0.tar/2.PNG"] == png(11)
    assert len(found) == 6, "labels and hidden files of a shard are no images"
    assert found[f"{photos}/0.tar/2.PNG"].filename == f"{photos}/0.tar/2.PNG"  # which messages name


def test_what_is_not_there_is_an_error_of_that_source_alone(folder: Path) -> None:
    gone = [f"file://{folder}/gone.png", str(folder / "gone.tar"), str(folder / "photos/a.png")]
    found = list(images_of((name, None) for name in gone))
    assert [name for name, _ in found] == gone
    assert all(isinstance(one, ImageError) and name in str(one) for name, one in found[:2])
    problem = ImageError("stands for nothing")
    assert list(images_of([("x", problem)])) == [("x", problem)]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_of_a_tar_file_that_is_cut_short_the_rest_is_one_error(mode: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    contents = {f"{number}.png": random.bytes(3000) for number in range(5)}
    tar = write_tar(tmp_path / "cut.tar", contents, mode)
    whole = tar.read_bytes()
    assert [name for name, _ in images_of([(str(tar), None)])] == [f"{tar}/{name}" for name in contents]
    tar.write_bytes(whole[: 3 * len(whole) // 5])
    *read, (name, problem) = images_of([(str(tar), None)])
    assert 1 <= len(read) <= 3 and all(content == contents[Path(name).name] for name, content in read)
    assert name == str(tar) and f"after {len(read)} image" in str(problem)
    tar.write_bytes(b"no archive" * 100)
    ((name, problem),) = images_of([(str(tar), None)])
    assert "before any image" in str(problem)


@pytest.mark.parametrize("failures", [2, 9])
def test_a_store_that_fails_is_asked_again_with_a_limit(
    failures: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its failure is no image's fault, and no row says so: the prediction ends, and can be resumed."""
    real: Callable[[str], Any] = stores.file_system
    asked = 0

    class Failing:
        def open(self, path: str, mode: str, block_size: int) -> Any:
            nonlocal asked
            asked += 1
            if asked <= failures:
                raise OSError("slow down")
            return fsspec.filesystem("file").open(path, mode)

    monkeypatch.setattr(stores, "file_system", lambda url: (Failing(), real(url)[1]))
    monkeypatch.setattr(stores, "_FIRST_PAUSE", 0.0)
    url = f"file://{folder}/photos/a.png"
    if failures < stores.TRIES:
        assert list(images_of([(url, None)])) == [(url, png(0))] and asked == failures + 1
    else:
        with pytest.raises(DataError, match=r"a\.png failed \(slow down\), in the last of 6 tries"):
            list(images_of([(url, None)]))
        assert asked == stores.TRIES


def test_a_tar_file_that_a_server_cuts_short_is_asked_for_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end alone does not tell a cut answer from a tar file that was cut, whose images would be lost."""
    monkeypatch.setattr(stores, "_FIRST_PAUSE", 0.0)
    with serving(folder / "photos") as server:
        server.cut["0.tar"], server.fail["0.tar"] = 2, (1, 503)
        tar = f"{server.url}/0.tar"
        assert [*images_of([(tar, None)])] == [(f"{tar}/x/1.png", png(10)), (f"{tar}/2.PNG", png(11))]
        assert server.asked["0.tar"] == 4
        server.cut["0.tar"] = 99
        with pytest.raises(StoreError, match=r"0\.tar .*, in the last of 6 tries; resume"):
            [*images_of([(tar, None)])]
        ((name, problem),) = images_of([(f"{server.url}/none.tar", None)])
        assert name.endswith("none.tar") and isinstance(problem, ImageError) and "answered 404" in str(problem)


def test_what_is_elsewhere_is_read_ahead_but_not_far(monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece of large files must not be in memory at once."""
    asked: list[str] = []

    def content(url: str) -> bytes:
        asked.append(url)
        return b""

    monkeypatch.setattr(sources, "_content", content)
    names = [f"memory://{number}.png" for number in range(200)]
    images = images_of((name, None) for name in names)
    assert next(images)[0] == names[0]
    assert len(asked) <= sources._AHEAD + 1
    assert [name for name, _ in images] == names[1:] and sorted(asked) == sorted(names)
