"""Whole detectors and segmenters in the official layout, OpenMMLab's and transformers'."""

import pytest
import torch
import torch.nn.functional as F

from swin_transformer_pytorch.models.config import DENSE_VARIANTS, parameter_counts
from swin_transformer_pytorch.weights.files import read_checkpoint, save_checkpoint
from swin_transformer_pytorch.weights.formats import FormatError, convert_state_dict, detect_format
from swin_transformer_pytorch.weights.formats.dense import is_whole
from swin_transformer_pytorch.weights.formats.official import is_derived
from swin_transformer_pytorch.weights.load import load_weights
from swin_transformer_pytorch.weights.methods import method_of

METHODS = ("mask_rcnn", "cascade_mask_rcnn", "upernet")
LAYOUTS = [(method, to) for method in METHODS for to in ("official", "openmmlab")] + [("upernet", "transformers")]
COUNTS = {
    "mask_rcnn_swin_tiny_patch4_window7": (231, 47.79),
    "cascade_mask_rcnn_swin_tiny_patch4_window7": (337, 85.63),
    "upernet_swin_tiny_patch4_window7_512x512": (271, 59.94),
}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def without_indices(state_dict):
    return {key: value for key, value in state_dict.items() if not is_derived(key)}


@pytest.mark.parametrize(("name", "counts"), COUNTS.items())
def test_the_authors_models_have_these_keys_shapes_and_sizes(name, counts, official_shapes, build):
    """231, 337 and 271 keys were counted in their modules, and 48M, 86M and 60M parameters are published."""
    config = DENSE_VARIANTS[name].config
    theirs = official_shapes(config)
    assert len(theirs) == counts[0]
    assert sum(is_derived(key) for key in theirs) == 12
    with torch.device("meta"):
        model = build(config)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == without_indices(theirs)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == parameter_counts()[name]
    assert round(parameters / 1e6, 2) == counts[1]


@pytest.mark.parametrize(("method", "to"), LAYOUTS)
def test_round_trip_gives_identical_tensors(method, to, dense_configs, official_file):
    start = official_file(dense_configs[method])
    there = convert_state_dict(start, to=to)
    assert detect_format(there) == to
    assert same(convert_state_dict(there, to="official"), without_indices(start))
    # The other way round: what that format held comes back too.
    assert same(convert_state_dict(convert_state_dict(there, to="official"), to=to), there)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize(("method", "layout"), LAYOUTS)
def test_a_file_fills_the_model_exactly(method, layout, prefix, tmp_path, dense_configs, official_file, build):
    config = dense_configs[method]
    start = official_file(config)
    theirs = convert_state_dict(start, to=layout)
    indices = {
        key.replace("layers.", "stages.").replace(".attn.", ".attn.w_msa.") if layout == "openmmlab" else key: value
        for key, value in start.items()
        if is_derived(key) and layout != "transformers"
    }
    torch.save({"state_dict": {prefix + k: v for k, v in {**theirs, **indices}.items()}}, tmp_path / "m.pth")
    model = build(config)
    report = load_weights(model, tmp_path / "m.pth")
    assert same(model.state_dict(), without_indices(start))
    assert report.format == layout
    assert len(report.loaded) == len(model.state_dict())
    assert not (report.fresh or report.resized or report.adapted or report.sliced or report.notes)
    dropped = {change.key for change in report.dropped}
    if layout == "transformers":
        assert dropped == {"backbone.norm.weight", "backbone.norm.bias"}
    else:
        assert dropped == indices.keys()


@pytest.mark.parametrize(
    ("method", "layout"), [("mask_rcnn", "openmmlab"), ("upernet", "openmmlab"), ("upernet", "transformers")]
)
def test_answers_are_the_same_after_a_round_trip(method, layout, dense_configs, official_file, build):
    config = dense_configs[method]
    first, second = build(config), build(config)
    load_weights(first, official_file(config))
    load_weights(second, convert_state_dict(first.state_dict(), to=layout))
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        answers = [model(images) for model in (first, second)]
    if method == "upernet":
        assert torch.equal(*answers)
    else:
        (one,), (other,) = answers
        assert torch.equal(one.boxes_xyxy, other.boxes_xyxy) and torch.equal(one.scores, other.scores)


def test_openmmlab_differs_in_the_backbone_alone(dense_configs, official_file):
    start = without_indices(official_file(dense_configs["mask_rcnn"]))
    theirs = convert_state_dict(start, to="openmmlab")
    assert {
        "backbone.patch_embed.projection.weight",
        "backbone.stages.0.blocks.1.attn.w_msa.relative_position_bias_table",
        "backbone.stages.2.blocks.0.ffn.layers.0.0.weight",
        "backbone.stages.2.downsample.norm.weight",
        "backbone.norm3.bias",
    } <= theirs.keys()
    heads = {key for key in start if not key.startswith("backbone.")}
    assert heads == {key for key in theirs if not key.startswith("backbone.")}
    assert all(torch.equal(theirs[key], start[key]) for key in heads)
    reduction = "downsample.reduction.weight"
    assert not torch.equal(theirs[f"backbone.stages.0.{reduction}"], start[f"backbone.layers.0.{reduction}"])


def test_transformers_takes_and_gives_upernet(tmp_path, dense_configs, official_file, build):
    """Its own model as the peer: strict load, the same logits, and its saved file (the hub's older names) read back."""
    from transformers import SwinConfig, UperNetConfig, UperNetForSemanticSegmentation

    config = dense_configs["upernet"]
    backbone = SwinConfig(
        embed_dim=8,
        depths=[2, 1, 1, 1],
        num_heads=[1, 2, 2, 4],
        window_size=3,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    theirs = UperNetForSemanticSegmentation(
        UperNetConfig(
            backbone_config=backbone, hidden_size=8, num_labels=5, auxiliary_in_channels=32, auxiliary_channels=4
        )
    ).eval()
    start = without_indices(official_file(config))
    theirs.load_state_dict(convert_state_dict(start, to="transformers"), strict=True)
    ours = build(config)
    load_weights(ours, theirs.state_dict())
    assert same(ours.state_dict(), start)
    images = torch.randn(1, 3, 37, 61, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = F.interpolate(ours(images), size=(37, 61), mode="bilinear", align_corners=False)
        assert (logits - theirs(images).logits).abs().max() < 1e-5
    theirs.save_pretrained(tmp_path)
    saved = read_checkpoint(tmp_path / "model.safetensors").state_dict
    assert "backbone.encoder.layers.0.blocks.0.attention.self.query.weight" in saved
    assert same(convert_state_dict(saved, to="official"), start)


@pytest.mark.parametrize(
    ("method", "to", "said"),
    [
        ("mask_rcnn", "timm", "'timm' has no place for a whole detector or segmenter"),
        ("upernet", "torchvision", "'torchvision' has no place for a whole detector or segmenter"),
        ("cascade_mask_rcnn", "transformers", "'transformers' has UPerNet and Mask2Former on Swin V1 alone"),
        ("mask_rcnn", "seed", "does not convert"),
    ],
)
def test_formats_without_such_models_refuse_them(method, to, said, dense_configs, official_file):
    with pytest.raises(FormatError, match=said):
        convert_state_dict(official_file(dense_configs[method]), to=to)


def test_other_heads_are_not_taken_for_ours(dense_configs, official_file):
    backbone = {k: v for k, v in official_file(dense_configs["mask_rcnn"]).items() if k.startswith("backbone.")}
    with pytest.raises(FormatError, match="not a Swin checkpoint of a known format"):
        detect_format({**backbone, "bbox_head.reppoints_cls_conv.weight": torch.zeros(1)})
    with pytest.raises(FormatError, match="not all keys belong.*panoptic_head.x"):
        convert_state_dict(
            {**official_file(dense_configs["mask_rcnn"]), "panoptic_head.x": torch.zeros(1)}, "openmmlab"
        )


@pytest.mark.parametrize("method", METHODS)
def test_keys_tell_method_and_task(method, dense_configs, official_shapes):
    keys = official_shapes(dense_configs[method])
    assert is_whole(keys)
    found = method_of(keys)
    assert found is not None and found.name == method
    assert found.task == ("segmentation" if method == "upernet" else "detection")
    assert found.classes in keys
    assert method_of({"layers.0.blocks.0.norm1.weight"}) is None


@pytest.mark.parametrize("to", ["official", "openmmlab"])
def test_files_have_the_container_and_classes_that_their_code_reads(to, tmp_path, dense_configs, official_file):
    names, colours = ("a", "b", "c", "d", "e"), [(i, 2 * i, 3) for i in range(5)]
    save_checkpoint(
        tmp_path / "m.pth",
        convert_state_dict(official_file(dense_configs["upernet"]), to=to),
        classes=names,
        palette=colours,
    )
    content = torch.load(tmp_path / "m.pth", weights_only=True)
    assert content.keys() == {"meta", "state_dict"}
    assert content["meta"] == {"CLASSES": names, "PALETTE": [list(colour) for colour in colours]}
    file = read_checkpoint(tmp_path / "m.pth")
    assert (file.classes, file.palette) == (names, tuple(colours))
