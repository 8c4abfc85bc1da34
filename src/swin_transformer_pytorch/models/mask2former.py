"""Mask2Former on Swin: a class and a mask for each of some queries, from which every kind of answer is made."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from ..backbone.config import ConfigError
from ..colours import Colour
from ..heads.mask_outputs import MaskOutputs
from ..heads.masked_attention import MaskedDecoder
from ..heads.pixel_decoder import PixelDecoder
from ..weights.adapt import ClassParameters
from ..weights.preprocessing import DensePreprocessing
from .backbone import SwinBackbone
from .base_config import Task
from .description import check_length
from .mask2former_config import Mask2FormerConfig
from .named_classes import NamedClasses


class MaskTransformer(nn.Module):
    """The pixel decoder, and the decoder of masks, which the authors call the predictor."""

    def __init__(self, pixel_decoder: PixelDecoder, predictor: MaskedDecoder) -> None:
        super().__init__()
        self.pixel_decoder = pixel_decoder
        self.predictor = predictor

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]], *, every: bool) -> list[MaskOutputs]:
        """From the backbone's maps, finest first, to what `MaskedDecoder` gives."""
        mask_features, levels = self.pixel_decoder(maps)
        outputs: list[MaskOutputs] = self.predictor(levels, mask_features, every=every)
        return outputs


class Mask2Former(NamedClasses):
    """Mask2Former on Swin (arXiv 2112.01527), with the authors' parameter names; the backbone's are the official ones.

    `models.panoptic_inference` turns what it gives into segments, objects or label maps.

    Attributes:
        num_classes: classes of things and stuff; none is not one of them.
        classes: their names, or None.
        palette: their colours, red, green and blue of 0 to 255, or None.
        preprocessing: what the weights expect of an image, or None.
        name: the variant's official name, or None.
    """

    def __init__(
        self,
        config: Mask2FormerConfig,
        backbone: SwinBackbone,
        pixel_decoder: PixelDecoder,
        predictor: MaskedDecoder,
        *,
        classes: Sequence[str] | None = None,
        palette: tuple[Colour, ...] | None = None,
        preprocessing: DensePreprocessing | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        check_length("colours", palette, config.num_classes)
        self.config: Mask2FormerConfig = config
        self.palette = palette
        self.preprocessing = preprocessing
        self.name = name
        backbone.channels_last = True  # as the heads' products on a CPU take maps
        self.backbone = backbone
        self.sem_seg_head = MaskTransformer(pixel_decoder, predictor)
        self.settle(classes)

    @property
    def task(self) -> Task:
        """What it is for: its config's `answers` say it."""
        return self.config.task

    def reset_classifier(
        self,
        num_classes: int,
        *,
        classes: Sequence[str] | None = None,
        palette: tuple[Colour, ...] | None = None,
        things: Sequence[int] | None = None,
    ) -> None:
        """Puts the layer of classes in anew, with random weights, for other classes.

        Args:
            num_classes: how many.
            classes: their names.
            palette: their colours; not of a model for detection.
            things: of a panoptic model, the indices of the classes of things; None: all.

        Raises:
            ConfigError: `num_classes` or `things` is not possible, or there are not as many names or colours.
        """
        config = self.config.replace(num_classes=num_classes, things=None if things is None else tuple(things))
        check_length("class names", classes, num_classes)
        check_length("colours", palette, num_classes)
        if palette is not None and self.task == "detection":
            raise ConfigError("a palette is for segments, and this model for detection; leave it out")
        self.sem_seg_head.predictor.reset_classes(num_classes)
        self.config, self.palette = config, palette
        self.settle(classes)

    def forward(self, images: Float[Tensor, "B C H W"]) -> MaskOutputs:
        """What the last layer gives, for answers.

        Args:
            images: preprocessed, and padded to one size; the authors pad to multiples of 32 pixels. Padding is looked
                at like anything else, so that more of it changes the answers a little.
        """
        (last,) = self.sem_seg_head(self.backbone(images), every=False)
        return last

    def outputs(self, images: Float[Tensor, "B C H W"]) -> list[MaskOutputs]:
        """What the queries give before the first layer and after each one, for the losses."""
        return self.sem_seg_head(self.backbone(images), every=True)

    def class_parameters(self) -> tuple[ClassParameters, ...]:
        """Those whose rows are classes, and last none."""
        return (ClassParameters(names=self._class_parameter_names(MaskedDecoder), background=1),)
