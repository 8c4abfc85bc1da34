"""Mask2Former's files in the model: of three libraries, of other classes, and of a classifier that starts it."""

import pickle

import pytest
import torch

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.backbone import SwinBackbone
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.models.mask2former_config import Mask2FormerConfig
from swin_transformer_pytorch.weights.files import CheckpointError
from swin_transformer_pytorch.weights.formats import convert_state_dict
from swin_transformer_pytorch.weights.load import load_weights

SWIN = SwinConfig(
    embed_dim=8, depths=(2, 1, 1, 1), num_heads=(1, 2, 2, 4), window_size=3, single_window="keep", drop_path_rate=0.0
)
CONFIG = Mask2FormerConfig(
    backbone=SWIN, num_classes=5, num_queries=7, dim=32, attention_heads=4, encoder_dim=24, feedforward_dim=48
)
CLASS_LAYER = {f"sem_seg_head.predictor.class_embed.{kind}" for kind in ("weight", "bias")}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def keys(changes):
    return {change.key for change in changes}


@pytest.fixture(scope="module")
def start():
    """What a model of CONFIG holds, as random numbers."""
    from swin_transformer_pytorch.models.build import build
    from swin_transformer_pytorch.models.description import ModelDescription

    generator = torch.Generator().manual_seed(0)
    state_dict = build(ModelDescription(config=CONFIG)).state_dict()
    return {key: torch.randn(value.shape, generator=generator) for key, value in state_dict.items()}


def saved(state_dict, layout, folder):
    """A file of that layout as its own code writes it, and the names of what a model has no use for."""
    there = convert_state_dict(state_dict, to=layout.removesuffix(".pkl"))
    there["criterion.empty_weight"] = torch.ones(6)
    if layout == "official.pkl":
        (folder / "model_final_000000.pkl").write_bytes(
            pickle.dumps({"model": {key: value.numpy() for key, value in there.items()}, "__author__": "third_party"})
        )
        return folder / "model_final_000000.pkl", {"criterion.empty_weight"}
    container = {"official": "model", "openmmlab": "state_dict"}.get(layout)
    torch.save({container: there} if container else there, folder / "m.pth")
    unused = {"backbone.norm.weight", "backbone.norm.bias"} if layout == "transformers" else set()
    return folder / "m.pth", {"criterion.empty_weight"} | unused


LAYOUTS = ("official.pkl", "official", "transformers", "openmmlab")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_fills_the_model_exactly(layout, start, tmp_path, build):
    path, dropped = saved(start, layout, tmp_path)
    model = build(CONFIG)
    report = load_weights(model, path)
    assert same(model.state_dict(), start)
    assert report.format == layout.removesuffix(".pkl")
    assert len(report.loaded) == len(start)
    assert keys(report.dropped) == dropped
    assert not (report.fresh or report.resized or report.adapted or report.sliced or report.notes)


@pytest.mark.parametrize("answers", ["panoptic", "instance", "semantic"])
def test_models_of_every_kind_of_answer_take_it(answers, start, build):
    model = build(CONFIG.replace(answers=answers))
    load_weights(model, start)
    assert same(model.state_dict(), start)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_classes_leave_the_layer_of_classes_alone_fresh(layout, start, tmp_path, build):
    model = build(CONFIG.replace(num_classes=11))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    report = load_weights(model, saved(start, layout, tmp_path)[0])
    assert keys(report.fresh) == CLASS_LAYER
    assert "the file has 5 classes, the model 11" in report.fresh[0].why
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] if key in CLASS_LAYER else start[key])


def test_a_classifier_starts_it_and_it_gives_a_backbone(start, build):
    classifier = SwinClassifier(SWIN, num_classes=3)
    model = build(CONFIG)
    report = load_weights(model, classifier.state_dict())
    heads = {key for key in start if not key.startswith("backbone.")}
    norms = {f"backbone.norm{stage}.{kind}" for stage in range(4) for kind in ("weight", "bias")}
    assert keys(report.fresh) == heads | norms
    assert keys(report.dropped) == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    backbone = SwinBackbone(SWIN, out_indices=(0, 1, 2, 3))
    report = load_weights(backbone, convert_state_dict(start, to="openmmlab"))
    assert same(backbone.state_dict(), {k.removeprefix("backbone."): v for k, v in start.items() if k not in heads})
    assert keys(report.dropped) == heads


@pytest.mark.parametrize("change", [{"num_queries": 9}, {"decoder_layers": 8}, {"encoder_dim": 25}])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_another_size_is_refused_by_name(layout, change, start, tmp_path, build):
    path, _ = saved(start, layout, tmp_path)
    with pytest.raises(CheckpointError, match=r"mask2former of embed_dim=8(.|\n)*sem_seg_head\.\w+\."):
        load_weights(build(CONFIG.replace(**change)), path)


def test_a_part_that_transformers_has_otherwise_is_named(start, build):
    there = convert_state_dict(start, to="transformers")
    there["model.transformer_module.decoder.layers.1.self_attn.k_proj.weight"] = torch.ones(32, 31)
    with pytest.raises(CheckpointError, match=r"attention_layers\.1\.self_attn\.in_proj_weight(.|\n)*k_proj\.weight"):
        load_weights(build(CONFIG), there)


def test_answers_are_the_same_after_a_round_trip(start, build):
    first, second = build(CONFIG), build(CONFIG)
    load_weights(first, start)
    load_weights(second, convert_state_dict(convert_state_dict(start, to="openmmlab"), to="transformers"))
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, other = first(images), second(images)
    assert torch.equal(one.class_logits, other.class_logits)
    assert torch.equal(one.mask_logits, other.mask_logits)
