"""Makes the Fashion-MNIST sample that the package carries: the first 200 training and 100 test images of each class.

    python tools/make_fashion_sample.py FOLDER_WITH_THE_IDX_FILES

The same files give the same bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from swin_transformer_pytorch.data.classification.fashion import CLASSES, FashionMNIST, Split

TARGET = Path(__file__).parents[1] / "src" / "swin_transformer_pytorch" / "data" / "fashion_mnist_sample.npz"
PER_CLASS: dict[Split, int] = {"train": 200, "test": 100}
MAX_BYTES = 1_500_000


def main(root: str) -> None:
    arrays = {}
    for split, count in PER_CLASS.items():
        data = FashionMNIST(root, split)
        first = [np.flatnonzero(data.labels == label)[:count] for label in range(len(CLASSES))]
        # The data set's own order, in which classes are mixed.
        chosen = np.sort(np.concatenate(first))
        arrays[f"{split}_images"] = data.images[chosen]
        arrays[f"{split}_labels"] = data.labels[chosen].astype(np.uint8)
    np.savez_compressed(TARGET, allow_pickle=False, **arrays)
    size = TARGET.stat().st_size
    print(f"{TARGET}: {size} bytes, " + ", ".join(f"{name} {array.shape}" for name, array in arrays.items()))
    if size > MAX_BYTES:
        sys.exit(f"{size} bytes is more than the {MAX_BYTES} that the package allows")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
