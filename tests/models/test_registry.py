"""From a name and a file to a model: `create_model`, `create_backbone` and `load_model`, as a user calls them."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swin_transformer_pytorch import Predictor, create_backbone, create_model, list_models, load_model, load_weights
from swin_transformer_pytorch.models import registry
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.weights.catalog import SHIPPED
from swin_transformer_pytorch.weights.files import save_checkpoint
from swin_transformer_pytorch.weights.formats import convert_state_dict
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

NAMES = {1: "swin_tiny_patch4_window7_224", 2: "swinv2_tiny_patch4_window8_256"}
NAME = NAMES[1]
SMALL: dict[str, Any] = {"embed_dim": 12, "depths": (2, 1, 1, 1), "num_heads": (1, 2, 2, 4)}


def model_of(name: str = NAME, **arguments: Any) -> SwinClassifier:
    model = create_model(name, **{**SMALL, **arguments}).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model


def answer(model: torch.nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = model.eval()(x)
    return result


@pytest.mark.parametrize("version", NAMES)
@pytest.mark.parametrize("format_", ["official", "timm", "torchvision", "transformers", "openmmlab"])
def test_a_file_of_any_format_fills_the_model(version: int, format_: str, tmp_path: Path) -> None:
    source = model_of(NAMES[version])
    path = tmp_path / "weights.pth"
    window = source.config.window_size
    save_checkpoint(path, convert_state_dict(source.state_dict(), to=format_, window_size=window))

    model = create_model(NAMES[version], weights=path, **SMALL)

    x = torch.randn(1, 3, 100, 76)
    assert torch.equal(answer(model, x), answer(source, x))
    assert model.num_classes == 1000
    assert model.classes is not None and model.classes[1] == "goldfish"
    assert model.preprocessing == Preprocessing.imagenet(224 if version == 1 else 256)


def test_grey_images_give_what_their_three_copies_gave(tmp_path: Path) -> None:
    source = model_of()
    save_checkpoint(tmp_path / "m.safetensors", source.state_dict())

    model = create_model(NAME, weights=tmp_path / "m.safetensors", in_channels=1, **SMALL)

    x = torch.randn(1, 1, 64, 50)
    torch.testing.assert_close(answer(model, x), answer(source, x.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)
    assert model.preprocessing is not None
    assert model.preprocessing.mean == (pytest.approx((0.485 + 0.456 + 0.406) / 3),)
    # What the mean and deviation of a fourth channel are, nobody knows.
    assert create_model(NAME, weights=tmp_path / "m.safetensors", in_channels=4, **SMALL).preprocessing is None


def test_changes_to_the_weights_are_logged_as_warnings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save_checkpoint(tmp_path / "m.pth", model_of().state_dict())
    caplog.set_level(logging.INFO)

    create_model(NAME, weights=tmp_path / "m.pth", **SMALL)
    model = create_model(NAME, weights=tmp_path / "m.pth", num_classes=10, window_size=12, **SMALL)

    as_it_is, changed = (record for record in caplog.records if record.name == registry.__name__)
    assert (as_it_is.levelname, changed.levelname) == ("INFO", "WARNING")
    assert "resized        5" in changed.getMessage() and "10; left as initialised" in changed.getMessage()
    assert (model.num_classes, model.classes, model.config.window_size) == (10, None, (12, 12))


def test_without_a_head_the_features_come_out(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.pth", model_of().state_dict())
    model = create_model(NAME, weights=tmp_path / "m.pth", num_classes=0, **SMALL)
    assert answer(model, torch.randn(2, 3, 40, 40)).shape == (2, 96)


def test_a_head_of_22k_becomes_one_of_1k_with_its_names(tmp_path: Path) -> None:
    source = model_of(num_classes=21841)
    save_checkpoint(tmp_path / "m.pth", source.state_dict())

    whole = create_model(NAME, weights=tmp_path / "m.pth", **SMALL)
    mapped = create_model(NAME, weights=tmp_path / "m.pth", num_classes=1000, **SMALL)

    assert (whole.num_classes, whole.classes) == (21841, None)
    assert mapped.classes is not None and mapped.classes[0] == "tench"
    x = torch.randn(1, 3, 40, 40)
    torch.testing.assert_close(answer(mapped, x)[:, 0], answer(whole, x)[:, 359])


def test_a_backbone_takes_a_classifiers_weights(tmp_path: Path) -> None:
    source = model_of()
    save_checkpoint(tmp_path / "m.pth", source.state_dict())

    backbone = create_backbone(NAME, weights=tmp_path / "m.pth", out_indices=[1, 3], **SMALL).eval()

    assert (backbone.channels, backbone.strides, backbone.config.single_window) == ((24, 96), (8, 32), "keep")
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 100, 70))
    assert [tuple(m.shape) for m in maps] == [(1, 24, 13, 9), (1, 96, 4, 3)]
    assert torch.equal(backbone.layers[3].blocks[0].attn.qkv.weight, source.layers[3].blocks[0].attn.qkv.weight)


def test_our_own_file_needs_no_name(tmp_path: Path) -> None:
    source = model_of(num_classes=2, window_size=(3, 5))
    source.classes, source.preprocessing = ("cat", "dog"), Preprocessing.imagenet(64)
    save_checkpoint(tmp_path / "m.safetensors", source.state_dict(), source.metadata())

    model = load_model(tmp_path / "m.safetensors")

    assert model.metadata() == source.metadata()
    x = torch.randn(1, 3, 40, 56)
    assert torch.equal(answer(model, x), answer(source, x))


DAMAGE: list[tuple[dict[str, Any], str]] = [
    ({"task": "pose"}, "task='pose'; this version has: classification, detection, segmentation"),
    ({"task": "detection"}, "describes a model for detection and holds one for classification"),
    ({"format_version": 2}, "format_version=2.*pip install --upgrade"),
    ({"classes": 5}, "damaged description.*classes=5"),
    ({"classes": ["cat"]}, "damaged description.*not 2 names"),
    ({"classes": ["cat", 1]}, "damaged description.*not 2 names"),
    ({"num_classes": "2"}, "damaged description.*num_classes='2'"),
    ({"num_classes": 10**12, "classes": None}, r"of 97,000,\d\d\d,\d\d\d,\d\d\d parameters and holds \d"),
    ({"config": [1]}, r"damaged description.*config=\[1\]"),
    ({"config": {"depths": "2"}}, "cannot be built: depths="),
    ({"config": {**SMALL, "embed_dim": 3 * 2**40}}, "cannot be built: embed_dim=3298534883328"),
    ({"config": {**SMALL, "embed_dim": 24}}, r"of [\d,]+ parameters and holds \d"),
    ({"config": {"depths": [400], "num_heads": [1]}}, r"depths=\(400,\) and holds depths=\(2, 1, 1, 1\)"),
    ({"config": {**SMALL, "mlp_ratio": 1e300}}, r"cannot be built: mlp_ratio=1e\+300"),
    ({"num_classes": -1, "classes": None}, "cannot be built: num_classes=-1"),
    ({"preprocessing": {"image_size": 64}}, "cannot be built: preprocessing.*resize_size"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_damaged_description_is_one_error_that_names_the_file(
    damage: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = model_of(num_classes=2)
    save_checkpoint(tmp_path / "m.pth", source.state_dict(), {**source.metadata(), **damage})
    with pytest.raises(ValueError, match=rf"m\.pth .*{message}"):
        load_model(tmp_path / "m.pth")


@pytest.mark.parametrize("key", ["task", "name", "config", "num_classes", "classes", "preprocessing"])
def test_a_description_with_a_part_missing_is_an_error(key: str, tmp_path: Path) -> None:
    source = model_of(num_classes=2)
    metadata = source.metadata()
    del metadata[key]
    save_checkpoint(tmp_path / "m.pth", source.state_dict(), metadata)
    with pytest.raises(ValueError, match=rf"m\.pth has a damaged description.*no '{key}'"):
        create_model(NAME, weights=tmp_path / "m.pth", **SMALL)


def test_a_file_without_a_description_needs_the_name(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.pth", model_of().state_dict())
    with pytest.raises(ValueError, match=r"m\.pth does not say which model it is for.*create_model"):
        load_model(tmp_path / "m.pth")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "swin_tiny"}, "no model named 'swin_tiny'; did you mean"),
        ({"name": f"{NAME}.in21k"}, "no weights 'in21k'.*in22k"),
        ({"name": f"{NAME}.in22k", "weights": "in1k"}, "both say which weights"),
        ({"window": 7}, "unknown config field 'window'.*window_size"),
        ({"pretrained": True}, "no argument 'pretrained'.*weights=\"default\""),
        ({"in_chans": 1}, "no argument 'in_chans'.*in_channels="),
        ({"features_only": True}, r"no argument 'features_only'.*create_backbone\(name, weights\)"),
        ({"img_size": 224}, "no argument 'img_size'.*any image size"),
        ({"which": "mean", "weights": "fashion"}, "which='mean' is not possible"),
        ({"name": "fashion", "weights": "in1k"}, "'fashion' is a model with its weights.*weights.*leave out"),
        ({"name": "fashion", "window_size": 3}, "'fashion' is a model with its weights.*window_size"),
        ({"weights": "in21k"}, "'in21k' is no catalogue tag.*as weights= .*--weights.*--model.weights.*in22k"),
        ({"weights": True}, "weights=True is none: give 'default'"),
        ({"num_classes": -1}, "num_classes=-1 is not possible"),
        ({"num_classes": "10"}, "num_classes='10' is not possible"),
        ({"num_classes": 10.0}, "num_classes=10.0 is not possible"),
    ],
)
def test_a_mistake_in_an_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model(**{"name": NAME, **arguments})


def test_names_are_listed_by_task() -> None:
    assert list_models() == sorted(name for task in registry.TASKS for name in list_models(task))
    assert NAME in list_models("classification")
    assert "mask_rcnn_swin_tiny_patch4_window7" in list_models("detection")
    assert "upernet_swin_tiny_patch4_window7_512x512" in list_models("segmentation")
    with pytest.raises(ValueError, match="task='pose' is not known: use one of classification, detection, seg"):
        list_models("pose")


@pytest.mark.parametrize("name", SHIPPED)
def test_a_model_in_the_package_is_taken_wherever_a_model_or_weights_are_named(name: str) -> None:
    model: Any = load_model(name)
    again = load_model(name)
    for made in (create_model(name), create_model(name, weights="default"), Predictor(name, device="cpu").model):
        assert same(made.state_dict(), model.state_dict())
    for parameter in again.parameters():
        torch.nn.init.zeros_(parameter)
    load_weights(again, name)
    assert same(again.state_dict(), model.state_dict())
    other: Any = create_model(name, num_classes=model.num_classes + 1)
    assert (other.num_classes, other.classes) == (model.num_classes + 1, None)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
