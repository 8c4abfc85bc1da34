"""Feature pyramid (arXiv 1612.03144): all maps of a backbone with the same number of channels."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from .conv import ConvModule, init_xavier


class FPN(nn.Module):
    """Laterals, a top-down path of nearest neighbours, an output convolution for each level, and one level above."""

    def __init__(self, in_channels: Sequence[int], out_channels: int) -> None:
        super().__init__()
        self.lateral_convs = nn.ModuleList(
            ConvModule(channels, out_channels, 1, activation=False) for channels in in_channels
        )
        self.fpn_convs = nn.ModuleList(ConvModule(out_channels, out_channels, 3, activation=False) for _ in in_channels)
        init_xavier(module for module in self.modules() if isinstance(module, nn.Conv2d))

    def forward(self, maps: Sequence[Float[Tensor, "B _ _ _"]]) -> list[Float[Tensor, "B D _ _"]]:
        """One map more than is given, finest first; the last has every second row and column of the one before it."""
        outputs: list[Tensor] = []
        above: Tensor | None = None
        for lateral, output, x in zip(
            reversed(self.lateral_convs), reversed(self.fpn_convs), reversed(maps), strict=True
        ):
            merged = lateral(x)
            if above is not None:
                merged = merged + F.interpolate(above, size=merged.shape[2:], mode="nearest")
            outputs.insert(0, output(merged))
            above = merged
        return [*outputs, F.max_pool2d(outputs[-1], kernel_size=1, stride=2)]
