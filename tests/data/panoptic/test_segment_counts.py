"""What there is to learn from segments, counted before a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.data.panoptic.test_dataset import document, write
from tests.data.panoptic.test_dataset import opened as coco
from tests.data.panoptic.test_instance_maps import LABELS, fill
from tests.data.panoptic.test_instance_maps import opened as maps

from swin_transformer_pytorch.data.errors import DataError
from swin_transformer_pytorch.data.panoptic.segment_counts import check_segments


def test_segments_are_counted_without_crowds(tmp_path: Path) -> None:
    data = coco(write(tmp_path / "coco", document(2)))
    assert check_segments(data, "train") == [2, 2] == [int((~data[index].crowd).sum()) for index in (0, 1)]
    numbered = maps(fill(tmp_path / "maps", names=("a", "b")))
    assert check_segments(numbered, "train") == [5, 5] == [int((~numbered[index].crowd).sum()) for index in (0, 1)]
    assert check_segments(numbered, "val") == [5], "one is enough"


def test_a_part_of_crowds_and_void_alone_is_refused(tmp_path: Path) -> None:
    content = document(2)
    for annotation in content["annotations"]:
        annotation["segments_info"] = [one | {"iscrowd": 1} for one in annotation["segments_info"]]
    with pytest.raises(DataError, match=r"panoptic_val2017\.json has nothing to measure: all that its 2 images have"):
        check_segments(coco(write(tmp_path / "coco", content)), "val")
    cars = np.where(LABELS == 0, 0, 255).astype(np.uint8)
    data = maps(fill(tmp_path / "maps", labels=cars, numbers=np.zeros_like(LABELS), things="car\n"))
    with pytest.raises(DataError, match=r"labels has nothing to learn: all that its 1 images have are crowds and void"):
        check_segments(data, "train")
    (tmp_path / "maps" / "labels" / "a.png").write_bytes(b"")
    assert check_segments(data, "train") == [], "it is named when it is used"
