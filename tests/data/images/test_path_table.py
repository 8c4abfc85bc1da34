"""Paths in two arrays are the paths, and take their bytes and eight more."""

import os
from pathlib import Path

import numpy as np
import pytest

from swin_transformer_pytorch.data.classification.folder import ImageFolder
from swin_transformer_pytorch.data.images.path_table import PathCollector

from ..shards.conftest import fill

PATHS = ["photos/a.png", "photos/é/ü.png", os.fsdecode(b"photos/\xff.png"), "x" * 300, "b"]


def test_a_table_is_a_sequence_of_its_paths() -> None:
    collector = PathCollector()
    for path in PATHS:
        collector.add(path)
    table = collector.table()
    assert [*table] == PATHS
    assert (len(table), table[-1], table[1:3], table[::-2]) == (5, "b", PATHS[1:3], PATHS[::-2])
    assert table.nbytes == sum(len(os.fsencode(path)) for path in PATHS) + 8 * 5
    some = table.select(np.array([3, 1], dtype=np.uint32))
    assert [*some] == [PATHS[3], PATHS[1]]
    assert some.text is table.text
    with pytest.raises(IndexError):
        table[5]
    assert [*PathCollector().table()] == []


def test_a_folder_takes_16_bytes_an_image_and_its_paths_and_both_parts_share_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, cat=20, dog=10)
    train = ImageFolder(tmp_path, "train")
    expected = ImageFolder(tmp_path, "val")
    monkeypatch.setattr(os, "walk", None)  # it is not read again
    val = train.part("val")
    assert val.samples == expected.samples
    assert val.split == "val" and train.split == "train"
    assert val.paths.text is train.paths.text and val.paths.ends is train.paths.ends and val._labels is train._labels
    places = train.paths.places, val.paths.places
    assert places[0] is not None and places[1] is not None
    arrays = train.paths.ends.nbytes + train._labels.nbytes + sum(one.nbytes for one in places if one is not None)
    assert arrays == 16 * (len(train) + len(val))
    assert train.paths.text.nbytes == sum(len(os.fsencode(path)) for path, _ in train.samples + val.samples)
    assert train.part("train").samples == train.samples


def test_parts_in_folders_of_their_own_are_opened_as_ever(tmp_path: Path) -> None:
    fill(tmp_path / "train", cat=3, dog=2)
    fill(tmp_path / "val", cat=1, dog=2)
    train = ImageFolder(tmp_path, "train", channels=1)
    assert train.part("val").samples == ImageFolder(tmp_path, "val").samples
    assert train.part("val")[0][0].mode == "L"
