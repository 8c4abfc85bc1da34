"""Feature maps for dense tasks: the backbone with a norm on each map it gives out."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..backbone.config import ConfigError, SwinConfig
from ..backbone.swin import Swin


class SwinBackbone(Swin):
    """Swin as detection and segmentation use it (arXiv 2103.14030, section 4.2), with the official parameter names.

    Attributes:
        out_indices: the stages whose maps `forward` gives, counted from 0.
        channels: channels of each of those maps.
        strides: pixels to one cell of each of those maps; (height, width) where a patch is not square.
        channels_last: whether maps on a CPU lie in memory as the stages made them, channels last, and are not copied.
    """

    task = "backbone"

    def __init__(
        self, config: SwinConfig, *, out_indices: Sequence[int] = (0, 1, 2, 3), name: str | None = None
    ) -> None:
        stages = range(len(config.depths))
        known = isinstance(out_indices, Sequence) and all(i in stages for i in out_indices)
        if not known or not out_indices or list(out_indices) != sorted(set(out_indices)):
            raise ConfigError(
                f"out_indices={out_indices!r} is not possible: give rising stage numbers from 0 to {stages[-1]}, "
                f"such as {tuple(stages)}"
            )
        super().__init__(config)
        self.name = name
        self.out_indices = tuple(out_indices)
        self.channels = tuple(config.stage_dims[i] for i in out_indices)
        strides = [config.stage_strides[i] for i in out_indices]
        self.strides = tuple(height if height == width else (height, width) for height, width in strides)
        self.channels_last = False
        for i in self.out_indices:
            self.add_module(f"norm{i}", nn.LayerNorm(config.stage_dims[i]))

    def forward(self, images: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B C_i H_i W_i"]]:
        """One normalised map a stage in `out_indices`, channels first. Images may have any size."""
        stages = self.forward_stages(self.patch_embed(images))
        maps = [self.get_submodule(f"norm{i}")(stages[i]).permute(0, 3, 1, 2) for i in self.out_indices]
        if self.channels_last and images.device.type == "cpu" and not torch.compiler.is_compiling():
            return maps
        return [one.contiguous() for one in maps]
