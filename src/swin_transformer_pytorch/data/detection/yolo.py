"""YOLO's text files: a line "class x y width height" or "class x y x y x y ..." an object, in shares of the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ..documents import read_lines, read_yaml
from ..errors import DataError, ImageError
from ..held_out import PART_NAMES
from ..images.band_headers import input_size
from ..images.files import find_inputs
from .folders import CocoFolder, Parts
from .records import Records

_YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NAME_FILES = ("classes.txt", "obj.names", "_darknet.labels", "train/_darknet.labels")
_OTHER_TEXTS = (*_NAME_FILES, "train.txt", "val.txt", "test.txt", "README.dataset.txt", "README.roboflow.txt")
_UNREAD = (640, 640)  # (height, width) for an image that cannot be read, which is named when it is used
_SLACK = 0.01  # how far rounding may lead out of [0, 1]
_WHAT = "a YOLO label file of lines 'class x y width height' or 'class x y x y x y ...'"


def yolo_parts(root: Path) -> Parts:
    """The parts of a YOLO data set: those that data.yaml names, as Ultralytics and Roboflow write it, or folders of
    images with text files beside class names in classes.txt (Label Studio), obj.names (CVAT) or _darknet.labels.

    Labels lie in a folder "labels" where the images lie in one "images", or beside them. The path of data.yaml's
    entries is often that of another machine, so the longest end of it that is there counts.
    """
    has_points = False
    if config := _config(root):
        file, content = config
        names, has_points = _names(content["names"], file), "kpt_shape" in content
        given = _entries(content) or _labelled(root)
    else:
        found = next((root / name for name in _NAME_FILES if (root / name).is_file()), None)
        if found is None or not (given := _labelled(root)):
            return {}
        file, names = found, tuple(read_lines(found, "a file of class names, one a line"))
    return {
        part: CocoFolder(
            images_folder=root,
            annotations_file=file,
            read=partial(_read, root=root, places=places, names=names, has_points=has_points),
        )
        for part, places in given.items()
        if part != "test" or any(_resolved(root, place) for place in places)
    }


def _entries(content: dict[str, Any]) -> dict[str, list[str]]:
    """The folders, or lists of images, that data.yaml names for each part."""
    found: dict[str, list[str]] = {}
    for part, names in PART_NAMES.items():
        entry = next((content[name] for name in names if content.get(name)), None)
        places = [entry] if isinstance(entry, str) else entry if isinstance(entry, list) else []
        if places:
            found[part] = [f"{content.get('path') or '.'}/{place}" for place in places]
    return found


def _config(root: Path) -> tuple[Path, dict[str, Any]] | None:
    """data.yaml, or the one other YAML file that has names of classes, and what it holds."""
    named = [root / name for name in _YAML if (root / name).is_file()]
    found = {}
    for path in named or sorted([*root.glob("*.yaml"), *root.glob("*.yml")]):
        content = read_yaml(path, "YOLO's data.yaml") if named or path.stat().st_size < 1 << 20 else None
        if isinstance(content, dict) and "names" in content:
            found[path] = content
    if len(found) > 1:
        listed = ", ".join(path.name for path in found)
        raise DataError(f"{root} has several YAML files with names of classes: {listed}; call the right one data.yaml")
    return next(iter(found.items()), None)


def _names(names: Any, path: Path) -> tuple[str, ...]:
    if isinstance(names, dict) and sorted(map(str, names)) == sorted(map(str, range(len(names)))):
        names = [names[index] if index in names else names[str(index)] for index in range(len(names))]
    wrong = names if not isinstance(names, list) else [one for one in names if type(one) not in (str, int, float)]
    if wrong or not names:
        raise DataError(
            f"{path}: names={names!r:.80} are no class names: write a list of texts, or {{0: name, 1: name, ...}}; "
            "quote words such as 'no' that YAML takes for something else"
        )
    return tuple(map(str, names))


def _labelled(root: Path) -> dict[str, list[str]]:
    """The folder of each part whose images have label files."""
    wanted = {
        part: [pattern.format(name) for name in names for pattern in ("images/{}", "{}/images", "{}", "obj_{}_data")]
        for part, names in PART_NAMES.items()
    }
    found = {part: [place for place in places if _has_labels(root, place)][:1] for part, places in wanted.items()}
    if not found["train"] and not found["val"]:
        found["all"] = [place for place in ("images", ".") if _has_labels(root, place)][:1]
    return {part: places for part, places in found.items() if places}


def _has_labels(root: Path, place: str) -> bool:
    folder = root / place
    texts = (path for path in _label_folder(folder, root).rglob("*.txt") if path.name not in _NAME_FILES)
    return folder.is_dir() and any(_looks_like(path) for path in list(texts)[:20])


def _looks_like(path: Path) -> bool:
    line = path.read_bytes()[:200].split(b"\n")[0].split() if path.is_file() else []
    return len(line) >= 5 and all(part.lstrip(b"-").replace(b".", b"", 1).isdigit() for part in line[:5])


def _label_folder(folder: Path, root: Path) -> Path:
    """Where the label files of a folder of images are: the last "images" on its path becomes "labels"."""
    parts = list(folder.relative_to(root).parts) if folder.is_relative_to(root) else list(folder.parts)
    if "images" not in parts:
        return folder
    place = len(parts) - 1 - parts[::-1].index("images")
    other = root.joinpath(*parts[:place], "labels", *parts[place + 1 :])
    return other if other.is_dir() else folder


def _resolved(root: Path, place: str) -> Path | None:
    """The longest end of a path that is there below the root, else the path itself if that is there."""
    place = place.replace("\\", "/")
    parts = [part for part in place.split("/") if part not in ("", ".", "..")]
    ends = [root.joinpath(*parts[start:]) for start in range(len(parts))] or [root]
    return next((path for path in (*ends, root / place) if path.exists()), None)


def _images(root: Path, places: Sequence[str], file: Path) -> Iterator[Path]:
    for place in places:
        path = _resolved(root, place)
        if path is None:
            raise DataError(f"{file} names {place}, which is not in {root}; correct it")
        if path.is_dir():
            yield from map(Path, find_inputs(path))
            continue
        for line in read_lines(path, "a list of images, one a line"):
            image = _resolved(root, line)
            yield image if image is not None else root / line


def _read(
    file: Path, *, root: Path, places: Sequence[str], names: Sequence[str], has_points: bool = False
) -> dict[str, Any]:
    records = Records(file, names)
    labels: dict[Path, set[str]] = {}
    for path in dict.fromkeys(_images(root, places, file)):
        folder = _label_folder(path.parent, root)
        labels.setdefault(folder, set()).add(path.stem)
        try:
            size = input_size(path)
        except ImageError:
            size = _UNREAD
        # A path with ".." is what `CocoDataset` refuses unless it is allowed.
        inside = path.is_relative_to(root)
        records.add_image(path.relative_to(root).as_posix() if inside else path.absolute().as_posix(), size)
        text = folder / f"{path.stem}.txt"
        if not text.is_file():
            records.notes["images without a label file are taken as images without objects"] += 1
            continue
        for number, line in enumerate(read_lines(text, _WHAT), start=1):
            where = f"{text} line {number}"
            with records.naming(where):
                _add(records, line.split(), size, where, has_points)
    for folder, stems in labels.items():
        texts = {one.stem for one in folder.glob("*.txt") if one.name not in (*places, *_OTHER_TEXTS)}
        records.notes["label files without an image passed over"] += len(texts - stems)
    return records.document()


def _add(records: Records, words: list[str], size: tuple[int, int], where: str, has_points: bool) -> None:
    height, width = size
    assert records.names is not None, "YOLO's labels are indices of names"
    label = float(words[0])
    if not label.is_integer() or not 0 <= label < len(records.names):
        raise ValueError(f"its class is {words[0]:.40}, and {records.source.name} has {len(records.names)}, from 0")
    numbers = [float(word) for word in words[1:]]
    if has_points:
        records.notes["objects with key points: their boxes count"] += 1
        numbers = numbers[:4]
    if len(numbers) < 4 or (len(numbers) != 4 and (len(numbers) < 6 or len(numbers) % 2)):
        raise ValueError(f"it has {len(numbers)} numbers after the class; a box has 4, a polygon x and y of 3 or more")
    if not all(-_SLACK <= number <= 1 + _SLACK for number in numbers):
        raise ValueError("it has numbers beyond [0, 1]; YOLO's are shares of the image's width and height")
    name = records.names[int(label)]
    if len(numbers) > 4:
        points = [(x * width, y * height) for x, y in zip(numbers[::2], numbers[1::2], strict=True)]
        records.add_object(name, where, polygons=[points])
        return
    x, y, w, h = numbers[0] * width, numbers[1] * height, numbers[2] * width, numbers[3] * height
    records.add_object(name, where, corners=(x - w / 2, y - h / 2, x + w / 2, y + h / 2))
