"""Predicts for images: files, folders (searched through), globs and addresses. What, is up to the model.

  swin predict photo.jpg                                       Swin-T trained on ImageNet, downloaded once
  swin predict photos/ 'more/*.png' --output results.jsonl     a line of JSON an image
  swin predict --weights runs/flowers/best.ckpt photo.jpg      your own model, nothing else needed
  swin predict --weights fashion shirt.png --pictures out      the small model in the package; annotated copies
  swin predict --weights detector.ckpt street/ --pictures out --output objects.jsonl
                                                               boxes, masks, scores and names of objects
  swin predict --weights detector.ckpt street/ --coco found.json --yolo labelled
                                                               the same as COCO's results and as labels for YOLO
  swin predict --weights segmenter.ckpt street/ --labels out   a class for each pixel, as PNG with palette
  swin predict photos/ --features photos.npy                   what a classifier's head takes, to search in
  swin predict s3://bucket/photos shards/ --engine ray --output rows.parquet
                                                               by many processes or machines, in pieces

A bad image is reported and skipped; the exit code is then 1. FILE is put in place when it is whole; until then its rows
are in FILE.partial, and after a kill, a signal or a full disk the same command with --resume goes on.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import some
from ..whole import is_stream
from . import model_source, predict_features, predict_ray, result_files, terminal
from .errors import EXIT_SOME_BAD, UsageError
from .result_files import file_name
from .result_rows import beside, is_stdout, result_rows, writing
from .terminal import printable

if TYPE_CHECKING:
    from ..data.images.decode import ImageSource
    from ..models.exported import ExportedModel
    from ..models.registry import Model
    from ..predict import Prediction, Predictor

SHOWN_SCORE = 0.3
_NAMED = 5  # in a cell of the table
_COLUMNS = {
    "classification": ("image", "class", "score", "then"),
    "detection": ("image", "objects", "best first"),
    "segmentation": ("image", "largest", "share", "then"),
    "panoptic": ("image", "segments", "largest first"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import PositiveInt

    parser.add_argument("paths", nargs="+", metavar="PATH", help="files, folders, globs and http(s) addresses")
    model_source.add_model_options(parser, without_either=f"without --weights: {model_source.DEFAULT_MODEL}")
    parser.add_argument(
        "--output", metavar="FILE", help="write a line of JSON an image; - is stdout, without the table"
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the --output FILE that the same command has not finished",
    )
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: many processes or machines, by Ray; --output is a folder of pieces, *.jsonl or *.parquet, and PATHs "
        "may be tar files and addresses of stores such as s3://bucket/photos",
    )
    parser.add_argument(
        "--workers", type=PositiveInt, metavar="N", help="--engine ray: actors (default: one a GPU, or else a core)"
    )
    parser.add_argument(
        "--pictures", metavar="DIR", help="write copies of the images with what was found on them or beneath them"
    )
    parser.add_argument("--top-k", type=PositiveInt, default=5, metavar="K", help="classification: classes to name")
    add_view_options(parser)
    parser.add_argument(
        "--labels",
        metavar="DIR",
        help="segmentation: write label maps, PNGs whose values are class indices; panoptic: COCO's PNGs of segments' "
        "ids, and their JSON beside them",
    )
    parser.add_argument("--coco", metavar="FILE", help="detection: write COCO's results, a JSON list of all objects")
    parser.add_argument(
        "--annotations",
        metavar="FILE",
        help="--coco: the COCO annotations whose image and category ids are taken (default: file names, and class + 1)",
    )
    parser.add_argument(
        "--yolo",
        metavar="DIR",
        help="detection: write label files, data.yaml and classes.txt, of objects from the score shown in pictures",
    )
    parser.add_argument(
        "--outlines", action="store_true", help="--yolo: outlines of objects' masks in place of their boxes"
    )
    parser.add_argument(
        "--features",
        metavar="FILE",
        help="classification: write pooled features instead, .npy beside .names.json, or .parquet",
    )
    add_max_pixels_option(parser)
    parser.add_argument(
        "--decoding",
        choices=("exact", "scaled"),
        default="exact",
        help="classification: scaled decodes large JPEGs no larger than needed: faster, with other numbers",
    )
    model_source.add_device_option(parser)
    parser.add_argument(
        "--batch-size", type=PositiveInt, metavar="N", help="images at once (default: 32 to classify, else 4)"
    )


def add_max_pixels_option(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import PositiveInt

    parser.add_argument(
        "--max-pixels",
        type=PositiveInt,
        metavar="N",
        help="skip larger image files (default: PIL's limit, 179 million)",
    )


def add_view_options(parser: argparse.ArgumentParser) -> None:
    """How a detector or a segmenter looks at an image; `swin evaluate` has the same options."""
    from jsonargparse.typing import ClosedUnitInterval, PositiveInt

    parser.add_argument(
        "--score-threshold",
        type=ClosedUnitInterval,
        metavar="S",
        help="detection: least score of an object (default: the model's own; in pictures and table "
        f"{SHOWN_SCORE} where the model's is lower)",
    )
    parser.add_argument(
        "--mode",
        choices=("whole", "slide"),
        help="detection, segmentation: the resized image at once (default), or overlapping windows of an image that is "
        "not shrunk, whose objects are found once",
    )
    parser.add_argument("--crop-size", type=PositiveInt, metavar="N", help="--mode slide: side of a window in pixels")
    parser.add_argument("--stride", type=PositiveInt, metavar="N", help="--mode slide: from a window to the next")
    parser.add_argument(
        "--multi-scale", action="store_true", help="detection, segmentation: look at several sizes of an image; slow"
    )
    parser.add_argument("--flip", action="store_true", help="detection, segmentation: and at its mirror image")


def view_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_view_options` as `Predictor` takes them."""
    return {
        "score_threshold": options.score_threshold,
        "mode": options.mode,
        "crop_size": None if options.crop_size is None else (options.crop_size, options.crop_size),
        "stride": None if options.stride is None else (options.stride, options.stride),
        "multi_scale": options.multi_scale,
        "flip": options.flip,
    }


def predictor_options(options: argparse.Namespace) -> dict[str, Any]:
    """What the options say of a `Predictor`, but for its model and its device."""
    return {
        "top_k": options.top_k,
        "batch_size": options.batch_size,
        "max_pixels": options.max_pixels,
        "decoding": options.decoding,
        **view_options(options),
    }


def run(options: argparse.Namespace) -> int:
    from ..data.images.remote import fetched
    from ..data.images.unusable import summary
    from ..predict import Predictor, predict_files
    from ..predict.task import name_of
    from ..results.rows import row_of

    if options.engine == "ray":
        return predict_ray.run(options, predictor_options(options), row_settings)
    if options.workers is not None:
        raise UsageError(f"--workers {options.workers} is for --engine ray; add that, or leave it out")
    device = model_source.check_device(options.device)
    model = model_source.load(options)
    if options.labels is not None and model.task not in ("segmentation", "panoptic"):
        raise UsageError(f"--labels is for segmenters, and this model is for {model.task}; leave it out")
    _check_files(options, model.task)
    coco = result_files.CocoResults(options.coco, options.annotations) if options.coco is not None else None
    predictor = Predictor(model, device=device, **predictor_options(options))
    if options.features is not None:
        answer = predictor.features_prepared
        found: Any = predict_files(predictor, options.paths, answer=answer)
        return predict_features.run(predictor, found, options.features)
    shown_score = SHOWN_SCORE if options.score_threshold is None else 0.0
    pictures, labels = (Path(one) if one is not None else None for one in (options.pictures, options.labels))
    table = terminal.table(*_COLUMNS[model.task])
    notes = terminal.notes()
    output = "-" if is_stdout(options.output) else options.output
    kept: dict[str, ImageSource] = {}

    def read(path: str) -> ImageSource:
        source = fetched(path)
        if pictures is not None and source is not path:
            kept[path] = source  # an address may have another image the next time
        return source

    made = options.coco is not None or options.yolo is not None
    with tempfile.TemporaryDirectory() if made and output is None else nullcontext() as scratch:
        rows_file = output if scratch is None else f"{scratch}/rows.jsonl"
        with result_rows(rows_file, row_settings(options, model), resume=options.resume) as rows:
            done, bad = len(rows.done) - sum(rows.done.values()), sum(rows.done.values())
            old = set(rows.done)

            def skip(path: str) -> bool:
                old.discard(path)
                return path in rows.done

            for path, result in (
                () if rows.whole else predict_files(predictor, options.paths, skip=skip, known=rows.files, read=read)
            ):
                record = row_of(str(path), result)
                if isinstance(result, Exception):
                    bad += 1
                    print(f"swin: skipped: {printable(str(result))}", file=sys.stderr)
                else:
                    done += 1
                    table.add_row(printable(str(path)), *_cells(result, shown_score))
                    if pictures is not None:
                        record["picture"] = _annotate(
                            path, result, pictures, shown_score, predictor, kept.pop(path, path)
                        )
                    if labels is not None:
                        record["label_map"] = _save_labels(path, result, labels)
                rows.write(record)
            if old and not rows.whole:
                notes.print(f"{len(old):,} rows that were there before are of images that no PATH names now")
        if coco is not None:
            coco.write(result_files.read_rows(rows_file))
        if options.yolo is not None:
            least = shown_score if options.score_threshold is None else options.score_threshold
            result_files.write_yolo(
                rows_file,
                options.yolo,
                [name_of(predictor.classes, label) for label in range(model.num_classes)],
                least,
                outlines=options.outlines,
            )
    if table.row_count and output != "-":
        terminal.output().print(table)
    for what, where in (("results", output), ("pictures", pictures), ("label maps", labels)):
        if where is not None and where != "-":
            notes.print(f"{what}: {where}")
    if bad:
        notes.print(summary(bad, done + bad, "images"))
    return EXIT_SOME_BAD if bad else 0


def _check_files(options: argparse.Namespace, task: str) -> None:
    """Refuses files that this model has nothing for, or that would not be written, before anything is predicted."""
    streams = options.output is not None and (is_stdout(options.output) or is_stream(Path(options.output)))
    if options.annotations is not None and options.coco is None:
        raise UsageError(f"--annotations {options.annotations} is for --coco FILE; add that, or leave it out")
    if options.outlines and options.yolo is None:
        raise UsageError("--outlines is for --yolo DIR; add that, or leave it out")
    for option, of in (("coco", "detection"), ("yolo", "detection"), ("features", "classification")):
        if getattr(options, option) is None:
            continue
        if task != of:
            raise UsageError(f"--{option} is for {of}, and this model is for {task}; leave it out")
        if streams:
            raise UsageError(f"--{option} does not go with --output {options.output}; give a file, or leave it out")
    if options.yolo is not None:
        result_files.check_free(options.yolo)
    if options.features is not None:
        others = [f"--{name}" for name in ("output", "resume", "pictures") if getattr(options, name)]
        if others:
            raise UsageError(f"{', '.join(others)}: --features is written instead of answers; leave one out")
        predict_features.check(options.features)


def row_settings(options: argparse.Namespace, model: Model | ExportedModel) -> dict[str, Any]:
    """All that rows depend on: every option but those that say how to get there."""
    if options.output is None:
        return {}
    alone = {"paths", "output", "resume", "weights", "model", "device", "batch_size", "engine", "workers"}
    alone |= {"coco", "annotations", "yolo", "outlines", "features"}  # made of the rows, or instead of them
    settings = {name: value for name, value in vars(options).items() if name not in alone}
    if not all(map(os.path.isabs, filter(None, (*options.paths, options.pictures, options.labels)))):
        settings["working folder"] = os.getcwd()
    return settings | {"model": model_source.fingerprint(model)}


def _cells(result: Prediction, shown_score: float) -> tuple[str, ...]:
    """The best first, and the others on one line."""
    from ..results import Classification, Detections, PanopticSegmentation

    if isinstance(result, Detections):
        shown = result.above(shown_score)
        return str(len(shown)), some(shown.texts(), _NAMED) or "no objects"
    if isinstance(result, PanopticSegmentation):
        return str(len(result)), some(result.texts(), _NAMED) or "no segments"
    if isinstance(result, Classification):
        names, values = result.names, result.scores
    else:
        names = tuple(result.names[label] for label in result.shares)
        values = tuple(result.shares.values())
    texts = [(f"{name} {value:.1%}", value) for name, value in zip(names, values, strict=True)]
    # A few stray pixels of a class are none that the table should name.
    others = [text for text, value in texts[1:] if isinstance(result, Classification) or value >= 0.0005]
    if isinstance(result, Classification) and result.present is not None:  # it may have several, or none
        return some(result.present, _NAMED) or "none", f"{values[0]:.1%}", ", ".join([texts[0][0], *others])
    return names[0], f"{values[0]:.1%}", ", ".join(others)


def drawn_part(result: Prediction, shown_score: float) -> Prediction:
    """What a picture shows of a result: of objects those of at least that score."""
    from ..results import Detections

    return result.above(shown_score) if isinstance(result, Detections) else result


def _annotate(
    path: str, result: Prediction, folder: Path, shown_score: float, predictor: Predictor, source: ImageSource
) -> str:
    """Writes the image with its result; never over the image itself, nor over a namesake's of another folder.

    Returns:
        Its path, `beside` which it lies.
    """
    from ..visualize import annotate

    place = free_path(folder, f"{Path(file_name(path)).stem}_predicted")
    image = predictor.picture(source)
    with writing(place, file=beside(place)):
        annotate(image, drawn_part(result, shown_score), beside(place))
    return str(place)


def _save_labels(image: str, result: Any, folder: Path) -> str:
    """Likewise the map of an image's classes, or of its segments."""
    from ..results import PanopticSegmentation
    from ..visualize import save_label_map

    place = free_path(folder, Path(file_name(image)).stem)
    if isinstance(result, PanopticSegmentation):
        result.save_coco(place)  # two files, each put in place when it is whole
        return str(place)
    with writing(place, file=beside(place)):
        save_label_map(result, beside(place))
    return str(place)


def free_path(folder: Path, name: str) -> Path:
    """A PNG's path that is still free, so that no image is written over: neither a source nor a namesake's copy."""
    path = folder / f"{name}.png"
    number = 1
    while path.exists():
        number += 1
        path = folder / f"{name}_{number}.png"
    return path
