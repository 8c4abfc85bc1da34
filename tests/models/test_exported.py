"""Exported files as models: what they take and give, and what is said of those that cannot be used."""

import copy
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

import swin_transformer_pytorch as swin
from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.data.transforms import create_transform
from swin_transformer_pytorch.extras import MissingExtraError
from swin_transformer_pytorch.models import runtimes
from swin_transformer_pytorch.models.config import DetectorConfig, SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.detection_inference import detect, detect_multi_scale
from swin_transformer_pytorch.models.exported import ExportedDetector, ExportedModel
from swin_transformer_pytorch.models.inputs import as_bytes
from swin_transformer_pytorch.models.registry import load_model
from swin_transformer_pytorch.weights.files import CheckpointError, read_checkpoint
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing, Preprocessing

WriteFile = Callable[..., Path]
BACKBONE = SwinConfig(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4)
PREPROCESSING = Preprocessing(image_size=(6, 8), resize_size=(6, 8))
DESCRIPTIONS = {
    one.task: one.to_dict()
    for one in (
        ModelDescription(config=BACKBONE, num_classes=3, classes=("a", "b", "c"), preprocessing=PREPROCESSING),
        ModelDescription(
            config=SegmenterConfig(backbone=BACKBONE, num_classes=3, auxiliary_index=0),
            palette=((1, 2, 3), (4, 5, 6), (7, 8, 9)),
            preprocessing=DensePreprocessing(scale=None, size_divisor=1),
        ),
        ModelDescription(config=DetectorConfig(backbone=BACKBONE, num_classes=3), preprocessing=DensePreprocessing()),
    )
}
CLASSIFIER = DESCRIPTIONS["classification"]


def pixels(count: int, *size: int) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(count))


def logits_of(images: Tensor) -> Tensor:
    """What a small file for classification is to give."""
    return images.mean(dim=(2, 3)) @ torch.arange(9.0).sin().view(3, 3)


def open_form(form: str, source: Path, as_openvino: WriteFile, description: dict[str, Any] | None = None) -> Any:
    return load_model(source if form == "onnx" else as_openvino(source, source.with_suffix(".xml"), description))


@pytest.mark.parametrize("form", ["onnx", "xml"])
@pytest.mark.parametrize("task", DESCRIPTIONS)
def test_a_file_is_what_it_says(form: str, task: str, small_file, as_openvino, tmp_path: Path) -> None:
    source = small_file(tmp_path / "small.onnx", DESCRIPTIONS[task], task=task, batch=1)
    model = open_form(form, source, as_openvino)
    assert isinstance(model, ExportedDetector if task == "detection" else ExportedModel) and not model.training
    assert model.metadata() == DESCRIPTIONS[task]
    assert not list(model.parameters())


@pytest.mark.parametrize("place", ["onnx", "json beside onnx", "framework", "rt_info", "json beside xml"])
def test_the_description_is_found_wherever_it_lies(place: str, small_file, as_openvino, tmp_path: Path) -> None:
    inside = CLASSIFIER if place in ("onnx", "framework") else None
    path = small_file(tmp_path / "small.onnx", inside)
    if place in ("framework", "rt_info", "json beside xml"):
        path = as_openvino(path, tmp_path / "small.xml", CLASSIFIER if place == "rt_info" else None)
    if place.startswith("json"):
        path.with_suffix(".json").write_text(json.dumps(CLASSIFIER), encoding="utf-8")
    assert load_model(path).classes == ("a", "b", "c")


@pytest.mark.parametrize("form", ["onnx", "xml"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("batch", ["batch", 1, 2, 3])
def test_any_number_of_images_goes_through_a_file_of_any_batch(
    form: str, dtype: str, batch: Any, small_file, as_openvino, tmp_path: Path
) -> None:
    source = small_file(tmp_path / "small.onnx", CLASSIFIER, dtype=dtype, batch=batch, size=(6, 8))
    model = open_form(form, source, as_openvino)
    for count in (1, 2, 3, 5):
        bytes_ = torch.randint(256, (count, 3, 6, 8), dtype=torch.uint8)
        images = torch.stack([create_transform(PREPROCESSING)(one) for one in bytes_])
        torch.testing.assert_close(model(images), logits_of(images), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model(images.double()[..., :]), logits_of(images), atol=1e-5, rtol=1e-5)


@given(
    st.binary(min_size=48, max_size=48),
    st.lists(st.tuples(st.floats(-2, 2), st.floats(1e-3, 10)), min_size=3, max_size=3),
    st.sampled_from([Preprocessing, DensePreprocessing]),
)
def test_normalised_images_give_their_bytes_back(values: bytes, normal: list[tuple[float, float]], kind: Any) -> None:
    image = np.frombuffer(values, np.uint8).reshape(4, 4, 3)
    mean, std = (tuple(column) for column in zip(*normal, strict=True))
    if kind is Preprocessing:
        preprocessing: Any = Preprocessing(image_size=4, resize_size=4, mean=mean, std=std)
        prepared = create_transform(preprocessing)(image)
    else:
        preprocessing = DensePreprocessing(scale=None, mean=mean, std=std)
        prepared = create_transform(preprocessing)(image).pixels
    assert np.array_equal(as_bytes(prepared[None], preprocessing)[0].numpy(), image)


@pytest.mark.parametrize("form", ["onnx", "xml"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("given_size", [(6, 9), (7, 8), (1, 1)])
def test_an_image_of_another_size_than_the_files_is_named(
    form: str, dtype: str, given_size: tuple[int, int], small_file, as_openvino, tmp_path: Path
) -> None:
    source = small_file(tmp_path / "small.onnx", CLASSIFIER, dtype=dtype, size=(6, 8))
    model = open_form(form, source, as_openvino)
    assert model.image_size == (6, 8)
    height, width = given_size
    message = rf"small\.{form} takes images of 6 x 8 pixels alone, and this one has {height} x {width}: .*image_size"
    with pytest.raises(ValueError, match=message):
        model(pixels(1, *given_size))
    with pytest.raises(ValueError, match="takes images of 3 channels, and here are 1"):
        model(torch.zeros(1, 1, 6, 8))


@pytest.mark.parametrize("form", ["onnx", "xml"])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_a_detector_looks_at_each_image_alone_and_unpadded(
    form: str, dtype: str, small_file, as_openvino, tmp_path: Path
) -> None:
    source = small_file(tmp_path / "s.onnx", DESCRIPTIONS["detection"], task="detection", dtype=dtype, batch=1)
    model = open_form(form, source, as_openvino)
    bytes_ = [torch.randint(256, (3, *size), dtype=torch.uint8) for size in ((20, 33), (33, 20), (20, 33), (64, 64))]
    bytes_[0][:2] = 0  # finds one object, the next three, the last none
    bytes_[1][:] = 255
    bytes_[3][:] = 0
    mean, std = (
        torch.tensor(values)[:, None, None] for values in (DensePreprocessing().mean, DensePreprocessing().std)
    )
    images = [(one - mean) / std for one in bytes_]
    factors = [(1.0, 2.0, 1.0, 2.0), (0.5, 0.25, 0.5, 0.25), (1.0,) * 4, (3.0,) * 4]
    found = detect(model, images, factors)
    for image, factor, one in zip(images, factors, found, strict=True):
        scores = image.mean(dim=(1, 2)).sigmoid()
        assert one.labels.tolist() == [label for label in range(3) if scores[label] > 0.5]
        torch.testing.assert_close(one.scores, scores[one.labels], atol=1e-5, rtol=1e-5)
        box = [0.0, 0.0, image.shape[2] / factor[0], image.shape[1] / factor[1]]
        torch.testing.assert_close(one.boxes_xyxy, torch.tensor([box] * len(one)).view(-1, 4))
        assert one.masks.shape == (len(one), 28, 28)
    assert len(found[1]) == 3 and len(found[3]) == 0
    assert model(images[0][None])[0].boxes_xyxy[0].tolist() == [0, 0, 33, 20], "not resized where nobody says so"
    for options in ({"multi_scale": True}, {"flip": True}):
        with pytest.raises(ValueError, match=rf"s\.{form} looks at an image once: leave multi_scale and flip out"):
            swin.Predictor(model, **options)
    with pytest.raises(ValueError, match="looks at an image once"):
        detect_multi_scale(model, images[:1], factors[:1])
    with pytest.raises(ValueError, match="give one an image"):
        model(images[0][None], scale_factors=factors)


def test_a_score_threshold_works_on_a_files_objects(small_file, tmp_path: Path) -> None:
    path = small_file(tmp_path / "small.onnx", DESCRIPTIONS["detection"], task="detection", batch=1)
    image = Image.new("RGB", (50, 40), (255, 190, 130))
    everything = swin.Predictor(path)(image)
    assert len(everything) == 3 and everything.masks.shape == (3, 40, 50)
    least = sorted(everything.scores)[1]
    assert len(swin.Predictor(path, score_threshold=float(least))(image)) == 2


@pytest.mark.parametrize("form", ["onnx", "xml"])
@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])  # noqa: S301
def test_a_copy_opens_the_file_again(
    form: str, copied: Any, small_file, as_openvino, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = open_form(form, small_file(Path("small.onnx"), CLASSIFIER), as_openvino)
    model.classes = ("x", "y", "z")
    monkeypatch.chdir("/")
    other = copied(model)
    assert other.classes == model.classes and other.file is not model.file
    assert torch.equal(other(pixels(2, 5, 5)), model(pixels(2, 5, 5)))


@pytest.mark.parametrize("form", ["onnx", "xml"])
def test_where_and_how_it_computes_is_settled(form: str, small_file, as_openvino, tmp_path: Path) -> None:
    path = small_file(tmp_path / "small.onnx", CLASSIFIER)
    model = open_form(form, path, as_openvino)
    assert model.to("cpu").float().cpu() is model
    for change in (model.half, lambda: model.to(torch.bfloat16), lambda: model.to("cpu", torch.float64)):
        with pytest.raises(ValueError, match="computes in float32"):
            change()
    for device in ("cuda", "cuda:1", "meta"):
        with pytest.raises(ValueError, match=rf"device='{device}' cannot run .*small\.{form}.*device='cpu'"):
            swin.Predictor(model, device=device)
    assert swin.Predictor(model).device.type == "cpu"
    with pytest.raises(ValueError, match="has no state dict: copy the file"):
        model.state_dict()


@pytest.mark.parametrize("form", ["onnx", "xml"])
def test_a_file_gets_as_many_threads_as_pytorch(
    form: str, small_file, as_openvino, tmp_path: Path, monkeypatch
) -> None:
    onnxruntime, openvino = (pytest.importorskip(name) for name in ("onnxruntime", "openvino"))
    path = small_file(tmp_path / "small.onnx", CLASSIFIER)
    path = path if form == "onnx" else as_openvino(path, tmp_path / "small.xml")
    seen = []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, path: Any, options: Any, **others: Any) -> None:
            seen.append(options.intra_op_num_threads)
            super().__init__(path, options, **others)

    class Core(openvino.Core):
        def compile_model(self, *arguments: Any) -> Any:
            compiled = super().compile_model(*arguments)
            assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"
            seen.append(compiled.get_property("INFERENCE_NUM_THREADS"))
            return compiled

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(runtimes, "openvino_core", Core)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    load_model(path)
    assert seen == [1]


OPEN_AND_CLOSE = """
import faulthandler, signal, subprocess, sys
import swin_transformer_pytorch as swin

faulthandler.enable()
signal.signal(signal.SIGCHLD, lambda *_: None)  # as DataLoader does
models = [swin.load_model(sys.argv[1]) for _ in range(3)]
while models:
    del models[0]
    subprocess.run(["true"])
print("still here")
"""


def test_files_closed_in_any_order_leave_signals_alone(small_file, as_openvino, tmp_path: Path) -> None:
    path = as_openvino(small_file(tmp_path / "small.onnx", CLASSIFIER), tmp_path / "small.xml")
    done = subprocess.run([sys.executable, "-c", OPEN_AND_CLOSE, path], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "still here\n"), done.stderr


def described(**changes: Any) -> dict[str, Any]:
    return {**CLASSIFIER, **changes}


BAD: list[tuple[Any, str]] = [
    (None, "does not say which model it is, nor does a small.json beside it"),
    ("[1, 2]", "which is no dict"),
    ("{", "which is no JSON"),
    ("[" * 100_000, "which is no JSON"),
    (described(format_version=2), "format_version=2.*pip install --upgrade"),
    (described(task="pose"), "task='pose'; this version has"),
    (described(task=7), "damaged description.*task=7"),
    ({"task": "backbone", "name": None, "config": {}}, "is a backbone"),
    (described(task="detection", part="network"), "one of a detector's two parts: give the file of the whole"),
    ({key: value for key, value in CLASSIFIER.items() if key != "classes"}, "damaged description.*no 'classes'"),
    (described(classes=["a"]), "not 3 names"),
    (described(config={"depths": "2"}), "cannot be built: depths="),
    (described(config={"depths": [[[[[[[[[[2]]]]]]]]]]}), "lists in each other"),
    (described(preprocessing={"image_size": 64}), "cannot be built: preprocessing"),
    (described(preprocessing=DensePreprocessing().to_dict()), "cannot be built: preprocessing"),
    (described(name="x" * 100_000), "a text of 100,000 letters"),
    (DESCRIPTIONS["detection"], "takes images and gives logits; one for detection takes images, scale_factor"),
]


@pytest.mark.parametrize(("description", "message"), BAD)
def test_a_bad_description_is_one_error_that_names_the_file(
    description: Any, message: str, small_file, tmp_path: Path
) -> None:
    path = small_file(tmp_path / "small.onnx", description)
    with pytest.raises(CheckpointError, match=rf"small\.onnx .*{message}") as error:
        swin.Predictor(path)
    assert len(str(error.value)) < 1000 and "\n" not in str(error.value)


def test_more_classes_than_a_file_gives_are_an_error(small_file, tmp_path: Path) -> None:
    model = load_model(small_file(tmp_path / "small.onnx", described(num_classes=4, classes=None)))
    with pytest.raises(ValueError, match=r"gives logits \(2, 3\), and describes a model of 4 classes"):
        model(pixels(2, 4, 4))
    objects = {**DESCRIPTIONS["detection"], "num_classes": 2}
    objects["config"] = {**objects["config"], "num_classes": 2}
    detector = load_model(small_file(tmp_path / "d.onnx", objects, task="detection", batch=1))
    with pytest.raises(ValueError, match="no objects of 2 classes"):
        detector(torch.ones(1, 3, 4, 4))


def test_a_file_that_does_not_get_through_is_one_line(small_file, tmp_path: Path) -> None:
    model = load_model(small_file(tmp_path / "small.onnx", CLASSIFIER))
    model.file.inputs.pop("images")
    with pytest.raises(ValueError, match=r"small\.onnx does not run, for nothing \(2,\): ") as error:
        model.file.run({"nothing": torch.zeros(2)}, ["logits"])
    assert "\n" not in str(error.value)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE: list[tuple[str, Callable[[Path], object], str]] = [
    ("onnx", cut, "is damaged, or no ONNX file"),
    ("onnx", lambda path: path.write_bytes(b""), "is empty"),
    ("onnx", lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1"), "is damaged, or no ONNX"),
    ("onnx", lambda path: path.unlink(), "does not exist"),
    ("onnx", lambda path: (path.unlink(), path.mkdir()), "is a folder"),
    ("xml", cut, "is damaged, or no OpenVINO model"),
    ("xml", lambda path: path.write_bytes(b"<?xml version='1.0'?><a/>"), "is no OpenVINO model"),
    ("xml", lambda path: path.unlink(), "does not exist"),
    ("xml", lambda path: path.with_suffix(".bin").unlink(), r"has no small\.bin beside it"),
    ("xml", lambda path: cut(path.with_suffix(".bin")), "is damaged, or no OpenVINO model"),
]


@pytest.mark.parametrize(("form", "damage", "message"), DAMAGE)
def test_a_damaged_file_is_one_error_that_names_it(
    form: str, damage: Any, message: str, small_file, as_openvino, tmp_path: Path
) -> None:
    path = small_file(tmp_path / "small.onnx", CLASSIFIER)
    if form == "xml":
        path = as_openvino(path, tmp_path / "small.xml")
    damage(path)
    with pytest.raises(CheckpointError, match=rf"small\.{form} {message}") as error:
        load_model(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("form", "package"), [("onnx", "onnxruntime"), ("xml", "openvino")])
def test_a_missing_runtime_is_named(
    form: str, package: str, small_file, as_openvino, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = small_file(tmp_path / "small.onnx", CLASSIFIER)
    path = path if form == "onnx" else as_openvino(path, tmp_path / "small.xml")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtraError, match=rf"{package}.*\[export\]"):
        swin.Predictor(path)


NAME = "swin_tiny_patch4_window7_224"
USES: list[Callable[[str], object]] = [
    lambda source: swin.create_model(NAME, weights=source),
    lambda source: swin.create_backbone(NAME, weights=source),
    lambda source: swin.load_weights(torch.nn.Linear(1, 1), source),
    lambda source: swin.create_model("upernet_swin_tiny_patch4_window7_512x512", weights=Path(source)),
    read_checkpoint,
]


@pytest.mark.parametrize("ending", [".onnx", ".xml", ".pt2"])
@pytest.mark.parametrize("use", USES)
def test_a_file_gives_no_weights(ending: str, use: Any, tmp_path: Path) -> None:
    path = tmp_path / f"small{ending}"
    path.write_bytes(b"what it holds is not looked at")
    with pytest.raises(CheckpointError, match=rf"small\{ending} is an exported model.*give the checkpoint that it was"):
        use(str(path))


@pytest.mark.parametrize("source", ["model.pt2", "https://example.org/model.onnx"])
def test_what_no_runtime_here_is_for_is_no_model(source: str) -> None:
    with pytest.raises(CheckpointError, match="give the path of an .onnx or .xml file"):
        load_model(source)


def test_what_needs_a_models_parts_says_so(small_file, tmp_path: Path) -> None:
    model = load_model(small_file(tmp_path / "small.onnx", CLASSIFIER))
    with pytest.raises(ValueError, match="holds no Swin of this package: give a model of create_model"):
        swin.optimize_for_inference(model)
    with pytest.raises(ValueError, match="ExportedModel cannot be exported: give a"):
        swin.export_onnx(model, tmp_path / "again.onnx")
    with pytest.raises(ValueError, match="has no state dict"):
        swin.load_weights(model, swin.load_model("fashion").state_dict())


def test_a_digest_follows_the_weights(small_file, as_openvino, tmp_path: Path) -> None:
    path = small_file(tmp_path / "small.onnx", CLASSIFIER)
    xml = as_openvino(path, tmp_path / "small.xml")
    before = {one: load_model(one).file.digest() for one in (path, xml)}
    shutil.copy(path, tmp_path / "copy.onnx")
    assert load_model(tmp_path / "copy.onnx").file.digest() == before[path]
    weights = bytearray(xml.with_suffix(".bin").read_bytes())
    weights[-4] ^= 1  # of a weight; at the beginning are axes
    xml.with_suffix(".bin").write_bytes(weights)
    assert load_model(xml).file.digest() != before[xml]
    assert load_model(path).file.digest() == before[path], "the .bin is not this file's"


@pytest.mark.parametrize("batch", ["batch", 1, 3])
def test_windows_of_a_files_only_size_cover_any_larger_image(batch: Any, small_file, tmp_path: Path) -> None:
    segmentation = DESCRIPTIONS["segmentation"]
    fixed = small_file(tmp_path / "f.onnx", segmentation, task="segmentation", batch=batch, size=(16, 12))
    free = small_file(tmp_path / "a.onnx", segmentation, task="segmentation")
    windows: dict[str, Any] = {"mode": "slide", "crop_size": (16, 12), "stride": (9, 7)}
    images = [np.random.default_rng(0).integers(256, size=(*size, 3), dtype=np.uint8) for size in ((16, 12), (40, 33))]
    for got, wanted in zip(swin.Predictor(fixed, **windows)(images), swin.Predictor(free)(images), strict=True):
        assert (got.labels == wanted.labels).mean() > 0.99, "each pixel has its logits from itself alone"
