"""`swin predict --features FILE`: what a classifier's head takes of each image, for search and nearest neighbours."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import extras
from ..whole import replacing
from . import terminal
from .errors import EXIT_SOME_BAD, UsageError
from .result_rows import writing
from .terminal import printable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ..data.errors import ImageError
    from ..predict import Predictor

_ENDINGS = (".npy", ".parquet")


def check(file: str) -> None:
    """Refuses, before anything is predicted, a file that cannot be written."""
    if Path(file).suffix not in _ENDINGS:
        raise UsageError(f"--features {file}: its ending says the format; use {' or '.join(_ENDINGS)}")
    if file.endswith(".parquet"):
        extras.require("pyarrow.parquet", extra="tables")


def run(predictor: Predictor, found: Iterator[tuple[str, NDArray[np.float32] | ImageError]], file: str) -> int:
    """Writes the features of the images that can be used; the exit code."""
    from ..data.images.unusable import summary

    names: list[str] = []
    vectors: list[Any] = []
    bad = 0
    for path, vector in found:
        if isinstance(vector, Exception):
            bad += 1
            print(f"swin: skipped: {printable(str(vector))}", file=sys.stderr)
        else:
            names.append(path)
            vectors.append(vector)
    if not names:
        raise UsageError(f"no image could be used, so that {file} is not written")
    target = Path(file)
    target.parent.mkdir(parents=True, exist_ok=True)
    with writing(target):
        places = _write(target, names, vectors)
    notes = terminal.notes()
    notes.print(f"features of {len(names):,} images, {len(vectors[0])} numbers each: {', '.join(map(str, places))}")
    if bad:
        notes.print(summary(bad, len(names) + bad, "images"))
    return EXIT_SOME_BAD if bad else 0


def _write(target: Path, names: list[str], vectors: list[Any]) -> tuple[Path, ...]:
    import numpy as np

    if target.suffix == ".parquet":
        parquet = extras.require("pyarrow.parquet", extra="tables")
        pyarrow = extras.require("pyarrow", extra="tables")
        flat = pyarrow.array(np.concatenate(vectors))
        columns = {
            "path": [printable(name) for name in names],
            "features": pyarrow.FixedSizeListArray.from_arrays(flat, len(vectors[0])),
        }
        with replacing(target) as temporary:
            parquet.write_table(pyarrow.table(columns), temporary)
        return (target,)
    beside = target.with_suffix(".names.json")
    with replacing(target) as temporary, replacing(beside) as temporary_names:
        np.save(temporary, np.stack(vectors))
        temporary_names.write_text(json.dumps(names, indent=0))
    return target, beside
