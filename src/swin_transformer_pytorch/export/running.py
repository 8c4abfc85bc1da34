"""Exported files of classifiers and segmenters, run where their models stand."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .. import extras
from ..models.description import ModelDescription
from ..weights.preprocessing import Preprocessing
from .graph import METADATA, ExportError


class ExportedFile:
    """A file, opened on the CPU; it computes in float32 where it is not of 8 bits.

    Attributes:
        path: the file.
        description: what it says that it is.

    Raises:
        ExportError: it is no file of this package's.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.suffix == ".xml":
            core = extras.require("openvino", extra="export").Core()
            model = core.read_model(path)
            self._compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            text = model.get_rt_info(METADATA).astype(str) if model.has_rt_info([METADATA]) else None
        else:
            onnxruntime = extras.require("onnxruntime", extra="export")
            self._session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            text = self._session.get_modelmeta().custom_metadata_map.get(METADATA)
        if text is None:
            raise ExportError(f"{path} does not say what it is: give a file of export_onnx or export_openvino")
        self.description: dict[str, Any] = json.loads(text)

    def run(self, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> list[Tensor]:
        """The named outputs."""
        arrays = {name: one.numpy() for name, one in inputs.items()}
        if self.path.suffix == ".xml":
            found = self._compiled(arrays)
            return [torch.from_numpy(np.array(found[name])) for name in outputs]
        return [torch.from_numpy(one) for one in self._session.run(list(outputs), arrays)]


class ExportedModel(nn.Module):
    """A file where the classifier or segmenter stands that it was made from."""

    def __init__(self, file: ExportedFile) -> None:
        super().__init__()
        described = ModelDescription.from_dict(file.description)
        self.task, self.config, self.name = described.task, described.config, described.name
        self.num_classes, self.classes, self.palette = described.num_classes, described.classes, described.palette
        self.preprocessing = described.preprocessing
        self.file = file

    def forward(self, images: Tensor) -> Tensor:
        """Logits of normalised images (B, C, H, W)."""
        if self.file.description["input"].startswith("uint8"):
            assert self.preprocessing is not None, "byte_input asks for it"
            factor = 255.0 if isinstance(self.preprocessing, Preprocessing) else 1.0
            mean, std = (factor * torch.tensor(part) for part in (self.preprocessing.mean, self.preprocessing.std))
            images = (images.permute(0, 2, 3, 1) * std + mean).round().clamp(0, 255).to(torch.uint8)
        step = self.file.description["batch_size"] or len(images)
        pieces = [torch.cat([one, images.new_zeros(step - len(one), *one.shape[1:])]) for one in images.split(step)]
        found = [self.file.run({"images": piece.contiguous()}, ["logits"])[0] for piece in pieces]
        return torch.cat(found)[: len(images)]


def load_exported(path: Path) -> ExportedModel:
    """The model that a file stands for."""
    return ExportedModel(ExportedFile(path))
