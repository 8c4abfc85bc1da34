"""Multi-scale and flip testing against the model itself and against a plain second version of the merging."""

import dataclasses

import pytest
import torch
import torchvision
from torch import Tensor

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.heads.rpn import scored_proposals
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import DetectorConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.detection import Detector
from swin_transformer_pytorch.models.detection_inference import DetectionError, detect, detect_multi_scale
from swin_transformer_pytorch.models.multi_scale import View

METHODS = ("mask_rcnn", "cascade_mask_rcnn", "htc")
BACKBONE = SwinConfig(
    embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4, single_window="keep", drop_path_rate=0.0
)


def tiny(method: str, **fields: object) -> Detector:
    torch.manual_seed(3)
    config = DetectorConfig(
        method=method,  # type: ignore[arg-type]
        backbone=BACKBONE,
        **{"num_classes": 3, "fpn_dim": 8, "fc_dim": 16, "num_semantic_classes": 4, "max_detections": 12, **fields},  # type: ignore[arg-type]
    )
    model = build(ModelDescription(config=config)).eval()
    for name, parameter in model.named_parameters():
        if any(part in name for part in ("fc_cls", "fc_reg", "rpn_cls", "rpn_reg")):
            torch.nn.init.normal_(parameter, std=0.3 if "cls" in name else 0.05)
    limits = dataclasses.replace(model.rpn_head.rules.inference, per_level=60, per_image=40)
    model.rpn_head.rules = dataclasses.replace(model.rpn_head.rules, inference=limits)
    return model


def image(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(3, height, width, generator=torch.Generator().manual_seed(seed))


def padded(pixels: Tensor) -> Tensor:
    return torch.nn.functional.pad(pixels, (0, -pixels.shape[2] % 32, 0, -pixels.shape[1] % 32))[None]


@pytest.mark.parametrize("method", METHODS)
def test_one_scale_without_flip_is_what_the_model_gives(method: str) -> None:
    model, pixels, factor = tiny(method), image(50, 70), (1.25, 1.25, 1.25, 1.25)
    found = detect_multi_scale(model, [pixels], [factor], flip=False)
    (plain,) = model(padded(pixels), [(50, 70)], [factor])
    assert len(found) > 0
    for name in ("boxes_xyxy", "scores", "labels", "masks"):
        assert torch.equal(getattr(found, name), getattr(plain, name))


@pytest.mark.parametrize("method", METHODS)
def test_images_of_any_sizes_get_what_each_gets_alone_in_their_order(method: str) -> None:
    model, called = tiny(method), []
    model.register_forward_pre_hook(lambda module, arguments: called.append(tuple(arguments[0].shape)))
    images = [image(50, 70), image(33, 20, 1), image(60, 65, 2), image(50, 70, 3)]
    factors = [(1.25, 1.25, 1.25, 1.25), (1.0, 1.0, 1.0, 1.0), (0.5, 0.5, 0.5, 0.5), (2.0, 2.0, 2.0, 2.0)]
    found = detect(model, images, factors)
    assert called == [(3, 3, 64, 96), (1, 3, 64, 32)]  # one call for each padded size
    for one, pixels, factor in zip(found, images, factors, strict=True):
        (alone,) = model(padded(pixels), [tuple(pixels.shape[1:])], [factor])
        assert len(one) == len(alone) > 0
        torch.testing.assert_close(one.boxes_xyxy, alone.boxes_xyxy, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(one.scores, alone.scores, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(one.masks, alone.masks, atol=1e-4, rtol=1e-4)
        assert torch.equal(one.labels, alone.labels)
    assert detect(model, []) == []
    with pytest.raises(DetectionError, match="4 images and 3 scale factors"):
        detect(model, images, factors[:3])
    with pytest.raises(DetectionError, match="training mode"):
        detect(model.train(), images, factors)


def merged_by_hand(model: Detector, images: list[Tensor], factors: list[tuple[float, ...]]) -> tuple[Tensor, ...]:
    """Step by step on lists of (image, width, factor, mirrored), each step as mmdet describes it."""
    views = [
        (pixels.flip(2) if mirrored else pixels, torch.tensor(factor), mirrored)
        for pixels, factor in zip(images, factors, strict=True)
        for mirrored in (False, True)
    ]

    def mirror(boxes: Tensor, width: int) -> Tensor:
        return torch.stack([width - boxes[..., 2], boxes[..., 1], width - boxes[..., 0], boxes[..., 3]], dim=-1)

    def back(boxes: Tensor, view: tuple[Tensor, Tensor, bool]) -> Tensor:
        return (mirror(boxes, view[0].shape[2]) if view[2] else boxes) / view[1]

    def onto(boxes: Tensor, view: tuple[Tensor, Tensor, bool]) -> Tensor:
        return mirror(boxes * view[1], view[0].shape[2]) if view[2] else boxes * view[1]

    all_features, all_boxes, all_scores = [], [], []
    rules = model.rpn_head.rules
    for view in views:
        features = model.extract(padded(view[0]))
        size = (view[0].shape[1], view[0].shape[2])
        outputs = model.rpn_head(features)
        ((boxes, scores),) = scored_proposals(outputs, [size], strides=rules.strides, limits=rules.inference)
        all_features.append(features)
        all_boxes.append(back(boxes, view))
        all_scores.append(scores)
    proposals = torch.cat(all_boxes)[torchvision.ops.nms(torch.cat(all_boxes), torch.cat(all_scores), 0.7)[:40]]
    mean_boxes, mean_scores = torch.zeros(40, 3, 4), torch.zeros(40, 3)
    for view, features in zip(views, all_features, strict=True):
        size = (view[0].shape[1], view[0].shape[2])
        extract = model.roi_head.extractors(features)
        (raw,) = model.roi_head.forward_boxes(extract.boxes, [onto(proposals, view)], [size])
        for k in range(3):
            deltas = raw.deltas[:, k if raw.deltas.shape[1] > 1 else 0] * torch.tensor(raw.stds)
            side = raw.regions[:, 2:] - raw.regions[:, :2]
            centre = (raw.regions[:, :2] + raw.regions[:, 2:]) / 2 + deltas[:, :2] * side
            half = side * deltas[:, 2:].exp() / 2
            boxes = torchvision.ops.clip_boxes_to_image(torch.cat([centre - half, centre + half], dim=1), size)
            mean_boxes[:, k] += back(boxes, view) / len(views)
        mean_scores += raw.logits.softmax(dim=1)[:, :3] / len(views)
    found = []
    for k in range(3):
        likely = mean_scores[:, k] > model.config.score_threshold
        candidates, scores = mean_boxes[likely, k], mean_scores[likely, k]
        found += [
            (scores[i], candidates[i], torch.tensor(k)) for i in torchvision.ops.nms(candidates, scores, 0.5).tolist()
        ]
    found = sorted(found, key=lambda each: -each[0].item())[:12]
    scores, boxes, labels = (torch.stack(column) for column in zip(*found, strict=True))
    masks = torch.zeros(len(boxes), 28, 28)
    for view, features in zip(views, all_features, strict=True):
        extract = model.roi_head.extractors(features).masks
        (grids,) = model.roi_head.forward_masks(extract, [onto(boxes, view)], [labels])
        masks += (grids.flip(2) if view[2] else grids) / len(views)
    return boxes, scores, labels, masks


@pytest.mark.parametrize("method", METHODS)
def test_views_are_merged_step_by_step(method: str) -> None:
    model = tiny(method)
    images, factors = [image(50, 70), image(75, 105, 1)], [(1.0, 1.0, 1.0, 1.0), (1.5, 1.5, 1.5, 1.5)]
    found = detect_multi_scale(model, images, factors)
    with torch.no_grad():
        boxes, scores, labels, masks = merged_by_hand(model, images, list(factors))
    assert len(found) == 12 and torch.equal(found.labels, labels)
    torch.testing.assert_close(found.boxes_xyxy, boxes, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found.scores, scores, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.masks, masks, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_with_flip_a_mirrored_image_gives_the_mirrored_answer(method: str) -> None:
    model, pixels, factor = tiny(method), image(50, 70), (2.0, 2.0, 2.0, 2.0)
    found = detect_multi_scale(model, [pixels], [factor])
    mirrored = detect_multi_scale(model, [pixels.flip(2)], [factor])
    assert len(found) > 0 and torch.equal(found.labels, mirrored.labels)
    x0, y0, x1, y1 = mirrored.boxes_xyxy.unbind(dim=1)
    upright = torch.stack([35 - x1, y0, 35 - x0, y1], dim=1)  # 70 / 2 pixels of the original
    torch.testing.assert_close(found.boxes_xyxy, upright, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(found.scores, mirrored.scores, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found.masks, mirrored.masks.flip(2), atol=1e-4, rtol=1e-4)


def test_soft_nms_and_global_attention_take_part() -> None:
    model = tiny("htc", soft_nms=True, global_attention=True)
    found = detect_multi_scale(model, [image(50, 70)], [(1.0, 1.0, 1.0, 1.0)])
    assert len(found) == 12 and bool((found.scores[1:] <= found.scores[:-1]).all())


@pytest.mark.parametrize("method", METHODS)
def test_no_detections_are_no_matter(method: str) -> None:
    found = detect_multi_scale(tiny(method, score_threshold=1.0), [image(40, 40)], [(1.0, 1.0, 1.0, 1.0)])
    assert len(found) == 0 and found.masks.shape == (0, 28, 28)


def test_scored_proposals_are_the_models_own() -> None:
    model = tiny("mask_rcnn")
    with torch.no_grad():
        outputs = model.rpn_head(model.extract(padded(image(90, 120))))
    rules = model.rpn_head.rules
    ((boxes, scores),) = scored_proposals(outputs, [(90, 120)], strides=rules.strides, limits=rules.inference)
    (expected,) = model.rpn_head.propose(outputs, [(90, 120)], training=False)
    assert torch.equal(boxes, expected) and bool((scores[1:] <= scores[:-1]).all())


def test_a_view_leads_to_the_original_and_back() -> None:
    view = View(image_size=(50, 80), scale_factor=(2.0, 2.5, 2.0, 2.5), flipped=True)
    boxes = torch.tensor([[10.0, 5, 30, 50]])
    assert view.to_original(boxes).tolist() == [[25, 2, 35, 20]]
    torch.testing.assert_close(view.from_original(view.to_original(boxes)), boxes)


def test_what_cannot_be_is_said() -> None:
    model = tiny("mask_rcnn")
    with pytest.raises(DetectionError, match="0 images and 0 scale factors"):
        detect_multi_scale(model, [], [])
    with pytest.raises(DetectionError, match="1 images and 2 scale factors"):
        detect_multi_scale(model, [image(32, 32)], [(1.0,) * 4, (1.0,) * 4])  # type: ignore[list-item]
    with pytest.raises(DetectionError, match=r"training mode.*eval\(\)"):
        detect_multi_scale(model.train(), [image(32, 32)], [(1.0, 1.0, 1.0, 1.0)])
