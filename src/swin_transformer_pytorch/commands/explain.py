"""Shows what a model looks at in images: pictures of what speaks for its answer, and of the attention of its windows.

  swin explain photo.jpg --weights fashion --output explained              the likeliest class
  swin explain photo.jpg --weights runs/best.ckpt --target cat --output explained
  swin explain street/ --weights detector.ckpt --detection 2 --output explained
                                                                           the third of each image's objects
  swin explain photo.jpg --weights segmenter.ckpt --attention backbone.layers.1.blocks.1 --at 80,40 --output explained
                                                                           what that pixel's token looks at

For each image, FOLDER gets NAME_gradcam.png: Grad-CAM of a class's logit, of an object's score, or of a class's mean
over the pixels that are given it. And NAME_attention.png: in one block, to which tokens of its window the token at one
pixel attends, by the mean of the heads and by each. Nothing is overwritten; a bad image is reported and skipped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import model_source, terminal
from .errors import EXIT_SOME_BAD, UsageError
from .predict import add_max_pixels_option, free_path
from .result_files import file_name
from .terminal import printable

if TYPE_CHECKING:
    from ..explain import GradCam
    from ..predict import Predictor

_SCORES = {
    "classification": "probability",
    "detection": "score",
    "segmentation": "of the label map",
    "panoptic": "probability",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import NonNegativeInt

    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, folders and globs")
    model_source.add_model_options(parser, without_either=f"without --weights: {model_source.DEFAULT_MODEL}")
    parser.add_argument("--output", metavar="FOLDER", required=True, help="where the pictures go")
    parser.add_argument(
        "--target",
        metavar="CLASS",
        help="name or index of the class to explain (default: the likeliest, the best object's, the largest)",
    )
    parser.add_argument(
        "--detection",
        type=NonNegativeInt,
        metavar="N",
        help="detection: the object to explain; 0 is the best; panoptic: the segment, in the order of `swin predict`",
    )
    parser.add_argument(
        "--layer", metavar="NAME", help="the layer whose map Grad-CAM looks at (default: norm1 of the last block)"
    )
    parser.add_argument(
        "--attention",
        metavar="BLOCK",
        help="the block whose attention is drawn (default: the last of the stage before the last)",
    )
    parser.add_argument("--at", metavar="X,Y", help="the pixel whose token attends (default: Grad-CAM's hottest)")
    add_max_pixels_option(parser)
    model_source.add_device_option(parser)


def run(options: argparse.Namespace) -> int:
    from ..data.errors import ImageError
    from ..data.images.unusable import summary
    from ..explain import NotInImageError
    from ..predict import Predictor, find_images

    at = None if options.at is None else _point(options.at)
    device = model_source.check_device(options.device)
    predictor = Predictor(model_source.load(options), device=device, max_pixels=options.max_pixels)
    table, notes = terminal.table("image", "class", "score", "pictures"), terminal.notes()
    done = bad = 0
    for path, problem in find_images(options.paths):
        try:
            if problem is not None:
                raise problem
            explained, files = _explain(predictor, path, at, options)
        except (ImageError, NotInImageError) as error:
            bad += 1
            about = printable(str(error))
            print(f"swin: skipped: {about if path in about else f'{printable(path)}: {about}'}", file=sys.stderr)
            continue
        done += 1
        table.add_row(printable(path), explained.name, f"{explained.score:.1%}", ", ".join(map(str, files)))
        if not explained.heat.any():
            notes.print(
                f"{printable(path)}: nothing of {explained.layer} speaks for {explained.name}: no heat is shown"
            )
    if table.row_count:
        terminal.output().print(table)
    if bad:
        notes.print(summary(bad, done + bad, "images"))
    return EXIT_SOME_BAD if bad else 0


def _explain(
    predictor: Predictor, path: str, at: tuple[float, float] | None, options: argparse.Namespace
) -> tuple[GradCam, list[Path]]:
    """Writes an image's two pictures."""
    from ..data.images.remote import fetched
    from ..explain import attention_at, explain
    from ..explain.view import find_swin
    from ..visualize import attention_picture, heat_overlay
    from ..whole import replacing

    source = fetched(path)  # once, as an address may have another image the next time
    pixels = predictor.read(source)
    found = explain(predictor, pixels, options.target, options.layer, detection=options.detection)
    if at is None:
        row, column = divmod(int(np.argmax(found.heat)), found.heat.shape[1])
        at = (column + 0.5, row + 0.5)
    prefix, swin = find_swin(predictor.model)
    stage = max(len(swin.config.depths) - 2, 0)
    block = options.attention or f"{prefix}layers.{stage}.blocks.{swin.config.depths[stage] - 1}"
    attention = attention_at(predictor, pixels, block, at)
    picture = predictor.picture(source)
    folder, name = Path(options.output), Path(file_name(path)).stem
    folder.mkdir(parents=True, exist_ok=True)
    caption = (f"{found.name}: {found.score:.1%} {_SCORES[str(predictor.model.task)]}", f"Grad-CAM of {found.layer}")
    files = [free_path(folder, f"{name}_gradcam"), free_path(folder, f"{name}_attention")]
    with replacing(files[0]) as temporary:
        heat_overlay(picture, found.heat, caption, box_xyxy=found.box_xyxy).save(temporary)
    padding = attention.padding.mean()
    title = f"{block}, mean" + (f", {padding:.0%} on padding" if padding >= 0.005 else "")
    attention_picture(picture, attention.heat, attention.cell_xyxy, files[1], title)
    return found, files


def _point(text: str) -> tuple[float, float]:
    try:
        x, y = map(float, text.split(","))
    except ValueError:
        raise UsageError(f"--at {text} is no pixel; give two numbers X,Y, from the left and from the top") from None
    return x, y
