"""COCO's numbers, against pycocotools on the same results files."""

import contextlib
import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from swin_transformer_pytorch.evaluation.coco import IOU_THRESHOLDS, METRICS, CocoEvaluator, EvaluationError
from swin_transformer_pytorch.results import Detections

CLASSES = ("dog", "cat", "ant", "yak")  # neither sorted, nor in the order of the categories, nor with their ids


def blob(rng: np.random.Generator, size: tuple[int, int], box: list[int]) -> NDArray[np.uint8]:
    """An ellipse in a box, with holes."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    left, top, width, height = box
    inside = ((columns + 0.5 - left - width / 2) / (width / 2)) ** 2 + (
        (rows + 0.5 - top - height / 2) / (height / 2)
    ) ** 2 <= 1
    return np.asfortranarray(inside & (rng.random(size) < 0.95)).astype(np.uint8)


def encoded(mask: NDArray[np.uint8]) -> dict[str, Any]:
    rle = coco_masks.encode(mask)
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def data(seed: int, *, classes: tuple[str, ...] = CLASSES) -> tuple[dict[str, Any], dict[int, Detections]]:
    """Random annotations with crowds, small and large objects and empty images, and detections near them.

    Images without detections, and one that nothing is said of, are among them.
    """
    rng = np.random.default_rng(seed)
    categories = [
        {"id": 7, "name": "ant"},
        {"id": 3, "name": "cat"},
        {"id": 90, "name": "dog"},
        {"id": 4, "name": "yak"},
    ]
    ids = {one["name"]: one["id"] for one in categories}
    images, annotations, found = [], [], {}
    for number in range(8):
        image_id, size = 100 - number, (int(rng.integers(90, 150)), int(rng.integers(90, 150)))
        images.append({"id": image_id, "height": size[0], "width": size[1], "file_name": f"{image_id}.png"})
        boxes, labels, scores, masks = [], [], [], []
        for _ in range(0 if number == 0 else rng.integers(1, 9)):
            side = rng.choice([12, 40, 85])
            box = [int(rng.integers(0, 90 - side)), int(rng.integers(0, 90 - side)), int(side), int(side + 3)]
            name = str(rng.choice(["ant", "cat", "dog"]))  # no yak anywhere
            mask = blob(rng, size, box)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": ids[name],
                    "bbox": box,
                    "area": float(mask.sum()),
                    "iscrowd": int(rng.random() < 0.2),
                    "segmentation": encoded(mask),
                }
            )
            for _ in range(rng.integers(0, 4)):
                near = [value + int(rng.integers(-3, 4)) for value in box]
                left, top, width, height = max(0, near[0]), max(0, near[1]), near[2], near[3]
                boxes.append([left, top, left + width + rng.random(), top + height])
                labels.append(classes.index(name) if rng.random() < 0.8 else int(rng.integers(0, len(classes))))
                scores.append(rng.integers(1, 10) / 10)  # with ties
                masks.append(coco_masks.encode(blob(rng, size, [left, top, width, height]))["counts"])
        if number != 3:
            order = np.argsort(-np.array(scores), kind="stable").astype(int)
            found[image_id] = Detections(
                boxes_xyxy=np.array(boxes).reshape(-1, 4)[order],
                scores=np.array(scores)[order],
                labels=np.array(labels, dtype=int)[order],
                names=[classes[labels[index]] for index in order],
                image_size=size,
                mask_rles=[masks[index] for index in order],
            )
    return {"images": images, "annotations": annotations, "categories": categories}, found


def evaluator_of(annotations: dict[str, Any], found: dict[int, Detections], **options: Any) -> CocoEvaluator:
    evaluator = CocoEvaluator(annotations, **{"classes": CLASSES, **options})
    for image_id, detections in found.items():
        evaluator.update(image_id, detections)
    return evaluator


def official(annotations: Path, results: Path, kind: str, categories: list[int] | None = None) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(results)), kind)
        if categories is not None:
            evaluation.params.catIds = categories
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_pycocotools_says_the_same_of_the_same_files(seed: int, kind: str, tmp_path: Path) -> None:
    annotations, found = data(seed)
    (tmp_path / "truth.json").write_text(json.dumps(annotations))
    evaluator = evaluator_of(annotations, found)
    paths = {path.name: path for path in evaluator.save_results(tmp_path / "out")}
    theirs = official(tmp_path / "truth.json", paths[f"detections.{kind}.json"], kind)
    report = evaluator.report()
    ours = report.boxes if kind == "bbox" else report.masks
    assert ours is not None
    expected = {name: value if value >= 0 else None for name, value in zip(METRICS, theirs.stats, strict=True)}
    assert ours.metrics == {name: value if value is None else pytest.approx(value) for name, value in expected.items()}
    assert ours.metrics["AP"] is not None and 0.05 < ours.metrics["AP"] < 0.95
    # By category id: cat 3, yak 4, ant 7, dog 90.
    assert ours.classes == ("cat", "yak", "ant", "dog")
    np.testing.assert_allclose(ours.precision, theirs.eval["precision"][:, :, :, 0, -1])
    per_class = ours.per_class()
    assert set(per_class) == {"cat", "ant", "dog"}
    for name, place in (("cat", 0), ("ant", 2), ("dog", 3)):
        assert per_class[name] == pytest.approx(theirs.eval["precision"][:, :, place, 0, -1].mean())
        assert ours.per_class(0.5)[name] == pytest.approx(theirs.eval["precision"][0, :, place, 0, -1].mean())
    assert ours.curve(0.5).mean() == pytest.approx(theirs.stats[1])
    best = ours.best_f1()
    assert set(best) == set(per_class)
    for name, category in (("cat", 3), ("ant", 7), ("dog", 90)):
        points = operating_points(theirs, category)
        exact = max(f1 for *_, f1 in points)
        found_best = best[name]
        assert exact - 0.02 <= found_best["F1"] <= exact + 1e-9
        # It is a point of the curve, but that recall is rounded down, and the score is one from which on it is reached.
        near = [
            score
            for score, precision, recall, _ in points
            if abs(precision - found_best["precision"]) < 1e-9
            and 0 <= recall - found_best["recall"] + 1e-9 < 0.01 + 2e-9
        ]
        assert near and min(near) <= found_best["score"] <= max(score for score, *_ in points)
    assert ours.to_dict()["per_class"]["cat"] == {
        "AP": per_class["cat"],
        "AP50": ours.per_class(0.5)["cat"],
        "AP75": ours.per_class(0.75)["cat"],
        **best["cat"],
    }
    assert report.num_images == 8
    assert report.num_detections == sum(len(one) for one in found.values())


def operating_points(evaluation: COCOeval, category: int) -> list[tuple[float, float, float, float]]:
    """(score, precision, recall, F1) after each detection of a category, best first, from what pycocotools matched."""
    parameters = evaluation.params
    images = [
        one
        for one in evaluation.evalImgs
        if one is not None
        and one["category_id"] == category
        and one["aRng"] == parameters.areaRng[0]
        and one["maxDet"] == parameters.maxDets[-1]
    ]
    scores = np.concatenate([one["dtScores"] for one in images])
    matched = np.concatenate([one["dtMatches"][0] > 0 for one in images])
    counts = ~np.concatenate([one["dtIgnore"][0] for one in images]).astype(bool)
    objects = sum(int((np.asarray(one["gtIgnore"]) == 0).sum()) for one in images)
    order = np.argsort(-scores, kind="mergesort")
    order = order[counts[order]]
    right = np.cumsum(matched[order])
    precision, recall = right / np.arange(1, len(order) + 1), right / objects
    f1 = 2 * right / (np.arange(1, len(order) + 1) + objects)
    return list(zip(scores[order].tolist(), precision.tolist(), recall.tolist(), f1.tolist(), strict=True))


def test_only_the_classes_that_the_model_knows_are_measured(tmp_path: Path) -> None:
    annotations, found = data(0, classes=("cat", "gnu", "dog", "ant"))
    (tmp_path / "truth.json").write_text(json.dumps(annotations))
    evaluator = evaluator_of(annotations, found, classes=("cat", "gnu", "dog", "newt"))
    path = evaluator.save_results(tmp_path)[0]
    theirs = official(tmp_path / "truth.json", path, "bbox", categories=[3, 90])
    report = evaluator.report()
    assert report.classes == ("cat", "dog")
    assert report.boxes.metrics["AP"] == pytest.approx(theirs.stats[0])


def test_nothing_found_and_nothing_to_find() -> None:
    annotations, _ = data(0)
    report = evaluator_of(annotations, {}).report(skipped=["a.png is damaged"])
    assert report.boxes.metrics["AP"] == 0.0
    assert {tuple(one.values()) for one in report.boxes.best_f1().values()} == {(0.0, 0.0, 0.0, 0.0)}
    assert report.masks is not None
    assert report.skipped == ("a.png is damaged",)
    empty = {**annotations, "annotations": []}
    report = evaluator_of(empty, data(0)[1]).report()
    assert set(report.boxes.metrics.values()) == {None}
    assert report.boxes.per_class() == report.boxes.best_f1() == {}
    assert report.boxes.curve(0.5).tolist() == [0.0] * 101


def test_without_masks_boxes_are_measured() -> None:
    annotations, found = data(0)
    for annotation in annotations["annotations"]:
        del annotation["segmentation"], annotation["iscrowd"], annotation["area"]
    report = evaluator_of(annotations, found).report()
    assert report.masks is None
    assert report.boxes.metrics["AP"] is not None
    assert report.to_dict()["masks"] is None


def test_an_annotation_with_the_id_0_counts_as_any_other() -> None:
    annotations, found = data(0)
    expected = evaluator_of(annotations, found).report().boxes.metrics
    for annotation in annotations["annotations"]:
        annotation["id"] -= 1
    before = json.dumps(annotations)
    assert evaluator_of(annotations, found).report().boxes.metrics == expected
    assert json.dumps(annotations) == before


def test_the_report_is_saved_as_json(tmp_path: Path) -> None:
    report = evaluator_of(*data(1)).report()
    path = report.save(tmp_path / "new" / "folder")
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert saved == report.to_dict()
    assert list(saved["boxes"])[:12] == list(METRICS)
    assert list(saved["masks"]["precision_at_recall"]) == [str(iou) for iou in IOU_THRESHOLDS]


def test_what_does_not_fit_together_is_an_error() -> None:
    annotations, found = data(0)
    with pytest.raises(EvaluationError, match="none of the annotations' categories"):
        CocoEvaluator(annotations, classes=["gnu"])
    with pytest.raises(EvaluationError, match="two classes have the name 'cat'"):
        CocoEvaluator(annotations, classes=["cat", "cat"])
    evaluator = CocoEvaluator(annotations, classes=CLASSES)
    with pytest.raises(EvaluationError, match="image 5 is not among"):
        evaluator.update(5, found[100])
    with pytest.raises(EvaluationError, match=r"99\.png has \d+ x \d+ pixels"):
        evaluator.update(99, found[100])
    evaluator.update(100, found[100])
    with pytest.raises(EvaluationError, match="100 came before"):
        evaluator.update(100, found[100])


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("images", "id"),
        ("categories", "id"),
        ("categories", "name"),
        ("annotations", "image_id"),
        ("annotations", "category_id"),
        ("annotations", "bbox"),
    ],
)
@pytest.mark.parametrize("what", ["absent", "null", "part"])
def test_what_is_missing_to_measure_by_is_named(part: str, key: str, what: str) -> None:
    annotations, _ = data(0)
    entry = annotations[part][2]
    if what == "part":
        del annotations[part]
    elif what == "null":
        entry[key] = None
    else:
        del entry[key]
    missing = f"no {part!r}" if what == "part" else f"number 2 of the {part} .*no {key!r}"
    with pytest.raises(EvaluationError, match=missing):
        CocoEvaluator(annotations, classes=CLASSES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": []}, r"annotation 3 of image \d+ has the bbox \[\]; give x, y, width and height"),
        ({"bbox": [1, 2, 3, 4, 5]}, r"annotation 3 of .* has the bbox \[1, 2, 3, 4, 5\]"),
        ({"image_id": 5}, "annotation 3 of image 5: there is no such image"),
    ],
)
def test_an_annotation_that_cannot_be_measured_by_is_named(change: dict[str, Any], message: str) -> None:
    annotations, _ = data(0)
    annotations["annotations"][2] |= change
    with pytest.raises(EvaluationError, match=message):
        CocoEvaluator(annotations, classes=CLASSES)


@pytest.mark.parametrize("shape", [None, [], [[]], [[1, 2, 3, 4]], [[], [1, 2]]])
def test_masks_are_measured_only_where_every_annotation_has_one(shape: object) -> None:
    annotations, found = data(0)
    assert evaluator_of(annotations, found).report().masks is not None
    annotations["annotations"][2]["segmentation"] = shape
    report = evaluator_of(annotations, found).report()
    assert report.masks is None and report.boxes.metrics["AP"] is not None


@pytest.mark.parametrize("label", [-1, 4, 99])
def test_results_that_are_none_are_named(label: int) -> None:
    annotations, found = data(0)
    image_id = next(number for number, one in found.items() if len(one) > 1)
    evaluator = CocoEvaluator(annotations, classes=CLASSES)
    found[image_id].labels[1] = label
    with pytest.raises(
        EvaluationError, match=rf"results of image {image_id} have labels .*{label}.*there are 4 classes"
    ):
        evaluator.update(image_id, found[image_id])
    with pytest.raises(EvaluationError, match=rf"results of image {image_id} are a dict; give Detections"):
        evaluator.update(image_id, {"scores": [0.5], "labels": [1]})  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_class_meets_its_category_in_either_form_of_unicode(form: str) -> None:
    annotations, found = data(0)
    expected = evaluator_of(annotations, found).report().boxes.metrics
    for category in annotations["categories"]:
        category["name"] = unicodedata.normalize(form, f"{category['name']}\u00e9")
    report = evaluator_of(annotations, found, classes=[f"{name}\u00e9" for name in CLASSES]).report()
    assert report.boxes.metrics == expected
    with pytest.raises(EvaluationError, match="two classes have the name"):
        CocoEvaluator(annotations, classes=["cat\u00e9", "cate\u0301"])
