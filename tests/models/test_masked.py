"""Masked pre-training against references written out, and what its files are to other models."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import swin_transformer_pytorch as swin
from swin_transformer_pytorch.backbone.config import ConfigError, SwinConfig
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import MaskedConfig, SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.masked import MaskedSwin, normalized_target
from swin_transformer_pytorch.models.saving import save_model
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

BACKBONE = SwinConfig(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, drop_path_rate=0.0)
CONFIG = MaskedConfig(backbone=BACKBONE, mask_unit=8)


def masked(config: MaskedConfig = CONFIG, **arguments: Any) -> MaskedSwin:
    torch.manual_seed(0)
    model = MaskedSwin(config, **arguments)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def scalar_target(image: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """Pixel by pixel, (H, W), in float64."""
    found, half = np.empty_like(image), window // 2
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            around = image[max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1]
            found[row, column] = (image[row, column] - around.mean()) / np.sqrt(around.var(ddof=1) + 1e-6)
    return found


@pytest.mark.parametrize("size", [(64, 53), (20, 70)])
def test_the_normalised_target_is_that_of_each_pixels_surroundings(size: tuple[int, int]) -> None:
    images = 2 * torch.randn(1, 2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 1
    images[:, :, :9, :9] = 0.75  # a flat corner
    found = normalized_target(images, 47)
    for channel in range(2):
        expected = scalar_target(images[0, channel].numpy(), 47)
        assert np.abs(found[0, channel].numpy() - expected).max() <= 1e-12
    assert (normalized_target(images.float(), 47) - found).abs().max() <= 2e-5


def test_the_loss_is_the_mean_distance_of_hidden_pixels() -> None:
    for config in (CONFIG, CONFIG.replace(target_window=5)):
        model = masked(config).double()
        images = torch.randn(2, 3, 32, 24, dtype=torch.float64)
        squares = torch.tensor(
            [[[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 0, 0]], [[0, 1, 0], [1, 0, 0], [1, 1, 0], [0] * 3]]
        )
        mask = squares.bool().repeat_interleave(2, 1).repeat_interleave(2, 2)
        reconstruction = model(images, mask)
        assert reconstruction.shape == images.shape
        target = images if config.target_window is None else normalized_target(images, 5)
        hidden = squares.repeat_interleave(8, 1).repeat_interleave(8, 2).bool().unsqueeze(1).expand_as(images)
        expected = (target - reconstruction)[hidden].abs().mean()
        loss = model.losses(images, mask)["loss_masked"]
        assert loss.item() == pytest.approx(expected.item(), rel=1e-7)
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters()), "as DDP asks of each step"


def test_nothing_is_known_of_what_is_hidden() -> None:
    model = masked()
    images, mask = torch.randn(1, 3, 32, 32), torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[:, 2:4, 4:8] = True
    others = torch.where(model.hidden_pixels(mask, images), torch.randn_like(images), images)
    with torch.no_grad():
        assert torch.equal(model(images, mask), model(others, mask))
        assert not torch.equal(model(images, mask), model(images, ~mask))


def test_half_precision_counts_and_normalises_in_full() -> None:
    """Of 4 x 224 x 224 pixels more are hidden than float16 can count."""
    model = masked(CONFIG.replace(target_window=47, mask_unit=16))
    images = torch.randn(4, 3, 224, 224)
    mask = (torch.rand(4, 14, 14) < 0.8).repeat_interleave(4, 1).repeat_interleave(4, 2)
    exact = model.losses(images, mask)["loss_masked"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = model.losses(images, mask)["loss_masked"]
    assert mixed.dtype == torch.float32
    assert mixed.item() == pytest.approx(exact.item(), rel=2e-2)
    assert torch.equal(model.target(images.half()), model.target(images.half().float()))


def test_reconstructions_keep_what_was_seen_and_are_in_the_images_unit() -> None:
    for window in (None, 7):
        model = masked(CONFIG.replace(target_window=window))
        images = 5 + torch.randn(1, 3, 32, 32)
        mask = torch.zeros(1, 8, 8, dtype=torch.bool)
        mask[:, :4] = True
        with torch.no_grad():
            for parameter in model.decoder.parameters():
                parameter.zero_()
        found = model.reconstruct(images, mask)
        assert torch.equal(found[:, :, 16:], images[:, :, 16:])
        # A model that says 0: of the pixels themselves black, of normalised ones their surroundings' mean.
        level = found[:, :, :16].mean().item()
        assert level == pytest.approx(0 if window is None else 5, abs=0.2)


@pytest.mark.parametrize("patch", [(2, 4), (4, 2)])
def test_oblong_patches_and_images_that_are_not_whole_cells(patch: tuple[int, int]) -> None:
    """The decoder's pixels lie where the image's do: a decoder that gives each pixel its own place shows it."""
    model = masked(CONFIG.replace(patch_size=patch, depths=(1, 1, 1), num_heads=(1, 2, 4), mask_unit=4))
    height, width = 28, 20
    mask = torch.zeros(1, height // patch[0], width // patch[1], dtype=torch.bool)
    down, right = model.config.backbone.stage_strides[-1]
    rows, columns = torch.meshgrid(torch.arange(down), torch.arange(right), indexing="ij")
    with torch.no_grad():
        model.decoder[0].weight.zero_()
        model.decoder[0].bias.copy_(torch.stack([100 * c + rows + 10 * columns for c in range(3)]).flatten())
        found = model(torch.randn(1, 3, height, width), mask)[0]
    for channel, row, column in ((0, 0, 0), (1, 9, 3), (2, 27, 19), (2, 3, 17)):
        assert found[channel, row, column] == 100 * channel + row % down + 10 * (column % right)


def test_a_wrong_mask_is_refused_with_what_it_should_be() -> None:
    model, images = masked(), torch.randn(2, 3, 32, 32)
    for mask in (torch.ones(2, 4, 4, dtype=torch.bool), torch.ones(2, 8, 8), torch.ones(1, 8, 8, dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"torch.bool of \(2, 8, 8\)"):
            model(images, mask)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask_unit": 6}, r"mask_unit=6 is not possible: use a multiple of the patch's sides, 4 x 4"),
        ({"mask_ratio": 1.0}, "mask_ratio=1.0"),
        ({"mask_ratio": 0.0}, "mask_ratio=0.0"),
        ({"target_window": 46}, "target_window=46 is not possible: use an odd number"),
        ({"unit": 8}, "unknown config field 'unit'"),
    ],
)
def test_configs_check_themselves(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CONFIG.replace(**changes)


def test_images_of_broken_squares_are_refused() -> None:
    assert CONFIG.mask_layout((32, 24)) == ((4, 3), (2, 2))
    with pytest.raises(ConfigError, match="30 x 32 pixels are not whole squares of mask_unit=8"):
        CONFIG.mask_layout((30, 32))


def test_a_file_says_all_and_comes_back(tmp_path: Path) -> None:
    config = MaskedConfig(backbone=BACKBONE, mask_unit=8, mask_ratio=0.5, target_window=9)
    preprocessing = Preprocessing.imagenet(32, interpolation="bilinear")
    model = masked(config, preprocessing=preprocessing, name="simmim_mine")
    save_model(model, tmp_path / "m.safetensors")
    again = swin.load_model(tmp_path / "m.safetensors")
    assert isinstance(again, MaskedSwin)
    assert (again.config, again.preprocessing, again.name) == (config, preprocessing, "simmim_mine")
    assert again.num_classes == 0 and again.classes is None
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items())
    with pytest.raises(ConfigError, match="num_classes=3"):
        swin.load_model(tmp_path / "m.safetensors", num_classes=3)


def test_named_models_are_listed_and_built() -> None:
    names = swin.list_models("pretraining")
    assert names == [
        "simmim_swin_base_patch4_window6_192",
        "simmim_swin_large_patch4_window12_192",
        "simmim_swinv2_base_patch4_window12_192",
        "simmim_swinv2_large_patch4_window12_192",
    ]
    for name in names:
        with torch.device("meta"):
            model = swin.create_model(name)
        assert isinstance(model, MaskedSwin) and model.name == name
        assert model.decoder[0].out_channels == 3072
        assert model.preprocessing == Preprocessing.imagenet(192, interpolation="bilinear")
        version = model.config.backbone.version
        assert model.config.target_window == (None, 47)[version - 1]
    v2 = model.config.backbone
    assert v2.pretrained_window_sizes == (12, 12, 12, 6) and v2.drop_path_rate == 0.1
    with pytest.raises(ValueError, match="no public weights are known for 'simmim_swin_large_patch4_window12_192'"):
        swin.create_model("simmim_swin_large_patch4_window12_192", weights="default")


def test_other_models_leave_token_and_decoder_out_and_say_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model = masked(preprocessing=Preprocessing.imagenet(32, interpolation="bilinear"))
    save_model(model, tmp_path / "m.safetensors")
    segmenter = build(
        ModelDescription(
            config=SegmenterConfig(
                backbone=BACKBONE.replace(single_window="keep"),
                num_classes=3,
                decode_dim=8,
                auxiliary_dim=8,
                auxiliary_index=0,
            )
        )
    )
    left_out = {"mask_token", "decoder.0.weight", "decoder.0.bias"}
    assert left_out <= {change.key for change in swin.load_weights(segmenter, tmp_path / "m.safetensors").dropped}
    assert torch.equal(
        segmenter.backbone.layers[1].blocks[0].attn.qkv.weight, model.layers[1].blocks[0].attn.qkv.weight
    )
    fields = {field: getattr(BACKBONE, field) for field in ("embed_dim", "depths", "num_heads", "window_size")}
    with caplog.at_level(logging.WARNING):
        classifier = swin.create_model(
            "swin_tiny_patch4_window7_224", weights=tmp_path / "m.safetensors", num_classes=5, **fields
        )
    assert "mask_token and decoder are of masked pre-training (SimMIM) alone" in caplog.text
    assert "head.weight" in caplog.text, "what is fresh is said too"
    assert torch.equal(classifier.norm.weight, model.norm.weight)
    assert classifier.preprocessing == Preprocessing.imagenet(224, interpolation="bicubic"), "the named model's own"
    with pytest.raises(ValueError, match=r"missing \(3\)"):
        swin.load_weights(masked(), classifier.state_dict())
