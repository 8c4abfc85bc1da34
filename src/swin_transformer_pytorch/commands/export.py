"""Writes a model as a file that runs without this package, for every batch and image size.

  swin export fashion fashion.onnx
  swin export swin_tiny_patch4_window7_224 swin_tiny.onnx --image-size 224
  swin export runs/flowers/best.ckpt flowers.xml
  swin export runs/flowers/best.ckpt flowers.pt2
  swin export segmenter.ckpt segmenter.onnx --byte-input
  swin export scenes_detection scenes.onnx --split --image-size 256
  swin export runs/flowers/best.ckpt flowers.xml --int8 photos/

SOURCE is a checkpoint of ours, a name of `swin models`, or a model in the package. OUT's ending chooses the form, or
--format: .onnx (ONNX), .xml (OpenVINO, with its weights in .bin), both with a JSON file beside it that says what the
model is, or .pt2 (PyTorch's exported program, or with --format aoti AOTInductor's package for C++). The file is run and
compared with the model before it is put in place. A detector's takes one image at a time.

--int8 FOLDER writes ONNX or OpenVINO in 8 bits. Some of the folder's images calibrate; on others the 8-bit file is
compared with the float one, by their labels too where `swin evaluate --data.root FOLDER` would find any.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from . import terminal
from .errors import UsageError
from .export_int8 import file_size, write_int8

FORMATS = {
    "onnx": (".onnx", "export_onnx", (".json",)),
    "openvino": (".xml", "export_openvino", (".bin", ".json")),
    "torch": (".pt2", "export_program", ()),
    "aoti": (".pt2", "export_aoti", (".json",)),
}
"""The ending of each form's files, what writes them, in `..export`, and the endings of what it writes beside. An ending
stands for the first form that has it.
"""


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
    parser.add_argument(
        "--split",
        action="store_true",
        help="ONNX: a detector as two files, NAME.network.onnx, which has no arithmetic on sizes where it has one "
        "--image-size, and NAME.objects.onnx",
    )
    parser.add_argument(
        "--int8", metavar="FOLDER", help="ONNX, OpenVINO: in 8 bits, calibrated and compared on this folder's images"
    )
    parser.add_argument(
        "--int8-method",
        choices=("static", "dynamic"),
        help="ONNX: whether ranges are those of the calibrating images, or taken as they come (default: static)",
    )
    parser.add_argument(
        "--force", action="store_true", help="replace OUT, and what is written beside it, where there is such a file"
    )


def run(options: argparse.Namespace) -> int:
    target = Path(options.output)
    form = options.format or next((name for name, (suffix, *_) in FORMATS.items() if suffix == target.suffix), None)
    if form is None:
        endings = ", ".join(dict.fromkeys(suffix for suffix, *_ in FORMATS.values()))
        raise UsageError(f"{target} must end in one of {endings}, which chooses the form of the file")
    suffix, writer, beside = FORMATS[form]
    if target.suffix != suffix:
        raise UsageError(f"--format {form} writes {suffix}: give {target.with_suffix(suffix)} or leave --format out")
    if options.opset is not None and form != "onnx":
        raise UsageError(f"--opset is for ONNX, and {target} is of the form {form}; leave it out")
    if options.image_size is not None and len(options.image_size) > 2:
        raise UsageError("--image-size takes one number, or two: height and width")
    if options.split and form != "onnx":
        raise UsageError(f"--split writes ONNX, and {target} is of the form {form}; leave it out")
    if options.split and options.int8 is not None:
        raise UsageError("--int8 is for a detector in one file: leave --split out")
    if options.int8 is None and options.int8_method is not None:
        raise UsageError("--int8-method is for --int8 FOLDER: add that, or leave this out")
    if options.int8 is not None and form not in ("onnx", "openvino"):
        raise UsageError(f"--int8 is for ONNX and OpenVINO, and {target} is of the form {form}; leave it out")
    if options.int8_method == "dynamic" and form != "onnx":
        raise UsageError(f"--int8-method dynamic is for ONNX, and {target} is of the form {form}; leave it out")
    from .. import export
    from ..export.onnx import onnx_files
    from ..models.registry import load_model

    files = onnx_files(target, split=options.split)
    for place in (place for file in files for place in (file, *map(file.with_suffix, beside))):
        if place.exists() and not options.force:
            raise UsageError(f"{place} exists already: choose another name, or add --force to replace it")
    size = None if options.image_size is None else (options.image_size[0], options.image_size[-1])
    given = {"batch_size": options.batch_size, "byte_input": options.byte_input}
    given |= {} if options.opset is None else {"opset": options.opset}
    given |= {"split": True} if options.split else {}
    model = load_model(options.source)
    write = partial(getattr(export, writer), image_size=size, **given)
    code, lines = 0, list[str]()
    if options.int8 is None:
        write(model, target)
    else:
        code, lines = write_int8(model, target, write, options.int8, options.int8_method or "static")
    output = terminal.output()
    sizes = "any size" if size is None else f"{size[0]} x {size[1]} pixels"
    one = size is not None or (model.task == "detection" and not options.split)
    batch = options.batch_size or (1 if one else "any number")
    for file in files:
        output.print(f"wrote   {file}: {file_size(file) / 1e6:.1f} MB, for images of {sizes}, {batch} at once")
    its = "its" if options.int8 is None else "the float file's"
    output.print(f"checked {its} outputs are the model's, to 1e-4 of the largest value")
    for line in lines:
        output.print(line)
    return code
