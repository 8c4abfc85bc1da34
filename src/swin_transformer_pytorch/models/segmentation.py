"""Semantic segmentation: UPerNet on Swin, a class for every pixel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float, Integer
from torch import Tensor

from ..colours import Colour
from ..heads.pixel_losses import PixelLosses as PixelLosses
from ..heads.shapes import Losses
from ..heads.upernet import FCNHead, UPerHead
from ..weights.adapt import ClassParameters
from ..weights.preprocessing import DensePreprocessing
from .backbone import SwinBackbone
from .config import SegmenterConfig
from .description import check_length
from .named_classes import NamedClasses

_CROSS_ENTROPY = PixelLosses()


class Segmenter(NamedClasses):
    """UPerNet on Swin (arXiv 2103.14030, section 4.3), with the official parameter names.

    `models.segmentation_inference` turns its logits into label maps: whole, in windows, or from several sizes.

    Attributes:
        num_classes: outputs for each cell.
        classes: their names, or None.
        palette: their colours, red, green and blue of 0 to 255, or None.
        preprocessing: what the weights expect of an image, or None.
        name: the variant's official name, or None.
    """

    task = "segmentation"

    def __init__(
        self,
        config: SegmenterConfig,
        backbone: SwinBackbone,
        decode_head: UPerHead,
        auxiliary_head: FCNHead,
        *,
        classes: Sequence[str] | None = None,
        palette: tuple[Colour, ...] | None = None,
        preprocessing: DensePreprocessing | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        check_length("colours", palette, config.num_classes)
        self.config: SegmenterConfig = config
        self.palette = palette
        self.preprocessing = preprocessing
        self.name = name
        backbone.channels_last = True  # as the heads' products on a CPU take maps
        self.backbone = backbone
        self.decode_head = decode_head
        self.auxiliary_head = auxiliary_head
        self.settle(classes)

    def reset_classifier(
        self, num_classes: int, *, classes: Sequence[str] | None = None, palette: tuple[Colour, ...] | None = None
    ) -> None:
        """Puts the last layers of both heads in anew, with random weights, for other classes.

        Raises:
            ConfigError: `num_classes` is not possible, or there are not as many names or colours.
        """
        config = self.config.replace(num_classes=num_classes)
        check_length("class names", classes, num_classes)
        check_length("colours", palette, num_classes)
        for head in (self.decode_head, self.auxiliary_head):
            head.reset_classes(num_classes)
        self.config, self.palette = config, palette
        self.settle(classes)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes h w"]:
        """Logits of the size of the backbone's first map: one for `patch_size` pixels, rounded up."""
        return self.decode_head(self.backbone(images))

    def losses(
        self,
        images: Float[Tensor, "B C H W"],
        labels: Integer[Tensor, "B H W"],
        pixel_losses: Callable[[Tensor, Tensor], Losses] = _CROSS_ENTROPY,
    ) -> Losses:
        """The losses of each head, the auxiliary one's weighted; their sum is the training loss.

        Args:
            images: preprocessed, and padded to one size.
            labels: a class for each pixel; 255 for pixels that do not count.
            pixel_losses: a head's logits and the labels -> losses by name.

        Raises:
            ValueError: sizes of images and labels differ, or training has a single image: what is pooled to one cell
                then has no batch statistics.
        """
        if images.shape[0] != labels.shape[0] or images.shape[2:] != labels.shape[1:]:
            raise ValueError(
                f"images have shape {tuple(images.shape)} and labels {tuple(labels.shape)}; give each image a label "
                "map of its size"
            )
        maps = self.backbone(images)
        auxiliary = pixel_losses(self.auxiliary_head(maps[self.config.auxiliary_index]), labels)
        weighted = {f"aux.{name}": self.config.auxiliary_weight * loss for name, loss in auxiliary.items()}
        return {**pixel_losses(self.decode_head(maps), labels), **weighted}

    def class_parameters(self) -> tuple[ClassParameters, ...]:
        """Those whose rows are classes, in both heads."""
        return (ClassParameters(names=self._class_parameter_names(UPerHead, FCNHead)),)
