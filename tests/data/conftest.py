"""Data sets as files, so small that they take no time."""

import gzip
from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def fashion_folder(tmp_path: Path) -> Path:
    """Fashion-MNIST's four files, with 30 training and 20 test items: squares of noise."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "fashion"
    folder.mkdir()
    for prefix, count in (("train", 30), ("t10k", 20)):
        images = np.zeros((count, 28, 28), dtype=np.uint8)
        images[:, 4:24, 4:24] = rng.integers(1, 256, (count, 20, 20))
        for name, array in (("images-idx3", images), ("labels-idx1", np.arange(count, dtype=np.uint8) % 10)):
            header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
            (folder / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return folder
