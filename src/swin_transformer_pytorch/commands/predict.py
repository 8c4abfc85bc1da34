"""Classifies images: files, folders (searched through) and globs.

  swin predict photo.jpg                                       Swin-T trained on ImageNet, downloaded once
  swin predict photos/ 'more/*.png' --output results.jsonl     a line of JSON an image
  swin predict --weights runs/flowers/best.ckpt photo.jpg      your own model, nothing else needed
  swin predict --weights fashion shirt.png --pictures out      the small model in the package; annotated copies

A bad image is reported and skipped; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from . import model_source, terminal
from .errors import EXIT_SOME_BAD

if TYPE_CHECKING:
    from ..results import Classification


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import PositiveInt

    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, folders and globs")
    model_source.add_model_options(parser, without_either=f"without --weights: {model_source.DEFAULT_MODEL}")
    parser.add_argument("--top-k", type=PositiveInt, default=5, metavar="K", help="classes to name for each image")
    parser.add_argument(
        "--output", metavar="FILE", help="write a line of JSON an image; - is stdout, without the table"
    )
    parser.add_argument("--pictures", metavar="DIR", help="write copies of the images with their classes on them")
    model_source.add_device_option(parser)
    parser.add_argument("--batch-size", type=PositiveInt, default=16, metavar="N", help="images at once")


def run(options: argparse.Namespace) -> int:
    from ..predict import Predictor, predict_files

    device = model_source.check_device(options.device)
    predictor = Predictor(model_source.load(options), device=device, top_k=options.top_k)
    pictures = Path(options.pictures) if options.pictures is not None else None
    table = terminal.table("image", "class", "score", "then")
    notes = terminal.notes()
    done, bad = 0, 0
    with _lines(options.output) as lines:
        for path, result in predict_files(predictor, options.paths, batch_size=options.batch_size):
            if isinstance(result, Exception):
                bad += 1
                print(f"swin: skipped: {result}", file=sys.stderr)
            else:
                done += 1
                table.add_row(str(path), *_cells(result))
                if pictures is not None:
                    _annotate(path, result, pictures)
            if lines is not None:
                lines.write(json.dumps(_record(path, result), ensure_ascii=False) + "\n")
                lines.flush()
    if done and options.output != "-":
        terminal.output().print(table)
    for what, where in (("results", options.output), ("pictures", pictures)):
        if where is not None and where != "-":
            notes.print(f"{what}: {where}")
    if bad:
        notes.print(f"{bad} of {done + bad} images could not be used")
    return EXIT_SOME_BAD if bad else 0


@contextmanager
def _lines(output: str | None) -> Iterator[TextIO | None]:
    """Where JSON lines go: a file, stdout for "-", nowhere for None."""
    with ExitStack() as stack:
        if output is None or output == "-":
            yield None if output is None else sys.stdout
        else:
            path = Path(output)
            path.parent.mkdir(parents=True, exist_ok=True)
            yield stack.enter_context(path.open("w", encoding="utf-8"))


def _record(path: str | Path, result: Classification | Exception) -> dict[str, object]:
    if isinstance(result, Exception):
        return {"path": str(path), "error": str(result)}
    return {"path": str(path), **result.to_dict()}


def _cells(result: Classification) -> tuple[str, str, str]:
    """The best class, its score, and the others on one line."""
    names = [f"{name} {score:.1%}" for name, score in zip(result.names, result.scores, strict=True)]
    return result.names[0], f"{result.scores[0]:.1%}", ", ".join(names[1:])


def _annotate(path: str | Path, result: Classification, folder: Path) -> None:
    """Writes the image with its classes; never over the image itself, nor over a namesake's of another folder."""
    from ..data.decode import read_image
    from ..visualize import annotate

    folder.mkdir(parents=True, exist_ok=True)
    annotate(read_image(path), result, _picture_path(Path(path), folder))


def _picture_path(image: Path, folder: Path) -> Path:
    """A name that is still free, so that no image is written over: neither a source nor a namesake's copy."""
    path = folder / f"{image.stem}_predicted.png"
    number = 1
    while path.exists():
        number += 1
        path = folder / f"{image.stem}_predicted_{number}.png"
    return path
