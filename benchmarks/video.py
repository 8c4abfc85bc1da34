"""Frames a second of `swin video` beside the model's own, with Mask R-CNN on Swin-T.

    python benchmarks/video.py

writes the figures, as JSON and as a table, to benchmarks/results/, named after the day. The model's own are those of a
`Predictor` that is handed the same frames as arrays: nothing is decoded, drawn, encoded or written. Weights are random,
and all scores count, so that 100 objects with masks are drawn on each frame: the most that there can be. The two take
turns, run by run, so that what else the machine does meets both; it takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import swin_transformer_pytorch as swin
from swin_transformer_pytorch import benchmark
from swin_transformer_pytorch.data.classification.fashion import FashionSample
from swin_transformer_pytorch.data.images.video import Video
from swin_transformer_pytorch.data.scenes.dataset import SceneDataset
from swin_transformer_pytorch.visualize.video import VideoWriter

RESULTS = Path(__file__).parent / "results"
VARIANT = "mask_rcnn_swin_tiny_patch4_window7"
FRAME_SIZE = (720, 1280)
FRAMES, BATCH_SIZE, ROUNDS = 8, 4, 7


def make_clip(path: Path, count: int) -> list[NDArray[np.uint8]]:
    """A video of scenes, 25 a second, and its frames as they are read."""
    scenes = SceneDataset(FashionSample("test"), count, image_size=FRAME_SIZE)
    with VideoWriter(path) as writer:
        for index in range(count):
            writer.add(scenes[index].image, index / 25)
    return [frame.image for frame in Video(path)]


def by_command(clip: Path, model: Path, folder: Path, count: int) -> float:
    """Frames a second of the command, as it says itself: without its start and without loading the model."""
    words = ["video", str(clip), "--weights", str(model), "--score-threshold", "0", "--batch-size", str(BATCH_SIZE)]
    words += ["--output", str(folder / "found.jsonl"), "--video", str(folder / "found.webm")]
    command = [sys.executable, "-m", "swin_transformer_pytorch", *words]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    line = re.search(r"([\d,]+) of [\d,]+ frames in ([\d.]+) s", told)
    assert line is not None and int(line[1]) == count, told
    return count / float(line[2])


def by_arrays(predictor: swin.Predictor, frames: Sequence[NDArray[np.uint8]]) -> float:
    start = time.perf_counter()
    predictor(list(frames))
    return len(frames) / (time.perf_counter() - start)


def measure(variant: str, count: int, rounds: int, **overrides: Any) -> dict[str, list[float]]:
    """Frames a second of each way in each round, after a warm-up."""
    torch.manual_seed(0)
    model = swin.create_model(variant, score_threshold=0.0, **overrides)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        swin.save_model(model, folder / "model.safetensors")
        frames = make_clip(folder / "clip.webm", count)
        predictor = swin.Predictor(model, batch_size=BATCH_SIZE, score_threshold=0.0)
        by_arrays(predictor, frames[:BATCH_SIZE])
        found: dict[str, list[float]] = {"arrays": [], "swin video": []}
        for _ in range(rounds):
            found["arrays"].append(by_arrays(predictor, frames))
            found["swin video"].append(by_command(folder / "clip.webm", folder / "model.safetensors", folder, count))
    return found


def markdown(report: dict[str, Any]) -> str:
    """The figures as a table, with what they belong to."""
    ratios = [a / b for a, b in zip(report["swin video"], report["arrays"], strict=True)]
    height, width = report["frame_size"]
    lines = [
        f"{report['model']}, {report['frames']} frames of {width} x {height} pixels in batches of "
        f"{report['batch_size']}, float32, random weights, 100 objects with masks a frame; {report['processor']}, "
        f"{report['threads']} threads; "
        + ", ".join(f"{name} {version}" for name, version in report["versions"].items())
        + f". Medians of {len(ratios)} rounds, in which the two took turns, and their range; the machine's "
        f"load was {report['load']:.1f} in the last 15 minutes. `swin video` decodes, predicts, draws, encodes "
        "VP9 and writes JSON lines; starting and loading the model are left out.",
        "",
        "| | frames a second | range |",
        "| --- | ---: | ---: |",
    ]
    for what, values in (
        ("the model, by `Predictor` on arrays", report["arrays"]),
        ("`swin video`", report["swin video"]),
        ("the second over the first, round by round", ratios),
    ):
        lines.append(f"| {what} | {statistics.median(values):.3f} | {min(values):.3f} to {max(values):.3f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    report: dict[str, Any] = {
        "model": VARIANT,
        "frame_size": FRAME_SIZE,
        "frames": options.frames,
        "batch_size": BATCH_SIZE,
        **measure(VARIANT, options.frames, options.rounds),
        "processor": benchmark.processor_name(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[2],
        "versions": benchmark.library_versions(["torch", benchmark.OURS, "av"]),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.date.today().isoformat()}-video-cpu"
    path.with_suffix(".json").write_text(json.dumps(report, indent=2) + "\n")
    path.with_suffix(".md").write_text(markdown(report))
    print(markdown(report))
    print(f"{path}.json, {path}.md")


if __name__ == "__main__":
    main()
