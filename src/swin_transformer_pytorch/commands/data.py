"""Tells what a folder of your images holds, before any training: layout, parts, classes, sizes, problems.

  swin data my_data/
  swin data my_data/ --picture look.png           some images with their annotations drawn
  swin data my_data/ --data.classes "{vehicle: [car, truck], person: [person]}"

Objects: COCO, YOLO, Pascal VOC, labelme, Label Studio, CVAT. Label maps: PNGs beside images, ADE20K, Pascal VOC,
Cityscapes, Roboflow. Segments: COCO's panoptic format, label and instance PNGs. Classes: a folder each, or several an
image in a CSV or JSON; shards (`swin shards`), also in a store.
The last line is the command that trains on it.
"""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING, get_args

from ..checks import plural
from ..data.errors import some
from ..models.config import Task
from ..training.recipes.proposals import FINE_TUNING
from . import terminal
from .data_look import MOST_SEGMENTS
from .errors import EXIT_SOME_BAD, UsageError
from .evaluate import FOLDERS, add_data_choices

if TYPE_CHECKING:
    from rich.table import Table

    from .data_look import Look, Part

_FEW = 20  # images, objects or segments of a class
_NAMED = 5  # problems of a kind


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import PositiveInt

    parser.add_argument("folder", metavar="FOLDER", help="what `swin train` gets as --data.root")
    parser.add_argument("--task", choices=get_args(Task), help="look for data of this task alone")
    parser.add_argument(
        "--data.kind", choices=FOLDERS, default="folder", help="the layout, where it is not to be found out"
    )
    add_data_choices(parser)
    parser.add_argument(
        "--data.labels",
        metavar="FILE",
        help="several labels an image: their file, if it has a name of its own",
    )
    parser.add_argument(
        "--data.white_level",
        type=PositiveInt,
        metavar="N",
        help="the value of white in image files of 16 bits, such as 4095 where 12 are used (default: as they look)",
    )
    parser.add_argument("--images", type=PositiveInt, default=1000, metavar="N", help="how many of a part are read")
    parser.add_argument("--picture", metavar="FILE", help="where to draw some images with their annotations")


def run(options: argparse.Namespace) -> int:
    from ..visualize import picture_grid
    from .data_parts import likely_white, look, read_part, samples_drawn, take_white

    output = terminal.output()
    looks = look(options.folder, options.data, options.task)
    bad = False
    for one in looks:
        take_white(one, options.data.white_level)
        for name, part in one.parts.items():
            total = min(options.images, len(part.samples))
            for _ in terminal.progress(read_part(part, one.task, options.images), total, f"reading {name}"):
                pass
        output.print(f"{options.folder}: {one.task}, {one.layout}")
        output.print(_parts_table(one))
        if one.classes:
            output.print(_class_table(one))
        problems = [*_problems(one)]
        white = options.data.white_level or likely_white(one)
        if white != options.data.white_level:
            text = "images of 16 bits with values of at most {:,}, which is taken for white: --data.white_level {}"
            problems.append(text.format(white, white))
            take_white(one, white)
        bad = bad or any(part.problems for part in one.parts.values())
        for problem in problems:
            output.print(f"- {problem}")
        if one.classes or one.is_unlabelled:
            output.print(f"next: {_next(one, options, white)}")
    if options.picture is not None:
        drawn = [pair for one in looks for pair in samples_drawn(one)]
        if not drawn:
            raise UsageError(f"none of the images in {options.folder} can be read, so there is no picture to draw")
        picture_grid([picture for _, picture in drawn], options.picture, titles=[title for title, _ in drawn])
        terminal.notes().print(f"picture: {options.picture}")
    return EXIT_SOME_BAD if bad else 0


def _parts_table(one: Look) -> Table:
    unit = one.unit
    table = terminal.table("part", "images", unit, "smallest", "median", "largest", numbers=slice(1, None))
    for name, part in one.parts.items():
        sizes = sorted(part.sizes, key=lambda size: size[0] * size[1])
        chosen = [sizes[0], sizes[len(sizes) // 2], sizes[-1]] if sizes else []
        shown = [f"{width} x {height}" for height, width in chosen] or ["", "", ""]
        table.add_row(name, f"{len(part.samples):,}", f"{part.counts.total():,}", *shown)
    return table


def _class_table(one: Look) -> Table:
    """The rarest class first."""
    of_segments = one.task == "panoptic"
    kinds = ("kind",) * of_segments
    table = terminal.table("class", *one.parts, *kinds, "", numbers=slice(1, 1 + len(one.parts)))
    things = one.things if of_segments else ()
    whole = next(iter(one.parts.values()))
    for name in sorted(one.classes, key=lambda name: whole.counts[name]):
        count = whole.counts[name]
        few = "none" if count == 0 else "few" if count < _FEW and one.task != "segmentation" else ""
        kind = ("thing" if name in things else "stuff",) * of_segments
        table.add_row(name, *(f"{part.counts[name]:,}" for part in one.parts.values()), *kind, few)
    return table


def _problems(one: Look) -> list[str]:
    from .data_parts import same_in_classes, twice

    lines: list[str] = []
    for name, part in one.parts.items():
        if part.read < len(part.samples):
            lines.append(f"{name}: {part.read:,} of {plural(len(part.samples), 'image')} read; --images N reads more")
        lines += [f"{name}: {problem}" for problem in part.problems[:_NAMED]]
        if len(part.problems) > _NAMED:
            lines.append(f"{name}: and {plural(len(part.problems) - _NAMED, 'more image')} that cannot be used")
        lines += _counted(name, part, one)
        missing = [label for label in one.classes if not part.counts[label]]
        if missing:
            lines.append(f"{name}: nothing of {len(missing)} of {len(one.classes)} classes: {some(missing)}")
    pairs = twice(one.parts)
    lines += [f"the same image in two parts: {first} and {second}" for first, second in pairs[:_NAMED]]
    if len(pairs) > _NAMED:
        lines.append(f"and {plural(len(pairs) - _NAMED, 'more image')} in two parts")
    pairs = same_in_classes(one)
    lines += [f"the same image in two classes: {first} and {second}" for first, second in pairs[:_NAMED]]
    if len(pairs) > _NAMED:
        lines.append(f"and {plural(len(pairs) - _NAMED, 'more image')} in two classes")
    spellings: dict[str, list[str]] = {}
    for name in one.classes:
        spellings.setdefault(name.casefold().strip(), []).append(name)
    lines += [f"classes that differ in capitals alone: {some(names)}" for names in spellings.values() if names[1:]]
    if "val" not in one.parts:
        share = "one image in a hundred" if one.is_unlabelled else "a fifth"
        lines.append(f"there is no part for validation: `swin train` holds out {share} (--data.val_fraction)")
    return lines


def _counted(name: str, part: Part, one: Look) -> list[str]:
    total, pixels = part.counts.total(), sum(height * width for height, width in part.sizes)
    keep = "; --data.keep_empty true has training keep them" if one.task == "detection" else ""
    rest = "; --data.background true makes those of no object a class" if "drawn" in one.layout else ""
    lines = {
        f"{plural(part.empty, 'image')} without {one.unit} of a class{keep}": part.empty,
        f"{part.tiny:,} of {total:,} boxes have a side below 8 pixels": part.tiny,
        f"{part.ignored / max(1, pixels):.1%} of the pixels are ignored{rest}": part.ignored,
        f"{plural(part.crowds, 'crowd')}, which training leaves out and evaluation ignores": part.crowds,
        f"{plural(part.many, 'image')} with more than {MOST_SEGMENTS} segments, which a Mask2Former finds at most (the "
        "large ones: 200)": part.many,
    }
    return [f"{name}: {line}" for line, count in lines.items() if count]


def _next(one: Look, options: argparse.Namespace, white: int | None) -> str:
    recipe = FINE_TUNING["pretraining" if one.is_unlabelled else one.task]
    words = ["swin", "train", recipe, "--data.root", options.folder]
    if options.data.kind != "folder":
        words += ["--data.kind", options.data.kind]
    if options.data.classes is not None:
        import yaml

        words += ["--data.classes", yaml.safe_dump(options.data.classes, default_flow_style=True, width=10**6).strip()]
    if options.data.labels is not None:
        words += ["--data.kind", "multi_label"] * (options.data.kind == "folder") + [
            "--data.labels",
            options.data.labels,
        ]
    if options.data.label_suffix is not None:
        words += ["--data.label_suffix", options.data.label_suffix]
    if white is not None:
        words += ["--data.white_level", str(white)]
    if options.data.allow_outside:
        words += ["--data.allow_outside", "true"]
    if any(part.samples.boxes_alone for part in one.parts.values() if one.task == "detection"):
        words += ["--data.box_masks", "true"]
    return shlex.join(words)
