"""Uses `swin web` as people do, in Chromium and under load, and writes benchmarks/results/DATE-web.md.

    python tools/check_web.py [--out DIR] [--seconds N]

1. In the browser: for each of the four shipped models an image by file, drop and paste; the shown picture, label
   map, rows and download are compared with what Predictor and visualize give. A phone's layout, the keyboard, a broken
   image, no request to another host and nothing on the console, where violations of the policy would be.
2. The example of examples/browser in the same browser, against Predictor.
3. What `swin video` makes of 200 frames plays there to its end, in its size, length and colours.
4. Load on loopback: 16 clients for N seconds a model, with malformed and slow ones among them, then a burst.

Needs the extras web, export and video, and npm; playwright-core and onnxruntime-web come from npm into DIR. Chromium is
Debian's, `apt-get install chromium`. Some minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import functools
import http.server
import io
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from PIL import Image

from swin_transformer_pytorch import Predictor, load_model
from swin_transformer_pytorch.data.images.decode import read_image
from swin_transformer_pytorch.data.images.video import Frame, Video
from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.export import export_onnx
from swin_transformer_pytorch.results import Detections, PanopticSegmentation
from swin_transformer_pytorch.visualize import label_map, overlay
from swin_transformer_pytorch.visualize.video import VideoWriter

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "browser"
MODELS = ("fashion", "scenes_detection", "scenes_segmentation", "scenes_panoptic")
CLIENTS, SLOW, BURST, TIMEOUT, LEAST_SCORE = 16, 2, 200, 8, 0.3
FRAMES, RATE = 200, 25


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="where screenshots and packages go (default: a new folder)")
    parser.add_argument("--seconds", type=float, default=20, help="of load on each model; 0 leaves it out")
    options = parser.parse_args()
    out = (options.out or Path(tempfile.mkdtemp(prefix="check-web-"))).resolve()
    out.mkdir(parents=True, exist_ok=True)
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed: apt-get install chromium")
    packages = ("playwright-core", "onnxruntime-web")
    subprocess.run(["npm", "install", "--no-save", "--silent", "--prefix", out, *packages], check=True)
    with serving() as (server, address):
        browser = check_in_browser(out, chromium, address)
        before = memory_of(server.pid, "VmRSS")
        rows = [asyncio.run(load(address, model, options.seconds)) for model in MODELS if options.seconds]
        burst = asyncio.run(send_burst(address)) if options.seconds else Counter()
        memory = memory_of(server.pid, "VmHWM")
        assert httpx.get(f"{address}/health", trust_env=False).json()["busy"] == dict.fromkeys(MODELS, 0)
    assert server.returncode == -signal.SIGTERM, server.returncode
    report = written(out, chromium, browser, rows, burst, (before, memory))
    path = ROOT / "benchmarks" / "results" / f"{date.today()}-web.md"
    path.write_text(report, encoding="utf-8")
    print(report)
    print(f"{path}; screenshots: {out}", file=sys.stderr)
    return 0


@contextlib.contextmanager
def serving() -> Iterator[tuple[subprocess.Popen[str], str]]:
    words = [sys.executable, "-m", "swin_transformer_pytorch", "web", "--port", "0", "--timeout", str(TIMEOUT)]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            line = server.stderr.readline()
            started = re.match(r"(http://\S+) has", line)
            assert started, line
            yield server, started[1]
            server.send_signal(signal.SIGTERM)
            rest = server.stderr.read()
            assert not rest, rest
        finally:
            server.kill()


# In the browser


def check_in_browser(out: Path, chromium: str, address: str) -> dict[str, Any]:
    """Raises where anything is not as it should be."""
    images = {model: out / f"{model}.png" for model in MODELS}
    for model, path in images.items():
        sample = "fashion-3" if model == "fashion" else "scene-2"
        path.write_bytes(httpx.get(f"{address}/samples/{sample}", trust_env=False).content)
    photo = out / "photo.png"  # which must be resized and turned to grey, for the example
    Image.open(images["scenes_detection"]).resize((97, 61)).save(photo)
    broken = out / "broken.png"
    broken.write_bytes(images["fashion"].read_bytes()[:-200])
    classified = [images["fashion"], photo]
    with example_served(out) as example:
        video = make_video(out)
        settings = {
            "playwright": str(out / "node_modules" / "playwright-core" / "index.mjs"),
            "chromium": chromium,
            "page": address,
            "example": example,
            "video": f"{example}/video.html",
            "images": {model: str(path) for model, path in images.items()},
            "classified": [str(path) for path in classified],
            "broken": str(broken),
            "out": str(out),
        }
        (out / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        words = ["node", str(Path(__file__).with_suffix(".mjs")), str(out / "settings.json")]
        found: dict[str, Any] = json.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout)
    assert not found["problems"], found["problems"]
    hosts = set(found["hosts"])
    assert hosts == {address.removeprefix("http://"), example.removeprefix("http://")}, hosts
    assert "cut short" in found["refusal"], found["refusal"]
    predictors = {model: Predictor(load_model(model)) for model in MODELS}
    differences = [compare(one, predictors[one["model"]], images[one["model"]]) for one in found["results"]]
    example_difference = max(compare_classes(one, predictors["fashion"]) for one in found["example"])
    return {
        "results": len(found["results"]),
        "pixels": max(differences),
        "example": example_difference,
        "video": compare_video(found["video"], video),
    }


def make_video(out: Path) -> list[Frame]:
    """What `swin video` finds in a made-up one, beside the example with a page that has it; its frames."""
    scenes = open_scenes("scenes_sample", "val", num_scenes=8)
    row = np.concatenate([np.asarray(scenes[index].image) for index in range(len(scenes))], axis=1)
    with VideoWriter(out / "clip.webm") as writer:
        for index in range(FRAMES):
            writer.add(Image.fromarray(row[:, 4 * index : 4 * index + 192]), index / RATE)
    found = out / "example" / "found.webm"
    words = ("video", out / "clip.webm", "--weights", "scenes_detection", "--video", found)
    subprocess.run(
        [sys.executable, "-m", "swin_transformer_pytorch", *map(str, words)], check=True, stdout=subprocess.DEVNULL
    )
    page = '<!doctype html><link rel="icon" href="data:,"><video src="found.webm" muted></video>'
    found.with_name("video.html").write_text(page, encoding="utf-8")
    return list(Video(found))


def compare_video(shown: dict[str, Any], frames: list[Frame]) -> str:
    """What played in the browser, in words."""
    height, width = frames[0].image.shape[:2]
    assert len(frames) == FRAMES, len(frames)
    assert (shown["width"], shown["height"]) == (width, height), shown
    length = FRAMES / RATE
    assert abs(shown["duration"] - length) < 0.1 and abs(shown["end"] - shown["duration"]) < 0.1, shown
    times = shown["times"]
    assert len(times) > FRAMES / 4 and times == sorted(times) and shown["took"] > 0.9 * length, shown
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(shown["picture"]))).convert("RGB")).astype(int)
    assert picture.std() > 20, "a blank picture"
    # The browser hands out the next frame now and then.
    near = [frame for frame in frames if abs(frame.seconds - shown["picture_time"]) < 2 / RATE]
    worst = min(float(np.abs(picture - frame.image).mean()) for frame in near)
    assert worst < 4, f"the picture at {shown['picture_time']} s differs by {worst} levels"
    return (
        f"{FRAMES} frames of {width} x {height} pixels in {shown['duration']:.2f} s play to the end in "
        f"{shown['took']:.1f} s, {shown['frames'] - shown['dropped']} of {shown['frames']} frames shown; a frame in "
        f"the middle differs from PyAV's by {worst:.1f} of 255 levels in the mean"
    )


@contextlib.contextmanager
def example_served(out: Path) -> Iterator[str]:
    """The example as its README has it, on a port of its own."""
    folder = out / "example"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    (folder / "node_modules").symlink_to(out / "node_modules")
    export_onnx(load_model("fashion"), folder / "fashion.onnx")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def compare(shown: dict[str, Any], predictor: Predictor, path: Path) -> int:
    """The largest difference of a level between the pictures in the browser and ours; the rest must be equal."""
    image = path.read_bytes()
    result = predictor(image)
    if isinstance(result, Detections):
        result = result.above(LEAST_SCORE)
    what = f"{shown['model']} by {shown['way']}"
    if isinstance(result, PanopticSegmentation):
        names, given = ([one["name"] for one in record["segments"]] for record in (result.to_dict(), shown["json"]))
    else:
        names, given = result.to_dict()["names"], shown["json"]["names"]
    assert names and shown["rows"] == names == given, f"{what}: {shown['rows']}, not {names}"
    pairs = [(shown["picture"], overlay(read_image(image), result))]
    if shown["model"] == "scenes_segmentation":
        pairs.append((shown["label_map"], label_map(result).convert("RGB")))
    worst = 0
    for text, expected in pairs:
        picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")).astype(int)
        assert picture.shape == (expected.height, expected.width, 3), f"{what}: {picture.shape}"
        worst = max(worst, int(np.abs(picture - np.asarray(expected)).max()))
    assert worst == 0, f"{what}: pixels differ by {worst}"
    return worst


def compare_classes(shown: dict[str, Any], predictor: Predictor) -> float:
    """The largest difference of a score, in percent points."""
    result = predictor(shown["path"])
    pairs = [re.fullmatch(r"(.+) ([\d.]+)%", line) for line in shown["classes"]]
    scores = {pair[1]: float(pair[2]) for pair in pairs if pair}
    assert next(iter(scores)) == result.names[0], (scores, result)
    worst = max(abs(scores[name] - score * 100) for name, score in zip(result.names[:3], result.scores, strict=False))
    assert worst < 1, (scores, result)
    return worst


# Under load


@dataclass
class Load:
    model: str
    seconds: float = 0.0
    times: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    bad: Counter[str] = field(default_factory=Counter)


async def load(address: str, model: str, seconds: float) -> Load:
    """Clients that each ask anew when they are answered, for so long; others that misbehave all the while."""
    seen = Load(model)
    sample = "fashion-1" if model == "fashion" else "scene-1"
    limits = httpx.Limits(max_connections=CLIENTS + 4)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60, trust_env=False) as client:
        image = (await client.get(f"/samples/{sample}")).content
        began = time.monotonic()
        end = began + seconds

        async def ask() -> None:
            while time.monotonic() < end:
                start = time.monotonic()
                response = await client.post("/predict", content=image, params={"model": model})
                seen.times.append(time.monotonic() - start)
                seen.seconds = time.monotonic() - began
                seen.statuses[response.status_code] += 1

        async def send_rubbish() -> None:
            while time.monotonic() < end:
                for status, request in (
                    (400, {"content": image[:-100]}),
                    (415, {"files": {"image": image}}),
                    (413, {"content": bytes(20_000_001)}),
                    (404, {"content": image, "params": {"model": "none"}}),
                ):
                    response = await client.post("/predict", **request)  # type: ignore[arg-type]
                    assert response.status_code == status, response.text
                    seen.bad[f"malformed: {status}"] += 1
                await asyncio.sleep(0.2)

        async def be_slow() -> None:
            """A byte at a time, until the server has had enough; so a little longer than the others."""
            while time.monotonic() < end:
                host, _, port = address.removeprefix("http://").rpartition(":")
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000\r\n\r\n".encode())
                answer = asyncio.ensure_future(reader.readline())
                while not answer.done():
                    writer.write(b"x")
                    await asyncio.sleep(0.05)
                assert answer.result().split()[1] == b"408", answer.result()
                seen.bad["slow: 408"] += 1
                writer.close()

        await asyncio.gather(*(ask() for _ in range(CLIENTS)), send_rubbish(), *(be_slow() for _ in range(SLOW)))
    assert set(seen.statuses) == {200}, seen.statuses
    return seen


async def send_burst(address: str) -> Counter[int]:
    """More at once than a model has places."""
    async with httpx.AsyncClient(base_url=address, limits=httpx.Limits(max_connections=100), timeout=60) as client:
        image = (await client.get("/samples/scene-1")).content

        async def ask() -> int:
            query = {"model": "scenes_segmentation"}
            return (await client.post("/predict", content=image, params=query)).status_code

        statuses = Counter(await asyncio.gather(*(ask() for _ in range(BURST))))
    assert set(statuses) == {200, 503}, statuses
    return statuses


def memory_of(process: int, what: str) -> float:
    """Its resident size in bytes: "VmRSS" now, "VmHWM" the largest so far."""
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return int(re.findall(rf"{what}:\s+(\d+) kB", status)[0]) * 1024


def written(
    out: Path,
    chromium: str,
    browser: dict[str, Any],
    rows: list[Load],
    burst: Counter[int],
    memory: tuple[float, float],
) -> str:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "fastapi", "uvicorn", "httpx", "av"))
    npm = {
        name: json.loads((out / "node_modules" / name / "package.json").read_text(encoding="utf-8"))["version"]
        for name in ("playwright-core", "onnxruntime-web")
    }
    shown = subprocess.run([chromium, "--version"], capture_output=True, text=True).stdout.split()
    lines = [
        f"# swin web, {date.today()}",
        "",
        f"`python tools/check_web.py`: {versions}, Python {platform.python_version()}, {os.cpu_count()} processors "
        f"({platform.machine()}) that clients and other work share, 15 minutes' load {os.getloadavg()[2]:.1f}. "
        f"Chromium {shown[1]}, {', '.join(f'{name} {version}' for name, version in npm.items())}.",
        "",
        f"In the browser: {browser['results']} results, the three shipped models by file, drop and paste; pictures and "
        f"label map differ from Predictor and visualize by at most {browser['pixels']} of 255 levels, names not "
        "at all; nothing on the console, no other host. A phone's layout, the keyboard and a broken image are in it. "
        f"The static example: scores within {browser['example']:.2f} percent points of Predictor's.",
        "",
        f"What `swin video` writes, in a `<video>` element: {browser['video']}.",
    ]
    if not rows:
        return "\n".join([*lines, "", "Load was left out (`--seconds 0`).", ""])
    lines += [
        "",
        f"Under load: {CLIENTS} clients that ask anew when they are answered, one that sends rubbish and {SLOW} that "
        f"send a byte at a time, all on this machine; `--timeout {TIMEOUT}`.",
        "",
        "| model | requests/s | p50 ms | p99 ms | answers | misbehaving clients' |",
        "| --- | ---: | ---: | ---: | --- | --- |",
    ]
    for row in rows:
        p50, p99 = np.percentile(row.times, [50, 99]) * 1000
        answers, bad = (
            ", ".join(f"{count:,} x {what}" for what, count in sorted(counted.items(), key=str))
            for counted in (row.statuses, row.bad)
        )
        lines.append(
            f"| {row.model} | {len(row.times) / row.seconds:.1f} | {p50:.0f} | {p99:.0f} | {answers} | {bad} |"
        )
    lines += [
        "",
        f"A burst of {BURST} requests by 100 connections to one model with 32 places: {burst[200]} answered, "
        f"{burst[503]} refused by 503, nothing else. Resident memory of the server before the load: "
        f"{memory[0] / 1e6:,.0f} MB; at most: {memory[1] / 1e6:,.0f} MB.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
