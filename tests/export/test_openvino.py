"""OpenVINO's form: the same numbers, what the files say, and that they come together or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from swin_transformer_pytorch import extras
from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.export import ExportError, export_openvino, openvino
from swin_transformer_pytorch.export.comparison import relative_error
from swin_transformer_pytorch.export.quantization import load_exported
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.models.runtimes import openvino_core
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

pytestmark = [pytest.mark.usefixtures("unchecked_shapes"), pytest.mark.slow]
pytest.importorskip("openvino")


def classifier() -> SwinClassifier:
    torch.manual_seed(0)
    config = SwinConfig(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4)
    preprocessing = Preprocessing(image_size=16, resize_size=16)
    return SwinClassifier(config, num_classes=3, classes=("a", 'b"<&', "ß"), preprocessing=preprocessing).eval()


def test_one_file_is_for_every_batch_and_size(tmp_path: Path) -> None:
    model = classifier()
    path = export_openvino(model, tmp_path / "small.xml")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["small.bin", "small.json", "small.xml"]
    run = load_exported(path)
    for size in [(1, 1), (5, 9), (16, 17), (33, 70)]:
        for batch in (1, 3):
            images = torch.randn(batch, 3, *size)
            with torch.no_grad():
                assert relative_error(run(images), model(images)) < 1e-5
    described = run.file.description
    assert described == json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert (described["task"], described["classes"]) == ("classification", ["a", 'b"<&', "ß"])
    loaded = openvino_core().read_model(path)
    assert [one.any_name for one in (*loaded.inputs, *loaded.outputs)] == ["images", "logits"]
    assert "framework" not in loaded.rt_info  # the ONNX file's description, which would soon be another
    constants = {op.get_element_type().get_type_name() for op in loaded.get_ops() if op.get_type_name() == "Constant"}
    assert "f16" not in constants


@pytest.mark.parametrize("fault", ["differs", "full"])
def test_a_file_that_is_wrong_leaves_none(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [tmp_path / f"small{suffix}" for suffix in (".xml", ".bin", ".json")]
    for file in kept:
        file.write_text("as it was")
    if fault == "differs":
        monkeypatch.setattr(openvino, "start_openvino", lambda *_: lambda images: [torch.ones(len(images), 3)])
    else:

        def full(*_: Any) -> None:
            raise RuntimeError("basic_ios::clear: iostream error")

        monkeypatch.setattr(extras.require("openvino", extra="export"), "serialize", full)
    message = {"differs": "the exported logits differ", "full": "room for it on the disk"}[fault]
    with pytest.raises(ExportError, match=message):
        export_openvino(classifier(), tmp_path / "small.xml", (8, 12))
    assert sorted(tmp_path.iterdir()) == sorted(kept)
    assert all(file.read_text() == "as it was" for file in kept)


WATCHED = """
import http.client, socket, sys, urllib.request
sys.path.insert(0, sys.argv[3])

def attempt(*arguments, **options):
    open(sys.argv[1], "a").write("attempt\\n")
    raise OSError("no network here")

urllib.request.urlopen = socket.create_connection = http.client.HTTPConnection.connect = attempt
{imports}
import nncf, openvino
openvino.convert_model(sys.argv[2])
assert nncf.quantize and "pytest" not in sys.modules
"""
OURS = """
from swin_transformer_pytorch import extras
for package in ("openvino", "nncf"):
    extras.require(package, extra="export")
"""


@pytest.mark.parametrize("told", [True, False])
def test_no_usage_data_is_sent(told: bool, tmp_path: Path) -> None:
    """In a process that is neither a test's nor a CI's, at a new user's home."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("nncf")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Neg", ["x"], ["y"])],
        "small",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
    )
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)]), tmp_path / "small.onnx")
    home, log = tmp_path / "home", tmp_path / "attempts"
    home.mkdir()
    environment = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environment |= {"HOME": str(home), "USERPROFILE": str(home), "LOCALAPPDATA": str(home), "OMP_NUM_THREADS": "1"}
    code = WATCHED.format(imports=OURS if told else "")
    source = str(Path(extras.__file__).parents[1])
    command = [sys.executable, "-c", code, str(log), str(tmp_path / "small.onnx"), source]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    left = [path for path in home.rglob("*openvino*") if path.is_file()]
    if told:
        assert not log.exists() and not left
    else:  # without it there would be both, so that the test can fail
        assert log.exists() and left
