"""`swin evaluate` with Mask2Formers: the figures that it prints are those of the evaluators."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from swin_transformer_pytorch import Predictor
from swin_transformer_pytorch.data.panoptic.source import PanopticSource
from swin_transformer_pytorch.data.scenes.panoptic import PanopticScenes
from swin_transformer_pytorch.evaluation.coco import METRICS, CocoEvaluator
from swin_transformer_pytorch.evaluation.every_answer import EveryAnswerEvaluator
from swin_transformer_pytorch.evaluation.segmentation import SegmentationEvaluator
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.mask2former_config import Mask2FormerConfig
from swin_transformer_pytorch.models.saving import save_model
from swin_transformer_pytorch.predict.every_answer import EveryAnswerPredictor
from swin_transformer_pytorch.results import Detections
from swin_transformer_pytorch.rle import decode_mask
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

CONFIG = Mask2FormerConfig(
    num_queries=12, dim=32, attention_heads=2, encoder_dim=16, encoder_layers=1, feedforward_dim=16, decoder_layers=3
).replace(embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=3, drop_path_rate=0.0)


@pytest.fixture(scope="module")
def checkpoints(scenes, tmp_path_factory) -> dict[str, Path]:
    """Random Mask2Formers of scenes, one of each kind of answers, whose queries are sure of something."""
    folder = tmp_path_factory.mktemp("mask2former")
    paths = {}
    for answers in ("panoptic", "instance", "semantic"):
        torch.manual_seed(6)
        classes = scenes.classes if answers == "instance" else scenes.semantic_classes
        things = tuple(range(10)) if answers == "panoptic" else None
        config = CONFIG.replace(answers=answers, num_classes=len(classes), things=things, segment_threshold=0.1)
        palette = None if answers == "instance" else scenes.semantic_palette
        model = build(
            ModelDescription(
                config=config.replace(overlap_threshold=0.1, things=things),
                classes=classes,
                palette=palette,
                preprocessing=DensePreprocessing(scale=None),
            )
        )
        predictor = model.sem_seg_head.predictor
        with torch.no_grad():
            predictor.class_embed.weight.mul_(20)
            predictor.class_embed.bias[-1] = -9
            predictor.class_embed.bias[-2] = 6  # of the ground, so that some of it is found
            predictor.query_feat.weight.mul_(5)
            predictor.mask_embed.layers[2].weight.mul_(20)
        paths[answers] = folder / f"{answers}.safetensors"
        save_model(model, paths[answers])
    return paths


@pytest.fixture(scope="module")
def expected(checkpoints, scenes):
    """The figures of the panoptic model, image by image."""
    evaluator = EveryAnswerEvaluator(scenes.semantic_classes, range(10))
    predictor = EveryAnswerPredictor(Predictor(checkpoints["panoptic"], device="cpu"))
    for sample in PanopticScenes(scenes):
        (found,) = predictor.predict_prepared([predictor.prepare(sample.image)])
        truth = {name: getattr(sample, name) for name in ("image_id", "segment_ids", "labels", "crowd")}
        evaluator.update(found.panoptic, found.instance, found.semantic, **truth)
    return evaluator.report()


def own_folder(scenes, root: Path, *, part: str = "") -> Path:
    """The scenes as label and instance PNGs."""
    for sample in PanopticScenes(scenes):
        labels = np.array([255, *sample.labels], dtype=np.uint8)[sample.segment_ids]
        for folder, pixels in (
            ("images", np.asarray(sample.image)),
            ("labels", labels),
            ("instances", np.where(labels == 10, 0, sample.segment_ids).astype(np.uint8)),
        ):
            (root / folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / part / f"{sample.image_id:06d}.png")
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in scenes.semantic_classes))
    return root


def same_objects(folder: Path, image_id: int, expected: Detections) -> list[dict[str, Any]]:
    """What was found in an image, as it was written, held against what the predictor gives."""
    results = json.loads((folder / "detections.segm.json").read_text())
    found = [row for row in results if row["image_id"] == image_id]
    assert len(found) == len(expected) > 0
    assert [row["score"] for row in found] == pytest.approx(expected.scores.tolist(), abs=1e-5)
    areas = [int(decode_mask(row["segmentation"]["counts"].encode(), (64, 80)).sum()) for row in found]
    assert areas == pytest.approx(expected.masks.sum(axis=(1, 2)).tolist(), abs=2)
    return found


def test_a_panoptic_model_on_cocos_and_on_own_folders(
    swin, checkpoints, dense_data, scenes, expected, tmp_path
) -> None:
    own = own_folder(scenes, tmp_path / "own", part="val")
    places = [own / name / "val" for name in ("images", "labels", "instances")]
    annotations = dense_data / "annotations" / "panoptic_val.json"
    for name, data in (
        ("coco", ("--data.root", dense_data)),
        ("own", ("--data.root", own)),
        ("named", ("--data.annotations", annotations, "--data.images", dense_data / "val")),
        ("three", [word for folder in places for word in (f"--data.{folder.parent.name}", folder)]),
    ):
        target = tmp_path / name / "report"
        words = ("evaluate", "--weights", checkpoints["panoptic"], "--output", target, "--device", "cpu")
        outcome = swin(*words, *data, "--batch-size", 2)
        assert outcome.code == 0, outcome.err
        saved = json.loads((target / "report.json").read_text())
        panoptic = expected.panoptic.to_dict()
        assert saved["panoptic"]["all"] == pytest.approx(panoptic["all"], abs=1e-3) and saved["num_images"] == 6
        assert saved["semantic"]["mIoU"] == pytest.approx(expected.semantic.miou, abs=1e-3)
        assert saved["instance"]["num_detections"] == expected.instance.num_detections > 0
        assert expected.panoptic.stuff.pq > 0 and expected.semantic.miou > 0
        figures = "PQ {PQ:.2%}, SQ {SQ:.2%}, RQ {RQ:.2%}".format_map(saved["panoptic"]["all"])
        assert f"6 images: {figures}" in outcome.out and f"mIoU {saved['semantic']['mIoU']:.2%}" in outcome.out
        for part in ("all", "things", "stuff"):
            start = [part, f"{saved['panoptic'][part]['PQ']:.1%}"]
            assert any(line.split()[:2] == start for line in outcome.out.splitlines())
    with (target / "classes.csv").open() as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(scenes.semantic_classes) and rows["ground"]["kind"] == "stuff"
    ground = expected.panoptic.per_class["ground"]
    assert float(rows["ground"]["PQ"]) == pytest.approx(ground["PQ"], abs=1e-3) and rows["ground"]["AP of masks"] == ""
    assert rows["Bag"]["kind"] == "thing" and int(rows["Bag"]["FN"]) == expected.panoptic.per_class["Bag"]["FN"]
    everything = EveryAnswerPredictor(Predictor(checkpoints["panoptic"], device="cpu"))
    (answer,) = everything.predict_prepared([everything.prepare(scenes[4].image)])
    written = same_objects(tmp_path / "coco" / "report", 4, answer.instance)
    assert {row["category_id"] for row in written} <= {*range(1, 11)}
    for name in ("segments.png", "class_pq.png", "class_iou.png"):
        with Image.open(target / name) as picture:
            assert min(picture.size) > 100


def test_scenes_need_no_files(swin, checkpoints, tmp_path) -> None:
    words = ("--data", "scenes_sample", "--data.num_scenes", 4, "--output", tmp_path, "--device", "cpu")
    for answers, key in (("instance", "masks"), ("semantic", "mIoU")):
        outcome = swin("evaluate", "--weights", checkpoints[answers], *words)
        assert outcome.code == 0, outcome.err
        assert "4 images" in outcome.out and json.loads((tmp_path / "report.json").read_text())[key] is not None


def test_the_model_in_the_package_finds_things_and_ground_by_each_measure(swin, tmp_path) -> None:
    words = ("--data", "scenes_sample", "--data.num_scenes", 2, "--output", tmp_path, "--device", "cpu")
    outcome = swin("evaluate", "--weights", "scenes_panoptic", *words)
    assert outcome.code == 0, outcome.err
    saved = json.loads((tmp_path / "report.json").read_text())
    assert saved["panoptic"]["stuff"]["PQ"] > 0.9 and saved["panoptic"]["things"]["PQ"] > 0.2
    assert saved["instance"]["masks"]["AP"] > 0.4 and saved["instance"]["boxes"]["AP"] > 0.4
    assert saved["semantic"]["mIoU"] > 0.2


def test_objects_and_classes_of_a_mask2former(swin, checkpoints, dense_data, scenes, tmp_path) -> None:
    annotations = json.loads((dense_data / "annotations" / "instances_val.json").read_text())
    objects, classes = CocoEvaluator(annotations, classes=scenes.classes), SegmentationEvaluator(11)
    detector, segmenter = (Predictor(checkpoints[name], device="cpu") for name in ("instance", "semantic"))
    for index in range(len(scenes)):
        objects.update(index, detector(scenes[index].image))
        classes.update(segmenter(scenes[index].image).labels, scenes[index].semantic)
    saved = {}
    for answers in ("instance", "semantic"):
        target = tmp_path / answers
        words = ("evaluate", "--weights", checkpoints[answers], "--output", target, "--device", "cpu")
        outcome = swin(*words, "--data.root", dense_data)
        assert outcome.code == 0, outcome.err
        saved[answers] = json.loads((target / "report.json").read_text())
    report = objects.report()
    same_objects(tmp_path / "instance", 4, detector(scenes[4].image))
    assert {name: saved["instance"]["masks"][name] for name in METRICS} == report.masks.metrics
    assert saved["instance"]["num_detections"] == report.num_detections > 0
    assert saved["semantic"]["mIoU"] == pytest.approx(classes.report().miou, abs=1e-3) != 0


def test_the_part_that_training_held_out_is_measured(swin, checkpoints, scenes, tmp_path) -> None:
    root = own_folder(scenes, tmp_path / "own")
    words = ("evaluate", "--weights", checkpoints["panoptic"], "--data.root", root, "--output", tmp_path / "out")
    outcome = swin(*words, "--data.val_fraction", 0.34, "--data.seed", 3, "--device", "cpu")
    assert outcome.code == 0, outcome.err
    assert "2 images: PQ" in outcome.out and "the 34% of" in outcome.err and "instances" not in outcome.err
    held = PanopticSource(root=str(root), val_fraction=0.34, seed=3, things=scenes.classes).open("val")
    assert len(held) == 2


def test_images_that_cannot_be_used_are_named_and_skipped(swin, checkpoints, dense_data, tmp_path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(dense_data, folder)
    path = folder / "annotations" / "panoptic_val" / "000001.png"
    with Image.open(path) as picture:
        strange = np.array(picture)
    strange[0, 0] = 200
    Image.fromarray(strange).save(path)
    words = ("evaluate", "--weights", checkpoints["panoptic"], "--data.root", folder, "--output", tmp_path / "out")
    outcome = swin(*words, "--device", "cpu")
    assert outcome.code == 1
    assert f"{path} has the id 13158600 at x=0, y=0" in outcome.err and "1 of 6 images could not be used" in outcome.err
    saved = json.loads((tmp_path / "out" / "report.json").read_text())
    assert (saved["num_images"], len(saved["skipped"])) == (5, 1)


def test_things_of_the_data_and_of_the_model_may_differ_and_are_told(swin, checkpoints, dense_data, tmp_path) -> None:
    annotations = dense_data / "annotations" / "panoptic_val.json"
    content = json.loads(annotations.read_text())
    for category in content["categories"]:
        if category["name"] in ("Coat", "ground"):
            category["isthing"] = 1 - category["isthing"]
    changed = tmp_path / "panoptic_val.json"
    changed.write_text(json.dumps(content))
    places = ("--data.annotations", changed, "--data.images", dense_data / "val")
    places += ("--data.labels", annotations.with_suffix(""))
    outcome = swin("evaluate", "--weights", checkpoints["panoptic"], "--output", tmp_path / "out", *places)
    assert outcome.code == 0, outcome.err
    assert "things of the data that are stuff to the model, and measured as that: ground" in outcome.err
    assert "stuff of the data that are things to the model: one object an image: Coat" in outcome.err


def test_what_does_not_go_together_is_told(swin, checkpoints, dense_data, scenes, tmp_path) -> None:
    words = ("evaluate", "--weights", checkpoints["panoptic"], "--output", tmp_path / "out", "--device", "cpu")
    own = own_folder(scenes, tmp_path / "own")
    for data, message in (
        (("--data.images", dense_data / "val"), "which segments? give --data.annotations and --data.images"),
        (("--data.root", dense_data, "--data.allow_outside", "true"), "--data.allow_outside is for detection"),
        (("--data.root", tmp_path), "has no segments that are known"),
        (("--data.kind", "voc", "--data.root", own), "--data voc is not for panoptic, which this model does"),
        (("--data.root", own, "--flip"), "flip=True"),
        (("--data.root", own, "--data.instances", own), "which segments?"),
    ):
        outcome = swin(*words, *data)
        assert outcome.code == 2 and message in outcome.err, outcome.err
    outcome = swin("evaluate", "--weights", checkpoints["semantic"], "--data.root", own, "--data.instances", own)
    assert outcome.code == 2 and "--data.instances is for panoptic models, and this one is for segm" in outcome.err
    (own / "classes.txt").write_text("".join(f"{name}\n" for name in range(11)))
    outcome = swin(*words, "--data.root", own)
    assert outcome.code == 2 and "none of the classes asked for (T-shirt/top" in outcome.err
