"""The commands with a model of masked pre-training: measured, converted, listed, or refused with what to do instead."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from swin_transformer_pytorch.data.classification.fashion import FashionSample
from swin_transformer_pytorch.data.images.masking import MaskRule
from swin_transformer_pytorch.data.transforms import create_transform
from swin_transformer_pytorch.models.config import MaskedConfig
from swin_transformer_pytorch.models.masked import MaskedSwin
from swin_transformer_pytorch.models.saving import save_model
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

BACKBONE = {"in_channels": 1, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}


@pytest.fixture
def masked(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = MaskedConfig.from_dict({"backbone": BACKBONE, "mask_unit": 4})
    grey = Preprocessing(image_size=28, resize_size=28, mean=(0.286,), std=(0.353,), interpolation="bilinear")
    save_model(MaskedSwin(config, preprocessing=grey), tmp_path / "masked.safetensors")
    return tmp_path / "masked.safetensors"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Six pictures, and a file that is none."""
    sample = FashionSample("test")
    for index in range(6):
        folder = tmp_path / "images" / ("a" if index % 2 else "b")
        folder.mkdir(parents=True, exist_ok=True)
        sample[index][0].save(folder / f"{index}.png")
    return tmp_path / "images"


def test_evaluate_measures_the_same_squares_every_time(swin, masked: Path, images: Path, tmp_path: Path) -> None:
    from swin_transformer_pytorch.models.registry import load_model

    words = ("evaluate", "--weights", masked, "--data.root", images, "--device", "cpu", "--output", tmp_path / "out")
    outcomes = [swin(*words), swin(*words, "--batch-size", 2)]
    assert outcomes[0].code == 0, outcomes[0].err
    assert outcomes[0].out == outcomes[1].out
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    model = load_model(masked).eval()
    assert isinstance(model, MaskedSwin)
    rule, transform, losses = MaskRule((7, 7), (1, 1), 0.6), create_transform(model), []
    for place, path in enumerate(sorted(images.rglob("*.png"))):
        with torch.no_grad(), Image.open(path) as image:
            pixels, mask = transform(image).unsqueeze(0), rule.fixed(place).unsqueeze(0)
            losses.append(model.losses(pixels, mask)["loss_masked"].item())
    assert report["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert f"6 images: loss {np.mean(losses):.4f}, of the pixels" in outcomes[0].out
    with Image.open(tmp_path / "out" / "reconstructions.png") as picture:
        assert picture.width > 600 and picture.height > 6 * 200


def test_evaluate_names_what_cannot_be_read(swin, masked: Path, images: Path, tmp_path: Path) -> None:
    (images / "broken.png").write_bytes(b"no image")
    words = ("evaluate", "--weights", masked, "--data.root", images, "--device", "cpu", "--output", tmp_path / "out")
    outcome = swin(*words)
    assert outcome.code == 1 and "broken.png" in outcome.err
    assert "6 images: loss" in outcome.out and "1 of 7 images could not be used" in outcome.err
    outcome = swin(*words, "--multi-scale", "--data.labels", "x")
    assert outcome.code == 2 and "--multi-scale, --data.labels: not for pre-training" in outcome.err


@pytest.mark.parametrize(
    "words",
    [("predict",), ("explain", "--output", "x.png"), ("video", "--output", "x.mp4")],
    ids=lambda words: words[0],
)
def test_answers_are_refused_with_what_to_do(swin, words, masked: Path, images: Path) -> None:
    command, *more = words
    outcome = swin(command, "--weights", masked, *more, images / "b" / "0.png")
    assert outcome.code == 2 and outcome.err.count("error") == 1
    assert "swin train finetune --data.root LABELLED --model.name null --model.weights FILE" in outcome.err


def test_export_refuses_it_too(swin, masked: Path, tmp_path: Path) -> None:
    outcome = swin("export", masked, tmp_path / "x.onnx")
    assert outcome.code == 2 and "nothing to say of an image yet" in outcome.err
    assert not (tmp_path / "x.onnx").exists()


def test_convert_says_what_is_left_out(swin, masked: Path, tmp_path: Path) -> None:
    outcome = swin("convert", masked, tmp_path / "o.pth", "--to", "official")
    assert (
        outcome.code == 0
        and "left out" not in outcome.out
        and "description, classes and preprocessing: kept" in (outcome.out)
    )
    held = torch.load(tmp_path / "o.pth", weights_only=True)["model"]
    assert "encoder.mask_token" in held and "decoder.0.weight" in held
    outcome = swin("convert", masked, tmp_path / "t.pth", "--to", "timm")
    assert "left out decoder.0.bias, decoder.0.weight, mask_token: of masked pre-training alone" in outcome.out
    outcome = swin("convert", tmp_path / "o.pth", tmp_path / "v.pth", "--to", "torchvision")
    assert "left out -" not in outcome.out


def test_models_are_listed(swin) -> None:
    outcome = swin("models", "--task", "pretraining")
    assert outcome.code == 0
    assert "simmim_swin_base_patch4_window6_192" in outcome.out
    listed = json.loads(swin("models", "--task", "pretraining", "--json").out)
    assert [one["config"]["target_window"] for one in listed] == [None, None, 47, 47]
    assert listed[0]["starts_from"] == "swin_base_patch4_window6_192.simmim_1k_800ep_transformers"
    found = swin("models", "--name", "simmim_swinv2")
    assert found.code == 0 and "simmim_swinv2_large_patch4_window12_192" in found.out
