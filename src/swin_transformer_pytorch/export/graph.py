"""A model as a graph without Python: the copy that is traced, what goes in and comes out, and the trace."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from .. import __version__
from ..backbone.swin import Swin, SwinBlock, SwinStage
from ..backbone.whole import is_whole_block, replace_modules
from ..extras import errors_alone
from ..heads.upernet import UPerHead
from ..models.backbone import SwinBackbone
from ..models.classification import SwinClassifier
from ..models.description import METADATA as METADATA
from ..models.description import describe
from ..models.inputs import byte_scale
from ..models.segmentation import Segmenter
from ..ops import is_plain
from ..sizes import Size
from .blocks import ExportedPooling, ExportedStage


class ExportError(ValueError):
    """What cannot be exported, or did not come out equal to the model. The message names it and says the fix."""


class Whole(nn.Module):
    """A model with the last of its preprocessing before it, and its outputs as a tuple."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, byte_scale: tuple[Tensor, Tensor] | None) -> None:
        super().__init__()
        self.model = model
        self.takes_bytes = byte_scale is not None
        for name, value in zip(("mean", "std"), byte_scale or (None, None), strict=True):
            self.register_buffer(name, value)

    def forward(self, images: Shaped[Tensor, "B ..."]) -> tuple[Tensor, ...]:
        if self.takes_bytes:
            images = ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        out = self.model(images)
        return (out,) if isinstance(out, Tensor) else tuple(out)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A model ready to be traced.

    Attributes:
        module: the copy that is traced; it takes images and gives a tuple of outputs.
        original: the model as it is, taking and giving the same.
        outputs: their names: "logits", or "map0", "map1", ... of a backbone's stages.
        image_size: the only (height, width) in pixels that images may have; None for any.
        batch_size: the only number of images in a batch; None for any.
        byte_input: whether images are (batch, height, width, channels) in bytes, normalised inside, rather than
            (batch, channels, height, width), normalised.
        channels: of an image.
        description: what the file is, in plain types.
    """

    module: Whole
    original: Whole
    outputs: tuple[str, ...]
    image_size: Size | None
    batch_size: int | None
    byte_input: bool
    channels: int
    description: dict[str, Any]

    @property
    def axes(self) -> tuple[str, str, str, str]:
        """Of the images."""
        if self.byte_input:
            return ("batch", "height", "width", "channels")
        return ("batch", "channels", "height", "width")

    def telling_sizes(self) -> list[Size]:
        """Image sizes that differ in how windows fit: one pixel, below a window, oblong, and above one."""
        config: Any = self.original.model.config
        config = getattr(config, "backbone", config)
        height, width = (patch * window for patch, window in zip(config.patch_size, config.window_size, strict=True))
        return [(1, 1), (height // 2 + 1, width - 1), (height - 1, 3 * width + 1), (2 * height + 1, 2 * width)]

    def example(self, size: Size, batch: int, seed: int = 0) -> Shaped[Tensor, ...]:
        """Random images of that size, in the form that it takes."""
        generator = torch.Generator().manual_seed(seed)
        if self.byte_input:
            return torch.randint(256, (batch, *size, self.channels), generator=generator, dtype=torch.uint8)
        return torch.randn(batch, self.channels, *size, generator=generator)

    def trace(self) -> ExportedProgram:
        """For the sizes and batches that it is for."""
        names = ("batch", "height", "width") if self.byte_input else ("batch", "channels", "height", "width")
        free = set() if self.image_size else {"height", "width"}
        free |= set() if self.batch_size else {"batch"}
        dims = {axis: Dim(name, min=1) for axis, name in enumerate(names) if name in free}
        # Otherwise PyTorch makes a map of one cell, window or image a case of its own and keeps it out.
        apart = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
        with apart, quiet(), torch.no_grad():
            program = torch.export.export(
                self.module,
                (self.example(self.image_size or (96, 80), batch=self.batch_size or 2),),
                dynamic_shapes={"images": dims},
                prefer_deferred_runtime_asserts_over_guards=True,
                strict=False,
            )
        _forget_layouts(program.graph_module)
        return program


def _forget_layouts(traced: torch.fx.GraphModule) -> None:
    """Removes assertions that a map's side is not 1: the tracer asked so to know its layout, which changes no value."""
    for node in list(traced.graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default and "expression Ne(" in node.args[1]:
            traced.graph.erase_node(node)
    traced.graph.eliminate_dead_code()
    traced.recompile()


def prepare(
    model: nn.Module,
    image_size: int | Size | None = None,
    *,
    batch_size: int | None = None,
    byte_input: bool = False,
) -> Graph:
    """A copy of a model in the form that exporters take; the model stays as it is. Arguments: see `export_onnx`.

    Raises:
        ExportError: the model is of no kind that can be exported, holds layers that are not this package's, is no
            float32, or has no preprocessing that `byte_input` could take in.
    """
    if not isinstance(model, SwinClassifier | SwinBackbone | Segmenter):
        raise ExportError(
            f"{type(model).__name__} cannot be exported: give a classifier or segmenter of create_model, or a backbone "
            "of create_backbone"
        )
    dtypes = {str(parameter.dtype) for parameter in model.parameters()}
    if dtypes != {"torch.float32"}:
        raise ExportError(f"the model is {' and '.join(sorted(dtypes))}: export it in float32 (model.float())")
    stages = [module for module in model.modules() if is_plain(module, SwinStage)]
    if len(stages) != sum(len(part.layers) for part in model.modules() if isinstance(part, Swin)):
        raise ExportError("the model is optimised, or its stages were exchanged: export the one that it was made from")
    for name, module in model.named_modules():
        if isinstance(module, SwinBlock) and not is_whole_block(module):
            raise ExportError(
                f"{name} is not as this package made it (hooks, adapters, other layers): merge or remove them first"
            )
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if size is not None and min(size) < 1:
        raise ExportError(f"image_size={image_size!r} is not possible: use pixels (height, width), or None for any")
    if batch_size is not None and batch_size < 1:
        raise ExportError(f"batch_size={batch_size!r} is not possible: use a number of images, or None")
    if size is not None and batch_size is None:
        batch_size = 1
    original = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    exported = copy.deepcopy(original)
    backbone = exported.backbone if isinstance(exported, Segmenter) else exported
    sizes = iter(_map_sizes(backbone, size))
    replace_modules(exported, lambda part: is_plain(part, SwinStage), lambda stage: ExportedStage(stage, next(sizes)))
    if isinstance(exported, Segmenter) and isinstance(exported.decode_head, UPerHead):
        for branch in exported.decode_head.psp_modules:
            branch[0] = ExportedPooling(branch[0].output_size)  # type: ignore[index, operator]
    outputs: tuple[str, ...] = ("logits",)
    if isinstance(exported, SwinBackbone):
        outputs = tuple(f"map{index}" for index in exported.out_indices)
    scale = _byte_scale(model) if byte_input else None
    return Graph(
        module=Whole(exported, scale).eval().requires_grad_(False),
        original=Whole(original, scale).eval(),
        outputs=outputs,
        image_size=size,
        batch_size=batch_size,
        byte_input=byte_input,
        channels=backbone.config.in_channels,
        description={
            **_describe(model),
            "version": __version__,
            "input": "uint8 (batch, height, width, channels)"
            if byte_input
            else "float32 (batch, channels, height, width)",
            "image_size": None if size is None else list(size),
            "batch_size": batch_size,
            "outputs": list(outputs),
        },
    )


def _describe(model: SwinClassifier | SwinBackbone | Segmenter) -> dict[str, Any]:
    if isinstance(model, SwinBackbone):
        return {"task": model.task, "name": model.name, "config": model.config.to_dict()}
    return describe(model).to_dict()


def _map_sizes(backbone: Swin, image_size: Size | None) -> list[Size | None]:
    """Tokens (height, width) of each stage's map."""
    config = backbone.config
    if image_size is None:
        return [None] * len(config.depths)
    return [(-(-image_size[0] // height), -(-image_size[1] // width)) for height, width in config.stage_strides]


def _byte_scale(model: Any) -> tuple[Tensor, Tensor]:
    """What is subtracted from bytes, and what they are divided by."""
    preprocessing = getattr(model, "preprocessing", None)
    if preprocessing is None or preprocessing.channels != model.config.in_channels:
        raise ExportError("byte_input needs a model whose preprocessing is known: set it, or normalise outside")
    return byte_scale(preprocessing)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps back what exporters say about themselves."""
    with warnings.catch_warnings(action="ignore"), errors_alone("torch.onnx", "onnxscript", "onnx_ir"):
        yield
