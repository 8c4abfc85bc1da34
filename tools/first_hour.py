"""Walks a new user's first hour: folders of images, `swin data`, training, evaluation, pictures, for each task.

    python tools/first_hour.py [--out DIR] [--docs]

1. Photographs of scikit-image, cut into tiles: which photograph a tile is from.
2. Fashion-MNIST's items as JPEGs, a folder a class: three kinds of clothes, merged from ten classes.
3. Scenes of those items: boxes and masks as COCO, and label maps.

Every command is one that README, guide or `--help` gives; nothing is downloaded, so that each starts from a model in
the package. With --docs, commands, output and pictures become docs/guide/first-hour.md. Needs scikit-image for 1; about
a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from importlib import metadata, util
from pathlib import Path

import numpy as np
from PIL import Image

from swin_transformer_pytorch.data.classification.fashion import FashionSample
from swin_transformer_pytorch.whole import write_text

DOCS = Path(__file__).parents[1] / "docs"
PHOTOGRAPHS = ("astronaut", "brick", "chelsea", "coffee", "grass", "gravel", "ihc", "motorcycle_left", "rocket")
TILE, LARGEST = 64, 640  # pixels
ITEMS_A_CLASS = 60
WIDEST_PICTURE = 800


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part of the walk: what it is about, the commands, and the pictures that they leave, with what they show."""

    title: str
    text: str
    commands: tuple[str, ...]
    pictures: tuple[tuple[str, str], ...]


PARTS = (
    Part(
        title="Photographs, a folder a class",
        text="Nine photographs in tiles of 64 x 64 pixels, `tiles/<photograph>/*.jpg`. What is in the folder?",
        commands=(
            "swin data tiles/ --picture tiles.png",
            "swin train finetune --data.root tiles/ --model.name fashion --model.in_channels 3 "
            "--data.image_size 56 --schedule.epochs 15 --output runs/tiles",
            "swin evaluate --weights runs/tiles/model.safetensors --data.root tiles/ --data.split val",
            "swin predict --weights runs/tiles/best.ckpt tiles/coffee/00.jpg tiles/grass/10.jpg --top-k 2",
        ),
        pictures=(
            ("runs/tiles/validation.png", "Validation tiles, with truth and answer"),
            ("runs/tiles/curves.png", "Loss and accuracy"),
        ),
    ),
    Part(
        title="Classes chosen and merged",
        text="Clothes as JPEGs, `clothes/<class>/*.jpg`, of which three kinds are to be told apart. The model in the "
        "package has seen such items; only its head is new here, and only it learns.",
        commands=(
            "swin train finetune --data.root clothes/ --model.name fashion --model.in_channels 1 "
            "--data.classes \"{shoes: [Sandal, Sneaker, Ankle boot], bags: [Bag], worn: ['*']}\" "
            "--data.sampling balanced --trainer.freeze all_but_head --schedule.epochs 5 --output runs/clothes",
            "swin predict --weights runs/clothes/best.ckpt clothes/Sandal/00.jpg clothes/Bag/00.jpg",
        ),
        pictures=(("runs/clothes/validation.png", "Validation images, with truth and answer"),),
    ),
    Part(
        title="Boxes and masks",
        text="Scenes with annotations in COCO's format, 100 to learn from. The three kinds of shoes become one class. "
        "The recipe's learning rate is for Swin-T; so small a model with new classes learns with a larger one.",
        commands=(
            "swin scenes scenes/ --train 100 --val 30",
            "swin data scenes/ --task detection --picture objects.png",
            "swin train finetune_detection --data.root scenes/ --model.name scenes_detection "
            "--data.classes \"{shoe: [Sandal, Sneaker, Ankle boot], clothing: ['*']}\" --optimizer.lr 5.0e-4 "
            "--schedule.epochs 8 --output runs/objects",
            "swin evaluate --weights runs/objects/model.safetensors --data.root scenes/ "
            "--data.classes \"{shoe: [Sandal, Sneaker, Ankle boot], clothing: ['*']}\"",
            "swin predict --weights runs/objects/best.ckpt scenes/val/000000.png scenes/val/000001.png "
            "--pictures found/",
        ),
        pictures=(
            ("runs/objects/validation.png", "Truth at the left, what was found at the right"),
            ("runs/objects/curves.png", "Losses and AP"),
        ),
    ),
    Part(
        title="Label maps",
        text="The same scenes, with a label PNG each and `classes.txt`; three classes are made of eleven.",
        commands=(
            "swin data scenes/ --task segmentation --picture maps.png",
            "swin train finetune_segmentation --data.root scenes/ --model.name scenes_segmentation "
            "--data.classes \"{ground: [ground], shoe: [Sandal, Sneaker, Ankle boot], clothing: ['*']}\" "
            "--optimizer.lr 2.0e-3 --schedule.epochs 20 --output runs/maps",
            "swin evaluate --weights runs/maps/model.safetensors --data.root scenes/ "
            "--data.classes \"{ground: [ground], shoe: [Sandal, Sneaker, Ankle boot], clothing: ['*']}\"",
        ),
        pictures=(("runs/maps/validation.png", "Truth at the left, the model's map at the right"),),
    ),
)


def write_tiles(folder: Path) -> None:
    """Each photograph's tiles, at most 640 x 640 pixels of it, as JPEGs."""
    spec = util.find_spec("skimage")
    if spec is None or spec.origin is None:
        raise SystemExit("the photographs are scikit-image's: pip install scikit-image")
    for name in PHOTOGRAPHS:
        photograph = Image.open(
            Path(spec.origin).parent / "data" / f"{name}.png"
            if name != "rocket"
            else Path(spec.origin).parent / "data" / "rocket.jpg"
        ).convert("RGB")
        (folder / name).mkdir(parents=True)
        number = 0
        for top in range(0, min(photograph.height, LARGEST) - TILE + 1, TILE):
            for left in range(0, min(photograph.width, LARGEST) - TILE + 1, TILE):
                tile = photograph.crop((left, top, left + TILE, top + TILE))
                tile.save(folder / name / f"{number:02}.jpg", quality=92)
                number += 1


def write_clothes(folder: Path) -> None:
    sample = FashionSample("train")
    for label, name in enumerate(sample.classes):
        (folder / name.replace("/", " or ")).mkdir(parents=True)
        for number, place in enumerate(np.flatnonzero(sample.labels == label)[:ITEMS_A_CLASS]):
            sample[int(place)][0].save(folder / name.replace("/", " or ") / f"{number:02}.jpg", quality=95)


def run(command: str, folder: Path) -> tuple[str, float]:
    """What a command prints, both streams as they come, and its seconds. It has to succeed."""
    start = time.perf_counter()
    words = [sys.executable, "-m", "swin_transformer_pytorch", *shlex.split(command)[1:]]
    done = subprocess.run(
        words,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "110"},
    )
    if done.returncode:
        raise SystemExit(f"{command}\nended with {done.returncode}:\n{done.stdout}")
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n"), time.perf_counter() - start


def first_validation(command: str, folder: Path) -> str:
    """When a training had its first validation, after its start."""
    words = shlex.split(command)
    if words[1] != "train":
        return ""
    line = (folder / words[words.index("--output") + 1] / "history.jsonl").read_text().partition("\n")[0]
    return f"; the first epoch, with its validation, took {json.loads(line)['seconds']:.0f} s"


def walk(folder: Path, images: Path | None) -> str:
    """All parts, as a page; pictures go to `images`."""
    write_tiles(folder / "tiles")
    write_clothes(folder / "clothes")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "torchvision"))
    page = [
        "# The first hour",
        "",
        f"Written by `python tools/first_hour.py --docs` on {date.today().isoformat()}: {os.cpu_count()} cores, "
        f"{platform.machine()}, {versions}, no network. Commands, what they print, and how long they take.",
        "",
    ]
    for part in PARTS:
        page += [f"## {part.title}", "", part.text, ""]
        for command in part.commands:
            print(f"$ {command}", flush=True)
            output, seconds = run(command, folder)
            print(f"{output}\n({seconds:.0f} s)\n", flush=True)
            took = f"{seconds:.0f} s" + first_validation(command, folder)
            page += ["<!-- long -->", "```sh", command, "```", "", "```text", output, "```", "", took, ""]
        for path, text in part.pictures:
            name = f"first-hour-{path.replace('runs/', '').replace('/', '-')}"
            if images is not None:
                picture = Image.open(folder / path).convert("RGB")
                picture.thumbnail((WIDEST_PICTURE, 10 * WIDEST_PICTURE))
                picture.quantize(128).save(images / name, optimize=True)
            page += [f"![{text}](../images/{name})", ""]
    return "\n".join(page).rstrip() + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, metavar="DIR", help="where all is made, which must not be there yet")
    parser.add_argument("--docs", action="store_true", help="write docs/guide/first-hour.md and its pictures")
    options = parser.parse_args()
    folder = options.out or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=options.out is None)
    page = walk(folder, DOCS / "images" if options.docs else None)
    if options.docs:
        write_text(DOCS / "guide" / "first-hour.md", page)
    if options.out is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
