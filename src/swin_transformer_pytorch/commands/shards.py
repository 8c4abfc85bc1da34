"""Packs images into shards, tar files of webdataset's layout in random order, or indexes such files that there are.

  swin shards photos/ shards/                     a folder a class, as `swin train` takes it
  swin shards photos/ shards/ --unlabelled        any images, for training without labels: `swin train pretrain`
  swin shards tars/ tars/                         an index for webdataset's tar files, which stay as they are
  swin shards "https://host/train-{0000..0123}.tar" index/
  swin shards --check shards/                     reads all, and compares them with the index

  shards/shards.json                              classes and parts; what is there without it is unfinished
  shards/train-000000.tar ...                     shards/train.index.npy, 16 bytes an image
  shards/val-000000.tar ...                       shards/val.index.npy

`swin train RECIPE --data.root shards/` trains on them, also where the folder has gone to a store: s3://bucket/shards,
https://host/shards. A folder without val/ is parted as training would part it; without labels training does that
itself, of the shards. Nothing is overwritten.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from ..checks import plural
from ..data.shards.places import is_named, is_url, local_path
from ..training.recipes.proposals import FINE_TUNING
from . import terminal
from .errors import EXIT_SOME_BAD, UsageError

if TYPE_CHECKING:
    from ..data.shards.contents import ShardSet
    from ..data.shards.index import Manifest
    from ..data.shards.pack import Files

_MB = 10**6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import NonNegativeInt, PositiveInt

    parser.add_argument(
        "source", metavar="SOURCE", help="a folder of images or tar files, or the address of the latter"
    )
    parser.add_argument("output", nargs="?", metavar="OUT", help="the folder to write, made where it is missing")
    parser.add_argument("--unlabelled", action="store_true", help="pack all images below SOURCE, without classes")
    parser.add_argument("--shard-mb", type=PositiveInt, metavar="N", help="MB of images in a shard (default: 100)")
    parser.add_argument(
        "--seed", type=NonNegativeInt, metavar="S", help="of the order, and of what is held out (default: 0)"
    )
    parser.add_argument(
        "--val-fraction",
        type=float,
        metavar="F",
        help="the part of each class that becomes shards for validation where there is no val/; 0 for none (default: "
        "0.2, and without labels 0)",
    )
    parser.add_argument(
        "--class-order",
        metavar="ORDER",
        help="of class folders: natural (2 before 10), sorted (10 before 2) or a file of their names, one a line",
    )
    parser.add_argument(
        "--classes", metavar="FILE", help="of tar files: class names by index, one a line (default: their classes.txt)"
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; compare the shards in SOURCE with their index"
    )


def run(options: argparse.Namespace) -> int:
    from ..data.shards.contents import ShardSet
    from ..data.shards.existing import index_tars, read_classes
    from ..data.shards.pack import pack

    if options.check:
        if options.output is not None:
            raise UsageError(f"{options.output}: --check writes nothing; leave it out")
        return _check(ShardSet(options.source))
    if options.output is None:
        raise UsageError("where to? give the folder to write: swin shards SOURCE OUT")
    if is_url(options.output):
        raise UsageError(
            f"{options.output} is an address; write to a folder, and copy it there with the store's own tool"
        )
    if options.val_fraction is not None and not 0 <= options.val_fraction < 1:
        raise UsageError(f"--val-fraction {options.val_fraction} is not possible: use a number in [0, 1)")
    folder = local_path(options.output)
    if _has_tars(options.source):
        foreign = ("unlabelled", "class_order", "val_fraction", "shard_mb", "seed")
        values = {f"--{name.replace('_', '-')}": getattr(options, name) for name in foreign}
        if given := [name for name, value in values.items() if value is not None and value is not False]:
            raise UsageError(
                f"{', '.join(given)}: for folders of images, and {options.source} has tar files; leave it out"
            )
        classes = () if options.classes is None else read_classes(Path(options.classes))
        manifest, passed_over = index_tars(options.source, folder, classes=classes, progress=terminal.progress)
        _show(manifest, folder)
        for what, count in sorted(passed_over.items()):
            terminal.notes().print(f"passed over: {count:,} {what}" if "cut short" not in what else f"{count:,} {what}")
        return 0
    if options.classes is not None:
        raise UsageError("--classes is for tar files; the classes of folders are the folders")
    parts, names = _unlabelled(options) if options.unlabelled else _labelled(options)
    manifest, unusable = pack(
        parts,
        Path(options.source),
        folder,
        classes=names,
        seed=options.seed or 0,
        shard_bytes=(options.shard_mb or 100) * _MB,
        progress=terminal.progress,
    )
    _show(manifest, folder)
    if line := unusable.summary():
        terminal.notes().print(line)
    return EXIT_SOME_BAD if unusable.problems else 0


def _has_tars(source: str) -> bool:
    """Whether tar files are to be indexed; a `UsageError` where a folder has images as well."""
    from ..data.images.files import walk_images

    if is_url(source) or is_named(source):
        return True
    folder = local_path(source)
    if not folder.is_dir():
        raise UsageError(f"{source} is not a folder; give one of images, or of tar files")
    tar = next(folder.rglob("[!.]*.tar"), None)
    image = next(walk_images(folder), None) if tar is not None else None
    if image is not None:
        raise UsageError(
            f"{source} holds tar files, such as {tar}, and images, such as {image}; give a folder of one kind"
        )
    return tar is not None


def _labelled(options: argparse.Namespace) -> tuple[Mapping[str, Files], Sequence[str]]:
    from ..data.classification.folder import ImageFolder, guessed_order
    from ..data.classification.multi_label import has_label_file
    from ..data.errors import NothingFoundError
    from ..data.shards.pack import Files

    if has_label_file(options.source):
        raise UsageError(
            f"{options.source} has several labels an image, and shards hold one or none: train on the folder"
        )
    fraction = 0.2 if options.val_fraction is None else options.val_fraction
    train = ImageFolder(
        options.source, "train", val_fraction=fraction, seed=options.seed or 0, class_order=options.class_order
    )
    if options.class_order is None and (guess := guessed_order(train.classes)):
        terminal.notes().print(f"{options.source}: {guess.replace('--data.class_order', '--class-order')}")
    folders = {"train": train} | ({} if train.held_out and fraction == 0 else {"val": train.part("val")})
    with suppress(NothingFoundError):
        folders["test"] = train.part("test")
    for part, one in folders.items():
        if one.classes != train.classes:
            raise UsageError(f"{options.source}: {part!r} has other classes than 'train'; make the folders the same")
    return {part: Files(paths=one.paths, labels=one.labels) for part, one in folders.items()}, train.classes


def _unlabelled(options: argparse.Namespace) -> tuple[Mapping[str, Files], Sequence[str]]:
    from ..data.errors import NothingFoundError
    from ..data.shards.pack import Files
    from ..data.unlabelled.folder import UnlabelledFolder

    fraction = options.val_fraction or 0
    train = UnlabelledFolder(local_path(options.source), "train", val_fraction=fraction, seed=options.seed or 0)
    folders = {"train": train} | ({} if train.held_out and fraction == 0 else {"val": train.part("val")})
    with suppress(NothingFoundError):
        folders["test"] = train.part("test")
    return {part: Files(paths=one.paths) for part, one in folders.items()}, ()


def _check(shards: ShardSet) -> int:
    for part in shards.parts:
        contents = shards.contents(part)
        count = len(contents.members.shards)
        for _ in terminal.progress(contents.verify(), count, f"checking {part}"):
            pass
        terminal.output().print(f"{part}: {plural(count, 'shard')} as they were indexed")
    return 0


def _show(manifest: Manifest, folder: Path) -> None:
    output = terminal.output()
    table = terminal.table("part", "images", "shards", "MB", numbers=slice(1, None))
    for name, part in manifest.parts.items():
        images, size = sum(one.images for one in part.shards), sum(one.size for one in part.shards)
        table.add_row(name, f"{images:,}", f"{len(part.shards):,}", f"{size / _MB:,.1f}")
    output.print(table)
    output.print(f"classes: {len(manifest.classes):,}" if manifest.classes else "no labels")
    recipe = FINE_TUNING["classification" if manifest.classes else "pretraining"]
    output.print(f"next: {shlex.join(['swin', 'train', recipe, '--data.root', str(folder)])}")
