"""`--weights` and `--model`: the two options by which a command is told which model to use."""

from __future__ import annotations

import argparse
import hashlib
import json
from typing import TYPE_CHECKING

from ..backbone.config import VARIANTS
from ..models.config import find_other_variant
from ..weights.catalog import SHIPPED
from .errors import UsageError

if TYPE_CHECKING:
    from ..models.exported import ExportedModel
    from ..models.registry import Model

DEFAULT_MODEL = "swin_tiny_patch4_window7_224"


def add_model_options(parser: argparse.ArgumentParser, *, without_either: str) -> None:
    """`without_either` tells what happens where neither option is given."""
    parser.add_argument(
        "--weights",
        metavar="W",
        help="a checkpoint of ours, which says itself which model it is for, an exported file (.onnx, .xml), or one in "
        "the package: `fashion`, `scenes_detection`, `scenes_segmentation` or `scenes_panoptic`; with --model also a "
        "tag that `swin models` lists, a file of any known format, a URL or a hub id",
    )
    parser.add_argument(
        "--which",
        choices=["averaged", "raw"],
        help="the weights to take of a training's checkpoint that has both (default: the averaged of ours)",
    )
    parser.add_argument(
        "--model", metavar="NAME", help=f"official name, or name.tag; `swin models` lists them ({without_either})"
    )


def add_device_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", metavar="D", help="cpu, cuda, cuda:1, mps (default: a GPU if there is one, else cpu)"
    )


def check_device(name: str | None) -> str | None:
    """The name of a device that this machine has, or None for the default.

    Raises:
        UsageError: it is no device's name, or torch cannot use one here.
    """
    if name is None:
        return None
    import torch

    try:
        torch.empty(1, device=name)
    # torch has no exception of its own for this: RuntimeError, AssertionError, NotImplementedError, by the device.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise UsageError(
            f"--device {name} cannot be used here ({reason}); `swin doctor` shows what there is"
        ) from error
    return name


def load(options: argparse.Namespace) -> Model | ExportedModel:
    """The model that the options name, with weights: a classifier, detector or segmenter, as its `task` says.

    Raises:
        ValueError: they name none, or one that cannot be had.
    """
    from ..models.registry import create_model, load_model

    if options.model is None:
        return load_model(DEFAULT_MODEL if options.weights is None else options.weights, which=options.which)
    name, dot, _ = options.model.partition(".")
    if name not in (*VARIANTS, *SHIPPED):
        find_other_variant(name)
    if options.weights is None:
        return create_model(options.model, weights=None if dot else "default", which=options.which)
    return create_model(options.model, weights=options.weights, which=options.which)


def fingerprint(model: Model | ExportedModel) -> str:
    """A sha256 of its description and weights, the same for the same answers."""
    import torch

    from ..models.exported import ExportedModel

    digest = hashlib.sha256(json.dumps(model.metadata(), sort_keys=True, default=str).encode())
    if isinstance(model, ExportedModel):
        return hashlib.sha256((digest.hexdigest() + model.file.digest()).encode()).hexdigest()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
