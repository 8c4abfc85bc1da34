"""`swin export`: the file, what is said of it, and what cannot be."""

import json
import re
from pathlib import Path

import pytest
import torch

from swin_transformer_pytorch.checks import plural
from swin_transformer_pytorch.commands.export_int8 import open_images
from swin_transformer_pytorch.data.classification.fashion import FashionSample
from swin_transformer_pytorch.models.registry import load_model


@pytest.mark.slow
def test_a_checkpoint_becomes_a_file(swin, checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "small.pt2"
    outcome = swin("export", checkpoint, target, "--image-size", 28, 20, "--batch-size", 3, "--byte-input")
    assert outcome.code == 0, outcome.err
    assert "28 x 20 pixels, 3 at once" in outcome.out and "checked" in outcome.out
    (logits,) = torch.export.load(target).module()(torch.zeros(3, 28, 20, 1, dtype=torch.uint8))
    assert logits.shape == (3, 10)
    again = swin("export", checkpoint, target)
    assert again.code == 2 and "--force" in again.err


@pytest.mark.parametrize(
    ("target", "there"),
    [
        ("m.onnx", "m.json"),
        ("m.xml", "m.bin"),
        ("m.xml", "m.json"),
        ("m.pt2", "m.pt2"),
        ("m.engine.onnx", "m.engine.json"),
    ],
)
def test_what_goes_beside_the_file_is_not_replaced_unasked(swin, target: str, there: str, tmp_path: Path) -> None:
    (tmp_path / there).write_text("mine")
    outcome = swin("export", "fashion", tmp_path / target)
    assert outcome.code == 2 and f"{there} exists already" in outcome.err and "--force" in outcome.err
    assert [path.name for path in tmp_path.iterdir()] == [there] and (tmp_path / there).read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("out.engine",), "one of .onnx, .xml, .pt2"),
        (("out.pt2", "--image-size", "1", "2", "3"), "one number, or two"),
        (("out.onnx", "--format", "openvino"), "give out.xml or leave --format out"),
        (("out.onnx", "--format", "torch"), "give out.pt2 or leave --format out"),
        (("out.xml", "--opset", "20"), "--opset is for ONNX"),
        (("out.onnx", "--opset", "9"), "use 18 to 23"),
        (("out.onnx", "--int8-method", "dynamic"), "--int8-method is for --int8 FOLDER"),
        (("out.pt2", "--int8", "."), "--int8 is for ONNX and OpenVINO"),
        (("out.xml", "--int8", ".", "--int8-method", "dynamic"), "--int8-method dynamic is for ONNX"),
        (("out.onnx", "--int8", "missing"), "missing is not a folder"),
        (("missing/out.onnx", "--int8", "."), "missing is not a folder"),
        *((("missing/out" + suffix,), "missing is not a folder") for suffix in (".onnx", ".xml", ".pt2")),
    ],
)
def test_a_mistake_is_one_line(swin, checkpoint: Path, words: tuple[str, ...], message: str) -> None:
    outcome = swin("export", checkpoint, *words)
    assert outcome.code == 2 and message in outcome.err and outcome.err.count("\n") == 1


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Two pictures of each class, in folders of its index."""
    sample = FashionSample("test")
    for index in range(10):
        (tmp_path / "photos" / str(index)).mkdir(parents=True)
        for number, place in enumerate((sample.labels == index).nonzero()[0][:2]):
            sample[int(place)][0].save(tmp_path / "photos" / str(index) / f"{number}.png")
    return tmp_path / "photos"


@pytest.mark.slow
@pytest.mark.usefixtures("unchecked_shapes")
def test_eight_bits_are_compared_before_it_says_done(swin, checkpoint: Path, labelled: Path, tmp_path: Path) -> None:
    (labelled / "3" / "1.png").write_text("no image")
    target = tmp_path / "small.onnx"
    outcome = swin("export", checkpoint, target, "--image-size", 28, "--int8", labelled)
    assert outcome.code == 1, outcome.err
    calibrating, compared = re.search(r"calibrated by (\d+) of .*, compared on (\d+) others", outcome.out).groups()
    assert "agrees  top-1" in outcome.out and "labels  top-1" in outcome.out and "->" in outcome.out
    assert outcome.err.count("skipped: ") == 1 and "1 of 20 images could not be used" in outcome.out
    described = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
    assert described["precision"] == "int8" and described["int8"]["method"] == "static"
    assert [described["int8"][name] for name in ("calibration_images", "num_images")] == [
        int(calibrating),
        int(compared),
    ]
    assert int(calibrating) + int(compared) == 19
    assert sorted(file.name for file in tmp_path.iterdir()) == ["photos", "small.json", "small.onnx"]


@pytest.mark.parametrize("number", [0, 1, 9])
def test_too_few_images_for_eight_bits(swin, checkpoint: Path, labelled: Path, tmp_path: Path, number: int) -> None:
    for path in sorted(labelled.rglob("*.png"))[number:]:
        path.unlink()
    outcome = swin("export", checkpoint, tmp_path / "small.onnx", "--int8", labelled)
    assert outcome.code == 2 and f"has {plural(number, 'image')}, and 8 bits need at least 10" in outcome.err
    assert outcome.err.splitlines()[-1].startswith("swin: error: ")


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_labels_are_used_where_they_are_the_models(dense_checkpoints, dense_data: Path, capsys, task: str) -> None:
    model = load_model(dense_checkpoints[task])
    samples = open_images(str(dense_data), model)
    assert len(samples) == 6 and samples[0].image.size == (80, 64) and capsys.readouterr().err == ""
    model.classes = tuple(f"another {index}" for index in range(model.num_classes))
    samples = open_images(str(dense_data), model)
    assert "no labels are used, nor needed for 8 bits: " in capsys.readouterr().err
    assert [Path(path).parent for path in samples] == [dense_data / "val"] * 6  # and no label maps
