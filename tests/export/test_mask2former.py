"""An exported Mask2Former: the graph equals the model at every size, and its file answers as the model does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import swin_transformer_pytorch as swin
from swin_transformer_pytorch.export import ExportError, export_aoti, quantize
from swin_transformer_pytorch.export.comparison import relative_error
from swin_transformer_pytorch.export.graph import prepare
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.description import ModelDescription, describe
from swin_transformer_pytorch.models.exported import ExportedMask2Former
from swin_transformer_pytorch.models.mask2former import Mask2Former
from swin_transformer_pytorch.models.mask2former_config import Answers, Mask2FormerConfig
from swin_transformer_pytorch.models.registry import load_model
from swin_transformer_pytorch.predict import Predictor
from swin_transformer_pytorch.results import Detections, PanopticSegmentation, SegmentationMap
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

CONFIG = Mask2FormerConfig(
    num_classes=3,
    things=(0,),
    num_queries=6,
    dim=64,
    attention_heads=4,
    encoder_dim=16,
    encoder_layers=1,
    feedforward_dim=16,
    decoder_layers=2,
    segment_threshold=0.0,
    overlap_threshold=0.0,
).replace(embed_dim=8, depths=(1, 1, 1), num_heads=(1, 2, 2), window_size=3, drop_path_rate=0.0)

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


def make(answers: Answers = "panoptic") -> Mask2Former:
    """No parameter is as it was made; its queries are sure of their classes, and masks are of both signs."""
    config = CONFIG.replace(answers=answers, things=(0,) if answers == "panoptic" else None)
    preprocessing = DensePreprocessing(scale=(96, 64), antialias=True, size_divisor=16)
    torch.manual_seed(2)
    model = build(ModelDescription(config=config, classes=("cat", "road", "sky"), preprocessing=preprocessing))
    assert isinstance(model, Mask2Former)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        predictor = model.sem_seg_head.predictor
        predictor.class_embed.bias[3] -= 4  # none
        predictor.query_feat.weight.mul_(3)
        predictor.class_embed.weight.mul_(4)
        predictor.mask_embed.layers[2].bias.mul_(8)
    return model.eval()


@pytest.mark.parametrize("image_size", [None, (33, 70)])
def test_queries_equal_those_of_the_model(image_size: tuple[int, int] | None) -> None:
    graph = prepare(make(), image_size)
    assert graph.outputs == ("class_logits", "mask_logits")
    for size in [image_size] if image_size else [(5, 9), (33, 70)]:
        (images,) = graph.example(size, 2)
        with torch.no_grad():
            got, expected = graph.module(images), graph.original(images)
        assert [tuple(one.shape[:2]) for one in got] == [(2, 6), (2, 6)]
        assert max(relative_error(*pair) for pair in zip(got, expected, strict=True)) < 1e-4


@pytest.fixture(scope="module")
def files(
    unchecked_module: None, tmp_path_factory: pytest.TempPathFactory, as_openvino: Callable[..., Path]
) -> dict[str, Path]:
    pytest.importorskip("onnxruntime")
    onnx = swin.export_onnx(make(), tmp_path_factory.mktemp("mask2former") / "small.onnx")
    return {"onnx": onnx, "xml": as_openvino(onnx, onnx.with_suffix(".xml"))}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "xml"])
def test_one_file_is_for_every_batch_and_size(form: str, files: dict[str, Path]) -> None:
    file, model = load_model(files[form]), make()
    assert isinstance(file, ExportedMask2Former) and file.metadata() == describe(model).to_dict()
    for size in ((5, 9), (31, 47), (70, 33)):
        for batch in (1, 3):
            images = torch.randn(batch, 3, *size)
            with torch.no_grad():
                got, expected = file(images), model(images)
            assert relative_error(got.class_logits, expected.class_logits) < 1e-4
            assert relative_error(got.mask_logits, expected.mask_logits) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("answers", ["panoptic", "instance", "semantic"])
def test_a_files_answers_are_the_models(answers: Answers, files: dict[str, Path]) -> None:
    model = make(answers)
    file = ExportedMask2Former(describe(model), load_model(files["onnx"]).file)
    generator = np.random.default_rng(0)
    sizes = [(50, 71), (64, 40), (64, 40)]
    images = [Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
    results = zip(Predictor(file)(images), Predictor(model, device="cpu")(images), strict=True)
    for got, expected in results:
        if isinstance(expected, PanopticSegmentation):
            assert len(expected) > 0 and [one.label for one in got.segments] == [one.label for one in expected.segments]
            assert (got.segment_ids == expected.segment_ids).mean() > 0.999, "but for ties"
        elif isinstance(expected, Detections):
            assert got.labels.tolist() == expected.labels.tolist() and len(got) > 0
            np.testing.assert_allclose(got.scores, expected.scores, rtol=1e-3)
            assert (got.masks == expected.masks).mean() > 0.999
        else:
            assert isinstance(expected, SegmentationMap) and got.names == expected.names
            assert (got.labels == expected.labels).mean() > 0.999


@pytest.mark.slow
def test_what_its_axes_are(files: dict[str, Path]) -> None:
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(files["onnx"]).graph
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert shapes == {
        "images": ["batch", 3, "height", "width"],
        "class_logits": ["batch", 6, 4],
        "mask_logits": ["batch", 6, "mask_height", "mask_width"],
    }


def test_a_file_of_other_queries_is_named() -> None:
    class File:
        path, inputs, outputs = Path("small.onnx"), {}, ("class_logits", "mask_logits")

        def run(self, inputs: dict[str, Any], outputs: Any) -> list[torch.Tensor]:
            return [torch.zeros(len(inputs["images"]), 6, 9), torch.zeros(len(inputs["images"]), 6, 4, 4)]

    file: Any = File()
    file.inputs = {"images": type("Port", (), {"dtype": "float32", "shape": (2, 3, None, None)})}
    model = ExportedMask2Former(describe(make()), copy.copy(file))
    with pytest.raises(ValueError, match=r"class_logits \(3, 6, 9\) and mask_logits \(3, 6, 4, 4\) .*3 classes"):
        model(torch.zeros(3, 3, 16, 16))


def test_what_is_not_possible_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ExportError, match="Mask2Former cannot be compiled ahead of time"):
        export_aoti(make(), tmp_path / "small.pt2")
    monkeypatch.setattr("swin_transformer_pytorch.export.quantization.load_exported", lambda _: make())
    for index in range(10):
        (tmp_path / f"{index}.png").touch()
    with pytest.raises(ExportError, match="Mask2Former cannot be written in 8 bits"):
        quantize(tmp_path / "small.onnx", tmp_path / "small_int8.onnx", tmp_path)
