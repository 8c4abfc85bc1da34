"""An exported file as a model: it stands where a classifier, detector or segmenter of ours stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..heads.mask_outputs import MaskOutputs
from ..ops.regions.instances import InstancePredictions
from ..sizes import Size
from ..weights.files import CheckpointError
from .description import ModelDescription, describe
from .inputs import as_bytes
from .mask2former_config import Mask2FormerConfig
from .runtimes import ExportedFile

OBJECTS = ("boxes", "scores", "labels", "masks")
"""What a detector's file gives, by name."""

QUERIES = ("class_logits", "mask_logits")
"""What a Mask2Former's file gives: `MaskOutputs`."""


class ExportedModel(nn.Module):
    """A model's file, for inference: it holds no parameters, and `forward` gives a classifier's or segmenter's logits.

    A file of one image size takes no other; one of one batch size gets images in pieces of it. A file that takes bytes
    gets the images' own back, before they were normalised: exactly those of images that were bytes when they were
    resized, and others rounded. `to` moves it to "cuda" where onnxruntime has that; otherwise it is on the CPU.

    Attributes:
        task: "classification", "detection", "segmentation" or "panoptic".
        config: of the model that it was made from.
        num_classes, multi_label, classes, palette, preprocessing, name: as `ModelDescription` has them.
        file: the opened file.

    Raises:
        CheckpointError: the file takes or gives something else than it says.
    """

    default_device = "cpu"
    _inputs: tuple[str, ...] = ("images",)
    _outputs: tuple[str, ...] = ("logits",)

    def __init__(self, description: ModelDescription, file: ExportedFile) -> None:
        super().__init__()
        self.task, self.config, self.name = description.task, description.config, description.name
        self.num_classes, self.classes, self.palette = description.num_classes, description.classes, description.palette
        self.multi_label = description.multi_label
        self.preprocessing: Any = description.preprocessing
        self.file = file
        images = file.inputs.get("images")
        if set(file.inputs) != set(self._inputs) or not set(self._outputs) <= set(file.outputs):
            raise CheckpointError(
                f"{file.path} takes {', '.join(file.inputs)[:200]} and gives {', '.join(file.outputs)[:200]}; one for "
                f"{self.task} takes {', '.join(self._inputs)} and gives {', '.join(self._outputs)}: export it again"
            )
        assert images is not None, "it is among the inputs"
        if images.shape is None or len(images.shape) != 4 or images.dtype not in ("float32", "uint8"):
            raise CheckpointError(
                f"{file.path} takes images as {images.dtype} {images.shape}: export it again, for float32 or uint8 "
                "with 4 axes"
            )
        self._takes_bytes = images.dtype == "uint8"
        axes = (0, 3, 1, 2) if self._takes_bytes else (0, 1, 2, 3)
        self._fixed = tuple(images.shape[axis] for axis in axes)  # batch, channels, height, width
        self.eval()

    @property
    def image_size(self) -> Size | None:
        """The only (height, width) in pixels that the file takes; None where a side may be any."""
        _, _, height, width = self._fixed
        return None if height is None or width is None else (height, width)

    def metadata(self) -> dict[str, Any]:
        """What it is, in plain types."""
        return describe(self).to_dict()

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes ..."]:
        """Logits, for images as the model takes them that the file was made from.

        Raises:
            ValueError: the file does not take images of that size, or not in that number of channels.
        """
        (logits,) = self._in_pieces(images)
        if logits.ndim < 2 or logits.shape[1] != self.num_classes:
            raise ValueError(
                f"{self.file.path} gives logits {tuple(logits.shape)}, and describes a model of {self.num_classes} "
                "classes: export it again"
            )
        return logits

    def _in_pieces(self, images: Float[Tensor, "B C H W"]) -> list[Tensor]:
        """All outputs, for as many images at once as the file takes."""
        step = self._fixed[0] or max(len(images), 1)
        pieces = [images[start : start + step] for start in range(0, max(len(images), 1), step)]
        lacking = images.new_zeros(step - len(pieces[-1]), *images.shape[1:])
        pieces[-1] = torch.cat([pieces[-1], lacking])
        found = [self.file.run({"images": self._taken(piece)}, self._outputs) for piece in pieces]
        return [torch.cat(parts)[: len(images)] for parts in zip(*found, strict=True)]

    def _taken(self, images: Float[Tensor, "B C H W"]) -> Tensor:
        """Images in the form that the file takes."""
        _, channels, *fixed = self._fixed
        if channels not in (None, images.shape[1]):
            raise ValueError(f"{self.file.path} takes images of {channels} channels, and here are {images.shape[1]}")
        size = images.shape[2:]
        if any(only not in (None, given) for only, given in zip(fixed, size, strict=True)):
            height, width = ("any" if only is None else only for only in fixed)
            raise ValueError(
                f"{self.file.path} takes images of {height} x {width} pixels alone, and this one has "
                f"{size[0]} x {size[1]}: export it without image_size (--image-size), for every size"
            )
        images = images.detach().to("cpu", torch.float32)
        if not self._takes_bytes:
            return images.contiguous()
        if self.preprocessing is None:
            raise ValueError(f"{self.file.path} takes bytes, and has no preprocessing that says how: export it again")
        return as_bytes(images, self.preprocessing)

    def to(  # type: ignore[override]
        self, device: Any = None, dtype: torch.dtype | None = None, **_: Any
    ) -> ExportedModel:
        """Opens the file on another device: "cpu", or "cuda" where onnxruntime has it.

        Raises:
            ValueError: the runtime does not have that device, or the dtype is not float32.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        if dtype not in (None, torch.float32):
            raise ValueError(f"{self.file.path} computes in float32, not {dtype}: leave that out")
        place = None if device is None else torch.device(device)
        if place not in (None, self.file.device):
            self.file = ExportedFile(self.file.path, place)
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> ExportedModel:
        """`cuda`, `half` and the like."""
        moved = fn(torch.empty(0, device=self.file.device))
        return self.to(moved.device, moved.dtype)

    def state_dict(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: saving nothing would look like saving."""
        raise ValueError(f"{self.file.path} has no state dict: copy the file, or save the model that it was made from")


class ExportedDetector(ExportedModel):
    """A detector's file. It is run for one image at a time, each cut to its own size."""

    _inputs = ("images", "scale_factor")
    _outputs = OBJECTS

    @torch.no_grad()
    def forward(  # type: ignore[override]
        self,
        images: Float[Tensor, "B C H W"],
        image_sizes: Sequence[Size] | None = None,
        scale_factors: Sequence[Sequence[float]] | None = None,
    ) -> list[InstancePredictions]:
        """Each image's objects, as `Detector.forward` gives them.

        Raises:
            ValueError: as there, or what the file gives are no objects of its classes.
        """
        from .detection import check_scale_factors, checked_sizes  # imports torchvision's operators

        sizes = checked_sizes(images, image_sizes)
        check_scale_factors(images, scale_factors)
        factors = scale_factors or [(1.0, 1.0, 1.0, 1.0)] * len(images)
        return [
            self._objects(image[None, :, : size[0], : size[1]], factor)
            for image, size, factor in zip(images, sizes, factors, strict=True)
        ]

    def _objects(self, image: Float[Tensor, "1 C H W"], factor: Sequence[float]) -> InstancePredictions:
        inputs = {"images": self._taken(image), "scale_factor": torch.tensor(factor, dtype=torch.float32)}
        boxes, scores, labels, masks = self.file.run(inputs, self._outputs)
        count = len(labels)
        fits = (boxes.shape, scores.shape, labels.shape) == ((count, 4), (count,), (count,))
        fits = fits and masks.ndim == 3 and len(masks) == count
        if not fits or bool(((labels < 0) | (labels >= self.num_classes)).any()):
            raise ValueError(
                f"{self.file.path} gives boxes {tuple(boxes.shape)}, labels {tuple(labels.shape)} and masks "
                f"{tuple(masks.shape)} that are no objects of {self.num_classes} classes: export it again"
            )
        return InstancePredictions(boxes_xyxy=boxes, scores=scores, labels=labels.long(), masks=masks)


class ExportedMask2Former(ExportedModel):
    """A Mask2Former's file."""

    config: Mask2FormerConfig
    _outputs = QUERIES

    def forward(self, images: Float[Tensor, "B C H W"]) -> MaskOutputs:  # type: ignore[override]
        """A class and a mask of each query, as `Mask2Former.forward` gives them.

        Raises:
            ValueError: as `ExportedModel`, or what the file gives are no queries of its classes.
        """
        classes, masks = self._in_pieces(images)
        fits = classes.ndim == 3 and masks.ndim == 4 and classes.shape[:2] == masks.shape[:2]
        if not fits or classes.shape[2] != self.num_classes + 1:
            raise ValueError(
                f"{self.file.path} gives class_logits {tuple(classes.shape)} and mask_logits {tuple(masks.shape)} that "
                f"are no queries' of {self.num_classes} classes: export it again"
            )
        return MaskOutputs(class_logits=classes, mask_logits=masks)
