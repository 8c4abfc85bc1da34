"""Where the images and label maps of a data set of segmentation lie in a person's folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from ..errors import DataError, NothingFoundError
from ..held_out import PART_NAMES, Split

KnownLayout = Literal["voc", "cityscapes"]
DrawnKind = Literal["coco", "labelme", "label_studio", "cvat"]

CLASS_FILES = ("classes.txt", "classes.json", "_classes.csv", "labelmap.txt", "class_names.txt")

_LABELS = ("labels", "annotations", "masks")
_MASKS_BESIDE = ("*_mask.png", "*_masks.png", "*_label.png", "*_labels.png", "*_seg.png")


def layout_of(kind: str) -> KnownLayout | Literal["folder"] | None:
    """What `find_segmentation` is asked for by a source's kind: ADE20K's folders have no layout of their own."""
    return cast(Any, {"folder": None, "ade20k": "folder"}.get(kind, kind))


@dataclass(frozen=True, kw_only=True)
class SegmentationLayout:
    """One part, training or validation, of a data set of segmentation.

    Attributes:
        images: the folder of its images.
        labels: the folder of its label maps.
        classes_file: names, and maybe colours, of the classes; None where there is no such file.
        ade20k: whether these are ADE20K's own folders, with its classes and its rule for labels.
        hold_out: whether the folders hold both parts, of which a share is set apart for validation.
        known: whether they are a known data set's, of which classes and labels are known as well.
        listed: names of the images, without their endings, where a list says which these are.
        suffixes: what the names of images, and those of label maps, have at the end that the others have not.
    """

    images: Path
    labels: Path
    classes_file: Path | None
    ade20k: bool = False
    hold_out: bool = False
    known: KnownLayout | None = None
    listed: frozenset[str] | None = None
    suffixes: tuple[str, str | None] = ("", None)


def find_segmentation(
    root: str | os.PathLike[str], split: Split, known: KnownLayout | Literal["folder"] | None = None
) -> SegmentationLayout:
    """Looks for one part of a data set of segmentation in the layouts that are in use, the first that is there:

        root/images/train/     with root/labels/train/
        root/train/images/     with root/train/labels/
        root/train/            with root/labels/train/ (what `swin scenes` writes)
        root/images/           with root/labels/, both parts in one
        root/train/, root/     with label maps beside the images, such as 1.jpg and 1_mask.png (Roboflow)

    Instead of "labels" the folder may be called "annotations" or "masks", instead of "train" "training", and the
    validation part "val", "valid" or "validation", and that for tests "test" or "testing". Where there is none for
    validation, a share of the training images is set apart.
    ADE20K's own images/training/ with annotations/training/ is one of these; where the root has no classes file, it is
    taken for ADE20K. Classes are looked for in a file of `CLASS_FILES` in the root.

    Known by their folders are Pascal VOC (JPEGImages/, SegmentationClass/ and the lists in ImageSets/Segmentation/,
    which CVAT writes as well) and Cityscapes (leftImg8bit/ and gtFine/).

    Args:
        root: the folder.
        split: which part.
        known: which of these it is, or "folder" for none of them; None to look.

    Raises:
        DataError: there is no such pair of folders; the message lists what was looked for. Or it could be several.
    """
    if split not in PART_NAMES:
        raise ValueError(f"split={split!r} is not known: use 'train', 'val' or 'test'")
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root} is not a folder; give the one that holds images and label maps")
    classes_file = next((root / name for name in CLASS_FILES if (root / name).is_file()), None)
    there = {
        "voc": any((root / name).is_dir() for name in _VOC_LABELS),
        "cityscapes": (root / "leftImg8bit").is_dir() and (root / "gtFine").is_dir(),
        "folder": any(next(_present(root, pairs), None) for pairs in (_pairs("train"), _pairs("val"), _flat())),
    }
    could = [name for name, holds in there.items() if holds]
    if known is None and len(could) > 1:
        raise DataError(
            f"{root} can be read in several ways: {', '.join(could)}; say which with --data.kind {could[0]}, or name "
            "the folders with --data.train_images, --data.train_labels and so on"
        )
    kind = known or (could[0] if could else "folder")
    if kind != "folder":
        return _voc(root, split, classes_file) if kind == "voc" else _cityscapes(root, split)
    parts = {name: next(_present(root, _pairs(name)), None) for name in PART_NAMES}
    found = parts[split]
    hold_out = parts["val"] is None and split != "test"
    if found is None and split != "test":  # for which nothing stands in
        others = parts["train" if split == "val" else "val"]
        found = next(_present(root, _flat()), None) if others is None else others if split == "val" else None
    if found is None:
        raise NothingFoundError(
            f"{root} has no images with label maps for {split!r}{_outlines(root)}; looked for\n  {_tried(split)}"
        )
    images, labels = found
    ade20k = (images.split("/")[0], labels.split("/")[0]) == ("images", "annotations") and classes_file is None
    return SegmentationLayout(
        images=root / images,
        labels=root / labels,
        classes_file=classes_file,
        ade20k=ade20k and images.endswith(("/training", "/validation")),
        hold_out=hold_out,
    )


def holds_label_maps(folder: Path) -> bool:
    """Whether there are PNGs in it, but for COCO's of segments, whose folder has a JSON of its name beside it."""
    pngs = folder.rglob("*.[pP][nN][gG]")
    return any(not path.parent.with_name(f"{path.parent.name}.json").is_file() for path in pngs)


def _pairs(split: str) -> list[tuple[str, str]]:
    """Folders of images and of labels for a part, relative to the root."""
    patterns = (
        ("images/{split}", "{labels}/{split}"),
        ("{split}/images", "{split}/{labels}"),
        ("{split}", "{labels}/{split}"),
        ("{split}", "{split}"),
    )
    return [
        (images.format(split=name), labels.format(split=name, labels=folder))
        for images, labels in patterns
        for name in PART_NAMES[split]
        for folder in _LABELS
    ]


def _flat() -> list[tuple[str, str]]:
    return [*(("images", labels) for labels in _LABELS), ("images", "images"), (".", ".")]


def _tried(split: Split) -> str:
    """What is looked for, a line a layout, in the names that come first."""
    others = {*_LABELS[1:], *PART_NAMES[split][1:]}
    pairs = [*_pairs(split), *(_flat() if split != "test" else ())]
    lines = [
        f"{images}/ with label maps beside the images, such as 1.jpg and 1_mask.png"
        if images == labels
        else f"{images}/ with {labels}/"
        for images, labels in pairs
        if others.isdisjoint(f"{images}/{labels}".split("/"))
    ]
    known = f"JPEGImages/ with {_VOC_LABELS[-1]}/ (Pascal VOC), leftImg8bit/ with gtFine/ (Cityscapes)"
    names = f"(or {', '.join(_LABELS[1:])} for labels; {', '.join(PART_NAMES[split][1:])} for {split})"
    return "\n  ".join([*dict.fromkeys(lines), known, names])


def _outlines(root: Path) -> str:
    """What to do with a folder of objects' annotations; empty where there are none."""
    from ..detection.layouts import find_parts  # it loads what reads images

    for kind in get_args(DrawnKind):
        with suppress(DataError):
            find_parts(root, kind)
            return f", but annotations of objects: --data.kind {kind} draws their outlines"
    return ""


def _present(root: Path, pairs: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for images, labels in pairs:
        if (root / images).is_dir() and (root / labels).is_dir():
            if images != labels or any(any((root / labels).glob(pattern)) for pattern in _MASKS_BESIDE):
                yield images, labels


_VOC_LISTS = "ImageSets/Segmentation"
_VOC_LABELS = ("SegmentationClassPNG", "SegmentationClass")  # the former is labelme's, whose latter holds arrays


def _voc(root: Path, split: Split, classes_file: Path | None) -> SegmentationLayout:
    images = next((root / name for name in ("JPEGImages", "images") if (root / name).is_dir()), root / "JPEGImages")
    labels = next((root / name for name in _VOC_LABELS if (root / name).is_dir()), root / _VOC_LABELS[-1])
    lists = {path.stem.lower(): path for path in sorted((root / _VOC_LISTS).glob("*.txt"))}
    parts = {part: next((lists[name] for name in names if name in lists), None) for part, names in PART_NAMES.items()}
    whole = parts["train"] or lists.get("trainval") or next(iter(lists.values()), None)
    if split == "test" and parts["test"] is None:
        raise NothingFoundError(
            f"{root} has no list of images for 'test': write their names into {_VOC_LISTS}/test.txt"
        )
    chosen = parts[split] or (whole if parts["val"] is None or split == "train" else None)
    listed = None if chosen is None else frozenset(line.split()[0] for line in _lines(chosen))
    return SegmentationLayout(
        images=images,
        labels=labels,
        classes_file=classes_file,
        hold_out=parts["val"] is None and split != "test",
        known="voc" if classes_file is None else None,
        # Only some of its images have label maps.
        listed=listed if listed is not None else frozenset(path.stem for path in labels.glob("*.png")),
    )


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}); write the images' names there, one a line") from error


def _cityscapes(root: Path, split: Split) -> SegmentationLayout:
    labels = root / "gtFine" / split
    if not labels.is_dir():
        error = NothingFoundError if split == "test" else DataError
        raise error(f"{root} has no gtFine/{split}/ as Cityscapes has; unpack gtFine_trainvaltest.zip there")
    of_training = any(labels.rglob("*_gtFine_labelTrainIds.png"))
    return SegmentationLayout(
        images=root / "leftImg8bit" / split,
        labels=labels,
        classes_file=None,
        known="cityscapes",
        suffixes=("_leftImg8bit", "_gtFine_labelTrainIds" if of_training else "_gtFine_labelIds"),
    )
