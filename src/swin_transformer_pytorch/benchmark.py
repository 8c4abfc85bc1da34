"""Measures this package beside the other libraries' Swin, in one run, on this machine.

Machines differ and are noisy, so only ratios within one run mean anything: the libraries take turns inside one process
after a warm-up, and what is compared is the median of the ratios round by round.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from .backbone.config import SwinConfig, find_variant

if TYPE_CHECKING:
    from rich.table import Table

OURS = "swin_transformer_pytorch"
_DISTRIBUTIONS = {OURS: "swin-transformer-pytorch"}


class BenchmarkError(ValueError):
    """A measurement that cannot be made. The message says why and the fix."""


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One library on one setting.

    Attributes:
        seconds: median time of one forward pass, or one training step, of the whole batch.
        ratio: this package's time over this library's, the median of all rounds; 1 for itself.
        peak_bytes: training on a CPU: memory of a fresh process at its peak, above what it had before the first step.
            On a GPU: allocated memory at its peak. None for inference on a CPU.
    """

    model: str
    library: str
    mode: str
    batch_size: int
    dtype: str
    seconds: float
    ratio: float
    peak_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """All measurements of a run, with the versions and the hardware that they belong to."""

    image_size: int
    device: str
    processor: str
    threads: int
    rounds: int
    versions: dict[str, str]
    measurements: tuple[Measurement, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain types only."""
        return dataclasses.asdict(self)

    def table(self) -> Table:
        """For a terminal: a row a setting and library."""
        from rich.table import Table

        title = f"{self.image_size} pixels, {self.processor}, {self.threads} threads, {self.rounds} rounds"
        table = Table(title=title, caption=", ".join(f"{name} {version}" for name, version in self.versions.items()))
        for column in ("model", "mode", "batch", "dtype", "library", "ms", "images/s", "ours / it", "peak MB"):
            table.add_column(column, justify="left" if column in ("model", "mode", "library") else "right")
        for m in self.measurements:
            table.add_row(
                m.model,
                m.mode,
                str(m.batch_size),
                m.dtype,
                m.library,
                f"{1000 * m.seconds:.1f}",
                f"{m.batch_size / m.seconds:.1f}",
                f"{m.ratio:.2f}",
                "" if m.peak_bytes is None else f"{m.peak_bytes / 1e6:.0f}",
            )
        return table


def run(
    *,
    models: list[str],
    batch_sizes: list[int],
    dtypes: list[str],
    image_size: int,
    training: bool,
    rounds: int,
    peers: list[str],
) -> BenchmarkReport:
    """Times inference, and a training step if `training`, of each model, batch size and dtype.

    Inference in half precision has half-precision weights; training uses autocast, as users do. Weights and images are
    random. A peer that is not installed, or has no such model, is left out.

    Raises:
        BenchmarkError: for fewer than one round, image or pixel, an unknown dtype or an unknown peer.
        ConfigError: for an unknown model.
    """
    counts = [("rounds", rounds), ("image_size", image_size), *(("batch_sizes", size) for size in batch_sizes)]
    for argument, value in counts:
        if value < 1:
            raise BenchmarkError(f"{argument}={value} must be at least 1")
    for dtype in dtypes:
        if dtype not in ("float32", "bfloat16", "float16"):
            raise BenchmarkError(f"dtype {dtype!r} is not one of float32, bfloat16, float16")
    for model in models:
        find_variant(model)
    measurements: list[Measurement] = []
    for model in models:
        libraries = [OURS] + [peer for peer in peers if _build(peer, model, image_size) is not None]
        for mode in ("inference", "training") if training else ("inference",):
            for dtype in dtypes:
                for batch_size in batch_sizes:
                    setting = _Setting(model, mode, batch_size, dtype, image_size)
                    measurements += _measure(setting, libraries, rounds)
    return BenchmarkReport(
        image_size=image_size,
        device=_device().type,
        processor=processor_name(),
        threads=torch.get_num_threads(),
        rounds=rounds,
        versions=library_versions(["torch", OURS, *peers]),
        measurements=tuple(measurements),
    )


@dataclass(frozen=True)
class _Setting:
    model: str
    mode: str
    batch_size: int
    dtype: str
    image_size: int


def _measure(setting: _Setting, libraries: list[str], rounds: int) -> list[Measurement]:
    times = alternate({library: _step(setting, library) for library in libraries}, rounds)
    return [
        Measurement(
            model=setting.model,
            library=library,
            mode=setting.mode,
            batch_size=setting.batch_size,
            dtype=setting.dtype,
            seconds=statistics.median(times[library]),
            ratio=median_ratio(times[OURS], times[library]),
            peak_bytes=_peak_bytes(setting, library),
        )
        for library in libraries
    ]


def alternate(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each step in each round: after two calls to warm up, they take turns, so that noise meets all."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()
        step()
    for _ in range(rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    return times


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios round by round; below 1 we are faster."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def _step(setting: _Setting, library: str) -> Callable[[], None]:
    """One forward pass, or one forward and backward pass with the gradients cleared, waited for to its end."""
    built = _build(library, setting.model, setting.image_size)
    assert built is not None, "only libraries that have the model are measured"
    device, dtype = _device(), getattr(torch, setting.dtype)
    training = setting.mode == "training"
    model = built.to(device).train(training)
    images = torch.randn(setting.batch_size, 3, setting.image_size, setting.image_size, device=device)
    if not training:
        model, images = model.to(dtype), images.to(dtype)

    def forward() -> Tensor:
        output = model(images)
        logits: Tensor = output if isinstance(output, Tensor) else output.logits
        return logits

    def step() -> None:
        if training:
            with torch.autocast(device.type, dtype=dtype) if dtype != torch.float32 else nullcontext():
                loss = forward().float().logsumexp(dim=-1).mean()
            loss.backward()  # type: ignore[no-untyped-call]
            model.zero_grad()
        else:
            with torch.inference_mode():
                forward()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return step


def _build(library: str, name: str, image_size: int) -> nn.Module | None:
    """That library's own model of the variant, with random weights; None where it is not to be had."""
    variant = find_variant(name)
    builders = {
        OURS: _ours,
        "timm": _timm,
        "torchvision": _torchvision,
        "transformers": _transformers,
    }
    if library not in builders:
        raise BenchmarkError(f"no peer {library!r}; there are: {', '.join(list(builders)[1:])}")
    try:
        return builders[library](name, variant.config, image_size)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == library:
            return None
        raise


def _ours(name: str, config: SwinConfig, image_size: int) -> nn.Module:
    from .models.registry import create_model

    return create_model(name)


def _timm(name: str, config: SwinConfig, image_size: int) -> nn.Module | None:
    import timm

    timm_name = name.replace("_patch4", "") if config.version == 2 else name
    if not timm.is_model(timm_name):
        return None
    model: nn.Module = timm.create_model(timm_name, img_size=image_size, num_classes=1000)
    return model


def _torchvision(name: str, config: SwinConfig, image_size: int) -> nn.Module | None:
    from torchvision.models import swin_transformer

    block = swin_transformer.SwinTransformerBlock
    merging = swin_transformer.PatchMerging
    if config.version == 2:
        if any(size not in (0, config.window_size[0]) for size in config.pretrained_window_sizes):
            return None
        block, merging = swin_transformer.SwinTransformerBlockV2, swin_transformer.PatchMergingV2
    model: nn.Module = swin_transformer.SwinTransformer(
        patch_size=list(config.patch_size),
        embed_dim=config.embed_dim,
        depths=list(config.depths),
        num_heads=list(config.num_heads),
        window_size=list(config.window_size),
        mlp_ratio=config.mlp_ratio,
        stochastic_depth_prob=config.drop_path_rate,
        block=block,
        downsample_layer=merging,
    )
    return model


def _transformers(name: str, config: SwinConfig, image_size: int) -> nn.Module:
    import transformers

    fields: dict[str, Any] = {
        "image_size": image_size,
        "patch_size": config.patch_size[0],
        "embed_dim": config.embed_dim,
        "depths": list(config.depths),
        "num_heads": list(config.num_heads),
        "window_size": config.window_size[0],
        "drop_path_rate": config.drop_path_rate,
        "num_labels": 1000,
    }
    if config.version == 1:
        return transformers.SwinForImageClassification(transformers.SwinConfig(**fields))
    fields["pretrained_window_sizes"] = list(config.pretrained_window_sizes)
    return transformers.Swinv2ForImageClassification(transformers.Swinv2Config(**fields))


def _peak_bytes(setting: _Setting, library: str) -> int | None:
    if _device().type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        _step(setting, library)()
        return torch.cuda.max_memory_allocated()
    if setting.mode == "inference":
        return None
    # A process's peak never falls, so each library gets its own.
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        peak: int = pool.apply(_peak_of_training, (setting, library))
    return peak


def _peak_of_training(setting: _Setting, library: str) -> int:
    step = _step(setting, library)
    before = process_memory("VmRSS")
    step()
    step()
    return process_memory("VmHWM") - before


def process_memory(field: str) -> int:
    """This process's memory in bytes: VmRSS now, VmHWM at its peak. Without /proc both are the peak."""
    try:
        with open("/proc/self/status") as status:
            return next(1024 * int(line.split()[1]) for line in status if line.startswith(field))
    except OSError:
        # The kernel's own count: on Linux it would include what the parent had when it started this process.
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def processor_name() -> str:
    """What the measurements ran on: the GPU, or the CPU with the instructions that PyTorch uses of it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        with open("/proc/cpuinfo") as cpuinfo:
            names = [line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")]
    except OSError:
        names = []
    name = names[0] if names else platform.processor() or platform.machine()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def library_versions(libraries: list[str]) -> dict[str, str]:
    """Of those that are installed, by their import names."""
    versions = {}
    for library in libraries:
        try:
            versions[library] = metadata.version(_DISTRIBUTIONS.get(library, library))
        except metadata.PackageNotFoundError:
            continue
    return versions
