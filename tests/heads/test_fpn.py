"""The feature pyramid against torchvision's."""

from collections import OrderedDict

import pytest
import torch
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from swin_transformer_pytorch.heads.fpn import FPN

CHANNELS = (4, 8, 16, 32)


@pytest.mark.parametrize("sizes", [((24, 32), (12, 16), (6, 8), (3, 4)), ((25, 31), (13, 16), (7, 8), (4, 4))])
def test_maps_are_torchvisions_to_the_bit(sizes: tuple[tuple[int, int], ...]) -> None:
    fpn = FPN(CHANNELS, 12)
    peer = FeaturePyramidNetwork(list(CHANNELS), 12, extra_blocks=LastLevelMaxPool())
    renamed = {}
    for key, value in fpn.state_dict().items():
        block, index, _, kind = key.split(".")
        renamed[f"{'inner' if block == 'lateral_convs' else 'layer'}_blocks.{index}.0.{kind}"] = value
    peer.load_state_dict(renamed)
    maps = [torch.randn(2, channels, *size) for channels, size in zip(CHANNELS, sizes, strict=True)]
    expected = peer(OrderedDict((str(level), x) for level, x in enumerate(maps)))
    found = fpn(maps)
    assert len(found) == 5
    for ours, theirs in zip(found, expected.values(), strict=True):
        assert torch.equal(ours, theirs)


def test_any_number_of_maps() -> None:
    found = FPN((4, 8), 6)([torch.randn(1, 4, 5, 7), torch.randn(1, 8, 3, 4)])
    assert [tuple(x.shape) for x in found] == [(1, 6, 5, 7), (1, 6, 3, 4), (1, 6, 2, 2)]


def test_official_names_and_initialisation() -> None:
    fpn = FPN((64, 128), 256)
    assert sorted(fpn.state_dict()) == sorted(
        f"{block}.{level}.conv.{kind}"
        for block in ("lateral_convs", "fpn_convs")
        for level in range(2)
        for kind in ("weight", "bias")
    )
    weight = fpn.fpn_convs[0].get_submodule("conv").weight
    assert weight.abs().max() <= (6 / (2 * 9 * 256)) ** 0.5
    assert all(not value.any() for name, value in fpn.named_parameters() if name.endswith("bias"))
