"""Scenes as files: COCO's annotations, pictures, and label maps beside them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ...whole import naming, write_text
from ..errors import DataError
from .coco import describe, empty_document, file_name
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
    num_objects: int = 0


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

    The pictures come into place when all are written, so that a kill or a full disk leaves no half data set.

    Args:
        scenes: what to write.
        folder: where to; made where it is missing. Splits of the same classes share it.
        split: the name of "train" above.
        progress: wraps the indices that are gone through, as progress bars do.

    Raises:
        DataError: one of them is there already (`classes.txt`: and differs). Then nothing is written.
    """
    check_free(folder, split)
    files = _places(folder, split)
    names = zip(scenes.semantic_palette, scenes.semantic_classes, strict=True)
    classes = "".join(f"{red} {green} {blue} {name}\n" for (red, green, blue), name in names)
    if files.classes.exists() and files.classes.read_text(encoding="utf-8") != classes:
        raise DataError(f"{files.classes} exists already and has other classes: choose another folder")

    # What a kill leaves of these folders is replaced by the next call.
    images, labels = (path.with_name(f".{path.name}.partial") for path in (files.images, files.labels))
    for path in (images, labels):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    try:
        with naming(Path(folder)):
            document = _write_images(scenes, images, labels, progress)
        files.annotations.parent.mkdir(exist_ok=True)
        write_text(files.classes, classes)
        write_text(files.annotations, json.dumps(document))
        os.replace(labels, files.labels)
        os.replace(images, files.images)
    finally:
        for path in (images, labels):
            shutil.rmtree(path, ignore_errors=True)
    return replace(files, num_objects=len(document["annotations"]))


def _write_images(
    scenes: SceneDataset, images: Path, labels: Path, progress: Callable[[range], Iterable[int]]
) -> dict[str, Any]:
    """Writes pictures and label maps, and gives COCO's description of them."""
    colours = [value for colour in scenes.semantic_palette for value in colour]
    document = empty_document(scenes.classes, seed=scenes.seed)
    for index in progress(range(len(scenes))):
        sample = scenes[index]
        assert sample.semantic is not None
        sample.picture.save(images / file_name(index))
        label_map = Image.fromarray(sample.semantic)
        label_map.putpalette(colours)
        label_map.save(labels / file_name(index))
        describe(sample, document)
    return document


def check_free(folder: str | Path, split: str) -> None:
    """Raises a `DataError` where `write_scenes` would overwrite something."""
    files = _places(folder, split)
    for path in (files.images, files.annotations, files.labels):
        if path.exists():
            raise DataError(f"{path} exists already: choose another folder, or remove it first")


def _places(folder: str | Path, split: str) -> SceneFiles:
    root = Path(folder)
    annotations = root / "annotations" / f"instances_{split}.json"
    return SceneFiles(
        images=root / split, annotations=annotations, labels=root / "labels" / split, classes=root / "classes.txt"
    )
