"""`swin export --int8`: the folder's images and their labels, the file in 8 bits, and what is said of it."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import extras
from ..evaluation.report import percent
from ..models.mask2former_config import refuse_mask2former
from . import evaluate, evaluate_classification, evaluate_detection, evaluate_segmentation, terminal
from .errors import EXIT_SOME_BAD, UsageError

_FEW = 50

if TYPE_CHECKING:
    from ..data.images.unusable import Samples
    from ..export.agreement import Agreement


def write_int8(
    model: Any, target: Path, write: Callable[[Any, Path], Path], folder: str, method: Any
) -> tuple[int, list[str]]:
    """Writes the float file for the time being, and of it the one in 8 bits: the exit code, and what to say."""
    from ..export.files import check_target
    from ..export.quantization import IN_8_BITS, check_folder, quantize, require_nncf, split
    from .evaluate_images import counted

    refuse_mask2former(model.config, IN_8_BITS, UsageError)
    check_target(target, target.suffix)
    samples = open_images(str(check_folder(folder)), model)
    split(len(samples), folder, method=method)  # whether there are enough, before the minutes of the export
    if target.suffix == ".xml":
        require_nncf()
    if hasattr(samples, "coco"):
        extras.require("faster_coco_eval", extra="train")
    unusable = counted(samples)
    with tempfile.TemporaryDirectory() as temporary:
        source = write(model, Path(temporary) / target.name)
        before = file_size(source)
        agreement = quantize(source, target, samples, method=method, unusable=unusable)
    count = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))["int8"]["calibration_images"]
    used = f"calibrated by {count} of {folder}" if count else "without calibration"
    lines = [
        f"8 bits  {before / 1e6:.1f} MB -> {file_size(target) / 1e6:.1f} MB; {method}, {used}, compared on "
        f"{agreement.num_images} others (chosen by seed 0)",
        *described(agreement),
    ]
    if agreement.num_images < _FEW:
        lines.append(f"few     images to compare on: figures of fewer than {_FEW} mean little")
    if line := unusable.summary():
        lines.append(f"skipped {line}")
    return EXIT_SOME_BAD if unusable.problems else 0, lines


def file_size(path: Path) -> int:
    """Bytes of a file, and of the weights beside OpenVINO's."""
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    return sum(file.stat().st_size for file in files)


def described(agreement: Agreement) -> list[str]:
    """How far the two files agree, and what each scores by the labels."""
    shares = ", ".join(f"{name} {share:.1%}" for name, share in agreement.shares.items())
    logits = "; logits differ by {mean:.1%} of the largest on average, {largest:.1%} at most"
    lines = [f"agrees  {shares}" + (logits.format(**agreement.logits) if agreement.logits else "")]
    scores = (f"{name} {percent(one)} -> {percent(other)}" for name, (one, other) in agreement.measured.items())
    return [*lines, f"labels  {', '.join(scores)}"] if agreement.measured else lines


def open_images(folder: str, model: Any) -> Samples[Any]:
    """The images of a folder, with labels where `swin evaluate --data.root` finds the model's own; else it is said."""
    import jsonargparse

    from ..data.images.files import find_inputs

    parser = jsonargparse.ArgumentParser()
    evaluate.add_arguments(parser)
    data = parser.parse_args(["--data.root", folder]).data
    try:
        if model.task == "classification":
            return evaluate_classification.open_images(data, model)
        if model.task == "detection":
            return evaluate_detection.open_samples(data, model)
        maps = evaluate_segmentation.open_samples(data, model)
        evaluate_segmentation.check_classes(model, maps.classes)
        return maps
    except ValueError as error:
        terminal.notes().print(f"no labels are used, nor needed for 8 bits: {error}")
    return find_inputs(_images_of(folder, model.task))


def _images_of(folder: str, task: str) -> Path:
    """Where the images of a data set are whose labels do not fit: label maps are pictures, too."""
    from ..data.detection.folders import find_coco
    from ..data.errors import DataError
    from ..data.segmentation.folders import find_segmentation

    with suppress(DataError):
        return (
            find_coco(folder, "val").images_folder if task == "detection" else find_segmentation(folder, "val").images
        )
    return Path(folder)
