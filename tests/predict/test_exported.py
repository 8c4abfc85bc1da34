"""Exported files in the predictor: the same call and the same results as the model that they were made from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import swin_transformer_pytorch as swin
from swin_transformer_pytorch import Predictor
from swin_transformer_pytorch.data.classification.fashion import FashionSample
from swin_transformer_pytorch.models.exported import ExportedModel
from swin_transformer_pytorch.models.registry import load_model
from swin_transformer_pytorch.models.segmentation import Segmenter

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def fashion(
    unchecked_module: None, tmp_path_factory: pytest.TempPathFactory, as_openvino: Callable[..., Path]
) -> dict[str, Path]:
    """The shipped classifier, for 4 images of its size at once, as bytes."""
    pytest.importorskip("onnxruntime")
    onnx = tmp_path_factory.mktemp("fashion") / "fashion.onnx"
    swin.export_onnx(load_model("fashion").eval(), onnx, image_size=28, batch_size=4, byte_input=True)
    return {"onnx": onnx, "xml": as_openvino(onnx, onnx.with_suffix(".xml"))}


@pytest.mark.parametrize("form", ["onnx", "xml"])
def test_a_classifiers_file_gives_the_models_results(form: str, fashion: dict[str, Path]) -> None:
    sample = FashionSample("test")
    clothes: list[Any] = [sample[index][0] for index in range(6)]
    # Grey and in colours, larger and oblong, as a tensor and as an array: all in one list.
    mixed = [*clothes, clothes[0].resize((50, 90)), clothes[1].convert("RGB").resize((33, 28)), np.asarray(clothes[2])]
    mixed.append(torch.from_numpy(np.asarray(clothes[3]).copy())[None])
    expected = Predictor(load_model("fashion"), device="cpu")(mixed)
    predictor = Predictor(fashion[form])
    assert isinstance(predictor.model, ExportedModel)
    for many in (predictor(mixed), [predictor(one) for one in mixed]):
        for got, wanted in zip(many, expected, strict=True):
            assert (got.labels, got.names) == (wanted.labels, wanted.names)
            assert got.scores == pytest.approx(wanted.scores, abs=1e-5)


@pytest.mark.parametrize("form", ["onnx", "xml"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 1},
        {"flip": True},
        {"multi_scale": True, "flip": True},
        {"mode": "slide", "crop_size": (40, 40), "stride": (25, 30)},
    ],
    ids=lambda options: " ".join(options),
)
def test_a_segmenters_file_gives_the_models_results(
    form: str,
    options: dict[str, Any],
    segmenter: Segmenter,
    segmenter_files: dict[str, Path],
    images: list[Image.Image],
) -> None:
    expected = Predictor(segmenter, device="cpu", **options)(images)
    for got, wanted in zip(Predictor(segmenter_files[form], **options)(images), expected, strict=True):
        assert (got.names, got.palette) == (wanted.names, wanted.palette)
        assert got.labels.dtype == wanted.labels.dtype and got.labels.shape == wanted.labels.shape
        assert (got.labels == wanted.labels).mean() > 0.999, "but for ties"


@pytest.mark.parametrize("form", ["onnx", "xml"])
def test_logits_are_the_models(form: str, segmenter: Segmenter, segmenter_files: dict[str, Path]) -> None:
    model = load_model(segmenter_files[form])
    for size in ((1, 1), (17, 9), (64, 80)):
        pixels = torch.randn(2, 3, *size)
        with torch.no_grad():
            torch.testing.assert_close(model(pixels), segmenter.eval()(pixels), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", ["onnx", "xml"])
def test_a_file_of_several_labels_an_image_says_so(
    form: str, unchecked_shapes: None, tmp_path: Path, as_openvino: Callable[..., Path]
) -> None:
    pytest.importorskip("onnxruntime")
    model = load_model("fashion").eval()
    model.multi_label = True
    path = tmp_path / "several.onnx"
    swin.export_onnx(model, path, image_size=28)
    predictor = Predictor(path if form == "onnx" else as_openvino(path, tmp_path / "several.xml"))
    image = FashionSample("test")[0][0]
    found, expected = predictor(image), Predictor(model, device="cpu")(image)
    assert predictor.model.multi_label and predictor.model.metadata()["multi_label"] is True
    assert found.labels == expected.labels and found.scores == pytest.approx(expected.scores, abs=1e-5)
    with torch.no_grad():
        logits = model(predictor.prepare(image)[None])[0]
    assert found.scores[0] == pytest.approx(float(logits.max().sigmoid()), abs=1e-5)
