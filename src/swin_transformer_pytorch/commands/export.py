"""Writes a model as a file that runs without this package, for every batch and image size.

  swin export fashion fashion.onnx
  swin export swin_tiny_patch4_window7_224 swin_tiny.onnx --image-size 224
  swin export runs/flowers/best.ckpt flowers.pt2
  swin export segmenter.ckpt segmenter.onnx --byte-input
  swin export scenes_detection scenes.onnx --split --image-size 256

SOURCE is a checkpoint of ours, a name of `swin models`, or a model in the package. OUT ends in .onnx (ONNX, with a
JSON file beside it that says what the model is) or .pt2 (PyTorch's exported program). The file is run and compared with
the model before it is put in place. A detector's takes one image at a time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from . import terminal
from .errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import PositiveInt

    parser.add_argument("source", metavar="SOURCE", help="the model")
    parser.add_argument("output", metavar="OUT", help="the file to write")
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
    parser.add_argument(
        "--split",
        action="store_true",
        help="ONNX: a detector as two files, NAME.network.onnx, which has no arithmetic on sizes where it has one "
        "--image-size, and NAME.objects.onnx",
    )
    parser.add_argument(
        "--opset", type=PositiveInt, default=20, metavar="N", help="ONNX: of the operators (default: 20)"
    )
    parser.add_argument("--force", action="store_true", help="replace OUT where there is one")


def run(options: argparse.Namespace) -> int:
    target = Path(options.output)
    if target.suffix not in (".onnx", ".pt2"):
        raise UsageError(f"{target} must end in .onnx or .pt2, which chooses the kind of file")
    if options.split and target.suffix != ".onnx":
        raise UsageError("--split writes ONNX: give an OUT that ends in .onnx")
    if options.image_size is not None and len(options.image_size) > 2:
        raise UsageError("--image-size takes one number, or two: height and width")
    from ..export import export_onnx, export_program
    from ..export.onnx import onnx_files
    from ..models.registry import load_model

    files = onnx_files(target, split=options.split)
    for file in files:
        if file.exists() and not options.force:
            raise UsageError(f"{file} exists already: choose another name, or add --force to replace it")
    size = None if options.image_size is None else (options.image_size[0], options.image_size[-1])
    model, form = load_model(options.source), {"batch_size": options.batch_size, "byte_input": options.byte_input}
    if target.suffix == ".pt2":
        export_program(model, target, size, **form)
    else:
        export_onnx(model, target, size, split=options.split, opset=options.opset, **form)
    output = terminal.output()
    sizes = "any size" if size is None else f"{size[0]} x {size[1]} pixels"
    one = size is not None or (model.task == "detection" and not options.split)
    batch = options.batch_size or (1 if one else "any number")
    for file in files:
        output.print(f"wrote   {file}: {file.stat().st_size / 1e6:.1f} MB, for images of {sizes}, {batch} at once")
    output.print("checked its outputs are the model's, to 1e-4 of the largest value")
    return 0
