"""Swin's speed and memory beside the other libraries' and beside the floor, and what this project aims at.

    python benchmarks/classification.py                          all parts, about fifteen minutes on two cores
    python benchmarks/classification.py inference training       some of them
    python benchmarks/classification.py --dtypes float32         on a processor without products in bfloat16

Parts: inference, training, v2, size, curve, detection, profile. Each is written as soon as it is measured to
benchmarks/results/, named after the day: figures as JSON, tables and a picture. A part that is measured again replaces
what is there of it, so noise in one does not cost the others. Leave the machine alone meanwhile. Weights are random.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from aims import EAGER, TINY, TINY_V2, aims_table, outcomes
from swin_transformer_pytorch import benchmark
from swin_transformer_pytorch.benchmark import FLOOR, OPENVINO, OPTIMIZED, OURS, Measurement, Setting
from swin_transformer_pytorch.sizes import Size

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How much is measured.

    Attributes:
        rounds: of what takes less than a second.
        few_rounds: of what takes seconds.
        fewest_rounds: of large images.
        batch_size: of classification.
        side, v2_side: pixels of its images' sides.
        many: images of `side`, with as many pixels as one of `big_side`.
        curve_sides: of one image.
        detection_size: what detectors make of an image of 800 x 1333: its sides are multiples of 32.
        dtypes: of inference and training.
    """

    rounds: int = 7
    few_rounds: int = 5
    fewest_rounds: int = 3
    batch_size: int = 8
    side: int = 224
    v2_side: int = 256
    many: int = 64
    big_side: int = 1792
    curve_sides: tuple[int, ...] = (224, 448, 672, 896, 1344)
    detection_size: Size = (800, 1344)
    dtypes: tuple[str, ...] = ("float32", "bfloat16")


FULL = Scale()
SMOKE = Scale(
    rounds=1,
    few_rounds=1,
    fewest_rounds=1,
    batch_size=2,
    side=32,
    v2_side=32,
    many=4,
    big_side=64,
    curve_sides=(32, 64, 96),
    detection_size=(64, 96),
)


def inference(scale: Scale) -> Iterator[Measurement]:
    libraries = [OURS, OPTIMIZED, FLOOR, *EAGER, OPENVINO]
    for dtype in scale.dtypes:
        for batch_size in (1, scale.batch_size):
            yield from benchmark.measure([_setting(scale, batch_size, dtype)], libraries, scale.rounds)


def training(scale: Scale) -> Iterator[Measurement]:
    for dtype in scale.dtypes:
        setting = _setting(scale, scale.batch_size, dtype, mode="training")
        yield from benchmark.measure([setting], [OURS, *EAGER], scale.few_rounds, warmup=1)


def v2(scale: Scale) -> Iterator[Measurement]:
    setting = _setting(scale, scale.batch_size, model=TINY_V2, side=scale.v2_side)
    yield from benchmark.measure([setting], [OURS, OPTIMIZED, FLOOR, *EAGER], scale.few_rounds, warmup=1)
    setting = dataclasses.replace(setting, mode="training")
    yield from benchmark.measure([setting], [OURS, *EAGER], scale.few_rounds, warmup=1)


def size(scale: Scale) -> Iterator[Measurement]:
    settings = [_setting(scale, 1, side=scale.big_side), _setting(scale, scale.many)]
    libraries = [OURS, OPTIMIZED, "torchvision"]
    yield from benchmark.measure(settings, libraries, scale.fewest_rounds, warmup=1, memory=True)


def curve(scale: Scale) -> Iterator[Measurement]:
    for side in scale.curve_sides:
        libraries = [OURS, OPTIMIZED, FLOOR, "timm", "torchvision"]
        yield from benchmark.measure([_setting(scale, 1, side=side)], libraries, scale.fewest_rounds, warmup=1)


def detection(scale: Scale) -> Iterator[Measurement]:
    setting = dataclasses.replace(_setting(scale, 1), mode="features", image_size=scale.detection_size)
    libraries = [OURS, OPTIMIZED, FLOOR, *EAGER]
    yield from benchmark.measure([setting], libraries, scale.few_rounds, warmup=1)


def profile(scale: Scale) -> list[dict[str, Any]]:
    """Where our time goes, in each setting that has an aim."""
    batch = _setting(scale, scale.batch_size)
    half = dataclasses.replace(batch, dtype="bfloat16")
    second = _setting(scale, scale.batch_size, model=TINY_V2, side=scale.v2_side)
    maps = dataclasses.replace(_setting(scale, 1), mode="features", image_size=scale.detection_size)
    cells = [
        (OPTIMIZED, batch),
        (OPTIMIZED, _setting(scale, 1)),
        (OPTIMIZED, half),
        (OURS, batch),
        (OURS, dataclasses.replace(batch, mode="training")),
        (OURS, dataclasses.replace(half, mode="training")),
        (OPTIMIZED, second),
        (OURS, dataclasses.replace(second, mode="training")),
        (OPTIMIZED, maps),
    ]
    cells = [(library, setting) for library, setting in cells if setting.dtype in scale.dtypes]
    profiles = []
    for library, setting in cells:
        step = benchmark.make_step(setting, library)
        assert step is not None, "ours is always to be had"
        found = benchmark.profile_step(step, calls=scale.fewest_rounds)
        profiles.append({"library": library, **dataclasses.asdict(setting), **dataclasses.asdict(found)})
    return profiles


MEASURED: dict[str, Callable[[Scale], Iterator[Measurement]]] = {
    "inference": inference,
    "training": training,
    "v2": v2,
    "size": size,
    "curve": curve,
    "detection": detection,
}
PARTS = (*MEASURED, "profile")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--output", metavar="STEM", type=Path, help="the files' path, without their endings")
    parser.add_argument("--dtypes", nargs="+", choices=FULL.dtypes, default=list(FULL.dtypes), help="of what is timed")
    parser.add_argument("--smoke", action="store_true", help="tiny images, one round: only whether everything runs")
    options = parser.parse_args()
    for part in options.parts:
        if part not in PARTS:
            parser.error(f"no part {part!r}; there are: {', '.join(PARTS)}")
    if options.smoke and options.output is None:
        parser.error("--smoke gives no figures to keep: say with --output where they go")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    stem = options.output or RESULTS / f"{datetime.date.today().isoformat()}-classification-{device}"
    stem.parent.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    scale = dataclasses.replace(SMOKE if options.smoke else FULL, dtypes=tuple(options.dtypes))
    report = open_report(stem)
    for part in options.parts or PARTS:
        measured = {**report["parts"], part: measure(part, scale)}
        report["parts"] = {name: measured[name] for name in PARTS if name in measured}
        write(stem, report)
        print(f"{part}: {stem}.json, {stem}.md, {stem}.png", flush=True)


def measure(part: str, scale: Scale) -> dict[str, Any]:
    """One part, with the time and the load at its start, which is 0 on a machine that does nothing else."""
    record: dict[str, Any] = {
        "measured_at": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "load_before": round(os.getloadavg()[0], 2),
    }
    start = time.perf_counter()
    if part == "profile":
        record["profiles"] = profile(scale)
    else:
        record["measurements"] = [dataclasses.asdict(m) for m in MEASURED[part](scale)]
    return {**record, "minutes": round((time.perf_counter() - start) / 60, 1)}


def open_report(stem: Path) -> dict[str, Any]:
    """What the file has already, or an empty report of this machine.

    Raises:
        BenchmarkError: if the file's are of another machine or of other versions.
    """
    belongs = {
        "processor": benchmark.processor_name(),
        "threads": torch.get_num_threads(),
        "versions": benchmark.library_versions(["torch", OURS, *benchmark.PEERS]),
    }
    path = stem.with_suffix(".json")
    earlier: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {**belongs, "parts": {}}
    for name, value in belongs.items():
        if earlier[name] != value:
            raise benchmark.BenchmarkError(
                f"{path} has figures of {name} {earlier[name]}, not of {value}; remove it or give --output"
            )
    return earlier


def write(stem: Path, report: dict[str, Any]) -> None:
    """The figures as JSON, as tables, and as a picture."""
    parts = {
        name: [Measurement.from_dict(fields) for fields in record["measurements"]]
        for name, record in report["parts"].items()
        if "measurements" in record
    }
    bars = [m for name in ("inference", "detection", "training", "v2") for m in parts.get(name, [])]
    lines = parts.get("curve", [])
    title = f"{report['processor']}, {report['threads']} threads, {_versions(report)}"
    picture = stem.with_suffix(".png") if bars or lines else None
    if picture is not None:
        benchmark.benchmark_picture(bars, lines, picture, title=title)
        # Few colours, so a third of the size: it stays in the repository for good.
        with Image.open(picture) as image:
            few = image.convert("RGB").quantize(64)
        few.save(picture, optimize=True)
    stem.with_suffix(".md").write_text(markdown(report, parts, picture))
    stem.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")


def markdown(report: dict[str, Any], parts: dict[str, list[Measurement]], picture: Path | None) -> str:
    """The aims first, then each part's figures, with what they belong to."""
    sections = [
        f"{report['processor']}, {report['threads']} threads; {_versions(report)}. Random weights. Medians; ratios are "
        "medians of the ratios round by round, below 1 where ours, above the line, is faster. `optimized` is "
        "`optimize_for_inference`, `floor` the model's own matrix products alone, by `F.linear`; `openvino` runs "
        "timm's export. `spread`: the middle half of the rounds, in parts of the median. Memory is a fresh process's "
        "peak above what it had before the first step.",
        f"![time by library, and by image size]({picture.name})" if picture else "",
        "## Aims\n\nOur time, or memory, over that of the fastest, or least, of timm, torchvision and transformers, or "
        "over what is named.\n\n" + aims_table(outcomes(parts)),
    ]
    for name, record in report["parts"].items():
        when = f"Measured {record['measured_at']} in {record['minutes']} minutes, load before: {record['load_before']}."
        table = benchmark.markdown_table(parts[name]) if name in parts else _profile_table(record["profiles"])
        sections.append(f"## {name}\n\n{when}\n\n{table}")
    return "\n\n".join(section.strip() for section in sections if section) + "\n"


def _profile_table(profiles: list[dict[str, Any]]) -> str:
    kinds = list(dict.fromkeys(kind for one in profiles for kind in one["shares"]))
    lines = [
        f"| model | mode | pixels | batch | dtype | form | ms | {' | '.join(kinds)} |",
        "| --- | --- | ---: | ---: | --- | --- | ---: |" + " ---: |" * len(kinds),
    ]
    for one in profiles:
        height, width = one["image_size"]
        form = "eager" if one["library"] == OURS else one["library"]
        cells = [one["model"], one["mode"], f"{height}x{width}", str(one["batch_size"]), one["dtype"], form]
        cells.append(f"{1000 * one['seconds']:.1f}")
        cells += [f"{one['shares'].get(kind, 0.0):.0%}" for kind in kinds]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _versions(report: dict[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in report["versions"].items())


def _setting(
    scale: Scale,
    batch_size: int,
    dtype: str = "float32",
    *,
    mode: str = "inference",
    model: str = TINY,
    side: int | None = None,
) -> Setting:
    side = side or scale.side
    return Setting(model=model, mode=mode, batch_size=batch_size, dtype=dtype, image_size=(side, side))


if __name__ == "__main__":
    main()
