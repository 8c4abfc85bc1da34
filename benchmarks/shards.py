"""How many images a second one core prepares from shards, beside the same images in folders.

    python benchmarks/shards.py                       2,000 photos of 500 x 375 pixels, about ten minutes
    python benchmarks/shards.py --images 500 --rounds 3

The images are photographs' likes: smoothed noise with edges, saved so that a file has about 76 kB, as ImageNet's have.
Each way takes turns with the others, in this process and on one thread, in the order of an epoch. Counted is processor
time of this process, the system's share included, so that others on the machine disturb little; where files are not in
memory it is the time on the clock, and of folders the names are still in memory then.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import io
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter

from swin_transformer_pytorch.data.classification.augmentation import Augmentation
from swin_transformer_pytorch.data.classification.folder import ImageFolder
from swin_transformer_pytorch.data.classification.shards import ShardImages
from swin_transformer_pytorch.data.shards.options import ShardOptions
from swin_transformer_pytorch.data.shards.order import WindowedOrder
from swin_transformer_pytorch.data.shards.pack import Files, pack
from swin_transformer_pytorch.data.transforms import create_transform
from swin_transformer_pytorch.training.engine.sampling import EpochBatches
from swin_transformer_pytorch.training.engine.seeding import Stream, generator
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

RESULTS = Path(__file__).parent / "results"
CLASSES = 20
BATCH = 50
SHARD_BYTES = 10_000_000


def photo(seed: int) -> bytes:
    """A JPEG of about 76 kB."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(
        (500, 375), Image.Resampling.BICUBIC
    )
    fine = Image.fromarray(rng.integers(0, 256, (375, 500, 3), dtype=np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
    file = io.BytesIO()
    Image.blend(coarse, fine, 0.47).save(file, "JPEG", quality=90)
    return file.getvalue()


def make(root: Path, images: int) -> tuple[Path, Path]:
    """Folders of a class each, and shards of them."""
    folders, shards = root / "folders", root / "shards"
    for number in range(images):
        path = folders / f"class{number % CLASSES:02d}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(number))
    train = ImageFolder(folders, "train", val_fraction=0)
    pack(
        {"train": Files(paths=train.paths, labels=train.labels)},
        folders,
        shards,
        classes=train.classes,
        shard_bytes=SHARD_BYTES,
    )
    return folders, shards


def forget(root: Path) -> None:
    """Has the system drop what it holds of these files in memory."""
    for path in root.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def ways(folders: Path, shards: Path) -> dict[str, tuple[dict[str, Callable[[], int]], bool]]:
    """What is measured: {way: ({of what: does it, and says for how many images}, whether by the clock)}."""
    sets: dict[str, Any] = {
        "folders": ImageFolder(folders, "train", val_fraction=0),
        "shards": ShardImages(shards, "train", val_fraction=0, options=ShardOptions(window=4)),
    }
    official = create_transform(Preprocessing.imagenet((224, 224)), train=True, augment=Augmentation())
    windowed = EpochBatches(len(sets["shards"]), BATCH, seed=0, order=sets["shards"].order(BATCH))
    orders = {"shards": [index for batch in windowed for index in batch]}
    # Files are read in the order of an epoch of folders; what is made of them, in the same order as from shards.
    place = {Path(path).name: index for index, path in enumerate(sets["folders"].paths)}
    same = [place[sets["shards"].paths[index].filename.rpartition("/")[2]] for index in orders["shards"]]
    orders["folders"] = [index for batch in EpochBatches(len(sets["folders"]), BATCH, seed=0) for index in batch]

    def read(name: str) -> int:
        paths = sets[name].paths
        for index in orders[name]:
            if name == "shards":
                paths.read(index)
            else:
                Path(paths[index]).read_bytes()
        return len(orders[name])

    def images(name: str, count: int) -> Iterator[Any]:
        for index in (same if name == "folders" else orders[name])[:count]:
            yield sets[name][index][0]

    def decode(name: str) -> int:
        return sum(1 for _ in images(name, 500))

    def train(name: str) -> int:
        for number, image in enumerate(images(name, 200)):
            torch.manual_seed(number)
            official(image)
        return 200

    made: dict[str, tuple[Callable[[str], int], bool]] = {
        "reading, files in memory": (read, False),
        "reading and decoding": (decode, False),
        "the official training transform, 224 pixels": (train, False),
        "reading, files not in memory, by the clock": (read, True),
    }
    return {
        way: ({name: (lambda do=do, name=name: do(name)) for name in sets}, clock) for way, (do, clock) in made.items()
    }


def measure(folders: Path, shards: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Images a second of each way, round by round."""
    roots = {"folders": folders, "shards": shards}
    found: dict[str, dict[str, list[float]]] = {}
    for way, (takers, by_clock) in ways(folders, shards).items():
        found[way] = {name: [] for name in takers}
        for number in range(-1, rounds):
            for name, take in [*takers.items()][:: 1 if number % 2 else -1]:
                if by_clock:
                    forget(roots[name])
                clock = time.perf_counter if by_clock else time.process_time
                start = clock()
                count = take()
                if number >= 0:  # the first is a warm-up
                    found[way][name].append(count / (clock() - start))
    return found


def table(found: dict[str, dict[str, list[float]]]) -> str:
    lines = [
        "| images a second of one core | folders | shards | shards over folders (rounds' range) |",
        "| --- | ---: | ---: | ---: |",
    ]
    for way, rates in found.items():
        ratios = [one / other for one, other in zip(rates["shards"], rates["folders"], strict=True)]
        folder, shard = (statistics.median(rates[name]) for name in ("folders", "shards"))
        spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
        lines.append(f"| {way} | {folder:,.0f} | {shard:,.0f} | {statistics.median(ratios):.2f} ({spread}) |")
    return "\n".join(lines)


def mixing(window: int | None) -> tuple[float, float]:
    """Of an order of ImageNet-1K's size: the classes of a batch, and how often two images of one are in one again.

    The latter in the next epoch, over how often it would be in any order.
    """
    shards, each, batch, classes = 1280, 1000, 1024, 1000
    class_of = np.random.default_rng(0).permutation(np.repeat(np.arange(classes), shards * each // classes))
    order = WindowedOrder(np.full(shards, each), window=window, global_batch=batch)
    rows = []
    for number in (0, 1):
        epoch = order.epoch(functools.partial(generator, Stream.ORDER, 0), number)
        rows.append(np.stack([epoch.places(step * batch, batch) for step in range(len(order) // batch)]))
    seen = np.mean([len(np.unique(class_of[row])) for row in rows[0]])
    batch_of = np.empty(shards * each, dtype=np.int64)
    batch_of[rows[1].ravel()] = np.repeat(np.arange(len(rows[1])), batch)
    pairs = sum(int((count * (count - 1)).sum()) for count in (np.bincount(batch_of[row]) for row in rows[0]))
    share = pairs / (len(rows[0]) * batch * (batch - 1))
    return float(seen), share * len(rows[0])


def mixing_table() -> str:
    lines = ["| window, shards of 1,000 images | classes of a batch | pairs that meet again, over any order |"]
    lines.append("| --- | ---: | ---: |")
    for window in (1, 4, 16, 64, None):
        seen, again = mixing(window)
        lines.append(f"| {window or 'all 1,280'} | {seen:.0f} | {again:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folders, shards = make(Path(name), options.images)
        sizes = [path.stat().st_size for path in folders.rglob("*.jpg")]
        mean = sum(sizes) / len(sizes) / 1000
        overhead = sum(path.stat().st_size for path in shards.iterdir()) / sum(sizes) - 1
        found = measure(folders, shards, options.rounds)
    processor = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.processor(),
    )
    day = datetime.date.today().isoformat()
    versions = f"torch {torch.__version__}, Pillow {Image.__version__}, Python {platform.python_version()}"
    text = f"""# Shards beside folders, {day}

{processor}, one thread; {versions}. {options.images:,} JPEGs of 500 x 375 pixels,
{mean:.0f} kB each on average; shards are {overhead:.1%} larger. Medians of {options.rounds} rounds that take turns.

{table(found)}

Mixing: 1.28 million images of 1,000 classes, packed in random order, steps of 1,024 images.

{mixing_table()}
"""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{day}-shards.md").write_text(text)
    (RESULTS / f"{day}-shards.json").write_text(json.dumps(found, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
