"""What may differ between a file and a whole detector or segmenter, and what is refused."""

import dataclasses
import sys
import types

import pytest
import torch

from swin_transformer_pytorch.models.backbone import SwinBackbone
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.models.config import DetectorConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.weights.catalog import find_record
from swin_transformer_pytorch.weights.dense_classes import ade20k_palette, dense_class_names
from swin_transformer_pytorch.weights.files import CheckpointError, read_checkpoint, save_checkpoint
from swin_transformer_pytorch.weights.formats import convert_state_dict
from swin_transformer_pytorch.weights.formats.official import is_derived
from swin_transformer_pytorch.weights.load import load_weights, open_checkpoint

METHODS = ("mask_rcnn", "cascade_mask_rcnn", "upernet")


def snapshot(model):
    return {key: value.clone() for key, value in model.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def keys(changes):
    return {change.key for change in changes}


@pytest.mark.parametrize("format_", ["official", "timm", "torchvision", "transformers", "openmmlab"])
@pytest.mark.parametrize("method", METHODS)
def test_a_classifier_of_any_format_starts_a_model(method, format_, dense_configs, build):
    model = build(dense_configs[method])
    before = snapshot(model)
    classifier = SwinClassifier(dense_configs[method].backbone, num_classes=7)
    for parameter in classifier.parameters():
        torch.nn.init.normal_(parameter)
    report = load_weights(model, convert_state_dict(classifier.state_dict(), to=format_))
    assert report.format == format_
    assert keys(report.dropped) - {key for key in keys(report.dropped) if is_derived(key)} == {
        "norm.weight", "norm.bias", "head.weight", "head.bias"
    }  # fmt: skip
    fresh = keys(report.fresh)
    own_norms = {f"backbone.norm{stage}.{kind}" for stage in range(4) for kind in ("weight", "bias")}
    assert fresh == own_norms | {key for key in before if not key.startswith("backbone.")}
    for key, value in model.state_dict().items():
        taken = classifier.state_dict().get(key.removeprefix("backbone."))
        assert torch.equal(value, before[key] if key in fresh else taken)
    assert "backbone.norm0.weight" in str(report) and "left as initialised" in str(report)


def test_another_window_and_other_channels_adapt_the_backbone_of_whole_models(dense_configs, official_file, build):
    config = dense_configs["mask_rcnn"]
    model = build(config.replace(window_size=5, in_channels=1))
    report = load_weights(model, official_file(config))
    assert len(report.resized) == 5
    assert report.resized[0].key == "backbone.layers.0.blocks.0.attn.relative_position_bias_table"
    assert "from window 3x3 to 5x5, bicubic" in report.resized[0].why
    assert keys(report.adapted) == {"backbone.patch_embed.proj.weight"}
    assert not report.fresh


@pytest.mark.parametrize(
    ("method", "fresh"),
    [
        ("mask_rcnn", ("roi_head.bbox_head.fc_cls", "roi_head.bbox_head.fc_reg", "roi_head.mask_head.conv_logits")),
        (
            "cascade_mask_rcnn",
            tuple(
                f"roi_head.{layer}"
                for stage in range(3)
                for layer in (
                    f"bbox_head.{stage}.fc_cls",
                    f"bbox_head.{stage}.fc_reg",
                    f"mask_head.{stage}.conv_logits",
                )
            ),
        ),
        ("upernet", ("decode_head.conv_seg", "auxiliary_head.conv_seg")),
    ],
)
def test_other_classes_leave_the_layers_of_classes_fresh(method, fresh, dense_configs, official_file, build):
    config = dense_configs[method]
    model = build(config.replace(num_classes=11))
    before = snapshot(model)
    start = official_file(config)
    report = load_weights(model, start)
    assert keys(report.fresh) == {f"{layer}.{kind}" for layer in fresh for kind in ("weight", "bias")}
    assert f"the file has {config.num_classes} classes, the model 11" in report.fresh[0].why
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] if key in keys(report.fresh) else start[key])


def htc_of(num_classes: int, num_semantic_classes: int):
    backbone = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2), "window_size": 3}
    config = DetectorConfig(
        method="htc", num_classes=num_classes, num_semantic_classes=num_semantic_classes, fpn_dim=8, fc_dim=16
    )
    return build(ModelDescription(config=config.replace(**backbone)))


@pytest.mark.parametrize(("classes", "semantic_classes"), [(3, 6), (5, 4), (5, 6)])
def test_htc_keeps_boxes_of_all_classes_and_its_semantic_branch_has_classes_of_its_own(classes, semantic_classes):
    source, model = htc_of(3, 4), htc_of(classes, semantic_classes)
    before = snapshot(model)
    report = load_weights(model, source.state_dict())
    layers = []
    if classes != 3:
        layers += [f"roi_head.{head}.{i}" for i in range(3) for head in ("bbox_head", "mask_head")]
        layers = [f"{layer}.{'fc_cls' if 'bbox' in layer else 'conv_logits'}" for layer in layers]
    if semantic_classes != 4:
        layers.append("roi_head.semantic_head.conv_logits")
    assert keys(report.fresh) == {f"{layer}.{kind}" for layer in layers for kind in ("weight", "bias")}
    said = {change.why for change in report.fresh}
    assert said == {
        f"{start}; left as initialised, so train the model"
        for start, other in (
            (f"the file has 3 classes, the model {classes}", classes != 3),
            (f"the file's semantic branch has 4 classes, the model's {semantic_classes}", semantic_classes != 4),
        )
        if other
    }
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] if key in keys(report.fresh) else source.state_dict()[key])


def test_the_count_of_batches_may_be_absent(dense_configs, official_file, build):
    config = dense_configs["upernet"]
    start = {k: v for k, v in official_file(config).items() if not k.endswith("num_batches_tracked")}
    model = build(config)
    report = load_weights(model, start)
    assert report.notes == ("13 batch norms come without their count of batches, which no answer depends on",)
    assert not report.fresh
    assert all(torch.equal(model.state_dict()[key], value) for key, value in start.items() if not is_derived(key))


@pytest.mark.parametrize("method", METHODS)
def test_a_backbone_takes_its_part_of_a_whole_model(method, dense_configs, official_file):
    start = official_file(dense_configs[method])
    backbone = SwinBackbone(dense_configs[method].backbone, out_indices=(1, 3))
    report = load_weights(backbone, start)
    assert all(torch.equal(value, start[f"backbone.{key}"]) for key, value in backbone.state_dict().items())
    heads = {key for key in start if not key.startswith("backbone.")}
    norms = {f"backbone.norm{stage}.{kind}" for stage in (0, 2) for kind in ("weight", "bias")}
    indices = {key for key in start if is_derived(key)}
    assert keys(report.dropped) == heads | norms | indices


REFUSED = [
    ("mask_rcnn", "cascade_mask_rcnn", {}, "It is mask_rcnn of .*and the model is cascade_mask_rcnn of "),
    ("cascade_mask_rcnn", "mask_rcnn", {}, r"unexpected \(\d+\):"),
    ("upernet", "mask_rcnn", {}, "It is upernet of .*and the model is mask_rcnn of "),
    ("mask_rcnn", "mask_rcnn", {"depths": (1, 1, 1, 1)}, r"depths=\(2, 1, 1, 1\), and the model .*\(1, 1, 1, 1\)"),
    ("upernet", "upernet", {"embed_dim": 16}, "of embed_dim=8, .*of embed_dim=16"),
    ("mask_rcnn", "mask_rcnn", {"fpn_dim": 4}, r"neck.lateral_convs.0.conv.weight: \(8, 8, 1, 1\) in the file, \(4"),
    ("upernet", "upernet", {"version": 2}, "It is Swin V1, and the model is V2"),
]


@pytest.mark.parametrize(("held", "wanted", "changes", "said"), REFUSED)
def test_another_method_or_size_is_refused_and_named(held, wanted, changes, said, dense_configs, official_file, build):
    model = build(dense_configs[wanted].replace(**changes))
    before = snapshot(model)
    with pytest.raises(CheckpointError, match=f"(?s){said}"):
        load_weights(model, official_file(dense_configs[held]))
    assert same(model.state_dict(), before)


def test_one_wrong_shape_of_the_same_classes_is_a_misfit(dense_configs, official_file, build):
    config = dense_configs["mask_rcnn"]
    start = official_file(config) | {"roi_head.bbox_head.fc_reg.weight": torch.zeros(4, 16)}
    with pytest.raises(CheckpointError, match=r"fc_reg\.weight: \(4, 16\) in the file, \(12, 16\) in the model"):
        load_weights(build(config), start)


def test_a_classifier_does_not_take_a_whole_model(dense_configs, official_file):
    config = dense_configs["mask_rcnn"]
    with pytest.raises(CheckpointError, match="It is mask_rcnn of .*and the model is a classifier or backbone of"):
        load_weights(SwinClassifier(config.backbone, num_classes=3), official_file(config))


@pytest.mark.parametrize(
    "meta",
    [
        {"CLASSES": ("a", "b", "c", "d", "e"), "PALETTE": [[i, i, i] for i in range(5)]},
        {"dataset_meta": {"classes": ("a", "b", "c", "d", "e"), "palette": [[i, i, i] for i in range(5)]}},
    ],
)
def test_classes_and_colours_of_the_container(meta, tmp_path, dense_configs, official_file):
    content = {
        "meta": {**meta, "epoch": 36, "config": "model = dict(...)"},
        "state_dict": official_file(dense_configs["upernet"]),
        "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]},
    }
    torch.save(content, tmp_path / "epoch_36.pth")
    checkpoint = open_checkpoint(tmp_path / "epoch_36.pth")
    assert (checkpoint.task, checkpoint.num_classes, checkpoint.config) == ("segmentation", 5, None)
    assert checkpoint.classes == ("a", "b", "c", "d", "e")
    assert checkpoint.palette == tuple((i, i, i) for i in range(5))


@pytest.mark.parametrize(
    ("meta", "classes"),
    [
        ({"CLASSES": "balloon"}, ("balloon",)),
        ({"CLASSES": ("a", 1)}, None),
        ({"CLASSES": ("a", "b"), "PALETTE": [[0, 0]]}, ("a", "b")),
        ("text", None),
    ],
)
def test_classes_that_are_none_count_as_absent(meta, classes, tmp_path, dense_configs, official_file):
    torch.save({"meta": meta, "state_dict": official_file(dense_configs["mask_rcnn"])}, tmp_path / "m.pth")
    file = read_checkpoint(tmp_path / "m.pth")
    assert (file.classes, file.palette) == (classes, None)
    assert open_checkpoint(tmp_path / "m.pth").classes is None  # the head has three


def test_what_mmengine_adds_is_refused_by_name(tmp_path, monkeypatch, dense_configs, official_file):
    module = types.ModuleType("mmengine.logging.history_buffer")

    class HistoryBuffer:
        pass

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    module.HistoryBuffer = HistoryBuffer
    with monkeypatch.context() as patch:
        for parent in ("mmengine", "mmengine.logging"):
            patch.setitem(sys.modules, parent, types.ModuleType(parent))
        patch.setitem(sys.modules, module.__name__, module)
        content = {"state_dict": official_file(dense_configs["mask_rcnn"]), "message_hub": HistoryBuffer()}
        torch.save(content, tmp_path / "m.pth")
    with pytest.raises(CheckpointError, match=r"m\.pth is refused: it asks for mmengine\S*HistoryBuffer"):
        read_checkpoint(tmp_path / "m.pth")


def test_a_published_file_brings_its_classes_and_preprocessing(dense_configs, official_file, tmp_path):
    config = dataclasses.replace(dense_configs["upernet"], num_classes=150)
    record = find_record("upernet_swin_tiny_patch4_window7_512x512")
    path = tmp_path / record.source.rpartition("/")[2]
    save_checkpoint(path, official_file(config))
    checkpoint = open_checkpoint(path)
    assert checkpoint.record is record
    assert checkpoint.classes == dense_class_names("ade20k")
    assert checkpoint.palette == ade20k_palette()
    assert checkpoint.preprocessing == record.preprocessing
    # A head of other classes is not ADE20K's, whatever the file's name.
    save_checkpoint(path, official_file(dense_configs["upernet"]))
    assert open_checkpoint(path).classes is open_checkpoint(path).palette is None
