"""Photos in folders, one folder a class: a person's own, or ImageNet's layout."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from ...names import by_name
from ..errors import DataError
from ..images.decode import IMAGE_SUFFIXES, read_image
from ..images.files import find_images

__all__ = ["DataError", "ImageFolder", "imagenet_synsets"]

_VALIDATION_NAMES = ("val", "valid", "validation")


class ImageFolder(Dataset[tuple[Image.Image, int]]):
    """Images sorted into class folders. Items are (PIL image, class index).

    Two layouts are known: `root/train/<class>/` with `root/val/<class>/` (also "valid" or "validation"), and
    `root/<class>/`, of which a part is set apart for validation. Images may lie in folders inside a class's folder;
    hidden files and files of other kinds are passed over.

    Args:
        root: the folder.
        split: "train", "val", or None for what there is to evaluate: the validation folder, else all images.
        val_fraction: the part of each class that is set apart where there is no validation folder; at least one
            image of each class of two or more. Which ones depends on `seed` and on that class's file names alone.
        seed: of that choice.
        channels: 3 for RGB, 1 for grey.
        max_pixels: larger image files cannot be used; None for PIL's own limit, see `images.decode.open_image`.
        classes: a model's class names, to evaluate it: each folder is then looked up among them, and some may have no
            folder. For the 1,000 of ImageNet, folders may be named by synset, such as "n01440764". None: the classes
            are the folders, sorted by name.

    Attributes:
        classes: class names by index.
        samples: (path, class index) of each item.

    Raises:
        DataError: there are no images, or fewer than two classes (without `classes`), or folders that do not belong.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: Literal["train", "val"] | None = None,
        *,
        val_fraction: float = 0.2,
        seed: int = 0,
        channels: int = 3,
        max_pixels: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        if split not in ("train", "val", None):
            raise ValueError(f"split={split!r} is not known: use 'train', 'val' or None for all images")
        if not 0 <= val_fraction < 1:
            raise ValueError(f"val_fraction={val_fraction} is not possible: use a number in [0, 1)")
        self.root = Path(root)
        self.channels = channels
        self.max_pixels = max_pixels
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a folder; give the one that holds a folder of images for each class")

        train, val = _split_folder(self.root, ("train",)), _split_folder(self.root, _VALIDATION_NAMES)
        if split == "train" and train is None and val is not None:
            raise DataError(f"{self.root} has {val.name!r} but no folder 'train' with class folders; add it")
        home = (train if split == "train" else val) or train or self.root
        hold_out = val is None and split is not None
        teacher = train or home  # the folder whose names are the classes
        self.classes = tuple(classes) if classes is not None else _folder_classes(teacher)
        if len(self.classes) < 2 and classes is None:
            raise DataError(
                f"{teacher} has the one class {self.classes[0]!r}; telling classes apart takes two or more, "
                "each in a folder of its own"
            )
        whose = "the model's classes" if classes is not None else f"the class folders of {teacher}"
        indices = _class_indices(home, self.classes, whose)

        self.samples: list[tuple[str, int]] = []
        for name, index in indices.items():
            paths = find_images(home / name)
            if not paths and home == teacher and classes is None:
                raise DataError(f"the class folder {home / name} holds no images; fill it, or remove it")
            if hold_out:
                # The class's own name and number play no part: a new class leaves the others' choice as it was.
                paths = _part(paths, split == "val", val_fraction, seed)
            self.samples += [(path, index) for path in paths]
        if not self.samples and hold_out and split == "val":
            raise DataError(
                f"{self.root} has no images for validation: give it a folder 'val', at least two images a class, "
                f"or a val_fraction above {val_fraction}"
            )
        if not self.samples:
            raise DataError(f"{home} holds no images; its class folders should ({_suffixes()})")

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        """Reads one image; an `ImageError` names its file where that is not possible."""
        path, label = self.samples[index]
        return read_image(path, self.channels, max_pixels=self.max_pixels), label


@cache
def imagenet_synsets() -> tuple[str, ...]:
    """The WordNet ids ("n01440764", ...) of ImageNet-1K's classes, in the order of its heads."""
    text = (
        files("swin_transformer_pytorch.data.classification")
        .joinpath("imagenet_synsets.txt")
        .read_text(encoding="ascii")
    )
    return tuple(text.split())


def _suffixes() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))


def _folders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def _split_folder(root: Path, names: Sequence[str]) -> Path | None:
    """`root/train` or the like, if it holds class folders (a class may itself be called "train")."""
    for name in names:
        if (root / name).is_dir() and _folders(root / name):
            return root / name
    return None


def _folder_classes(folder: Path) -> tuple[str, ...]:
    if names := _folders(folder):
        return tuple(names)
    images = find_images(folder)
    if images:
        raise DataError(
            f"{folder} holds {len(images)} images but no class folders; put the images of each class into a folder "
            "named after it"
        )
    raise DataError(f"{folder} holds neither class folders nor images; make a folder of images for each class")


def _class_indices(home: Path, classes: Sequence[str], whose: str) -> dict[str, int]:
    """Each class folder's index among `classes`, by name or by synset; a `DataError` where one has none."""
    positions: dict[str, list[int]] = {}
    for index, name in enumerate(classes):
        positions.setdefault(name, []).append(index)
    if len(classes) == 1000:
        for index, synset in enumerate(imagenet_synsets()):
            positions.setdefault(synset, [index])
    places = by_name(positions)
    found = {name: places(name) or [] for name in _folder_classes(home)}
    strangers = [name for name, indices in found.items() if not indices]
    if strangers:
        raise DataError(
            f"{home} has folders that are not among {whose}: {_some(strangers)}; these are: {_some(classes)}; "
            "rename or remove the folders"
        )
    ambiguous = [name for name, indices in found.items() if len(indices) > 1]
    if ambiguous:
        raise DataError(
            f"{home} has folders whose names are those of several of {whose}: {_some(ambiguous)}; "
            "name ImageNet's folders by synset instead, such as n01440764"
        )
    return {name: indices[0] for name, indices in found.items()}


def _part(paths: list[str], validation: bool, val_fraction: float, seed: int) -> list[str]:
    """One class's images for training, or those set apart for validation."""
    count = round(len(paths) * val_fraction)
    if val_fraction > 0 and len(paths) >= 2:
        count = min(max(count, 1), len(paths) - 1)
    else:
        count = 0
    chosen = set(np.random.default_rng(seed).permutation(len(paths))[:count].tolist())
    return [path for position, path in enumerate(paths) if (position in chosen) == validation]


def _some(names: Sequence[str], most: int = 10) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
