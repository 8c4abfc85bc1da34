"""`swin explain`: two pictures an image, for every task, and what it says of mistakes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch import load_model


@pytest.fixture
def of_task(checkpoint, dense_checkpoints, pictures, dense_data):
    """(weights, image) of each task."""
    scene = dense_data / "val" / "000000.png"
    found = {"classification": (checkpoint, pictures / "a.png")}
    return found | {task: (path, scene) for task, path in dense_checkpoints.items()}


@pytest.mark.parametrize(
    ("task", "options", "said"),
    [
        ("classification", (), "%"),
        ("classification", ("--target", "Bag", "--attention", "layers.1.blocks.0", "--at", "3,20"), "Bag"),
        ("classification", ("--target", "8", "--layer", "layers.0.blocks.0"), "Bag"),
        ("detection", ("--detection", "1"), "%"),
        ("segmentation", ("--target", "ground", "--at", "79.5,63"), "ground"),
    ],
)
def test_two_pictures_an_image(swin, of_task, tmp_path, task, options, said):
    weights, image = of_task[task]
    words = ("explain", image, "--weights", weights, "--output", tmp_path / "new", "--device", "cpu", *options)
    for count in (1, 2):  # the second time beside the first's
        outcome = swin(*words)
        assert outcome.code == 0, outcome.err
        assert said in outcome.out
        for kind in ("gradcam", "attention"):
            name = f"{image.stem}_{kind}{'' if count == 1 else '_2'}.png"
            assert str(tmp_path / "new" / name) in outcome.out
            with Image.open(tmp_path / "new" / name) as picture:
                assert min(picture.size) >= 200 and len(np.unique(np.asarray(picture.convert("L")))) > 20
    assert len(list((tmp_path / "new").iterdir())) == 4


def test_a_bad_image_is_skipped(swin, of_task, tmp_path):
    weights, image = of_task["classification"]
    (image.parent / "broken.png").write_bytes(b"no picture")
    outcome = swin("explain", image.parent, "--weights", weights, "--output", tmp_path / "out", "--at", "5,5")
    assert outcome.code == 1
    assert "skipped" in outcome.err and "broken.png" in outcome.err
    assert len(list((tmp_path / "out").glob("*_gradcam.png"))) == 3


@pytest.mark.parametrize(
    ("task", "options", "code", "words"),
    [
        ("classification", ("--target", "Trousers"), 2, ["'Trousers'", "did you mean Trouser?"]),
        ("classification", ("--layer", "layers.9"), 2, ["'layers.9'", "named_modules"]),
        ("classification", ("--attention", "layers.0"), 2, ["no block 'layers.0'", "did you mean layers.0.blocks.0"]),
        ("classification", ("--detection", "0"), 2, ["detection=0", "classification"]),
        ("classification", ("--at", "3"), 2, ["--at 3", "X,Y"]),
        ("classification", ("--at", "28,3"), 1, ["a.png", "at=(28.0, 3.0)", "less than 28"]),
        ("detection", ("--detection", "50"), 1, ["000000.png", "detection=50", "0 to 7"]),
        ("segmentation", ("--target", "11"), 2, ["target=11", "0 to 10"]),
    ],
)
def test_mistakes_are_one_line_with_the_fix(swin, of_task, tmp_path, task, options, code, words):
    weights, image = of_task[task]
    outcome = swin("explain", image, "--weights", weights, "--output", tmp_path / "out", *options)
    assert outcome.code == code, outcome.err
    assert all(word in outcome.err for word in words), outcome.err
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.glob("out/*"))


def test_an_exported_file_is_refused(swin, small_file, checkpoint, tmp_path, pictures):
    file = small_file(tmp_path / "small.onnx", load_model(checkpoint).metadata(), channels=1, classes=10)
    outcome = swin("explain", pictures / "a.png", "--weights", file, "--output", tmp_path / "out")
    assert outcome.code == 2
    assert "exported file" in outcome.err and str(file) in outcome.err
