"""`swin predict` with detectors and segmenters: JSON lines, overlays and label maps."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch import Predictor
from swin_transformer_pytorch.results import SegmentationMap
from swin_transformer_pytorch.rle import decode_mask


def _lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_objects_become_json_lines_and_overlays(swin, dense_checkpoints, dense_data, tmp_path) -> None:
    target, pictures = tmp_path / "new" / "objects.jsonl", tmp_path / "pictures"
    words = ("--weights", dense_checkpoints["detection"], "--output", target, "--pictures", pictures, "--device", "cpu")
    outcome = swin("predict", dense_data / "val", *words)
    assert outcome.code == 0, outcome.err
    records = _lines(target)
    assert len(records) == 6
    for record in records:
        expected = Predictor(dense_checkpoints["detection"], device="cpu")(record["path"])
        assert record["image_size"] == [64, 80]
        assert record["names"] == list(expected.names)
        np.testing.assert_allclose(record["boxes"], expected.boxes_xyxy, atol=1e-2)
        assert record["scores"] == sorted(record["scores"], reverse=True)
        for mask in record["masks"]:
            assert decode_mask(mask["counts"], tuple(mask["size"])).shape == (64, 80)
    assert len(list(pictures.glob("*_predicted.png"))) == 6


def test_the_table_and_pictures_show_what_is_likely(swin, dense_checkpoints, dense_data) -> None:
    words = ("predict", dense_data / "val" / "000000.png", "--weights", dense_checkpoints["detection"])
    assert "no objects" in swin(*words).out  # a random model is sure of nothing
    line = next(line for line in swin(*words, "--score-threshold", "0.05").out.splitlines() if "000000" in line)
    assert " 8 " in line
    assert "%" in line


def test_maps_become_pngs_overlays_and_shares(swin, dense_checkpoints, dense_data, tmp_path) -> None:
    target, labels, pictures = (tmp_path / name for name in ("maps.jsonl", "labels", "pictures"))
    words = ("--output", target, "--labels", labels, "--pictures", pictures, "--device", "cpu")
    outcome = swin("predict", dense_data / "val", "--weights", dense_checkpoints["segmentation"], *words)
    assert outcome.code == 0, outcome.err
    assert all(str(place) in outcome.err for place in (target, labels, pictures))
    predictor = Predictor(dense_checkpoints["segmentation"], device="cpu")
    for record in _lines(target):
        with Image.open(record["label_map"]) as picture:
            written = np.asarray(picture)
            assert picture.getpalette()[:3] == list(predictor.model.palette[0])
        assert (written == predictor(record["path"]).labels).mean() > 0.999
        assert sum(record["shares"]) == pytest.approx(1)
        expected = SegmentationMap(labels=written, names=predictor.classes).to_dict()
        assert {key: record[key] for key in expected} == expected
        best = next(line for line in outcome.out.splitlines() if record["path"] in line)
        assert f"{record['names'][0]} " in best
    assert len(list(pictures.glob("*.png"))) == 6


def test_label_maps_never_replace_an_image(swin, dense_checkpoints, dense_data, tmp_path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes((dense_data / "val" / "000000.png").read_bytes())
    before = image.read_bytes()
    words = ("predict", image, "--weights", dense_checkpoints["segmentation"], "--labels", tmp_path)
    assert [swin(*words).code for _ in range(2)] == [0, 0]
    assert image.read_bytes() == before
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["a.png", "a_2.png", "a_3.png"]


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("detection", ("--multi-scale", "--flip")),
        ("segmentation", ("--flip",)),
        ("segmentation", ("--mode", "slide", "--crop-size", 48, "--stride", 32)),
    ],
)
def test_other_ways_to_look_at_an_image(swin, dense_checkpoints, dense_data, task, options) -> None:
    words = ("predict", dense_data / "val" / "000001.png", "--weights", dense_checkpoints[task], "--output", "-")
    outcome = swin(*words, *options)
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["image_size"] == [64, 80]


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_bad_image_is_named_and_the_others_keep_their_results(
    swin, dense_checkpoints, dense_data, tmp_path, task
) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    target = tmp_path / "results.jsonl"
    words = ("--weights", dense_checkpoints[task], "--output", target, "--pictures", tmp_path / "pictures")
    outcome = swin("predict", bad, dense_data / "val" / "000000.png", *words)
    assert outcome.code == 1
    assert str(bad) in outcome.err
    assert [set(record) & {"error", "names"} for record in _lines(target)] == [{"error"}, {"names"}]


@pytest.mark.parametrize(
    ("task", "options", "hint"),
    [
        ("detection", ("--labels", "out"), "--labels is for segmenters"),
        ("detection", ("--mode", "slide", "--flip"), "has one view"),
        ("segmentation", ("--score-threshold", 0.5), "is for segmentation"),
        ("segmentation", ("--stride", 9), "are for windows"),
        ("segmentation", ("--score-threshold", 1.5), "--score-threshold"),
    ],
)
def test_options_of_another_task_are_one_error(swin, dense_checkpoints, dense_data, task, options, hint) -> None:
    outcome = swin("predict", dense_data / "val", "--weights", dense_checkpoints[task], *options)
    assert outcome.code == 2
    assert outcome.err.startswith("swin: error: ")
    assert hint in outcome.err
