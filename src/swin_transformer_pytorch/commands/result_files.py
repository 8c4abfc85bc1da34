"""What `swin predict` makes of a detector's rows when all are whole: COCO's file of results, YOLO's label files."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ..addresses import is_address
from ..checks import some
from ..names import by_name
from ..results import Detections
from ..whole import replacing
from . import terminal
from .errors import UsageError


def read_rows(file: str | Path) -> Iterator[tuple[str, Detections]]:
    """The images that could be used, and what was found in each, a row at a time."""
    with open(file, encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if "error" not in row:
                yield row["path"], Detections.from_dict(row)


class CocoResults:
    """Writes a COCO file of results.

    Args:
        target: the file.
        annotations: the file of the data set that the images are of, whose ids are taken: images meet it by the end of
            their paths, classes by their names. None for ids of file names, and category ids that count from 1.

    Raises:
        DataError: there is no such file of annotations.
    """

    def __init__(self, target: str | Path, annotations: str | Path | None) -> None:
        self.target = Path(target)
        self._categories: Mapping[str, int] | None = None
        self._images: dict[str, int] = {}
        if annotations is not None:
            from ..data.detection.annotations import read_annotations

            document = read_annotations(annotations)
            self._categories = {str(one["name"]): one["id"] for one in document["categories"]}
            self._images = {str(one["file_name"]): one["id"] for one in document["images"]}

    def write(self, rows: Iterator[tuple[str, Detections]]) -> None:
        """Writes all rows, and says what was left out, and what ids are."""
        taken: dict[int | str, str] = {}
        left: dict[str, Counter[str]] = {"images": Counter(), "objects of classes": Counter(), "namesakes": Counter()}
        find = None if self._categories is None else by_name(self._categories)
        self.target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.target) as temporary, temporary.open("w", encoding="utf-8") as file:
            between = "["
            for path, found in rows:
                image_id = self._image_id(path)
                if image_id is None:
                    left["images"][path] += 1
                    continue
                if taken.setdefault(image_id, path) != path:
                    left["namesakes"][path] += 1
                    image_id = path
                if find is not None:
                    known = [find(name) is not None for name in found.names]
                    left["objects of classes"].update(
                        name for name, it in zip(found.names, known, strict=True) if not it
                    )
                    found = found[known]
                for record in found.to_coco(image_id, self._categories):
                    file.write(between + json.dumps(record))
                    between = ",\n "
            file.write("]\n" if between != "[" else "[]\n")
        notes = terminal.notes()
        notes.print(f"COCO's results: {self.target}")
        if self._categories is None:
            ids = (
                "image ids are file names without endings, numbers where they are some, category ids class indices + 1"
            )
            notes.print(f"  {ids}; --annotations FILE takes a data set's")
        for what, fix in (
            ("images", "left out, for the annotations do not name them"),
            ("objects of classes", "left out, for which the annotations have no category"),
            ("namesakes", "have other images' names, so that their ids are their paths"),
        ):
            if count := left[what].total():
                notes.print(f"  {count:,} {what} {fix}: {terminal.printable(some([*left[what]], 5))}")

    def _image_id(self, path: str) -> int | str | None:
        if self._categories is None:
            stem = Path(file_name(path)).stem
            return int(stem) if stem.isdecimal() else stem
        parts = path.replace("\\", "/").split("/")
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        return next((self._images[end] for end in ends if end in self._images), None)


def check_free(folder: str | Path) -> None:
    """Refuses a folder for YOLO's files that holds something, which could be mixed with them."""
    path = Path(folder)
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UsageError(f"--yolo {folder} is there and not an empty folder; remove it, or choose another")


def write_yolo(
    file: str | Path, folder: str | Path, classes: Sequence[str], least_score: float, *, outlines: bool
) -> None:
    """Writes a folder "labels" like that of the images, data.yaml and classes.txt, and puts all in place at once."""
    target = Path(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        places = _label_places([path for path, _ in read_rows(file)])
        for path, found in read_rows(file):
            place = scratch / "labels" / places[path]
            place.parent.mkdir(parents=True, exist_ok=True)
            lines = found.above(least_score).to_yolo(outlines=outlines)
            place.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        names = json.dumps(list(classes), ensure_ascii=False)  # which is YAML as well
        (scratch / "data.yaml").write_text(f"train: images\nval: images\nnames: {names}\n", encoding="utf-8")
        (scratch / "classes.txt").write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
        scratch.chmod(0o755)
        os.replace(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    notes = terminal.notes()
    notes.print(f"YOLO's labels of {len(places):,} images, of objects from a score of {least_score:g}: {target}")
    if twins := [path for path, place in places.items() if place.stem != Path(file_name(path)).stem]:
        notes.print(
            f"  {len(twins):,} images have others' names, so that their labels have their endings too: {some(twins, 5)}"
        )


def _label_places(paths: Sequence[str]) -> dict[str, Path]:
    """Each image's label file, below the folder of labels as the image is below the one that holds all."""
    files = [os.path.abspath(path) for path in paths if not is_address(path)]
    root = os.path.commonpath([os.path.dirname(file) for file in files]) if files else ""
    places: dict[Path, str] = {}
    for path in paths:
        inside = Path(file_name(path) if is_address(path) else os.path.relpath(os.path.abspath(path), root))
        place = inside.with_suffix(".txt")
        places[place if place not in places else inside.with_name(f"{inside.name}.txt")] = path
    return {path: place for place, path in places.items()}


def file_name(path: str) -> str:
    """The last part of a path, or of an address without what is asked of it."""
    return Path(urlsplit(path).path if is_address(path) else path).name or "image"
