"""Figures of label maps, against counts by hand and torchmetrics."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from swin_transformer_pytorch.evaluation.segmentation import EvaluationError, SegmentationEvaluator

NUM_CLASSES = 5


def maps(count: int, seed: int = 0) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Predictions and labels of differently sized images; the last class is nowhere, some pixels are ignored."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        size = rng.integers(3, 20, 2)
        target = rng.integers(0, NUM_CLASSES - 1, size).astype(np.uint8)
        prediction = np.where(rng.random(size) < 0.6, target, rng.integers(0, NUM_CLASSES - 1, size)).astype(np.uint8)
        target[rng.random(size) < 0.2] = 255
        pairs.append((prediction, target))
    return pairs


def evaluated(pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> SegmentationEvaluator:
    evaluator = SegmentationEvaluator(NUM_CLASSES, ["sky", "sea", "sand", "tree", "rock"])
    for prediction, target in pairs:
        evaluator.update(prediction, target)
    return evaluator


def test_the_figures_are_those_counted_by_hand() -> None:
    pairs = maps(4)
    intersection, union, labelled = [0] * NUM_CLASSES, [0] * NUM_CLASSES, [0] * NUM_CLASSES
    for prediction, target in pairs:
        for seen, true in zip(prediction.ravel().tolist(), target.ravel().tolist(), strict=True):
            if true == 255:
                continue
            labelled[true] += 1
            union[true] += 1
            if seen == true:
                intersection[true] += 1
            else:
                union[seen] += 1
    report = evaluated(pairs).report()
    ious = [part / whole for part, whole in zip(intersection, union, strict=True) if whole]
    accuracies = [part / whole for part, whole in zip(intersection, labelled, strict=True) if whole]
    assert report.miou == pytest.approx(sum(ious) / 4)
    assert report.macc == pytest.approx(sum(accuracies) / 4)
    assert report.aacc == pytest.approx(sum(intersection) / sum(labelled))
    assert list(report.iou.values()) == [*map(pytest.approx, ious), None]
    assert list(report.accuracy.values()) == [*map(pytest.approx, accuracies), None]
    assert report.pixels == dict(zip(report.classes, labelled, strict=True))
    assert report.num_images == 4
    assert report.num_scored == report.to_dict()["mIoU_classes"] == 4


def test_torchmetrics_says_the_same() -> None:
    from torchmetrics import JaccardIndex
    from torchmetrics.classification import MulticlassAccuracy

    options = {"num_classes": NUM_CLASSES, "ignore_index": 255}
    metrics = {
        "miou": JaccardIndex(task="multiclass", **options),
        "macc": MulticlassAccuracy(average="macro", **options),
        "aacc": MulticlassAccuracy(average="micro", **options),
    }
    pairs = maps(6, seed=1)
    for pair in pairs:
        for metric in metrics.values():
            metric.update(*(torch.from_numpy(one).flatten().long() for one in pair))
    report = evaluated(pairs).report()
    assert {name: getattr(report, name) for name in metrics} == {
        name: pytest.approx(metric.compute().item(), abs=1e-6) for name, metric in metrics.items()
    }


def test_a_class_that_is_only_predicted_has_an_iou_but_no_accuracy() -> None:
    evaluator = SegmentationEvaluator(3)
    evaluator.update(np.array([[0, 2]]), np.array([[0, 0]]))
    report = evaluator.report()
    assert report.iou == {"class 0": 0.5, "class 1": None, "class 2": 0.0}
    assert report.accuracy == {"class 0": 0.5, "class 1": None, "class 2": None}
    assert (report.miou, report.macc, report.aacc) == (0.25, 0.5, 0.5)


def test_names_that_classes_share_are_told_apart() -> None:
    evaluator = SegmentationEvaluator(3, ["screen", "door", "screen"])
    evaluator.update(np.array([[0, 1, 2]]), np.array([[0, 1, 2]]))
    assert list(evaluator.report().iou) == ["screen [0]", "door", "screen [2]"]


def test_the_report_is_saved_as_json(tmp_path: Path) -> None:
    report = evaluated(maps(1)).report(skipped=["a.png is damaged"])
    path = report.save(tmp_path / "new" / "folder")
    assert json.loads(path.read_text(encoding="utf-8")) == report.to_dict()
    assert report.to_dict()["IoU"]["rock"] is None


def test_what_does_not_fit_together_is_an_error() -> None:
    evaluator = SegmentationEvaluator(2)
    ones = np.ones((2, 3), dtype=np.uint8)
    with pytest.raises(EvaluationError, match="own size"):
        evaluator.update(ones, ones[:1])
    with pytest.raises(EvaluationError, match="labels go from 7 to 7"):
        evaluator.update(ones, ones * 7)
    with pytest.raises(EvaluationError, match="prediction go from 3 to 3"):
        evaluator.update(ones * 3, ones)
    with pytest.raises(EvaluationError, match="2 names for num_classes=3"):
        SegmentationEvaluator(3, ["a", "b"])
    evaluator.update(ones * 9, ones * 255)  # where nothing counts, neither does the prediction
    with pytest.raises(EvaluationError, match="no pixel of 1 images"):
        evaluator.report()
