"""The demo's part on scenes: the shipped models measured on held-out ones, and pictures of what they find."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import nn

from ..data.scenes.dataset import SceneDataset, open_scenes
from ..data.scenes.panoptic import PanopticScenes
from ..data.segmentation.dataset import SceneLabelMaps
from ..evaluation.coco import CocoEvaluator, DetectionReport
from ..evaluation.panoptic import PanopticEvaluator, PanopticReport
from ..evaluation.report import percent
from ..evaluation.segmentation import SegmentationEvaluator, SegmentationReport
from ..models.registry import load_model
from ..predict import Predictor
from ..results import Detections, PanopticSegmentation, SegmentationMap
from ..visualize import detection_overlay, panoptic_overlay, picture_grid, segmentation_overlay
from ..whole import write_text

NUM_SCENES = 100
FILES = {
    "detections in scenes": "detections.png",
    "detections": "detections.jsonl",
    "segmented scenes": "segmentation.png",
    "segments of scenes": "panoptic.png",
    "scenes to try": "scenes",
}
_PICTURED = 12  # three full rows
_SAMPLES = 5
_SHOWN_SCORE = 0.5


def measure_detector(model: nn.Module, scenes: SceneDataset) -> tuple[DetectionReport, list[Detections]]:
    """COCO's numbers on those scenes, and what was found in each."""
    found = Predictor(model)([scene.image for scene in _items(scenes)])
    evaluator = CocoEvaluator(scenes.coco(), classes=scenes.classes)
    for image_id, detections in zip(scenes.image_ids, found, strict=True):
        evaluator.update(image_id, detections)
    return evaluator.report(), found


def measure_segmenter(model: nn.Module, scenes: SceneDataset) -> tuple[SegmentationReport, list[SegmentationMap]]:
    """mIoU and the like on those scenes, and each one's label map."""
    samples = _items(SceneLabelMaps(scenes))
    maps = Predictor(model)([sample.image for sample in samples])
    evaluator = SegmentationEvaluator(len(scenes.semantic_classes), scenes.semantic_classes)
    for sample, result in zip(samples, maps, strict=True):
        evaluator.update(result.labels, sample.labels)
    return evaluator.report(), maps


def measure_panoptic(model: nn.Module, scenes: SceneDataset) -> tuple[PanopticReport, list[PanopticSegmentation]]:
    """Panoptic quality on those scenes, and each one's segments."""
    samples = PanopticScenes(scenes)
    found = Predictor(model)([scene.image for scene in _items(scenes)])
    evaluator = PanopticEvaluator(samples.classes, samples.things)
    for sample, result in zip(_items(samples), found, strict=True):
        evaluator.update(result, sample.segment_ids, sample.labels)
    return evaluator.report(), found


def show_shipped_detector(output: Path, *, console: Console) -> DetectionReport:
    """Measures the shipped detector on held-out scenes, and writes its detections, a picture and scenes to try."""
    scenes = open_scenes("scenes_sample", "val", num_scenes=NUM_SCENES)
    report, found = measure_detector(load_model("scenes_detection"), scenes)
    masks = report.masks.metrics["AP"] if report.masks is not None else None
    console.print(f"   box AP {percent(report.boxes.metrics['AP'])}, mask AP {percent(masks)} (COCO's measure)")

    shown = [detection_overlay(scenes[i].picture, found[i].above(_SHOWN_SCORE)) for i in range(_PICTURED)]
    picture_grid(shown, output / FILES["detections in scenes"], columns=4)
    records = [{"scene": number, **one.to_dict()} for number, one in zip(scenes.image_ids, found, strict=True)]
    write_text(output / FILES["detections"], "".join(json.dumps(record) + "\n" for record in records))
    folder = output / FILES["scenes to try"]
    folder.mkdir(exist_ok=True)
    for index in range(_SAMPLES):
        scenes[index].picture.save(folder / f"scene_{index}.png")
    return report


def show_shipped_segmenter(output: Path, *, console: Console) -> SegmentationReport:
    """Measures the shipped segmenter on the same scenes, and writes a picture."""
    scenes = open_scenes("scenes_sample", "val", num_scenes=NUM_SCENES)
    report, maps = measure_segmenter(load_model("scenes_segmentation"), scenes)
    console.print(f"   mIoU {report.miou:.1%}, pixels right {report.aacc:.1%}")
    shown = [segmentation_overlay(scenes[i].picture, maps[i]) for i in range(_PICTURED)]
    picture_grid(shown, output / FILES["segmented scenes"], columns=4)
    return report


def show_shipped_panoptic(output: Path, *, console: Console) -> PanopticReport:
    """Measures the shipped panoptic model on the same scenes, and writes a picture."""
    scenes = open_scenes("scenes_sample", "val", num_scenes=NUM_SCENES)
    report, found = measure_panoptic(load_model("scenes_panoptic"), scenes)
    parts = [f"{name} {part.pq:.1%}" for name, part in (("things", report.things), ("stuff", report.stuff)) if part]
    console.print(f"   PQ {report.all.pq:.1%} ({', '.join(parts)}), SQ {report.all.sq:.1%}, RQ {report.all.rq:.1%}")
    shown = [panoptic_overlay(scenes[i].picture, found[i]) for i in range(_PICTURED)]
    picture_grid(shown, output / FILES["segments of scenes"], columns=4)
    return report


def _items(samples: Any) -> list[Any]:
    return [samples[index] for index in range(len(samples))]
