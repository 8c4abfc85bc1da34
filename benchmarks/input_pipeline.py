"""How many images a second one core prepares, beside timm's and torchvision's pipelines.

    python benchmarks/input_pipeline.py                    1,000 photos' likes of 500 x 375 pixels, about ten minutes
    python benchmarks/input_pipeline.py --images 200 --rounds 5
    python benchmarks/input_pipeline.py --folder photos    own JPEGs, in folders of classes

Each pipeline goes from files to batches of 64 normalised images of 224 x 224 pixels, mixed where that belongs to the
recipe, and takes turns with the others in this process and on one thread. Counted is processor time of this process,
the system's share included, so that others on the machine disturb little. Ratios are of one round each. The images are
those of benchmarks/shards.py: smoothed noise with edges, about 76 kB, as ImageNet's have. A second table has decoders,
a third where our time goes.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import io
import json
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import timm.data
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate
from torchvision.datasets import ImageFolder as TorchvisionFolder
from torchvision.transforms import v2

from shards import photo
from swin_transformer_pytorch.data.classification.augmentation import Augmentation
from swin_transformer_pytorch.data.classification.dataset import EvaluationDataset, TrainingDataset
from swin_transformer_pytorch.data.classification.folder import ImageFolder
from swin_transformer_pytorch.data.classification.transforms import normalize
from swin_transformer_pytorch.data.images.decode import read_image
from swin_transformer_pytorch.data.images.jpeg import decode, decoder, read_header
from swin_transformer_pytorch.data.transforms import create_transform
from swin_transformer_pytorch.evaluation.classification import collate_usable
from swin_transformer_pytorch.ops.cpu import resample
from swin_transformer_pytorch.training.engine.sampling import collate_images
from swin_transformer_pytorch.training.tasks.classification.mixup import mix
from swin_transformer_pytorch.weights.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

RESULTS = Path(__file__).parent / "results"
CLASSES = 10
BATCH = 64
SIDE = 224
POLICY = "rand-m9-mstd0.5-inc1"
PLAIN = Augmentation(color_jitter=0.0, auto_augment=None, erase_prob=0.0, mixup=0.0, cutmix=0.0)
KINDS = {
    "recipe": "training: crop, flip, RandAugment, erasing, mixup or CutMix",
    "plain": "training: crop and flip",
    "evaluation": "evaluation: resize, crop",
}
LIBRARIES = {
    "ours": "ours",
    "timm": "timm",
    "timm uint8": "timm, to bytes that a GPU is left to normalise",
    "torchvision": "torchvision",
}

Batch = Callable[[Sequence[int]], Tensor]


def make(root: Path, images: int) -> None:
    """Folders of a class each."""
    for number in range(images):
        path = root / f"class{number % CLASSES:02d}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo(number))


def targets_of(labels: Tensor, classes: int) -> Tensor:
    return torch.nn.functional.one_hot(labels, classes).float()


def ours(root: Path, kind: str) -> Batch:
    """The package's data sets and collators, as `swin train` and `swin evaluate` put them together."""
    base, preprocessing = ImageFolder(root, "train", val_fraction=0), Preprocessing.imagenet(SIDE)
    if kind == "evaluation":
        evaluated = EvaluationDataset(base, create_transform(preprocessing))

        def measured(indices: Sequence[int]) -> Tensor:
            images, _, _ = collate_usable(evaluated.__getitems__(indices))
            assert images is not None
            return images

        return measured
    augmentation = Augmentation() if kind == "recipe" else PLAIN
    dataset = TrainingDataset(base, create_transform(preprocessing, train=True, augment=augmentation))
    generator = np.random.default_rng(0)

    def trained(indices: Sequence[int]) -> Tensor:
        images, labels = collate_images(dataset.__getitems__(indices))
        return mix(images, targets_of(labels, len(base.classes)), augmentation, generator)[0]

    return trained


def retried(make: Callable[[], Any]) -> Any:
    """Of timm's policy a posterisation to 0 bits fails with today's Pillow: the image is drawn anew."""
    while True:
        try:
            return make()
        except ValueError as error:
            if "bits must be" not in str(error):
                raise


def timms(root: Path, kind: str, *, normalised: bool) -> Batch:
    """What timm's training script makes: bytes that are collated, and mixed, and normalised by its loader."""
    training = kind != "evaluation"
    recipe = {"auto_augment": POLICY} if kind == "recipe" else {"auto_augment": None, "color_jitter": None}
    transform = timm.data.create_transform(
        SIDE, is_training=training, interpolation="bicubic", use_prefetcher=True, **(recipe if training else {})
    )
    dataset = timm.data.ImageDataset(str(root), transform=transform)
    mixed = kind == "recipe"
    collate: Callable[[Any], Any] = timm.data.loader.fast_collate
    if mixed:
        collate = timm.data.FastCollateMixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=CLASSES)
    erase = timm.data.random_erasing.RandomErasing(0.25, mode="pixel", max_count=1, device="cpu")
    mean, std = (torch.tensor(values).mul(255).view(1, 3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))

    def batch(indices: Sequence[int]) -> Tensor:
        images: Tensor = collate([retried(lambda: dataset[index]) for index in indices])[0]  # noqa: B023
        if not normalised:
            return images
        images = images.float().sub_(mean).div_(std)
        return erase(images) if mixed else images

    return batch


def torchvisions(root: Path, kind: str) -> Batch:
    """Its reference scripts' transforms of PIL images, with its own RandAugment."""
    end = [v2.PILToTensor(), v2.ToDtype(torch.float, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    filter_ = v2.InterpolationMode.BICUBIC
    if kind == "evaluation":
        parts = [v2.Resize(256, filter_, antialias=True), v2.CenterCrop(SIDE), *end]
    else:
        parts = [v2.RandomResizedCrop(SIDE, interpolation=filter_, antialias=True), v2.RandomHorizontalFlip()]
        if kind == "recipe":
            parts += [v2.RandAugment(interpolation=filter_), *end, v2.RandomErasing(0.25, value="random")]
        else:
            parts += end
    dataset = TorchvisionFolder(str(root), v2.Compose(parts))
    mixers = v2.RandomChoice([v2.MixUp(alpha=0.8, num_classes=CLASSES), v2.CutMix(alpha=1.0, num_classes=CLASSES)])

    def batch(indices: Sequence[int]) -> Tensor:
        images, labels = default_collate([dataset[index] for index in indices])
        return mixers(images, labels)[0] if kind == "recipe" else images

    return batch


def pipelines(root: Path, kind: str) -> dict[str, Batch]:
    return {
        "ours": ours(root, kind),
        "timm": timms(root, kind, normalised=True),
        "timm uint8": timms(root, kind, normalised=False),
        "torchvision": torchvisions(root, kind),
    }


def decoders(paths: Sequence[Path]) -> dict[str, Callable[[bytes], Any]]:
    """By name, each from a file's bytes to its pixels."""

    def draft(data: bytes) -> Any:
        return np.asarray(read_image(data, scale=2))

    def opencv(data: bytes, flag: int) -> Any:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flag)

    def usual(data: bytes) -> Any:
        header = read_header(data)
        assert header is not None
        return decode(data, header)

    found: dict[str, Callable[[bytes], Any]] = {
        "Pillow": lambda data: np.asarray(Image.open(io.BytesIO(data))),
        "as the package decodes": usual,
        "OpenCV": lambda data: opencv(data, cv2.IMREAD_COLOR_RGB),
        "Pillow, at half the sides": draft,
        "OpenCV, at half the sides": lambda data: opencv(data, cv2.IMREAD_REDUCED_COLOR_2),
    }
    try:
        import simplejpeg
    except ImportError:
        return found
    return found | {
        "simplejpeg": lambda data: simplejpeg.decode_jpeg(data),
        "simplejpeg, fast and inexact": lambda data: simplejpeg.decode_jpeg(data, fastdct=True, fastupsample=True),
        "simplejpeg, at half the sides": lambda data: simplejpeg.decode_jpeg(data, min_height=187, min_width=250),
    }


def rounds_of(makers: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Images a second of processor time by name, round by round; each says how many it made."""
    found: dict[str, list[float]] = {name: [] for name in makers}
    for number in range(-1, rounds):
        for name, take in [*makers.items()][:: 1 if number % 2 else -1]:
            torch.manual_seed(number + 1)
            random.seed(number + 1)
            np.random.seed(number + 1)  # noqa: NPY002  # timm draws from it
            start = time.process_time()
            count = take()
            if number >= 0:  # the first is a warm-up
                found[name].append(count / (time.process_time() - start))
    return found


def measure(root: Path, count: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Images a second of each kind of pipeline and each library."""
    found = {}
    for kind in KINDS:
        starts = range(0, count - BATCH + 1, BATCH)
        order = np.random.default_rng(0).permutation(count).tolist()

        def take(batch: Batch, starts: range = starts, order: list[int] = order) -> int:
            for start in starts:
                batch(order[start : start + BATCH])
            return len(starts) * BATCH

        makers = {name: functools.partial(take, batch) for name, batch in pipelines(root, kind).items()}
        found[kind] = rounds_of(makers, rounds)
    return found


def decoding(root: Path, rounds: int) -> dict[str, list[float]]:
    """Images a second of each decoder."""
    paths = sorted(root.glob("*/*.jp*g"))[:200]
    contents = [path.read_bytes() for path in paths]

    def take(one: Callable[[bytes], Any]) -> int:
        for data in contents:
            one(data)
        return len(contents)

    return rounds_of({name: functools.partial(take, one) for name, one in decoders(paths).items()}, rounds)


def profile(root: Path, rounds: int) -> dict[str, float]:
    """Microseconds an image of the parts of our own pipelines."""
    contents = [path.read_bytes() for path in sorted(root.glob("*/*.jp*g"))[:100]]
    headers = [read_header(data) for data in contents]
    images = [np.ascontiguousarray(read_image(data)) for data in contents]
    preprocessing = Preprocessing.imagenet(SIDE)
    training = create_transform(preprocessing, train=True, augment=Augmentation())
    evaluation = create_transform(preprocessing)
    crops = [resample.resize(image, (SIDE, SIDE), "bicubic") for image in images]
    normal = torch.randn(3, SIDE, SIDE)
    change = training._colour
    parts: dict[str, Callable[[int], Any]] = {
        "decoding": lambda i: decode(contents[i], headers[i]),  # type: ignore[arg-type]
        "evaluation: resize, crop, normalise": lambda i: evaluation(images[i]),
        "training: random crop, resize": lambda i: resample.resize(
            images[i][20:320, 60:400], (SIDE, SIDE), "bicubic", flip=bool(i % 2)
        ),
        "training: RandAugment": lambda i: change(crops[i]),  # type: ignore[misc]
        "training: normalise": lambda i: normalize(crops[i], preprocessing),
        "training: erase, one in four": lambda i: training.erase(normal) if i % 4 == 0 else None,
    }

    def take(one: Callable[[int], Any]) -> int:
        for i in range(len(images)):
            one(i)
        return len(images)

    found = rounds_of({name: functools.partial(take, one) for name, one in parts.items()}, rounds)
    return {name: 1e6 / statistics.median(rates) for name, rates in found.items()}


def tables(
    found: dict[str, dict[str, list[float]]], decoded: dict[str, list[float]], parts: dict[str, float]
) -> Iterator[str]:
    yield "| images a second of one core | " + " | ".join(LIBRARIES.values()) + " |"
    yield "| --- |" + " ---: |" * len(LIBRARIES)
    for kind, rates in found.items():
        yield f"| {KINDS[kind]} | " + " | ".join(f"{statistics.median(rates[name]):,.0f}" for name in LIBRARIES) + " |"
    yield ""
    others = [name for name in LIBRARIES if name != "ours"]
    yield "| ours over theirs (rounds' range) | " + " | ".join(LIBRARIES[name] for name in others) + " |"
    yield "| --- |" + " ---: |" * len(others)
    for kind, rates in found.items():
        cells = []
        for name in others:
            ratios = [one / other for one, other in zip(rates["ours"], rates[name], strict=True)]
            cells.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        yield f"| {KINDS[kind]} | " + " | ".join(cells) + " |"
    yield ""
    yield "| decoder | images a second | over Pillow |"
    yield "| --- | ---: | ---: |"
    for name, rates in decoded.items():
        ratios = [one / other for one, other in zip(rates, decoded["Pillow"], strict=True)]
        yield f"| {name} | {statistics.median(rates):,.0f} | {statistics.median(ratios):.2f} |"
    yield ""
    yield "| part of our time | microseconds an image |"
    yield "| --- | ---: |"
    for name, microseconds in parts.items():
        yield f"| {name} | {microseconds:,.0f} |"


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.processor())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, help="JPEGs of one's own, in folders of classes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name:
        root = options.folder or Path(name)
        if options.folder is None:
            make(root, options.images)
        sizes = [path.stat().st_size for path in sorted(root.glob("*/*.jp*g"))]
        found = measure(root, len(sizes), options.rounds)
        decoded, parts = decoding(root, options.rounds), profile(root, options.rounds)
    day = datetime.date.today().isoformat()
    what = f"of {options.folder.name}" if options.folder else "of 500 x 375 pixels"
    vectors = torch.backends.cpu.get_cpu_capability()
    text = f"""# Preparing images, one core, {day}

{processor()} ({vectors}), one thread; torch {torch.__version__}, torchvision {torchvision.__version__}, timm
{version("timm")}, Pillow {Image.__version__}, OpenCV {cv2.__version__}, Python {platform.python_version()}. Ours
decodes by {"Pillow" if (found_decoder := decoder()) is None else found_decoder.name}.
{len(sizes):,} JPEGs {what}, {sum(sizes) / len(sizes) / 1000:.0f} kB each on average. Medians of {options.rounds} rounds
that take turns. From files in memory to batches of {BATCH} of {SIDE} x {SIDE} pixels.

{chr(10).join(tables(found, decoded, parts))}
"""
    if options.folder is None:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{day}-input-pipeline.md").write_text(text)
        kept = {"pipelines": found, "decoders": decoded, "parts": parts}
        (RESULTS / f"{day}-input-pipeline.json").write_text(json.dumps(kept, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
