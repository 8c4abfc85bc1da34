"""HTC's heads: fusion, mask flow and interleaving against plain second versions, names, gradients, edges."""

from collections.abc import Sequence

import pytest
import torch
import torchvision
from torch import Tensor
from torch.nn import functional as F

from swin_transformer_pytorch.heads.htc import HTC_STAGES, HTCRoIHead
from swin_transformer_pytorch.heads.roi import region_levels, stack_regions
from swin_transformer_pytorch.heads.roi_losses import box_losses, mask_loss, refine_samples, sample_regions
from swin_transformer_pytorch.models.config import DetectorConfig
from swin_transformer_pytorch.models.detector_parts import build_roi_head
from swin_transformer_pytorch.ops.regions.boxes import decode_boxes
from swin_transformer_pytorch.ops.regions.instances import InstanceTargets

STRIDES = (4, 8, 16, 32)
SIZE = (64, 96)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def tiny(**fields: object) -> HTCRoIHead:
    known = {"num_classes": 3, "fpn_dim": 4, "fc_dim": 8, "num_semantic_classes": 5, "roi_samples": 16}
    config = DetectorConfig(method="htc", **{**known, **fields})  # type: ignore[arg-type]
    head = build_roi_head(config, STRIDES)
    assert isinstance(head, HTCRoIHead)
    for name, parameter in head.named_parameters():
        torch.nn.init.normal_(parameter, std=0.02 if "fc_reg" in name else 0.3)
    return head


def pyramid(batch: int = 2) -> list[Tensor]:
    return [torch.randn(batch, 4, SIZE[0] // stride, SIZE[1] // stride) for stride in (*STRIDES, 64)]


def boxes(count: int) -> Tensor:
    corner = torch.rand(count, 2) * torch.tensor([60.0, 40.0])
    return torch.cat([corner, corner + 3 + torch.rand(count, 2) * torch.tensor([33.0, 21.0])], dim=1)


def targets(*counts: int, semantic: bool = True) -> list[InstanceTargets]:
    found = []
    for count in counts:
        corners = boxes(count)
        masks = torch.zeros(count, *SIZE, dtype=torch.uint8)
        for mask, (x0, y0, x1, y1) in zip(masks, corners.round().int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = 1
        found.append(
            InstanceTargets(
                boxes_xyxy=corners,
                labels=torch.arange(count) % 3,
                masks=masks,
                semantic=torch.randint(5, (SIZE[0] // 8, SIZE[1] // 8)) if semantic else None,
            )
        )
    return found


def pooled(features: Sequence[Tensor], rois: Tensor, semantics: Tensor, size: int) -> Tensor:
    """One region at a time: its own level's features, and the semantic ones averaged down to its grid."""
    rows = []
    for roi, level in zip(rois, region_levels(rois[:, 1:], 4, 4).tolist(), strict=True):
        own = torchvision.ops.roi_align(features[level], roi[None], size, 1 / STRIDES[level], -1, True)
        context = torchvision.ops.roi_align(semantics, roi[None], 14, 1 / 8, -1, True)
        if size == 7:
            context = context.unflatten(2, (7, 2)).unflatten(4, (7, 2)).mean(dim=(3, 5))
        rows.append(own + context)
    return torch.cat(rows)


def mask_flow(head: HTCRoIHead, x: Tensor) -> list[Tensor]:
    """All three heads' logits by the parameters' official names alone."""
    state = head.state_dict()

    def conv(name: str, x: Tensor, padding: int = 0) -> Tensor:
        return F.conv2d(x, state[f"mask_head.{name}.weight"], state[f"mask_head.{name}.bias"], padding=padding)

    logits, previous = [], torch.empty(0)
    for stage in range(3):
        y = x if stage == 0 else x + conv(f"{stage}.conv_res.conv", previous).clamp(min=0)
        for i in range(4):
            y = conv(f"{stage}.convs.{i}.conv", y, padding=1).clamp(min=0)
        previous = y
        prefix = f"mask_head.{stage}.upsample"
        y = F.conv_transpose2d(y, state[f"{prefix}.weight"], state[f"{prefix}.bias"], stride=2).clamp(min=0)
        logits.append(conv(f"{stage}.conv_logits", y))
    return logits


def test_regions_features_have_the_semantic_ones_added() -> None:
    head, features = tiny(), pyramid()
    semantics = head.semantic_head(features)[1]
    rois = stack_regions([boxes(5), boxes(4)])
    extract = head.extractors(features)
    torch.testing.assert_close(extract.boxes(rois), pooled(features, rois, semantics, 7), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(extract.masks(rois), pooled(features, rois, semantics, 14), atol=1e-5, rtol=1e-4)


def test_mask_heads_pass_their_features_on() -> None:
    head, x = tiny(), torch.randn(3, 4, 14, 14)
    expected = mask_flow(head, x)
    for stage, logits in enumerate(head.all_mask_logits(x)):
        torch.testing.assert_close(logits, expected[stage])
        torch.testing.assert_close(head.mask_logits(x, stage), expected[stage])


def test_a_masks_probability_is_the_mean_of_the_three_heads() -> None:
    head, features = tiny(), pyramid(1)
    extract, regions, labels = head.extractors(features).masks, boxes(3), torch.tensor([2, 0, 1])
    expected = torch.stack([x.sigmoid() for x in mask_flow(head, extract(stack_regions([regions])))]).mean(dim=0)
    (masks,) = head.forward_masks(extract, [regions], [labels])
    torch.testing.assert_close(masks, expected[torch.arange(3), labels])


def test_boxes_go_through_three_stages_and_logits_are_averaged() -> None:
    head, features = tiny(), pyramid(1)
    extract, regions = head.extractors(features).boxes, boxes(6)
    (found,) = head.forward_boxes(extract, [regions], [SIZE])
    logits, current = [], regions
    for stage, rule in enumerate(HTC_STAGES):
        scores, deltas = head.bbox_head[stage](extract(stack_regions([current])))
        assert deltas.shape == (6, 1, 4)
        logits.append(scores)
        if stage < 2:
            current = decode_boxes(current, deltas[:, 0], rule.stds, SIZE)
    torch.testing.assert_close(found.regions, current)
    torch.testing.assert_close(found.logits, torch.stack(logits).mean(dim=0))
    torch.testing.assert_close(found.deltas, deltas)
    assert found.stds == (0.033, 0.033, 0.067, 0.067)


def test_the_stages_are_the_published_ones() -> None:
    assert [stage.iou for stage in HTC_STAGES] == [0.5, 0.6, 0.7]
    assert [stage.loss_weight for stage in HTC_STAGES] == [1, 0.5, 0.25]
    assert all(stage.low_quality and stage.regression == "smooth_l1" for stage in HTC_STAGES)


def test_training_is_interleaved() -> None:
    """A mask head learns from what its stage's box head made of the regions, and the next stage starts there."""
    head, features, wanted = tiny(roi_samples=1000), pyramid(), targets(2, 1)
    proposals = [boxes(7), boxes(5)]  # all of them are drawn: 1000 is more than enough, so nothing is left to chance
    losses = head.losses(features, proposals, wanted, [SIZE, SIZE])
    extract, regions = head.extractors(features), proposals
    for index, stage in enumerate(HTC_STAGES):
        draw = {"stage": stage, "num_classes": 3, "num_samples": 1000}
        samples = [sample_regions(b, t, **draw) for b, t in zip(regions, wanted, strict=True)]  # type: ignore[arg-type]
        logits, deltas = head.bbox_head[index](extract.boxes(stack_regions([s.boxes for s in samples])))
        for name, value in box_losses(logits, deltas, samples, stage=stage).items():
            torch.testing.assert_close(losses[f"s{index}.{name}"], value * stage.loss_weight)
        split = len(samples[0].boxes)
        regions = [
            refine_samples(samples[0], logits[:split], deltas[:split], stage=stage, image_size=SIZE),
            refine_samples(samples[1], logits[split:], deltas[split:], stage=stage, image_size=SIZE),
        ]
        assert [len(r) for r in regions] == [7, 5]  # the objects' own boxes are added anew, not handed on
        samples = [sample_regions(b, t, **draw) for b, t in zip(regions, wanted, strict=True)]  # type: ignore[arg-type]
        x = extract.masks(stack_regions([s.positive_boxes for s in samples]))
        expected = mask_loss(mask_flow(head, x)[index], samples, wanted) * stage.loss_weight
        torch.testing.assert_close(losses[f"s{index}.loss_mask"], expected)


def test_the_losses_have_mmdets_names() -> None:
    losses = tiny().losses(pyramid(), [boxes(4), boxes(4)], targets(2, 1), [SIZE, SIZE])
    expected = {"loss_semantic_seg"}
    expected |= {f"s{stage}.loss_{part}" for stage in range(3) for part in ("cls", "bbox", "mask")}
    assert set(losses) == expected and all(bool(loss.isfinite()) for loss in losses.values())


def test_every_parameter_learns() -> None:
    head = tiny()
    features = [feature.requires_grad_() for feature in pyramid()]
    losses = head.losses(features, [boxes(8), boxes(8)], targets(3, 2), [SIZE, SIZE])
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.any()), name
    assert all(feature.grad is not None and bool(feature.grad.any()) for feature in features)


def test_images_without_objects_teach_too() -> None:
    head = tiny()
    losses = head.losses(pyramid(), [boxes(4), boxes(0)], targets(0, 0), [SIZE, SIZE])
    torch.stack(list(losses.values())).sum().backward()
    assert all(bool(loss.isfinite()) for loss in losses.values())
    assert all(losses[f"s{stage}.loss_mask"].item() == 0 for stage in range(3))
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in head.parameters())


def test_no_semantic_labels_is_an_error_that_names_the_fix() -> None:
    with pytest.raises(ValueError, match=r"image 0 .*no semantic labels.*stuff_folder.*cascade_mask_rcnn"):
        tiny().losses(pyramid(), [boxes(4), boxes(4)], targets(2, 1, semantic=False), [SIZE, SIZE])


def test_no_detections_are_no_matter() -> None:
    head = tiny(score_threshold=1.0)
    for proposals in ([boxes(5), boxes(0)], [boxes(0), boxes(0)]):
        for found in head.predict(pyramid(), proposals, [SIZE, SIZE]):
            assert len(found) == 0 and found.masks.shape == (0, 28, 28)


@pytest.mark.parametrize("soft", [False, True])
def test_each_image_gets_what_it_gets_alone(soft: bool) -> None:
    head, features, proposals = tiny(soft_nms=soft), pyramid(), [boxes(9), boxes(6)]
    together = head.predict(features, proposals, [SIZE, SIZE])
    assert min(len(found) for found in together) > 0
    for image, found in enumerate(together):
        part = [feature[image : image + 1] for feature in features]
        (alone,) = head.predict(part, [proposals[image]], [SIZE])
        assert torch.equal(found.labels, alone.labels)
        torch.testing.assert_close(found.boxes_xyxy, alone.boxes_xyxy, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.scores, alone.scores, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(found.masks, alone.masks, atol=1e-5, rtol=1e-4)


def test_its_parameters_have_the_official_names_and_shapes() -> None:
    config = DetectorConfig(method="htc")
    with torch.device("meta"):
        state = build_roi_head(config, STRIDES).state_dict()
    shapes: dict[str, tuple[int, ...]] = {}
    for stage in range(3):
        for name, shape in {
            "shared_fcs.0": (1024, 12544),
            "shared_fcs.1": (1024, 1024),
            "fc_cls": (81, 1024),
            "fc_reg": (4, 1024),
        }.items():
            shapes[f"bbox_head.{stage}.{name}"] = shape
        for i in range(4):
            shapes[f"mask_head.{stage}.convs.{i}.conv"] = (256, 256, 3, 3)
        shapes[f"mask_head.{stage}.upsample"] = (256, 256, 2, 2)
        shapes[f"mask_head.{stage}.conv_logits"] = (80, 256, 1, 1)
        if stage:
            shapes[f"mask_head.{stage}.conv_res.conv"] = (256, 256, 1, 1)
    for i in range(5):
        shapes[f"semantic_head.lateral_convs.{i}.conv"] = (256, 256, 1, 1)
    for i in range(4):
        shapes[f"semantic_head.convs.{i}.conv"] = (256, 256, 3, 3)
    shapes["semantic_head.conv_embedding.conv"] = (256, 256, 1, 1)
    shapes["semantic_head.conv_logits"] = (183, 256, 1, 1)
    assert set(state) == {f"{name}.{part}" for name in shapes for part in ("weight", "bias")}
    assert {name: tuple(state[f"{name}.weight"].shape) for name in shapes} == shapes
