"""`swin video`: a row and a picture a frame, whatever ends it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import Swin

from swin_transformer_pytorch.data.images.video import Video
from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.predict import video as predict_video_module
from swin_transformer_pytorch.visualize.video import VideoWriter

pytest.importorskip("av", reason="needs [video]")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty frames, two a scene, 25 a second."""
    scenes = open_scenes("scenes_sample", "val", num_scenes=10)
    path = tmp_path_factory.mktemp("video") / "clip.webm"
    with VideoWriter(path) as writer:
        for index in range(20):
            writer.add(scenes[index // 2].image, index / 25)
    return path


@pytest.mark.parametrize("weights", ["fashion", "scenes_detection", "scenes_segmentation", "scenes_panoptic"])
def test_a_row_and_a_picture_a_frame(swin: Swin, clip: Path, tmp_path: Path, weights: str) -> None:
    outcome = swin(
        "video", clip, "--weights", weights, "--output", tmp_path / "a.jsonl", "--video", tmp_path / "a.webm"
    )
    assert outcome.code == 0, outcome.err
    assert "20 of 20 frames" in outcome.err and "class" in outcome.out
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["frame"] for row in rows] == list(range(20))
    np.testing.assert_allclose([row["seconds"] for row in rows], np.arange(20) / 25, atol=1e-3)
    drawn = list(Video(tmp_path / "a.webm"))
    assert [frame.seconds for frame in drawn] == [row["seconds"] for row in rows]
    assert min(drawn[0].image.shape[:2]) >= 300, "enlarged, to be read"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.webm"]
    first = json.loads(swin("video", clip, "--weights", weights, "--output", "-", "--every", 19).out.splitlines()[0])
    assert first.keys() == rows[0].keys()
    for key, value in first.items():  # of another number of frames together: sums have another order
        if key in ("scores", "boxes"):
            np.testing.assert_allclose(value, rows[0][key], rtol=1e-4)
        elif key == "segments":
            assert len(value) == len(rows[0][key]) > 0
            for one, other in zip(value, rows[0][key], strict=True):
                assert one == {**other, "score": pytest.approx(other["score"], rel=1e-4)}
        else:
            assert value == rows[0][key]


@pytest.mark.parametrize("ended_by", [KeyboardInterrupt(), SystemExit(143)])
def test_who_interrupts_has_what_was_done_until_then(
    swin: Swin, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ended_by: BaseException
) -> None:
    whole = predict_video_module.predict_video

    def interrupted(*args: Any) -> Iterator[Any]:
        for index, one in enumerate(whole(*args)):
            if index == 7:
                raise ended_by
            yield one

    monkeypatch.setattr(predict_video_module, "predict_video", interrupted)
    outcome = swin(
        "video", clip, "--weights", "fashion", "--output", tmp_path / "a.jsonl", "--video", tmp_path / "a.webm"
    )
    assert outcome.code == (130 if isinstance(ended_by, KeyboardInterrupt) else 143)
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 7
    assert len(list(Video(tmp_path / "a.webm"))) == 7


def test_a_video_that_is_cut_short_keeps_its_results_and_is_told(swin: Swin, clip: Path, tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "long.webm") as writer:
        for index in range(60):
            writer.add(
                Image.fromarray(np.random.default_rng(index).integers(0, 256, (48, 64, 3), np.uint8)), index / 10
            )
    content = (tmp_path / "long.webm").read_bytes()
    (tmp_path / "cut.webm").write_bytes(content[: len(content) // 2])
    outcome = swin("video", tmp_path / "cut.webm", "--weights", "fashion", "--output", tmp_path / "a.jsonl")
    assert outcome.code == 1 and "breaks off after" in outcome.err
    assert 10 < len((tmp_path / "a.jsonl").read_text().splitlines()) < 60


def test_mistakes_are_one_line(swin: Swin, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for words, text in (
        ((tmp_path / "no.mp4", "--weights", "fashion"), "does not exist"),
        ((clip, "--weights", "fashion", "--video", tmp_path / "a.mp4"), "written as .webm"),
        ((clip, "--weights", "fashion", "--flip"), "flip=True cannot be used"),
    ):
        outcome = swin("video", *words)
        assert outcome.code == 2 and text in outcome.err and len(outcome.err.splitlines()) == 1
        outcome = swin("video", *words, "--output", tmp_path / "rows.jsonl")
        assert outcome.code == 2 and not list(tmp_path.glob("rows.jsonl*")), "nothing is in the way of the next"
    (tmp_path / "b.jsonl.partial").touch()
    assert (
        "b.jsonl.partial has the rows"
        in swin("video", clip, "--weights", "fashion", "--output", tmp_path / "b.jsonl").err
    )
    monkeypatch.setitem(sys.modules, "av", None)
    outcome = swin("video", clip, "--weights", "fashion")
    assert outcome.code == 2 and "swin-transformer-pytorch[video]" in outcome.err


def test_a_video_comes_by_stdin(clip: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "swin_transformer_pytorch", "video", "-", "--weights", "fashion", "--output", "-"]
    with clip.open("rb") as stdin:
        outcome = subprocess.run(words, stdin=stdin, capture_output=True, text=True, check=True)
    assert [json.loads(line)["frame"] for line in outcome.stdout.splitlines()] == list(range(20))
