"""Mask R-CNN on Swin-T beside torchvision's own Mask R-CNN, around our backbone and around torchvision's Swin-T.

    python benchmarks/detection.py [--rounds 7] [--training-rounds 3]

One image of 800 x 1333 pixels from normalised pixels to boxes, and masks laid on the image; then a training step on it.
The figures go, as JSON and as a page, to benchmarks/results/, named after the day. It takes about four minutes on two
cores; leave the machine alone meanwhile. Weights are random, so all are told to keep 100 detections whatever their
scores: the box and mask heads then have the work of a crowded image.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models import swin_t
from torchvision.models.detection import MaskRCNN
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

import swin_transformer_pytorch as swin
from dense import Step, measure, start, table, training_step, write
from swin_transformer_pytorch import benchmark
from swin_transformer_pytorch.models.detection import InstanceTargets
from swin_transformer_pytorch.ops.padding import pad_batch
from swin_transformer_pytorch.ops.regions.masks import paste_masks

VARIANT = "mask_rcnn_swin_tiny_patch4_window7"
IMAGE_SIZE = (800, 1333)
OBJECTS = 8
AROUND_OURS, AROUND_THEIRS = "torchvision around our backbone", "torchvision around its Swin-T"


class Pyramid(nn.Module):
    """A backbone's maps as torchvision's detectors take them."""

    out_channels = 256

    def __init__(self, *, ours: bool) -> None:
        super().__init__()
        if ours:
            self.body: nn.Module = swin.create_backbone("swin_tiny_patch4_window7_224")
        else:
            stages = {f"features.{2 * stage + 1}": str(stage) for stage in range(4)}
            self.body = create_feature_extractor(swin_t(weights=None), stages)
        self.fpn = FeaturePyramidNetwork([96, 192, 384, 768], 256, LastLevelMaxPool())

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        found = self.body(images)
        if isinstance(found, dict):
            found = [one.permute(0, 3, 1, 2) for one in found.values()]
        maps: dict[str, Tensor] = self.fpn(OrderedDict((str(i), one) for i, one in enumerate(found)))
        return maps


def ours(*, optimized: bool) -> Step:
    model = swin.create_model(VARIANT, score_threshold=0.0).eval()
    if optimized:
        model = swin.optimize_for_inference(model)
    image = torch.rand(3, *IMAGE_SIZE)

    def detect() -> Tensor:
        with torch.inference_mode():
            (found,) = model(pad_batch([image], 32), [IMAGE_SIZE])
            return paste_masks(found.masks, found.boxes_xyxy, IMAGE_SIZE)

    return detect


def torchvisions(*, around_ours: bool) -> Step:
    """It normalises, resizes (here by a factor of 1) and pads inside."""
    model = theirs(around_ours=around_ours, box_score_thresh=-1.0).eval()
    image = torch.rand(3, *IMAGE_SIZE)

    def detect() -> Tensor:
        with torch.inference_mode():
            return model([image])[0]["masks"] >= 0.5

    return detect


def theirs(*, around_ours: bool, **settings: float) -> MaskRCNN:
    sizes = {"min_size": IMAGE_SIZE[0], "max_size": IMAGE_SIZE[1]}
    return MaskRCNN(Pyramid(ours=around_ours), num_classes=81, **sizes, **settings)


def objects() -> tuple[Tensor, Tensor, Tensor]:
    """Boxes, labels and masks, the same each time."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(OBJECTS, 2, generator=generator) * torch.tensor([1000.0, 600])
    boxes = torch.cat([corner, corner + 30 + torch.rand(OBJECTS, 2, generator=generator) * 170], dim=1)
    masks = torch.zeros(OBJECTS, *IMAGE_SIZE, dtype=torch.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y0:y1, x0:x1] = 1
    return boxes, torch.arange(OBJECTS), masks


def train_ours() -> Step:
    model = swin.create_model(VARIANT).train()
    images = pad_batch([torch.rand(3, *IMAGE_SIZE)], 32)
    boxes, labels, masks = objects()
    targets = [InstanceTargets(boxes_xyxy=boxes, labels=labels, masks=masks)]
    return training_step(model, lambda: model.losses(images, targets, [IMAGE_SIZE]).values())


def train_torchvisions(*, around_ours: bool) -> Step:
    model = theirs(around_ours=around_ours).train()
    image = torch.rand(3, *IMAGE_SIZE)
    boxes, labels, masks = objects()

    def losses() -> Iterable[Tensor]:
        found: dict[str, Tensor] = model([image], [{"boxes": boxes, "labels": labels + 1, "masks": masks}])
        return found.values()

    return training_step(model, losses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    run = start(parser, rounds=7, training_rounds=3)
    others = (AROUND_OURS, AROUND_THEIRS)
    around: dict[str, Callable[[], Step]] = {
        AROUND_OURS: partial(torchvisions, around_ours=True),
        AROUND_THEIRS: partial(torchvisions, around_ours=False),
    }
    inference = measure(
        {benchmark.OURS: partial(ours, optimized=False), "optimized": partial(ours, optimized=True), **around},
        others,
        run.arguments.rounds,
        clock=run.clock,
    )
    training = measure(
        {
            benchmark.OURS: train_ours,
            AROUND_OURS: partial(train_torchvisions, around_ours=True),
            AROUND_THEIRS: partial(train_torchvisions, around_ours=False),
        },
        others,
        run.arguments.training_rounds,
        clock=run.clock,
    )
    size = f"{IMAGE_SIZE[0]} x {IMAGE_SIZE[1]} pixels"
    lines = [f"One image of {size}, {run.arguments.rounds} rounds:", "", *table(inference, others)]
    lines += [
        "",
        f"A training step on one image of {size} with {OBJECTS} objects, {run.arguments.training_rounds} rounds:",
    ]
    lines += ["", *table(training, others)]
    write("detection", VARIANT, ["torchvision"], {"inference": inference, "training": training}, lines, timed=run.timed)


if __name__ == "__main__":
    main()
