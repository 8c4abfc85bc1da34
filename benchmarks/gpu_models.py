"""Whole models, for benchmarks/gpu.py: ours beside timm's, in inference and in training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import swin_transformer_pytorch as swin
from gpu_measure import Figure, Step, Tell, measure
from swin_transformer_pytorch.ops import force_implementation

INFERENCE, TRAINING = "inference", "training step"


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A model and what it gets.

    Attributes:
        name: of the variant.
        image_size: height and width.
        features: the backbone that gives every stage's map, and not the classifier.
        overrides: of its config, to make it small.
    """

    name: str
    image_size: tuple[int, int]
    features: bool = False
    overrides: tuple[tuple[str, Any], ...] = ()

    @property
    def subject(self) -> str:
        return f"{self.name}{', backbone' * self.features} at {self.image_size[0]} x {self.image_size[1]}"

    def shrunken(self) -> Whole:
        """A block a stage, a head each, and images of few windows."""
        overrides = (("embed_dim", 32), ("depths", (1, 1, 1, 1)), ("num_heads", (1, 1, 1, 1)))
        return replace(self, image_size=(64, 64 + 32 * self.features), overrides=overrides)


def ours(whole: Whole) -> nn.Module:
    create = swin.create_backbone if whole.features else swin.create_model
    return create(whole.name, **dict(whole.overrides))


def timms(whole: Whole) -> nn.Module:
    import timm

    name = whole.name.replace("_patch4", "") if whole.name.startswith("swinv2") else whole.name
    more = {"features_only": True} if whole.features else {}
    return timm.create_model(name, img_size=whole.image_size, drop_path_rate=0.2, **more, **dict(whole.overrides))


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a model is run.

    Attributes:
        name: what the table calls it; the first of a list is what others are compared with.
        library: `ours` or `timms`.
        attention: an implementation that is forced.
        compile: torch.compile's mode, "" for its default; None for none.
        optimized: whether `optimize_for_inference` has made it.
        captured: whether the step is a CUDA graph.
    """

    name: str
    library: Callable[[Whole], nn.Module] = ours
    attention: str | None = None
    compile: str | None = None
    optimized: bool = False
    captured: bool = False


EAGER, TIMM = Way(name="ours"), Way(name="timm", library=timms)
SDPA = Way(name="ours, sdpa", attention="sdpa")
COMPILED, TIMM_COMPILED = Way(name="ours, compiled", compile=""), Way(name="timm, compiled", library=timms, compile="")
OPTIMIZED = Way(name="ours, optimized", optimized=True)
OPTIMIZED_COMPILED = Way(name="ours, optimized, compiled", optimized=True, compile="")
GRAPH = Way(name="ours, CUDA graph", captured=True)
OPTIMIZED_GRAPH = Way(name="ours, optimized, CUDA graph", optimized=True, captured=True)
TIMM_GRAPH = Way(name="timm, CUDA graph", library=timms, captured=True)
REDUCED = Way(name="ours, compiled, reduce-overhead", compile="reduce-overhead")


def measure_model(
    whole: Whole,
    batch_size: int,
    dtype: torch.dtype,
    device: torch.device,
    rounds: int,
    ways: tuple[Way, ...],
    tell: Tell = lambda figures: None,
    *,
    training: bool,
) -> list[Figure]:
    """One mode of a model, way by way."""
    images = torch.randn(batch_size, 3, *whole.image_size, device=device)
    return measure(
        {way.name: partial(model_step, way, whole, images, dtype, training=training) for way in ways},
        device,
        rounds,
        tell,
        images=True,
        subject=whole.subject,
        mode=TRAINING if training else INFERENCE,
        dtype=str(dtype).removeprefix("torch."),
        batch_size=batch_size,
    )


def model_step(way: Way, whole: Whole, images: Tensor, dtype: torch.dtype, *, training: bool) -> Step:
    """In half precision inference has half-precision weights; a training step is a forward and a backward pass in
    autocast, as users train.
    """
    model = way.library(whole).to(images.device).train(training)
    if way.optimized:
        model = swin.optimize_for_inference(model, dtype=dtype)
    elif not training:
        model = model.to(dtype)
    if way.compile is not None:
        model = torch.compile(model, mode=way.compile or None)
    inputs = images if training else images.to(dtype)

    def forward() -> Tensor:
        with force_implementation(way.attention) if way.attention else nullcontext():
            out = model(inputs)
        return out if isinstance(out, Tensor) else torch.cat([each.flatten(1) for each in out], dim=1)

    def infer() -> Tensor:
        with torch.inference_mode():
            return forward()

    def train() -> None:
        with torch.autocast(images.device.type, dtype=dtype) if dtype != torch.float32 else nullcontext():
            loss = forward().float().logsumexp(dim=-1).mean()
        loss.backward()
        model.zero_grad()

    step: Step = train if training else infer
    return _captured(step) if way.captured else step


def _captured(step: Step) -> Step:
    """The step as a CUDA graph, which a host synchronisation anywhere in it would refuse."""
    if not torch.cuda.is_available():
        raise RuntimeError("no CUDA device, and so no CUDA graphs")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def profile(
    whole: Whole, batch_size: int, device: torch.device, ways: tuple[Way, ...], tell: Tell, *, training: bool
) -> list[Figure]:
    """How many kernels a step starts, and which take the most time: one figure a way, in its note."""
    figures: list[Figure] = []
    images = torch.randn(batch_size, 3, *whole.image_size, device=device)
    activity = torch.profiler.ProfilerActivity.CUDA if device.type == "cuda" else torch.profiler.ProfilerActivity.CPU
    for way in ways:
        what: dict[str, Any] = {
            "subject": whole.subject,
            "mode": f"profile, {TRAINING if training else INFERENCE}",
            "dtype": "bfloat16",
            "batch_size": batch_size,
            "way": way.name,
        }
        try:
            step = model_step(way, whole, images, torch.bfloat16, training=training)
            for _ in range(3):
                step()
            with torch.profiler.profile(activities=[activity]) as found:
                step()
                if device.type == "cuda":
                    torch.cuda.synchronize()
            counts: Counter[str] = Counter()
            times: Counter[str] = Counter()
            for event in found.events():
                counts[event.name] += 1
                spent = event.device_time_total if device.type == "cuda" else event.self_cpu_time_total
                times[event.name] += spent
            whole_time = sum(times.values()) or 1
            most = [f"{name[:60]} {time / whole_time:.0%} in {counts[name]}" for name, time in times.most_common(8)]
            figures.append(
                Figure(**what, note=f"{counts.total()} kernels, {whole_time / 1000:.2f} ms: {'; '.join(most)}")
            )
        except Exception as error:
            figures.append(Figure(**what, failure=f"{type(error).__name__}: {error}"[:200]))
        tell(figures)
    return figures
