"""Writes a data set of scenes: Fashion-MNIST items at any place, size and rotation, overlapping, on textured grounds.

  swin scenes scenes/
  swin scenes scenes/ --train 1000 --val 200 --image-size 160 --seed 7

It can be trained on as a COCO folder (boxes and masks, or panoptic segments) and as image and label folders
(segmentation):

  scenes/train/000000.png                      scenes/val/000000.png
  scenes/annotations/instances_train.json      scenes/annotations/instances_val.json
  scenes/annotations/panoptic_train.json       scenes/annotations/panoptic_val.json
  scenes/annotations/panoptic_train/000000.png and so on, the PNGs of segments
  scenes/labels/train/000000.png               scenes/labels/val/000000.png
  scenes/classes.txt

The items are those in the package, or with --data.root all of Fashion-MNIST; those of validation come from its test
images. The same options give the same scenes. Nothing is overwritten.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from . import terminal

if TYPE_CHECKING:
    from ..data.scenes.dataset import SceneDataset
    from ..data.scenes.files import SceneFiles


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import NonNegativeInt, restricted_number_type

    side = restricted_number_type("SceneSide", int, (">=", 32), docstring="a whole number of pixels, at least 32")
    parser.add_argument("output", metavar="OUTPUT", help="the folder to write, made where it is missing")
    parser.add_argument("--train", type=NonNegativeInt, default=200, metavar="N", help="scenes for training")
    parser.add_argument("--val", type=NonNegativeInt, default=50, metavar="N", help="scenes for validation")
    parser.add_argument("--image-size", type=side, default=128, metavar="N", help="pixels of a scene's side")
    parser.add_argument("--seed", type=NonNegativeInt, default=0, metavar="S", help="chooses the scenes")
    parser.add_argument(
        "--data.root", metavar="DIR", help="the folder with Fashion-MNIST's four files, for all of its items"
    )


def run(options: argparse.Namespace) -> int:
    from ..data.scenes.dataset import open_scenes
    from ..data.scenes.files import check_free, write_scenes
    from .errors import UsageError

    counts = {"train": options.train, "val": options.val}
    if not any(counts.values()):
        raise UsageError("--train 0 and --val 0 leave no scenes to write; ask for some")
    folder = Path(options.output)
    scenes: dict[str, SceneDataset] = {}
    for split in ("train", "val"):
        if counts[split]:
            check_free(folder, split)
            scenes[split] = open_scenes(
                "scenes" if options.data.root else "scenes_sample",
                "train" if split == "train" else "val",
                num_scenes=counts[split],
                root=options.data.root,
                seed=options.seed,
                image_size=(options.image_size, options.image_size),
            )
    output = terminal.output()
    table = terminal.table(
        "part", "scenes", "objects", "pictures", "boxes and masks", "segments", "label maps", numbers=slice(1, 3)
    )
    for split, made in scenes.items():
        files = write_scenes(made, folder, split, progress=partial(_progress, split=split))
        table.add_row(split, str(len(made)), str(files.num_objects), *_shown(files))
    output.print(table)
    ground = f"in label maps and segments also {made.semantic_classes[-1]} ({files.classes})"
    output.print(f"classes: {', '.join(made.classes)}; {ground}")
    return 0


def _progress(indices: range, split: str) -> Iterable[int]:
    return terminal.progress(indices, len(indices), f"composing {split}")


def _shown(files: SceneFiles) -> tuple[str, str, str, str]:
    return f"{files.images}/", str(files.annotations), str(files.panoptic), f"{files.labels}/"
