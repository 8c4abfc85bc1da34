"""Packed shards hold the folder's images one for one, in webdataset's layout."""

import errno
import json
import os
import pickle
import tarfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from swin_transformer_pytorch.data.classification.folder import ImageFolder
from swin_transformer_pytorch.data.classification.shards import ShardImages
from swin_transformer_pytorch.data.errors import DataError, ImageError, NothingFoundError
from swin_transformer_pytorch.data.images.files import find_images
from swin_transformer_pytorch.data.shards.contents import ShardSet
from swin_transformer_pytorch.data.shards.errors import ShardError
from swin_transformer_pytorch.data.shards.index import NO_LABEL
from swin_transformer_pytorch.data.shards.pack import Files, pack

from .conftest import fill, pack_folder, picture


@pytest.mark.parametrize("split", ["train", "val", None])
def test_shards_hold_the_folders_samples_one_for_one(split: str | None, photos: Path, shards: Path) -> None:
    folder, packed = ImageFolder(photos, split or "val"), ShardImages(shards, split)  # type: ignore[arg-type]
    assert packed.classes == folder.classes
    assert len(packed) == len(folder)
    of_folder = Counter((Path(path).read_bytes(), int(label)) for path, label in folder.samples)
    of_shards = Counter((bytes(packed.paths[index]), int(packed.labels[index])) for index in range(len(packed)))
    assert of_shards == of_folder
    names = {
        content: Path(path).relative_to(photos).as_posix()
        for path in folder.paths
        if (content := Path(path).read_bytes())
    }
    for index in range(len(packed)):
        image, label = packed[index]
        content = packed.paths[index]
        assert content.filename.endswith(names[content])
        place = next(place for place, path in enumerate(folder.paths) if path.endswith(names[content]))
        expected, its_label = folder[place]
        assert label == its_label
        np.testing.assert_array_equal(np.asarray(image), np.asarray(expected))


def test_images_are_shuffled_over_shards_the_same_way_by_the_same_seed(photos: Path, tmp_path: Path) -> None:
    first, again, other = (tmp_path / name for name in ("first", "again", "other"))
    manifest = pack_folder(photos, first)
    assert len(manifest.parts["train"].shards) > 4
    labels = ShardImages(first, "train").labels
    assert len({*labels[:10].tolist()}) == 3
    assert pack_folder(photos, again) == manifest
    assert pack_folder(photos, other, seed=1) != manifest
    for path in first.glob("*"):
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_tar_files_are_webdatasets_and_the_index_takes_16_bytes_an_image(shards: Path) -> None:
    path = shards / "train-000000.tar"
    with tarfile.open(path) as archive:
        names = archive.getnames()
        stems = [name.partition(".")[0] for name in names]
        assert stems[::2] == stems[1::2]
        assert {name.partition(".")[2] for name in names} == {"cls", "png"}
        first = archive.extractfile(names[0])
        assert first is not None
        label = int(first.read())
    images = ShardImages(shards, "train")
    assert images.labels[0] == label
    index = shards / "train.index.npy"
    assert index.stat().st_size == 128 + 16 * len(images)
    assert (shards / "classes.txt").read_text() == "cat\ndog\nowl\n"
    again = pickle.loads(pickle.dumps(images))  # noqa: S301
    assert again.paths[3] == images.paths[3]
    assert len(pickle.dumps(images)) < 3000


def test_names_with_dots_and_accents_are_kept_apart(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    for number, name in enumerate(("a.1.PNG", "a.2.PNG", "é.png", f"{'long' * 40}.png")):
        path = root / "x" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(number))
    paths = find_images(root)
    pack({"train": Files(paths=paths)}, root, tmp_path / "out")
    contents = ShardSet(tmp_path / "out").contents("train")
    assert {*contents} == {Path(path).read_bytes() for path in paths}
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as archive:
        assert {name.partition("/")[2] for name in archive.getnames()} == {
            "x/a_1.png",
            "x/a_2.png",
            "x/é.png",
            f"x/{'long' * 40}.png",
        }


def test_without_labels_there_are_no_classes(photos: Path, tmp_path: Path) -> None:
    manifest, _ = pack({"train": Files(paths=find_images(photos))}, photos, tmp_path / "out", shard_bytes=10_000)
    assert manifest.classes == ()
    train, val = (ShardImages(tmp_path / "out", split, val_fraction=0.2, seed=3) for split in ("train", "val"))
    assert (len(train), len(val), train.classes) == (60, 15, ())
    assert not {*train.paths} & {*val.paths}
    assert train[0][1] == NO_LABEL
    assert train[0][0].size == (24, 20)
    assert [*ShardImages(tmp_path / "out", "val", val_fraction=0.2, seed=3).paths] == [*val.paths]
    with pytest.raises(DataError, match="images without labels; pack them with their class folders"):
        ShardImages(tmp_path / "out", "train", classes=("cat", "dog", "owl"))


def test_classes_are_chosen_merged_and_looked_up(shards: Path, caplog: pytest.LogCaptureFixture) -> None:
    every = ShardImages(shards, "train")
    merged = ShardImages(shards, "train", choice={"bird": ["owl"], "pet": ["cat", "dog"]})
    assert merged.classes == ("bird", "pet")
    assert merged.labels.tolist() == [0 if label == 2 else 1 for label in every.labels]
    some = ShardImages(shards, "train", choice=["owl", "cat"])
    assert "images left out, as data.classes has not their class: dog 16" in caplog.text
    assert some.labels.tolist() == [{0: 1, 2: 0}[label] for label in every.labels.tolist() if label != 1]
    assert some[5][1] == some.labels[5]
    assert some.paths.shard_counts.sum() == len(some) == 44
    model = ShardImages(shards, None, classes=("owl", "fox", "dog", "cat"))
    assert np.bincount(model.labels, minlength=4).tolist() == [5, 0, 4, 6]
    with pytest.raises(DataError, match="has classes that are not among the model's classes: dog, owl"):
        ShardImages(shards, None, classes=("cat", "fox"))


def test_what_cannot_be_read_is_named_and_left_out(
    photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = find_images(photos)
    os.remove(paths[7])
    manifest, unusable = pack({"train": Files(paths=paths)}, photos, tmp_path / "out")
    assert sum(shard.images for shard in manifest.parts["train"].shards) == 74
    assert f"{paths[7]} cannot be packed (No such file or directory)" in caplog.text
    assert unusable.summary() == "1 of 75 images could not be used"
    for path in paths[10:30]:
        os.remove(path)
    with pytest.raises(DataError, match="more than 20%"):
        pack({"train": Files(paths=paths)}, photos, tmp_path / "other")
    with pytest.raises(NothingFoundError, match=r"shards\.json is missing"):  # what is unfinished cannot be used
        ShardSet(tmp_path / "other")


def test_nothing_is_overwritten(shards: Path, photos: Path) -> None:
    before = {path: path.read_bytes() for path in shards.iterdir()}
    with pytest.raises(DataError, match="holds shards; give a new one"):
        pack_folder(photos, shards)
    assert {path: path.read_bytes() for path in shards.iterdir()} == before


def test_a_bad_image_is_a_bad_image(tmp_path: Path) -> None:
    root = fill(tmp_path / "photos", cat=10, dog=10)
    (root / "cat" / "3.png").write_bytes(picture(3)[:200])
    (root / "dog" / "5.png").write_bytes(b"")
    pack_folder(root, tmp_path / "out")
    problems = []
    for split in ("train", "val"):
        images = ShardImages(tmp_path / "out", split)  # type: ignore[arg-type]
        for index in range(len(images)):
            try:
                images[index]
            except ImageError as error:
                problems.append(str(error))
    assert len(problems) == 2
    assert all("cat/3.png is damaged or cut short" in one or "dog/5.png is empty" in one for one in problems)


def test_a_missing_or_changed_shard_stops(shards: Path) -> None:
    path, images = shards / "train-000001.tar", ShardImages(shards, "train")
    first = int(images.paths.members.starts[1])
    content = path.read_bytes()
    for change, told in (
        (
            lambda: path.write_bytes(content[:-512]),
            rf"{path} has {len(content) - 512:,} bytes, and had {len(content):,}",
        ),
        (lambda: path.write_bytes(content[:2500] + b"!" + content[2501:]), rf"{path} has other content in 000"),
        (lambda: path.write_bytes(bytes(len(content))), rf"{path} has no file at byte "),
        (path.unlink, rf"the shard {path} is missing"),
    ):
        change()
        assert images[first - 1][1] >= 0
        with pytest.raises(ShardError, match=told):
            images[first]
    path.write_bytes(content)
    assert images[first][1] >= 0


def test_a_folder_that_lacks_a_shard_is_refused_before_anything_is_read(shards: Path) -> None:
    """One of validation would be met after a whole epoch."""
    path = shards / "val-000000.tar"
    content = path.read_bytes()
    path.write_bytes(content[:-512])
    with pytest.raises(ShardError, match=rf"{path} has {len(content) - 512:,} bytes, and had {len(content):,}"):
        ShardImages(shards, "val")
    path.unlink()
    with pytest.raises(ShardError, match=rf"the shard {path} is missing; copy it there"):
        ShardImages(shards, "val")
    assert len(ShardImages(shards, "train")) == 60


def test_what_comes_in_pieces_is_whole_and_what_cannot_be_read_is_named(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, real = ShardImages(shards, "train"), os.read
    expected = bytes(images.paths[3])
    monkeypatch.setattr(os, "read", lambda handle, count: real(handle, min(count, 100)))
    assert bytes(images.paths[3]) == expected

    def failing(handle: int, count: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "read", failing)
    with pytest.raises(ShardError, match=r"the shard .*/train-00000.\.tar cannot be read \(Input/output error\)"):
        images.paths[3]


def test_all_shards_are_compared_with_the_index(shards: Path) -> None:
    contents = ShardSet(shards).contents("train")
    assert len([*contents.verify()]) == len(contents.members.shards)
    path = shards / "train-000002.tar"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"!")  # beyond the images, where nothing else looks
    with pytest.raises(ShardError, match=r"train-000002\.tar has other content than"):
        [*contents.verify()]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"format": "swin shards 9"}, "has the format 'swin shards 9'"),
        ({"parts": {}}, "it names no part"),
        ({"classes": ["cat"]}, "has labels from 0 to 2 for 1 classes"),
        ({"classes": []}, "has labels from 0 to 2 for 0 classes"),
        ({"classes": ["cat", "cat", "dog"]}, "it names a class twice"),
    ],
)
def test_a_damaged_index_is_refused(change: dict[str, object], told: str, shards: Path) -> None:
    path = shards / "shards.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ShardError, match=told):
        ShardImages(shards, "train")
    path.write_text("[" * 100_000)
    with pytest.raises(ShardError, match="is damaged or no index"):
        ShardImages(shards, "train")


@pytest.mark.parametrize("name", ["../x.tar", "/etc/x.tar", "http://host/x.tar", "..\\x.tar"])
def test_an_index_leads_nowhere_else(name: str, shards: Path) -> None:
    path = shards / "shards.json"
    values = json.loads(path.read_text())
    values["parts"]["train"]["shards"][0][0] = name
    path.write_text(json.dumps(values))
    with pytest.raises(ShardError, match="lies outside"):
        ShardSet(shards)


def test_an_array_that_is_cut_short_or_gone_is_refused(shards: Path) -> None:
    path = shards / "train.index.npy"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ShardError, match="cut short"):
        ShardImages(shards, "train")
    np.save(path, np.zeros((4, 3), np.uint32))
    with pytest.raises(ShardError, match="is not the index of its"):
        ShardImages(shards, "train")
    path.unlink()
    with pytest.raises(ShardError, match="is missing"):
        ShardImages(shards, "train")
