"""Files that say which labels each image has, as people and tools write them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...names import composed
from ..documents import head, holds_choices, is_tasks_csv, read_tasks, read_text
from ..errors import DataError, Findings, report, some
from ..held_out import PART_NAMES, part_name
from ..images.files import INPUT_SUFFIXES
from ..images.places import Images

_WHAT = "a CSV or JSON of images and their labels"
_FILE = ("file_name", "filename", "file", "image", "image_name", "image_path", "path")
_LABELS = ("labels", "tags", "classes", "label", "class")
_ONE = ("label", "class")  # of these a cell without a mark is one label, whatever spaces it has
_OTHERS = ("", "split", "id", "index", "image_id", "unnamed: 0")  # columns that are no class
_BITS = {"0": False, "0.0": False, "false": False, "1": True, "1.0": True, "true": True}


def find_label_files(root: Path, name: str | None = None) -> dict[str, Path]:
    """The files of labels in a folder, each with the part of the data that it is of, or "all".

    They are `_classes.csv` in train/, valid/ and test/ (Roboflow), or labels.csv, labels.json or a JSON or
    CSV of Label Studio's choices in the root, or the one called `name`.

    Raises:
        DataError: there are several.
    """
    if name is not None:
        return {"all": root / name}
    tables = {
        part: path
        for part, names in PART_NAMES.items()
        for one in names
        # That of label maps begins with "Pixel Value".
        if head(path := root / one / "_classes.csv").partition(",")[0].strip().lower() in _FILE
    }
    whole = [path for path in (root / "labels.csv", root / "labels.json") if path.is_file()]
    whole += [
        path
        for path in sorted((*root.glob("*.json"), *root.glob("*.csv")))
        if path not in whole and holds_choices(head(path))
    ]
    if len(found := [*whole, *list(tables.values())[:1]]) > 1:
        listed = ", ".join(str(path.relative_to(root)) for path in found)
        raise DataError(f"{root} has several files of labels: {listed}; say which with --data.labels {found[0].name}")
    return tables or ({"all": whole[0]} if whole else {})


class LabelTable(Findings):
    """The images that a file names, and their labels.

    A CSV has a column of file names, by its name or the first, and either columns of 0 and 1, one a class, or one of
    names parted by "|", ";", "," or spaces, the first of these that is in any (in a column called label or class a cell
    without a mark is one name); and maybe `split`, train, val or test. Columns called id or index are passed over.
    A JSON is {"a.jpg": ["cat", "dog"]}, a list of {"file_name": "a.jpg", "labels": [...]}, also with `split`, or what
    Label Studio exports of choices as JSON, JSON-MIN or CSV.

    Attributes:
        layout: what it is, in words.
        classes: in the order of the columns, else sorted.
        rows: an image's path -> its labels, and its part or "all".

    Raises:
        DataError: it cannot be read, or names images that are not there, or one twice with other labels.
    """

    def __init__(self, path: Path, root: Path) -> None:
        super().__init__(path)
        self.classes: tuple[str, ...] = ()
        self.rows: dict[Path, tuple[frozenset[str], str]] = {}
        self._images = Images(root)
        listed = path.suffix.lower() == ".json" or is_tasks_csv(head(path))
        self.layout = f"{path.name}, " + (self._read_list() if listed else self._read_csv())
        report(path, "rows", self.problems)
        if not self.rows:
            raise DataError(f"{path} names no images; write one a row, with its labels")
        self.classes = self.classes or tuple(sorted({name for names, _ in self.rows.values() for name in names}))
        if not self.classes:
            raise DataError(f"{path} gives none of its {len(self.rows):,} images a label; label some")
        if len(parts := {part for _, part in self.rows.values()}) > 1 and "all" in parts:
            raise DataError(f"{path} gives some of its images a split and others none; give one to all of them")
        if all(len(names) == 1 for names, _ in self.rows.values()):
            kind = "images, each with one label: a yes or no for every class is learnt; class folders exclude others"
            self.notes[kind] += len(self.rows)
        self.notes["images beside those that it names left out"] += self._images.unannotated()

    def _add(self, image: str | Mapping[str, Any], labels: Iterable[str], split: Any = None) -> None:
        part = "all" if split is None else part_name(str(split))
        if split is not None and part == "all":
            raise ValueError(f"its split is {split!r:.60}; use train, val or test")
        root = self._images.root
        if isinstance(image, str):
            found = self._images.find(image, root / str(split or ""))
        else:
            found = self._images.find_uploaded(image)
        if (path := root / found) not in self._images.used:
            raise ValueError(f"there is no image {found!r:.200} in {root}")
        row = frozenset(composed(name) for label in labels if (name := label.strip())), part
        if path in self.rows:
            if self.rows[path] != row:
                raise ValueError(f"{path} is there already, with other labels or another split; keep one row of it")
            self.notes["rows that are there twice passed over"] += 1
        self.rows[path] = row

    def _read_csv(self) -> str:
        text = read_text(self.source, _WHAT)
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        try:
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(row)]
        except csv.Error as error:
            raise DataError(f"{self.source} is no CSV that can be read ({error}); write it again") from error
        header = [composed(name) for name in lines[0][1]] if lines else []
        lower = [name.lower() for name in header]
        if any(Path(name).suffix in INPUT_SUFFIXES for name in lower) or not any(header):
            raise DataError(f"{self.source} names no columns in its first line; write 'file_name,labels' or the like")
        file = next(
            (index for index, name in enumerate(lower) if name in _FILE), lower.index(next(filter(None, lower)))
        )
        others = [index for index, name in enumerate(lower) if name not in _OTHERS and index != file]
        if twice := sorted({header[index] for index in others if header.count(header[index]) > 1}):
            raise DataError(f"{self.source} has several columns of one name: {some(twice)}; rename them")
        rows = {number: row for number, row in lines[1:] if len(row) == len(header)}
        odd = ((number, len(row)) for number, row in lines[1:] if number not in rows)
        self.problems += [
            f"line {number} has {count} columns, and the first one {len(header)}" for number, count in odd
        ]
        split = lower.index("split") if "split" in lower else None
        texts = [index for index in others if any(row[index].lower() not in _BITS for row in rows.values())]
        alone = texts[0] if texts and len(others) == 1 else None
        column = next((index for index in texts if lower[index] in _LABELS), alone)
        whole, mark = False, None
        if column is None:
            self.classes = tuple(header[index] for index in others)
            layout = f"{len(others)} columns of 0 and 1"
        else:
            self.notes[f"columns beside {header[column]!r} passed over"] += len(others) - 1
            mark = next((mark for mark in "|;," if any(mark in row[column] for row in rows.values())), None)
            whole = mark is None and lower[column] in _ONE
            layout = "a label each" if whole else f"labels parted by {mark!r}" if mark else "labels parted by spaces"
            spaced = 0 if mark or whole else sum(" " in row[column] for row in rows.values())
            self.notes["rows of several words, each taken for a label: part labels by ; where that is wrong"] += spaced
        for number, row in rows.items():
            with self.naming(f"line {number}"):
                if column is None:
                    labels = _of_bits(header, row, others)
                else:
                    labels = [row[column]] if whole else row[column].split(mark)
                self._add(row[file], labels, None if split is None else row[split])
        return layout

    def _read_list(self) -> str:
        document = read_tasks(self.source, _WHAT)
        if isinstance(document, dict):
            document = [{"file": name, "labels": labels} for name, labels in document.items()]
        if not isinstance(document, list):
            raise DataError(f'{self.source} is neither a list nor an object; write {{"a.jpg": ["cat", "dog"]}}')
        # Label Studio's JSON-MIN calls them as the project does, and leaves them out where nothing was chosen.
        tasks = [task for task in document if isinstance(task, dict)]
        chosen = next(
            (key for task in tasks for key, it in task.items() if isinstance(it, dict) and "choices" in it), "choice"
        )
        for number, task in enumerate(document):
            with self.naming(f"entry {number}"):
                if not isinstance(task, dict):
                    raise ValueError(f"{task!r:.60} is no object with an image and its labels")
                if "annotations" in task:
                    given = [one for one in task["annotations"] if not one.get("was_cancelled")]
                    if not given:
                        self.notes["tasks without an annotation left out"] += 1
                        continue
                    self.notes["further annotations of a task passed over: the first counts"] += len(given) - 1
                    self._add(
                        task["data"], [label for one in given[0]["result"] for label in one["value"].get("choices", ())]
                    )
                elif "annotation_id" in task or "annotator" in task:
                    self._add(task, _names(task.get(chosen, [])))
                else:
                    image = next((task[key] for key in _FILE if isinstance(task.get(key), str)), None)
                    labels = next((task[key] for key in _LABELS if key in task), None)
                    if image is None or labels is None:
                        lacks = f"no image ({', '.join(_FILE)})" if image is None else f"no {' or '.join(_LABELS)}"
                        raise ValueError(f"it has {lacks}")
                    self._add(image, _names(labels), task.get("split"))
        return "a list of labels an image"


def _of_bits(header: list[str], row: list[str], columns: list[int]) -> list[str]:
    for column in columns:
        if row[column].lower() not in _BITS:
            raise ValueError(f"{header[column]!r:.60} is {row[column]!r:.60}; use 0 or 1")
    return [header[column] for column in columns if _BITS[row[column].lower()]]


def _names(labels: Any) -> list[str]:
    names = labels["choices"] if isinstance(labels, dict) and "choices" in labels else labels
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"its labels are {labels!r:.60}; write a list of names")
    return names
