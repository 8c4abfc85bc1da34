"""Detectors and segmenters by name, with weights and from their own files."""

from pathlib import Path
from typing import Any

import pytest
import torch

from swin_transformer_pytorch import create_model, load_model
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.weights.files import save_checkpoint
from swin_transformer_pytorch.weights.formats import convert_state_dict
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

NAMES = {
    "detection": "mask_rcnn_swin_tiny_patch4_window7",
    "segmentation": "upernet_swin_tiny_patch4_window7_512x512",
}
SMALL_BACKBONE: dict[str, Any] = {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 3}
SMALL: dict[str, dict[str, Any]] = {
    "detection": {**SMALL_BACKBONE, "fpn_dim": 8, "fc_dim": 16},
    "segmentation": {**SMALL_BACKBONE, "decode_dim": 8, "auxiliary_dim": 4},
}
TASKS = tuple(NAMES)


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("task", TASKS)
def test_a_name_gives_a_model_of_its_task(task: str) -> None:
    model = create_model(NAMES[task], in_channels=1, **SMALL[task])
    assert (model.task, model.name) == (task, NAMES[task])
    assert model.num_classes == {"detection": 80, "segmentation": 150}[task]
    assert model.classes is None  # random weights know none
    assert model.config.backbone.embed_dim == 8 and model.config.backbone.single_window == "keep"
    official = DensePreprocessing.coco() if task == "detection" else DensePreprocessing.ade20k()
    assert model.preprocessing is not None and model.preprocessing.channels == 1
    assert model.preprocessing.scale == official.scale
    assert model.preprocessing.mean == pytest.approx((sum(official.mean) / 3,))


@pytest.mark.parametrize("format_", ["official", "openmmlab", "transformers"])
@pytest.mark.parametrize("task", TASKS)
def test_a_file_of_other_code_gives_its_classes(task: str, format_: str, tmp_path: Path) -> None:
    if (task, format_) == ("detection", "transformers"):
        pytest.skip("transformers has no such detector")
    source = create_model(NAMES[task], num_classes=2, **SMALL[task])
    path = tmp_path / "m.pth"
    save_checkpoint(path, convert_state_dict(source.state_dict(), to=format_), classes=("cat", "dog"))

    model = create_model(NAMES[task], weights=path, **SMALL[task])

    assert same(model, source)
    assert model.num_classes == 2
    assert model.classes == (None if format_ == "transformers" else ("cat", "dog"))
    other = create_model(NAMES[task], weights=path, num_classes=3, **SMALL[task])
    assert (other.num_classes, other.classes) == (3, None)


@pytest.mark.parametrize("task", TASKS)
def test_a_classifier_starts_it_with_random_heads(task: str, tmp_path: Path) -> None:
    classifier = create_model("swin_tiny_patch4_window7_224", num_classes=5, **SMALL_BACKBONE)
    assert isinstance(classifier, SwinClassifier)
    save_checkpoint(tmp_path / "m.safetensors", classifier.state_dict(), classifier.metadata())

    model = create_model(NAMES[task], weights=tmp_path / "m.safetensors", **SMALL[task])

    assert (model.num_classes, model.classes) == ({"detection": 80, "segmentation": 150}[task], None)
    assert isinstance(model.preprocessing, DensePreprocessing)
    assert torch.equal(
        model.backbone.layers[3].blocks[0].attn.qkv.weight, classifier.layers[3].blocks[0].attn.qkv.weight
    )


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_our_own_file_needs_no_name(task: str, ending: str, tmp_path: Path) -> None:
    source = create_model(NAMES[task], num_classes=2, **SMALL[task])
    source.classes = ("cat", "dog")
    if task == "segmentation":
        source.palette = ((1, 2, 3), (4, 5, 6))
    source.preprocessing = DensePreprocessing(scale=(64, 48), size_divisor=8)
    save_checkpoint(tmp_path / f"m.{ending}", source.state_dict(), source.metadata())

    model = load_model(tmp_path / f"m.{ending}")

    assert type(model) is type(source)
    assert same(model, source)
    assert model.metadata() == source.metadata()


CONFIG = {"num_classes": 2, "fpn_dim": 8, "fc_dim": 16, "backbone": SMALL_BACKBONE}
DAMAGE: list[tuple[dict[str, Any], str]] = [
    ({"task": "classification"}, "describes a model that cannot be built: unknown config field 'backbone'"),
    ({"task": "segmentation"}, "describes a model for segmentation and holds one for detection"),
    ({"num_classes": 3, "classes": None}, "num_classes=2 and of 3"),
    ({"config": {"fpn_dims": 8}}, "cannot be built: unknown config field 'fpn_dims'"),
    ({"config": {"backbone": {"depths": "2"}}}, "cannot be built: depths="),
    ({"config": {"backbone": 7}}, "cannot be built"),
    ({"config": {**CONFIG, "fpn_dim": 2**40}}, "cannot be built: fpn_dim=1099511627776"),
    ({"config": {**CONFIG, "fpn_dim": 2**15}}, r"of [\d,]+ parameters and holds \d"),
    (
        {"config": {"num_classes": 2, "backbone": {"depths": [1, 400], "num_heads": [1, 1]}}},
        r"depths=\(1, 400\) and holds depths=\(1, 1, 1, 1\)",
    ),
    ({"preprocessing": {"kind": "dense", "scale": 7}}, "cannot be built: preprocessing"),
    ({"palette": ["red", "blue"]}, "palette is not a list of colours"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGE)
def test_a_damaged_description_is_one_error_before_anything_is_built(
    damage: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = create_model(NAMES["detection"], num_classes=2, **SMALL["detection"])
    save_checkpoint(tmp_path / "m.pth", source.state_dict(), {**source.metadata(), **damage})
    with pytest.raises(ValueError, match=rf"m\.pth .*{message}"):
        load_model(tmp_path / "m.pth")


def test_an_endless_list_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    source = create_model(NAMES["segmentation"], num_classes=2, **SMALL["segmentation"])
    metadata = source.metadata()
    metadata["config"]["pool_scales"] = [1] * 10**6
    save_checkpoint(tmp_path / "m.pth", source.state_dict(), metadata)
    with pytest.raises(ValueError, match=r"m\.pth describes a model that cannot be built: pool_scales=.{,300}$"):
        load_model(tmp_path / "m.pth")


@pytest.mark.parametrize("task", TASKS)
def test_a_file_without_a_description_needs_a_name_of_its_task(task: str, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m.pth", create_model(NAMES[task], **SMALL[task]).state_dict())
    with pytest.raises(ValueError, match=rf"m\.pth does not say which model it is for.*create_model\('{NAMES[task]}'"):
        load_model(tmp_path / "m.pth")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "mask_rcnn_swin_tiny"}, "no model named 'mask_rcnn_swin_tiny'; did you mean mask_rcnn_swin_tiny_pat"),
        ({"name": f"{NAMES['detection']}.coco_2x"}, "no weights 'coco_2x'.*coco_3x"),
        ({"name": "htc_swin_tiny_patch4_window7", "weights": "default"}, r"no public .*224\.in1k"),
        ({"image_size": 224}, "unknown config field 'image_size'"),
        ({"num_classes": 0}, "num_classes=0 is not possible"),
        ({"weights": "coco_2x"}, "no catalogue tag.*coco_3x"),
    ],
)
def test_a_mistake_in_an_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model(**{"name": NAMES["detection"], **arguments})
