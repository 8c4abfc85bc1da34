"""Photos in folders, one folder a class: a person's own, or ImageNet's layout."""

from __future__ import annotations

import copy
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...checks import plural
from ...names import by_name
from ..choice import ClassChoice, choose_classes
from ..errors import DataError, NothingFoundError, some
from ..held_out import PART_NAMES, Split
from ..images.decode import IMAGE_SUFFIXES
from ..images.decoding import Decoding
from ..images.files import INPUT_SUFFIXES, find_inputs, tell_arrays, walk_images
from ..images.path_table import PathCollector, PathTable
from .files import LabelledFiles

__all__ = ["DataError", "ImageFolder", "imagenet_synsets"]

_log = logging.getLogger(__name__)


class ImageFolder(LabelledFiles):
    """Images sorted into class folders. Items are (PIL image, or tensor of bands, class index).

    Two layouts are known: `root/train/<class>/` with `root/val/<class>/` (also "valid" or "validation"), and
    `root/<class>/`, of which a part is set apart for validation. Images may lie in folders inside a class's folder;
    hidden files, files of other kinds, and arrays (.npy), where there are images, are passed over, the latter with
    their count logged. Class folders may be
    links, though not to a folder that they lie in; what several links of a class lead to is taken once.

    Args:
        root: the folder.
        split: "train", "val", "test" (`root/test/<class>/`), or None for what there is to evaluate: the validation
            folder, else all images.
        val_fraction: the part of each class that is set apart where there is no validation folder; at least one
            image of each class of two or more. Which ones depends on `seed` and on that class's file names alone.
        seed: of that choice.
        channels, max_pixels, white_level, decoding: see `LabelledFiles`.
        classes: a model's class names, to evaluate it: each folder is then looked up among them, and some may have no
            folder. For the 1,000 of ImageNet, folders may be named by synset, such as "n01440764"; and for any model by
            class index, as ImageNetV2's are, where no folder has a class's name. None: the classes are the folders.
        choice: which of the classes are taken, and which become one, see `choose_classes`; the others' images are left
            out, which is logged by count.
        class_order: which folder is which class of the model, whatever its classes are called: "natural" (2 before 10),
            "sorted" (10 before 2), or a file of the folders' names, one a line. None: by name as above, or sorted.

    The files are kept as their paths' bytes and 16 bytes each, see `PathTable`, which forked processes share.

    Attributes:
        classes: class names by index.
        paths: the file of each item.
        held_out: whether training and validation images are parted by `val_fraction` alone.

    Raises:
        DataError: there are no images, or fewer than two classes (without `classes`), or folders that do not belong, or
            that are links to where they lie or to each other.
    """

    paths: PathTable

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Split | None = None,
        *,
        val_fraction: float = 0.2,
        seed: int = 0,
        channels: int | None = 3,
        max_pixels: int | None = None,
        white_level: int | None = None,
        decoding: Decoding = "exact",
        classes: Sequence[str] | None = None,
        choice: ClassChoice | None = None,
        class_order: str | os.PathLike[str] | None = None,
    ) -> None:
        if split not in ("train", "val", "test", None):
            raise ValueError(f"split={split!r} is not known: use 'train', 'val', 'test' or None for all images")
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction={val_fraction} is not possible: use a number in [0, 1)")
        super().__init__(channels=channels, max_pixels=max_pixels, white_level=white_level, decoding=decoding)
        self.root, self.split = Path(root), split
        self._options: dict[str, Any] = {
            "val_fraction": val_fraction,
            "seed": seed,
            "channels": channels,
            "max_pixels": max_pixels,
            "white_level": white_level,
            "decoding": decoding,
            "classes": classes,
            "choice": choice,
            "class_order": class_order,
        }
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a folder; give the one that holds a folder of images for each class")

        train, val = split_folder(self.root, ("train",)), split_folder(self.root, PART_NAMES["val"])
        if split == "train" and train is None and val is not None:
            raise DataError(f"{self.root} has {val.name!r} but no folder 'train' with class folders; add it")
        home = (train if split == "train" else val) or train or self.root
        if split == "test":
            home = split_folder(self.root, PART_NAMES["test"]) or self.root
            if home == self.root:
                raise NothingFoundError(
                    f"{self.root} has no folder 'test' with class folders; add it, or measure another split"
                )
        self.held_out = val is None and split in ("train", "val")
        teacher = train or home  # the folder whose names are the classes
        names, whose = _folder_classes(teacher), f"the class folders of {teacher}"
        names, _ = choose_classes(names, choice, of=teacher)
        if class_order is not None and choice is not None:
            raise DataError(f"data.class_order={str(class_order)!r} does not go with data.classes, which have an order")
        if class_order is not None:
            names, whose = _ordered(names, class_order), f"the classes in data.class_order={str(class_order)!r}"
            missing = sorted({*names} - {*_folder_classes(teacher)}) if split == "train" else []
            if missing:
                raise DataError(f"{teacher} has no folders for some of {whose}: {some(missing)}; add or rename them")
            if classes is not None and len(names) != len(classes):
                raise DataError(f"{whose} are {len(names)} for the model's {len(classes)}; name all of them in a file")
        elif classes is not None:
            names, whose = tuple(classes), "the model's classes"
        self.classes = tuple(classes) if classes is not None else names
        if len(self.classes) < 2 and classes is None:
            raise DataError(
                f"{teacher} has the one class {self.classes[0]!r}; telling classes apart takes two or more, "
                "each in a folder of its own"
            )
        if choice is None:
            by_number = class_order is None and classes is not None
            indices = class_indices(_folder_classes(home), home, "folders", names, whose, by_number=by_number)
        else:
            indices = _chosen_indices(home, choice, self.classes)

        self._table, counts = _find_files(home, indices)
        for name, count in counts.items():
            if count == 0 and home == teacher and classes is None:
                raise DataError(f"the class folder {home / name} holds no images; fill it, or remove it")
        self._labels = np.repeat(np.array([indices[name] for name in counts], np.int32), [*counts.values()])
        self._counts = tuple(counts.values())
        self._take(split)
        if not self.paths and self.held_out and split == "val":
            raise DataError(
                f"{self.root} has no images for validation: give it a folder 'val', at least two images a class, "
                f"or a val_fraction above {val_fraction}"
            )
        if not self.paths:
            raise DataError(f"{home} holds no images; its class folders should ({_suffixes()})")

    def part(self, split: Split) -> ImageFolder:
        """Another part of the same folder. Where one part is held out of the other, both share what was found."""
        if not (self.held_out and split in ("train", "val")):
            return ImageFolder(self.root, split, **self._options)
        other = copy.copy(self)
        other._take(split)
        if not other.paths:
            return ImageFolder(self.root, split, **self._options)  # which says what is missing
        return other

    def _take(self, split: Split | None) -> None:
        """Makes these the images of a part."""
        self.split = split
        self._places: NDArray[np.uint32] | None = None
        if self.held_out:
            # A class's own name and number play no part: a new class leaves the others' choice as it was.
            fraction, seed = self._options["val_fraction"], self._options["seed"]
            parts = [_held_out(count, fraction, seed) for count in self._counts]
            apart = np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)
            self._places = np.flatnonzero(apart == (split == "val")).astype(np.uint32)
        self.paths = self._table if self._places is None else self._table.select(self._places)

    @property
    def samples(self) -> list[tuple[str, int]]:
        """(path, class index) of each item, made anew: of millions of images it takes much memory."""
        return [*zip(self.paths, self.labels.tolist(), strict=True)]

    @property
    def labels(self) -> NDArray[np.int64]:
        """int64, (num_images,): the class index of each."""
        return (self._labels if self._places is None else self._labels[self._places]).astype(np.int64)

    def label(self, index: int) -> int:
        return int(self._labels[index if self._places is None else self._places[index]])


@cache
def imagenet_synsets() -> tuple[str, ...]:
    """The WordNet ids ("n01440764", ...) of ImageNet-1K's classes, in the order of its heads."""
    text = (
        files("swin_transformer_pytorch.data.classification")
        .joinpath("imagenet_synsets.txt")
        .read_text(encoding="ascii")
    )
    return tuple(text.split())


def natural_order(names: Iterable[str]) -> tuple[str, ...]:
    """The names with the numbers in them by value: "2" comes before "10"."""
    parts = {name: re.split("([0-9]+)", name) for name in sorted(names)}
    # Every second part is a number, so that like is compared with like.
    return tuple(sorted(parts, key=lambda name: [int(p) if i % 2 else p for i, p in enumerate(parts[name])]))


def guessed_order(classes: Sequence[str]) -> str:
    """What to say of classes that were sorted by name; empty where natural order would be the same."""
    if natural_order(classes) == tuple(classes):
        return ""
    return (
        f"the order of the classes is a guess: sorted by name ({some(classes, 4)}); `--data.class_order natural` "
        f"takes {some(natural_order(classes), 4)}, a file of the folders' names any order"
    )


def _ordered(folders: tuple[str, ...], order: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of class folders by class index; `folders` are sorted."""
    if order in ("natural", "sorted"):
        return natural_order(folders) if order == "natural" else folders
    try:
        lines = Path(order).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fix = "use natural, sorted, or a text file of the class folders' names, one a line"
        raise DataError(f"data.class_order={str(order)!r} cannot be read ({error}); {fix}") from error
    names = tuple(line.strip() for line in lines if line.strip())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        raise DataError(f"{order} names {f'{some(twice)} twice' if twice else 'no class folders'}; name each once")
    return names


class _Found:
    """The files of one kind in class folders, those of a folder that several links lead to once."""

    def __init__(self) -> None:
        self._first: dict[str, str] = {}  # a folder with files -> the path on which it was met first
        self.paths = PathCollector()
        self.counts: Counter[str] = Counter()
        self.problem: str | None = None

    def add(self, path: str, name: str, home: Path, real: Callable[[str], str]) -> None:
        parent = os.path.dirname(path)
        met = self._first.setdefault(real(parent), parent)
        if met == parent:
            self.paths.add(path)
            self.counts[name] += 1
        elif self.problem is None and not Path(met).is_relative_to(home / name):
            self.problem = f"{met} and {parent}, of two classes, are one folder by a link; remove one of them"


def _find_files(home: Path, names: Iterable[str]) -> tuple[PathTable, dict[str, int]]:
    """The images in class folders, or where there are none the arrays, class after class; and how many each has."""
    real = cache(os.path.realpath)
    images, arrays, names = _Found(), _Found(), [*names]
    for name in names:
        folder = home / name
        if home.resolve().is_relative_to(folder.resolve()):
            raise DataError(f"the class folder {folder} is a link to {folder.resolve()}, which it lies in; remove it")
        for path in walk_images(folder, INPUT_SUFFIXES):
            (arrays if path.lower().endswith(".npy") else images).add(path, name, home, real)
    if len(images.paths):
        tell_arrays(home, arrays.paths.table())
    found = images if len(images.paths) else arrays
    if found.problem is not None:
        raise DataError(found.problem)
    return found.paths.table(), {name: found.counts[name] for name in names}


def _suffixes() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def split_folder(root: Path, names: Sequence[str]) -> Path | None:
    """`root/train` or the like, if it holds class folders (a class may itself be called "train")."""
    for name in names:
        if (root / name).is_dir() and _folders(root / name):
            return root / name
    return None


def _folder_classes(folder: Path) -> tuple[str, ...]:
    if names := _folders(folder):
        return tuple(names)
    images = find_inputs(folder)
    if images:
        raise DataError(
            f"{folder} holds {plural(len(images), 'image')} but no class folders; put the images of each class into a "
            "folder named after it"
        )
    raise DataError(f"{folder} holds neither class folders nor images; make a folder of images for each class")


def class_indices(
    found: Sequence[str], of: object, what: str, classes: Sequence[str], whose: str, *, by_number: bool
) -> dict[str, int]:
    """The index among `classes` of each name that data has: by name, synset or number.

    Args:
        found: the names.
        of: what messages call the data.
        what: what they call that which has these names, such as "folders".
        classes: class names by index.
        whose: what messages call these.
        by_number: whether names that are all numbers may be indices.

    Raises:
        DataError: a name is no class's, or several classes'.
    """
    positions: dict[str, list[int]] = {}
    for index, name in enumerate(classes):
        positions.setdefault(name, []).append(index)
    if len(classes) == 1000:
        for index, synset in enumerate(imagenet_synsets()):
            positions.setdefault(synset, [index])
    places = by_name(positions)
    indices_of = {name: places(name) or [] for name in found}
    strangers = [name for name, indices in indices_of.items() if not indices]
    if by_number and strangers == list(found) and all(re.fullmatch("[0-9]+", name) for name in found):
        numbers = [int(name) for name in found]
        if max(numbers) < len(classes) and len({*numbers}) == len(numbers):
            example = f"{found[0]} is {classes[numbers[0]]!r}"
            _log.warning("%s: its %s are numbers, read as indices of %s: %s", of, what, whose, example)
            return dict(zip(found, numbers, strict=True))
    if strangers:
        raise DataError(
            f"{of} has {what} that are not among {whose}: {some(strangers)}; these are: {some(classes)}; "
            f"rename or remove the {what}"
        )
    ambiguous = [name for name, indices in indices_of.items() if len(indices) > 1]
    if ambiguous:
        raise DataError(
            f"{of} has {what} whose names are those of several of {whose}: {some(ambiguous)}; "
            f"name ImageNet's {what} by synset instead, such as n01440764"
        )
    return {name: indices[0] for name, indices in indices_of.items()}


def _chosen_indices(home: Path, choice: ClassChoice, classes: Sequence[str]) -> dict[str, int]:
    """The index among `classes` of each class folder that a choice takes; the others are logged."""
    folders = _folder_classes(home)
    names, places = choose_classes(folders, choice, of=home, strict=False)
    index_of = by_name({name: index for index, name in enumerate(classes)})
    if strangers := [name for name in names if index_of(name) is None]:
        raise DataError(f"data.classes makes classes that the model has not: {some(strangers)}; its: {some(classes)}")
    left_out = [folder for folder, place in zip(folders, places, strict=True) if place is None]
    if left_out:
        counts = some([f"{folder} {len(find_inputs(home / folder)):,}" for folder in left_out])
        _log.warning("%s: images left out, as data.classes has not their class: %s", home, counts)
    wanted = {folder: names[place] for folder, place in zip(folders, places, strict=True) if place is not None}
    return {folder: index for folder, name in wanted.items() if (index := index_of(name)) is not None}


def _held_out(count: int, val_fraction: float, seed: int) -> NDArray[np.bool_]:
    """Which of a class's images are set apart for validation."""
    apart = min(max(round(count * val_fraction), 1), count - 1) if val_fraction > 0 and count >= 2 else 0
    chosen = np.zeros(count, dtype=np.bool_)
    chosen[np.random.default_rng(seed).permutation(count)[:apart]] = True
    return chosen
