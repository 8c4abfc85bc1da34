"""Exported models: the form that is traced equals the model at every size, and the files equal the model."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch
from torch import nn

import swin_transformer_pytorch as swin
from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.export import ExportError, export_onnx, export_program
from swin_transformer_pytorch.export.comparison import relative_error
from swin_transformer_pytorch.export.graph import METADATA, prepare
from swin_transformer_pytorch.models.backbone import SwinBackbone
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.models.config import SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.optimize import optimize_for_inference
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing, Preprocessing

_Model = TypeVar("_Model", bound=nn.Module)
SMALL = SwinConfig(embed_dim=8, depths=(2, 1), num_heads=(1, 2), window_size=4)
SIZES = [(1, 1), (5, 9), (15, 16), (16, 17), (33, 70), (64, 12)]
FORMS: list[dict[str, Any]] = [
    {},
    {"single_window": "keep"},
    {"window_size": (2, 5), "qkv_bias": False},
    {"version": 2},
    {"version": 2, "pretrained_window_sizes": (6, 3), "single_window": "keep", "patch_size": (2, 3)},
    {"in_channels": 1, "depths": (2, 3, 1), "num_heads": (1, 2, 4), "window_size": 3},
]


pytestmark = pytest.mark.usefixtures("unchecked_shapes")


def randomised(model: _Model) -> _Model:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim <= 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def classifier(config: SwinConfig = SMALL) -> SwinClassifier:
    preprocessing = Preprocessing(image_size=16, resize_size=16)
    return randomised(SwinClassifier(config, num_classes=3, classes=("a", "b", "ß"), preprocessing=preprocessing))


def backbone() -> SwinBackbone:
    return randomised(SwinBackbone(SMALL.replace(single_window="keep"), out_indices=(0, 1), name="small"))


def segmenter() -> nn.Module:
    config = SegmenterConfig(
        backbone=SMALL.replace(version=2, single_window="keep"),
        num_classes=3,
        decode_dim=8,
        auxiliary_dim=8,
        auxiliary_index=0,
    )
    return randomised(build(ModelDescription(config=config, preprocessing=DensePreprocessing.ade20k())))


def assert_equal(graph: Any, size: tuple[int, int], batch: int) -> None:
    (images,) = graph.example(size, batch)
    with torch.no_grad():
        for got, expected in zip(graph.module(images), graph.original(images), strict=True):
            assert relative_error(got, expected) < 5e-6


@pytest.mark.parametrize("changes", FORMS)
def test_the_form_for_any_size_equals_the_model(changes: dict[str, Any]) -> None:
    graph = prepare(classifier(SMALL.replace(**changes)))
    for size in SIZES:
        for batch in (1, 3):
            assert_equal(graph, size, batch)


@pytest.mark.parametrize("changes", FORMS)
@pytest.mark.parametrize("size", SIZES)
def test_the_form_for_one_size_equals_the_model(changes: dict[str, Any], size: tuple[int, int]) -> None:
    assert_equal(prepare(classifier(SMALL.replace(**changes)), size), size, 2)


@pytest.mark.parametrize("make", [backbone, segmenter])
@pytest.mark.parametrize("image_size", [None, (33, 70)])
def test_maps_equal_those_of_the_model(make: Any, image_size: tuple[int, int] | None) -> None:
    graph = prepare(make(), image_size)
    for size in [image_size] if image_size else SIZES:
        assert_equal(graph, size, 2)


@pytest.mark.parametrize("make", [classifier, segmenter])
def test_bytes_are_normalised_inside(make: Any) -> None:
    model = make()
    images = torch.randint(256, (2, 9, 20, 3), dtype=torch.uint8)
    mean, std = (torch.tensor(values)[:, None, None] for values in (model.preprocessing.mean, model.preprocessing.std))
    with torch.no_grad():
        expected = model((images.permute(0, 3, 1, 2) / (255 if mean.max() < 1 else 1) - mean) / std)
    (got,) = prepare(model, byte_input=True).module(images)
    assert relative_error(got, expected) < 1e-5


def run_onnx(path: Path, images: torch.Tensor) -> list[np.ndarray[Any, Any]]:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray[Any, Any]] = session.run(None, {"images": images.numpy()})
    return outputs


@pytest.mark.slow
def test_one_onnx_file_is_for_every_batch_and_size(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = classifier()
    path = swin.export_onnx(model, tmp_path / "small.onnx", byte_input=False)
    onnx.checker.check_model(path, full_check=True)
    for size in SIZES:
        for batch in (1, 2, 5):
            images = torch.randn(batch, 3, *size)
            (got,) = run_onnx(path, images)
            with torch.no_grad():
                assert relative_error(torch.from_numpy(got), model(images)) < 1e-5
    loaded = onnx.load(path)
    assert [value.name for value in (*loaded.graph.input, *loaded.graph.output)] == ["images", "logits"]
    axes = [axis.dim_param or axis.dim_value for axis in loaded.graph.input[0].type.tensor_type.shape.dim]
    assert axes == ["batch", 3, "height", "width"]
    described = json.loads({entry.key: entry.value for entry in loaded.metadata_props}[METADATA])
    assert described == json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert (described["task"], described["classes"]) == ("classification", ["a", "b", "ß"])
    assert Preprocessing.from_dict(described["preprocessing"]) == model.preprocessing


@pytest.mark.slow
def test_an_onnx_file_of_one_size_has_no_arithmetic_on_integers(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    path = export_onnx(segmenter(), tmp_path / "small.onnx", (40, 64))
    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    types = {value.name: value.type.tensor_type for value in model.graph.value_info}
    whole = {onnx.TensorProto.INT64, onnx.TensorProto.INT32}
    arithmetic = {"Add", "Sub", "Mul", "Div", "Mod", "Where", "Range", "Shape"}
    found = [node.op_type for node in model.graph.node if node.op_type in arithmetic]
    of_integers = [
        node.op_type
        for node in model.graph.node
        if node.op_type in arithmetic and any(name in types and types[name].elem_type in whole for name in node.output)
    ]
    assert found and not of_integers, set(of_integers)
    assert max(len(kind.shape.dim) for kind in types.values()) <= 5


@pytest.mark.slow
@pytest.mark.parametrize("make", [classifier, segmenter])
def test_an_exported_program_runs_without_this_package(make: Any, tmp_path: Path) -> None:
    """A detector's as well, where torchvision is imported: tests/export/test_detectors.py."""
    model = make()
    export_program(model, tmp_path / "small.pt2")
    images = {f"{batch}x{size}": torch.randn(batch, 3, *size) for size in SIZES for batch in (1, 3)}
    torch.save(images, tmp_path / "images.pt")
    code = (
        "import sys, json, torch\n"
        "extra = {sys.argv[2] + '.json': ''}\n"
        "run = torch.export.load(sys.argv[1] + '/small.pt2', extra_files=extra).module()\n"
        "images = torch.load(sys.argv[1] + '/images.pt')\n"
        "torch.save({name: run(value)[0] for name, value in images.items()}, sys.argv[1] + '/out.pt')\n"
        "assert json.loads(extra[sys.argv[2] + '.json'])['task']\n"
        "assert not any(name.startswith('swin_') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, tmp_path, METADATA], check=True, cwd=tmp_path)
    model.requires_grad_(False)
    for name, got in torch.load(tmp_path / "out.pt").items():
        assert relative_error(got, model(images[name])) < 1e-5


def hooked() -> nn.Module:
    model = classifier()
    model.layers[0].blocks[1].attn.qkv.register_forward_hook(lambda module, inputs, out: 2 * out)
    return model


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (lambda: optimize_for_inference(classifier()), {}, "optimised"),
        (hooked, {}, "layers.0.blocks.1 is not as this package made it"),
        (lambda: classifier().half(), {}, r"float16: export it in float32"),
        (classifier, {"image_size": 0}, "image_size=0 is not possible"),
        (backbone, {"byte_input": True}, "preprocessing is known"),
        (lambda: nn.Linear(2, 2), {}, "Linear cannot be exported"),
    ],
)
def test_what_cannot_be_exported_is_named(make: Any, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(ExportError, match=message):
        export_onnx(make(), tmp_path / "model.onnx", **options)
    with pytest.raises(ExportError, match=message):
        export_program(make(), tmp_path / "model.pt2", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("model.txt", {}, "must end in"),
        ("missing/model.onnx", {}, "is not a folder"),
        ("model.onnx", {"opset": 9}, "opset=9 is not possible: use 18 to 23"),
    ],
)
def test_where_it_cannot_go_is_named(name: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(ExportError, match=message):
        export_onnx(classifier(), tmp_path / name, **options)


@pytest.mark.parametrize("by", [0.01, float("nan"), float("inf")])
def test_a_file_that_differs_is_not_left(by: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from swin_transformer_pytorch.export import program

    def wrong(model: Any, *args: Any, **options: Any) -> Any:
        graph = prepare(model, *args, **options)
        with torch.no_grad():
            graph.module.model.head.bias[0] += by
        return graph

    monkeypatch.setattr(program, "prepare", wrong)
    with pytest.raises(ExportError, match="the exported logits differ from the model's by"):
        export_program(classifier(SMALL.replace(depths=(1, 1))), tmp_path / "model.pt2", (8, 8))
    assert not list(tmp_path.iterdir())


def test_a_model_that_gives_no_numbers_is_not_exported(tmp_path: Path) -> None:
    model = classifier(SMALL.replace(depths=(1, 1)))
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    with pytest.raises(ExportError, match="infinite or none, .* look for such numbers in its weights"):
        export_program(model, tmp_path / "model.pt2", (8, 8))
    assert not list(tmp_path.iterdir())
