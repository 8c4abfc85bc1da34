"""The Swin backbone: blocks, stages, and the whole of them. Maps are channels-last, (B, H, W, C), throughout."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..ops import after_norm, choose_window, replaceable
from .attention import WindowAttention, WindowAttentionV2
from .config import SwinConfig
from .layers import DropPath, Mlp, PatchEmbed, PatchMerging


@replaceable
class SwinBlock(nn.Module):
    """Attention and MLP, each with a residual connection. V1 normalises before each, V2 after."""

    def __init__(self, config: SwinConfig, stage: int, *, shifted: bool, drop_path_rate: float) -> None:
        super().__init__()
        dim, heads, window = config.stage_dims[stage], config.num_heads[stage], config.window_size
        self.norm_first = config.version == 1
        self.shifted = shifted
        self.window_size = window
        self.single_window = config.single_window
        self.norm1 = nn.LayerNorm(dim)
        self.attn: WindowAttention | WindowAttentionV2
        if config.version == 1:
            self.attn = WindowAttention(dim, heads, window, qkv_bias=config.qkv_bias)
        else:
            trained = config.pretrained_window_sizes[stage]
            self.attn = WindowAttentionV2(
                dim,
                heads,
                window,
                qkv_bias=config.qkv_bias,
                pretrained_window_size=(trained, trained) if trained else window,
            )
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * config.mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        window, shift = choose_window(
            (x.shape[1], x.shape[2]), self.window_size, shifted=self.shifted, single_window=self.single_window
        )
        if self.norm_first:
            x = x + self.drop_path(after_norm(self.norm1, x, lambda normed: self.attn(normed, window, shift)))
            return x + self.drop_path(after_norm(self.norm2, x, self.mlp))
        x = x + self.drop_path(self.norm1(self.attn(x, window, shift)))
        return x + self.drop_path(self.norm2(self.mlp(x)))


@replaceable
class SwinStage(nn.Module):
    """Blocks on a map of one size, every second one shifted; all stages but the last then merge patches."""

    def __init__(self, config: SwinConfig, stage: int) -> None:
        super().__init__()
        self.gradient_checkpointing = config.gradient_checkpointing
        self.blocks = nn.ModuleList(
            SwinBlock(config, stage, shifted=index % 2 == 1, drop_path_rate=rate)
            for index, rate in enumerate(config.drop_path_rates[stage])
        )
        last = stage == len(config.depths) - 1
        self.downsample = None if last else PatchMerging(config.stage_dims[stage], norm_first=config.version == 1)

    def forward(self, x: Float[Tensor, "B H W C"]) -> Float[Tensor, "B H W C"]:
        for block in self.blocks:
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = checkpoint(block, x, use_reentrant=False)
            else:
                x = block(x)
        return x


class StagesTogether(nn.ModuleList, ABC):
    """What may stand in `layers`' place to go through stages in one step. Both answers may be None: the stages are then
    to be called one after the other. Like any list it is never called itself, so that hooks on it see nothing."""

    @abstractmethod
    def maps(
        self, tokens: Float[Tensor, "B h w C"], count: int | None = None
    ) -> list[Float[Tensor, "B h_i w_i C_i"]] | None:
        """`Swin.forward_stages`."""

    @abstractmethod
    def last(self, embed: nn.Module, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w D"] | None:
        """`Swin.forward_last`, of images that `embed` takes."""


class Swin(nn.Module):
    """Patch embedding and stages. Parameters have the official names; nothing derived is in the state dict.

    Masked pre-training steps in between `patch_embed` and `forward_stages`. A model's `forward` is a pure function of
    the images, the parameters, the mode and the random generator: sizes may change from call to call.
    """

    def __init__(self, config: SwinConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_embed = PatchEmbed(config.in_channels, config.embed_dim, config.patch_size)
        self.layers = nn.ModuleList(SwinStage(config, stage) for stage in range(len(config.depths)))
        self.apply(_initialise)

    def forward_last(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w D"]:
        """The last stage's map."""
        # Whoever put another function in `forward_stages`' place has it called.
        if (
            isinstance(self.layers, StagesTogether)
            and getattr(self.forward_stages, "__func__", None) is _FORWARD_STAGES
        ):
            last: Tensor | None = self.layers.last(self.patch_embed, images)
            if last is not None:
                return last
        return self.forward_stages(self.patch_embed(images))[-1]

    def forward_stages(
        self, tokens: Float[Tensor, "B h w C"], count: int | None = None
    ) -> list[Float[Tensor, "B h_i w_i C_i"]]:
        """Each stage's map, before its patch merging; of the first `count` stages alone where it is given."""
        if isinstance(self.layers, StagesTogether):
            together: list[Tensor] | None = self.layers.maps(tokens, count)
            if together is not None:
                return together
        maps = []
        stage: SwinStage
        for stage in self.layers:  # type: ignore[assignment]
            tokens = stage(tokens)
            maps.append(tokens)
            if len(maps) == count:
                break
            if stage.downsample is not None:
                tokens = stage.downsample(tokens)
        return maps


_FORWARD_STAGES = Swin.forward_stages


def _initialise(module: nn.Module) -> None:
    """The official initialisation: normal weights of 0.02, zero biases; V2's residual norms start at zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, SwinBlock) and not module.norm_first:
        nn.init.zeros_(module.norm1.weight)
        nn.init.zeros_(module.norm2.weight)
