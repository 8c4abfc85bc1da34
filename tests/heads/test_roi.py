"""Regions' features, and the heads on them against torchvision's."""

import math

import pytest
import torch
from torch import nn
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import roi_align

from swin_transformer_pytorch.heads.conv import ConvModule
from swin_transformer_pytorch.heads.roi import BoxHead, MaskHead, RegionExtractor, region_levels, stack_regions

STRIDES = (4, 8, 16, 32)


def pyramid(batch: int = 2, channels: int = 6) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, channels, 256 // s, 320 // s, generator=generator) for s in (*STRIDES, 64)]


def regions(count: int = 30, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 100
    sides = 2 ** (torch.rand(count, 1, generator=generator) * 9) * torch.rand(count, 2, generator=generator).add(0.5)
    return torch.cat([corners, corners + sides], dim=1)


def test_levels_are_the_scalar_formula_and_follow_the_finest_stride() -> None:
    boxes = torch.cat([regions(200), torch.tensor([[5.0, 5, 5, 5], [0, 0, 112, 112], [0, 0, 111.9, 112]])])
    for stride, count in ((4, 4), (2, 3), (8, 2)):
        expected = []
        for x0, y0, x1, y1 in boxes.tolist():
            side = math.sqrt((x1 - x0) * (y1 - y0)) / (14 * stride)
            expected.append(min(max(math.floor(math.log2(side + 1e-6)), 0), count - 1))
        assert region_levels(boxes, count, stride).tolist() == expected


def test_each_region_has_its_own_levels_features() -> None:
    maps, rois = pyramid(), stack_regions([regions(20, 1), regions(25, 2)])
    extract = RegionExtractor(strides=STRIDES, output_size=7)
    levels = region_levels(rois[:, 1:], 4, 4)
    assert set(levels.tolist()) == {0, 1, 2, 3}
    features = extract(maps, rois)
    assert features.shape == (45, 6, 7, 7)
    for feature, roi, level in zip(features, rois, levels.tolist(), strict=True):
        alone = roi_align(maps[level], roi[None], 7, 1 / STRIDES[level], -1, True)[0]
        torch.testing.assert_close(feature, alone, atol=1e-6, rtol=1e-6)


def test_no_regions_still_hang_on_the_maps() -> None:
    maps = [x.requires_grad_() for x in pyramid()]
    features = RegionExtractor(strides=STRIDES, output_size=7)(maps, stack_regions([torch.zeros(0, 4)] * 2))
    assert features.shape == (0, 6, 7, 7)
    features.sum().backward()
    assert maps[0].grad is not None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_features_have_the_maps_type_and_float32s_precision(dtype: torch.dtype) -> None:
    maps, rois = [x.to(dtype) for x in pyramid()], stack_regions([regions(20)])
    extract = RegionExtractor(strides=STRIDES, output_size=7)
    features = extract(maps, rois)
    assert features.dtype == dtype
    assert torch.equal(features, extract([x.float() for x in maps], rois).to(dtype))


def randomise(module: nn.Module) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)


def test_box_head_is_torchvisions_to_the_bit() -> None:
    head = BoxHead(6, num_classes=5, fc_dim=16)
    randomise(head)
    body, predictor = TwoMLPHead(6 * 49, 16), FastRCNNPredictor(16, 6)
    state = head.state_dict()
    for peer, ours in (("fc6", "shared_fcs.0"), ("fc7", "shared_fcs.1")):
        body.get_submodule(peer).load_state_dict({kind: state[f"{ours}.{kind}"] for kind in ("weight", "bias")})
    with torch.no_grad():
        for kind in ("weight", "bias"):
            logits, deltas = state[f"fc_cls.{kind}"], state[f"fc_reg.{kind}"]
            predictor.get_parameter(f"cls_score.{kind}").copy_(torch.cat([logits[5:], logits[:5]]))
            predictor.get_parameter(f"bbox_pred.{kind}").copy_(torch.cat([torch.zeros_like(deltas[:4]), deltas]))
    x = torch.randn(9, 6, 7, 7)
    logits, deltas = head(x)
    their_logits, their_deltas = predictor(body(x))
    torch.testing.assert_close(logits, their_logits.roll(-1, dims=1), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(deltas.flatten(1), their_deltas[:, 4:], atol=1e-6, rtol=1e-6)


def test_mask_head_is_torchvisions() -> None:
    head = MaskHead(6, num_classes=3)
    peer, predictor = MaskRCNNHeads(6, (6,) * 4, 1), MaskRCNNPredictor(6, 6, 4)
    state = head.state_dict()
    with torch.no_grad():
        for kind in ("weight", "bias"):
            for layer in range(4):
                peer.get_parameter(f"{layer}.0.{kind}").copy_(state[f"convs.{layer}.conv.{kind}"])
            predictor.get_parameter(f"conv5_mask.{kind}").copy_(state[f"upsample.{kind}"])
            logits = state[f"conv_logits.{kind}"]
            predictor.get_parameter(f"mask_fcn_logits.{kind}").copy_(torch.cat([torch.zeros_like(logits[:1]), logits]))
    x = torch.randn(4, 6, 14, 14)
    assert head(x).shape == (4, 3, 28, 28)
    torch.testing.assert_close(head(x), predictor(peer(x))[:, 1:], atol=1e-5, rtol=1e-5)


def test_one_box_for_all_classes() -> None:
    logits, deltas = BoxHead(6, num_classes=5, fc_dim=16, class_agnostic=True)(torch.randn(3, 6, 7, 7))
    assert (logits.shape, deltas.shape) == ((3, 6), (3, 1, 4))


@pytest.mark.parametrize("num_convs", [0, 4])
def test_no_regions_reach_every_parameter_and_leave_running_means_alone(num_convs: int) -> None:
    head = BoxHead(6, num_classes=5, fc_dim=16, num_convs=num_convs, num_fcs=1).train()
    masks = MaskHead(6, num_classes=5)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    logits, deltas = head(torch.zeros(0, 6, 7, 7))
    (logits.sum() + deltas.sum() + masks(torch.zeros(0, 6, 14, 14)).sum()).backward()
    for module in (head, masks):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None, name
            assert not parameter.grad.any(), name
    for name, value in head.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_official_initialisation() -> None:
    head = BoxHead(16, num_classes=80, fc_dim=256, num_convs=1, num_fcs=1)
    assert head.fc_cls.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert head.fc_reg.weight.std().item() == pytest.approx(0.001, rel=0.05)
    conv = head.shared_convs[0].get_submodule("conv")
    assert conv.bias is None
    assert conv.weight.std().item() == pytest.approx((2 / (16 * 9)) ** 0.5, rel=0.1)
    masks = MaskHead(64, num_classes=80)
    assert masks.upsample.weight.std().item() == pytest.approx((2 / (64 * 4)) ** 0.5, rel=0.05)
    assert not masks.conv_logits.bias.any()


def test_a_convolution_with_norm_is_conv_norm_relu() -> None:
    block = ConvModule(3, 5, 3, norm=True).eval()
    assert sorted(block.state_dict()) == sorted(
        ["conv.weight", *(f"bn.{n}" for n in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"))]
    )
    x = torch.randn(2, 3, 8, 8)
    assert block.bn is not None
    torch.testing.assert_close(block(x), block.bn(block.conv(x)).relu())
