"""A Mask2Former as transformers saves it, with what its processor does: the same answers as theirs, and the authors'
where they are asked for.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from swin_transformer_pytorch.models.mask2former import Mask2Former
from swin_transformer_pytorch.models.registry import create_model, load_model
from swin_transformer_pytorch.models.saving import save_model
from swin_transformer_pytorch.predict import Predictor
from swin_transformer_pytorch.training.recipes.parts import ModelRecipe
from swin_transformer_pytorch.training.tasks.models import build_model
from swin_transformer_pytorch.weights.formats.transformers_config import read_mask_preprocessing
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing, PreprocessingError

NAMES = ("cat", "dog", "road", "sky")
THINGS, STUFF = (0, 1), {2, 3}
FIELDS = {"embed_dim": 8, "depths": (1, 1, 1, 1), "num_heads": (1, 1, 2, 2), "window_size": 4, "drop_path_rate": 0.0}
HEADS = {"num_queries": 10, "dim": 32, "attention_heads": 4, "encoder_dim": 16, "encoder_layers": 1}
OURS: dict[str, Any] = {**FIELDS, **HEADS, "feedforward_dim": 16, "decoder_layers": 3}
NAME = "mask2former_swin_tiny_patch4_window7"

Theirs = tuple[transformers.Mask2FormerForUniversalSegmentation, transformers.Mask2FormerImageProcessor]


@pytest.fixture(scope="module")
def theirs() -> Theirs:
    """Sure of its classes, with masks of both signs; its processor squeezes, as those on the hub do."""
    torch.manual_seed(4)
    shape: dict[str, Any] = {**FIELDS, "depths": [1] * 4, "num_heads": [1, 1, 2, 2]}
    config = transformers.Mask2FormerConfig(
        backbone_config=transformers.SwinConfig(**shape, out_features=[f"stage{i}" for i in range(1, 5)]),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        encoder_layers=1,
        num_attention_heads=4,
        dim_feedforward=16,
        decoder_layers=4,
        num_queries=10,
        id2label=dict(enumerate(NAMES)),
    )
    model = transformers.Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.add_(0.1 * torch.randn_like(tensor))
            if "queries_" in name:
                tensor.mul_(4)
            if "mask_embedder.2.0" in name:
                tensor.mul_(12)
        model.class_predictor.weight.mul_(8)
        model.class_predictor.bias[4] -= 6
    return model, transformers.Mask2FormerImageProcessor(size={"height": 96, "width": 96}, size_divisor=32)


@pytest.fixture
def folder(theirs: Theirs, tmp_path: Path) -> Path:
    model, processor = theirs
    model.save_pretrained(tmp_path / "theirs")
    processor.save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def ours(folder: Path, answers: str = "panoptic", **overrides: Any) -> Mask2Former:
    things = {"things": THINGS} if answers == "panoptic" else {}
    return create_model(f"{NAME}_{answers}", folder, **OURS, **things, **overrides)  # type: ignore[return-value]


def photo() -> Image.Image:
    """Patches, which a resize changes little, and noise."""
    generator = np.random.default_rng(3)
    patches = generator.integers(0, 200, (5, 8, 3), dtype=np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    return Image.fromarray(patches + generator.integers(0, 50, patches.shape, dtype=np.uint8))


def test_answers_are_those_of_their_processor(theirs: Theirs, folder: Path) -> None:
    model, processor = theirs
    image = photo()
    inputs = processor(image, return_tensors="pt")
    with torch.no_grad():
        given = model(**inputs)
    size = [(image.height, image.width)]
    segments = Predictor(ours(folder), device="cpu")(image)
    (expected,) = processor.post_process_panoptic_segmentation(given, label_ids_to_fuse=STUFF, target_sizes=size)
    by_id = {one["id"]: one["label_id"] for one in reversed(expected["segments_info"])}  # an id may come twice
    assert {one.id: one.label for one in segments.segments} == by_id and len(by_id) > 1
    assert segments.names == NAMES
    assert (segments.segment_ids == expected["segmentation"].clamp(min=0).numpy()).mean() > 0.98
    objects = Predictor(ours(folder, "instance"), device="cpu")(image)
    (expected,) = processor.post_process_instance_segmentation(given, target_sizes=size)
    scores = sorted((one["score"] for one in expected["segments_info"]), reverse=True)
    assert objects.scores.tolist() == pytest.approx(scores, abs=0.02) and len(scores) > 1
    classes = Predictor(ours(folder, "semantic"), device="cpu")(image)
    (expected,) = processor.post_process_semantic_segmentation(given, target_sizes=size)
    assert (classes.labels == expected.numpy()).mean() > 0.98


def test_the_rules_travel_with_the_file(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        model = ours(folder)
    (said,) = [one.message for one in caplog.records if "rules" in one.message]
    assert "squeezed to 96 x 96 pixels" in said and "policy='authors'" in said
    assert (model.config.policy, model.config.segment_threshold) == ("transformers", 0.5)
    assert model.preprocessing is not None and model.preprocessing.squeeze and model.preprocessing.scale == (96, 96)
    path = tmp_path / "ours.safetensors"
    save_model(model, path)
    for again in (load_model(path), ours(path)):
        assert again.config.policy == "transformers" and again.config.segment_threshold == 0.5
        assert again.preprocessing == model.preprocessing
    image = photo()
    assert Predictor(load_model(path), device="cpu")(image) == Predictor(model, device="cpu")(image)


@pytest.mark.parametrize("saved", [False, True])
def test_the_authors_rules_on_request(saved: bool, folder: Path, tmp_path: Path) -> None:
    source = folder
    if saved:
        source = tmp_path / "ours.safetensors"
        save_model(ours(folder), source)
    model = ours(source, policy="authors")
    assert (model.config.policy, model.config.segment_threshold) == ("authors", 0.8)
    assert model.preprocessing is not None and (model.preprocessing.squeeze, model.preprocessing.scale) == (
        False,
        (1333, 800),
    )


def test_a_processor_that_keeps_the_shape_has_the_authors_rules(theirs: Theirs, tmp_path: Path) -> None:
    theirs[0].save_pretrained(tmp_path)
    transformers.Mask2FormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 96}).save_pretrained(tmp_path)
    model = ours(tmp_path)
    assert model.config.policy == "authors" and model.config.segment_threshold == 0.8
    assert model.preprocessing == DensePreprocessing(scale=(96, 64), antialias=True)


def test_what_an_image_is_squeezed_to() -> None:
    squeezed = DensePreprocessing(scale=(384, 384), squeeze=True)
    assert squeezed.resized((100, 700)) == (384, 384)
    assert (
        DensePreprocessing.from_dict(squeezed.to_dict()) == squeezed and "squeeze" not in DensePreprocessing().to_dict()
    )
    with pytest.raises(PreprocessingError, match="squeeze=True.*square"):
        DensePreprocessing(scale=(400, 300), squeeze=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_resize": False}, "do_resize=False"),
        ({"resample": 3}, "resample=3"),
        ({"size": 384}, "size=384"),
        ({"size": {"height": 300, "width": 400}}, "scale"),
        ({"pad_size": {"height": 400, "width": 400}}, "pad_size"),
    ],
)
def test_what_there_is_no_place_for_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(PreprocessingError, match=message):
        read_mask_preprocessing({"size": {"height": 384, "width": 384}, **change})


@pytest.mark.parametrize("named", [True, False])
def test_training_takes_the_authors_rules_and_says_so(
    named: bool, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ours.safetensors"
    save_model(ours(folder), path)
    caplog.clear()
    fields = {name: list(value) if isinstance(value, tuple) else value for name, value in OURS.items()}
    given = {"name": f"{NAME}_panoptic", "config_overrides": fields} if named else {}
    for source, overrides in ((folder if named else path, {}), (path, {"policy": "transformers"})):
        chosen = {**given, "config_overrides": {**given.get("config_overrides", {}), **overrides}}
        recipe = ModelRecipe(weights=str(source), **chosen)  # type: ignore[arg-type]
        prepare = MagicMock(side_effect=lambda known, own: known)
        model = build_model(recipe, "panoptic", NAMES, things=THINGS, prepare=prepare)
        own = prepare.call_args.args[1]
        assert isinstance(model, Mask2Former)
        theirs = bool(overrides)
        assert model.config.policy == ("transformers" if theirs else "authors")
        assert theirs or model.config.segment_threshold == 0.8
        assert (own is not None and own.squeeze) == theirs
        assert ("training takes the authors'" in caplog.text) != theirs
        caplog.clear()
