"""UPerNet on Swin-T: whole images beside transformers' UPerNet, and the memory that sliding windows take.

    python benchmarks/segmentation.py

writes the figures, as JSON and as a table, to benchmarks/results/, named after the day. It takes about eight minutes
on two cores; leave the machine alone meanwhile. Weights are random.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import multiprocessing
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from swin_transformer_pytorch import benchmark
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import SegmenterConfig, find_dense_variant
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.segmentation_inference import segment, segment_sliding, window_starts

RESULTS = Path(__file__).parent / "results"
VARIANT = "upernet_swin_tiny_patch4_window7_512x512"


@dataclass(frozen=True, kw_only=True)
class Latency:
    """From a preprocessed image to its label map, one image at a time.

    Attributes:
        seconds: median of the rounds, by library.
        ratio: ours over transformers', the median of the ratios round by round; below 1 we are faster.
        decode_head_seconds: the same medians of the decode heads alone, on the same maps.
        decode_head_ratio: theirs.
    """

    image_size: int
    rounds: int
    seconds: dict[str, float]
    ratio: float
    decode_head_seconds: dict[str, float]
    decode_head_ratio: float


@dataclass(frozen=True, kw_only=True)
class SlidingMemory:
    """A fresh process's memory at its peak, in bytes, above the model and the image.

    Attributes:
        window_bytes: of one window alone: what the model needs to run.
        sliding_bytes: of the whole image in windows.
        bound_bytes: classes x crop height x image width floats, which sliding may add to a window's.
        whole_bytes: classes x image height x image width floats, which it never holds.
    """

    image_size: int
    crop_size: int
    stride: int
    classes: int
    windows: int
    seconds: float
    window_bytes: int
    sliding_bytes: int
    bound_bytes: int
    whole_bytes: int


def measure_latency(config: SegmenterConfig, image_size: int, rounds: int) -> Latency:
    """Ours and transformers' take turns in one process, so that noise meets both."""
    ours, theirs = build(ModelDescription(config=config)).eval(), _transformers(config)
    image = torch.randn(1, 3, image_size, image_size)
    with torch.inference_mode():
        maps = ours.backbone(image)

    def by_us() -> Tensor:
        return segment(ours, image)[0]

    def by_them() -> Tensor:
        labels: Tensor = theirs(image).logits.argmax(dim=1)
        return labels

    with torch.inference_mode():
        whole = benchmark.alternate({benchmark.OURS: by_us, "transformers": by_them}, rounds)
        heads = benchmark.alternate(
            {benchmark.OURS: lambda: ours.decode_head(maps), "transformers": lambda: theirs.decode_head(maps)}, rounds
        )
    return Latency(
        image_size=image_size,
        rounds=rounds,
        seconds={library: statistics.median(times) for library, times in whole.items()},
        ratio=benchmark.median_ratio(whole[benchmark.OURS], whole["transformers"]),
        decode_head_seconds={library: statistics.median(times) for library, times in heads.items()},
        decode_head_ratio=benchmark.median_ratio(heads[benchmark.OURS], heads["transformers"]),
    )


def measure_sliding(config: SegmenterConfig, image_size: int, crop_size: int, stride: int) -> SlidingMemory:
    """Run in a process of its own: a process's peak never falls."""
    model = build(ModelDescription(config=config)).eval()
    image = torch.randn(3, image_size, image_size)
    before = benchmark.process_memory("VmRSS")
    segment(model, image[None, :, :crop_size, :crop_size])
    window_bytes = benchmark.process_memory("VmHWM") - before
    start = time.perf_counter()
    segment_sliding(model, image, (crop_size, crop_size), (stride, stride))
    seconds = time.perf_counter() - start
    values = config.num_classes * image_size * torch.float32.itemsize
    return SlidingMemory(
        image_size=image_size,
        crop_size=crop_size,
        stride=stride,
        classes=config.num_classes,
        windows=len(window_starts(image_size, crop_size, stride)) ** 2,
        seconds=seconds,
        window_bytes=window_bytes,
        sliding_bytes=benchmark.process_memory("VmHWM") - before,
        bound_bytes=values * crop_size,
        whole_bytes=values * image_size,
    )


def main() -> None:
    config = find_dense_variant(VARIANT).config
    assert isinstance(config, SegmenterConfig)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        memory = pool.apply(measure_sliding, (config, 4096, 512, 384))
    latency = measure_latency(config, 512, rounds=9)
    report: dict[str, Any] = {
        "model": VARIANT,
        "processor": benchmark.processor_name(),
        "threads": torch.get_num_threads(),
        "versions": benchmark.library_versions(["torch", benchmark.OURS, "transformers"]),
        "latency": dataclasses.asdict(latency),
        "sliding": dataclasses.asdict(memory),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.date.today().isoformat()}-segmentation-cpu"
    path.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    path.with_suffix(".md").write_text(markdown(report, latency, memory))
    print(f"{path}.json, {path}.md")


def markdown(report: dict[str, Any], latency: Latency, memory: SlidingMemory) -> str:
    """The figures as tables, with what they belong to."""
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = [
        f"{report['model']}, float32, random weights, {report['processor']}, {report['threads']} threads; {versions}.",
        "",
        f"One image of {latency.image_size} x {latency.image_size} pixels to its label map, medians of "
        f"{latency.rounds} rounds. `ours / it`: the median of the ratios round by round; below 1 we are faster.",
        "",
        "| library | whole model, ms | ours / it | decode head, ms | ours / it |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for library, seconds in latency.seconds.items():
        ratios = [1.0, 1.0] if library == benchmark.OURS else [latency.ratio, latency.decode_head_ratio]
        head = latency.decode_head_seconds[library]
        lines.append(f"| {library} | {1000 * seconds:.0f} | {ratios[0]:.2f} | {1000 * head:.0f} | {ratios[1]:.2f} |")
    lines += [
        "",
        f"Sliding windows of {memory.crop_size} pixels, {memory.stride} apart, over {memory.image_size} x "
        f"{memory.image_size} pixels with {memory.classes} classes: {memory.windows} windows, {memory.seconds:.0f} s.",
        "",
        "| memory above the model and the image | MB |",
        "| --- | ---: |",
        f"| one window alone, at its peak | {memory.window_bytes / 1e6:.0f} |",
        f"| the whole image in windows, at its peak | {memory.sliding_bytes / 1e6:.0f} |",
        f"| classes x crop height x image width floats | {memory.bound_bytes / 1e6:.0f} |",
        f"| classes x image height x image width floats, never held | {memory.whole_bytes / 1e6:.0f} |",
    ]
    return "\n".join(lines) + "\n"


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
    ).eval()


if __name__ == "__main__":
    main()
