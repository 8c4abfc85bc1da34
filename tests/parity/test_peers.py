"""The same answers as timm, torchvision and transformers, through their own files, and back through ours.

Every parameter of a peer is random, norms and tables too, so that a tensor in the wrong place shows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import transformers
from timm.models import swin_transformer as timm_v1
from timm.models import swin_transformer_v2 as timm_v2
from torch import Tensor, nn
from torchvision.models import swin_transformer as torchvision_swin

from swin_transformer_pytorch.backbone.config import SwinConfig, find_variant
from swin_transformer_pytorch.models.backbone import SwinBackbone
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.weights.files import save_checkpoint
from swin_transformer_pytorch.weights.formats import convert_state_dict
from swin_transformer_pytorch.weights.load import load_weights

Size = tuple[int, int]
CLASSES = 5
# The peers keep V2's coordinates in float32.
TOLERANCE = {1: 1e-8, 2: 1e-5}


def timm_model(config: SwinConfig, image_size: Size, num_classes: int = CLASSES) -> nn.Module:
    shared = {
        "img_size": image_size,
        "patch_size": config.patch_size,
        "in_chans": config.in_channels,
        "num_classes": num_classes,
        "embed_dim": config.embed_dim,
        "depths": config.depths,
        "num_heads": config.num_heads,
        "window_size": config.window_size,
        "mlp_ratio": config.mlp_ratio,
        "qkv_bias": config.qkv_bias,
    }
    if config.version == 1:
        return timm_v1.SwinTransformer(**shared)
    return timm_v2.SwinTransformerV2(**shared, pretrained_window_sizes=config.pretrained_window_sizes)


def torchvision_model(config: SwinConfig, image_size: Size, num_classes: int = CLASSES) -> nn.Module:
    v2 = {"block": torchvision_swin.SwinTransformerBlockV2, "downsample_layer": torchvision_swin.PatchMergingV2}
    return torchvision_swin.SwinTransformer(
        patch_size=list(config.patch_size),
        embed_dim=config.embed_dim,
        depths=list(config.depths),
        num_heads=list(config.num_heads),
        window_size=list(config.window_size),
        mlp_ratio=config.mlp_ratio,
        num_classes=num_classes,
        **(v2 if config.version == 2 else {}),
    )


def transformers_config(
    config: SwinConfig, image_size: Size, num_classes: int = CLASSES
) -> transformers.PreTrainedConfig:
    shared = {
        "image_size": image_size,
        "patch_size": config.patch_size[0],
        "num_channels": config.in_channels,
        "embed_dim": config.embed_dim,
        "depths": list(config.depths),
        "num_heads": list(config.num_heads),
        "window_size": config.window_size[0],
        "mlp_ratio": config.mlp_ratio,
        "num_labels": num_classes,
        "out_features": [f"stage{stage + 1}" for stage in range(len(config.depths))],
    }
    if config.version == 1:
        # Its eager attention takes the softmax in float32, whatever the input.
        return transformers.SwinConfig(**shared, attn_implementation="sdpa")
    return transformers.Swinv2Config(**shared, pretrained_window_sizes=list(config.pretrained_window_sizes))


def transformers_model(config: SwinConfig, image_size: Size, num_classes: int = CLASSES) -> nn.Module:
    theirs = transformers_config(config, image_size, num_classes)
    if config.version == 1:
        return transformers.SwinForImageClassification(theirs)
    return transformers.Swinv2ForImageClassification(theirs)


BUILD: dict[str, Callable[..., nn.Module]] = {
    "timm": timm_model,
    "torchvision": torchvision_model,
    "transformers": transformers_model,
}


def randomised(model: nn.Module, dtype: torch.dtype = torch.float64) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * (0.3 if parameter.ndim == 1 else 0.15)
            is_scale = "norm" in name and name.endswith("weight") or name.endswith("logit_scale")
            parameter.copy_(noise + 1 if is_scale else noise)
    return model.to(dtype).eval()


def images(size: Size, dtype: torch.dtype = torch.float64, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(2)).to(dtype)


def logits(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        out = model(x)
    return out if isinstance(out, Tensor) else out.logits


def save_as_the_library_does(peer: str, model: nn.Module, folder: Path) -> Path:
    if peer == "transformers":
        model.save_pretrained(folder)
        return folder / "model.safetensors"
    if peer == "timm":
        safetensors.torch.save_file(model.state_dict(), folder / "model.safetensors")
        return folder / "model.safetensors"
    torch.save(model.state_dict(), folder / "model.pth")
    return folder / "model.pth"


def load_as_the_library_does(peer: str, model: nn.Module, path: Path) -> nn.Module:
    if peer == "timm":
        timm.models.load_checkpoint(model, str(path), strict=True)
        return model
    if peer == "torchvision":
        model.load_state_dict(torch.load(path, weights_only=True), strict=True)
        return model
    model.load_state_dict(safetensors.torch.load_file(path), strict=True)
    model.config.save_pretrained(path.parent)
    loaded, info = type(model).from_pretrained(path.parent, output_loading_info=True, dtype=torch.float64)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return loaded.eval()


def ours(config: SwinConfig, num_classes: int = CLASSES, dtype: torch.dtype = torch.float64) -> SwinClassifier:
    return SwinClassifier(config, num_classes=num_classes).to(dtype).eval()


def shrunken(version: int, **fields: object) -> SwinConfig:
    base = {"version": version, "embed_dim": 12, "depths": (2, 2, 3), "num_heads": (1, 2, 4), "window_size": 4}
    return SwinConfig(**{**base, **fields})


# Maps of 64 pixels are 16, 8 and 4 tokens wide: the last is one window, as in every published model.
NATIVE = [
    ("timm", shrunken(1), (64, 64)),
    ("timm", shrunken(2), (64, 64)),
    ("timm", shrunken(2, window_size=8, pretrained_window_sizes=(6, 6, 3), depths=(2, 2, 2)), (128, 128)),
    ("timm", shrunken(1, qkv_bias=False), (64, 64)),
    ("timm", shrunken(1, window_size=(2, 4), depths=(2, 2), num_heads=(1, 2)), (64, 96)),
    ("timm", shrunken(2, window_size=(2, 4), depths=(2, 2), num_heads=(1, 2)), (64, 96)),
    ("timm", shrunken(1, window_size=3, patch_size=2, mlp_ratio=2.0, depths=(1, 2), num_heads=(3, 2)), (24, 36)),
    ("timm", shrunken(1), (128, 192)),
    ("timm", shrunken(2), (128, 192)),
    ("torchvision", shrunken(1), (64, 64)),
    ("torchvision", shrunken(2), (64, 64)),
    ("torchvision", shrunken(1, window_size=(3, 5), depths=(2, 2), num_heads=(1, 2)), (60, 76)),
    ("torchvision", shrunken(2, window_size=(3, 5), depths=(2, 2), num_heads=(1, 2)), (60, 76)),
    ("torchvision", shrunken(1), (84, 100)),
    ("torchvision", shrunken(2), (92, 132)),
    ("torchvision", shrunken(1, window_size=7), (224, 224)),
    ("transformers", shrunken(1), (64, 64)),
    ("transformers", shrunken(2), (64, 64)),
    ("transformers", shrunken(1), (100, 132)),
    ("transformers", shrunken(2), (100, 132)),
    ("transformers", shrunken(2, window_size=8, pretrained_window_sizes=(6, 6, 3)), (128, 128)),
]


@pytest.mark.parametrize(("peer", "config", "size"), NATIVE)
def test_their_file_gives_their_answer(peer: str, config: SwinConfig, size: Size, tmp_path: Path) -> None:
    theirs = randomised(BUILD[peer](config, size))
    model = ours(config)
    report = load_weights(model, save_as_the_library_does(peer, theirs, tmp_path))
    assert report.format == peer
    assert not (report.fresh or report.resized or report.sliced or report.adapted)
    expected = logits(theirs, images(size))
    assert expected.abs().max() > 0.1
    assert (logits(model, images(size)) - expected).abs().max() <= TOLERANCE[config.version]


@pytest.mark.parametrize(("peer", "config", "size"), NATIVE)
def test_our_file_gives_them_our_answer(peer: str, config: SwinConfig, size: Size, tmp_path: Path) -> None:
    model = randomised(SwinClassifier(config, num_classes=CLASSES))
    path = tmp_path / ("model.pth" if peer == "torchvision" else "model.safetensors")
    save_checkpoint(path, convert_state_dict(model.state_dict(), to=peer, window_size=config.window_size))
    theirs = load_as_the_library_does(peer, BUILD[peer](config, size).double().eval(), path)
    assert (logits(model, images(size)) - logits(theirs, images(size))).abs().max() <= TOLERANCE[config.version]


@pytest.mark.parametrize("version", [1, 2])
def test_intermediate_maps_are_those_of_timm(version: int) -> None:
    config = shrunken(version, depths=(1, 1, 1))
    theirs = randomised(timm_model(config, (64, 64)))
    model = ours(config)
    load_weights(model, theirs.state_dict())
    x = images((64, 64), batch=1)
    flags = [{}, {"norm": True}, {"stop_early": True}, {"intermediates_only": True, "norm": True}]
    for indices, options in itertools.product([None, 2, [0], (1, -1), [2, 0], range(2)], flags):
        with torch.no_grad():
            expected, found = (each.forward_intermediates(x, indices, **options) for each in (theirs, model))
            channels_last = model.forward_intermediates(x, indices, output_fmt="NHWC", **options)
        if not options.get("intermediates_only"):
            (first, expected), (second, found), (_, channels_last) = expected, found, channels_last
            assert first.shape == second.shape
            assert (first - second).abs().max() <= TOLERANCE[version]
        assert [each.shape for each in expected] == [each.shape for each in found]
        for theirs_map, our_map, last in zip(expected, found, channels_last, strict=True):
            assert (theirs_map - our_map).abs().max() <= TOLERANCE[version]
            assert torch.equal(last.permute(0, 3, 1, 2), our_map)
    features = model.forward_features(x)
    for pre_logits in (False, True):
        head = [each.forward_head(features, pre_logits=pre_logits) for each in (theirs, model)]
        assert (head[0] - head[1]).abs().max() <= TOLERANCE[version]


@pytest.mark.parametrize("num_classes", [7, 0])
def test_a_head_is_exchanged_as_in_timm(num_classes: int) -> None:
    theirs, model = timm_model(shrunken(1), (64, 64)), ours(shrunken(1))
    for each in (theirs, model):
        assert isinstance(each.get_classifier(), nn.Linear)
        each.reset_classifier(num_classes, "avg")
    assert (model.num_classes, model.num_features) == (theirs.num_classes, theirs.num_features)
    assert type(model.get_classifier()) is type(theirs.get_classifier())
    assert model(images((64, 64))).shape == theirs(images((64, 64), torch.float32)).shape


def test_maps_that_are_not_there() -> None:
    model = ours(shrunken(1))
    for indices in (4, 0, -1, [3], [-4], []):
        with pytest.raises(ValueError, match=r"indices=.* is not possible: use stages from 0 to 2, or how many"):
            model.forward_intermediates(images((64, 64)), indices)
    with pytest.raises(ValueError, match="global_pool='max' is not possible: use 'avg'"):
        model.reset_classifier(3, "max")


FULL = [("swin_tiny_patch4_window7_224", 1000), ("swinv2_tiny_patch4_window8_256", 1000)]


@pytest.mark.parametrize(("name", "num_classes"), FULL)
@pytest.mark.parametrize("peer", BUILD)
def test_full_tiny_models(peer: str, name: str, num_classes: int, tmp_path: Path) -> None:
    variant = find_variant(name)
    size = (variant.image_size, variant.image_size)
    theirs = BUILD[peer](variant.config, size, num_classes).eval()
    with torch.no_grad():
        for parameter_name, parameter in theirs.named_parameters():
            # V2's residual norms start at zero, and would hide the blocks.
            if "norm" in parameter_name and parameter_name.endswith("weight"):
                parameter.fill_(1)
    model = ours(variant.config, num_classes, torch.float32)
    load_weights(model, save_as_the_library_does(peer, theirs, tmp_path))
    x = images(size, torch.float32, batch=1)
    assert (logits(model, x) - logits(theirs, x)).abs().max() <= 1e-4


DENSE_SIZES = [(64, 64), (33, 50), (130, 75), (16, 16), (9, 100), (1, 1)]


@pytest.mark.parametrize("size", DENSE_SIZES)
def test_dense_v1_backbone_of_transformers(size: Size, tmp_path: Path) -> None:
    config = shrunken(1, single_window="keep")
    theirs = randomised(transformers.SwinBackbone(transformers_config(config, (64, 64))))
    theirs.save_pretrained(tmp_path)
    model = SwinBackbone(config, out_indices=(0, 1, 2)).double().eval()
    report = load_weights(model, tmp_path / "model.safetensors")
    assert {change.key for change in report.dropped} == {"norm.weight", "norm.bias"}
    x = images(size)
    with torch.no_grad():
        expected, found = theirs(x).feature_maps, model(x)
    for theirs_map, our_map in zip(expected, found, strict=True):
        assert theirs_map.shape == our_map.shape
        assert (theirs_map - our_map).abs().max() <= 1e-8


@pytest.mark.parametrize("size", DENSE_SIZES)
def test_dense_v2_backbone_of_transformers(size: Size, tmp_path: Path) -> None:
    config = shrunken(2, single_window="keep")
    # Built for large images, so that its windows, which it fixes then, are the configured ones. It has no norms.
    theirs = randomised(transformers.Swinv2Backbone(transformers_config(config, (256, 256))))
    theirs.save_pretrained(tmp_path)
    model = SwinBackbone(config, out_indices=(0, 1, 2)).double().eval()
    report = load_weights(model, tmp_path / "model.safetensors")
    assert {change.key for change in report.fresh} == {
        f"norm{i}.{kind}" for i in range(3) for kind in ("weight", "bias")
    }
    x = images(size)
    with torch.no_grad():
        expected, found = theirs(x).feature_maps, model.forward_stages(model.patch_embed(x))
    for theirs_map, our_map in zip(expected, found, strict=True):
        assert (theirs_map - our_map.permute(0, 3, 1, 2)).abs().max() <= 1e-5


def test_our_dense_backbone_in_transformers(tmp_path: Path) -> None:
    config = shrunken(1, single_window="keep")
    model = randomised(SwinBackbone(config, out_indices=(0, 1, 2)))
    theirs = transformers.SwinBackbone(transformers_config(config, (64, 64))).double().eval()
    found = theirs.load_state_dict(convert_state_dict(model.state_dict(), to="transformers"), strict=False)
    # The classifier's norm is in its backbone too, unused.
    assert found.missing_keys == ["swin.layernorm.weight", "swin.layernorm.bias"]
    assert not found.unexpected_keys
    x = images((50, 70))
    with torch.no_grad():
        for theirs_map, our_map in zip(theirs(x).feature_maps, model(x), strict=True):
            assert (theirs_map - our_map).abs().max() <= 1e-8


@pytest.mark.parametrize("version", [1, 2])
def test_masked_pretraining_of_transformers(version: int, tmp_path: Path) -> None:
    config = shrunken(version)
    theirs = transformers_config(config, (64, 64))
    theirs.encoder_stride = 16
    masked = transformers.SwinForMaskedImageModeling if version == 1 else transformers.Swinv2ForMaskedImageModeling
    pretrained = randomised(masked(theirs))
    pretrained.save_pretrained(tmp_path)
    model = ours(config, num_classes=0)
    report = load_weights(model, tmp_path / "model.safetensors")
    assert {change.key for change in report.dropped} == {"mask_token", "decoder.0.weight", "decoder.0.bias"}
    with torch.no_grad():
        expected = getattr(pretrained, "swin" if version == 1 else "swinv2")(images((64, 64))).last_hidden_state.mean(1)
    assert (model(images((64, 64))) - expected).abs().max() <= TOLERANCE[version]
    # The masked model's own names, and back.
    official = convert_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"), to="official")
    masked(theirs).load_state_dict(convert_state_dict(official, to="transformers"), strict=True)
