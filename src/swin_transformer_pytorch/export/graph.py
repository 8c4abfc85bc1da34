"""A model as a graph without Python: the copy that is traced, what goes in and comes out, and the trace."""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Shaped
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from .. import __version__
from ..backbone.config import SwinConfig
from ..backbone.swin import Swin, SwinBlock, SwinStage
from ..backbone.whole import is_whole_block, replace_modules
from ..extras import errors_alone
from ..heads.upernet import UPerHead
from ..models.backbone import SwinBackbone
from ..models.classification import SwinClassifier
from ..models.config import FINE_TUNE_FIRST
from ..models.description import METADATA as METADATA
from ..models.description import describe
from ..models.detection import Detector
from ..models.detection_inference import size_divisor
from ..models.exported import OBJECTS, QUERIES
from ..models.inputs import byte_scale
from ..models.mask2former import Mask2Former
from ..models.masked import MaskedSwin
from ..models.segmentation import Segmenter
from ..ops import is_plain
from ..ops.padding import padded_size
from ..sizes import Size
from .blocks import ExportedPooling, ExportedStage
from .detection import Part, detector_form
from .form import Form
from .masks import mask_form

_AXES = ("batch", "channels", "height", "width")
_GUESS = re.compile(r"expression (Ne\(|u\d+ >= 2)")


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

    def forward(self, images: Shaped[Tensor, "B ..."], *others: Tensor) -> tuple[Tensor, ...]:
        if self.takes_bytes:
            images = ((images.float() - self.mean) / self.std).permute(0, 3, 1, 2)
        out = self.model(images, *others)
        return (out,) if isinstance(out, Tensor) else tuple(out)


@dataclass(frozen=True, kw_only=True)
class Graph:
    """A model ready to be traced.

    Attributes:
        module: the copy that is traced; it takes the inputs and gives a tuple of outputs.
        original: the model as it is, taking and giving the same.
        form: the names of both, and how images become all inputs.
        image_size: the only (height, width) in pixels that images may have; None for any.
        batch_size: the only number of images in a batch; None for any.
        byte_input: whether images are (batch, height, width, channels) in bytes, normalised inside, rather than
            (batch, channels, height, width), normalised.
        backbone: the config of the model's backbone.
        description: what the file is, in plain types.
    """

    module: Whole
    original: Whole
    form: Form
    image_size: Size | None
    batch_size: int | None
    byte_input: bool
    backbone: SwinConfig
    description: dict[str, Any]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names: "logits", "map0", "map1", ... of a backbone's stages, or what a detector or a Mask2Former gives."""
        return self.form.outputs

    @property
    def finds_objects(self) -> bool:
        """Whether it gives the objects of an image, as many as there are."""
        return self.outputs == OBJECTS

    @property
    def has_queries(self) -> bool:
        """Whether it gives a class and a mask of each of some queries."""
        return self.outputs == QUERIES

    def axes(self, name: str, rank: int) -> tuple[str, ...]:
        """What the axes of an input or output are; where two have the same name they are equally long."""
        if name == "images":
            return ("batch", "height", "width", "channels") if self.byte_input else _AXES
        if name in OBJECTS:
            return ("objects", f"{name}_height", f"{name}_width")[:rank]
        if name in QUERIES:
            return ("batch", "queries", *(("classes",) if rank == 3 else ("mask_height", "mask_width")))
        names = ("anchors", "deltas") if name.startswith("rpn") else _AXES[1:] if rank == 4 else ("classes",)
        return ("batch", *(f"{name}_{axis}" for axis in names))[:rank]

    def telling_sizes(self) -> list[Size]:
        """Image sizes that differ in how windows fit: one pixel, below one, oblong, above one, above the last's."""
        config = self.backbone
        height, width = (patch * window for patch, window in zip(config.patch_size, config.window_size, strict=True))
        sizes = [(1, 1), (height // 2 + 1, width - 1), (height - 1, 3 * width + 1), (2 * height + 1, 2 * width)]
        strides = config.stage_strides[-1]
        sizes.append((strides[0] * config.window_size[0] + 1, strides[1] * (config.window_size[1] - 1)))
        if self.finds_objects:  # more anchors on a level than are looked at
            sizes.append((25 * config.patch_size[0] - 1, 33 * config.patch_size[1]))
        return sizes

    def example(self, size: Size, batch: int, seed: int = 0) -> tuple[Shaped[Tensor, ...], ...]:
        """All inputs, of random images of that size."""
        generator, channels = torch.Generator().manual_seed(seed), self.backbone.in_channels
        if self.byte_input:
            images = torch.randint(256, (batch, *size, channels), generator=generator, dtype=torch.uint8)
        else:
            images = torch.randn(batch, channels, *size, generator=generator)
        with torch.no_grad():
            return self.form.complete(images, size)

    def _free_axes(self, name: str, value: Tensor) -> dict[int, Any] | None:
        """The axes of an input that may have any length, or None."""
        if value.ndim == 1:
            return None
        fixed = {"channels", f"{name}_channels", f"{name}_deltas"} | ({"batch"} if self.batch_size else set())
        fixed |= {"height", "width"} if self.image_size else set()
        axes = enumerate(self.axes(name, value.ndim))
        return {
            axis: Dim(called, min=1) if name == "images" else Dim.DYNAMIC
            for axis, called in axes
            if called not in fixed
        }

    def trace(self) -> ExportedProgram:
        """For the sizes and batches that it is for."""
        example = self.example(self.image_size or (96, 80), batch=self.batch_size or 2)
        first, *others = map(self._free_axes, self.form.inputs, example)
        # Otherwise PyTorch makes a map of one cell, window or image a case of its own and keeps it out.
        apart = torch.fx.experimental._config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
        with apart, quiet(), torch.no_grad():
            program = torch.export.export(
                self.module,
                example,
                dynamic_shapes={"images": first, **({"others": tuple(others)} if others else {})},
                prefer_deferred_runtime_asserts_over_guards=True,
                strict=False,
            )
        _forget_guesses(program.graph_module)
        return program


def _forget_guesses(traced: torch.fx.GraphModule) -> None:
    """Removes assertions that change no value: that a map's side is not 1, which the tracer asked to know its layout,
    and that two boxes or more survive a suppression, which torchvision tells it.
    """
    for node in list(traced.graph.nodes):
        if node.target is torch.ops.aten._assert_scalar.default and _GUESS.search(node.args[1]):
            traced.graph.erase_node(node)
    traced.graph.eliminate_dead_code()
    traced.recompile()


def prepare(
    model: nn.Module,
    image_size: int | Size | None = None,
    *,
    batch_size: int | None = None,
    byte_input: bool = False,
    part: Part | None = None,
) -> Graph:
    """A copy of a model in the form that exporters take; the model stays as it is. Arguments: see `export_onnx`.

    `part` is which of a detector's two files it is for, None where it has only one.

    Raises:
        ExportError: the model is of no kind that can be exported, holds layers that are not this package's, is no
            float32, or has no preprocessing that `byte_input` could take in.
    """
    if isinstance(model, MaskedSwin):
        raise ExportError(f"this {type(model).__name__} has nothing to say of an image yet: {FINE_TUNE_FIRST}")
    if not isinstance(model, SwinClassifier | SwinBackbone | Segmenter | Detector | Mask2Former):
        raise ExportError(
            f"{type(model).__name__} cannot be exported: give a model of create_model, or a backbone of create_backbone"
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
    if part is not None and not isinstance(model, Detector):
        raise ExportError(f"split=True is for detectors, not for {type(model).__name__}: leave it out")
    if isinstance(model, Detector) and model.roi_head.rules.soft_nms:
        raise ExportError(
            "soft_nms=True suppresses in a loop, which cannot be exported: make the model with soft_nms=False, and "
            "load its weights"
        )
    if isinstance(model, Detector) and part is None and batch_size not in (None, 1):
        raise ExportError(
            f"batch_size={batch_size} is not possible: a detector in one file takes one image at a time; the network "
            "of split=True takes any number"
        )
    if part == "objects":  # of one image, of any size
        size, batch_size, byte_input = None, 1, False
    elif batch_size is None and (size is not None or (isinstance(model, Detector) and part is None)):
        batch_size = 1
    original = copy.deepcopy(model).cpu().eval().requires_grad_(False)
    exported = copy.deepcopy(original)
    backbone = exported.backbone if isinstance(exported, Segmenter | Detector | Mask2Former) else exported
    padded = padded_size(size, size_divisor(exported)) if size and isinstance(exported, Detector) else size
    sizes = iter(_map_sizes(backbone, padded))
    replace_modules(exported, lambda part: is_plain(part, SwinStage), lambda stage: ExportedStage(stage, next(sizes)))
    if isinstance(exported, Segmenter) and isinstance(exported.decode_head, UPerHead):
        for branch in exported.decode_head.psp_modules:
            branch[0] = ExportedPooling(branch[0].output_size)  # type: ignore[index, operator]
    if isinstance(exported, Detector):
        form = detector_form(exported, cast(Detector, original), part)
    elif isinstance(exported, Mask2Former):
        form = mask_form(exported, cast(Mask2Former, original))
    else:
        maps = tuple(f"map{index}" for index in exported.out_indices) if isinstance(exported, SwinBackbone) else ()
        form = Form(exported, original, outputs=maps or ("logits",))
    scale = _byte_scale(model, backbone.config.in_channels) if byte_input else None
    return Graph(
        module=Whole(form.module, scale).eval().requires_grad_(False),
        original=Whole(form.original, scale).eval(),
        form=form,
        image_size=size,
        batch_size=batch_size,
        byte_input=byte_input,
        backbone=backbone.config,
        description={
            **_describe(model),
            "version": __version__,
            **({} if part is None else {"part": part}),
            "input": "uint8 (batch, height, width, channels)"
            if byte_input
            else "float32 (batch, channels, height, width)",
            "inputs": list(form.inputs),
            "image_size": None if size is None else list(size),
            "batch_size": batch_size,
            "outputs": list(form.outputs),
        },
    )


def _describe(model: SwinClassifier | SwinBackbone | Segmenter | Detector | Mask2Former) -> dict[str, Any]:
    if isinstance(model, SwinBackbone):
        return {"task": model.task, "name": model.name, "config": model.config.to_dict()}
    return describe(model).to_dict()


def _map_sizes(backbone: Swin, image_size: Size | None) -> list[Size | None]:
    """Tokens (height, width) of each stage's map."""
    config = backbone.config
    if image_size is None:
        return [None] * len(config.depths)
    return [(-(-image_size[0] // height), -(-image_size[1] // width)) for height, width in config.stage_strides]


def _byte_scale(model: Any, channels: int) -> tuple[Tensor, Tensor]:
    """What is subtracted from bytes, and what they are divided by."""
    preprocessing = getattr(model, "preprocessing", None)
    if preprocessing is None or preprocessing.channels != channels:
        raise ExportError("byte_input needs a model whose preprocessing is known: set it, or normalise outside")
    return byte_scale(preprocessing)


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps back what exporters say about themselves."""
    with warnings.catch_warnings(action="ignore"), errors_alone("torch.onnx", "onnxscript", "onnx_ir"):
        yield
