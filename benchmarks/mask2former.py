"""Mask2Former on Swin-T beside transformers' of the same sizes: one image, and a training step.

    python benchmarks/mask2former.py [--rounds 7] [--training-rounds 3]

One preprocessed image of 640 x 640 pixels to the classes and masks of 100 queries, without what makes answers of them;
then a training step on one such image with eight segments. The figures go, as JSON and as a page, to
benchmarks/results/, named after the day. It takes about three minutes on two cores; leave the machine alone meanwhile.
Weights are random.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import swin_transformer_pytorch as swin
from dense import Step, measure, start, table, training_step, write
from swin_transformer_pytorch import benchmark
from swin_transformer_pytorch.models.config import find_other_variant
from swin_transformer_pytorch.models.mask2former_config import Mask2FormerConfig
from swin_transformer_pytorch.ops.regions.instances import MaskTargets

VARIANT = "mask2former_swin_tiny_patch4_window7_panoptic"
IMAGE_SIZE = 640
SEGMENTS = 8
PEER = "transformers"


def ours(*, optimized: bool) -> Step:
    model = swin.create_model(VARIANT).eval()
    if optimized:
        model = swin.optimize_for_inference(model)
    image = torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE)

    def queries() -> object:
        with torch.inference_mode():
            return model(image)

    return queries


def theirs() -> Step:
    model = _transformers().eval()
    image = torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE)

    def queries() -> object:
        with torch.inference_mode():
            return model(image)

    return queries


def segments() -> tuple[Tensor, Tensor]:
    """Labels and masks, the same each time: stripes."""
    masks = torch.zeros(SEGMENTS, IMAGE_SIZE, IMAGE_SIZE, dtype=torch.bool)
    height = IMAGE_SIZE // SEGMENTS
    for place, mask in enumerate(masks):
        mask[place * height : (place + 1) * height] = True
    return torch.arange(SEGMENTS), masks


def train_ours() -> Step:
    model, image = swin.create_model(VARIANT).train(), torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    labels, masks = segments()
    targets = [MaskTargets(labels=labels, masks=masks)]
    return training_step(model, lambda: model.losses(image, targets).values())


def train_theirs() -> Step:
    model, image = _transformers().train(), torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    labels, masks = segments()

    def losses() -> Iterable[Tensor]:
        return [model(pixel_values=image, mask_labels=[masks.float()], class_labels=[labels]).loss.squeeze()]

    return training_step(model, losses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    run = start(parser, rounds=7, training_rounds=3)
    inference = measure(
        {benchmark.OURS: partial(ours, optimized=False), "optimized": partial(ours, optimized=True), PEER: theirs},
        [PEER],
        run.arguments.rounds,
        clock=run.clock,
    )
    training = measure(
        {benchmark.OURS: train_ours, PEER: train_theirs}, [PEER], run.arguments.training_rounds, clock=run.clock
    )
    size = f"{IMAGE_SIZE} x {IMAGE_SIZE} pixels"
    lines = [f"One image of {size} to 100 queries, {run.arguments.rounds} rounds:", "", *table(inference, [PEER])]
    lines += [
        "",
        f"A training step on one image of {size} with {SEGMENTS} segments, {run.arguments.training_rounds} rounds:",
    ]
    lines += ["", *table(training, [PEER])]
    write(
        "mask2former", VARIANT, ["transformers"], {"inference": inference, "training": training}, lines, timed=run.timed
    )


def _transformers() -> Any:
    import transformers

    config = find_other_variant(VARIANT).config
    assert isinstance(config, Mask2FormerConfig)
    backbone = transformers.SwinConfig(
        embed_dim=config.backbone.embed_dim,
        depths=list(config.backbone.depths),
        num_heads=list(config.backbone.num_heads),
        window_size=config.backbone.window_size[0],
        drop_path_rate=config.backbone.drop_path_rate,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    return transformers.Mask2FormerForUniversalSegmentation(
        transformers.Mask2FormerConfig(
            backbone_config=backbone,
            num_labels=config.num_classes,
            num_queries=config.num_queries,
            train_num_points=config.loss_points,
        )
    )


if __name__ == "__main__":
    main()
