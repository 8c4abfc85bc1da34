"""Eight bits: which operations have them, what is compared with what, and what the file then says."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from swin_transformer_pytorch import extras
from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.data.classification.dataset import EvaluationDataset
from swin_transformer_pytorch.data.classification.fashion import CLASSES, ArrayDataset, FashionSample
from swin_transformer_pytorch.data.errors import DataError
from swin_transformer_pytorch.data.images.unusable import Unusable
from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.data.segmentation.dataset import SceneLabelMaps
from swin_transformer_pytorch.data.transforms import create_transform
from swin_transformer_pytorch.evaluation.classification import evaluate
from swin_transformer_pytorch.export import export_onnx, export_openvino, quantization, quantize
from swin_transformer_pytorch.export.agreement import agreement
from swin_transformer_pytorch.export.openvino import openvino_files
from swin_transformer_pytorch.export.quantization import FEWEST, MOST_CALIBRATING, load_exported, split
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.models.config import DetectorConfig, SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.registry import load_model
from swin_transformer_pytorch.models.runtimes import openvino_core
from swin_transformer_pytorch.ops.regions.instances import InstancePredictions
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing, Preprocessing

pytestmark = pytest.mark.usefixtures("unchecked_shapes")
SCENES = open_scenes("scenes_sample", "val", num_scenes=12, image_size=(64, 80))


def classifier() -> SwinClassifier:
    torch.manual_seed(0)
    config = SwinConfig(in_channels=1, embed_dim=8, depths=(1, 2), num_heads=(1, 2), window_size=4)
    grey = Preprocessing(image_size=28, resize_size=28, mean=(0.286,), std=(0.353,))
    return SwinClassifier(config, num_classes=10, classes=CLASSES, preprocessing=grey).eval()


def segmenter() -> Any:
    torch.manual_seed(0)
    config = SegmenterConfig(
        backbone=SwinConfig(
            version=2, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, single_window="keep"
        ),
        num_classes=11,
        decode_dim=8,
        auxiliary_dim=8,
        auxiliary_index=0,
    )
    preprocessing = DensePreprocessing(scale=None, size_divisor=1)
    return build(ModelDescription(config=config, classes=SCENES.semantic_classes, preprocessing=preprocessing)).eval()


def detector() -> Any:
    torch.manual_seed(0)
    backbone = SwinConfig(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, single_window="keep")
    config = DetectorConfig(backbone=backbone, num_classes=10, fpn_dim=8, fc_dim=16, max_detections=8)
    preprocessing = DensePreprocessing(scale=None)
    return build(ModelDescription(config=config, classes=SCENES.classes, preprocessing=preprocessing)).eval()


MODELS: dict[str, Any] = {"classification": classifier, "segmentation": segmenter, "detection": detector}
DATA: dict[str, Any] = {
    "classification": ArrayDataset(FashionSample("test").images[::50], FashionSample("test").labels[::50], CLASSES),
    "segmentation": SceneLabelMaps(SCENES),
    "detection": SCENES,
}
SCORES = {"classification": {"top-1"}, "segmentation": {"mIoU"}, "detection": {"box AP", "mask AP"}}
FILES = ["classification.onnx", "classification.xml", "segmentation.onnx", "segmentation.xml", "detection.xml"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@pytest.fixture(params=FILES)
def source(request: pytest.FixtureRequest, folder: Path) -> Path:
    """A file in float32; each is made once."""
    return float_file(request.param, folder)


def float_file(name: str, folder: Path) -> Path:
    for package in ("onnxruntime", "openvino", "nncf"):
        pytest.importorskip(package)
    path = folder / name
    if not path.exists() and path.suffix == ".onnx":
        fixed: dict[str, Any] = {"image_size": 28, "byte_input": True} if path.stem == "classification" else {}
        export_onnx(MODELS[path.stem](), path, **fixed)
    elif not path.exists() and path.stem == "detection":
        pytest.importorskip("faster_coco_eval")
        export_openvino(MODELS[path.stem](), path, SCENES.image_size)
    elif not path.exists():
        made = float_file(f"{path.stem}.onnx", folder)
        description = json.loads(made.with_suffix(".json").read_text(encoding="utf-8"))
        with openvino_files(path, openvino_core().read_model(made), description):
            pass
    return path


def fed_by(path: Path) -> Iterator[tuple[str, str]]:
    """(what quantises, what takes its values) of a file's 8-bit values, along what moves values only."""
    if path.suffix == ".onnx":
        nodes = extras.require("onnx", extra="export").load(path).graph.node
        for node in nodes:
            if node.op_type in ("DequantizeLinear", "DynamicQuantizeLinear"):
                yield from ((node.op_type, other.op_type) for other in nodes if node.output[0] in other.input)
        return
    moving = {"Reshape", "Transpose", "Concat", "Gather", "Split", "VariadicSplit", "Squeeze", "Unsqueeze", "Pad"}
    for node in openvino_core().read_model(path).get_ops():
        if node.get_type_name() != "FakeQuantize":
            continue
        waiting = [node]
        while waiting:
            for output in waiting.pop().outputs():
                for taker in (port.get_node() for port in output.get_target_inputs()):
                    if taker.get_type_name() in moving:
                        waiting.append(taker)
                    else:
                        yield "FakeQuantize", taker.get_type_name()


@pytest.mark.slow
def test_only_products_have_eight_bits(source: Path, tmp_path: Path) -> None:
    task = source.stem
    result = quantize(source, tmp_path / source.name, DATA[task])
    takers = Counter(taker for _, taker in fed_by(tmp_path / source.name))
    products = {"MatMul", "Gemm", "Conv"} if source.suffix == ".onnx" else {"MatMul", "Convolution"}
    assert takers["MatMul"] > 10 and set(takers) <= products, takers
    assert takers["Conv"] + takers["Convolution"] > 0
    before, after = load_exported(source).file.description, load_exported(tmp_path / source.name).file.description
    assert after == json.loads((tmp_path / source.name).with_suffix(".json").read_text(encoding="utf-8"))
    how = {"method": "static", "calibration_images": int(0.8 * len(DATA[task])), **json.loads(json.dumps(vars(result)))}
    assert after == {**before, "precision": "int8", "int8": how}
    assert result.num_images == len(DATA[task]) - how["calibration_images"]
    assert set(result.measured) == SCORES[task]
    assert 0.5 < min(result.shares.values()) <= 1
    suffixes = {".xml", ".bin", ".json"} if source.suffix == ".xml" else {".onnx", ".json"}
    assert {file.suffix for file in tmp_path.iterdir()} == suffixes


@pytest.mark.slow
def test_dynamic_ranges_need_no_calibration(folder: Path, tmp_path: Path) -> None:
    source = float_file("classification.onnx", folder)
    result = quantize(source, tmp_path / "small.onnx", DATA["classification"], method="dynamic")
    assert result.num_images == len(DATA["classification"])
    assert {taker for _, taker in fed_by(tmp_path / "small.onnx")} == {"MatMulInteger"}
    assert load_exported(tmp_path / "small.onnx").file.description["int8"]["calibration_images"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("broken", [0, 1, 3])
def test_images_that_cannot_be_used_are_counted(broken: int, folder: Path, tmp_path: Path) -> None:
    source = float_file("classification.onnx", folder)
    (tmp_path / "photos").mkdir()
    for index in range(14):
        path = tmp_path / "photos" / f"{index}.png"
        Image.fromarray(DATA["classification"].images[index]).save(path)
        if index < broken:
            path.write_text("no image")
    said: list[str] = []
    unusable = Unusable(14, "images", say=said.append)
    if broken > 0.2 * 14:
        with pytest.raises(DataError, match="3 of 14 images could not be used"):
            quantize(source, tmp_path / "small.onnx", tmp_path / "photos", unusable=unusable)
        assert not (tmp_path / "small.onnx").exists()
        return
    result = quantize(source, tmp_path / "small.onnx", tmp_path / "photos", unusable=unusable)
    described = load_exported(tmp_path / "small.onnx").file.description["int8"]
    assert described["calibration_images"] + result.num_images == 14 - broken
    assert len(said) == broken and result.measured == {}


@pytest.mark.slow
def test_what_cannot_be_quantised_is_named(folder: Path, tmp_path: Path) -> None:
    source, strange = float_file("classification.onnx", folder), tmp_path / "strange.onnx"
    onnx = extras.require("onnx", extra="export")
    model = onnx.load(source)
    onnx.helper.set_model_props(model, {})
    onnx.save(model, strange)
    cases: list[tuple[Path, Path | str, Any, dict[str, Any], str]] = [
        (source, "small.xml", DATA["classification"], {}, "must end in .onnx"),
        (source, "missing/small.onnx", DATA["classification"], {}, "missing is not a folder"),
        (source, "small.onnx", tmp_path / "photos", {}, "photos is not a folder: give one with images"),
        (source, "small.onnx", tmp_path, {}, f"has 0 images, and 8 bits need at least {FEWEST}"),
        (source, "small.onnx", ["a.png"] * 9, {}, "the data set has 9 images, and 8 bits need at least 10"),
        (source, "small.onnx", DATA["classification"], {"method": "nearest"}, "use 'static', or for ONNX also"),
        (source.with_suffix(".xml"), "small.xml", DATA["classification"], {"method": "dynamic"}, "not possible for"),
        (strange, "small.onnx", DATA["classification"], {}, "does not say which model it is"),
    ]
    for path, target, images, options, message in cases:
        with pytest.raises(ValueError, match=message):
            quantize(path, tmp_path / target, images, **options)
    assert list(tmp_path.iterdir()) == [strange]


@given(count=st.integers(FEWEST, 5000), seed=st.integers(0, 5), method=st.sampled_from(["static", "dynamic"]))
def test_other_images_calibrate_than_are_compared_on(count: int, seed: int, method: Any) -> None:
    calibrating, compared = split(count, "photos", method=method, seed=seed)
    assert not {*calibrating} & {*compared} and {*calibrating, *compared} <= {*range(count)}
    assert (len(calibrating), compared) == (
        (0, sorted(compared)) if method == "dynamic" else (len(calibrating), compared)
    )
    assert method == "dynamic" or 8 <= len(calibrating) <= MOST_CALIBRATING
    assert len(compared) >= min(0.2 * count, 1000)
    assert split(count, "photos", method=method, seed=seed) == (calibrating, compared)


class FoundObjects(nn.Module):
    """Finds in every image the same boxes, in its pixels, with these labels and scores."""

    task, num_classes, classes = "detection", 10, SCENES.classes
    preprocessing = DensePreprocessing(scale=None, size_divisor=1)

    def __init__(self, *objects: tuple[list[float], int, float]) -> None:
        super().__init__()
        self.objects = objects

    def forward(self, images: torch.Tensor, *_: Any) -> list[InstancePredictions]:
        boxes, labels, scores = zip(*self.objects, strict=True)
        found = InstancePredictions(
            boxes_xyxy=torch.tensor(boxes),
            labels=torch.tensor(labels),
            scores=torch.tensor(scores),
            masks=torch.ones(len(boxes), 28, 28),
        )
        return [found] * len(images)


A, NEAR_A, B = [0.0, 0.0, 20.0, 20.0], [0.0, 0.0, 20.0, 15.0], [40.0, 30.0, 60.0, 60.0]


@pytest.mark.parametrize(
    ("second", "again", "old"),
    [
        ([(A, 1, 0.9), (B, 2, 0.8)], 1.0, 1.0),
        ([(NEAR_A, 1, 0.5), (B, 2, 0.8)], 1.0, 1.0),  # overlaps by 3/4
        ([(A, 2, 0.9), (B, 2, 0.8)], 0.5, 0.5),  # another class
        ([(A, 1, 0.9), (B, 2, 0.2)], 0.5, 1.0),  # a score too low to count
        ([(A, 1, 0.9), (B, 2, 0.8), ([5.0, 40.0, 25.0, 60.0], 3, 0.7)], 1.0, 2 / 3),
        ([(B, 1, 0.9)], 0.0, 0.0),
        ([(B, 1, 0.1)], 0.0, 1.0),
    ],
)
def test_objects_are_found_again_or_new(second: Any, again: float, old: float) -> None:
    pytest.importorskip("faster_coco_eval")
    models = FoundObjects((A, 1, 0.9), (B, 2, 0.8)), FoundObjects(*second)
    result = agreement(*models, SCENES, range(3), Unusable(3, "images"))
    assert result.shares == pytest.approx({"found again": again, "not new": old})
    assert set(result.measured) == {"box AP", "mask AP"} and result.num_images == 3
    pictures = [SCENES[index].image for index in range(3)]
    assert agreement(*models, pictures, range(3), Unusable(3, "images")).measured == {}


def test_several_labels_an_image_are_compared_label_by_label() -> None:
    first, second = classifier(), classifier()
    first.multi_label = second.multi_label = True
    pictures = [FashionSample("test")[index][0] for index in range(0, 1000, 100)]
    with torch.no_grad():
        prepared = torch.stack([create_transform(first)(image) for image in pictures])
        first.head.bias -= first(prepared).mean(dim=0)  # some are found and some are not
        second.head.bias.copy_(first.head.bias + 0.3)
        found = [model(prepared) >= 0 for model in (first, second)]
    truth = [(np.arange(10) % 3 == index % 3).astype(np.uint8) for index in range(10)]
    result = agreement(first, second, list(zip(pictures, truth, strict=True)), range(10), Unusable(10, "images"))
    assert result.shares == {"labels": pytest.approx((found[0] == found[1]).float().mean().item())}
    assert 0 < result.shares["labels"] < 1
    # A shift of all scores of a class changes no order.
    assert result.measured["mAP"][0] == pytest.approx(result.measured["mAP"][1])
    assert agreement(first, second, pictures, range(10), Unusable(10, "images")).measured == {}
    empty = [(image, np.zeros(10, dtype=np.uint8)) for image in pictures]
    assert agreement(first, second, empty, range(10), Unusable(10, "images")).measured == {"mAP": (None, None)}


@pytest.mark.slow
def test_the_shipped_classifier_keeps_its_accuracy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tools/check_int8.py` in small: ONNX Runtime's static form."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(quantization, "MOST_COMPARED", 1)
    model = load_model("fashion")
    source = export_onnx(model, tmp_path / "fashion.onnx", 28)
    train, test = FashionSample("train"), FashionSample("test")
    some = np.random.default_rng(0).permutation(len(train))[:80]
    quantize(source, tmp_path / "int8.onnx", ArrayDataset(train.images[some], train.labels[some], CLASSES))
    half = ArrayDataset(test.images[::2], test.labels[::2], CLASSES)
    prepared = EvaluationDataset(half, create_transform(model))
    before, after = (evaluate(load_exported(path), prepared).top1 for path in (source, tmp_path / "int8.onnx"))
    assert (tmp_path / "int8.onnx").stat().st_size < 0.5 * source.stat().st_size
    assert before > 0.89 and round(before - after, 6) <= 0.006  # three images
