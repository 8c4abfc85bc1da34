"""The heads of a Mask2Former as a graph for maps of any size."""

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim, export

from swin_transformer_pytorch.heads.masked_attention import MaskedDecoder
from swin_transformer_pytorch.heads.pixel_decoder import PixelDecoder

CHANNELS = (8, 16, 32, 64)


class Heads(nn.Module):
    """Maps, finest first -> logits of classes and masks."""

    def __init__(self) -> None:
        super().__init__()
        self.pixels = PixelDecoder(CHANNELS, 32, feedforward_dim=16, num_layers=1, num_heads=4)
        numbers = {"num_classes": 4, "num_queries": 5, "num_layers": 4, "num_heads": 4, "num_levels": 3}
        self.queries = MaskedDecoder(32, 16, **numbers)

    def forward(self, *maps: Tensor) -> tuple[Tensor, Tensor]:
        features, levels = self.pixels(maps)
        (last,) = self.queries(levels, features, every=False)
        return last.class_logits, last.mask_logits


def maps(batch: int, height: int, width: int) -> tuple[Tensor, ...]:
    """`height` and `width` are the last map's cells."""
    sizes = [(height * 2**i, width * 2**i) for i in (3, 2, 1, 0)]
    return tuple(torch.randn(batch, dim, *size) for dim, size in zip(CHANNELS, sizes, strict=True))


@pytest.mark.usefixtures("unchecked_shapes")
def test_one_graph_takes_maps_of_any_size() -> None:
    torch.manual_seed(0)
    heads = Heads().eval()
    batch, height, width = Dim("batch", min=1, max=64), Dim("height", min=2, max=64), Dim("width", min=2, max=64)
    axes = tuple({0: batch, 2: 2**i * height if i else height, 3: 2**i * width if i else width} for i in (3, 2, 1, 0))
    graph = export(heads, maps(2, 3, 4), dynamic_shapes=(axes,)).module()
    for size in ((2, 3, 4), (1, 5, 2), (3, 2, 7)):
        x = maps(*size)
        with torch.no_grad():
            for actual, expected in zip(graph(*x), heads(*x), strict=True):
                torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)
