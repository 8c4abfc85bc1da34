"""Scenes as files: COCO's annotations, pictures, and label maps beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ...rle import encode_mask
from ..errors import DataError
from ..samples import DetectionSample

if TYPE_CHECKING:
    from .dataset import SceneDataset


@dataclass(frozen=True, kw_only=True)
class SceneFiles:
    """What `write_scenes` wrote.

    Attributes:
        images: the folder of pictures.
        annotations: COCO's file.
        labels: the folder of label maps.
        classes: the file of names and colours of the label maps' classes.
        num_objects: how many annotations there are.
    """

    images: Path
    annotations: Path
    labels: Path
    classes: Path
    num_objects: int


def coco_annotations(scenes: SceneDataset) -> dict[str, Any]:
    """Composes all scenes and describes them as a COCO annotations file does, with masks as run lengths."""
    document = _document(scenes)
    for index in range(len(scenes)):
        _describe(scenes[index], document)
    return document


def write_scenes(
    scenes: SceneDataset,
    folder: str | Path,
    split: str = "train",
    *,
    progress: Callable[[range], Iterable[int]] = iter,
) -> SceneFiles:
    """Writes a data set that can be trained on as a COCO folder and as image and label folders.

        folder/train/000000.png ...                 the pictures
        folder/annotations/instances_train.json     boxes and masks in COCO's format
        folder/labels/train/000000.png ...          label maps with palette; the ground is the last class
        folder/classes.txt                          "red green blue name" of each class of the label maps

    Args:
        scenes: what to write.
        folder: where to; made where it is missing. Splits of the same classes share it.
        split: the name of "train" above.
        progress: wraps the indices that are gone through, as progress bars do.

    Raises:
        DataError: one of them is there already (`classes.txt`: and differs). Then nothing is written.
    """
    paths = _paths(folder, split)
    check_free(folder, split)
    names = zip(scenes.semantic_palette, scenes.semantic_classes, strict=True)
    classes = "".join(f"{red} {green} {blue} {name}\n" for (red, green, blue), name in names)
    if paths["classes"].exists() and paths["classes"].read_text(encoding="utf-8") != classes:
        raise DataError(f"{paths['classes']} exists already and has other classes: choose another folder")

    for path in (paths["images"], paths["annotations"].parent, paths["labels"]):
        path.mkdir(parents=True, exist_ok=True)
    paths["classes"].write_text(classes, encoding="utf-8")
    colours = [value for colour in scenes.semantic_palette for value in colour]
    document = _document(scenes)
    for index in progress(range(len(scenes))):
        sample = scenes[index]
        assert sample.semantic is not None
        sample.image.save(paths["images"] / _file_name(index))
        labels = Image.fromarray(sample.semantic)
        labels.putpalette(colours)
        labels.save(paths["labels"] / _file_name(index))
        _describe(sample, document)
    paths["annotations"].write_text(json.dumps(document), encoding="utf-8")
    return SceneFiles(**paths, num_objects=len(document["annotations"]))


def check_free(folder: str | Path, split: str) -> None:
    """Raises a `DataError` where `write_scenes` would overwrite something."""
    for name, path in _paths(folder, split).items():
        if name != "classes" and path.exists():
            raise DataError(f"{path} exists already: choose another folder, or remove it first")


def _paths(folder: str | Path, split: str) -> dict[str, Path]:
    """Where `write_scenes` puts what."""
    root = Path(folder)
    return {
        "images": root / split,
        "annotations": root / "annotations" / f"instances_{split}.json",
        "labels": root / "labels" / split,
        "classes": root / "classes.txt",
    }


def _document(scenes: SceneDataset) -> dict[str, Any]:
    categories = [{"id": label + 1, "name": name, "supercategory": "item"} for label, name in enumerate(scenes.classes)]
    about = f"Scenes of Fashion-MNIST items (arXiv 1708.07747), seed {scenes.seed}"
    return {"info": {"description": about}, "images": [], "annotations": [], "categories": categories}


def _describe(sample: DetectionSample, document: dict[str, Any]) -> None:
    """Adds a scene to the annotations. Their ids count from 1: pycocotools takes 0 for "none"."""
    width, height = sample.image.size
    document["images"].append(
        {"id": sample.image_id, "file_name": _file_name(sample.image_id), "width": width, "height": height}
    )
    for box, label, mask in zip(sample.boxes_xyxy.tolist(), sample.labels.tolist(), sample.masks, strict=True):
        x0, y0, x1, y1 = box
        document["annotations"].append(
            {
                "id": len(document["annotations"]) + 1,
                "image_id": sample.image_id,
                "category_id": label + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": int(np.count_nonzero(mask)),
                "iscrowd": 0,
                "segmentation": {"size": [height, width], "counts": encode_mask(mask).decode("ascii")},
            }
        )


def _file_name(index: int) -> str:
    return f"{index:06d}.png"
