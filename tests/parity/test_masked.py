"""Masked pre-training: the same loss as transformers' two models, through their folders and files, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn

import swin_transformer_pytorch as swin
from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.data.images.masking import MaskRule
from swin_transformer_pytorch.models.config import MaskedConfig
from swin_transformer_pytorch.models.masked import MaskedSwin
from swin_transformer_pytorch.models.registry import load_model
from swin_transformer_pytorch.models.saving import save_for_transformers, save_model
from swin_transformer_pytorch.weights.files import read_checkpoint, save_checkpoint
from swin_transformer_pytorch.weights.formats import convert_state_dict
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

SIDE, TOLERANCE = 64, {1: 1e-9, 2: 1e-7}
# Their eager attention of V1 takes the softmax in float32, whatever the input.
EXACT = {"attn_implementation": "sdpa"}


def small(version: int) -> MaskedConfig:
    """Three stages whose maps have 16, 8 and 4 tokens a side, the last less than the window."""
    trained = {"pretrained_window_sizes": (8, 8, 4)} if version == 2 else {}
    backbone = SwinConfig(
        version=version,  # type: ignore[arg-type]
        embed_dim=8,
        depths=(2, 2, 1),
        num_heads=(1, 2, 4),
        window_size=(8, 8) if version == 2 else (4, 4),
        drop_path_rate=0.0,
        **trained,  # type: ignore[arg-type]
    )
    return MaskedConfig(backbone=backbone, mask_unit=8)


def randomised(model: nn.Module) -> Any:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.double().eval()


def theirs(config: MaskedConfig) -> Any:
    backbone, version = config.backbone, config.backbone.version
    settings = {
        "image_size": SIDE,
        "embed_dim": backbone.embed_dim,
        "depths": list(backbone.depths),
        "num_heads": list(backbone.num_heads),
        "window_size": backbone.window_size[0],
        "drop_path_rate": 0.0,
        "encoder_stride": 16,
    }
    if version == 1:
        return randomised(transformers.SwinForMaskedImageModeling(transformers.SwinConfig(**settings, **EXACT)))
    settings["pretrained_window_sizes"] = list(backbone.pretrained_window_sizes)
    return randomised(transformers.Swinv2ForMaskedImageModeling(transformers.Swinv2Config(**settings)))


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(0)
    rule = MaskRule.of(small(1), (SIDE, SIDE))
    return torch.randn(2, 3, SIDE, SIDE, dtype=torch.float64), torch.stack([rule.draw(random) for _ in range(2)])


def their_loss(model: Any, images: torch.Tensor, mask: torch.Tensor) -> Any:
    """Their masks are flat, one value a patch."""
    with torch.no_grad():
        return model(images, bool_masked_pos=mask.flatten(1))


@pytest.mark.parametrize("version", [1, 2])
def test_their_folder_is_a_masked_model_with_the_same_loss(version: int, tmp_path: Path) -> None:
    config = small(version)
    peer = theirs(config)
    peer.save_pretrained(tmp_path)
    model = load_model(tmp_path)
    assert isinstance(model, MaskedSwin) and model.config.backbone == config.backbone
    images, mask = batch()
    model = model.double().eval()
    expected = their_loss(peer, images, mask)
    with torch.no_grad():
        assert abs(model.losses(images, mask)["loss_masked"] - expected.loss) <= TOLERANCE[version]
        assert (model(images, mask) - expected.reconstruction).abs().max() <= 10 * TOLERANCE[version]


@pytest.mark.parametrize("version", [1, 2])
def test_our_model_in_transformers(version: int, tmp_path: Path) -> None:
    model = randomised(MaskedSwin(small(version), preprocessing=Preprocessing.imagenet(SIDE)))
    said = save_for_transformers(model, tmp_path)
    assert any("bool_masked_pos" in line for line in said)
    settings: dict[str, Any] = {"dtype": torch.float64, **(EXACT if version == 1 else {})}
    peer = transformers.AutoModelForMaskedImageModeling.from_pretrained(tmp_path, **settings).eval()
    assert type(peer).__name__ == ("SwinForMaskedImageModeling", "Swinv2ForMaskedImageModeling")[version - 1]
    images, mask = batch()
    with torch.no_grad():
        loss = model.losses(images, mask)["loss_masked"]
    assert abs(their_loss(peer, images, mask).loss - loss) <= TOLERANCE[version]


@pytest.mark.parametrize("version", [1, 2])
def test_official_files_have_the_encoders_prefix_and_come_back(version: int, tmp_path: Path) -> None:
    model = randomised(MaskedSwin(small(version)))
    own = {key: value.clone() for key, value in model.state_dict().items()}
    official = convert_state_dict(own, to="official")
    assert {"encoder.mask_token", "encoder.patch_embed.proj.weight", "encoder.norm.weight", "decoder.0.weight"} < {
        *official
    }
    assert not [key for key in official if not key.startswith(("encoder.", "decoder.0."))]
    # As the official code saves it, with derived buffers and its configuration beside the weights.
    buffers = {"encoder.layers.0.blocks.1.attn_mask": torch.zeros(4, 16, 16)}
    torch.save({"model": {**official, **buffers}, "epoch": 799}, tmp_path / "official.pth")
    other = MaskedSwin(small(version)).double()
    report = swin.load_weights(other, tmp_path / "official.pth")
    assert not report.fresh and {change.key for change in report.dropped} == {*buffers}
    assert all(torch.equal(own[key], value) for key, value in other.state_dict().items())
    # With our description it says which model it is, whatever the names are.
    save_model(model, tmp_path / "ours.safetensors")
    held = read_checkpoint(tmp_path / "ours.safetensors")
    save_checkpoint(tmp_path / "both.pth", convert_state_dict(held.state_dict, to="official"), held.metadata)
    again = load_model(tmp_path / "both.pth")
    assert isinstance(again, MaskedSwin) and again.config == model.config
