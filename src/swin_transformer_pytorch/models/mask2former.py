"""Mask2Former on Swin: a class and a mask for each of some queries, from which every kind of answer is made."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from ..backbone.config import ConfigError
from ..colours import Colour
from ..heads.mask_losses import MaskLosses
from ..heads.mask_outputs import MaskOutputs
from ..heads.masked_attention import MaskedDecoder
from ..heads.pixel_decoder import PixelDecoder
from ..heads.shapes import Losses
from ..ops.regions.instances import MaskTargets
from ..sizes import Size
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

    def losses(self, images: Float[Tensor, "B C H W"], targets: Sequence[MaskTargets]) -> Losses:
        """`loss_ce`, `loss_mask` and `loss_dice` of all predictions; their sum is the training loss. See `MaskLosses`.

        Args:
            images: preprocessed, and padded to one size.
            targets: of each image; its masks have the size of the image before padding, or that of all.

        Raises:
            ValueError: there are not as many targets as images, a mask is larger than they are, or a label is no class.
        """
        size = (images.shape[2], images.shape[3])
        if len(targets) != len(images):
            raise ValueError(f"{len(targets)} targets for {len(images)} images; give one an image")
        padded = [_padded(target, size) for target in targets]
        config = self.config
        losses = MaskLosses(
            class_weight=config.class_weight,
            mask_weight=config.mask_weight,
            dice_weight=config.dice_weight,
            none_weight=config.none_weight,
            num_points=config.loss_points,
        )
        return losses(self.outputs(images), padded)

    def class_parameters(self) -> tuple[ClassParameters, ...]:
        """Those whose rows are classes, and last none."""
        return (ClassParameters(names=self._class_parameter_names(MaskedDecoder), background=1),)


def _padded(target: MaskTargets, size: Size) -> MaskTargets:
    """With masks of that size: what is beyond an image is no part of any."""
    height, width = target.masks.shape[1:]
    if height > size[0] or width > size[1]:
        raise ValueError(f"masks of {height} x {width} pixels for images padded to {size}: (height, width)")
    return MaskTargets(labels=target.labels, masks=F.pad(target.masks, (0, size[1] - width, 0, size[0] - height)))
