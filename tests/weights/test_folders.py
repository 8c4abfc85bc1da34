"""Folders as transformers' own `save_pretrained` writes them, and what is refused of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from swin_transformer_pytorch.data.transforms import create_transform
from swin_transformer_pytorch.models.registry import create_model, load_model
from swin_transformer_pytorch.weights.errors import CheckpointError
from swin_transformer_pytorch.weights.folders import read_files
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

SHAPE = {"embed_dim": 12, "depths": [1, 2, 1], "num_heads": [1, 2, 4], "window_size": 4, "image_size": 64}
NAMES = ("ash", "beech", "cedar")


def theirs(version: int, **fields: Any) -> Any:
    """A small classifier of theirs with random weights, its norms and tables too."""
    fields = {**SHAPE, "id2label": dict(enumerate(NAMES)), **fields}
    kinds = {
        1: (transformers.SwinConfig, transformers.SwinForImageClassification),
        2: (transformers.Swinv2Config, transformers.Swinv2ForImageClassification),
    }
    config_kind, model_kind = kinds[version]
    # Its eager attention takes the softmax in float32, whatever the input.
    model = model_kind(config_kind(**fields, **({"attn_implementation": "sdpa"} if version == 1 else {})))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            scale = "norm" in name and name.endswith("weight") or name.endswith("logit_scale")
            parameter.copy_(noise + 1 if scale else noise)
    return model.eval()


def same_answers(model: Any, peer: Any, size: int = 64, tolerance: float = 1e-9) -> None:
    x = torch.randn(2, peer.config.num_channels, size, size, generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        expected, found = peer.double()(x).logits, model.double().eval()(x)
    assert expected.abs().max() > 0.1
    assert (expected - found).abs().max() <= tolerance


def squeezed(**fields: Any) -> Preprocessing:
    return Preprocessing(image_size=32, resize_size=(32, 32), **fields)


VARIANTS: dict[str, tuple[int, dict[str, Any]]] = {
    "v1": (1, {}),
    "v2": (2, {}),
    "v2, a stage smaller than its window": (2, {"window_size": 8}),
    "v2, windows of pre-training": (2, {"window_size": 8, "pretrained_window_sizes": [6, 6, 3]}),
    "grey": (1, {"num_channels": 1}),
    "narrow MLP, no bias, small patches": (1, {"mlp_ratio": 2.0, "qkv_bias": False, "patch_size": 2}),
}


@pytest.mark.parametrize(("version", "fields"), VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("shard_size", ["1GB", "40kB"])
def test_a_folder_says_which_model_it_is(version: int, fields: dict[str, Any], shard_size: str, tmp_path: Path) -> None:
    peer = theirs(version, **fields)
    peer.save_pretrained(tmp_path, max_shard_size=shard_size)
    assert (tmp_path / "model.safetensors.index.json").exists() == (shard_size != "1GB")
    processor = transformers.ViTImageProcessor(size={"height": 32, "width": 32}, resample=3, image_mean=[0.4] * 3)
    processor.save_pretrained(tmp_path)
    grey = fields.get("num_channels") == 1
    if grey:
        (tmp_path / "preprocessor_config.json").unlink()
    model: Any = load_model(tmp_path)
    assert model.classes == NAMES
    if not grey:
        assert model.preprocessing == Preprocessing(
            image_size=32, resize_size=(32, 32), mean=(0.4,) * 3, std=(0.5,) * 3
        )
    # They keep V2's coordinates in float32.
    same_answers(model, peer, tolerance=1e-9 if version == 1 else 1e-5)


def test_the_weights_of_a_folder_for_another_number_of_classes(tmp_path: Path, caplog: Any) -> None:
    peer = theirs(1)
    peer.save_pretrained(tmp_path)
    model: Any = load_model(f"{tmp_path}/", num_classes=5)
    assert (model.num_classes, model.classes) == (5, None)
    assert "3 classes, the model's 5" in caplog.text
    named: Any = create_model(
        "swin_tiny_patch4_window7_224",
        weights=tmp_path,
        embed_dim=12,
        depths=(1, 2, 1),
        num_heads=(1, 2, 4),
        window_size=4,
    )
    assert named.classes == NAMES
    assert torch.equal(named.head.weight, peer.classifier.weight)


def test_class_names_that_are_none(tmp_path: Path) -> None:
    theirs(1, id2label={0: "LABEL_0", 1: "LABEL_1"}).save_pretrained(tmp_path)
    model: Any = load_model(tmp_path)
    assert (model.num_classes, model.classes) == (2, None)


CROPPED = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
PROCESSORS: dict[str, tuple[dict[str, Any], Preprocessing | None]] = {
    "squeezed": ({"size": {"height": 32, "width": 24}}, Preprocessing(image_size=(32, 24), resize_size=(32, 24))),
    "older, one number": ({"size": 32}, squeezed()),
    "cropped": ({**CROPPED, "do_center_crop": True}, Preprocessing(image_size=32, resize_size=36)),
    "bilinear": (
        {"size": 32, "resample": 2},
        squeezed(interpolation="bilinear"),
    ),
    "not normalised": (
        {"size": 32, "do_normalize": False},
        squeezed(mean=(0.0,) * 3, std=(1.0,) * 3),
    ),
    "not resized": ({"size": 32, "do_resize": False}, None),
    "not cropped": ({"size": {"shortest_edge": 36}}, None),
    "Lanczos": ({"size": 32, "resample": 1}, None),
    "bytes as they are": ({"size": 32, "rescale_factor": 1.0}, None),
    "larger crop": ({**CROPPED, "do_center_crop": True, "size": {"shortest_edge": 20}}, None),
    "no sizes": ({"size": {"longest_edge": 3}}, None),
    "words": ({"size": "large", "image_mean": "grey"}, None),
}


@pytest.mark.parametrize(("values", "expected"), PROCESSORS.values(), ids=PROCESSORS)
def test_the_processor_is_taken_or_said_to_be_left_out(
    values: dict[str, Any], expected: Preprocessing | None, tmp_path: Path
) -> None:
    theirs(1).save_pretrained(tmp_path)
    usual = {"resample": 3, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**usual, **values}))
    model: Any = load_model(tmp_path)
    assert model.preprocessing == expected
    notes = read_files(tmp_path).notes
    assert bool(notes) == (expected is None)
    assert all("preprocessor_config.json is left out: " in note for note in notes)
    if expected is not None:
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
        processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
        pixels = processor(image, return_tensors="pt")["pixel_values"][0]
        assert (create_transform(model)(image) - pixels).abs().max() < 1e-5


BROKEN: dict[str, tuple[str, str, str]] = {
    "no JSON": ("config.json", "{", "config.json is damaged"),
    "a list": ("config.json", "[]", "config.json holds a list"),
    "deep": ("config.json", "[" * 100_000, "config.json is damaged"),
    "position embeddings": ("config.json", '{"use_absolute_embeddings": true}', "use_absolute_embeddings=True"),
    "another activation": ("config.json", '{"hidden_act": "relu"}', "hidden_act='relu'"),
    "absurd": ("config.json", '{"embed_dim": -1}', "embed_dim=-1"),
    "another type": ("config.json", '{"depths": "many"}', "depths='many'"),
    "another size": ("config.json", '{"embed_dim": 24}', "describes a model of"),
    "no index": ("model.safetensors.index.json", "{}", "no weight_map"),
    "out of the folder": (
        "model.safetensors.index.json",
        '{"weight_map": {"a": "../../secret.bin"}}',
        "refused: it lists '../../secret.bin'",
    ),
    "missing shard": ("model.safetensors.index.json", '{"weight_map": {"a": "none.bin"}}', "none.bin does not exist"),
    "itself": (
        "model.safetensors.index.json",
        '{"weight_map": {"a": "model.safetensors.index.json"}}',
        "refused: it lists",
    ),
}


@pytest.mark.parametrize(("name", "text", "said"), BROKEN.values(), ids=BROKEN)
def test_broken_folders_are_named(name: str, text: str, said: str, tmp_path: Path) -> None:
    theirs(1).save_pretrained(tmp_path)
    if name != "config.json":
        (tmp_path / "model.safetensors").unlink()
    elif text.startswith("{") and text != "{":
        text = json.dumps(json.loads((tmp_path / name).read_text()) | json.loads(text))
    (tmp_path / name).write_text(text)
    with pytest.raises(CheckpointError) as error:
        load_model(tmp_path)
    assert str(tmp_path) in str(error.value) and said in str(error.value)
    assert len(str(error.value)) < 400


def test_a_folder_without_weights(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"is a folder without model\.safetensors or .*name the checkpoint file"):
        load_model(tmp_path)
