"""UPerNet on Swin-T: whole images and a training step beside transformers' UPerNet, and what sliding windows take.

    python benchmarks/segmentation.py [--rounds 9] [--training-rounds 3] [--sliding-height 4096]

From a preprocessed image of 512 x 512 pixels to its label map; a training step on two of them; the memory of sliding
windows over 4096 x 4096 pixels, which does not depend on the height, so that a lower image tells the same sooner. The
figures go, as JSON and as a page, to benchmarks/results/, named after the day. It takes about five minutes on two
cores; leave the machine alone meanwhile. Weights are random.
"""

from __future__ import annotations

import argparse
import dataclasses
import multiprocessing
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

import swin_transformer_pytorch as swin
from dense import Step, measure, start, table, training_step, write
from swin_transformer_pytorch import benchmark
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import SegmenterConfig, find_other_variant
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.segmentation_inference import segment, segment_sliding, window_starts

VARIANT = "upernet_swin_tiny_patch4_window7_512x512"
IMAGE_SIZE = 512
BATCH = 2
PEER = "transformers"


@dataclass(frozen=True, kw_only=True)
class SlidingMemory:
    """A fresh process's memory at its peak, in bytes, above the model and the image.

    Attributes:
        window_bytes: of one window alone: what the model needs to run.
        sliding_bytes: of the whole image in windows.
        bound_bytes: classes x crop height x image width floats, which sliding may add to a window's.
        whole_bytes: classes x image height x image width floats, which it never holds.
    """

    image_size: tuple[int, int]
    crop_size: int
    stride: int
    classes: int
    windows: int
    optimized: bool
    seconds: float
    window_bytes: int
    sliding_bytes: int
    bound_bytes: int
    whole_bytes: int


def config() -> SegmenterConfig:
    found = find_other_variant(VARIANT).config
    assert isinstance(found, SegmenterConfig)
    return found


def ours(*, optimized: bool) -> Step:
    model = build(ModelDescription(config=config())).eval()
    if optimized:
        model = swin.optimize_for_inference(model)
    image = torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE)
    return lambda: segment(model, image)


def theirs() -> Step:
    model = _transformers(config()).eval()
    image = torch.randn(1, 3, IMAGE_SIZE, IMAGE_SIZE)

    def labels() -> Tensor:
        with torch.inference_mode():
            return model(image).logits.argmax(dim=1)

    return labels


def batch() -> tuple[Tensor, Tensor]:
    size = (BATCH, IMAGE_SIZE, IMAGE_SIZE)
    return torch.randn(BATCH, 3, IMAGE_SIZE, IMAGE_SIZE), torch.randint(0, config().num_classes, size)


def train_ours() -> Step:
    model, (images, labels) = build(ModelDescription(config=config())).train(), batch()
    return training_step(model, lambda: model.losses(images, labels).values())


def train_theirs() -> Step:
    model, (images, labels) = _transformers(config()).train(), batch()

    def losses() -> Iterable[Tensor]:
        return [model(pixel_values=images, labels=labels).loss]

    return training_step(model, losses)


def measure_sliding(height: int, width: int, crop_size: int, stride: int, *, optimized: bool) -> SlidingMemory:
    """Run in a process of its own: a process's peak never falls."""
    model = build(ModelDescription(config=config())).eval()
    if optimized:
        model = swin.optimize_for_inference(model)
    image = torch.randn(3, height, width)
    before = benchmark.process_memory("VmRSS")
    segment(model, image[None, :, :crop_size, :crop_size])
    window_bytes = benchmark.process_memory("VmHWM") - before
    start = time.perf_counter()
    segment_sliding(model, image, (crop_size, crop_size), (stride, stride))
    seconds = time.perf_counter() - start
    values = config().num_classes * width * torch.float32.itemsize
    return SlidingMemory(
        image_size=(height, width),
        crop_size=crop_size,
        stride=stride,
        classes=config().num_classes,
        windows=len(window_starts(height, crop_size, stride)) * len(window_starts(width, crop_size, stride)),
        optimized=optimized,
        seconds=seconds,
        window_bytes=window_bytes,
        sliding_bytes=benchmark.process_memory("VmHWM") - before,
        bound_bytes=values * crop_size,
        whole_bytes=values * height,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sliding-height", type=int, default=4096)
    run = start(parser, rounds=9, training_rounds=3)
    whole = measure(
        {benchmark.OURS: partial(ours, optimized=False), "optimized": partial(ours, optimized=True), PEER: theirs},
        [PEER],
        run.arguments.rounds,
        clock=run.clock,
    )
    training = measure(
        {benchmark.OURS: train_ours, PEER: train_theirs}, [PEER], run.arguments.training_rounds, clock=run.clock
    )
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        memory = pool.apply(measure_sliding, (run.arguments.sliding_height, 4096, 512, 384), {"optimized": True})
    lines = [f"One image of {IMAGE_SIZE} x {IMAGE_SIZE} pixels to its label map, {run.arguments.rounds} rounds:", ""]
    lines += table(whole, [PEER])
    lines += [
        "",
        f"A training step, batch {BATCH}, {run.arguments.training_rounds} rounds:",
        "",
        *table(training, [PEER]),
    ]
    lines += ["", *sliding_lines(memory)]
    parts = {"whole": whole, "training": training, "sliding": dataclasses.asdict(memory)}
    write("segmentation", VARIANT, ["transformers"], parts, lines, timed=run.timed)


def sliding_lines(memory: SlidingMemory) -> list[str]:
    """The memory of sliding windows as a table."""
    return [
        f"Sliding windows of {memory.crop_size} pixels, {memory.stride} apart, over {memory.image_size[0]} x "
        f"{memory.image_size[1]} pixels with {memory.classes} classes, optimized: {memory.windows} windows, "
        f"{memory.seconds:.0f} s.",
        "",
        "| memory above the model and the image | MB |",
        "| --- | ---: |",
        f"| one window alone, at its peak | {memory.window_bytes / 1e6:.0f} |",
        f"| the whole image in windows, at its peak | {memory.sliding_bytes / 1e6:.0f} |",
        f"| classes x crop height x image width floats | {memory.bound_bytes / 1e6:.0f} |",
        f"| classes x image height x image width floats, never held | {memory.whole_bytes / 1e6:.0f} |",
    ]


def _transformers(config: SegmenterConfig) -> Any:
    import transformers

    backbone = transformers.SwinConfig(
        embed_dim=config.backbone.embed_dim,
        depths=list(config.backbone.depths),
        num_heads=list(config.backbone.num_heads),
        window_size=config.backbone.window_size[0],
        out_features=[f"stage{stage + 1}" for stage in range(len(config.backbone.depths))],
    )
    # As its users have it: an auxiliary head, which it runs in inference too.
    return transformers.UperNetForSemanticSegmentation(
        transformers.UperNetConfig(
            backbone_config=backbone,
            hidden_size=config.decode_dim,
            auxiliary_channels=config.auxiliary_dim,
            pool_scales=list(config.pool_scales),
            num_labels=config.num_classes,
        )
    )


if __name__ == "__main__":
    main()
