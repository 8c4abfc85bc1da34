"""Models in files, in folders for transformers, and on a hub that runs on this machine's loopback."""

from __future__ import annotations

import base64
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import transformers
import yaml
from PIL import Image

from swin_transformer_pytorch import create_transform, load_model, save_model
from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.card import model_card
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.models.config import DetectorConfig, SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.saving import save_for_transformers
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing, Preprocessing

NAMES = ("ash", "beech", "crane")
SMALL = SwinConfig(embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=2)
KEEP = SMALL.replace(single_window="keep")
DESCRIPTIONS = {
    "classification": ModelDescription(
        config=SMALL, num_classes=3, classes=NAMES, preprocessing=Preprocessing.imagenet(64)
    ),
    "detection": ModelDescription(
        config=DetectorConfig(backbone=KEEP, num_classes=3, fpn_dim=8, fc_dim=16),
        classes=NAMES,
        preprocessing=DensePreprocessing.coco(),
    ),
    "segmentation": ModelDescription(
        config=SegmenterConfig(backbone=KEEP, num_classes=3, decode_dim=8, auxiliary_dim=4),
        classes=NAMES,
        palette=((1, 2, 3), (4, 5, 6), (7, 8, 9)),
        preprocessing=DensePreprocessing.ade20k(),
    ),
}


def same(first: Any, second: Any) -> bool:
    first, second = first.state_dict(), second.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize("task", DESCRIPTIONS)
@pytest.mark.parametrize("name", ["m.safetensors", "m.pth"])
def test_a_saved_model_is_loaded_again(task: str, name: str, tmp_path: Path) -> None:
    model = build(DESCRIPTIONS[task])
    save_model(model, tmp_path / name)
    again = load_model(tmp_path / name)
    assert same(model, again) and again.metadata() == model.metadata()


def test_a_model_with_other_layers_is_not_saved(tmp_path: Path) -> None:
    model: Any = build(DESCRIPTIONS["classification"])
    model.norm = torch.nn.Identity()
    with pytest.raises(ValueError, match="layers of this SwinClassifier were exchanged"):
        save_model(model, tmp_path / "m.pth")
    with pytest.raises(ValueError, match="layers of this SwinClassifier were exchanged"):
        save_for_transformers(model, tmp_path / "folder")
    assert not list(tmp_path.iterdir())


def classifier(version: int, **fields: Any) -> SwinClassifier:
    """A small one whose numbers are all random, norms and tables too."""
    preprocessing = fields.pop("preprocessing", Preprocessing.imagenet(64, (64, 64)))
    classes, multi_label = fields.pop("classes", NAMES), fields.pop("multi_label", False)
    shape = {"embed_dim": 12, "depths": (1, 2, 1), "num_heads": (1, 2, 4), "window_size": 4}
    config = SwinConfig(version=version, **{**shape, **fields})  # type: ignore[arg-type]
    model = SwinClassifier(config, num_classes=3, multi_label=multi_label, classes=classes, preprocessing=preprocessing)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            scale = "norm" in name and name.endswith("weight") or name.endswith("logit_scale")
            parameter.copy_(noise + 1 if scale else noise)
    return model.double().eval()


CLASSIFIERS: dict[str, dict[str, Any]] = {
    "v1": {"version": 1},
    "v2": {"version": 2},
    "several labels an image": {"version": 1, "multi_label": True},
    "v2, a stage smaller than its window": {"version": 2, "window_size": 8, "pretrained_window_sizes": (8, 8, 4)},
    "v2, windows of pre-training": {"version": 2, "window_size": 8, "pretrained_window_sizes": (6, 6, 3)},
    "grey": {
        "version": 1,
        "in_channels": 1,
        "preprocessing": Preprocessing(image_size=64, resize_size=64, mean=(0.3,), std=(0.4,)),
    },
    "cropped": {"version": 1, "preprocessing": Preprocessing.imagenet(64, 80, "bilinear")},
    "oblong": {"version": 1, "preprocessing": Preprocessing.imagenet((64, 96), (64, 96))},
    "no names, no preprocessing": {"version": 1, "classes": None, "preprocessing": None, "qkv_bias": False},
    "names twice": {"version": 1, "classes": ("crane", "crane", "ash"), "mlp_ratio": 2.0},
}


@pytest.mark.parametrize("fields", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_transformers_loads_the_folder(fields: dict[str, Any], tmp_path: Path) -> None:
    model = classifier(**fields)
    notes = save_for_transformers(model, tmp_path / "folder")
    theirs, info = transformers.AutoModelForImageClassification.from_pretrained(
        tmp_path / "folder",
        output_loading_info=True,
        dtype=torch.float64,
        attn_implementation="sdpa" if fields["version"] == 1 else "eager",
    )
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    known = model.preprocessing
    size = known.image_size if known is not None else (64, 64)
    x = torch.randn(2, model.config.in_channels, *size, generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        expected, found = model(x), theirs.eval()(x).logits
    # They keep V2's coordinates in float32.
    assert (expected - found).abs().max() <= (1e-9 if fields["version"] == 1 else 1e-5) < expected.abs().max()
    names = model.classes or tuple(f"LABEL_{index}" for index in range(3))
    assert tuple(theirs.config.id2label[index] for index in range(3)) == names
    problem = "multi_label_classification" if model.multi_label else None
    assert theirs.config.problem_type == problem
    # And ours reads it back.
    again: Any = load_model(tmp_path / "folder")
    assert again.classes == model.classes and again.preprocessing == model.preprocessing
    assert again.multi_label == model.multi_label
    with torch.no_grad():
        assert torch.equal(again.double().eval()(x), expected)
    assert (known is None) == any("no preprocessing" in note for note in notes)
    assert (tmp_path / "folder" / "preprocessor_config.json").exists() == (known is not None)
    if known is None:
        return
    # A picture whose resized side is even, so that the crop is at one place for both.
    pixels = np.random.default_rng(0).integers(0, 256, (96, 144, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("L" if known.channels == 1 else "RGB")
    for backend, most in (("pil", 1e-5), ("torchvision", 0.1)):
        processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "folder", backend=backend)
        prepared = processor(image, return_tensors="pt")["pixel_values"][0]
        assert (prepared - create_transform(model)(image)).abs().max() < most


IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "oblong window": ({"version": 1, "window_size": (2, 4)}, "window_size=2x4 is none of transformers' Swin V1"),
    "oblong patch": ({"version": 1, "patch_size": (2, 4)}, "patch_size=2x4"),
    "kept windows": ({"version": 1, "single_window": "keep"}, "single_window='keep'"),
    "oblong images in V2": ({"version": 2, "preprocessing": Preprocessing.imagenet((64, 96))}, "image_size=64x96"),
    "uneven images in V2": ({"version": 2, "preprocessing": Preprocessing.imagenet(72)}, "no multiple of 16"),
    "small images in V1": ({"version": 1, "preprocessing": Preprocessing.imagenet(32)}, "32x32 is less than"),
}


@pytest.mark.parametrize(("fields", "said"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_transformers_has_not_is_refused(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        save_for_transformers(classifier(**fields), tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_headless_and_dense_models_are_refused(tmp_path: Path) -> None:
    model = classifier(1)
    model.reset_classifier(0)
    with pytest.raises(ValueError, match="no head"):
        save_for_transformers(model, tmp_path / "folder")
    with pytest.raises(ValueError, match="are for classifiers, and this model is for detection"):
        save_for_transformers(build(DESCRIPTIONS["detection"]), tmp_path / "folder")


@pytest.mark.parametrize("task", DESCRIPTIONS)
@pytest.mark.parametrize("licence", [None, "mit"])
def test_a_model_card_says_what_is_known(task: str, licence: str | None) -> None:
    model = build(DESCRIPTIONS[task])
    _, front, text = model_card(model, "me/trees", "hf:me/trees", licence).split("---\n", 2)
    said = yaml.safe_load(front)
    assert said["library_name"] == "swin-transformer-pytorch" and task in said["tags"]
    assert said.get("license") == licence and "metrics" not in said and "model-index" not in said
    assert said["pipeline_tag"] in ("image-classification", "object-detection", "image-segmentation")
    assert "ash, beech, crane" in text and 'Predictor("hf:me/trees")' in text
    assert f"{sum(parameter.numel() for parameter in model.parameters()):,}" in text


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hugging Face hub as uploading and downloading needs; all files are kept in memory."""

    protocol_version = "HTTP/1.1"
    files: ClassVar[dict[str, dict[str, bytes]]] = {}  # revision -> path -> content
    seen: ClassVar[list[str]] = []

    def answer(self, status: int, body: bytes = b"{}", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.seen.append(f"POST {self.path}")
        if self.headers.get("Authorization") != "Bearer hf_test":
            return self.answer(401)
        if self.path == "/api/repos/create":
            return self.answer(200, json.dumps({"url": f"http://{self.headers['Host']}/me/trees"}).encode())
        if self.path == "/api/validate-yaml":
            return self.answer(200, b'{"errors": [], "warnings": []}')
        if "/preupload/" in self.path:
            listed = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return self.answer(200, json.dumps({"files": listed}).encode())
        lines = [json.loads(line) for line in body.splitlines()]
        added = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        self.files["main"] = {**self.files.get("main", {}), **added}
        self.files.setdefault("v1", dict(self.files["main"]))
        url = {"commitUrl": f"http://{self.headers['Host']}/me/trees/commit/1", "commitOid": "1" * 40, "hookOutput": ""}
        return self.answer(200, json.dumps(url).encode())

    def do_GET(self) -> None:
        self.seen.append(f"{self.command} {self.path}")
        if "/resolve/" not in self.path:
            return self.answer(200, json.dumps({"id": "me/trees", "sha": "1" * 40, "siblings": []}).encode())
        revision, _, name = self.path.partition("/resolve/")[2].partition("/")
        if revision not in self.files:
            return self.answer(404, X_Error_Code="RevisionNotFound")
        content = self.files[revision].get(name)
        if content is None:
            return self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit="1" * 40)
        commit = {"main": "1", "v1": "2"}[revision] * 40
        return self.answer(200, content, ETag=f'"{hash((revision, name))}"', X_Repo_Commit=commit)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.files.clear()
    Hub.seen.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


USE = """
import os, sys, torch
import swin_transformer_pytorch as swin
model = swin.load_model(sys.argv[1])
print(swin.push_to_hub(model, "me/trees", licence="mit"))
with torch.no_grad():
    model.head.bias += 1
swin.push_to_hub(model, "me/trees")
for address, more in (("hf:me/trees", 0), ("me/trees", 0), ("hf:me/trees@v1", 1), ("me/trees@v1", 1)):
    again = swin.load_model(address)
    assert again.classes == ("ash", "beech", "crane") and torch.equal(again.head.bias + more, model.head.bias), address
for bad in ("hf:me/trees@v9", "hf:me/trees/none.pth"):
    try:
        swin.load_model(bad)
    except ValueError as error:
        print(error)
os.environ["HF_TOKEN"] = "wrong"
for name in ("trees", "me/trees"):
    try:
        swin.push_to_hub(model, name)
    except ValueError as error:
        print(error)
"""


def test_there_and_back_over_the_hub(hub: str, tmp_path: Path) -> None:
    save_model(build(DESCRIPTIONS["classification"]), tmp_path / "m.safetensors")
    settings = {"HF_ENDPOINT": hub, "HF_TOKEN": "hf_test", "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    environment = {**os.environ, **settings, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-c", USE, str(tmp_path / "m.safetensors")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stderr, Hub.seen)
    address, no_revision, no_file, no_name, no_right = done.stdout.splitlines()
    assert address.endswith("/commit/1")
    assert "me/trees has no revision v9" in no_revision
    assert "the repository has no file none.pth" in no_file
    assert "repository='trees' is not possible: give 'user/name'" in no_name
    # The card of the first upload is kept.
    assert b"license: mit" in Hub.files["main"]["README.md"]
    assert "me/trees could not be uploaded (" in no_right and "hf auth whoami" in no_right
