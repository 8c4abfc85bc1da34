"""The parts of a Swin block that are not attention: patch embedding and merging, the MLP, stochastic depth."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..ops import after_norm, gelu_then, is_plain, linear, mlp, pad_map, padding, replaceable
from ..sizes import Size


@replaceable
class PatchEmbed(nn.Module):
    """Cuts an image into patches and projects each to a token (arXiv 2103.14030, section 3.1)."""

    def __init__(self, in_channels: int, embed_dim: int, patch_size: Size) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=patch_size, stride=patch_size)
        self.norm = nn.LayerNorm(embed_dim)

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w D"]:
        """h and w are H and W over the patch's, rounded up: the image is padded with zeros right and bottom."""
        images = whole_patches(images, getattr(self.proj, "in_channels", None), self.patch_size)
        return self.norm(self.proj(images).permute(0, 2, 3, 1))


def whole_patches(images: Tensor, in_channels: int | None, patch_size: Size) -> Float[Tensor, "B C height width"]:
    """Images (B, C, H, W) padded with zeros, right and bottom, to whole patches.

    Raises:
        ValueError: they are no batch of floating-point images with that many channels; None is for any number.
    """
    if images.ndim != 4 or images.shape[1] != (in_channels or images.shape[1]) or images.numel() == 0:
        raise ValueError(
            f"images have shape {tuple(images.shape)}; this model takes (batch, {in_channels or 'channels'}, height, "
            f"width), each at least 1 (another number of channels: create it with in_channels=...)"
        )
    if not images.is_floating_point():
        raise ValueError(
            f"images are {images.dtype}; this model takes normalised floating-point ones (create_transform(model) "
            f"makes them from 8-bit images)"
        )
    height, width = images.shape[2:]
    bottom, right = padding(height, patch_size[0]), padding(width, patch_size[1])
    # A traced graph keeps the padding, lest it hold for the example's sizes alone; compilers fuse it.
    if torch.compiler.is_compiling() or bottom or right:
        images = F.pad(images, (0, right, 0, bottom))
    return images


@replaceable
class PatchMerging(nn.Module):
    """Halves a map's sides and doubles its channels (arXiv 2103.14030, section 3.1). V2 normalises afterwards."""

    def __init__(self, dim: int, *, norm_first: bool) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim if norm_first else 2 * dim)

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B h w 2*C"]:
        """h and w are H and W halved, rounded up: odd sides are padded with zeros."""
        x = pad_map(x, (2, 2))
        batch, height, width, channels = x.shape
        x = x.view(batch, height // 2, 2, width // 2, 2, channels)
        # The four neighbours column by column: (row, column) 00, 10, 01, 11.
        x = x.permute(0, 1, 3, 4, 2, 5).reshape(batch, height // 2, width // 2, 4 * channels)
        if self.norm_first:
            return after_norm(self.norm, x, lambda normed: project(self.reduction, normed))
        return self.norm(project(self.reduction, x))


@replaceable
class Mlp(nn.Module):
    """Two linear layers with a GELU between them, on each token alone."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Float[Tensor, "*shape C"]) -> Float[Tensor, "*shape C"]:
        if not torch.compiler.is_compiling() and is_plain(self.fc1, nn.Linear) and is_plain(self.fc2, nn.Linear):
            return mlp(x, self.fc1.weight, self.fc1.bias, self.fc2.weight, self.fc2.bias)
        return gelu_then(self.fc1(x), self.fc2)


def project(layer: nn.Module, x: Float[Tensor, "*shape C"]) -> Float[Tensor, "*shape D"]:
    """`layer(x)` of a linear layer, by this package's products where they are faster."""
    # Compilers and exporters note which module an operator is of.
    if not torch.compiler.is_compiling() and is_plain(layer, nn.Linear):
        return linear(x, layer.weight, layer.bias)
    out: Tensor = layer(x)
    return out


@replaceable
class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): in training, drops a whole sample's branch with probability `rate`.

    What survives is divided by the survival rate, so that the expected value stays.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "B ..."]) -> Float[Tensor, "B ..."]:
        if not self.training or self.rate == 0:
            return x
        keep = 1 - self.rate
        survives = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(keep)
        return x * survives.div_(keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3g}"
