"""What label maps hold is counted before a run; those that teach nothing are refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from swin_transformer_pytorch.data.errors import DataError
from swin_transformer_pytorch.data.segmentation import label_counts
from swin_transformer_pytorch.data.segmentation.dataset import SegmentationFolder
from swin_transformer_pytorch.data.segmentation.label_counts import check_labels, count_labels

NAMES = ("background", "cat", "dog", "fox")


def folder(root: Path, maps: list[list[int]], num_classes: int = 2, **options: object) -> SegmentationFolder:
    """A data set of label maps of these values, a row each."""
    for name in ("images", "labels"):
        (root / name).mkdir(exist_ok=True)
        for old in (root / name).iterdir():
            old.unlink()
    for index, values in enumerate(maps):
        Image.new("RGB", (len(values), 1)).save(root / "images" / f"{index:03}.png")
        Image.fromarray(np.array([values], dtype=np.uint8)).save(root / "labels" / f"{index:03}.png")
    return SegmentationFolder(root / "images", root / "labels", classes=NAMES[:num_classes], **options)  # type: ignore[arg-type]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    maps=st.lists(st.lists(st.sampled_from([0, 1, 2, 255]), min_size=1, max_size=6), min_size=1, max_size=6),
    most=st.integers(0, 7),
    least=st.integers(0, 4),
)
def test_counts_are_those_of_the_maps_read(maps: list[list[int]], most: int, least: int, tmp_path: Path) -> None:
    counts, read = count_labels(folder(tmp_path, maps, 3), most=most, least_classes=least)
    chosen = [maps[index] for index in np.random.default_rng(0).permutation(len(maps))[:read]]
    assert counts.tolist() == [sum(values.count(label) for values in chosen) for label in range(256)]
    assert read == len(maps) or (read >= most and np.count_nonzero(counts[:255]) >= least)
    seen = [len({label for values in chosen[:number] for label in values} - {255}) for number in range(read)]
    assert all(number < most or classes < least for number, classes in enumerate(seen)), "no more than was needed"


@pytest.mark.parametrize(
    ("maps", "num_classes", "options", "found", "cause"),
    [
        ([[0, 255], [255, 0]], 2, {}, "'background' alone has pixels", "masks of 0 and 255"),
        ([[255, 255], [255]], 1, {}, "no class has a pixel", "masks of 0 and 255"),
        ([[0, 0], [0]], 2, {}, "'background' alone has pixels", "no label map has"),
        ([[1, 1], [1, 255]], 3, {}, "'cat' alone has pixels", "no label map has"),
        ([[0, 0], [0, 255]], 1, {}, "'background' alone has pixels", "masks of 0 and 255"),
        ([[0, 1], [0, 1]], 2, {"ignore_label": 1}, "'background' alone has pixels", "no label map has"),
        ([[0, 1], [0, 1]], 2, {"reduce_zero_label": True}, "'background' alone has pixels", "ADE20K's 0 is ignored"),
    ],
)
@pytest.mark.parametrize("most", [1, 200])
def test_label_maps_that_teach_nothing_are_refused(
    maps: list[list[int]],
    num_classes: int,
    options: dict[str, object],
    found: str,
    cause: str,
    most: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(label_counts, "_LOOKED_AT", most)
    with pytest.raises(DataError, match=f"nothing to tell apart: in all 2 label maps, {found}") as error:
        check_labels(folder(tmp_path, maps, num_classes, **options), "train")
    assert str(tmp_path / "labels") in str(error.value) and cause in str(error.value)


def test_a_second_class_in_the_last_map_is_enough(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    order = np.random.default_rng(0).permutation(300)
    maps = [[0, 0, 255]] * 300
    maps[order[-1]] = [1]
    check_labels(folder(tmp_path, maps), "train")
    assert "pixels of all 300 label maps: background 598, cat 1; 299 (33.3%) are ignored" in caplog.text
    assert len(caplog.records) == 1


@pytest.mark.parametrize(
    ("maps", "said"),
    [
        (
            [[0, 1, 1, 255]],
            [
                "all 1 label maps: cat 2, background 1, dog 0, fox 0; 1 (25.0%)",
                "in all 1 label maps: 2 of 4 (dog, fox); nothing",
            ],
        ),
        ([[0, 2], [3, 1]], ["all 2 label maps: background 1, cat 1, dog 1, fox 1; 0 (0.0%) are ignored"]),
        (
            [[0, 1]] * 9,
            ["8 of 9 label maps: background 8, cat 8", "in 8 of 9 label maps: 2 of 4 (dog, fox); the others may"],
        ),
    ],
)
def test_what_there_is_and_what_is_missing_is_said_once(
    maps: list[list[int]],
    said: list[str],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(label_counts, "_LOOKED_AT", 8)
    data = folder(tmp_path, maps, 4)
    check_labels(data, "train")
    check_labels(data, "val")
    assert len(caplog.records) == (1 if len(said) == 1 else 2)
    assert all(caplog.text.count(text) == 1 for text in said), caplog.text


def test_ignored_borders_are_no_reason_for_a_missing_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    check_labels(folder(tmp_path, [[0, 1, 255]], 3), "train")
    assert "classes without a pixel in all 1 label maps: 1 of 3 (dog); nothing can be learned" in caplog.text


def test_many_classes_are_said_shortly(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder(tmp_path, [[*range(40)]])
    names = [f"<{index}>" for index in range(100)]
    check_labels(SegmentationFolder(tmp_path / "images", tmp_path / "labels", classes=names), "train")
    assert "and 90 more" in caplog.text and "60 of 100 (" in caplog.text and "and 50 more" in caplog.text
    assert "<9> 1" in caplog.text and "<10>" not in caplog.text


@pytest.mark.parametrize(("values", "refused"), [([255, 255], True), ([0, 255], False), ([1, 1], False)])
def test_validation_needs_one_class(
    values: list[int], refused: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = folder(tmp_path, [values] * 3)
    if refused:
        with pytest.raises(DataError, match="nothing to measure: in all 3 label maps, no class has a pixel"):
            check_labels(data, "val")
    else:
        check_labels(data, "val")
    assert not caplog.records


def test_maps_that_cannot_be_used_are_left_to_whoever_reads_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = folder(tmp_path, [[0, 1], [0, 9], [1, 0]])
    check_labels(data, "train")
    assert "pixels of 2 of 3 label maps: background 2, cat 2" in caplog.text
    caplog.clear()
    check_labels(folder(tmp_path, [[9], [9]]), "train")
    assert not caplog.records


def test_names_that_classes_share_are_counted_apart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As ADE20K has them; a few of its photos lack most classes, and that alone."""
    folder(tmp_path, [[0, 1, 2]])
    names = ("wall", "screen", "screen")
    data = SegmentationFolder(tmp_path / "images", tmp_path / "labels", classes=names, reduce_zero_label=True)
    check_labels(data, "train")
    assert "1 of 3 (screen); nothing can be learned" in caplog.text
