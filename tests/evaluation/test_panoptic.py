"""Panoptic quality against scalar code that follows panopticapi's rules one by one."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from swin_transformer_pytorch.evaluation.panoptic import PanopticEvaluator
from swin_transformer_pytorch.evaluation.report import EvaluationError
from swin_transformer_pytorch.results import PanopticSegmentation, Segment

CLASSES = ("person", "car", "sky", "sea", "sand")
THINGS = (0, 1)

Case = tuple[PanopticSegmentation, NDArray[np.int32], NDArray[np.int64], NDArray[np.bool_]]


def prediction(ids: NDArray[Any], labels: dict[int, int]) -> PanopticSegmentation:
    areas = Counter(ids.ravel().tolist())
    return PanopticSegmentation(
        segment_ids=ids,
        segments=tuple(
            Segment(id=number, label=label, score=0.5, area=areas[number], is_thing=label in THINGS)
            for number, label in labels.items()
        ),
        names=CLASSES,
    )


def case(rng: np.random.Generator) -> Case:
    """Blocks of segments, void and crowds; the prediction is the truth, some of it moved, lost, found or renamed."""
    size = tuple(rng.integers(4, 14, 2))
    rows, columns = (np.sort(rng.integers(0, rng.integers(1, 5), side)) for side in size)
    blocks = rows[:, None] * 10 + columns
    count = int(rng.integers(1, 9))
    truth = rng.integers(0, count + 1, 100)[blocks]
    crowd_rate, keep = rng.choice([0.0, 0.2, 0.6]), rng.choice([0.3, 0.8, 0.95])
    guess = np.where(rng.random(size) < keep, truth, rng.integers(0, count + 1, size))
    there = [number for number in range(1, count + 1) if (truth == number).any()]
    renumbered = np.zeros(count + 1, dtype=np.int32)
    renumbered[there] = np.arange(1, len(there) + 1)
    labels = rng.integers(0, rng.integers(2, 6), len(there))
    crowd = (rng.random(len(there)) < crowd_rate) & np.isin(labels, THINGS)
    found = [number for number in range(1, count + 1) if (guess == number).any()]
    of = {number: int(label) for number, label in zip(there, labels, strict=True)}
    names = {
        number * 1000: of[number] if number in of and rng.random() < 0.85 else int(rng.integers(0, 5))
        for number in rng.permutation(found)
    }
    return prediction(guess * 1000, names), renumbered[truth], labels, crowd


def counted(cases: list[Case]) -> dict[int, list[float]]:
    """Class -> the sum of IoUs, and TP, FP and FN, pixel by pixel."""
    stats: dict[int, list[float]] = {label: [0.0, 0, 0, 0] for label in range(len(CLASSES))}
    for found, segment_ids, labels, crowd in cases:
        pairs = Counter(zip(segment_ids.ravel().tolist(), found.segment_ids.ravel().tolist(), strict=True))
        areas = Counter(segment_ids.ravel().tolist())
        matched_truth, matched_found = set(), set()
        for (there, seen), shared in pairs.items():
            if there == 0 or seen == 0 or crowd[there - 1]:
                continue
            (of_seen,) = (one for one in found.segments if one.id == seen)
            if labels[there - 1] != of_seen.label:
                continue
            iou = shared / (areas[there] + of_seen.area - shared - pairs.get((0, seen), 0))
            if iou > 0.5:
                stats[of_seen.label][0] += iou
                stats[of_seen.label][1] += 1
                matched_truth.add(there)
                matched_found.add(seen)
        crowd_of: dict[int, int] = {}
        for place, label in enumerate(labels.tolist()):
            if crowd[place]:
                crowd_of[label] = place + 1
            elif place + 1 not in matched_truth:
                stats[label][3] += 1
        for one in found.segments:
            if one.id in matched_found:
                continue
            ignored = pairs.get((0, one.id), 0)
            if one.label in crowd_of:
                ignored += pairs.get((crowd_of[one.label], one.id), 0)
            if ignored / one.area <= 0.5:
                stats[one.label][2] += 1
    return stats


def evaluated(cases: list[Case]) -> PanopticEvaluator:
    evaluator = PanopticEvaluator(CLASSES, THINGS)
    for one in cases:
        evaluator.update(*one)
    return evaluator


def test_each_of_200_images_is_counted_as_by_scalar_code() -> None:
    rng = np.random.default_rng(0)
    seen = Counter[str]()
    for _ in range(200):
        one = case(rng)
        evaluator, expected = evaluated([one]), counted([one])
        for label, (iou, *counts) in expected.items():
            assert evaluator.counts[label].tolist() == counts
            assert evaluator.iou[label] == pytest.approx(iou)
            for name, count in zip(("TP", "FP", "FN"), counts, strict=True):
                seen[name] += count
        seen["crowds"] += one[3].sum()
        seen["void"] += (one[1] == 0).any()
        unmatched = len(one[0].segments) - evaluator.counts[:, :2].sum()
        seen["passed over"] += unmatched
    assert min(seen[name] for name in ("TP", "FP", "FN", "crowds", "void", "passed over")) >= 30


def test_the_figures_are_means_over_classes() -> None:
    rng = np.random.default_rng(1)
    cases = [case(rng) for _ in range(30)]
    report, expected = evaluated(cases).report(skipped=["a.png is damaged"]), counted(cases)
    rows = {}
    for label, (iou, matched, in_vain, missed) in expected.items():
        if matched + in_vain + missed:
            wrong = (in_vain + missed) / 2
            rows[label] = iou / (matched + wrong), iou / matched if matched else 0.0, matched / (matched + wrong)
    for which, labels in (("all", range(5)), ("things", THINGS), ("stuff", (2, 3, 4))):
        known = [rows[label] for label in labels if label in rows]
        means = [sum(row[place] for row in known) / len(known) for place in range(3)]
        found = getattr(report, which)
        assert (found.pq, found.sq, found.rq, found.num_classes) == (*map(pytest.approx, means), len(known))
    for label, row in rows.items():
        of_class = report.per_class[CLASSES[label]]
        assert [of_class[name] for name in ("PQ", "SQ", "RQ")] == [*map(pytest.approx, row)]
        assert of_class["PQ"] == pytest.approx(of_class["SQ"] * of_class["RQ"])
    assert (report.num_images, report.skipped) == (30, ("a.png is damaged",))


def test_processes_counts_are_merged() -> None:
    rng = np.random.default_rng(2)
    cases = [case(rng) for _ in range(9)]
    whole, first, second = evaluated(cases), evaluated(cases[:4]), evaluated(cases[4:])
    first.merge(second)
    np.testing.assert_array_equal(first.counts, whole.counts)
    np.testing.assert_allclose(first.iou, whole.iou)
    assert first.num_images == 9
    assert first.report().all.pq == pytest.approx(whole.report().all.pq)
    with pytest.raises(EvaluationError, match="different classes"):
        first.merge(PanopticEvaluator(CLASSES, (0,)))


def one_row(truth: list[int], found: list[int], labels: list[int], names: dict[int, int], crowd: Any = None) -> Any:
    evaluator = PanopticEvaluator(CLASSES, THINGS)
    evaluator.update(prediction(np.array([found]), names), np.array([truth]), labels, crowd)
    return evaluator.counts.tolist(), evaluator.iou.tolist()


def test_an_iou_of_a_half_is_no_match() -> None:
    counts, _ = one_row([1, 1, 1, 0], [5, 5, 5, 5], [0], {5: 0})
    assert counts[0] == [1, 0, 0]
    counts, _ = one_row([1, 1, 2, 2], [5, 5, 5, 5], [0, 1], {5: 0})
    assert counts[:2] == [[0, 1, 1], [0, 0, 1]]


def test_a_predictions_void_counts_and_the_datas_does_not() -> None:
    """40 of 100 pixels found and the rest of none is no match: what a prediction leaves out is missed."""
    counts, _ = one_row([1] * 100, [5] * 40 + [0] * 60, [2], {5: 2})
    assert counts[2] == [0, 1, 1]
    counts, iou = one_row([1] * 60 + [0] * 40, [5] * 100, [2], {5: 2})
    assert counts[2] == [1, 0, 0] and iou[2] == 1


def test_what_lies_on_void_or_a_crowd_of_its_class_is_not_in_vain() -> None:
    truth = [0, 0, 1, 1, 1, 1, 2, 2]
    assert one_row(truth, [0, 0, 5, 5, 5, 0, 0, 0], [0, 2], {5: 0}, [True, False])[0][0] == [0, 0, 0]
    assert one_row(truth, [0, 0, 5, 5, 5, 0, 0, 0], [0, 2], {5: 1}, [True, False])[0][1] == [0, 1, 0]
    assert one_row(truth, [5, 5, 0, 0, 0, 5, 0, 0], [0, 2], {5: 1}, [True, False])[0][1] == [0, 0, 0]
    assert one_row(truth, [5, 5, 5, 0, 0, 5, 5, 5], [0, 2], {5: 0}, [True, False])[0][0] == [0, 0, 0]
    assert one_row(truth, [5, 5, 0, 0, 0, 0, 5, 5], [0, 2], {5: 0}, [True, False])[0][0] == [0, 1, 0]


def test_classes_neither_there_nor_predicted_are_left_out() -> None:
    evaluator = PanopticEvaluator(["sky", "screen", "screen"], [1])
    evaluator.update(prediction(np.array([[3, 0]]), {3: 0}), np.array([[1, 0]]), [0])
    report = evaluator.report()
    assert report.per_class == {
        "sky": {"PQ": 1.0, "SQ": 1.0, "RQ": 1.0, "TP": 1, "FP": 0, "FN": 0},
        "screen [1]": None,
        "screen [2]": None,
    }
    assert report.things is None and report.stuff == report.all and report.all.num_classes == 1


def test_the_report_is_saved_as_json(tmp_path: Path) -> None:
    report = evaluated([case(np.random.default_rng(3))]).report()
    path = report.save(tmp_path / "new")
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert saved == report.to_dict() and saved["all"]["PQ"] == report.all.pq


def test_what_does_not_fit_together_is_an_error() -> None:
    evaluator = PanopticEvaluator(CLASSES, THINGS)
    found = prediction(np.array([[3, 0]]), {3: 4})
    ids = np.array([[1, 0]])
    with pytest.raises(EvaluationError, match="own size"):
        evaluator.update(found, np.array([[1]]), [0])
    with pytest.raises(EvaluationError, match="segments go from 5 to 5 and there are 5 classes"):
        evaluator.update(found, ids, [5])
    with pytest.raises(EvaluationError, match="prediction go from 4 to 4"):
        PanopticEvaluator(CLASSES[:4], THINGS).update(found, ids, [0])
    with pytest.raises(EvaluationError, match="1 crowd marks for 2 segments"):
        evaluator.update(found, np.array([[1, 2]]), [0, 1], [True])
    with pytest.raises(EvaluationError, match=r"1 segments, \[2\] the first, and there are 1 labels"):
        evaluator.update(found, np.array([[2, 0]]), [0])
    with pytest.raises(EvaluationError, match="there are 2 labels"):
        evaluator.update(found, ids, [0, 1])
    with pytest.raises(EvaluationError, match=r"things=\[5\]"):
        PanopticEvaluator(CLASSES, (0, 5))
    with pytest.raises(EvaluationError, match=r"none of 0 images has a segment.*: a\.png"):
        evaluator.report(skipped=["a.png is damaged"])
    evaluator.update(prediction(np.array([[0, 0]]), {}), ids * 0, [])
    with pytest.raises(EvaluationError, match="none of 1 images has a segment"):
        evaluator.report()
