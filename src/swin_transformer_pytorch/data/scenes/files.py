"""Scenes as files: COCO's annotations, pictures, and label maps beside them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
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
    num_objects: int


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
    paths = _paths(folder, split)
    check_free(folder, split)
    names = zip(scenes.semantic_palette, scenes.semantic_classes, strict=True)
    classes = "".join(f"{red} {green} {blue} {name}\n" for (red, green, blue), name in names)
    if paths["classes"].exists() and paths["classes"].read_text(encoding="utf-8") != classes:
        raise DataError(f"{paths['classes']} exists already and has other classes: choose another folder")

    # What a kill leaves of these folders is replaced by the next call.
    images, labels = (paths[name].with_name(f".{paths[name].name}.partial") for name in ("images", "labels"))
    for path in (images, labels):
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    try:
        with naming(Path(folder)):
            document = _write_images(scenes, images, labels, progress)
        paths["annotations"].parent.mkdir(exist_ok=True)
        write_text(paths["classes"], classes)
        write_text(paths["annotations"], json.dumps(document))
        os.replace(labels, paths["labels"])
        os.replace(images, paths["images"])
    finally:
        for path in (images, labels):
            shutil.rmtree(path, ignore_errors=True)
    return SceneFiles(**paths, num_objects=len(document["annotations"]))


def _write_images(
    scenes: SceneDataset, images: Path, labels: Path, progress: Callable[[range], Iterable[int]]
) -> dict[str, Any]:
    """Writes pictures and label maps, and gives COCO's description of them."""
    colours = [value for colour in scenes.semantic_palette for value in colour]
    document = empty_document(scenes.classes, seed=scenes.seed)
    for index in progress(range(len(scenes))):
        sample = scenes[index]
        assert sample.semantic is not None
        sample.image.save(images / file_name(index))
        label_map = Image.fromarray(sample.semantic)
        label_map.putpalette(colours)
        label_map.save(labels / file_name(index))
        describe(sample, document)
    return document


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
