"""Shows what prediction on Ray loses (nothing) and how fast it is; the result is in benchmarks/results/.

    python tools/check_ray.py --output benchmarks/results/DATE-ray.md

Ten thousand images, of which a hundred are bad, go to two actors, and one of these is killed in the middle (SIGKILL).
Each row is then compared with what one process predicts. The same images are read as tar files and through a store's
address. Then a Swin-T classifies photos' sizes of JPEG on one actor and on two, in turns.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import signal
import statistics
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from swin_transformer_pytorch import Predictor, create_model, load_model, optimize_for_inference
from swin_transformer_pytorch.data.classification.fashion import FashionSample
from swin_transformer_pytorch.predict import predict_files
from swin_transformer_pytorch.predict.ray import RayPrediction, predict_on_ray, require_ray
from swin_transformer_pytorch.results.rows import row_of
from swin_transformer_pytorch.whole import write_text

NUM_IMAGES, NUM_BAD = 10_000, 100
NUM_PHOTOS, PHOTOS_A_PIECE = 256, 32
TOLERANCE = 1e-4  # of a score, between an optimised model and the model


def shipped_model() -> Any:
    return load_model("fashion")


def swin_tiny() -> Any:
    torch.manual_seed(0)
    return create_model("swin_tiny_patch4_window7_224", weights=None)


def make_predictor(make_model: Callable[[], Any], log: str) -> Predictor:
    """An actor's predictor, which writes down when it has done how many images, and what time it took of a core."""
    predictor = Predictor(optimize_for_inference(make_model()), device="cpu")
    answer = predictor.answers

    def logged(images: Sequence[Any], how: Any) -> list[Any]:
        found = answer(images, how)
        with open(log, "a") as file:
            file.write(json.dumps([os.getpid(), len(images), time.time(), time.process_time()]) + "\n")
        return found

    predictor.answers = logged  # type: ignore[method-assign, assignment]
    return predictor


def read_log(log: Path) -> list[list[Any]]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def read_rows(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(output.glob("part-*")) for line in path.read_bytes().splitlines()]


def write_images(folder: Path) -> None:
    """Fashion-MNIST's sample over and over, each with noise of its own, and bad files of four kinds among them."""
    folder.mkdir()
    sample, random = FashionSample("test"), np.random.default_rng(0)
    bad = set(random.permutation(NUM_IMAGES)[:NUM_BAD].tolist())
    for number in range(NUM_IMAGES):
        path = folder / f"{number:05}.png"
        pixels = np.asarray(sample[number % len(sample)][0], dtype=np.int16).reshape(28, 28)
        file = io.BytesIO()
        noisy = np.clip(pixels + random.integers(-8, 9, pixels.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(file, format="PNG")
        content = file.getvalue()
        kinds = (b"", b"no picture", content[: len(content) // 2], bytes(200))
        path.write_bytes(kinds[number % 4] if number in bad else content)


def write_tars(folder: Path, images: Sequence[Path], count: int) -> None:
    folder.mkdir()
    for number in range(count):
        with tarfile.open(folder / f"{number:02}.tar", "w") as archive:
            for path in images[number::count]:
                archive.add(path, arcname=path.name)


def check_kill(folder: Path) -> list[str]:
    """The table's lines of ten thousand images, two actors, and a kill."""
    images, log, output = folder / "images", folder / "log", folder / "rows.jsonl"
    write_images(images)
    killed: list[tuple[int, int]] = []

    def told(done: int, pieces: int, problems: Sequence[str]) -> None:
        if 2 * done >= pieces and not killed:
            pid = read_log(log)[-1][0]
            os.kill(pid, signal.SIGKILL)
            killed.append((pid, done))

    start = time.monotonic()
    make = partial(make_predictor, shipped_model, str(log))
    found: RayPrediction = predict_on_ray(make, [images], output, workers=2, told=told)
    seconds = time.monotonic() - start
    rows = read_rows(output)
    times = Counter(row["path"] for row in rows)
    predicted = sum(count for _, count, _, _ in read_log(log))
    expected = {
        path: row_of(path, it) for path, it in predict_files(Predictor(shipped_model(), device="cpu"), [images])
    }
    same_errors = sum(row.get("error") == expected[row["path"]].get("error") for row in rows if "error" in row)
    differences = [
        max(np.abs(np.subtract(row["scores"], expected[row["path"]]["scores"])), default=0.0)
        for row in rows
        if row.get("labels") == expected[row["path"]].get("labels") and "error" not in row
    ]
    good = sum("error" not in row for row in rows)
    pids = {pid for pid, *_ in read_log(log)}
    assert killed and len(pids) >= 3, "an actor was killed, and another took its place"
    lines = [
        f"| images, of them bad | {NUM_IMAGES:,}, {NUM_BAD} |",
        f"| pieces; actors; killed when so many pieces were there | {found.made}; 2; {killed[0][1]} |",
        f"| processes that predicted | {len(pids)} |",
        f"| images that were predicted again after the kill | {predicted - NUM_IMAGES} |",
        f"| results, errors | {good:,}, {found.bad} |",
        f"| images without a row, with two | {NUM_IMAGES - len(times)}, {sum(count > 1 for count in times.values())} |",
        f"| errors with the text of one process | {same_errors} of {NUM_BAD} |",
        f"| results with its classes in its order | {len(differences):,} of {good:,} |",
        f"| their scores' largest difference | {max(differences):.1e} |",
        f"| seconds, with Ray's start | {seconds:.0f} |",
    ]
    assert (good, found.bad, len(times), len(rows)) == (NUM_IMAGES - NUM_BAD, NUM_BAD, NUM_IMAGES, NUM_IMAGES)
    assert same_errors == NUM_BAD and max(differences) < TOLERANCE
    some = sorted(images.iterdir())[:1000]
    write_tars(folder / "shards", some, 8)
    (folder / "some").mkdir()
    for path in some:
        os.link(path, folder / "some" / path.name)
    by_name = {Path(row["path"]).name: row for row in rows}
    for what, source in (("tar files", str(folder / "shards")), ("a store's address", f"file://{folder / 'some'}")):
        others = folder / f"{what[:3]}.jsonl"
        predict_on_ray(partial(make_predictor, shipped_model, str(folder / "log2")), [source], others, workers=2)
        read = {Path(row["path"]).name: row for row in read_rows(others)}
        same = sum(
            ("error" in row) == ("error" in by_name[name])
            and np.allclose(row.get("scores", 0), by_name[name].get("scores", 0), atol=TOLERANCE)
            for name, row in read.items()
        )
        assert same == len(read) == len(some)
        lines.append(f"| the first 1,000 as {what}: same rows | {same:,} of {len(some):,} |")
    return lines


def measure(folder: Path, photos: Path, workers: int, number: int) -> tuple[float, float]:
    """Images a second of all actors while all are at work, and images a second of a core's time."""
    log = folder / f"log-{workers}-{number}"
    make = partial(make_predictor, swin_tiny, str(log))
    output = folder / f"{workers}-{number}.jsonl"
    predict_on_ray(make, [photos], output, workers=workers, piece_images=PHOTOS_A_PIECE)
    by_actor: dict[int, list[list[Any]]] = {}
    for line in read_log(log):
        by_actor.setdefault(line[0], []).append(line)
    assert len(by_actor) == workers
    start, end = max(lines[0][2] for lines in by_actor.values()), min(lines[-1][2] for lines in by_actor.values())
    of_a_core = []
    rate = 0.0
    for lines in by_actor.values():
        within = [line for line in lines if start <= line[2] <= end]
        first = max((line for line in lines if line[2] <= start), key=lambda line: line[2])
        done = sum(line[1] for line in within if line[2] > first[2])
        rate += done / (within[-1][2] - first[2])
        of_a_core.append(sum(line[1] for line in lines[1:]) / (lines[-1][3] - lines[0][3]))
    return rate, statistics.mean(of_a_core)


def check_speed(folder: Path, rounds: int) -> list[str]:
    photos = folder / "photos"
    photos.mkdir()
    random = np.random.default_rng(0)
    for number in range(NUM_PHOTOS):
        rough = Image.fromarray(random.integers(0, 256, (24, 32, 3), np.uint8)).resize((500, 375))
        noise = random.integers(-12, 13, (375, 500, 3))
        pixels = np.clip(np.asarray(rough, dtype=np.int16) + noise, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(photos / f"{number:04}.jpg", quality=90)
    found: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    loads: dict[int, list[float]] = {1: [], 2: []}
    for number in range(rounds):
        for workers in found:
            found[workers].append(measure(folder, photos, workers, number))
            loads[workers].append(os.getloadavg()[0])
            print(f"{workers} actors: {found[workers][-1]}, load {loads[workers][-1]:.1f}", file=sys.stderr)
    lines = []
    for workers, rates in found.items():
        each, cores = (" ".join(f"{rate[place]:.1f}" for rate in rates) for place in (0, 1))
        best = max(rate for rate, _ in rates)
        share = best / (workers * max(rate for rate, _ in found[1]))
        in_cores = statistics.median(core for _, core in rates) / statistics.median(core for _, core in found[1])
        load = " ".join(f"{one:.0f}" for one in loads[workers])
        lines.append(f"| {workers} | {each} | {best:.1f} | {share:.0%} | {cores} | {in_cores:.0%} | {load} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each number of actors")
    parser.add_argument("--output", type=Path, required=True, help="the file; Ray writes to stdout what it likes")
    parser.add_argument("--only", choices=("kill", "speed"))
    options = parser.parse_args()
    ray = require_ray()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        kill = check_kill(Path(scratch)) if options.only != "speed" else []
        speed = check_speed(Path(scratch), options.rounds) if options.only != "kill" else []
    versions = f"Ray {ray.__version__}, torch {torch.__version__}, Python {platform.python_version()}"
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    lines = ["# Prediction on Ray\n", f"{time.strftime('%Y-%m-%d')}; {versions}; {machine}. By `tools/check_ray.py`."]
    if kill:
        lines += ["\nAn actor killed in the middle:\n\n| | |\n| --- | --- |", *kill]
    if speed:
        lines += [
            f"\nSwin-T, 224 x 224, of {NUM_PHOTOS} JPEGs of 500 x 375; an actor is a process with one thread. Images a",
            "second from reading to rows, while all actors are at work; each measurement, made by turns:\n",
            "| actors | images/s | best | efficiency | images a second of core time | efficiency | load |",
            "| ---: | --- | ---: | ---: | --- | ---: | --- |",
            *speed,
        ]
    write_text(options.output, "\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
