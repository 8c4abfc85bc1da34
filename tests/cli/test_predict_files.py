"""What `swin predict` writes beside JSON lines: COCO's results, YOLO's labels, features."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from swin_transformer_pytorch import Predictor
from swin_transformer_pytorch.commands import predict
from swin_transformer_pytorch.data.detection.yolo import yolo_parts
from swin_transformer_pytorch.results import Detections
from swin_transformer_pytorch.rle import decode_mask


@pytest.fixture
def detect(swin, dense_checkpoints):
    def run(*words):
        return swin("predict", *words, "--weights", dense_checkpoints["detection"], "--device", "cpu")

    return run


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_coco_s_results_of_a_data_set_are_read_by_its_tools(detect, dense_data, tmp_path) -> None:
    coco = pytest.importorskip("pycocotools.coco").COCO
    annotations = next((dense_data / "annotations").glob("*val*.json"))
    document = json.loads(annotations.read_text())
    document["categories"] = [{**one, "id": 100 - one["id"]} for one in document["categories"] if one["name"] != "Bag"]
    document["annotations"] = []
    given = tmp_path / "some.json"
    left_out = document["images"].pop()["file_name"]
    given.write_text(json.dumps(document))
    target, lines = tmp_path / "new" / "found.json", tmp_path / "rows.jsonl"
    outcome = detect(dense_data / "val", "--output", lines, "--coco", target, "--annotations", given)
    assert outcome.code == 0, outcome.err
    assert f"1 images left out, for the annotations do not name them: {dense_data / 'val' / left_out}" in outcome.err
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco(str(given))
        read = truth.loadRes(str(target))
    names = {one["id"]: one["name"] for one in document["categories"]}
    dropped = 0
    for row in rows(lines):
        image_id = next((it["id"] for it in document["images"] if row["path"].endswith(it["file_name"])), None)
        found = Detections.from_dict(row)
        known = found[[name != "Bag" for name in found.names]]
        if image_id is None:
            continue
        dropped += len(found) - len(known)
        entries = read.loadAnns(read.getAnnIds(imgIds=[image_id]))
        assert [names[entry["category_id"]] for entry in entries] == [*known.names]
        assert [np.float32(entry["score"]) for entry in entries] == [*known.scores]
        for entry, mask in zip(entries, known.masks, strict=True):
            np.testing.assert_array_equal(read.annToMask(entry), mask)
    assert (f"{dropped:,} objects of classes left out" in outcome.err) == (dropped > 0)


def test_coco_s_ids_of_file_names(detect, dense_data, tmp_path) -> None:
    image = dense_data / "val" / "000000.png"
    for name in ("a/007.png", "a/x.png", "b/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(image, tmp_path / name)
    outcome = detect(tmp_path / "a", tmp_path / "b", "--coco", tmp_path / "found.json")
    assert outcome.code == 0, outcome.err
    records = json.loads((tmp_path / "found.json").read_text())
    twin = str(tmp_path / "b/x.png")
    assert list(dict.fromkeys(record["image_id"] for record in records)) == [7, "x", twin]
    assert f"1 namesakes have other images' names, so that their ids are their paths: {twin}" in outcome.err
    assert "category ids class indices + 1" in outcome.err
    assert "rows.jsonl" not in outcome.err  # what it was made of is gone


def test_yolo_s_labels_are_a_data_set_beside_the_images(detect, dense_data, tmp_path) -> None:
    images = tmp_path / "photos"
    (images / "more").mkdir(parents=True)
    for name, source in (("a.png", "000000.png"), ("more/b.png", "000001.png"), ("a.jpg", "000002.png")):
        shutil.copy(dense_data / "val" / source, images / name)
    (images / "bad.png").write_bytes(b"no picture")
    target, lines = tmp_path / "yolo", tmp_path / "rows.jsonl"
    words = (images, "--yolo", target, "--output", lines, "--score-threshold", 0.05)
    outcome = detect(*words)
    assert outcome.code == 1
    labels = sorted(str(path.relative_to(target)) for path in target.rglob("*.*"))
    assert labels == ["classes.txt", "data.yaml", "labels/a.png.txt", "labels/a.txt", "labels/more/b.txt"]
    assert "1 images have others' names" in outcome.err
    (images / "a.png").unlink()  # the labels of which have its ending
    (images / "bad.png").unlink()
    shutil.move(images, target / "images")
    part = yolo_parts(target)["train"]
    read = part.read(part.annotations_file)
    by_name = {image["file_name"]: image["id"] for image in read["images"]}
    names = {category["id"]: category["name"] for category in read["categories"]}
    for row in rows(lines):
        name = row["path"].removeprefix(f"{images}/")
        if f"images/{name}" not in by_name:
            continue
        boxes = [one for one in read["annotations"] if one["image_id"] == by_name[f"images/{name}"]]
        assert [names[one["category_id"]] for one in boxes] == row["names"]
        corners = [[x, y, x + w, y + h] for x, y, w, h in (one["bbox"] for one in boxes)]
        np.testing.assert_allclose(corners, row["boxes"], atol=1e-4)
    again = detect(dense_data / "val", "--yolo", target)
    assert again.code == 2 and "not an empty folder" in again.err


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own
def test_yolo_s_outlines_are_read_as_the_masks(detect, dense_data, tmp_path) -> None:
    coco_mask = pytest.importorskip("pycocotools.mask")
    target, lines = tmp_path / "yolo", tmp_path / "rows.jsonl"
    words = (dense_data / "val", "--yolo", target, "--outlines", "--output", lines, "--score-threshold", 0.05)
    assert detect(*words).code == 0
    shutil.copytree(dense_data / "val", target / "images")
    part = yolo_parts(target)["train"]
    read = part.read(part.annotations_file)
    count = 0
    for row in rows(lines):
        name = f"images/{Path(row['path']).name}"
        (image_id,) = (image["id"] for image in read["images"] if image["file_name"] == name)
        outlines = [one["segmentation"] for one in read["annotations"] if one["image_id"] == image_id]
        for polygons, mask in zip(outlines, row["masks"], strict=True):
            if (expected := decode_mask(mask["counts"], tuple(mask["size"]))).any():
                again = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *mask["size"])))
                np.testing.assert_array_equal(again.astype(bool), expected)
                count += 1
    assert count > 0
    assert "--outlines is for --yolo DIR" in detect(dense_data / "val", "--outlines").err


def test_files_of_an_ended_prediction_hold_each_image_once(detect, dense_data, tmp_path, monkeypatch) -> None:
    """They are made of all rows, those of before among them; of a whole file of rows, too."""
    settings = []
    original = predict.result_rows
    monkeypatch.setattr(predict, "result_rows", lambda *a, **k: settings.append(a[1]) or original(*a, **k))
    whole, lines = tmp_path / "whole.json", tmp_path / "whole.jsonl"
    assert detect(dense_data / "val", "--output", lines, "--coco", whole).code == 0
    # What a killed process leaves of another one.
    ended = tmp_path / "ended.jsonl.partial"
    ended.write_bytes(b"".join(lines.read_bytes().splitlines(keepends=True)[:4]))
    (tmp_path / "ended.jsonl.partial.settings").write_text(json.dumps(settings[0]))
    for name in ("whole", "ended"):
        target, folder, output = tmp_path / f"{name}_again.json", tmp_path / name, tmp_path / f"{name}.jsonl"
        outcome = detect(dense_data / "val", "--output", output, "--resume", "--coco", target, "--yolo", folder)
        assert outcome.code == 0, outcome.err
        assert target.read_bytes() == whole.read_bytes()
        assert len(list((folder / "labels").iterdir())) == 6


@pytest.mark.parametrize(
    ("task", "options", "hint"),
    [
        ("segmentation", ("--coco", "f.json"), "--coco is for detection, and this model is for segmentation"),
        ("segmentation", ("--yolo", "new"), "--yolo is for detection"),
        ("detection", ("--features", "f.npy"), "--features is for classification"),
        ("detection", ("--annotations", "a.json"), "is for --coco FILE"),
        ("detection", ("--coco", "f.json", "--annotations", "gone.json"), "gone.json does not exist"),
        ("detection", ("--coco", "f.json", "--output", "-"), "--coco does not go with --output -"),
        ("detection", ("--yolo", "new", "--output", "/dev/stdout"), "--yolo does not go with"),
        ("detection", ("--yolo", "."), "not an empty folder"),
        ("classification", ("--features", "f.csv"), "use .npy or .parquet"),
        (
            "classification",
            ("--features", "f.npy", "--output", "r.jsonl", "--resume"),
            "--output, --resume: --features",
        ),
    ],
)
def test_what_does_not_go_together_is_one_error_and_writes_nothing(
    swin, checkpoint, dense_checkpoints, dense_data, task, options, hint, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").write_text("")
    outcome = swin(
        "predict", dense_data / "val", "--weights", {**dense_checkpoints, "classification": checkpoint}[task], *options
    )
    assert outcome.code == 2
    assert outcome.err.startswith("swin: error: ") and hint in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


@pytest.mark.parametrize("ending", ["npy", "parquet"])
def test_features_of_a_folder(swin, checkpoint, pictures, tmp_path, ending) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow", reason="the reader of Parquet")
    (pictures / "bad.png").write_bytes(b"no picture")
    target = tmp_path / "new" / f"features.{ending}"
    words = ("predict", pictures, "--weights", checkpoint, "--features", target, "--device", "cpu", "--batch-size", 2)
    outcome = swin(*words)
    assert outcome.code == 1 and "bad.png" in outcome.err and "features of 3 images, 16 numbers each" in outcome.err
    if ending == "npy":
        found, names = np.load(target), json.loads(target.with_suffix(".names.json").read_text())
    else:
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(target).to_pydict()
        found, names = np.array(table["features"], dtype=np.float32), table["path"]
    assert [name.removeprefix(f"{pictures}/") for name in names] == ["a.png", "b.jpg", "inside/c.png"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, Predictor(checkpoint, device="cpu").features(names), atol=1e-5)
    beside = {"features.names.json"} if ending == "npy" else set()
    assert {path.name for path in target.parent.iterdir()} == {target.name} | beside


def test_features_of_nothing_write_nothing(swin, checkpoint, tmp_path) -> None:
    outcome = swin("predict", tmp_path / "gone.png", "--weights", checkpoint, "--features", tmp_path / "f.npy")
    assert outcome.code == 2 and "is not written" in outcome.err and "Traceback" not in outcome.err
    assert not list(tmp_path.iterdir())
