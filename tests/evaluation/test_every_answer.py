"""A panoptic model's three figures of one pass are those that each answer has by itself."""

from typing import Any

import numpy as np
import pytest

from swin_transformer_pytorch.evaluation.coco import CocoEvaluator
from swin_transformer_pytorch.evaluation.every_answer import EveryAnswerEvaluator
from swin_transformer_pytorch.evaluation.panoptic import PanopticEvaluator
from swin_transformer_pytorch.evaluation.report import EvaluationError
from swin_transformer_pytorch.evaluation.segmentation import SegmentationEvaluator
from swin_transformer_pytorch.results import Detections, PanopticSegmentation, Segment, SegmentationMap
from swin_transformer_pytorch.rle import encode_mask

CLASSES = ("car", "sky", "car", "road")  # the names of ADE20K have doubles
THINGS = (0, 2)
IDS = np.array([[1, 1, 2, 2, 0], [1, 3, 3, 2, 4], [5, 5, 5, 5, 4]])
LABELS = np.array([0, 1, 2, 0, 3])
CROWD = np.array([False, False, False, True, False])


def answers(shift: int) -> tuple[PanopticSegmentation, Detections, SegmentationMap]:
    """What is there, some columns further; all different from each other."""
    ids = np.roll(np.where(IDS == 4, 0, IDS), shift, axis=1)
    segments = tuple(
        Segment(id=number, label=label, score=0.9, area=int((ids == number).sum()), is_thing=label in THINGS)
        for number, label in ((1, 0), (2, 1), (3, 2), (5, 3))
    )
    masks = [IDS == 1, np.roll(IDS == 3, shift, axis=1), IDS == 4]
    boxes = []
    for mask in masks:
        rows, columns = np.nonzero(mask)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    found = Detections(
        boxes_xyxy=np.array(boxes, dtype=np.float32),
        scores=np.array([0.9, 0.8, 0.7], dtype=np.float32),
        labels=np.array([0, 2, 0]),
        names=("car", "car", "car"),
        image_size=(3, 5),
        mask_rles=tuple(encode_mask(mask) for mask in masks),
    )
    labels = np.array([1, *LABELS], dtype=np.uint8)[np.roll(IDS, shift, axis=0)]
    return (
        PanopticSegmentation(segment_ids=ids, segments=segments, names=CLASSES),
        found,
        SegmentationMap(labels=labels, names=CLASSES),
    )


def truth(image_id: int | str) -> dict[str, Any]:
    return {"image_id": image_id, "segment_ids": IDS, "labels": LABELS, "crowd": CROWD}


@pytest.mark.parametrize("ids", [(3, 7), ("bonn_1", "ulm_2")])
def test_each_answer_is_measured_as_by_itself(ids: tuple[int | str, ...]) -> None:
    evaluator = EveryAnswerEvaluator(CLASSES, THINGS)
    for image_id, shift in zip(ids, (0, 1), strict=True):
        evaluator.update(*answers(shift), **truth(image_id))
    report = evaluator.report(skipped=["one"])

    panoptic, semantic = PanopticEvaluator(CLASSES, THINGS), SegmentationEvaluator(4, CLASSES)
    names = ["car [0]", "sky", "car [2]", "road"]
    annotations = [
        {
            "image_id": image,
            "category_id": label,
            "bbox": box,
            "area": area,
            "iscrowd": crowd,
            "segmentation": {"size": [3, 5], "counts": encode_mask(place == IDS).decode()},
        }
        for image in (1, 2)
        for place, label, box, area, crowd in (
            (1, 10, [0, 0, 2, 2], 3, 0),
            (3, 20, [1, 1, 2, 1], 2, 0),
            (4, 10, [4, 1, 1, 2], 2, 1),
        )
    ]
    instance = CocoEvaluator(
        {
            "images": [{"id": image, "height": 3, "width": 5} for image in (1, 2)],
            "annotations": annotations,
            "categories": [{"id": 10, "name": "car [0]"}, {"id": 20, "name": "car [2]"}],
        },
        classes=names,
    )
    for image, shift in ((1, 0), (2, 1)):
        segments, objects, labels = answers(shift)
        panoptic.update(segments, IDS, LABELS, CROWD)
        instance.update(image, objects)
        semantic.update(labels.labels, np.where(IDS == 0, 255, np.array([0, *LABELS])[IDS]))
    assert report.panoptic.to_dict() == {**panoptic.report().to_dict(), "skipped": ["one"]}
    assert report.instance is not None and report.instance.to_dict() == instance.report().to_dict()
    assert report.semantic.to_dict() == semantic.report().to_dict()
    assert (report.num_images, report.skipped) == (2, ("one",))
    assert 0 < report.panoptic.all.pq < 1 and 0 < report.semantic.miou < 1
    assert report.instance.masks is not None and 0 < (report.instance.masks.metrics["AP"] or 0) < 1


def test_what_is_there_is_found_by_each_measure() -> None:
    evaluator = EveryAnswerEvaluator(CLASSES, THINGS)
    segments, _, _ = answers(0)
    masks = [place == IDS for place in (1, 3)]
    objects = Detections(
        boxes_xyxy=np.array([[0, 0, 2, 2], [1, 1, 3, 2]], dtype=np.float32),
        scores=np.array([0.5, 0.6], dtype=np.float32),
        labels=np.array([0, 2]),
        names=("car", "car"),
        image_size=(3, 5),
        mask_rles=tuple(map(encode_mask, masks)),
    )
    labels = SegmentationMap(labels=np.array([3, *LABELS])[IDS].astype(np.uint8), names=CLASSES)
    evaluator.update(segments, objects, labels, **truth(1))
    report = evaluator.report()
    assert (report.panoptic.all.pq, report.semantic.miou, report.num_images) == (1, 1, 1)
    assert report.instance is not None and report.instance.num_objects == 2
    assert [scores.metrics["AP"] for scores in report.instance.by_kind.values()] == [pytest.approx(1)] * 2


def test_classes_may_be_all_stuff() -> None:
    evaluator = EveryAnswerEvaluator(CLASSES, ())
    evaluator.update(*answers(0), **truth(1))
    report = evaluator.report()
    assert report.instance is None and report.to_dict()["instance"] is None and evaluator.objects() is None
    assert report.panoptic.things is None and report.panoptic.all == report.panoptic.stuff


def test_pixels_that_are_all_void_measure_nothing() -> None:
    evaluator = EveryAnswerEvaluator(CLASSES, THINGS)
    evaluator.update(*answers(0), **(truth(1) | {"segment_ids": IDS * 0, "labels": [], "crowd": []}))
    with pytest.raises(EvaluationError, match="none of 1 images has a segment, known or predicted; the first problem"):
        evaluator.report(skipped=["a"])


def test_sizes_that_differ_are_told_before_anything_is_counted() -> None:
    evaluator = EveryAnswerEvaluator(CLASSES, THINGS)
    with pytest.raises(EvaluationError, match=r"\(3, 5\) pixels and the segments \(3, 4\)"):
        evaluator.update(*answers(0), **(truth(1) | {"segment_ids": IDS[:, :4]}))
    with pytest.raises(EvaluationError, match="none of 0 images"):
        evaluator.report()
