import gzip
import hashlib
from importlib import resources

import numpy as np
import pytest

from swin_transformer_pytorch.data.classification.fashion import CLASSES, FashionMNIST, FashionSample
from swin_transformer_pytorch.data.errors import DataError


def write_idx(path, array, packed=True):
    content = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()
    path.write_bytes(gzip.compress(content) if packed else content)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 30), ("t10k", 20)):
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 10)
    return tmp_path


@pytest.mark.parametrize(("split", "per_class"), [("train", 200), ("test", 100)])
def test_the_sample_is_balanced_and_whole(split, per_class):
    sample = FashionSample(split)
    assert len(sample) == 10 * per_class
    assert sample.images.shape == (10 * per_class, 28, 28)
    assert sample.images.dtype == np.uint8
    assert np.bincount(sample.labels).tolist() == [per_class] * 10
    image, label = sample[3]
    assert (image.mode, image.size, label) == ("L", (28, 28), sample.labels[3])
    np.testing.assert_array_equal(np.asarray(image), sample.images[3])
    assert sample.classes == CLASSES
    assert len({one.tobytes() for one in sample.images}) > 0.99 * len(sample)


def test_the_sample_is_small_and_carries_its_notice():
    folder = resources.files("swin_transformer_pytorch.data.classification")
    content = folder.joinpath("fashion_mnist_sample.npz").read_bytes()
    assert len(content) <= 1_500_000
    digest = "88dc5df418a64533b61fff1a9a43c3ae9954cb085687789dd8dec8c44dc8c71b"
    assert hashlib.sha256(content).hexdigest() == digest  # published figures hold for these images
    notice = folder.joinpath("FASHION_MNIST_NOTICE.txt").read_text()
    assert "Zalando SE" in notice
    assert "Permission is hereby granted, free of charge" in " ".join(notice.split())


def test_training_and_test_images_of_the_sample_differ():
    train, test = ({one.tobytes() for one in FashionSample(split).images} for split in ("train", "test"))
    assert not train & test


def test_the_samples_arrays_cannot_be_changed_by_accident():
    with pytest.raises(ValueError, match="read-only"):
        FashionSample("test").images[0] = 0


def test_idx_files_are_read(folder):
    train, test = FashionMNIST(folder, "train"), FashionMNIST(str(folder), "test")
    assert (len(train), len(test)) == (30, 20)
    assert train[13][1] == 3
    unpacked = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    (folder / "t10k-labels-idx1-ubyte.gz").unlink()
    (folder / "t10k-labels-idx1-ubyte").write_bytes(unpacked)
    np.testing.assert_array_equal(FashionMNIST(folder, "test").labels, test.labels)


def test_damaged_idx_files_are_named(folder):
    images, labels = folder / "train-images-idx3-ubyte.gz", folder / "train-labels-idx1-ubyte.gz"
    whole, right = images.read_bytes(), labels.read_bytes()
    for content in (
        whole[:100],
        b"",
        b"<html>",
        gzip.compress(b"\0\0\x0d\x01"),
        gzip.compress(gzip.decompress(whole)[:-5]),
    ):
        images.write_bytes(content)
        with pytest.raises(DataError, match="train-images.*download it again"):
            FashionMNIST(folder, "train")
    images.write_bytes(whole)
    write_idx(labels, np.arange(29, dtype=np.uint8) % 10)
    with pytest.raises(DataError, match="do not belong together"):
        FashionMNIST(folder, "train")
    write_idx(labels, np.arange(30, dtype=np.uint8))
    with pytest.raises(DataError, match="labels beyond 9"):
        FashionMNIST(folder, "train")
    labels.write_bytes(right)
    assert len(FashionMNIST(folder, "train")) == 30


def test_missing_files_and_unknown_splits_say_what_to_do(tmp_path):
    with pytest.raises(DataError, match="four .gz files"):
        FashionMNIST(tmp_path, "train")
    for make in (FashionSample, lambda split: FashionMNIST(tmp_path, split)):
        with pytest.raises(ValueError, match="use 'train' or 'test'"):
            make("val")
