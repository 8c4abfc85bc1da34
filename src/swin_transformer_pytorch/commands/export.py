"""Writes a model as a file that runs without this package, for every batch and image size.

  swin export fashion fashion.onnx
  swin export swin_tiny_patch4_window7_224 swin_tiny.onnx --image-size 224
  swin export runs/flowers/best.ckpt flowers.xml
  swin export runs/flowers/best.ckpt flowers.pt2
  swin export segmenter.ckpt segmenter.onnx --byte-input

SOURCE is a checkpoint of ours, a name of `swin models`, or a model in the package. OUT's ending chooses the form, or
--format: .onnx (ONNX), .xml (OpenVINO, with its weights in .bin), both with a JSON file beside it that says what the
model is, or .pt2 (PyTorch's exported program). Classifiers and segmenters; the file is run and compared with the model
before it is put in place.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from . import terminal
from .errors import UsageError

FORMATS = {
    "onnx": (".onnx", "export_onnx"),
    "openvino": (".xml", "export_openvino"),
    "torch": (".pt2", "export_program"),
}
"""The ending of each form's files and what writes them, in `..export`. An ending stands for the first that has it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import PositiveInt

    parser.add_argument("source", metavar="SOURCE", help="the model")
    parser.add_argument("output", metavar="OUT", help="the file to write")
    parser.add_argument("--format", choices=FORMATS, help="the form of the file (default: what OUT ends in says)")
    parser.add_argument(
        "--image-size",
        type=PositiveInt,
        nargs="+",
        metavar="N",
        help="the only size that the file takes, a side or height and width in pixels: without arithmetic on sizes, "
        "for TensorRT, Core ML and WebGPU (default: any size)",
    )
    parser.add_argument(
        "--batch-size",
        type=PositiveInt,
        metavar="N",
        help="the only number of images that the file takes at once (default: any; 1 with --image-size)",
    )
    parser.add_argument(
        "--byte-input",
        action="store_true",
        help="the file takes uint8 images, (batch, height, width, channels), and normalises them itself",
    )
    parser.add_argument("--opset", type=PositiveInt, metavar="N", help="ONNX: of the operators, 18 to 23 (default: 20)")
    parser.add_argument("--force", action="store_true", help="replace OUT where there is one")


def run(options: argparse.Namespace) -> int:
    target = Path(options.output)
    form = options.format or next((name for name, (suffix, _) in FORMATS.items() if suffix == target.suffix), None)
    if form is None:
        endings = ", ".join(dict.fromkeys(suffix for suffix, _ in FORMATS.values()))
        raise UsageError(f"{target} must end in one of {endings}, which chooses the form of the file")
    suffix, writer = FORMATS[form]
    if target.suffix != suffix:
        raise UsageError(f"--format {form} writes {suffix}: give {target.with_suffix(suffix)} or leave --format out")
    if options.opset is not None and form != "onnx":
        raise UsageError(f"--opset is for ONNX, and {target} is of the form {form}; leave it out")
    if target.exists() and not options.force:
        raise UsageError(f"{target} exists already: choose another name, or add --force to replace it")
    if options.image_size is not None and len(options.image_size) > 2:
        raise UsageError("--image-size takes one number, or two: height and width")
    from .. import export
    from ..models.registry import load_model

    size = None if options.image_size is None else (options.image_size[0], options.image_size[-1])
    given = {"batch_size": options.batch_size, "byte_input": options.byte_input}
    given |= {} if options.opset is None else {"opset": options.opset}
    getattr(export, writer)(load_model(options.source), target, size, **given)
    output = terminal.output()
    sizes = "any size" if size is None else f"{size[0]} x {size[1]} pixels"
    batch = options.batch_size or ("any number" if size is None else 1)
    output.print(f"wrote   {target}: {target.stat().st_size / 1e6:.1f} MB, for images of {sizes}, {batch} at once")
    output.print("checked its outputs are the model's, to 1e-4 of the largest value")
    return 0
