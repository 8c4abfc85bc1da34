"""`swin evaluate` with detectors and segmenters: the figures it prints are those of the evaluators."""

from __future__ import annotations

import json
import shutil
import unicodedata

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch import Predictor, load_model
from swin_transformer_pytorch.evaluation.coco import METRICS, CocoEvaluator
from swin_transformer_pytorch.evaluation.segmentation import SegmentationEvaluator
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.weights.dense_classes import dense_class_names
from swin_transformer_pytorch.weights.files import save_checkpoint


def test_a_detector_on_a_coco_folder(swin, dense_checkpoints, dense_data, scenes, tmp_path) -> None:
    target = tmp_path / "report"
    words = ("evaluate", "--weights", dense_checkpoints["detection"], "--output", target, "--device", "cpu")
    outcome = swin(*words, "--data.root", dense_data)
    assert outcome.code == 0, outcome.err
    annotations = json.loads((dense_data / "annotations" / "instances_val.json").read_text())
    evaluator = CocoEvaluator(annotations, classes=scenes.classes)
    predictor = Predictor(dense_checkpoints["detection"], device="cpu")
    for index in range(len(scenes)):
        evaluator.update(index, predictor(scenes[index].image))
    expected = evaluator.report()
    saved = json.loads((target / "report.json").read_text())
    for kind, scores in (("boxes", expected.boxes), ("masks", expected.masks)):
        assert {name: saved[kind][name] for name in METRICS} == {
            name: value if value is None else pytest.approx(value, abs=1e-6) for name, value in scores.metrics.items()
        }
    assert saved["num_images"] == 6
    assert f"6 images, {expected.num_objects} objects: AP of boxes" in outcome.out
    assert all(any(line.split()[:1] == [name] for line in outcome.out.splitlines()) for name in METRICS)
    results = json.loads((target / "detections.segm.json").read_text())
    assert set(results[0]) == {"image_id", "category_id", "score", "segmentation"}
    for name in ("precision_recall.png", "class_ap_boxes.png", "class_ap_masks.png"):
        with Image.open(target / name) as picture:
            assert min(picture.size) > 100


def test_annotations_and_images_by_name(swin, dense_checkpoints, dense_data, tmp_path) -> None:
    annotations = json.loads((dense_data / "annotations" / "instances_val.json").read_text())
    for annotation in annotations["annotations"]:
        del annotation["segmentation"]
    (tmp_path / "boxes.json").write_text(json.dumps(annotations))
    words = ("--data.annotations", tmp_path / "boxes.json", "--data.images", dense_data / "val", "--output", tmp_path)
    outcome = swin("evaluate", "--weights", dense_checkpoints["detection"], *words, "--flip", "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert "masks" not in outcome.out
    assert json.loads((tmp_path / "report.json").read_text())["masks"] is None
    assert not (tmp_path / "detections.segm.json").exists()


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_scenes_need_no_files(swin, dense_checkpoints, tmp_path, task) -> None:
    words = ("--data", "scenes_sample", "--data.num_scenes", 3, "--output", tmp_path, "--device", "cpu")
    outcome = swin("evaluate", "--weights", dense_checkpoints[task], *words)
    assert outcome.code == 0, outcome.err
    assert "3 images" in outcome.out
    assert json.loads((tmp_path / "report.json").read_text())["num_images"] == 3


def test_a_segmenter_on_folders(swin, dense_checkpoints, dense_data, scenes, tmp_path) -> None:
    evaluator = SegmentationEvaluator(11, scenes.semantic_classes)
    predictor = Predictor(dense_checkpoints["segmentation"], device="cpu")
    for index in range(len(scenes)):
        sample = scenes[index]
        evaluator.update(predictor(sample.image).labels, sample.semantic)
    expected = evaluator.report()
    pair = ("--data.images", dense_data / "val", "--data.labels", dense_data / "labels" / "val")
    for name, data in (("pair", pair), ("root", ("--data.root", dense_data))):
        target = tmp_path / name
        words = ("evaluate", "--weights", dense_checkpoints["segmentation"], "--output", target, "--device", "cpu")
        outcome = swin(*words, *data)
        assert outcome.code == 0, outcome.err
        saved = json.loads((target / "report.json").read_text())
        assert saved["mIoU"] == pytest.approx(expected.miou, abs=1e-3)
        miou = f"mIoU {saved['mIoU']:.2%} over {expected.num_scored} of 11 classes"
        assert f"6 images: {miou}, mAcc {saved['mAcc']:.2%}, aAcc {saved['aAcc']:.2%}" in outcome.out
        assert saved["mIoU_classes"] == sum(value is not None for value in saved["IoU"].values())
        assert set(saved["IoU"]) == set(scenes.semantic_classes)
        with Image.open(target / "class_iou.png") as picture:
            assert min(picture.size) > 100


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_an_image_that_cannot_be_read_is_reported_and_skipped(
    swin, dense_checkpoints, dense_data, tmp_path, task
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(dense_data, folder)
    broken = folder / "val" / "000002.png"
    broken.write_bytes(b"no image")
    words = ("--data.root", folder, "--output", tmp_path / "out", "--device", "cpu")
    outcome = swin("evaluate", "--weights", dense_checkpoints[task], *words)
    assert outcome.code == 1
    assert str(broken) in outcome.err
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(saved["skipped"]) == 1
    # COCO's measure counts an image without detections; label maps count only where there is a prediction.
    assert "1 of 6 images could not be used" in outcome.err
    assert saved["num_images"] == (6 if task == "detection" else 5)


def test_a_label_beyond_the_classes_is_reported(swin, dense_checkpoints, dense_data, tmp_path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(dense_data, folder)
    path = folder / "labels" / "val" / "000001.png"
    Image.fromarray(np.full((64, 80), 99, dtype=np.uint8)).save(path)
    words = ("--data.root", folder, "--output", tmp_path / "out", "--device", "cpu")
    outcome = swin("evaluate", "--weights", dense_checkpoints["segmentation"], *words)
    assert outcome.code == 1
    assert f"{path}" in outcome.err
    assert "label 99" in outcome.err


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_too_many_images_that_cannot_be_used_are_an_error(swin, dense_checkpoints, dense_data, tmp_path, task) -> None:
    folder = tmp_path / "data"
    shutil.copytree(dense_data, folder)
    (folder / "val" / "000002.png").write_bytes(b"no image")
    with Image.open(folder / "val" / "000004.png") as picture:
        picture.resize((20, 30)).save(folder / "val" / "000004.png")
    words = ("--data.root", folder, "--output", tmp_path / "out", "--device", "cpu")
    outcome = swin("evaluate", "--weights", dense_checkpoints[task], *words)
    assert outcome.code == 2
    assert "2 of 6 images could not be used, more than 20%" in outcome.err


@pytest.mark.parametrize("data", ["root", "pair with classes", "pair without classes"])
def test_pixels_of_the_ignore_label_do_not_count(swin, dense_checkpoints, dense_data, tmp_path, data) -> None:
    folder = tmp_path / "data"
    shutil.copytree(dense_data, folder)
    labels = folder / "labels" / "val"
    for path in labels.glob("*.png"):
        marked = np.array(Image.open(path))
        marked[:8] = 77
        Image.fromarray(marked).save(path)
    if data == "pair without classes":
        (folder / "classes.txt").unlink()
    place = ("--data.root", folder) if data == "root" else ("--data.images", folder / "val", "--data.labels", labels)
    words = ("evaluate", "--weights", dense_checkpoints["segmentation"], *place, "--output", tmp_path / "report")
    outcome = swin(*words, "--data.ignore_label", 77, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    saved = json.loads((tmp_path / "report" / "report.json").read_text())
    assert sum(saved["pixels"].values()) == 6 * (64 - 8) * 80


@pytest.fixture
def ade20k_like(tmp_path):
    """Folders as ADE20K's, with label maps of 0, 1 and a third value."""

    def make(value):
        for name in ("images", "annotations"):
            (tmp_path / name / "validation").mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "images" / "validation" / "a.png")
        values = np.repeat(np.array([0, 1, 0, value], dtype=np.uint8), 16)
        Image.fromarray(np.tile(values, (64, 1))).save(tmp_path / "annotations" / "validation" / "a.png")
        return tmp_path

    return make


@pytest.fixture(scope="session")
def ade20k_model(dense_checkpoints, tmp_path_factory):
    """A random segmenter of 150 classes."""
    known = load_model(dense_checkpoints["segmentation"])
    config = known.config.replace(num_classes=150)
    model = build(
        ModelDescription(config=config, classes=dense_class_names("ade20k"), preprocessing=known.preprocessing)
    )
    path = tmp_path_factory.mktemp("ade20k") / "model.safetensors"
    save_checkpoint(path, model.state_dict(), model.metadata())
    return path


@pytest.mark.parametrize(
    ("kind", "value", "code", "said"),
    [
        ("folder", 150, 0, "taken for ADE20K"),
        ("ade20k", 150, 0, ""),
        ("folder", 2, 2, "--data.kind ade20k"),
        ("ade20k", 2, 0, ""),
    ],
)
def test_ade20k_by_its_folders_or_by_its_kind(swin, ade20k_model, ade20k_like, kind, value, code, said) -> None:
    root = ade20k_like(value)
    words = ("--data", kind, "--data.root", root, "--output", root / "report", "--device", "cpu")
    outcome = swin("evaluate", "--weights", ade20k_model, *words)
    assert outcome.code == code, outcome.err
    assert said in outcome.err and outcome.err.count("taken for") == (kind == "folder")
    if code == 0:
        saved = json.loads((root / "report" / "report.json").read_text())
        assert sum(saved["pixels"].values()) == 2 * 16 * 64, "0 is ignored"
        pair = ("--data.images", root / "images" / "validation", "--data.labels", root / "annotations" / "validation")
        again = swin("evaluate", "--weights", ade20k_model, "--data", "ade20k", *pair, *words[4:])
        assert again.out == outcome.out


def test_a_models_number_of_classes_settles_what_ade20ks_folders_hold(swin, dense_checkpoints, ade20k_like) -> None:
    root = ade20k_like(10)
    words = ("--data.root", root, "--output", root / "report", "--device", "cpu")
    outcome = swin("evaluate", "--weights", dense_checkpoints["segmentation"], *words)
    assert outcome.code == 0 and "ADE20K" not in outcome.err
    saved = json.loads((root / "report" / "report.json").read_text())
    assert sum(saved["pixels"].values()) == 64 * 64
    assert f"over {saved['mIoU_classes']} of 11 classes" in outcome.out


@pytest.mark.parametrize(
    ("task", "words", "hint"),
    [
        ("detection", ["--data", "ade20k", "--data.root", "DATA"], "is not for detection"),
        ("segmentation", ["--data", "ade20k"], "which images?"),
        ("segmentation", ["--data.root", "DATA", "--data.class_order", "natural"], "is for a classifier's folder"),
        ("segmentation", ["--data", "ade20k", "--data.root", "DATA"], "ADE20K's are known"),
        ("detection", [], "--data scenes_sample (detectors, segmenters and panoptic models)"),
        ("detection", ["--data", "fashion_sample"], "is not for detection"),
        ("segmentation", ["--data", "scenes"], "--data.root"),
        ("detection", ["--data.images", "x"], "--data.annotations"),
        ("detection", ["--data.root", "DATA", "--data.labels", "x"], "is for segmentation"),
        ("segmentation", ["--data.root", "DATA", "--data.annotations", "x"], "is for detection"),
        ("segmentation", ["--data.root", "DATA", "--data.allow_outside", "true"], "is for detection"),
        ("segmentation", ["--data.images", "x"], "both --data.images and --data.labels"),
        ("detection", ["--data.root", "nowhere"], "nowhere"),
        ("segmentation", ["--data.root", "DATA", "--mode", "slide", "--flip"], "has one view"),
        ("segmentation", ["--data.root", "DATA", "--data.ignore_label", "300"], "from 0 to 255"),
    ],
)
def test_what_cannot_be_measured_is_one_error(swin, dense_checkpoints, dense_data, task, words, hint) -> None:
    chosen = [str(dense_data) if word == "DATA" else word for word in words]
    outcome = swin("evaluate", "--weights", dense_checkpoints[task], *chosen, "--device", "cpu")
    assert outcome.code == 2
    assert outcome.err.startswith("swin: error: ")
    assert hint in outcome.err


@pytest.mark.parametrize("task", ["detection", "segmentation"])
def test_a_limit_of_pixels(swin, dense_checkpoints, dense_data, tmp_path, task) -> None:
    words = ("evaluate", "--weights", dense_checkpoints[task], "--data.root", dense_data, "--output", tmp_path / "r")
    assert swin(*words, "--device", "cpu", "--data.max_pixels", 64 * 80).code == 0
    outcome = swin(*words, "--device", "cpu", "--data.max_pixels", 64 * 80 - 1)
    assert outcome.code == 2
    assert "80 x 64 pixels, more than 5,119" in outcome.err and "6 images could not be used" in outcome.err


def test_file_names_that_lead_out_of_the_folder(swin, dense_checkpoints, dense_data, tmp_path) -> None:
    annotations = json.loads((dense_data / "annotations" / "instances_val.json").read_text())
    for number, image in enumerate(annotations["images"]):
        name = image["file_name"]
        image["file_name"] = f"../val/{name}" if number % 2 else str(dense_data.resolve() / "val" / name)
    (tmp_path / "out.json").write_text(json.dumps(annotations))
    words = ("--data.annotations", tmp_path / "out.json", "--data.images", dense_data / "labels", "--output", tmp_path)
    words = ("evaluate", "--weights", dense_checkpoints["detection"], *words, "--device", "cpu")
    refused = swin(*words)
    assert refused.code == 2
    assert "--data.allow_outside true" in refused.err
    assert swin(*words, "--data.allow_outside", "true").code == 0


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_classes_in_either_form_of_unicode_are_the_models(swin, dense_checkpoints, dense_data, tmp_path, form) -> None:
    model = load_model(dense_checkpoints["segmentation"])
    model.classes = [f"{name}\u00e9" for name in model.classes]
    save_checkpoint(tmp_path / "named.safetensors", model.state_dict(), model.metadata())
    folder = tmp_path / "data"
    shutil.copytree(dense_data, folder)
    lines = (folder / "classes.txt").read_text().splitlines()
    (folder / "classes.txt").write_text("".join(f"{unicodedata.normalize(form, line + chr(233))}\n" for line in lines))
    words = ("--data.root", folder, "--output", tmp_path / "out", "--device", "cpu")
    outcome = swin("evaluate", "--weights", tmp_path / "named.safetensors", *words)
    assert outcome.code == 0, outcome.err


def test_classes_that_the_model_does_not_know_are_an_error(swin, dense_checkpoints, dense_data, tmp_path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(dense_data, folder)
    classes = (folder / "classes.txt").read_text().replace("ground", "floor")
    (folder / "classes.txt").write_text(classes)
    outcome = swin("evaluate", "--weights", dense_checkpoints["segmentation"], "--data.root", folder, "--device", "cpu")
    assert outcome.code == 2
    assert "does not know floor" in outcome.err


def test_a_classifier_refuses_the_options_of_others(swin, checkpoint) -> None:
    outcome = swin("evaluate", "--weights", checkpoint, "--data", "fashion_sample", "--multi-scale", "--mode", "slide")
    assert outcome.code == 2
    assert "--mode, --multi-scale: not for classification" in outcome.err
