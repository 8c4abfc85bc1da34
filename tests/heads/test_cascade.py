"""Cascade: stages against the same steps written one by one."""

from typing import Any

import pytest
import torch
from torch import Tensor

from swin_transformer_pytorch.heads.cascade import CASCADE_STAGES, CascadeRoIHead
from swin_transformer_pytorch.heads.roi import BoxHead, MaskHead, stack_regions
from swin_transformer_pytorch.heads.roi_head import DetectionRules
from swin_transformer_pytorch.heads.roi_losses import box_losses, mask_loss, refine_samples, sample_regions
from swin_transformer_pytorch.models.config import DetectorConfig
from swin_transformer_pytorch.models.detector_parts import build_roi_head
from swin_transformer_pytorch.ops.regions.boxes import decode_boxes
from swin_transformer_pytorch.ops.regions.instances import InstanceTargets

CLASSES = 3
STRIDES = (4, 8)
SIZES = [(64, 96), (60, 70)]


def head(**fields: Any) -> CascadeRoIHead:
    torch.manual_seed(0)
    module = CascadeRoIHead(
        box_heads=[BoxHead(4, num_classes=CLASSES, fc_dim=8, num_convs=1, num_fcs=1) for _ in range(3)],
        mask_heads=[MaskHead(4, num_classes=CLASSES, num_convs=1) for _ in range(3)],
        stages=CASCADE_STAGES,
        strides=STRIDES,
        num_classes=CLASSES,
        rules=DetectionRules(),
        **fields,
    )
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("fc_reg.weight"):
                parameter.mul_(2000)
            if name.endswith("fc_cls.weight"):
                parameter.mul_(100)
    return module


def features() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(2, 4, 64 // s, 96 // s, generator=generator) for s in (4, 8, 16)]


def proposals() -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    found = []
    for height, width in SIZES:
        corners = torch.rand(20, 2, generator=generator) * 40
        boxes = torch.cat([corners, corners + 5 + 30 * torch.rand(20, 2, generator=generator)], dim=1)
        found.append(boxes.minimum(torch.tensor([width, height, width, height])))
    return found


def targets(objects: bool = True) -> list[InstanceTargets]:
    boxes = torch.tensor([[5.0, 5, 40, 35], [20, 20, 60, 55]]) if objects else torch.zeros(0, 4)
    found = []
    for size in SIZES:
        masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
        masks[:, 10:30, 10:35] = 1
        found.append(InstanceTargets(boxes_xyxy=boxes, labels=torch.arange(len(boxes)) + 1, masks=masks))
    return found


def test_inference_refines_box_by_box_and_averages_logits() -> None:
    model, maps = head().eval(), features()
    found = model.forward_boxes(model.extractors(maps).boxes, proposals(), SIZES)
    for image, size in enumerate(SIZES):
        regions, all_logits = proposals()[image], []
        for index, stage in enumerate(CASCADE_STAGES):
            rois = torch.cat([torch.full((len(regions), 1), float(image)), regions], dim=1)
            logits, deltas = model.bbox_head[index](model.box_extractor(maps, rois))
            all_logits.append(logits)
            start = regions
            regions = torch.stack(
                [
                    decode_boxes(box, moves[int(row[:CLASSES].argmax())], stage.stds, size)
                    for box, moves, row in zip(regions, deltas, logits, strict=True)
                ]
            )
        torch.testing.assert_close(found[image].regions, start, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(found[image].logits, sum(all_logits) / 3, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found[image].deltas, deltas, atol=1e-3, rtol=1e-3)
        assert found[image].stds == (0.033, 0.033, 0.067, 0.067)


def test_masks_are_the_mean_of_the_heads_probabilities() -> None:
    model, maps = head().eval(), features()
    regions, labels = [boxes[:3] for boxes in proposals()], [torch.tensor([0, 1, 2]), torch.tensor([2, 2, 0])]
    found = model.forward_masks(model.extractors(maps).masks, regions, labels)
    x = model.mask_extractor(maps, stack_regions(regions))
    mean = torch.stack([mask_head(x).sigmoid() for mask_head in model.mask_head]).mean(dim=0)
    expected = mean[torch.arange(6), torch.cat(labels)]
    torch.testing.assert_close(torch.cat(found), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("interleaved", [False, True])
def test_losses_are_those_of_the_steps_one_by_one(interleaved: bool) -> None:
    """In training each stage samples anew; with room for all, no draw is random."""
    model, maps = head(interleaved=interleaved, num_samples=4000).train(), features()
    losses = model.losses(maps, proposals(), targets(), SIZES)
    regions = proposals()
    expected = {}
    for index, stage in enumerate(CASCADE_STAGES):

        def sample(regions: list[Tensor], stage: Any = stage) -> list[Any]:
            return [
                sample_regions(boxes, target, stage=stage, num_classes=CLASSES, num_samples=4000)
                for boxes, target in zip(regions, targets(), strict=True)
            ]

        samples = sample(regions)
        rois = stack_regions([one.boxes for one in samples])
        logits, deltas = model.bbox_head[index](model.box_extractor(maps, rois))
        found = box_losses(logits, deltas, samples, stage=stage)
        first = len(samples[0].boxes)
        regions = [
            refine_samples(samples[0], logits[:first], deltas[:first], stage=stage, image_size=SIZES[0]),
            refine_samples(samples[1], logits[first:], deltas[first:], stage=stage, image_size=SIZES[1]),
        ]
        if interleaved:
            samples = sample(regions)
        masks = model.mask_head[index](model.mask_extractor(maps, stack_regions([s.positive_boxes for s in samples])))
        found["loss_mask"] = mask_loss(masks, samples, targets())
        expected.update({f"s{index}.{name}": loss * (1, 0.5, 0.25)[index] for name, loss in found.items()})
    assert losses.keys() == expected.keys()
    for name, loss in losses.items():
        torch.testing.assert_close(loss, expected[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("objects", [True, False])
def test_gradients_reach_every_parameter(interleaved: bool, objects: bool) -> None:
    model = head(interleaved=interleaved).train()
    sum(model.losses(features(), proposals(), targets(objects), SIZES).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_no_proposals_and_no_objects_leave_running_means_alone() -> None:
    model = head().train()
    none = [torch.zeros(0, 4)] * 2
    losses = model.losses(features(), none, targets(False), SIZES)
    assert all(loss.item() == 0 for loss in losses.values())
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert [len(found) for found in model.eval().predict(features(), none, SIZES)] == [0, 0]


def test_official_settings_and_names() -> None:
    assert [stage.iou for stage in CASCADE_STAGES] == [0.5, 0.6, 0.7]
    assert [stage.loss_weight for stage in CASCADE_STAGES] == [1, 0.5, 0.25]
    assert not any(stage.low_quality for stage in CASCADE_STAGES)
    config = DetectorConfig(method="cascade_mask_rcnn", num_classes=3, fpn_dim=4, fc_dim=8)
    names = build_roi_head(config, (4, 8, 16, 32)).state_dict()
    assert names["bbox_head.2.shared_convs.3.bn.running_mean"].shape == (4,)
    assert names["bbox_head.0.shared_fcs.0.weight"].shape == (8, 4 * 49)
    assert names["bbox_head.1.fc_reg.weight"].shape == (12, 8)
    assert names["mask_head.1.conv_logits.weight"].shape == (3, 4, 1, 1)


def test_stages_and_heads_that_do_not_match_are_an_error() -> None:
    with pytest.raises(ValueError, match="1 box heads and 0 mask heads for 3 stages"):
        CascadeRoIHead(
            box_heads=[BoxHead(4, num_classes=3)],
            mask_heads=[],
            stages=CASCADE_STAGES,
            strides=STRIDES,
            num_classes=3,
            rules=DetectionRules(),
        )
