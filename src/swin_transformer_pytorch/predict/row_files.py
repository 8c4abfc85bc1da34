"""Files of rows: JSON lines as `swin predict --output` writes them, and Parquet with the same columns."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import extras
from ..models.config import Task
from ..results.rows import json_line

ENDINGS = (".jsonl", ".parquet")
"""Which formats there are."""

_COUNTS, _NUMBERS, _TEXTS = "list<int>", "list<float>", "list<text>"
_COLUMNS: dict[Task, dict[str, str]] = {
    "classification": {"labels": _COUNTS, "scores": _NUMBERS, "names": _TEXTS, "present": _TEXTS},
    "detection": {
        "image_size": _COUNTS,
        "boxes": "list<list<float>>",
        "scores": _NUMBERS,
        "labels": _COUNTS,
        "names": _TEXTS,
        "masks": "list<mask>",
    },
    "segmentation": {"image_size": _COUNTS, "labels": _COUNTS, "names": _TEXTS, "shares": _NUMBERS},
    "panoptic": {"image_size": _COUNTS, "segments": "list<segment>"},
}


def encode_rows(rows: Sequence[Mapping[str, Any]], ending: str, task: Task) -> bytes:
    """A file's content.

    Args:
        rows: as `results.rows.row_of` makes them.
        ending: one of `ENDINGS`. A Parquet file has every column of its task, so that all files of a folder are one
            table whatever their images; a name that is no UTF-8 has \\udcff for its bytes, as messages have.
        task: what the rows are of.
    """
    if ending == ".jsonl":
        return "".join(map(json_line, rows)).encode()
    pyarrow, parquet = (extras.require(name, extra="ray") for name in ("pyarrow", "pyarrow.parquet"))
    schema = _schema(pyarrow, task)
    if strange := {name for row in rows for name in row} - set(schema.names):
        raise AssertionError(f"rows of {task} have keys that their table lacks: {', '.join(sorted(strange))}")
    texts = [
        row | {name: _printable(row[name]) for name in ("path", "error") if name in row} for row in map(dict, rows)
    ]
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(texts, schema=schema), file)
    return file.getvalue()


def count_rows(path: Path) -> tuple[int, int]:
    """How many rows a file has, and how many of these are errors.

    Raises:
        ValueError: it is damaged.
    """
    try:
        if path.suffix == ".jsonl":
            with path.open("rb") as file:
                errors = ["error" in json.loads(line) for line in file]
            return len(errors), sum(errors)
        column = extras.require("pyarrow.parquet", extra="ray").read_table(path, columns=["error"])["error"]
        return len(column), len(column) - column.null_count
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it, and it is made again") from error


def _schema(pyarrow: Any, task: Task) -> Any:
    number, count, text = pyarrow.float64(), pyarrow.int64(), pyarrow.string()
    kinds = {
        _COUNTS: pyarrow.list_(count),
        _NUMBERS: pyarrow.list_(number),
        _TEXTS: pyarrow.list_(text),
        "list<list<float>>": pyarrow.list_(pyarrow.list_(number)),
        "list<mask>": pyarrow.list_(pyarrow.struct([("size", pyarrow.list_(count)), ("counts", text)])),
        "list<segment>": pyarrow.list_(
            pyarrow.struct(
                [
                    ("id", count),
                    ("label", count),
                    ("name", text),
                    ("score", number),
                    ("area", count),
                    ("is_thing", pyarrow.bool_()),
                ]
            )
        ),
    }
    columns = {name: kinds[kind] for name, kind in _COLUMNS[task].items()}
    return pyarrow.schema([("path", text), ("error", text), *columns.items()])


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
