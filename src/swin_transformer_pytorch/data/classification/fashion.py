"""Fashion-MNIST (arXiv 1708.07747): grey pictures of clothes in ten classes. A sample of it is in the package."""

from __future__ import annotations

import functools
import gzip
import math
import zlib
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import Dataset

from ..errors import DataError

CLASSES: tuple[str, ...] = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

Split = Literal["train", "test"]


class ArrayDataset(Dataset[tuple[Image.Image, int]]):
    """Grey images that lie in memory. Items are (PIL image of mode "L", class index).

    Attributes:
        images: uint8, (num_images, height, width).
        labels: int64, (num_images,).
        classes: class names by index.
    """

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], classes: tuple[str, ...]) -> None:
        self.images = images
        self.labels = labels
        self.classes = classes

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.images[index]), int(self.labels[index])


class FashionSample(ArrayDataset):
    """The sample in the package: the first 200 training ("train") or 100 test ("test") images of each class."""

    def __init__(self, split: Split) -> None:
        _check_split(split)
        arrays = _embedded()
        super().__init__(arrays[f"{split}_images"], arrays[f"{split}_labels"].astype(np.int64), CLASSES)


class FashionMNIST(ArrayDataset):
    """All 60,000 training ("train") or 10,000 test ("test") images, read from the four published IDX files.

    Args:
        root: the folder with `train-images-idx3-ubyte.gz` and its three siblings, packed or not.

    Raises:
        DataError: a file is missing, damaged or not an IDX file of this data set.
    """

    def __init__(self, root: str | Path, split: Split) -> None:
        _check_split(split)
        prefix = "train" if split == "train" else "t10k"
        images_path = _find(Path(root), f"{prefix}-images-idx3-ubyte")
        labels_path = _find(Path(root), f"{prefix}-labels-idx1-ubyte")
        images, labels = read_idx(images_path), read_idx(labels_path)
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise DataError(
                f"{images_path} holds an array of shape {images.shape} and {labels_path} one of {labels.shape}: "
                "they do not belong together; download both again"
            )
        if labels.size == 0 or labels.max() >= len(CLASSES):
            raise DataError(f"{labels_path} is empty or has labels beyond 9; give Fashion-MNIST's own file")
        super().__init__(images, labels.astype(np.int64), CLASSES)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Reads an IDX file of unsigned bytes, gzip-packed or not.

    Raises:
        DataError: the file is damaged or holds something else.
    """
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); download it again") from error
    ndim = content[3] if len(content) > 3 and content[:3] == b"\x00\x00\x08" else 0
    header = 4 + 4 * ndim
    if ndim == 0 or len(content) < header:
        raise DataError(f"{path} is not an IDX file of bytes; download it again")
    shape = tuple(int(size) for size in np.frombuffer(content, dtype=">u4", count=ndim, offset=4))
    if len(content) != header + math.prod(shape):
        raise DataError(
            f"{path} should hold {math.prod(shape)} values and holds {len(content) - header}; download it again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def _find(root: Path, name: str) -> Path:
    for path in (root / f"{name}.gz", root / name, root / "FashionMNIST" / "raw" / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(
        f"{root} has no {name}.gz; give the folder with Fashion-MNIST's four .gz files "
        "(from github.com/zalandoresearch/fashion-mnist, or Debian's package dataset-fashion-mnist)"
    )


@functools.cache
def _embedded() -> dict[str, NDArray[np.uint8]]:
    file = resources.files("swin_transformer_pytorch.data.classification").joinpath("fashion_mnist_sample.npz")
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        loaded = {name: arrays[name] for name in arrays.files}
    for array in loaded.values():
        array.setflags(write=False)  # one copy serves every FashionSample
    return loaded


def _check_split(split: str) -> None:
    if split not in ("train", "test"):
        raise ValueError(f"split={split!r} is not known: use 'train' or 'test'")
