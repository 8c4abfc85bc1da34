"""`export_program`: a model as PyTorch's own exported program, which runs without this package."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import torch
from torch import nn

from ..sizes import Size
from ..whole import replacing
from .comparison import Run, compare
from .detection import THRESHOLD
from .files import check_target
from .graph import METADATA, prepare, quiet


def export_program(
    model: nn.Module,
    path: str | os.PathLike[str],
    image_size: int | Size | None = None,
    *,
    batch_size: int | None = None,
    byte_input: bool = False,
) -> Path:
    """Writes a model as a .pt2 file: `torch.export.load(path).module()` runs it, and takes `images` of any batch.

    A detector's takes one image and its `scale_factor`. It gives a tuple of outputs. What the model is lies in it as
    the extra file `swin_transformer_pytorch.json`. As `export_onnx` otherwise.

    Raises:
        ExportError: as `export_onnx`.
    """
    target = check_target(path, ".pt2")
    graph = prepare(model, image_size, batch_size=batch_size, byte_input=byte_input)
    content = io.BytesIO()
    with quiet():
        torch.export.save(graph.trace(), content, extra_files={f"{METADATA}.json": json.dumps(graph.description)})
        content.seek(0)
        program = torch.export.load(content).module()

    def start(threshold: float | None = None) -> Run:
        for name, buffer in program.named_buffers():
            if threshold is not None and name.endswith(THRESHOLD):
                buffer.fill_(threshold)
        return program

    compare(start, graph)
    with replacing(target) as temporary:
        temporary.write_bytes(content.getbuffer())
    return target
