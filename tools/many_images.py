"""Opens data sets of millions of images that are not there, and tells the time and the memory that it takes.

    python tools/many_images.py                          14.2 million, as ImageNet-22K has, about three minutes
    python tools/many_images.py --images 1000000000 --only shards      16 GB of disk in TMPDIR

Of shards the index is written, 16 bytes an image, and none of their content; of folders there are those of the
classes, and the walk through them is made up. All else is the package's own code: opening both parts, counting classes,
the first batch of an epoch, and reading labels in processes as a DataLoader forks them. Memory is what a process has
above what it had when its imports were done: resident after opening, the most meanwhile, and what each forked process
has of its own.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from swin_transformer_pytorch.data.classification import folder as folder_module
from swin_transformer_pytorch.data.classification.source import ClassificationSource
from swin_transformer_pytorch.data.shards.index import Manifest, Shard, write_manifest, write_part
from swin_transformer_pytorch.training.engine.sampling import EpochBatches

IN_SHARD = 1000
WORKERS = 4
BATCH = 128
SEED = 0


def make_shards(root: Path, images: int, classes: int) -> None:
    """An index as `swin shards` would have written it for training, with a fiftieth as many for validation."""
    rng = np.random.default_rng(0)
    parts = {}
    for name, count in (("train", images), ("val", max(IN_SHARD, images // 50))):
        counts = np.full(count // IN_SHARD, IN_SHARD)
        columns = np.empty((4, int(counts.sum())), dtype=np.uint32)
        columns[0] = np.tile(np.arange(IN_SHARD) * 150 + 3, len(counts))
        columns[1] = rng.integers(10_000, 200_000, columns.shape[1])
        columns[2] = rng.integers(0, 2**32, columns.shape[1], dtype=np.uint32)
        columns[3] = rng.integers(0, classes, columns.shape[1])
        shards = [
            Shard(name=f"{name}-{number:06d}.tar", size=77_000_000, images=IN_SHARD, sha256=f"{number:064x}")
            for number in range(len(counts))
        ]
        for shard in shards:  # which is looked for when the part is opened; a hole takes no room
            with (root / shard.name).open("wb") as file:
                file.truncate(shard.size)
        parts[name] = write_part(root, name, shards, [columns])
    write_manifest(root, Manifest(classes=tuple(f"n{number:08d}" for number in range(classes)), parts=parts))


def make_folders(root: Path, classes: int) -> None:
    """Empty class folders."""
    for number in range(classes):
        (root / f"n{number:08d}").mkdir()


def walk(images: int, classes: int) -> Any:
    """What stands for the walk through a class folder: as many names as it would find, as ImageNet has them."""
    each = images // classes

    def found(folder: Path, suffixes: object) -> Iterator[str]:
        for number in range(each):
            yield f"{folder}/{folder.name}_{number}.JPEG"

    return found


def memory(field: str) -> int:
    """MB of this process: VmRSS is what it has, VmHWM the most that it had."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) // 1024


def measure(kind: str, root: Path, images: int, classes: int) -> dict[str, Any]:
    """Opens a data set in this process; see above for what is told."""
    if kind == "folder":
        folder_module.walk_images = walk(images, classes)
    source = ClassificationSource(kind="shards" if kind == "shards" else "folder", root=str(root))
    import_all = ClassificationSource(kind="fashion_sample").open("train")  # so that no import is counted
    del import_all
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is forgotten
    before, start = memory("VmRSS"), time.perf_counter()
    train, val = source.open_both()
    opened = time.perf_counter() - start
    resident, most = memory("VmRSS") - before, memory("VmHWM") - before
    start = time.perf_counter()
    counts = np.bincount(train.labels, minlength=classes)
    order = train.order(BATCH) if kind == "shards" else None  # type: ignore[attr-defined]
    first = next(iter(EpochBatches(len(train), BATCH, seed=SEED, order=order)))
    begun = time.perf_counter() - start
    figures = {
        "images": len(train) + len(val),
        "opened_s": round(opened, 2),
        "resident_mb": resident,
        "most_mb": most,
        "counted_and_first_batch_s": round(begun, 2),
        "most_mb_with_these": memory("VmHWM") - before,
        "own_mb_of_a_worker": round(max(_in_workers(train)), 1),
    }
    assert counts.sum() == len(train) and len(first) == BATCH
    if kind == "folder":
        table = train.paths  # type: ignore[attr-defined]
        arrays = table.text.nbytes + table.ends.nbytes + train._labels.nbytes  # type: ignore[attr-defined]
        places = train.paths.places.nbytes + val.paths.places.nbytes  # type: ignore[attr-defined]
        figures["bytes_an_image_beside_its_path"] = round((arrays + places - table.text.nbytes) / figures["images"], 2)
        assert table.text is val.paths.text, "both parts share it"  # type: ignore[attr-defined]
    return figures


def _in_workers(images: Any) -> list[float]:
    """MB that forked processes have written to, after each has looked at 20,000 images' labels and names or places."""
    context = multiprocessing.get_context("fork")
    with context.Pool(WORKERS, initializer=_take, initargs=(images,)) as pool:
        return pool.map(_look, range(WORKERS), chunksize=1)


_images: Any = None


def _take(images: Any) -> None:
    global _images
    _images = images


def _look(number: int) -> float:
    before = _own()
    paths = _images.paths
    for place in np.random.default_rng(number).integers(len(_images), size=20_000).tolist():
        if hasattr(paths, "members"):
            paths.members.member(place), paths.label(place)
        else:
            paths[place], _images._labels[place]
    return _own() - before


def _own() -> float:
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_Dirty")) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=14_200_000, help="of training (folders: of both parts)")
    parser.add_argument("--classes", type=int, default=21_841)
    parser.add_argument("--only", choices=("shards", "folder"))
    parser.add_argument("--measure", metavar="DIR", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.only, Path(options.measure), options.images, options.classes)))
        return
    for kind in (options.only,) if options.only else ("shards", "folder"):
        with tempfile.TemporaryDirectory() as name:
            make = make_shards if kind == "shards" else lambda root, images, classes: make_folders(root, classes)
            make(Path(name), options.images, options.classes)
            words = ["--images", options.images, "--classes", options.classes, "--only", kind, "--measure", name]
            command = [sys.executable, __file__, *map(str, words)]
            print(kind, subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


if __name__ == "__main__":
    main()
