"""Exported detectors: the form that is traced finds what the model finds, and so do files of one part or of two."""

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.export import ExportError, export_onnx, export_program
from swin_transformer_pytorch.export.comparison import matched, relative_error, telling_thresholds
from swin_transformer_pytorch.export.detection import set_threshold
from swin_transformer_pytorch.export.graph import METADATA, Graph, prepare
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import DetectorConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.detection import Detector
from swin_transformer_pytorch.models.detection_inference import detect
from swin_transformer_pytorch.models.runtimes import openvino_core
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

METHODS = ("mask_rcnn", "cascade_mask_rcnn", "htc")
SMALL = SwinConfig(embed_dim=8, depths=(2, 1), num_heads=(1, 2), window_size=3, single_window="keep")
SIZES = [(1, 1), (7, 11), (40, 70), (131, 90)]
FORMS: list[tuple[str, dict[str, Any]]] = [
    *((method, {}) for method in METHODS),
    ("htc", {"global_attention": True, "num_classes": 1}),
    ("mask_rcnn", {"version": 2, "num_classes": 7}),
    ("mask_rcnn", {"depths": (1, 1, 1), "num_heads": (1, 1, 2), "in_channels": 1, "max_detections": 10}),
]

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


def detector(method: str = "mask_rcnn", size_divisor: int = 32, **fields: Any) -> Detector:
    """With predictions that differ from place to place, as an untrained model's do not."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"num_classes": 3, "fpn_dim": 8, "fc_dim": 16, "num_semantic_classes": 4}
    config = DetectorConfig(method=method, backbone=SMALL, **sizes).replace(**fields)
    channels = config.backbone.in_channels
    preprocessing = DensePreprocessing(mean=(100.0,) * channels, std=(50.0,) * channels, size_divisor=size_divisor)
    model = build(ModelDescription(config=config, preprocessing=preprocessing))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("fc_cls.weight", "fc_reg.weight", "rpn_cls", "rpn_reg.weight")):
                parameter.mul_(100 if "rpn_reg" in name else 30)  # some regions end beyond the image, without area
        for name, statistic in model.named_buffers():
            if "running" in name:
                statistic.add_(0.3 * torch.rand_like(statistic))
    return model.eval()


def objects(graph: Graph, inputs: tuple[torch.Tensor, ...], threshold: float, run: Any) -> list[Any]:
    """What the model finds at a threshold, and what `run` does, in one order."""
    set_threshold(graph.original.model, threshold)
    with torch.no_grad():
        expected, got = graph.original(*inputs), run(*inputs)
    assert len(got[1]) == len(expected[1])
    return list(zip(*matched(got, expected), strict=True))


def assert_same_objects(graph: Graph, size: tuple[int, int], at_threshold: Any) -> list[int]:
    """Compares all objects of one of three images: where two overlap by nearly the limit, rounding decides, and another
    processor rounds otherwise."""
    for seed in (0, 1):
        with suppress(AssertionError):
            return same_objects(graph, graph.example(size, 1, seed), at_threshold)
    return same_objects(graph, graph.example(size, 1, 2), at_threshold)


def same_objects(graph: Graph, inputs: tuple[torch.Tensor, ...], at_threshold: Any) -> list[int]:
    """Compares them at telling thresholds, and returns how many there were at each."""
    counts = []
    for threshold in telling_thresholds(graph, inputs):
        (boxes, scores, labels, masks) = objects(graph, inputs, threshold, at_threshold(threshold))
        assert torch.equal(*labels)
        for (got, expected), most in ((boxes, 1e-3), (scores, 1e-5), (masks, 1e-4)):
            assert got.shape == expected.shape and bool(((got - expected).abs() <= most).all())
        counts.append(len(scores[0]))
    return counts


def assert_nearly_all_found(graph: Graph, inputs: tuple[torch.Tensor, ...], at_threshold: Any) -> None:
    """PyTorch's convolutions and the model's round otherwise, which decides about overlaps by nearly the limit."""
    for threshold in telling_thresholds(graph, inputs):
        set_threshold(graph.original.model, threshold)
        with torch.no_grad():
            (boxes, scores, labels, _), (right, right_scores, right_labels, _) = (
                run(*inputs) for run in (at_threshold(threshold), graph.original)
            )
        near = (boxes[:, None] - right).abs().amax(2) <= 1e-3
        same = near & ((scores[:, None] - right_scores).abs() <= 1e-5) & (labels[:, None] == right_labels)
        few = 0.05 * len(right) + 1
        assert int(same.any(0).sum()) >= len(right) - few and abs(len(boxes) - len(right)) <= few


def moved(graph: Graph) -> Any:
    """The traced form at a threshold."""

    def at_threshold(value: float) -> Any:
        (buffer,) = (one for name, one in graph.module.named_buffers() if name.endswith("score_threshold"))
        buffer.fill_(value)
        return graph.module

    return at_threshold


@pytest.mark.parametrize(("method", "changes"), FORMS)
@pytest.mark.parametrize("part", [None, "objects"])
def test_the_form_for_any_size_finds_what_the_model_finds(method: str, changes: dict[str, Any], part: Any) -> None:
    graph = prepare(detector(method, **changes), part=part)
    counts = [assert_same_objects(graph, size, moved(graph)) for size in SIZES]
    most = changes.get("max_detections", 100)
    assert all(none == 0 and few for none, *few in counts)
    assert {count for _, *few in counts for count in few} > {most}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("image_size", [None, (33, 70)])
def test_the_network_gives_the_maps_of_the_model(method: str, image_size: Any) -> None:
    graph = prepare(detector(method), image_size, part="network")
    assert graph.outputs == (
        *("map0", "map1", "map2"),
        *(("semantics",) if method == "htc" else ()),
        *("rpn_logits", "rpn_deltas"),
    )
    for size in [image_size] if image_size else SIZES:
        inputs = graph.example(size, 2)
        with torch.no_grad():
            for got, expected in zip(graph.module(*inputs), graph.original(*inputs), strict=True):
                assert relative_error(got, expected) < 5e-6


@pytest.mark.parametrize("image_size", [(33, 70), (1, 1)])
def test_the_form_for_one_size_finds_what_the_model_finds(image_size: tuple[int, int]) -> None:
    graph = prepare(detector("cascade_mask_rcnn", size_divisor=48), image_size)
    assert_same_objects(graph, image_size, moved(graph))


def test_bytes_are_normalised_before_the_padding() -> None:
    model = detector()
    graph = prepare(model, byte_input=True)
    images, scale = graph.example((20, 45), 1)
    (expected,) = detect(model, [(images[0].permute(2, 0, 1).float() - 100) / 50], [scale.tolist()])
    boxes, scores, labels, _ = graph.module(images, scale)
    assert len(labels) > 0 and torch.equal(labels, expected.labels)
    assert relative_error(boxes, expected.boxes_xyxy) < 1e-5 and relative_error(scores, expected.scores) < 1e-5


def onnx_runner(path: Path, graph: Graph) -> Any:
    from swin_transformer_pytorch.export.onnx import start_session

    return lambda threshold: start_session(path, threshold)


@pytest.mark.slow
def test_one_onnx_file_finds_what_the_model_finds(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = detector(depths=(1, 1))
    path = export_onnx(model, tmp_path / "small.onnx")
    graph = prepare(model)
    counts = [
        count
        for size in [(1, 1), (9, 200), (70, 40), (131, 90)]
        for count in assert_same_objects(graph, size, onnx_runner(path, graph))
    ]
    assert {0, 100} <= set(counts) and any(0 < count < 100 for count in counts)
    onnx.checker.check_model(path, full_check=True)
    loaded = onnx.load(path)
    named = [value.name for value in (*loaded.graph.input, *loaded.graph.output)]
    assert named == ["images", "scale_factor", "boxes", "scores", "labels", "masks"]
    axes = [axis.dim_param or axis.dim_value for axis in loaded.graph.input[0].type.tensor_type.shape.dim]
    assert axes == [1, 3, "height", "width"]
    described = json.loads({entry.key: entry.value for entry in loaded.metadata_props}[METADATA])
    assert described["batch_size"] == 1 and described["inputs"] == ["images", "scale_factor"]
    pytest.importorskip("openvino")
    compiled = openvino_core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(*given: torch.Tensor) -> list[torch.Tensor]:
        return [torch.tensor(out) for out in compiled([one.numpy() for one in given]).values()]

    for size in [(1, 1), (70, 40)]:
        errors = [
            max(relative_error(*pair) for pair in objects(graph, graph.example(size, 1, seed), 0.05, run))
            for seed in range(3)
        ]
        assert min(errors) < 1e-4


@pytest.mark.slow
def test_two_onnx_files_find_together_what_the_model_finds(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = detector(depths=(1, 1))
    path = export_onnx(model, tmp_path / "small.onnx", (40, 60), batch_size=2, split=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        f"small.{part}.{kind}" for part in ("network", "objects") for kind in ("json", "onnx")
    ]
    loaded = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    types = {value.name: value.type.tensor_type for value in loaded.graph.value_info}
    whole = {onnx.TensorProto.INT64, onnx.TensorProto.INT32}
    arithmetic = {"Add", "Sub", "Mul", "Div", "Mod", "Where", "Range", "Shape"}
    found = [node for node in loaded.graph.node if node.op_type in arithmetic]
    assert found and not [n.name for n in found if any(types[o].elem_type in whole for o in n.output if o in types)]
    assert max(len(kind.shape.dim) for kind in types.values()) <= 5
    graph, rest = prepare(model, (40, 60), part="network", batch_size=2), tmp_path / "small.objects.onnx"
    described = [json.loads(file.with_suffix(".json").read_text(encoding="utf-8")) for file in (path, rest)]
    assert [one["part"] for one in described] == ["network", "objects"]
    assert described[1]["inputs"] == [*described[0]["outputs"], "image_size", "scale_factor"]
    (images,) = graph.example((40, 60), 2)
    run, scale = onnx_runner(path, graph)(None), torch.tensor([0.5, 0.5, 0.5, 0.5])
    outputs = run(images)
    for index, expected in enumerate(detect(model, list(images), [scale.tolist()] * 2)):
        parts = [output[index : index + 1] for output in outputs]
        boxes, scores, labels, masks = onnx_runner(rest, graph)(None)(*parts, torch.tensor([40, 60]), scale)
        assert len(labels) == len(expected) > 0
        wanted = (expected.boxes_xyxy, expected.scores, expected.labels, expected.masks)
        for got, mine in zip(*matched((boxes, scores, labels, masks), wanted), strict=True):
            assert relative_error(got, mine) < 1e-4


@pytest.mark.slow
def test_an_exported_program_finds_what_the_model_finds(tmp_path: Path) -> None:
    model = detector(depths=(1, 1))
    graph = prepare(model)
    program = torch.export.load(export_program(model, tmp_path / "small.pt2")).module()

    def at_threshold(value: float) -> Any:
        (buffer,) = (one for name, one in program.named_buffers() if name.endswith("score_threshold"))
        buffer.fill_(value)
        return program

    for size in SIZES:
        for seed in (0, 1, 2):
            assert_nearly_all_found(graph, graph.example(size, 1, seed), at_threshold)
    code = (
        "import sys, torch, torchvision\n"
        "run = torch.export.load(sys.argv[1]).module()\n"
        "assert len(run(torch.zeros(1, 3, 40, 60), torch.ones(4))) == 4\n"
        "assert not any(name.startswith('swin_') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, tmp_path / "small.pt2"], check=True, cwd=tmp_path)


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ({"soft_nms": True}, {}, "soft_nms=True suppresses in a loop"),
        ({"soft_nms": True}, {"split": True}, "soft_nms=True suppresses in a loop"),
        ({}, {"batch_size": 2}, "batch_size=2 is not possible: a detector in one file"),
    ],
)
def test_what_cannot_be_exported_is_named(
    fields: dict[str, Any], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    with pytest.raises(ExportError, match=message):
        export_onnx(detector(**fields), tmp_path / "model.onnx", **options)
    assert not list(tmp_path.iterdir())


def wrong_scale(graph: Graph) -> None:
    graph.module.model.objects.roi_head.mask_head.conv_logits.weight.mul_(1.01)


def wrong_classes(graph: Graph) -> None:
    graph.module.model.objects.roi_head.bbox_head.fc_cls.bias[0].add_(0.3)


def wrong_levels(graph: Graph) -> None:
    object.__setattr__(graph.module.model.objects.roi_head.box_extractor, "strides", (8, 4))


@pytest.mark.parametrize("spoil", [wrong_scale, wrong_classes, wrong_levels])
def test_objects_that_differ_are_told(spoil: Any) -> None:
    from swin_transformer_pytorch.export.comparison import compare

    graph = prepare(detector())
    compare(moved(graph), graph)
    with torch.no_grad():
        spoil(graph)
    with pytest.raises(ExportError, match="differ from the model's by"):
        compare(moved(graph), graph)
