"""`swin predict`: files, folders and globs; JSON lines and pictures; bad files named and skipped."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import threading
from functools import partial
from typing import ClassVar

import pytest
from PIL import Image

from swin_transformer_pytorch import Predictor
from swin_transformer_pytorch.data.classification.fashion import CLASSES


def _lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_checkpoint_of_ours_needs_nothing_else(swin, checkpoint, pictures) -> None:
    outcome = swin("predict", "--weights", checkpoint, pictures / "a.png")
    assert outcome.code == 0
    assert outcome.err == ""
    best = Predictor(checkpoint, device="cpu")(pictures / "a.png").names[0]
    line = next(line for line in outcome.out.splitlines() if "a.png" in line)
    assert f" {best} " in line


def test_folders_and_globs_become_json_lines(swin, checkpoint, pictures, tmp_path) -> None:
    target = tmp_path / "new" / "results.jsonl"
    words = ("predict", pictures / "inside", f"{pictures}/*.png", f"{pictures}/*.jpg", "--weights", checkpoint)
    assert swin(*words, "--output", target, "--top-k", 3).code == 0
    records = _lines(target)
    assert [record["path"].rpartition("/")[2] for record in records] == ["c.png", "a.png", "b.jpg"]
    for record in records:
        assert len(record["names"]) == len(record["scores"]) == len(record["labels"]) == 3
        assert record["names"] == [CLASSES[label] for label in record["labels"]]
        assert record["scores"] == sorted(record["scores"], reverse=True)


def test_a_bad_file_is_named_and_the_others_keep_their_results(swin, checkpoint, pictures, tmp_path) -> None:
    bad = pictures / "bad.png"
    bad.write_bytes(b"no picture")
    target = tmp_path / "results.jsonl"
    outcome = swin("predict", "--weights", checkpoint, pictures, tmp_path / "gone.jpg", "--output", target)
    assert outcome.code == 1
    assert "a.png" in outcome.out
    assert str(bad) in outcome.err
    assert "gone.jpg" in outcome.err
    assert "2 of 5 images could not be used, more than 20%" in outcome.err
    assert "Traceback" not in outcome.err
    records = {record["path"].rpartition("/")[2]: record for record in _lines(target)}
    assert {name for name, record in records.items() if "error" in record} == {"bad.png", "gone.jpg"}
    assert {name for name, record in records.items() if "scores" in record} == {"a.png", "b.jpg", "c.png"}


def test_a_fifth_of_bad_files_is_not_called_too_many(swin, checkpoint, pictures) -> None:
    (pictures / "bad.png").write_bytes(b"no picture")
    (pictures / "d.png").write_bytes((pictures / "a.png").read_bytes())
    outcome = swin("predict", "--weights", checkpoint, pictures)
    assert outcome.code == 1
    assert "1 of 5 images could not be used\n" in outcome.err


def test_stdout_takes_json_lines_alone(swin, checkpoint, pictures) -> None:
    outcome = swin("predict", "--weights", checkpoint, pictures, "--output", "-")
    assert [set(json.loads(line)) for line in outcome.out.splitlines()] == [{"path", "labels", "scores", "names"}] * 3


def test_a_limit_of_pixels(swin, checkpoint, pictures, tmp_path) -> None:
    Image.new("L", (60, 28)).save(pictures / "large.png")
    words = ("predict", "--weights", checkpoint, pictures, "--pictures", tmp_path / "out", "--max-pixels")
    outcome = swin(*words, 28 * 28)
    assert outcome.code == 1
    assert outcome.err.count("60 x 28 pixels, more than 784") == 1 and "1 of 4 images" in outcome.err
    assert swin(*words, 60 * 28).code == 0
    assert len(list((tmp_path / "out").iterdir())) == 3 + 4
    wrong = swin(*words, 0)
    assert wrong.code == 2 and "--max-pixels" in wrong.err


def test_pictures_never_replace_the_images_or_one_another(swin, checkpoint, pictures) -> None:
    (pictures / "inside" / "a.png").write_bytes((pictures / "a.png").read_bytes())
    before = {path: path.read_bytes() for path in pictures.rglob("*.*")}
    outcome = swin("predict", "--weights", checkpoint, pictures, "--pictures", pictures)
    assert outcome.code == 0
    assert str(pictures) in outcome.err
    new = [path for path in pictures.rglob("*.*") if path not in before]
    assert len(new) == 4
    for path in new:
        with Image.open(path) as image:
            assert image.height > 28  # room for the classes
    assert all(path.read_bytes() == content for path, content in before.items())


def test_batch_size_does_not_change_the_answer(swin, checkpoint, pictures) -> None:
    outputs = [
        swin("predict", "--weights", checkpoint, pictures, "--output", "-", "--batch-size", size).out for size in (1, 8)
    ]
    first, second = ([json.loads(line) for line in output.splitlines()] for output in outputs)
    assert [record["labels"] for record in first] == [record["labels"] for record in second]
    for one, other in zip(first, second, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-4)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["--weights", "gone.ckpt"], "gone.ckpt"),
        (["--device", "cuda:99"], "--device cuda:99 cannot be used here"),
        (["--device", "toaster"], "--device toaster cannot be used here"),
        (["--model", "swin_tiny_patch4_window7"], "did you mean swin_tiny_patch4_window7_224"),
        (["--model", "swin_tiny_patch4_window7_224", "--weights", "in23k"], "in23k"),
        (["--model", "swin_tiny_patch4_window7_224.in1k", "--weights", "in22k"], "both say which weights"),
    ],
)
def test_a_model_that_cannot_be_had_is_one_error(swin, pictures, words, hint) -> None:
    outcome = swin("predict", pictures / "a.png", *words)
    assert outcome.code == 2
    assert outcome.err.startswith("swin: error: ")
    assert hint in outcome.err


def test_a_checkpoint_without_a_description_asks_which_model(swin, checkpoint, pictures, tmp_path) -> None:
    foreign = tmp_path / "foreign.pth"
    assert swin("convert", checkpoint, "--to", "timm", foreign).code == 0
    outcome = swin("predict", "--weights", foreign, pictures)
    assert outcome.code == 2
    assert "give its name too" in outcome.err


def test_a_name_that_is_no_utf8_ends_nothing(swin, checkpoint, pictures, tmp_path) -> None:
    odd = os.fsdecode(os.fsencode(str(pictures)) + b"/caf\xe9.png")
    try:
        shutil.copy(pictures / "a.png", odd)
    except OSError:
        pytest.skip("this file system takes no names but UTF-8")
    (pictures / "broken.png").write_bytes(b"no image")
    results = tmp_path / "results.jsonl"
    outcome = swin("predict", pictures, "--weights", checkpoint, "--output", results, "--device", "cpu")
    assert outcome.code == 1
    records = [json.loads(line) for line in results.read_text(encoding="utf-8").splitlines()]
    assert len(records) == 5
    assert os.fsencode(odd) in [os.fsencode(record["path"]) for record in records]
    assert "caf\\udce9.png" in outcome.out


def test_a_file_that_several_links_lead_to_is_one_image(swin, checkpoint, pictures, tmp_path) -> None:
    (pictures / "again.png").symlink_to(pictures / "a.png")
    (pictures / "inside" / "up").symlink_to(pictures, target_is_directory=True)
    results = tmp_path / "results.jsonl"
    assert swin("predict", pictures, "--weights", checkpoint, "--output", results, "--device", "cpu").code == 0
    assert len(results.read_text().splitlines()) == 3


def test_an_address_is_fetched_once_for_its_result_and_its_picture(swin, checkpoint, pictures, tmp_path) -> None:
    class Handler(http.server.SimpleHTTPRequestHandler):
        asked: ClassVar[list[str]] = []

        def do_GET(self) -> None:
            self.asked.append(self.path)
            super().do_GET()

        def log_message(self, *words: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=pictures)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        target = tmp_path / "rows.jsonl"
        words = (f"{url}/a.png?x=1", f"{url}/gone.png", "--output", target, "--pictures", tmp_path / "out")
        outcome = swin("predict", *words, "--weights", checkpoint)
        server.shutdown()
        thread.join()
    assert outcome.code == 1 and f"{url}/gone.png answered 404" in outcome.err
    assert Handler.asked == ["/a.png?x=1", "/gone.png"]
    good, bad = _lines(target)
    assert good["path"] == f"{url}/a.png?x=1" and "error" in bad
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a_predicted.png"]
