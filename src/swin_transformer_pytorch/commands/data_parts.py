"""What `swin data` finds out: which tasks a folder serves, and what each part of it holds."""

from __future__ import annotations

import argparse
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from ..data.choice import require_two_classes
from ..data.classification.dataset import Label
from ..data.classification.files import LabelledFiles
from ..data.classification.folder import ImageFolder, split_folder
from ..data.classification.multi_label import MultiLabelImages, has_label_file
from ..data.classification.shards import ShardImages
from ..data.detection.layouts import find_parts
from ..data.detection.source import FOLDER_KINDS, DetectionSource
from ..data.errors import DataError, ImageError, NothingFoundError
from ..data.held_out import PART_NAMES, Split
from ..data.images.band_headers import find_bands
from ..data.images.bands import likely_white_level
from ..data.images.pixels import as_picture, height_width
from ..data.panoptic.layouts import PanopticLayout, recognised
from ..data.panoptic.source import PanopticSource
from ..data.samples import image_of
from ..data.segmentation.drawn import DrawnLabelMaps
from ..data.segmentation.folders import find_segmentation, holds_label_maps, layout_of
from ..data.segmentation.source import DRAWN_KINDS, SegmentationKind, SegmentationSource
from ..data.shards.places import has_shards
from ..labels import IGNORED
from ..models.config import Task
from ..results import SegmentationMap
from ..visualize import detection_overlay, panoptic_overlay, segmentation_overlay
from .data_look import MOST_SEGMENTS, Look, Part
from .data_shards import look_at_shards, same_in_shards

if TYPE_CHECKING:
    from PIL import Image

_TINY = 8  # pixels: below it, the official models have less than a quarter of a cell for it
_SHOWN = 8  # samples of a task in a picture
_LOOKED_AT, _FIRST = 1000, 5  # images whose headers, of a part whose values, tell of all


def look(root: str, data: argparse.Namespace, task: Task | None) -> list[Look]:
    """What a folder is for each task that it serves, nothing read yet.

    Raises:
        DataError: it is for none, or could have several layouts, or is broken.
    """
    if data.kind == "shards" or (data.kind == "folder" and has_shards(root)):
        return [look_at_shards(root, data, task)]
    if not Path(root).is_dir():
        raise DataError(f"{root} is not a folder; give the one that holds your images")
    kinds: dict[Task, tuple[str, ...]] = {
        "detection": FOLDER_KINDS,
        "segmentation": get_args(SegmentationKind),
        "panoptic": ("folder", *get_args(PanopticLayout)),
    }
    wanted = [task] if task is not None else [one for one in kinds if data.kind in kinds[one]]
    found: list[Look] = []
    for one in wanted if task != "classification" else ():
        try:
            found.append(_dense(one, root, data, asked=task is not None))
        except NothingFoundError:
            if task is not None:
                raise
    # Images beside their annotations are in folders, too, which are no classes.
    if task == "classification" or (not found and task is None and data.kind in ("folder", "multi_label")):
        try:
            found.append(_classification(root, data))
        except DataError as error:
            # What is broken was found, unlike what is not there.
            if task is not None or has_label_file(root, say=False):
                raise
            raise DataError(
                f"{error}. Nor does {root} hold annotations of objects that are known, or images with label PNGs"
            ) from error
    if not found:
        raise DataError(f"{root} is no data set of --data.kind {data.kind}")
    return found


def _dense(task: Task, root: str, data: argparse.Namespace, *, asked: bool) -> Look:
    if task == "detection":
        return _detection(root, data)
    return _panoptic(root, data) if task == "panoptic" else _segmentation(root, data, asked=asked)


def _panoptic(root: str, data: argparse.Namespace) -> Look:
    layout = recognised(root) if data.kind == "folder" else data.kind
    source = PanopticSource(
        kind=layout, root=root, choice=data.classes, label_suffix=data.label_suffix, val_fraction=0, channels=None
    )
    splits: tuple[Split, ...] = ("train", "val", "test")
    parts: dict[str, Part] = {}
    for split in splits:
        with suppress(NothingFoundError):
            whole = source.folder(split).hold_out
            if not (whole and split == "val"):
                samples = source.open(split)
                parts["all" if whole else split] = Part(samples=samples)
                source = replace(source, things=tuple(samples.classes[label] for label in samples.things))
    if not parts:
        raise NothingFoundError(f"{root} has no images with segments; see `swin train --help` for the layouts")
    names = {"coco": "COCO's panoptic format", "instance_maps": "label and instance PNGs"}
    return _looked("panoptic", names[layout], "segments", parts)


def _detection(root: str, data: argparse.Namespace) -> Look:
    layout, parts = find_parts(root, None if data.kind == "folder" else data.kind)
    source = DetectionSource(
        kind="folder",
        root=root,
        choice=data.classes,
        box_masks=True,
        allow_outside=data.allow_outside,
        channels=None,
    )
    opened: dict[str, Any] = {name: replace(source, train=part).open("train") for name, part in parts.items()}
    made = {name: Part(samples=one) for name, one in opened.items()}
    return _looked("detection", layout, "objects", made)


def _segmentation(root: str, data: argparse.Namespace, *, asked: bool) -> Look:
    if data.kind in DRAWN_KINDS:
        name, folders = find_parts(root, data.kind)
        source = DetectionSource(allow_outside=data.allow_outside, channels=None)
        sources = {part: replace(source, train=one) for part, one in folders.items()}
        drawn = {part: Part(samples=DrawnLabelMaps(one, "train", choice=data.classes)) for part, one in sources.items()}
        return _looked("segmentation", f"{name}, outlines drawn", "pixels", drawn)
    maps = SegmentationSource(
        kind=data.kind,
        root=root,
        choice=data.classes,
        label_suffix=data.label_suffix,
        val_fraction=0,
        channels=None,
    )
    layout = find_segmentation(root, "train", layout_of(data.kind))
    if not asked and not holds_label_maps(layout.labels):
        raise NothingFoundError(f"{layout.labels} holds no label PNGs")
    opened: dict[str, Any] = {"all" if layout.hold_out else "train": maps.open("train")}
    opened |= {} if layout.hold_out else {"val": maps.open("val")}
    with suppress(NothingFoundError):
        opened["test"] = maps.open("test")
    parts = {name: Part(samples=one) for name, one in opened.items()}
    known = layout.known or ("ade20k" if layout.ade20k else "folder")
    return _looked("segmentation", known, "pixels", parts)


def _classification(root: str, data: argparse.Namespace) -> Look:
    if data.kind == "multi_label" or data.labels is not None or has_label_file(root):
        return _multi_label(root, data)
    require_two_classes(data.classes)
    train = ImageFolder(root, "train", val_fraction=0, channels=None, choice=data.classes)
    apart = {Path(path).relative_to(root).parts[0] for path in train.paths} == {"train"}
    opened: dict[str, LabelledFiles] = {}
    if apart:
        if split_folder(Path(root), PART_NAMES["val"]):
            opened["val"] = ImageFolder(root, "val", val_fraction=0, channels=None, choice=data.classes)
        with suppress(NothingFoundError):
            opened["test"] = ImageFolder(root, "test", channels=None, choice=data.classes)
    parts = {"train" if "val" in opened else "all": train} | opened
    made = {name: Part(samples=part) for name, part in parts.items()}
    return _looked("classification", "a folder a class", "images", made)


def _multi_label(root: str, data: argparse.Namespace) -> Look:
    def opened(split: Split) -> MultiLabelImages:
        return MultiLabelImages(root, split, labels=data.labels, val_fraction=0, channels=None, choice=data.classes)

    train = opened("train")
    parts = {"all" if train.held_out else "train": Part(samples=train)}
    parts |= {name: Part(samples=opened(name)) for name in ("val", "test") if name in train.part_names}
    return _looked("classification", f"several labels an image: {train.layout}", "labels", parts)


def _looked(task: Task, layout: str, unit: str, parts: Mapping[str, Part]) -> Look:
    """The layout says what channels images have that are neither grey nor coloured files."""
    paths = [path for part in parts.values() for path in part.samples.paths]
    step = max(1, len(paths) // _LOOKED_AT)
    found = Counter(bands for path in paths[::step] if (bands := find_bands(path)) is not None)
    counts = [f"{channels} channels {how}" for channels, how in sorted(found)]
    of = f", images of {' and of '.join(counts)}" if counts else ""
    if len({channels for channels, _ in found}) > 1:
        of += ", of which training takes one number: --model.in_channels"
    return Look(task=task, layout=f"{layout}{of}", unit=unit, parts=parts)


def read_part(part: Part, task: Task, most: int) -> Iterator[int]:
    """Reads as many images of a part, drawn always the same, and counts what they hold; yields after each."""
    for index in sorted(_any_order(part.samples, seed=0)[:most]):
        part.read += 1
        try:
            sample = part.samples[index]
        except ImageError as error:
            part.problems.append(str(error))
        else:
            _count(part, task, sample)
        yield index


def _any_order(samples: Any, *, seed: int) -> list[int]:
    """Always the same; of shards in a store as they come, which fetches few of them."""
    count = len(samples)
    if getattr(samples, "ahead", None) is not None:
        return [*range(count)]
    return np.random.default_rng(seed).permutation(count).tolist()


def _count(part: Part, task: Task, sample: Any) -> None:
    part.sizes.append(height_width(image_of(sample)))
    classes = part.samples.classes
    if task == "classification":
        part.counts.update(labels := _named(sample[1], classes))
        part.empty += bool(classes) and not labels
    elif task == "detection":
        part.counts.update(classes[label] for label in sample.labels)
        part.empty += len(sample) == 0
        sides = sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2]
        part.tiny += int((sides.min(axis=1, initial=np.inf) < _TINY).sum())
    elif task == "panoptic":
        part.counts.update(classes[label] for label in sample.labels[~sample.crowd])
        part.empty += len(sample) == 0
        part.crowds += int(sample.crowd.sum())
        part.many += len(sample) > MOST_SEGMENTS
        part.ignored += int((sample.segment_ids == 0).sum())
    else:
        pixels = np.bincount(sample.labels.ravel(), minlength=IGNORED + 1)
        part.counts.update({name: int(count) for name, count in zip(classes, pixels, strict=False) if count})
        part.ignored += int(pixels[IGNORED])
        part.empty += not pixels[:IGNORED].any()


def _named(label: Label, classes: Sequence[str]) -> list[str]:
    if not classes:
        return []
    return [classes[index] for index in ([label] if isinstance(label, int) else np.flatnonzero(label).tolist())]


def twice(parts: Mapping[str, Part]) -> list[tuple[Path, Path]]:
    """Image files of different parts that have the same content."""
    if shards := [part.samples for part in parts.values() if isinstance(part.samples, ShardImages)]:
        return same_in_shards([(one, np.full(len(one), number)) for number, one in enumerate(shards)])
    return _same_content((name, Path(path)) for name, part in parts.items() for path in part.samples.paths)


def same_in_classes(one: Look) -> list[tuple[Path, Path]]:
    """Of a folder a class: image files of a part that have the same content, and different classes."""
    found: list[tuple[Path, Path]] = []
    for part in one.parts.values():
        if isinstance(part.samples, ShardImages):
            found += same_in_shards([(part.samples, part.samples.labels)])
        elif one.task == "classification" and (labels := np.asarray(part.samples.labels)).ndim == 1:
            found += _same_content(zip(labels.tolist(), map(Path, part.samples.paths), strict=True))
    return found


def _same_content(files: Iterable[tuple[Any, Path]]) -> list[tuple[Path, Path]]:
    """Pairs of files in different groups that have the same content; each comes with its group."""
    by_size: dict[int, list[tuple[Any, Path]]] = {}
    for group, path in files:
        by_size.setdefault(path.stat().st_size, []).append((group, path))
    pairs: list[tuple[Path, Path]] = []
    for alike in by_size.values():
        first: dict[bytes, tuple[Any, Path]] = {}
        for group, path in alike if len({group for group, _ in alike}) > 1 else ():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").digest()
            other, seen = first.setdefault(content, (group, path))
            if other != group:
                pairs.append((seen, path))
    return pairs


def likely_white(one: Look) -> int | None:
    """The usual value of white that no value of 16-bit images exceeds, by the first of each part; None for others."""
    found = [likely_white_level(part.samples.paths[:_FIRST]) for part in one.parts.values()]
    return max((white for white in found if white is not None), default=None)


def take_white(one: Look, white: int | None) -> None:
    """Has images be read with that value as white."""
    for part in one.parts.values():
        part.samples.white_level = white


def samples_drawn(one: Look) -> Iterator[tuple[str, Image.Image]]:
    """Some images of a part with what their annotations say drawn on them, and a title each."""
    samples = next(iter(one.parts.values())).samples
    drawn = 0
    for index in _any_order(samples, seed=1):
        try:
            sample = samples[index]
        except ImageError:
            continue  # it has been named
        if one.task == "classification":
            yield ", ".join(_named(sample[1], samples.classes)) or "no label", as_picture(sample[0])
        elif one.task == "segmentation":
            labels = SegmentationMap(labels=sample.labels, names=samples.classes, palette=samples.palette)
            yield sample.name, segmentation_overlay(sample.picture, labels)
        elif one.task == "panoptic":
            segments = sample.segmentation(samples.classes, samples.things, samples.palette)
            yield Path(samples.paths[index]).name, panoptic_overlay(sample.picture, segments)
        else:
            yield (
                samples.paths[index].name,
                detection_overlay(sample.picture, sample.detections(samples.classes), scores=False),
            )
        drawn += 1
        if drawn == _SHOWN:
            return
