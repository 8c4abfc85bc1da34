"""`swin export`: the file, what is said of it, and what cannot be."""

from pathlib import Path

import pytest
import torch


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
    ("words", "message"),
    [
        (("out.engine",), "one of .onnx, .xml, .pt2"),
        (("out.pt2", "--image-size", "1", "2", "3"), "one number, or two"),
        (("out.onnx", "--format", "openvino"), "give out.xml or leave --format out"),
        (("out.onnx", "--format", "torch"), "give out.pt2 or leave --format out"),
        (("out.xml", "--opset", "20"), "--opset is for ONNX"),
        (("out.onnx", "--opset", "9"), "use 18 to 23"),
        *((("missing/out" + suffix,), "missing is not a folder") for suffix in (".onnx", ".xml", ".pt2")),
    ],
)
def test_a_mistake_is_one_line(swin, checkpoint: Path, words: tuple[str, ...], message: str) -> None:
    outcome = swin("export", checkpoint, *words)
    assert outcome.code == 2 and message in outcome.err and outcome.err.count("\n") == 1
