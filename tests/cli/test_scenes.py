"""`swin scenes`."""

from __future__ import annotations

import gzip
import struct

import numpy as np

from swin_transformer_pytorch.data.classification.fashion import FashionSample
from swin_transformer_pytorch.data.detection.coco import CocoDataset
from swin_transformer_pytorch.data.detection.folders import find_coco
from swin_transformer_pytorch.data.panoptic.folders import find_panoptic
from swin_transformer_pytorch.data.segmentation.dataset import open_segmentation


def test_writes_each_kind_of_data_set_and_says_where(swin, tmp_path) -> None:
    output = tmp_path / "new" / "scenes"
    outcome = swin("scenes", output, "--train", 4, "--val", 2, "--image-size", 64, "--seed", 5)
    assert outcome.code == 0, outcome.err
    for split, count in (("train", 4), ("val", 2)):
        folder = find_coco(output, split)
        detection = CocoDataset(folder.images_folder, folder.annotations_file)
        segmentation = open_segmentation(output, split)
        assert len(detection) == len(segmentation) == count
        assert detection[0].image.size == segmentation[0].image.size == (64, 64)
        assert segmentation.classes == (*detection.classes, "ground")
        panoptic = find_panoptic(output, split)
        assert str(panoptic.annotations_file) in outcome.out and len(list(panoptic.segments_folder.iterdir())) == count
        assert str(folder.images_folder) in outcome.out and str(folder.annotations_file) in outcome.out
    assert str(output / "labels" / "val") in outcome.out

    other = tmp_path / "other"
    swin("scenes", other, "--train", 4, "--val", 0, "--image-size", 64, "--seed", 5)
    assert (other / "train" / "000003.png").read_bytes() == (output / "train" / "000003.png").read_bytes()
    assert not (other / "val").exists()


def test_nothing_is_overwritten(swin, tmp_path) -> None:
    (tmp_path / "val").mkdir()
    outcome = swin("scenes", tmp_path, "--train", 1, "--val", 1)
    assert outcome.code == 2
    assert f"{tmp_path / 'val'} exists already" in outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["val"], "the training part is not written either"


def test_all_of_fashion_mnist_from_its_files(swin, tmp_path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for prefix, split in (("train", "train"), ("t10k", "test")):
        sample = FashionSample(split)
        for name, array in (("images-idx3", sample.images[:5]), ("labels-idx1", sample.labels[:5].astype(np.uint8))):
            header = struct.pack(">BBBB", 0, 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
            (files / f"{prefix}-{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    outcome = swin("scenes", tmp_path / "out", "--train", 1, "--val", 1, "--data.root", files)
    assert outcome.code == 0, outcome.err
    missing = swin("scenes", tmp_path / "again", "--data.root", tmp_path / "nowhere")
    assert missing.code == 2 and "train-images-idx3-ubyte" in missing.err
    assert not (tmp_path / "again").exists()


def test_mistakes_are_one_line(swin, tmp_path) -> None:
    for words, message in (
        (["--train", 0, "--val", 0], "leave no scenes"),
        (["--image-size", 8], "--image-size"),
        (["--train", -1], "--train"),
    ):
        outcome = swin("scenes", tmp_path / "out", *words)
        assert outcome.code == 2 and message in outcome.err
    assert not (tmp_path / "out").exists()
