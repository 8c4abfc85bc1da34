"""Mask2Former: its sizes and names, its config, its gradients, and what is said where it is not taken."""

from pathlib import Path
from typing import Any

import pytest
import torch

from swin_transformer_pytorch import optimize_for_inference
from swin_transformer_pytorch.backbone.config import ConfigError
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import DENSE_VARIANTS, config_from_dict, model_names
from swin_transformer_pytorch.models.description import ModelDescription, describe
from swin_transformer_pytorch.models.mask2former import Mask2Former
from swin_transformer_pytorch.models.mask2former_config import Mask2FormerConfig
from swin_transformer_pytorch.models.panoptic_inference import panoptic
from swin_transformer_pytorch.models.query_masks import MaskInferenceError, query_masks
from swin_transformer_pytorch.models.registry import create_model, list_models, load_model
from swin_transformer_pytorch.models.saving import save_model
from swin_transformer_pytorch.ops.regions.instances import MaskTargets
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

SMALL: dict[str, Any] = {"embed_dim": 8, "depths": (1, 1, 2, 1), "num_heads": (1, 1, 2, 2), "window_size": 3}
PARTS: dict[str, Any] = {"dim": 32, "attention_heads": 4, "encoder_dim": 16, "encoder_layers": 1, "feedforward_dim": 16}
TINY = Mask2FormerConfig(num_classes=4, num_queries=5, **PARTS).replace(**SMALL, drop_path_rate=0.0)


def tiny(**changes: Any) -> Mask2Former:
    torch.manual_seed(0)
    return build(ModelDescription(config=TINY.replace(**changes)))


@pytest.mark.parametrize(("size", "keys"), [("tiny_patch4_window7", 469), ("large_patch4_window12", 625)])
def test_the_authors_files_have_as_many_tensors(size: str, keys: int) -> None:
    with torch.device("meta"):
        model = build(ModelDescription(config=DENSE_VARIANTS[f"mask2former_swin_{size}_panoptic"].config))
    assert len(model.state_dict()) == keys


def test_the_authors_names_and_shapes() -> None:
    with torch.device("meta"):
        model = create_model("mask2former_swin_tiny_patch4_window7_panoptic")
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    pixels, queries = "sem_seg_head.pixel_decoder.", "sem_seg_head.predictor."
    layer = f"{pixels}transformer.encoder.layers.5."
    expected = {
        "backbone.patch_embed.proj.weight": (96, 3, 4, 4),
        "backbone.norm0.weight": (96,),
        f"{pixels}input_proj.0.0.weight": (256, 768, 1, 1),
        f"{pixels}input_proj.2.1.bias": (256,),
        f"{pixels}transformer.level_embed": (3, 256),
        f"{layer}self_attn.sampling_offsets.weight": (192, 256),
        f"{layer}self_attn.attention_weights.bias": (96,),
        f"{layer}self_attn.output_proj.weight": (256, 256),
        f"{layer}linear1.weight": (1024, 256),
        f"{layer}norm2.bias": (256,),
        f"{pixels}adapter_1.weight": (256, 96, 1, 1),
        f"{pixels}adapter_1.norm.weight": (256,),
        f"{pixels}layer_1.weight": (256, 256, 3, 3),
        f"{pixels}mask_features.bias": (256,),
        f"{queries}query_feat.weight": (100, 256),
        f"{queries}query_embed.weight": (100, 256),
        f"{queries}level_embed.weight": (3, 256),
        f"{queries}transformer_cross_attention_layers.8.multihead_attn.in_proj_weight": (768, 256),
        f"{queries}transformer_cross_attention_layers.0.norm.weight": (256,),
        f"{queries}transformer_self_attention_layers.8.self_attn.out_proj.bias": (256,),
        f"{queries}transformer_ffn_layers.4.linear2.weight": (256, 2048),
        f"{queries}decoder_norm.weight": (256,),
        f"{queries}mask_embed.layers.2.weight": (256, 256),
        f"{queries}class_embed.weight": (134, 256),
    }
    assert {name: shapes[name] for name in expected} == expected
    assert not [name for name in shapes if name.startswith((f"{pixels}adapter_2", f"{pixels}adapter_1.bias"))]


def test_the_published_sizes_have_names() -> None:
    for answers, task in (("panoptic", "panoptic"), ("instance", "detection"), ("semantic", "segmentation")):
        for size, window in (("tiny", 7), ("small", 7), ("base", 12), ("large", 12)):
            name = f"mask2former_swin_{size}_patch4_window{window}_{answers}"
            assert name in list_models(task)
            config = DENSE_VARIANTS[name].config
            assert config.num_queries == (200 if size == "large" and answers != "semantic" else 100)
            assert config.backbone.single_window == "keep" and config.backbone.drop_path_rate == 0.3
    assert all(name.startswith("mask2former") for name in model_names("panoptic"))
    large = DENSE_VARIANTS["mask2former_swin_large_patch4_window12_panoptic"].config
    assert large.thing_classes == tuple(range(80)) and large.num_classes == 133


@pytest.mark.parametrize(
    ("answers", "task", "divisor"),
    [("panoptic", "panoptic", 32), ("instance", "detection", 32), ("semantic", "segmentation", 32)],
)
def test_its_answers_say_its_task(answers: str, task: str, divisor: int) -> None:
    model = create_model(f"mask2former_swin_tiny_patch4_window7_{answers}", num_classes=7, **SMALL, **PARTS)
    assert isinstance(model, Mask2Former)
    assert model.task == task and model.num_classes == 7 and model.config.things is None
    assert model.preprocessing.size_divisor == divisor and model.preprocessing.antialias
    again = ModelDescription.from_dict(model.metadata())
    assert again == describe(model) and again.task == task
    assert build(again).config == model.config


def test_a_config_of_another_task_is_an_error() -> None:
    values = TINY.to_dict()
    assert config_from_dict("panoptic", values) == TINY
    with pytest.raises(ConfigError, match="answers='panoptic' is for panoptic, not detection"):
        config_from_dict("detection", values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answers": "depth"}, "answers='depth' is not possible: use one of panoptic, instance, semantic"),
        ({"dim": 80}, "dim=80 is not possible: use a multiple of 32"),
        ({"attention_heads": 5}, "attention_heads=5 is not possible: use a divisor of dim=32"),
        ({"things": (0, 4)}, r"things=\(0, 4\) is not possible: give the indices of classes, 0 to 3"),
        ({"things": (1, 1)}, "each once"),
        ({"answers": "semantic", "things": (1,)}, "leave it out of a model with answers='semantic'"),
        ({"num_queries": 0}, "num_queries=0"),
        ({"decoder_layers": 101}, "decoder_layers=101 is not possible: use a whole number from 1 to 100"),
        ({"segment_threshold": 1.5}, "segment_threshold=1.5"),
        ({"none_weight": -1}, "none_weight=-1"),
        ({"depths": (2,), "num_heads": (2,)}, "two stages or more"),
        ({"quieries": 3}, "unknown config field 'quieries'"),
    ],
)
def test_what_cannot_be_built_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TINY.replace(**changes)


def test_things_belong_to_their_classes() -> None:
    config = TINY.replace(things=[2, 0])
    assert config.things == config.thing_classes == (0, 2)
    assert config.replace(num_queries=9).things == (0, 2)
    assert config.replace(num_classes=3).things is None and config.replace(num_classes=3).thing_classes == (0, 1, 2)
    assert config.replace(num_classes=3, things=(1,)).things == (1,)
    assert Mask2FormerConfig.from_dict(config.to_dict()) == config


def test_a_step_reaches_every_parameter() -> None:
    model = tiny()
    outputs = model.outputs(torch.randn(2, 3, 64, 96))
    assert len(outputs) == 10
    assert outputs[3].class_logits.shape == (2, 5, 5) and outputs[3].mask_logits.shape == (2, 5, 16, 24)
    sum(one.class_logits.square().mean() + one.mask_logits.square().mean() for one in outputs).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", [(64, 64), (37, 61), (5, 3)])
def test_any_size_and_either_version(version: int, size: tuple[int, int]) -> None:
    model = tiny(version=version).eval()
    with torch.no_grad():
        first = model(torch.ones(1, 3, *size))
        model(torch.ones(1, 3, 96, 32))
        again = model(torch.ones(1, 3, *size))
    assert first.mask_logits.shape == (1, 5, -(-size[0] // 4), -(-size[1] // 4))
    assert first.mask_logits.isfinite().all() and torch.equal(first.mask_logits, again.mask_logits)


def test_two_stages_and_five() -> None:
    for depths in ((1, 1), (1, 1, 1, 1, 1)):
        model = tiny(depths=depths, num_heads=(1,) * len(depths)).eval()
        assert len(model.sem_seg_head.pixel_decoder.input_proj) == len(depths) - 1
        with torch.no_grad():
            assert model(torch.randn(1, 3, 64, 64)).mask_logits.shape == (1, 5, 16, 16)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_stay_finite(dtype: torch.dtype) -> None:
    model = tiny().eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        expected = model(x).class_logits
        actual = model.to(dtype)(x.to(dtype))
    assert actual.class_logits.dtype == torch.float32 and actual.mask_logits.isfinite().all()
    assert (actual.class_logits - expected).abs().max() < 0.5


def test_the_optimised_copy_answers_alike() -> None:
    model = tiny().eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected, actual = model(x), optimize_for_inference(model)(x)
    torch.testing.assert_close(actual.class_logits, expected.class_logits, rtol=0, atol=1e-3)
    torch.testing.assert_close(actual.mask_logits, expected.mask_logits, rtol=0, atol=1e-3)


def test_other_classes() -> None:
    model = build(ModelDescription(config=TINY.replace(things=(1,)), classes=tuple("abcd"), palette=((1, 2, 3),) * 4))
    model.reset_classifier(3, classes=("x", "y", "z"), things=(0, 2))
    assert model.num_classes == 3 and model.classes == ("x", "y", "z") and model.palette is None
    assert model.config.thing_classes == (0, 2)
    assert model.sem_seg_head.predictor.class_embed.weight.shape == (4, 32)
    assert ModelDescription.from_dict(model.metadata()).config == model.config
    with pytest.raises(ConfigError, match="2 class names for num_classes=3"):
        model.reset_classifier(3, classes=("x", "y"))
    (rows,) = model.class_parameters()
    assert rows.background == 1 and rows.names[0] == "sem_seg_head.predictor.class_embed.weight"


def test_images_of_any_sizes_are_answered_as_alone() -> None:
    model = tiny().eval()
    images = [torch.randn(3, *size) for size in ((40, 61), (64, 64), (33, 50))]
    together = query_masks(model, images, [(80, 120), (64, 64), (20, 31)])
    assert [one.padded_size for one in together] == [(64, 64), (64, 64), (64, 64)]
    assert [one.input_size for one in together] == [(40, 61), (64, 64), (33, 50)]
    for image, one in zip(images, together, strict=True):
        (alone,) = query_masks(model, [image], [one.output_size])
        torch.testing.assert_close(alone.mask_logits, one.mask_logits, rtol=0, atol=1e-4)
        segments = panoptic(one, model.config.thing_classes, least_probability=0.0)
        assert segments.segment_ids.shape == one.output_size


def test_mistakes_in_a_call_are_named() -> None:
    model = tiny()
    with pytest.raises(MaskInferenceError, match=r"call model\.eval\(\)"):
        query_masks(model, [torch.randn(3, 32, 32)])
    with pytest.raises(MaskInferenceError, match="2 output_sizes for 1 images"):
        query_masks(model.eval(), [torch.randn(3, 32, 32)], [(1, 1), (2, 2)])


@pytest.mark.parametrize("answers", ["panoptic", "instance", "semantic"])
def test_its_own_file_is_all_that_it_takes(answers: str, tmp_path: Path) -> None:
    config = TINY.replace(answers=answers, **({"things": (1, 2)} if answers == "panoptic" else {}))
    model = build(ModelDescription(config=config, classes=tuple("abcd"), preprocessing=DensePreprocessing.coco()))
    path = tmp_path / "model.safetensors"
    save_model(model, path)
    again = load_model(path)
    assert isinstance(again, Mask2Former) and describe(again) == describe(model)
    assert all(torch.equal(one, again.state_dict()[name]) for name, one in model.state_dict().items())
    others = load_model(path, num_classes=6)
    assert others.num_classes == 6 and others.config.things is None
    name = f"mask2former_swin_tiny_patch4_window7_{answers}"
    fields = {**SMALL, **PARTS, "num_queries": 5}
    named = create_model(name, weights=path, **fields)
    assert named.classes == tuple("abcd") and named.config.thing_classes == model.config.thing_classes
    assert create_model(name, weights=path, num_classes=6, **fields).config.things is None


def test_a_classifier_starts_its_backbone(tmp_path: Path) -> None:
    classifier = create_model("swin_tiny_patch4_window7_224", num_classes=3, **SMALL)
    save_model(classifier, tmp_path / "classifier.pth")
    name = "mask2former_swin_tiny_patch4_window7_panoptic"
    model = create_model(name, weights=tmp_path / "classifier.pth", **SMALL, **PARTS)
    assert model.num_classes == 133 and model.config.thing_classes == tuple(range(80))
    key = "layers.2.blocks.1.mlp.fc1.weight"
    assert torch.equal(model.state_dict()[f"backbone.{key}"], classifier.state_dict()[key])


def test_losses_teach_every_parameter() -> None:
    model = tiny(loss_points=64).train()
    images = torch.randn(2, 3, 64, 96)
    masks = torch.zeros(3, 50, 90, dtype=torch.bool)
    for place, mask in enumerate(masks):
        mask[10 * place : 10 * place + 20, 20 * place : 20 * place + 30] = True
    targets = [
        MaskTargets(labels=torch.tensor([0, 2, 3]), masks=masks),
        MaskTargets(labels=torch.zeros(0, dtype=torch.long), masks=torch.zeros(0, 64, 96, dtype=torch.bool)),
    ]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    totals = []
    for _ in range(12):
        losses = model.losses(images, targets)
        assert list(losses) == ["loss_ce", "loss_mask", "loss_dice"]
        optimizer.zero_grad()
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        optimizer.step()
        totals.append(total.item())
    silent = [name for name, one in model.named_parameters() if one.grad is None]
    assert not silent
    assert sum(totals[-3:]) < 0.8 * sum(totals[:3])


def test_targets_that_do_not_go_with_the_images_are_errors() -> None:
    model = tiny(loss_points=16).train()
    target = MaskTargets(labels=torch.tensor([1]), masks=torch.ones(1, 65, 20, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"masks of 65 x 20 pixels for images padded to \(64, 64\)"):
        model.losses(torch.randn(1, 3, 64, 64), [target])
    with pytest.raises(ValueError, match="2 targets for 1 images"):
        model.losses(torch.randn(1, 3, 64, 64), [target, target])
