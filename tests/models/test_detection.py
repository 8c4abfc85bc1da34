"""Detectors as a whole: sizes and names as published, any image at any moment, and that they learn."""

import dataclasses
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from swin_transformer_pytorch.backbone.config import ConfigError, SwinConfig
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import DENSE_VARIANTS, DetectorConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.detection import Detector, InstancePredictions, InstanceTargets
from swin_transformer_pytorch.ops.regions.masks import paste_masks
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

METHODS = ("mask_rcnn", "cascade_mask_rcnn", "htc")
every_method = pytest.mark.parametrize("method", METHODS)
Size = tuple[int, int]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Maps this small are slower on several, and several times so where other programs run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def tiny_config(method: str = "mask_rcnn", backbone: dict[str, Any] | None = None, **fields: Any) -> DetectorConfig:
    small: dict[str, Any] = {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 3}
    known = SwinConfig(single_window="keep", **{**small, **(backbone or {})})
    sizes: dict[str, Any] = {"num_classes": 3, "fpn_dim": 8, "fc_dim": 16, "num_semantic_classes": 4, "roi_samples": 32}
    return DetectorConfig(method=method, backbone=known, **{**sizes, **fields})


def detector(method: str = "mask_rcnn", **fields: Any) -> Detector:
    """With predictions that differ from place to place, as an untrained model's do not."""
    torch.manual_seed(0)
    model = build(ModelDescription(config=tiny_config(method, **fields)))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("fc_cls.weight", "fc_reg.weight", "rpn_cls", "rpn_reg.weight")):
                parameter.mul_(30)
    return model.eval()


def images(size: Size, batch: int = 1, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(size[0] * 1000 + size[1])
    return torch.randn(batch, channels, *size, generator=generator)


def objects(size: Size, boxes: list[list[float]], padded: Size | None = None) -> InstanceTargets:
    height, width = padded if padded is not None else size
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[int(y0) : math.ceil(y1), int(x0) : math.ceil(x1)] = 1
    return InstanceTargets(
        boxes_xyxy=torch.tensor(boxes).reshape(-1, 4),
        labels=torch.arange(len(boxes)) % 3,
        masks=masks,
        semantic=torch.zeros(math.ceil(height / 8), math.ceil(width / 8), dtype=torch.int64),
    )


def assert_same(found: InstancePredictions, expected: InstancePredictions, tolerance: float = 1e-4) -> None:
    assert torch.equal(found.labels, expected.labels)
    for name in ("boxes_xyxy", "scores", "masks"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ("name", "millions", "keys"),
    [("mask_rcnn_swin_tiny_patch4_window7", 47.79, 219), ("cascade_mask_rcnn_swin_tiny_patch4_window7", 85.63, 325)],
)
def test_published_models_have_the_official_parameters(name: str, millions: float, keys: int) -> None:
    with torch.device("meta"):
        model = build(ModelDescription(config=DENSE_VARIANTS[name].config))
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)
    assert len(model.state_dict()) == keys


def test_official_names() -> None:
    with torch.device("meta"):
        model = build(ModelDescription(config=DetectorConfig()))
    shapes = {key: tuple(x.shape) for key, x in model.state_dict().items()}
    for key, shape in {
        "backbone.norm3.weight": (768,),
        "neck.lateral_convs.3.conv.weight": (256, 768, 1, 1),
        "neck.fpn_convs.0.conv.weight": (256, 256, 3, 3),
        "rpn_head.rpn_conv.weight": (256, 256, 3, 3),
        "rpn_head.rpn_cls.weight": (3, 256, 1, 1),
        "rpn_head.rpn_reg.weight": (12, 256, 1, 1),
        "roi_head.bbox_head.shared_fcs.0.weight": (1024, 12544),
        "roi_head.bbox_head.shared_fcs.1.weight": (1024, 1024),
        "roi_head.bbox_head.fc_cls.weight": (81, 1024),
        "roi_head.bbox_head.fc_reg.weight": (320, 1024),
        "roi_head.mask_head.convs.3.conv.weight": (256, 256, 3, 3),
        "roi_head.mask_head.upsample.weight": (256, 256, 2, 2),
        "roi_head.mask_head.conv_logits.weight": (80, 256, 1, 1),
    }.items():
        assert shapes[key] == shape, key


TINY = [name for name, one in DENSE_VARIANTS.items() if isinstance(one.config, DetectorConfig) and "tiny" in name]


@pytest.mark.parametrize("name", TINY)
def test_variants_are_built(name: str) -> None:
    config = DENSE_VARIANTS[name].config
    with torch.device("meta"):
        model = build(ModelDescription(config=config, name=name))
    assert model.config is config
    assert (model.global_attention is not None) == name.startswith("htcpp")


@every_method
def test_gradients_reach_every_parameter(method: str) -> None:
    model = detector(method).train()
    sizes = [(64, 90), (50, 96)]
    targets = [objects(sizes[0], [[5.0, 6, 50, 60], [30, 5, 85, 40]], (64, 96)), objects(sizes[1], [], (64, 96))]
    losses = model.losses(images((64, 96), 2), targets, sizes)
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A level of the pyramid may have no region of its size, and, in a cascade, no anchor inside the image.
        assert parameter.grad.any() or "fpn_convs" in name, name


@every_method
def test_a_batch_without_objects_has_gradients_of_every_parameter_and_no_loss_of_boxes(method: str) -> None:
    model = detector(method).train()
    losses = model.losses(images((64, 64), 2), [objects((64, 64), [])] * 2)
    for name, loss in losses.items():
        assert loss.isfinite(), name
        if "bbox" in name or "mask" in name:
            assert loss.item() == 0, name
    sum(losses.values()).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@every_method
@pytest.mark.parametrize("size", [(1, 1), (33, 65), (7, 130), (96, 61)])
def test_any_size_in_training_and_inference(method: str, size: Size) -> None:
    model = detector(method)
    for found in model(images(size)):
        assert found.masks.shape == (len(found), 28, 28)
        assert (found.boxes_xyxy >= 0).all()
        assert (found.boxes_xyxy <= torch.tensor([size[1], size[0]] * 2)).all()
    pixel = objects(size, [[0.0, 0, 1, 1]])
    losses = model.train().losses(images(size), [pixel])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in model.parameters())


@every_method
def test_images_of_a_batch_are_detected_as_alone_in_the_same_padding(method: str) -> None:
    model = detector(method)
    sizes, scales = [(64, 96), (40, 70), (64, 33)], [(0.5,) * 4, (1.0,) * 4, (2.0, 1.5, 2.0, 1.5)]
    batch = images((64, 96), 3)
    for image, (height, width) in zip(batch, sizes, strict=True):
        image[:, height:], image[:, :, width:] = 0, 0
    together = model(batch, sizes, scales)
    assert all(len(found) > 0 for found in together)
    for i, found in enumerate(together):
        assert_same(found, model(batch[i : i + 1], sizes[i : i + 1], scales[i : i + 1])[0])
        limit = torch.tensor([sizes[i][1], sizes[i][0]] * 2) / torch.tensor(scales[i])
        assert (found.boxes_xyxy <= limit + 1e-3).all()


@every_method
def test_nothing_is_remembered_from_one_image_to_the_next(method: str) -> None:
    model = detector(method)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first = model(images((64, 64)))[0]
    model(images((96, 40)))
    again = model(images((64, 64)))[0]
    assert_same(again, first, tolerance=0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@every_method
def test_no_detections(method: str) -> None:
    found = detector(method, score_threshold=1.0)(images((64, 64), 2))
    for one in found:
        assert (one.boxes_xyxy.shape, one.masks.shape) == ((0, 4), (0, 28, 28))


@pytest.mark.parametrize("soft_nms", [False, True])
def test_more_than_ten_thousand_candidates(soft_nms: bool) -> None:
    model = detector(score_threshold=0.0, num_classes=80, soft_nms=soft_nms)
    found = model(images((160, 160)))[0]
    assert len(found) == 100
    assert (found.scores[1:] <= found.scores[:-1]).all()


@every_method
def test_losses_are_float32_under_automatic_mixed_precision(method: str) -> None:
    model = detector(method).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.losses(images((64, 64)), [objects((64, 64), [[5.0, 6, 50, 60]])])
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()


def test_a_model_in_half_precision_predicts() -> None:
    found = detector().bfloat16()(images((64, 64)).bfloat16())[0]
    assert len(found) > 0
    assert found.boxes_xyxy.dtype == torch.float32


@pytest.mark.parametrize(
    "backbone",
    [
        {"depths": (1, 1), "num_heads": (1, 2), "patch_size": 2},
        {"depths": (1, 1, 1), "num_heads": (1, 1, 2), "patch_size": 4, "version": 2},
        {"depths": (1, 1, 1, 1, 1), "num_heads": (1, 1, 1, 1, 2), "in_channels": 1},
    ],
)
def test_backbones_of_other_shapes(backbone: dict[str, Any]) -> None:
    model = detector(backbone=backbone)
    size, channels = (70, 90), backbone.get("in_channels", 3)
    strides = model.rpn_head.rules.strides
    assert len(strides) == len(backbone["depths"]) + 1
    features = model.extract(images(size, channels=channels))
    assert [x.shape[2] for x in features] == [math.ceil(70 / stride) for stride in strides]
    assert len(model(images(size, channels=channels))) == 1
    losses = model.train().losses(images(size, channels=channels), [objects(size, [[5.0, 6, 50, 60]])])
    sum(losses.values()).backward()


def test_what_a_checkpoint_needs_is_plain() -> None:
    preprocessing = DensePreprocessing()
    model = build(
        ModelDescription(config=tiny_config(), classes=("a", "b", "c"), preprocessing=preprocessing, name="mine")
    )
    described = model.metadata()
    assert described["task"] == "detection"
    assert (described["name"], described["num_classes"], described["classes"]) == ("mine", 3, ["a", "b", "c"])
    assert DetectorConfig.from_dict(described["config"]) == model.config
    assert described["preprocessing"] == preprocessing.to_dict()


def test_mistakes_are_named() -> None:
    model = detector()
    pair = images((64, 64), 2)
    with pytest.raises(ConfigError, match="2 class names for num_classes=3"):
        build(ModelDescription(config=tiny_config(), classes=("a", "b")))
    with pytest.raises(ValueError, match="1 image_sizes for 2 images"):
        model(pair, [(64, 64)])
    with pytest.raises(ValueError, match=r"\(64, 65\).*padded to \(64, 64\)"):
        model(pair, [(64, 64), (64, 65)])
    with pytest.raises(ValueError, match="1 scale_factors for 2 images"):
        model(pair, None, [(1.0, 1.0, 1.0, 1.0)])
    with pytest.raises(ValueError, match="1 targets for 2 images"):
        model.losses(pair, [objects((64, 64), [])])
    with pytest.raises(ValueError, match=r"masks of \(64, 64\) pixels for an image of \(60, 64\)"):
        model.losses(pair, [objects((64, 64), [])] * 2, [(64, 64), (60, 64)])


# --- that it learns -------------------------------------------------------------------------------------------------

SCENE = (96, 96)


def scene(seed: int) -> tuple[Tensor, InstanceTargets]:
    """Three coloured rectangles (class 0) or ellipses (class 1), some behind others."""
    draw_random = random.Random(seed)
    picture = Image.new("RGB", (SCENE[1], SCENE[0]), tuple(draw_random.randrange(60) for _ in range(3)))
    owner = Image.new("L", picture.size, 0)
    labels = []
    for number in range(1, 4):
        width, height = draw_random.randrange(20, 45), draw_random.randrange(20, 45)
        x, y = draw_random.randrange(SCENE[1] - width), draw_random.randrange(SCENE[0] - height)
        label = draw_random.randrange(2)
        color = tuple(draw_random.randrange(90, 256) for _ in range(3))
        for canvas, fill in ((picture, color), (owner, number)):
            pen = ImageDraw.Draw(canvas)
            shape = pen.ellipse if label else pen.rectangle
            shape((x, y, x + width - 1, y + height - 1), fill=fill)
        labels.append(label)
    owners = torch.frombuffer(bytearray(owner.tobytes()), dtype=torch.uint8).view(SCENE)
    masks = torch.stack([(owners == number).to(torch.uint8) for number in range(1, 4)])
    visible = masks.flatten(1).sum(dim=1) > 150
    masks = masks[visible]
    boxes = []
    for mask in masks:
        y, x = mask.nonzero(as_tuple=True)
        boxes.append([float(x.min()), float(y.min()), float(x.max() + 1), float(y.max() + 1)])
    pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(*SCENE, 3)
    kept = torch.tensor(labels)[visible]
    return pixels.permute(2, 0, 1) / 64.0 - 2, InstanceTargets(boxes_xyxy=torch.tensor(boxes), labels=kept, masks=masks)


def average_precision(found: list[InstancePredictions], targets: list[InstanceTargets], *, of_masks: bool) -> float:
    """AP at an IoU of 0.5, the mean over classes, with precision made monotonic: COCO's without its 101 points."""
    results = []
    for label in range(2):
        hits: list[tuple[float, bool]] = []
        total = sum(int((target.labels == label).sum()) for target in targets)
        for one, target in zip(found, targets, strict=True):
            taken: set[int] = set()
            pasted = paste_masks(one.masks, one.boxes_xyxy, SCENE)
            for i in (one.labels == label).nonzero()[:, 0].tolist():
                overlaps = [
                    (mask_iou(pasted[i], target.masks[k].bool()) if of_masks else box_iou(one, target, i, k), k)
                    for k in (target.labels == label).nonzero()[:, 0].tolist()
                    if k not in taken
                ]
                best, k = max(overlaps, default=(0.0, -1))
                hits.append((one.scores[i].item(), best >= 0.5))
                if best >= 0.5:
                    taken.add(k)
        hits.sort(key=lambda hit: -hit[0])
        points, right = [], 0
        for count, (_, hit) in enumerate(hits, start=1):
            right += hit
            points.append((right / total, right / count))
        area = before = 0.0
        for i, (recall, _) in enumerate(points):
            area += (recall - before) * max(precision for _, precision in points[i:])
            before = recall
        results.append(area)
    return sum(results) / len(results)


def box_iou(one: InstancePredictions, target: InstanceTargets, i: int, k: int) -> float:
    a, b = one.boxes_xyxy[i].tolist(), target.boxes_xyxy[k].tolist()
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def mask_iou(a: Tensor, b: Tensor) -> float:
    return int((a & b).sum()) / max(int((a | b).sum()), 1)


@pytest.mark.slow
@pytest.mark.parametrize(("method", "steps"), [("mask_rcnn", 130), ("cascade_mask_rcnn", 90)])
def test_four_scenes_are_learnt_by_heart(method: str, steps: int) -> None:
    torch.manual_seed(0)
    small = {"embed_dim": 16, "depths": (2, 2, 2), "num_heads": (1, 2, 4), "window_size": 6}
    config = tiny_config(method, small, num_classes=2, fpn_dim=32, fc_dim=64, rpn_samples=64, roi_samples=64)
    model = build(ModelDescription(config=config)).train()
    # Of an image this small nearly every anchor would be a proposal, and most of the time go into suppressing them.
    limits = dataclasses.replace(model.rpn_head.rules.training, per_level=600, per_image=600)
    model.rpn_head.rules = dataclasses.replace(model.rpn_head.rules, training=limits)
    scenes = [scene(seed) for seed in range(4)]
    pixels, targets = torch.stack([x for x, _ in scenes]), [target for _, target in scenes]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        losses = model.losses(pixels, targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    found = model.eval()(pixels)
    assert average_precision(found, targets, of_masks=False) >= 0.95
    assert average_precision(found, targets, of_masks=True) >= 0.95
