"""`swin shards`, and what other commands make of its folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from tests.data.shards.conftest import fill
from tools.flaky_store import serving

from swin_transformer_pytorch.data.classification.shards import ShardImages
from swin_transformer_pytorch.data.shards.contents import ShardSet

from .conftest import Swin


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return fill(tmp_path / "photos", cat=15, dog=10)


def test_packs_a_folder_says_what_is_there_and_how_to_go_on(swin: Swin, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "shards"
    outcome = swin("shards", photos, out)
    assert outcome.code == 0, outcome.err
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["train", "20", "1", "0.1"] in lines and ["val", "5", "1", "0.0"] in lines
    assert outcome.out.splitlines()[-1] == f"next: swin train finetune --data.root {out}"
    outcome = swin("shards", "--check", out)
    assert (outcome.code, outcome.out) == (
        0,
        "train: 1 shard as they were indexed\nval: 1 shard as they were indexed\n",
    )
    (out / "val-000000.tar").write_bytes(b"")
    outcome = swin("shards", "--check", out)
    assert (outcome.code, "val-000000.tar has 0 bytes, and had" in outcome.err) == (2, True)
    outcome = swin("shards", photos, out)
    assert outcome.code == 2 and "holds shards; give a new one" in outcome.err


def test_folders_of_parts_and_those_without_classes(swin: Swin, tmp_path: Path) -> None:
    for number, part in enumerate(("train", "val", "test")):
        fill(tmp_path / "photos" / part, cat=3 + number, dog=2)
    assert swin("shards", tmp_path / "photos", tmp_path / "parts").code == 0
    assert [len(ShardImages(tmp_path / "parts", part)) for part in ("train", "val", "test")] == [5, 6, 7]  # type: ignore[arg-type]
    bare = tmp_path / "bare"
    outcome = swin("shards", tmp_path / "photos", bare, "--unlabelled")
    assert outcome.code == 0 and "no labels" in outcome.out
    assert outcome.out.splitlines()[-1] == f"next: swin train pretrain --data.root {bare}"
    assert ShardImages(bare, None).classes == ()
    # What others are measured on is not learnt from without labels either.
    assert [len(ShardImages(bare, part)) for part in ("train", "val", "test")] == [5, 6, 7]  # type: ignore[arg-type]
    loose = tmp_path / "photos" / "train"
    assert swin("shards", loose, tmp_path / "all", "--unlabelled").code == 0
    assert ShardSet(tmp_path / "all").parts == ("train",), "training sets some apart"
    assert swin("shards", loose, tmp_path / "some", "--unlabelled", "--val-fraction", 0.4).code == 0
    assert [len(ShardImages(tmp_path / "some", part)) for part in ("train", "val")] == [3, 2]  # type: ignore[arg-type]
    (tmp_path / "arrays").mkdir()
    for number in range(3):
        np.save(tmp_path / "arrays" / f"{number}.npy", np.zeros((4, 8, 8), np.uint8))
    assert swin("shards", tmp_path / "arrays", tmp_path / "packed", "--unlabelled").code == 0
    assert len(ShardImages(tmp_path / "packed", None, channels=None)) == 3
    fill(tmp_path / "numbers", **{"1": 3, "2": 3, "10": 3})
    outcome = swin("shards", tmp_path / "numbers", tmp_path / "a", "--val-fraction", 0)
    assert "--class-order natural" in outcome.err and [*(tmp_path / "a").glob("val*")] == []
    assert swin("shards", tmp_path / "numbers", tmp_path / "b", "--class-order", "natural").code == 0
    assert ShardImages(tmp_path / "b", "train").classes == ("1", "2", "10")


def test_indexes_tar_files_and_says_what_it_passed_over(swin: Swin, photos: Path, tmp_path: Path) -> None:
    swin("shards", photos, tmp_path / "made")
    tars = tmp_path / "tars"
    tars.mkdir()
    for path in (tmp_path / "made").glob("*.tar"):
        shutil.copy(path, tars)
    (tmp_path / "names.txt").write_text("kitten\npuppy\n")
    outcome = swin("shards", tars, tars, "--classes", tmp_path / "names.txt")
    assert outcome.code == 0, outcome.err
    one, other = ShardImages(tmp_path / "made", "val"), ShardImages(tars, "val")
    assert other.classes == ("kitten", "puppy")
    assert [*one.paths] == [*other.paths] and one.labels.tolist() == other.labels.tolist()
    outcome = swin("shards", tars, tars)
    assert outcome.code == 2 and "holds an index; give a new folder" in outcome.err
    shutil.copy(photos / "cat" / "0.png", tars)
    outcome = swin("shards", tars, tmp_path / "x")
    assert outcome.code == 2 and "holds tar files, such as" in outcome.err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["{photos}"], "give the folder to write"),
        (["{photos}", "s3://bucket/x"], "is an address; write to a folder"),
        (["nowhere", "{out}"], "nowhere is not a folder"),
        (["{photos}", "{out}", "--val-fraction", "1"], "use a number in [0, 1)"),
        (["{photos}", "{out}", "--classes", "x.txt"], "--classes is for tar files"),
        (["x/{{0..1}}.tar", "{out}", "--unlabelled"], "for folders of images"),
        (["x/{{0..1}}.tar", "{out}", "--shard-mb", "1", "--seed", "0"], "--shard-mb, --seed: for folders of images"),
        (["--check", "{photos}", "{out}"], "--check writes nothing"),
        (["--check", "{photos}"], "shards.json is missing"),
    ],
)
def test_mistakes_are_one_line(words: list[str], told: str, swin: Swin, photos: Path, tmp_path: Path) -> None:
    outcome = swin("shards", *(word.format(photos=photos, out=tmp_path / "out") for word in words))
    assert outcome.code == 2 and told in outcome.err and outcome.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_swin_data_and_evaluate_know_shards_here_and_in_a_store(
    swin: Swin, photos: Path, tmp_path: Path, checkpoint: Path
) -> None:
    (photos / "dog" / "again.png").write_bytes((photos / "cat" / "1.png").read_bytes())
    (photos / "cat" / "bad.png").write_bytes(b"nothing")
    out = tmp_path / "shards"
    swin("shards", photos, out, "--val-fraction", 0)
    with serving(out) as server:
        cache = ("--data.shards.cache", tmp_path / "cache", "--data.shards.cache_gb", 1)
        for root, more in ((out, ()), (server.url, cache)):
            outcome = swin("data", root, *more, "--picture", tmp_path / "look.png")
            assert outcome.code == 1  # a bad image
            assert f"{root}: classification, 1 shard" in outcome.out
            assert "cat/bad.png holds text, not an image" in outcome.out
            assert "the same image in two classes: train-000000.tar/" in outcome.out
            assert outcome.out.splitlines()[-1] == f"next: swin train finetune --data.root {root}"
            assert (tmp_path / "look.png").exists()
        swin("shards", photos, tmp_path / "bare", "--unlabelled")
        outcome = swin("data", tmp_path / "bare")
        assert "1 shard of images without labels" in outcome.out
        assert "`swin train` holds out one image in a hundred" in outcome.out
        assert outcome.out.splitlines()[-1] == f"next: swin train pretrain --data.root {tmp_path / 'bare'}"
        outcome = swin("evaluate", "--weights", checkpoint, "--data.root", server.url, *cache)
        assert outcome.code == 2 and "has classes that are not among the model's classes: cat, dog" in outcome.err
    outcome = swin("data", out, "--task", "detection")
    assert outcome.code == 2 and "which are for classification" in outcome.err


def test_evaluates_shards_as_their_folder(swin: Swin, tmp_path: Path, checkpoint: Path) -> None:
    from swin_transformer_pytorch.data.classification.fashion import CLASSES

    fill(tmp_path / "photos" / "val", **dict.fromkeys(CLASSES[1:5], 2))
    fill(tmp_path / "photos" / "train", **dict.fromkeys(CLASSES[1:5], 1))
    swin("shards", tmp_path / "photos", tmp_path / "shards")
    words = ("evaluate", "--weights", checkpoint, "--output", tmp_path / "report", "--data.root")
    one, other = (swin(*words, tmp_path / name) for name in ("photos", "shards"))
    assert one.code == other.code == 0, other.err
    assert one.out == other.out and "8 images: top-1" in one.out
