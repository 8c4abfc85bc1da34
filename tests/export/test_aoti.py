"""AOTInductor packages run without this package, on an image file's own bytes, and what stops them is named."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import swin_transformer_pytorch as swin
from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.export import ExportError, export_aoti
from swin_transformer_pytorch.export.comparison import relative_error
from swin_transformer_pytorch.export.graph import METADATA, prepare
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.models.config import DetectorConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

# What examples/cpp does: the package and an image's bytes, nothing else.
RUN = """
import sys, torch
folder, key = sys.argv[1:]
model = torch._inductor.aoti_load_package(folder + "/small.pt2")
content = open(folder + "/image.ppm", "rb").read()
kind, sides, largest, pixels = content.split(b"\\n", 3)
width, height = map(int, sides.split())
assert (kind, largest) == (b"P6", b"255")
images = torch.load(folder + "/images.pt")
images["file"] = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).view(1, height, width, 3)
outputs = {name: model(value)[0] for name, value in images.items()}
torch.save((outputs, model.get_metadata()[key]), folder + "/out.pt")
assert not any(name.startswith("swin_") for name in sys.modules)
"""


def classifier() -> SwinClassifier:
    torch.manual_seed(0)
    config = SwinConfig(embed_dim=8, depths=(2,), num_heads=(2,), window_size=4)
    preprocessing = Preprocessing(image_size=16, resize_size=16)
    model = SwinClassifier(config, num_classes=3, classes=("a", "b", "ß"), preprocessing=preprocessing)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.slow
def test_a_package_runs_without_this_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    caches = tmp_path / "caches"
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(caches))
    monkeypatch.chdir(tmp_path)
    model = classifier()
    assert export_aoti(model, "small.pt2", byte_input=True) == Path("small.pt2")
    assert sorted(path.name for path in tmp_path.iterdir() if path != caches) == ["small.json", "small.pt2"]
    assert not list(caches.rglob("*.so"))
    image = tmp_path / "image.ppm"
    Image.fromarray(np.random.default_rng(0).integers(256, size=(16, 16, 3), dtype=np.uint8)).save(image)
    graph = prepare(model, byte_input=True)
    sizes = [(1, 1), (5, 9), (16, 17), (33, 70)]
    images = {f"{batch} {size}": graph.example(size, batch)[0] for size in sizes for batch in (1, 3)}
    torch.save(images, "images.pt")
    subprocess.run([sys.executable, "-W", "ignore", "-c", RUN, tmp_path, METADATA], check=True)
    outputs, metadata = torch.load("out.pt")
    with torch.no_grad():
        for name, value in images.items():
            assert relative_error(outputs[name], graph.original(value)[0]) < 1e-5, name
    probabilities = outputs["file"][0].softmax(-1)
    expected = swin.Predictor(model, device="cpu", top_k=3)(image)
    assert [probabilities[label].item() for label in expected.labels] == pytest.approx(expected.scores, rel=1e-4)
    described = json.loads(metadata)
    assert described == json.loads(Path("small.json").read_text(encoding="utf-8"))
    assert (described["classes"], described["image_size"]) == (["a", "b", "ß"], None)


def test_a_missing_compiler_is_named(tmp_path: Path) -> None:
    nothing = {"cpp.cxx": ("no-such-compiler",)}  # monkeypatch would leave the setting without a value
    with (
        torch._inductor.config.patch(nothing),
        pytest.raises(ExportError, match=r"needs a C\+\+ compiler, such as g\+\+ or clang\+\+"),
    ):
        export_aoti(classifier(), tmp_path / "small.pt2")
    assert not list(tmp_path.iterdir())


def test_a_compilation_that_fails_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise RuntimeError("No space left on device\nand more of it")

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", full)
    with pytest.raises(ExportError, match=r"could not be compiled \(No space left on device\)") as caught:
        export_aoti(classifier(), tmp_path / "small.pt2", 16)
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("small.so", {}, r"must end in \.pt2"),
        ("missing/small.pt2", {}, "is not a folder"),
        ("small.pt2", {"image_size": 0}, "image_size=0 is not possible"),
        ("small.pt2", {"batch_size": 0}, "batch_size=0 is not possible"),
    ],
)
def test_what_is_refused_leaves_nothing(name: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        export_aoti(classifier(), tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_a_detector_is_refused(tmp_path: Path) -> None:
    backbone = SwinConfig(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4)
    config = DetectorConfig(method="mask_rcnn", backbone=backbone, num_classes=2, fpn_dim=8, fc_dim=8)
    with pytest.raises(ExportError, match="libtorch lacks torchvision's operators"):
        export_aoti(build(ModelDescription(config=config)), tmp_path / "small.pt2")
    assert not list(tmp_path.iterdir())
