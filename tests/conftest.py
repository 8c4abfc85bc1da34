"""Shapes in signatures are checked while the tests run: jaxtyping and beartype, installed before the first import."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

# Some tests import OpenVINO themselves, which would send usage data: see `extras.require`.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

# Tests run in as many processes as there are cores (`make test`): more threads would only wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# Only modules of tensors: a config says which type its field has, and takes more (an int for a pair).
CHECKED = ("ops", "backbone.attention", "backbone.layers", "backbone.swin")
install_import_hook([f"swin_transformer_pytorch.{module}" for module in CHECKED], "beartype.beartype")


class Unchecked(PathFinder):
    """Finds GPU kernels before the checks do: Triton compiles functions from their source, and none that is wrapped."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None) -> ModuleSpec | None:
        return super().find_spec(fullname, path, target) if "ops.triton." in fullname else None


sys.meta_path.insert(0, Unchecked)

# A slow machine is no failure. In CI every run draws the same examples; at home each run draws new ones.
settings.register_profile("swin", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("swin")


@contextmanager
def _unchecked() -> Iterator[None]:
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture
def unchecked_shapes() -> Iterator[None]:
    """The check of annotated types takes neither symbolic integers nor sizes of a trace."""
    with _unchecked():
        yield


@pytest.fixture(scope="module")
def unchecked_module() -> Iterator[None]:
    """The same for what a module's tests share."""
    with _unchecked():
        yield


def write_small_file(
    path: Path,
    description: dict[str, Any] | str | None,
    *,
    task: str = "classification",
    dtype: str = "float32",
    batch: int | str = "batch",
    size: tuple[int | str, int | str] = ("height", "width"),
    channels: int = 3,
    classes: int = 3,
) -> Path:
    """An ONNX file of a few nodes with the inputs and outputs that exported models have.

    Logits are `weight.T @ x`, x being an image's mean over its pixels, and for segmentation each pixel. A detector
    finds an object of each class c whose score, the sigmoid of channel c's mean, is above 0.5: the whole image.
    """
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto
    node = helper.make_node
    weight = np.sin(np.arange(channels * classes, dtype=np.float32)).reshape(channels, classes)
    constants = {"weight": weight, "filter": weight.T[:, :, None, None], "sides": np.array([2, 3])}
    axes: list[int | str] = [batch, channels, *size]
    nodes = []
    if dtype == "uint8":
        assert isinstance(description, dict), "it says how bytes are normalised"
        normalise = description["preprocessing"]
        factor = 1.0 if normalise.get("kind") == "dense" else 255.0
        constants |= {name: np.float32(factor) * np.array(normalise[name], np.float32) for name in ("mean", "std")}
        axes = [batch, *size, channels]
        nodes += [
            node("Cast", ["images"], ["floats"], to=kind.FLOAT),
            node("Sub", ["floats", "mean"], ["centred"]),
            node("Div", ["centred", "std"], ["normal"]),
            node("Transpose", ["normal"], ["x"], perm=[0, 3, 1, 2]),
        ]
    else:
        nodes += [node("Identity", ["images"], ["x"])]
    inputs = [helper.make_tensor_value_info("images", kind.UINT8 if dtype == "uint8" else kind.FLOAT, axes)]
    outputs = [helper.make_tensor_value_info("logits", kind.FLOAT, None)]
    if task == "segmentation":
        nodes += [node("Conv", ["x", "filter"], ["logits"])]
    elif task == "classification":
        nodes += [
            node("ReduceMean", ["x", "sides"], ["mean_x"], keepdims=0),
            node("MatMul", ["mean_x", "weight"], ["logits"]),
        ]
    else:
        constants |= {"half": np.float32(0.5), "zeros": np.zeros(2, np.float32), "order": np.array([1, 0])}
        constants |= {"zero": np.array([0]), "mask": np.linspace(0, 1, 784, dtype=np.float32).reshape(1, 28, 28)}
        constants |= {"one": np.array([1]), "flat": np.array([-1]), "grid": np.array([28, 28])}
        inputs.append(helper.make_tensor_value_info("scale_factor", kind.FLOAT, [4]))
        names = {"boxes": kind.FLOAT, "scores": kind.FLOAT, "labels": kind.INT64, "masks": kind.FLOAT}
        outputs = [helper.make_tensor_value_info(name, of, None) for name, of in names.items()]
        nodes += [
            node("ReduceMean", ["x", "sides"], ["means"], keepdims=0),
            node("Sigmoid", ["means"], ["all_scores"]),
            node("Reshape", ["all_scores", "flat"], ["flat_scores"]),
            node("Greater", ["flat_scores", "half"], ["is_found"]),
            node("NonZero", ["is_found"], ["found"]),
            node("Reshape", ["found", "flat"], ["labels"]),
            node("Gather", ["flat_scores", "labels"], ["scores"]),
            node("Shape", ["x"], ["shape"]),
            node("Gather", ["shape", "sides"], ["height_width"]),
            node("Gather", ["height_width", "order"], ["width_height"]),
            node("Cast", ["width_height"], ["far"], to=kind.FLOAT),
            node("Concat", ["zeros", "far"], ["scaled_box"], axis=0),
            node("Div", ["scaled_box", "scale_factor"], ["box"]),
            node("Unsqueeze", ["box", "zero"], ["one_box"]),
            node("Shape", ["labels"], ["count"]),
            node("Concat", ["count", "one"], ["boxes_repeat"], axis=0),
            node("Tile", ["one_box", "boxes_repeat"], ["boxes"]),
            node("Concat", ["count", "grid"], ["masks_shape"], axis=0),
            node("Expand", ["mask", "masks_shape"], ["masks"]),
        ]
    used = {name for one in nodes for name in one.input}
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in constants.items() if name in used]
    graph = helper.make_graph(nodes, "small", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if description is not None:
        text = description if isinstance(description, str) else json.dumps(description)
        helper.set_model_props(model, {"swin_transformer_pytorch": text})
    onnx.save(model, path)
    return path


@pytest.fixture(scope="session")
def small_file() -> Callable[..., Path]:
    """`write_small_file`, where ONNX Runtime can run what it writes."""
    pytest.importorskip("onnxruntime")
    return write_small_file


def write_as_openvino(source: Path, target: Path, description: dict[str, Any] | None = None) -> Path:
    """The same as .xml; a description goes where `export_openvino` has it, else it is where OpenVINO put the file's."""
    openvino = pytest.importorskip("openvino")
    from swin_transformer_pytorch.models.runtimes import openvino_core

    model = openvino_core().read_model(source)
    if description is not None:
        if "framework" in model.rt_info:
            del model.rt_info["framework"]
        model.set_rt_info(json.dumps(description), ["swin_transformer_pytorch"])
    openvino.serialize(model, target)
    return target


@pytest.fixture(scope="session")
def as_openvino() -> Callable[..., Path]:
    """`write_as_openvino`, where OpenVINO can run what it writes."""
    pytest.importorskip("openvino")
    return write_as_openvino
