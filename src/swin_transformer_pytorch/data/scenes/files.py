"""Scenes as files: pictures, COCO's annotations of objects and of segments, and label maps beside them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from ...results.panoptic import ids_as_colours
from ...whole import naming, write_text
from ..errors import DataError
from .coco import describe, describe_segments, empty_document, empty_panoptic_document, file_name
from .dataset import SceneDataset
from .panoptic import with_segments


@dataclass(frozen=True, kw_only=True)
class SceneFiles:
    """What `write_scenes` wrote.

    Attributes:
        images: the folder of pictures.
        annotations: COCO's file of objects.
        panoptic: COCO's file of segments; their PNGs are in a folder of its name beside it.
        labels: the folder of label maps.
        classes: the file of names and colours of the label maps' classes.
        num_objects: how many annotations there are.
    """

    images: Path
    annotations: Path
    panoptic: Path
    labels: Path
    classes: Path
    num_objects: int = 0

    @property
    def segments(self) -> Path:
        """The folder of PNGs of segments."""
        return self.panoptic.with_suffix("")


def write_scenes(
    scenes: SceneDataset,
    folder: str | Path,
    split: str = "train",
    *,
    progress: Callable[[range], Iterable[int]] = iter,
) -> SceneFiles:
    """Writes a data set that can be trained on as a COCO folder, of objects or of segments, and as image and label
    folders.

        folder/train/000000.png ...                 the pictures
        folder/annotations/instances_train.json     boxes and masks in COCO's format
        folder/annotations/panoptic_train.json      segments in COCO's panoptic format; the ground is stuff
        folder/annotations/panoptic_train/000000.png ...    their ids as colours
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
    whole = (files.images, files.labels, files.segments)
    partial = [path.with_name(f".{path.name}.partial") for path in whole]
    images, labels, segments = partial
    for path in partial:
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
    try:
        with naming(Path(folder)):
            document, panoptic = _write_images(scenes, images, labels, segments, progress)
        write_text(files.classes, classes)
        write_text(files.annotations, json.dumps(document))
        write_text(files.panoptic, json.dumps(panoptic))
        for old, new in reversed([*zip(partial, whole, strict=True)]):
            os.replace(old, new)
    finally:
        for path in partial:
            shutil.rmtree(path, ignore_errors=True)
    return replace(files, num_objects=len(document["annotations"]))


def _write_images(
    scenes: SceneDataset, images: Path, labels: Path, segments: Path, progress: Callable[[range], Iterable[int]]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Writes pictures, label maps and PNGs of segments, and gives COCO's description of objects and of segments."""
    colours = [value for colour in scenes.semantic_palette for value in colour]
    document = empty_document(scenes.classes, seed=scenes.seed)
    panoptic = empty_panoptic_document(scenes.semantic_classes, scenes.semantic_palette, seed=scenes.seed)
    for index in progress(range(len(scenes))):
        sample = scenes[index]
        assert sample.semantic is not None
        sample.picture.save(images / file_name(index))
        label_map = Image.fromarray(sample.semantic)
        label_map.putpalette(colours)
        label_map.save(labels / file_name(index))
        describe(sample, document)
        parts = with_segments(sample, ground=len(scenes.classes))
        Image.fromarray(ids_as_colours(parts.segment_ids)).save(segments / file_name(index))
        describe_segments(parts, panoptic)
    return document, panoptic


def check_free(folder: str | Path, split: str) -> None:
    """Raises a `DataError` where `write_scenes` would overwrite something."""
    files = _places(folder, split)
    for path in (files.images, files.annotations, files.panoptic, files.segments, files.labels):
        if path.exists():
            raise DataError(f"{path} exists already: choose another folder, or remove it first")


def _places(folder: str | Path, split: str) -> SceneFiles:
    root = Path(folder)
    return SceneFiles(
        images=root / split,
        annotations=root / "annotations" / f"instances_{split}.json",
        panoptic=root / "annotations" / f"panoptic_{split}.json",
        labels=root / "labels" / split,
        classes=root / "classes.txt",
    )
