"""Masked pre-training (SimMIM, arXiv 2111.09886): parts of an image are hidden, the model foretells their pixels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..backbone.swin import Swin
from ..ops import without_autocast
from ..weights.adapt import ClassParameters
from ..weights.preprocessing import Preprocessing
from .config import MaskedConfig
from .named_classes import NamedClasses

# The official divisors' guards.
_LEAST_HIDDEN, _LEAST_VARIANCE = 1e-5, 1e-6


class MaskedSwin(NamedClasses, Swin):
    """Swin that foretells hidden pixels, with the official parameter names but for the encoder's prefix `encoder.`.

    All tokens go through all stages; those of hidden patches are one learned vector. A linear layer makes of each cell
    of the last map the pixels that it stands for. What is learnt is the encoder: a classifier, detector or segmenter
    that loads the file leaves `mask_token` and `decoder` out.

    Attributes:
        preprocessing: what the weights expect of an image, or None.
        name: the variant's official name, or None.
    """

    task = "pretraining"

    def __init__(
        self,
        config: MaskedConfig,
        *,
        classes: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(config.backbone)
        self.config = config
        self.preprocessing = preprocessing
        self.name = name
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.backbone.embed_dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        dim, (down, right) = config.backbone.stage_dims[-1], config.backbone.stage_strides[-1]
        self.norm = nn.LayerNorm(dim)
        self.decoder = nn.Sequential(nn.Conv2d(dim, config.backbone.in_channels * down * right, kernel_size=1))
        self.settle(classes)

    def forward(self, images: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B h w"]) -> Float[Tensor, "B C H W"]:
        """What the model makes of all pixels, hidden or not, in the unit of the target; see `target`.

        Args:
            images: preprocessed as `preprocessing` says, of any one size.
            mask: of each patch whether it is hidden.
        """
        return self._foretell(images, mask)

    def _foretell(self, images: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B h w"]) -> Float[Tensor, "B C H W"]:
        tokens = self.patch_embed(images)
        _check_mask(mask, tokens)
        tokens = torch.where(mask.unsqueeze(-1), self.mask_token.to(tokens.dtype), tokens)
        cells = self.decoder(self.norm(self.forward_stages(tokens)[-1]).permute(0, 3, 1, 2))  # B C*32*32 H/32 W/32
        down, right = self.config.backbone.stage_strides[-1]
        # Channel c * 32 * 32 + row * 32 + column, as the official pixel shuffle has it; strides may be oblong here.
        pixels = cells.unflatten(1, (-1, down, right)).permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
        return pixels[:, :, : images.shape[2], : images.shape[3]]

    def losses(self, images: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B h w"]) -> dict[str, Float[Tensor, ""]]:
        """The mean distance of the hidden pixels from their target, "loss_masked". Where all images hide as many, the
        mean over devices is that of all images.
        """
        # Not by `forward`: where parameters are sharded, they are gathered for the call of either from outside.
        reconstruction = self._foretell(images, mask)
        with without_autocast(images.device.type):
            target = self.target(images)
            hidden = self.hidden_pixels(mask, images)
            distance = (target - reconstruction.to(target.dtype)).abs() * hidden
            # Counted in whole numbers, whose sum with the guard is float32, as in the official code.
            return {"loss_masked": distance.sum() / (hidden.sum() + _LEAST_HIDDEN) / images.shape[1]}

    @torch.no_grad()
    def target(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """What is to be foretold: the images, or what `normalized_target` makes of them; in float32 at least."""
        images = images if images.element_size() >= 4 else images.float()
        window = self.config.target_window
        return images if window is None else normalized_target(images, window)

    @torch.no_grad()
    def reconstruct(self, images: Float[Tensor, "B C H W"], mask: Bool[Tensor, "B h w"]) -> Float[Tensor, "B C H W"]:
        """The images with what is hidden as the model foretells it.

        A normalised target is undone with the means and deviations of the whole image, which the model does not know:
        such a picture shows structure, and has its brightness from the image.
        """
        found, pixels = self(images, mask).float(), images.float()
        if self.config.target_window is not None:
            mean, deviation = local_statistics(pixels, self.config.target_window)
            found = found * deviation + mean
        return torch.where(self.hidden_pixels(mask, images), found, pixels)

    def hidden_pixels(self, mask: Bool[Tensor, "B h w"], images: Float[Tensor, "B C H W"]) -> Bool[Tensor, "B 1 H W"]:
        """Of each pixel of the images whether it is hidden."""
        down, right = self.config.backbone.patch_size
        pixels = mask.repeat_interleave(down, 1).repeat_interleave(right, 2).unsqueeze(1)
        return pixels[:, :, : images.shape[2], : images.shape[3]]

    def class_parameters(self) -> tuple[ClassParameters, ...]:
        """None: nothing is told apart."""
        return ()


@torch.no_grad()
def normalized_target(images: Float[Tensor, "B C H W"], window: int) -> Float[Tensor, "B C H W"]:
    """Each pixel and channel less the mean of its surroundings, over their deviation (SimMIM's V2 recipes).

    Args:
        images: of float32 or float64.
        window: pixels of the surroundings' side, odd. At the edges only pixels of the image count.
    """
    mean, deviation = local_statistics(images, window)
    return (images - mean) / deviation


def local_statistics(
    images: Float[Tensor, "B C H W"], window: int
) -> tuple[Float[Tensor, "B C H W"], Float[Tensor, "B C H W"]]:
    """Mean and deviation (unbiased, and never 0) of each pixel's surroundings, a square of `window` pixels."""
    with without_autocast(images.device.type):
        count = _sums(torch.ones_like(images[:1, :1]), window)
        mean = _sums(images, window) / count
        variance = (_sums(images.square(), window) / count - mean.square()) * (count / (count - 1).clamp(min=1))
        return mean, (variance.clamp(min=0) + _LEAST_VARIANCE).sqrt()


def _sums(images: Tensor, window: int) -> Tensor:
    """Over each pixel's surroundings; rows first, then columns, which is `window` times less work than both at once."""
    half = window // 2
    rows = F.avg_pool2d(images, (1, window), stride=1, padding=(0, half), divisor_override=1)
    return F.avg_pool2d(rows, (window, 1), stride=1, padding=(half, 0), divisor_override=1)


def _check_mask(mask: Tensor, tokens: Tensor) -> None:
    if mask.shape != tokens.shape[:3] or mask.dtype != torch.bool:
        raise ValueError(
            f"mask is {mask.dtype} of shape {tuple(mask.shape)}; it is to be torch.bool of {tuple(tokens.shape[:3])}, "
            "a value for each patch of each image, True where it is hidden"
        )
