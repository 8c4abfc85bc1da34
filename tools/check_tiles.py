"""Detects in a wall of 32 x 32 scenes tile by tile, beside the answers for each scene alone; writes the dated result.

    python tools/check_tiles.py

The wall has 4096 x 4096 pixels. `swin predict --mode slide` looks at it in tiles of 512 pixels, 341 apart, so that
seams go through scenes everywhere. Two things differ from scenes alone: seams, and a tile's 16 scenes share the
proposals that the model has for one image. So tiles of a scene's size are taken as well, and of a part of the wall
those of 512 pixels with 16 times the proposals. The shipped detector; its objects with a score of 0.5 count. Some
minutes; it fails where seams find many objects twice, or miss more of those that they cut than of the others.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

import swin_transformer_pytorch as swin
from swin_transformer_pytorch import benchmark
from swin_transformer_pytorch.data.samples import DetectionSample
from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.ops.regions.boxes import pairwise_iou
from swin_transformer_pytorch.predict.tiles import tiles_of
from swin_transformer_pytorch.results import Detections

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
MODEL, LEAST_SCORE = "scenes_detection", 0.5
A_SIDE, SCENE, CROP, STRIDE = 32, 128, 512, 341
SIZE = (A_SIDE * SCENE, A_SIDE * SCENE)
SAME = 0.5  # IoU, from which on two boxes of a class are of one object
INSIDE = 0.7  # part of a box in another of its class, from which on it is a part of that object


@dataclass(frozen=True, kw_only=True)
class Row:
    """How one way of looking at the wall compares with another, or with the truth.

    Attributes:
        what: the two.
        expected, found: how many objects each has.
        cut: how many of the expected an inner edge of a tile goes through.
        once: how many of the expected have one of the found for themselves.
        twice: of the others that were found, how many lie on an expected object that has one already, or in it.
        cut_twice: of these, how many are cut.
        missing: expected ones that were not found.
        cut_missing: of these, how many are cut.
    """

    what: str
    expected: int
    found: int
    cut: int
    once: int
    twice: int
    cut_twice: int
    missing: int
    cut_missing: int

    @property
    def cells(self) -> list[str]:
        numbers = (self.expected, self.found, self.once, self.twice, self.cut_twice, self.missing)
        rates = (self.cut_missing / self.cut, (self.missing - self.cut_missing) / (self.expected - self.cut))
        return [self.what, *(f"{number:,}" for number in numbers), *(f"{rate:.1%}" for rate in rates)]


def main() -> int:
    scenes = open_scenes("scenes_sample", "val", num_scenes=A_SIDE**2)
    samples = [scenes[index] for index in range(A_SIDE**2)]
    wall = Image.new("RGB", SIZE)
    for index, sample in enumerate(samples):
        assert isinstance(sample.image, Image.Image)
        wall.paste(sample.image, place_of(index))
    truth = moved([truth_of(sample) for sample in samples])
    alone = moved(swin.Predictor(MODEL, device="cpu", score_threshold=LEAST_SCORE)([one.image for one in samples]))
    slid, seconds = by_command(wall)
    model = swin.load_model(MODEL)
    small = in_tiles(model, wall, SCENE, SCENE * 2 // 3)
    corner = wall.crop((0, 0, 2 * CROP, 2 * CROP))
    few = in_tiles(model, corner, CROP, CROP)
    give_more(model, (CROP // SCENE) ** 2)
    more = in_tiles(model, corner, CROP, CROP)
    alone_there = alone[np.flatnonzero((alone.boxes_xyxy[:, 2:] <= 2 * CROP).all(axis=1))]
    tiles, small_tiles = f"tiles of {CROP}, {STRIDE} apart", f"tiles of {SCENE}, {SCENE * 2 // 3} apart"
    seams = compare(f"each scene alone; {small_tiles}", alone, small, SCENE, SCENE * 2 // 3)
    rows = [
        compare("what is there; each scene alone", truth, alone, CROP, STRIDE),
        compare(f"what is there; {tiles}", truth, slid, CROP, STRIDE),
        compare(f"what is there; {small_tiles}", truth, small, SCENE, SCENE * 2 // 3),
        compare(f"each scene alone; {tiles}", alone, slid, CROP, STRIDE),
        seams,
        compare(f"64 scenes alone; tiles of {CROP}, {CROP} apart", alone_there, few, CROP, STRIDE),
        compare("the same with 16 times the proposals", alone_there, more, CROP, STRIDE),
    ]
    report = written(rows, seconds)
    path = RESULTS / f"{date.today()}-tiles.md"
    path.write_text(report, encoding="utf-8")
    print(report)
    print(path, file=sys.stderr)
    missed = seams.cut_missing / seams.cut - (seams.missing - seams.cut_missing) / (seams.expected - seams.cut)
    return int(seams.cut_twice > 0.02 * seams.cut or missed > 0.05)


def place_of(index: int) -> tuple[int, int]:
    """The left and upper edge of a scene in the wall."""
    return SCENE * (index % A_SIDE), SCENE * (index // A_SIDE)


def truth_of(sample: DetectionSample) -> Detections:
    return Detections(
        boxes_xyxy=sample.boxes_xyxy,
        scores=np.ones(len(sample.labels), dtype=np.float32),
        labels=sample.labels,
        names=("",) * len(sample.labels),
        image_size=(SCENE, SCENE),
    )


def moved(found: list[Detections]) -> Detections:
    """The objects of all scenes, in the wall's pixels."""
    boxes = [one.boxes_xyxy + np.array(place_of(index) * 2, dtype=np.float32) for index, one in enumerate(found)]
    return Detections(
        boxes_xyxy=np.concatenate(boxes),
        scores=np.concatenate([one.scores for one in found]),
        labels=np.concatenate([one.labels for one in found]),
        names=tuple(name for one in found for name in one.names),
        image_size=SIZE,
    )


def by_command(wall: Image.Image) -> tuple[Detections, float]:
    """What the command finds, and the seconds that it takes."""
    with tempfile.TemporaryDirectory() as folder:
        path, rows = Path(folder, "wall.png"), Path(folder, "wall.jsonl")
        wall.save(path)
        words: list[Any] = ["predict", path, "--weights", MODEL, "--device", "cpu", "--output", rows]
        words += ["--score-threshold", LEAST_SCORE, "--mode", "slide", "--crop-size", CROP, "--stride", STRIDE]
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "swin_transformer_pytorch", *map(str, words)], check=True, stdout=subprocess.DEVNULL
        )
        return Detections.from_dict(json.loads(rows.read_text(encoding="utf-8"))), time.perf_counter() - start


def in_tiles(model: Any, wall: Image.Image, crop: int, stride: int) -> Detections:
    predictor = swin.Predictor(
        model, device="cpu", score_threshold=LEAST_SCORE, mode="slide", crop_size=(crop, crop), stride=(stride, stride)
    )
    found: Detections = predictor(wall)
    return found


def give_more(model: Any, times: int) -> None:
    """As many times the proposals and the detections of an image."""
    limits = model.rpn_head.rules.inference
    limits = dataclasses.replace(limits, per_level=limits.per_level * times, per_image=limits.per_image * times)
    model.rpn_head.rules = dataclasses.replace(model.rpn_head.rules, inference=limits)
    rules = model.roi_head.rules
    model.roi_head.rules = dataclasses.replace(rules, max_detections=rules.max_detections * times)


def compare(what: str, expected: Detections, found: Detections, crop: int, stride: int) -> Row:
    same_class = expected.labels[:, None] == found.labels
    iou = np.where(same_class, pairwise_iou(*map(torch.from_numpy, (expected.boxes_xyxy, found.boxes_xyxy))).numpy(), 0)
    partner: dict[int, int] = {}
    taken: set[int] = set()
    for place in np.argsort(-iou, axis=None, kind="stable")[: int((iou >= SAME).sum())].tolist():
        row, column = divmod(place, len(found))
        if row not in partner and column not in taken:
            partner[row] = column
            taken.add(column)
    left = [column for column in range(len(found)) if column not in taken]
    again = [one for one in left if lies_in(found[one], expected[[*partner]])]
    missing = [row for row in range(len(expected)) if row not in partner]
    is_cut, found_is_cut = is_cut_of(expected, crop, stride), is_cut_of(found, crop, stride)
    return Row(
        what=what,
        expected=len(expected),
        found=len(found),
        cut=int(is_cut.sum()),
        once=len(partner),
        twice=len(again),
        cut_twice=int(found_is_cut[again].sum()),
        missing=len(missing),
        cut_missing=int(is_cut[missing].sum()),
    )


def lies_in(one: Detections, others: Detections) -> bool:
    """Whether an object lies on or in one of the others of its class."""
    box = one.boxes_xyxy[0]
    boxes = others.boxes_xyxy[others.labels == one.labels[0]]
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    inside = sides.clip(0).prod(axis=1) / (box[2:] - box[:2]).prod()
    return bool((inside >= INSIDE).any())


def is_cut_of(found: Detections, crop: int, stride: int) -> NDArray[np.bool_]:
    """Through which of the objects an inner edge of a tile goes."""
    tiles = tiles_of(found.image_size, (crop, crop), (stride, stride))
    lines = np.array(sorted({edge for tile in tiles for edge in (tile.left, tile.right)} - {0, SIZE[0]}))
    starts, ends = found.boxes_xyxy[:, :2, None], found.boxes_xyxy[:, 2:, None]
    return np.asarray(((starts < lines) & (lines < ends)).any(axis=(1, 2)))


def written(rows: list[Row], seconds: float) -> str:
    versions = ", ".join(f"{name} {it}" for name, it in benchmark.library_versions(["torch", benchmark.OURS]).items())
    num_tiles = len(tiles_of(SIZE, (CROP, CROP), (STRIDE, STRIDE)))
    lines = [
        f"# Detection tile by tile, {date.today()}",
        "",
        f"`python tools/check_tiles.py`: {versions}, Python {platform.python_version()}, {benchmark.processor_name()}, "
        f"{os.cpu_count()} processors.",
        "",
        f"A wall of {A_SIDE} x {A_SIDE} held-out scenes of {SCENE} pixels, {SIZE[0]} x {SIZE[1]} in all; {MODEL}, "
        f"objects from a score of {LEAST_SCORE}. `swin predict --mode slide --crop-size {CROP} --stride {STRIDE}` "
        f"takes {num_tiles} tiles and {seconds:.0f} s, start and masks included. One object: the same class and an IoU "
        f"of {SAME}, one to one. Twice: on one that has been found already, or by {INSIDE:.0%} in it; neighbours of "
        f"one class may be as well. Cut: an edge of a tile goes through the object. Tiles {CROP} apart have scenes' "
        "edges as theirs, so that they cut nothing.",
        "",
        "| expected; found | expected | found | once | twice | cut and twice | missing | of the cut | of the others |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *(f"| {' | '.join(row.cells)} |" for row in rows),
        "",
        "A tile is one image to the model, with 1,000 proposals for all its objects: too few for 16 scenes.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
