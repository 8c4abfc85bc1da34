"""Exported files in the runtimes that they are for: `.onnx` in ONNX Runtime, `.xml` in OpenVINO."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import extras
from ..weights.checkpoint import check_description
from ..weights.files import CheckpointError, DamagedFileError, first_bytes, first_line
from .description import METADATA

_Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Port:
    """An input of a file.

    Attributes:
        dtype: as numpy names it.
        shape: of each axis its only length, or None for any; None as a whole where not even their number is fixed.
    """

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """What a runtime makes of a file; `text` is the description that it found inside."""

    inputs: dict[str, Port]
    outputs: tuple[str, ...]
    text: str | None
    run: Callable[[_Arrays, Sequence[str]], Sequence[NDArray[Any]]]


class ExportedFile:
    """A file of `export_onnx` or `export_openvino`, opened. It computes in float32, by as many threads as PyTorch has.

    A copy, also in another process, opens the file again.

    Attributes:
        path: absolute.
        device: where it runs.
        inputs: by name.
        outputs: their names.
        description: what it says of itself, checked as far as plain types go.

    Raises:
        CheckpointError: there is no such file, it is damaged, or not one of a classifier, detector or segmenter.
        MissingExtraError: its runtime is not installed.
        ValueError: the runtime does not have that device.
    """

    def __init__(self, path: Path, device: torch.device) -> None:
        first_bytes(path)
        self.path, self.device = path.absolute(), device
        opened = _RUNTIMES[path.suffix](self.path, device)
        self.inputs, self.outputs, self._run = opened.inputs, opened.outputs, opened.run
        self.description = _description(self.path, opened.text)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.device)

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """The named outputs, on the CPU.

        Raises:
            ValueError: the runtime does not get through.
        """
        try:
            found = self._run({name: tensor.numpy() for name, tensor in inputs.items()}, outputs)
        except Exception as error:  # runtimes have exceptions of their own
            shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in inputs.items())
            raise ValueError(f"{self.path} does not run, for {shapes}: {first_line(error)}") from error
        return [torch.from_numpy(one) for one in found]

    def digest(self) -> str:
        """A sha256 of it and of the weights beside it."""
        digest = hashlib.sha256()
        weights = f"{self.path.stem}.bin" if self.path.suffix == ".xml" else f"{self.path.name}.data"
        for path in (self.path, self.path.with_name(weights)):
            if path.is_file():
                with path.open("rb") as file:
                    digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()


def _open_onnx(path: Path, device: torch.device) -> _Opened:
    runtime = extras.require("onnxruntime", extra="export")
    kind = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}.get(device.type)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors
    session = None
    if kind in runtime.get_available_providers():
        placed = (kind, {"device_id": device.index or 0}) if device.type == "cuda" else kind
        try:
            session = runtime.InferenceSession(path, options, providers=[placed])
        except Exception as error:  # It has exceptions of its own.
            raise _damaged(path, "ONNX file", error) from error
    # Where a provider's libraries are missing it would go on with another.
    if session is None or session.get_providers()[0] != kind:
        raise ValueError(
            f"device={str(device)!r} cannot run {path}: this onnxruntime offers no {kind or 'provider for it'}; use "
            "device='cpu', or for CUDA install onnxruntime-gpu in its place"
        )
    return _Opened(
        inputs={
            one.name: Port(
                dtype={"tensor(float)": "float32"}.get(one.type, one.type[len("tensor(") : -1]),
                shape=tuple(length if isinstance(length, int) else None for length in one.shape),
            )
            for one in session.get_inputs()
        },
        outputs=tuple(one.name for one in session.get_outputs()),
        text=session.get_modelmeta().custom_metadata_map.get(METADATA),
        run=lambda inputs, outputs: session.run(outputs, inputs),
    )


def _open_openvino(path: Path, device: torch.device) -> _Opened:
    core = openvino_core()
    if device.type != "cpu":
        raise ValueError(f"device={str(device)!r} cannot run {path}: OpenVINO runs it on the CPU; use device='cpu'")
    if b"<net" not in first_bytes(path):  # It would try its other readers, which print what they think of it.
        raise DamagedFileError(f"{path} is no OpenVINO model, which begins with <net>: export it again")
    if not path.with_suffix(".bin").is_file():
        raise CheckpointError(f"{path} has no {path.stem}.bin beside it, which holds its weights: put it there")
    try:
        model = core.read_model(path)
        compiled = core.compile_model(model, "CPU", openvino_options("f32"))
    except Exception as error:  # Those of its plugins are not documented.
        raise _damaged(path, "OpenVINO model", error) from error
    # OpenVINO's own converter puts an ONNX file's metadata into "framework".
    keys = next((keys for keys in ([METADATA], ["framework", METADATA]) if model.has_rt_info(keys)), None)

    def run(inputs: _Arrays, outputs: Sequence[str]) -> list[NDArray[Any]]:
        # A request of its own: several threads may call.
        found = compiled.create_infer_request().infer(dict(inputs))
        return [np.array(found[name]) for name in outputs]

    return _Opened(
        inputs={
            name: Port(
                dtype=one.element_type.to_dtype().name,
                shape=None
                if one.partial_shape.rank.is_dynamic
                else tuple(length.get_length() if length.is_static else None for length in one.partial_shape),
            )
            for one in model.inputs
            for name in one.names
        },
        outputs=tuple(name for one in model.outputs for name in one.names),
        text=None if keys is None else str(model.get_rt_info(keys).value),
        run=run,
    )


def openvino_core() -> Any:
    """OpenVINO's `Core`: one for the process, for good.

    Each that is made gives the calling thread a stack for signals and takes it away as it goes. Of two that go in the
    order in which they came, a stack is left that is no longer there, and the next signal that Python handles, such as
    one that a worker of a DataLoader has ended, ends the process.
    """
    return _core(extras.require("openvino", extra="export"))


@functools.cache
def _core(openvino: Any) -> Any:
    return openvino.Core()


def openvino_options(precision: str | None) -> dict[str, Any]:
    """For one request at a time on the CPU, with PyTorch's number of threads.

    `precision` is "f32" or "bf16"; None lets OpenVINO choose: bfloat16 on processors that have it.
    """
    options = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": torch.get_num_threads()}
    return options if precision is None else {**options, "INFERENCE_PRECISION_HINT": precision}


_RUNTIMES = {".onnx": _open_onnx, ".xml": _open_openvino}


def is_exported(source: str | Path) -> bool:
    """Whether it is the path of a file that a runtime here is for, by its ending."""
    return str(source).endswith(tuple(_RUNTIMES)) and "://" not in str(source)


def _damaged(path: Path, kind: str, error: Exception) -> DamagedFileError:
    lines = [line for line in str(error).splitlines() if line and not line.startswith("Exception from")]
    return DamagedFileError(f"{path} is damaged, or no {kind} ({first_line(' '.join(lines))}): export it again")


def _description(path: Path, text: str | None) -> dict[str, Any]:
    """What the file says of itself, or the JSON file beside it, where only that came along."""
    beside = path.with_suffix(".json")
    try:
        if text is None and beside.is_file():
            text = beside.read_text(encoding="utf-8")
        description = None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} has a damaged description of its model, which is no JSON ({first_line(error)}): export it again"
        ) from error
    if description is None:
        raise CheckpointError(
            f"{path} does not say which model it is, nor does a {beside.name} beside it: give a file of `swin export`, "
            "or put the JSON file there that it wrote beside this one"
        )
    if not isinstance(description, dict):
        raise CheckpointError(f"{path} has a damaged description of its model, which is no dict: export it again")
    if description.get("task") == "backbone":
        raise CheckpointError(
            f"{path} is a backbone, whose maps are no answer: give a classifier, detector or segmenter"
        )
    if "part" in description:
        raise CheckpointError(
            f"{path} is one of a detector's two parts: give the file of the whole, exported without split (--split)"
        )
    check_description(description, str(path))
    return description
