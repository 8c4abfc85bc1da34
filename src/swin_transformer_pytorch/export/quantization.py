"""`quantize`: an exported file in 8 bits, calibrated and compared with it on images of the user's."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .. import extras
from ..checks import plural
from ..data.images.files import find_inputs
from ..data.images.unusable import Samples, Unusable
from ..extras import errors_alone
from ..models.exported import ExportedModel
from ..models.mask2former_config import refuse_mask2former
from ..models.registry import load_model
from ..models.runtimes import openvino_core
from ..predict import Predictor
from .agreement import Agreement, agreement, usable_pictures
from .files import check_target, described
from .graph import METADATA, ExportError, quiet
from .openvino import openvino_files, serialize

Method = Literal["static", "dynamic"]

MOST_CALIBRATING, MOST_COMPARED, FEWEST = 256, 1000, 10
_HELD_OUT = 0.2

IN_8_BITS = "cannot be written in 8 bits"

_Arrays = dict[str, NDArray[Any]]


def quantize(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    images: str | os.PathLike[str] | Samples[Any],
    *,
    method: Method = "static",
    seed: int = 0,
    unusable: Unusable | None = None,
) -> Agreement:
    """Writes the 8-bit form of an exported file, and compares it with that file on images of the user's.

    Products and convolutions compute in 8 bits, with a scale for each output channel of a weight. Softmax, norms, GELU,
    residual sums, bias and mask stay in float32. Some of the images, prepared as the model's preprocessing says, show
    the ranges of values; on others of them both files are run. The file says `"precision": "int8"` of itself, and what
    the comparison gave.

    Args:
        source: a file of `export_onnx` or `export_openvino`, of a classifier, detector or segmenter; of no Mask2Former.
        target: the file to write, with the same ending.
        images: a folder, which is searched through for images, their paths, or a data set of this package, whose labels
            then are used: `ImageFolder`, `CocoDataset`, `SegmentationFolder`, or scenes. At least 10.
        method: "static", or for ONNX alone "dynamic": ranges of products' inputs are taken as they come, so that
            nothing is calibrated; products of two maps and convolutions stay in float32.
        seed: chooses which images calibrate: 256 at most, and 80% at most. Up to 1,000 of the others are compared on.
        unusable: counts the images that cannot be used; None logs each.

    Raises:
        ExportError: the file has another ending or is a Mask2Former, there are too few images, or the target is not
            possible.
        CheckpointError: the file does not say which model it is, or is a backbone or a part of a detector.
        DataError: more than a fifth of the images cannot be used.
        MissingExtraError: the packages of `[export]` are not installed.
    """
    source = Path(source)
    target = check_target(target, source.suffix)
    if method not in get_args(Method) or (method == "dynamic" and source.suffix != ".onnx"):
        raise ExportError(f"method={method!r} is not possible for {source}: use 'static', or for ONNX also 'dynamic'")
    samples, where = images, "the data set"
    if isinstance(images, str | os.PathLike):
        samples, where = find_inputs(check_folder(images)), os.fspath(images)
    assert not isinstance(samples, str | os.PathLike)
    calibrating, compared = split(len(samples), where, method=method, seed=seed)
    unusable = unusable or Unusable(len(samples), "images")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / f"model{source.suffix}"
        model = load_exported(source)
        refuse_mask2former(model.config, IN_8_BITS, ExportError)
        inputs = Inputs(model, samples, calibrating, unusable)
        if source.suffix == ".xml":
            _openvino(source, made, inputs)
        elif method == "static":
            _onnx_static(source, made, inputs)
        else:
            _onnx_dynamic(source, made)
        result = agreement(model, load_exported(made), samples, compared, unusable)
        how = {"method": method, "calibration_images": inputs.used, **result.to_dict()}
        description = {**model.file.description, "precision": "int8", "int8": how}
        _put_in_place(made, target, description)
    return result


def load_exported(path: Path) -> ExportedModel:
    """The model that a file stands for; an `ExportError` where the file is none of this package's."""
    if path.suffix not in (".onnx", ".xml"):
        raise ExportError(f"{path} is no file of export_onnx or export_openvino: 8 bits are made of those")
    model = load_model(path)
    assert isinstance(model, ExportedModel), "its ending says so"
    return model


def check_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder; an `ExportError` where it is none."""
    if not Path(folder).is_dir():
        raise ExportError(f"{folder} is not a folder: give one with images, to calibrate 8 bits and to compare on")
    return Path(folder)


def split(count: int, where: str, *, method: Method = "static", seed: int = 0) -> tuple[list[int], list[int]]:
    """Which of so many images in order calibrate, and on which others the files are compared.

    Raises:
        ExportError: there are too few.
    """
    if count < FEWEST:
        raise ExportError(f"{where} has {plural(count, 'image')}, and 8 bits need at least {FEWEST}: give more of them")
    order = np.random.default_rng(seed).permutation(count).tolist()
    most = min(MOST_CALIBRATING, int(count * (1 - _HELD_OUT))) if method == "static" else 0
    return sorted(order[:most]), sorted(order[most:][:MOST_COMPARED])


class _Recorded:
    """Stands where a model has its file, and keeps what it is given."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.inputs: _Arrays = {}

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        self.inputs = {name: one.numpy() for name, one in inputs.items()}
        found: list[Tensor] = self.file.run(inputs, outputs)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


class Inputs:
    """All inputs of a file, an image each, as often as they are asked for: they may not fit in memory together.

    Attributes:
        used: how many there were the last time; the other images could not be used.
    """

    def __init__(self, model: ExportedModel, samples: Samples[Any], places: Sequence[int], unusable: Unusable) -> None:
        self.recorded = model.file = _Recorded(model.file)  # type: ignore[assignment]
        self.predictor = Predictor(model, device="cpu")
        self.samples, self.places, self.unusable = samples, places, unusable
        self.used = 0

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[_Arrays]:
        self.used = 0
        for image, _ in usable_pictures(self.samples, self.places, self.predictor, self.unusable):
            self.predictor.predict_prepared([image])
            self.used += 1
            yield self.recorded.inputs


def require_nncf() -> Any:
    """What quantises for OpenVINO; a `MissingExtraError` where it is missing."""
    with errors_alone("torch.utils.cpp_extension"):  # it imports that, which says where there is no GPU
        return extras.require("nncf", extra="export")


def _openvino(source: Path, made: Path, inputs: Inputs) -> None:
    nncf = require_nncf()
    model = openvino_core().read_model(source)
    ignored = {one.get_type_name() for one in model.get_ops()} - {"MatMul", "Convolution", "GroupConvolution"}
    ranges = extras.require("nncf.quantization.range_estimator", extra="export").RangeEstimatorParametersSet
    # Each of NNCF's defaults that is changed here took accuracy: ranges as the mean of each image's cut some off, and
    # moving scales from maps into weights multiplied the logits' error by ten, since norms stay as they are.
    with quiet(), errors_alone("nncf"), redirect_stdout(io.StringIO()):
        quantized = nncf.quantize(
            model,
            nncf.Dataset(inputs),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(inputs),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(
                types=sorted(ignored - {"Constant", "Parameter", "Result"}), validate=False
            ),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                disable_bias_correction=True,
                activations_range_estimator_params=ranges.MINMAX,
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1, convolution=-1),
            ),
        )
    serialize(quantized, made, made.with_suffix(".bin"))


def _put_in_place(made: Path, target: Path, description: dict[str, Any]) -> None:
    if made.suffix == ".xml":
        with openvino_files(target, openvino_core().read_model(made), description):
            return
    onnx = extras.require("onnx", extra="export")
    model = onnx.load(made)
    onnx.helper.set_model_props(model, {METADATA: json.dumps(description)})
    with described(target, description) as (file,):
        file.write_bytes(model.SerializeToString())


_PRODUCTS = ["MatMul", "Gemm", "Conv"]


def _onnx_static(source: Path, made: Path, inputs: Iterable[_Arrays]) -> None:
    quantization = extras.require("onnxruntime.quantization", extra="export")
    each = iter(inputs)
    with quiet(), errors_alone("root"):
        quantization.quantize_static(
            source,
            made,
            SimpleNamespace(get_next=lambda: next(each, None)),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=_PRODUCTS,
            per_channel=True,
            extra_options={"OpTypesToExcludeOutputQuantization": _PRODUCTS},
        )
        _spare_others(made)


def _spare_others(made: Path) -> None:
    """What a product and another operation both take, such as a residual sum, the other takes in float again."""
    onnx = extras.require("onnx", extra="export")
    model = onnx.load(made)
    rounded = {node.output[0]: node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    whole = {
        node.output[0]: rounded.get(node.input[0]) for node in model.graph.node if node.op_type == "DequantizeLinear"
    }
    for node in model.graph.node:
        if node.op_type not in _PRODUCTS:
            node.input[:] = [whole.get(name) or name for name in node.input]
    onnx.save(model, made)


def _onnx_dynamic(source: Path, made: Path) -> None:
    quantization = extras.require("onnxruntime.quantization", extra="export")
    with quiet(), errors_alone("root"):
        quantization.quantize_dynamic(source, made, op_types_to_quantize=["MatMul", "Gemm"], per_channel=True)
