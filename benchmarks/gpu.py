"""Window attention alone, and whole Swins, on a GPU: ours beside PyTorch's and timm's.

    python benchmarks/gpu.py

needs a CUDA device, and writes the figures, as JSON and as a table, to benchmarks/results/, named after the day.
Weights and inputs are random. In half precision inference has half-precision weights; a training step is a forward and
a backward pass in autocast, as users train. float32 is PyTorch's own, without TF32.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import gc
import json
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import swin_transformer_pytorch as swin
from swin_transformer_pytorch import benchmark
from swin_transformer_pytorch.ops import force_implementation, merge, pad_map, partition, shift_mask, window_attention

RESULTS = Path(__file__).parent / "results"
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MODELS = {"swin_tiny_patch4_window7_224": 224, "swinv2_tiny_patch4_window16_256": 256}

Step = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Attention:
    """One call of the op, as a block of a Swin makes it."""

    name: str
    map_size: tuple[int, int]
    heads: int
    window_size: tuple[int, int]
    shift_size: tuple[int, int]
    v2: bool = False
    head_dim: int = 32


ATTENTIONS = (
    Attention(name="Swin-T stage 1", map_size=(56, 56), heads=3, window_size=(7, 7), shift_size=(3, 3)),
    Attention(name="Swin-T stage 3", map_size=(14, 14), heads=12, window_size=(7, 7), shift_size=(3, 3)),
    Attention(name="window 12, stage 1", map_size=(96, 96), heads=4, window_size=(12, 12), shift_size=(6, 6)),
    Attention(name="V2, window 8, stage 1", map_size=(64, 64), heads=3, window_size=(8, 8), shift_size=(4, 4), v2=True),
    Attention(
        name="V2, window 16, stage 1", map_size=(64, 64), heads=3, window_size=(16, 16), shift_size=(8, 8), v2=True
    ),
    Attention(name="padded, 200x334", map_size=(200, 334), heads=3, window_size=(7, 7), shift_size=(3, 3)),
)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One way of computing one thing.

    Attributes:
        seconds: median of the rounds; None where it failed.
        ratio: the Triton kernel's time over this one's, the median of the ratios round by round; below 1 it is faster.
        peak_bytes: allocated at the peak of a step, above what was there before.
        failure: why there is no figure.
    """

    subject: str
    mode: str
    dtype: str
    batch_size: int
    way: str
    seconds: float | None
    ratio: float | None
    peak_bytes: int | None
    failure: str | None = None


def stopwatch(device: torch.device) -> Callable[[Step], float]:
    """A function that runs a step and tells its seconds: on a GPU those of the GPU, by its own events."""

    def on_gpu(step: Step) -> float:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        start.record()
        step()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1000

    def elsewhere(step: Step) -> float:
        start = time.perf_counter()
        step()
        return time.perf_counter() - start

    return on_gpu if device.type == "cuda" else elsewhere


def measure(steps: dict[str, Callable[[], Step]], device: torch.device, rounds: int, **what: Any) -> list[Figure]:
    """Builds the steps, warms them up, and lets them take turns. The first is what the others are compared with."""
    ready: dict[str, Step] = {}
    peaks: dict[str, int | None] = {}
    figures = []
    for way, build in steps.items():
        try:
            step = build()
            for _ in range(3):
                step()
            peaks[way] = _peak(step, device)
        except Exception as error:  # a way that does not fit or compile is a result too
            reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            figures.append(Figure(**what, way=way, seconds=None, ratio=None, peak_bytes=None, failure=reason[:200]))
            continue
        ready[way] = step
    seconds_of = stopwatch(device)
    times: dict[str, list[float]] = {way: [] for way in ready}
    for _ in range(rounds):
        for way, step in ready.items():
            times[way].append(seconds_of(step))
    first = times.get(next(iter(steps)))
    for way, found in times.items():
        ratio = None if first is None else statistics.median(a / b for a, b in zip(first, found, strict=True))
        figures.append(Figure(**what, way=way, seconds=statistics.median(found), ratio=ratio, peak_bytes=peaks[way]))
    del ready
    gc.collect()
    return figures


def _peak(step: Step, device: torch.device) -> int | None:
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() - before


def measure_attention(
    case: Attention, batch_size: int, dtype: torch.dtype, device: torch.device, rounds: int, ways: list[str]
) -> list[Figure]:
    """The op alone, forward without gradients, and forward and backward."""
    tokens = case.window_size[0] * case.window_size[1]
    width = 3 * case.heads * case.head_dim

    def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, device=device).to(dtype)

    tensors = {
        "qkv": random(batch_size, *case.map_size, width, dtype=dtype),
        "bias": random(case.heads, tokens, tokens),
        "pad_token": random(width),
    }
    if case.v2:
        tensors["logit_scale"] = 10 * torch.ones(case.heads, device=device)
    upstream = random(batch_size, *case.map_size, width // 3, dtype=dtype)

    def build(way: str, training: bool) -> Step:
        run = _flex(case, device) if way == "flex_attention" else _ours(case, way)
        inputs = {name: tensor.clone().requires_grad_(training) for name, tensor in tensors.items()}
        leaves = list(inputs.values())

        def step() -> object:
            with torch.set_grad_enabled(training):
                out = run(**inputs)
                return torch.autograd.grad(out, leaves, upstream, allow_unused=True) if training else out

        return step

    figures = []
    for training in (False, True):
        figures += measure(
            {way: partial(build, way, training) for way in ways},
            device,
            rounds,
            subject=case.name,
            mode="forward and backward" if training else "forward",
            dtype=str(dtype).removeprefix("torch."),
            batch_size=batch_size,
        )
    return figures


def _ours(case: Attention, implementation: str) -> Callable[..., Tensor]:
    def run(**tensors: Tensor) -> Tensor:
        with force_implementation(implementation):
            return window_attention(**tensors, window_size=case.window_size, shift_size=case.shift_size)

    return run


def _flex(case: Attention, device: torch.device) -> Callable[..., Tensor]:
    """PyTorch's flex_attention, with the partition around it, compiled as one: bias and mask change the scores."""
    from torch.nn.attention.flex_attention import flex_attention

    tokens = case.window_size[0] * case.window_size[1]
    padded = [-(-side // window) * window for side, window in zip(case.map_size, case.window_size, strict=True)]
    padded_size = (padded[0], padded[1])
    mask = shift_mask(padded_size, case.window_size, case.shift_size, device=device, dtype=torch.float32)

    def run(qkv: Tensor, bias: Tensor, pad_token: Tensor, logit_scale: Tensor | None = None) -> Tensor:
        def score(value: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return value + bias[head, query, key] + mask[batch % mask.shape[0], query, key]

        token = pad_token.to(qkv.dtype)
        x = pad_map(qkv - token, case.window_size) + token
        x = partition(x.roll([-side for side in case.shift_size], (1, 2)), case.window_size)
        q, k, v = x.reshape(-1, tokens, 3, case.heads, case.head_dim).permute(2, 0, 3, 1, 4).unbind()
        scale = None
        if logit_scale is not None:
            q = (F.normalize(q.float(), dim=-1) * logit_scale[:, None, None]).to(qkv.dtype)
            k, scale = F.normalize(k.float(), dim=-1).to(qkv.dtype), 1.0
        out = flex_attention(q, k, v, score_mod=score, scale=scale)
        out = out.transpose(1, 2).reshape(qkv.shape[0], -1, tokens, qkv.shape[3] // 3)
        out = merge(out, padded_size, case.window_size).roll(case.shift_size, (1, 2))
        return out[:, : qkv.shape[1], : qkv.shape[2]]

    return torch.compile(run, dynamic=False)


def measure_model(
    name: str, image_size: int, batch_size: int, dtype: torch.dtype, device: torch.device, rounds: int
) -> list[Figure]:
    """A whole classifier: inference, and a training step."""
    figures = []
    for training in (False, True):
        images = torch.randn(batch_size, 3, image_size, image_size, device=device)
        step = partial(_model_step, name, images, dtype, training)
        steps: dict[str, Callable[[], Step]] = {
            "ours, triton": partial(step, "ours"),
            "ours, sdpa": partial(step, "ours", implementation="sdpa"),
            "ours, triton, compiled": partial(step, "ours", compiled=True),
            "timm": partial(step, "timm"),
            "timm, compiled": partial(step, "timm", compiled=True),
        }
        if not training:
            steps["ours, triton, optimized"] = partial(step, "ours", optimized=True)
        figures += measure(
            steps,
            device,
            rounds,
            subject=name,
            mode="training step" if training else "inference",
            dtype=str(dtype).removeprefix("torch."),
            batch_size=batch_size,
        )
    return figures


def _model_step(
    name: str,
    images: Tensor,
    dtype: torch.dtype,
    training: bool,
    library: str,
    *,
    implementation: str | None = None,
    compiled: bool = False,
    optimized: bool = False,
) -> Step:
    model = _model(library, name, images.shape[-1]).to(images.device).train(training)
    if optimized:
        model = swin.optimize_for_inference(model, dtype=dtype)
    elif not training:
        model = model.to(dtype)
    if compiled:
        model = torch.compile(model)
    inputs = images if training else images.to(dtype)

    def forward() -> Tensor:
        with force_implementation(implementation) if implementation else nullcontext():
            return model(inputs)

    def infer() -> Tensor:
        with torch.inference_mode():
            return forward()

    def train() -> None:
        with torch.autocast(images.device.type, dtype=dtype) if dtype != torch.float32 else nullcontext():
            loss = forward().float().logsumexp(dim=-1).mean()
        loss.backward()
        model.zero_grad()

    return train if training else infer


def _model(library: str, name: str, image_size: int) -> nn.Module:
    if library == "ours":
        return swin.create_model(name)
    import timm

    timm_name = name.replace("_patch4", "") if name.startswith("swinv2") else name
    return timm.create_model(timm_name, img_size=image_size, drop_path_rate=0.2)


def markdown(figures: list[Figure], machine: dict[str, str]) -> str:
    """The figures as a table, with what they belong to."""
    lines = [
        ", ".join(f"{name} {value}" for name, value in machine.items())
        + ". `triton / it`: the median of the ratios round by round; below 1 the Triton kernel is faster.",
        "",
        "| subject | mode | dtype | batch | way | ms | triton / it | peak MB above the start |",
        "| --- | --- | --- | ---: | --- | ---: | ---: | ---: |",
    ]
    for figure in figures:
        cells = [
            figure.subject,
            figure.mode,
            figure.dtype,
            str(figure.batch_size),
            figure.way,
            figure.failure or f"{1000 * (figure.seconds or 0):.3f}",
            "" if figure.ratio is None else f"{figure.ratio:.2f}",
            "" if figure.peak_bytes is None else f"{figure.peak_bytes / 1e6:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
        raise SystemExit(f"benchmarks/gpu.py measures on a CUDA device, and PyTorch ({built}) finds none")
    device = torch.device("cuda")
    figures: list[Figure] = []
    for dtype in DTYPES:
        for case in ATTENTIONS:
            batch_size = min(options.batch_size, 8) if case.map_size[1] > 100 else options.batch_size
            ways = ["triton", "sdpa", "flex_attention"]
            figures += measure_attention(case, batch_size, dtype, device, options.rounds, ways)
        for name, image_size in MODELS.items():
            figures += measure_model(name, image_size, options.batch_size, dtype, device, options.rounds)
        torch.compiler.reset()
    properties = torch.cuda.get_device_properties(device)
    machine = {
        "GPU": properties.name,
        "CUDA": str(torch.version.cuda),
        **benchmark.library_versions(["torch", "triton", "timm", benchmark.OURS]),
    }
    report = {"machine": machine, "rounds": options.rounds, "figures": [dataclasses.asdict(one) for one in figures]}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.date.today().isoformat()}-gpu"
    path.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    path.with_suffix(".md").write_text(markdown(figures, machine))
    print(f"{path}.json, {path}.md")


if __name__ == "__main__":
    main()
