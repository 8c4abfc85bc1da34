"""Grad-CAM of a Mask2Former: the query that found a segment or an object, and a class's part of the label map."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from swin_transformer_pytorch import Predictor
from swin_transformer_pytorch.explain import ExplainError, NotInImageError, explain
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.mask2former import Mask2Former
from swin_transformer_pytorch.models.mask2former_config import Answers, Mask2FormerConfig
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

HEADS: dict[str, Any] = {"dim": 64, "attention_heads": 4, "encoder_dim": 16, "encoder_layers": 1, "decoder_layers": 2}
CONFIG = Mask2FormerConfig(
    num_classes=3, num_queries=6, feedforward_dim=16, segment_threshold=0.0, overlap_threshold=0.0, **HEADS
).replace(embed_dim=8, depths=(1, 1, 1), num_heads=(1, 2, 2), window_size=3, drop_path_rate=0.0)
CLASSES = ("cat", "road", "sky")


def make(answers: Answers) -> Mask2Former:
    """Its queries are of several classes, none surely."""
    torch.manual_seed(2)
    config = CONFIG.replace(answers=answers, things=(0,) if answers == "panoptic" else None)
    preprocessing = DensePreprocessing(scale=(96, 64), antialias=True, size_divisor=16)
    model = build(ModelDescription(config=config, classes=CLASSES, preprocessing=preprocessing))
    assert isinstance(model, Mask2Former)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        predictor = model.sem_seg_head.predictor
        predictor.class_embed.bias[3] -= 4  # none
        predictor.query_feat.weight.mul_(3)
        torch.manual_seed(15)
        predictor.class_embed.weight.normal_()
        predictor.mask_embed.layers[2].bias.mul_(8)
    return model.eval()


def photo() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))


def as_input(model: Mask2Former) -> tuple[Tensor, tuple[int, int]]:
    """The photo as the model takes it, padded, and its (height, width) in cells of the masks."""
    pixels = Predictor(model, device="cpu").prepare(photo()).pixels
    height, width = pixels.shape[1:]
    padded = torch.nn.functional.pad(pixels, (0, -width % 16, 0, -height % 16))
    return padded[None], (-(-height // 4), -(-width // 4))


def heat_of(model: Mask2Former, value_of: Any) -> Tensor:
    """The map of cells of the last block's first norm, by its definition."""
    kept: list[Tensor] = []
    norm = model.backbone.layers[2].blocks[0].norm1
    hook = norm.register_forward_hook(lambda module, inputs, out: kept.append(out))
    pixels, cells = as_input(model)
    value = value_of(model(pixels), cells)
    hook.remove()
    (gradient,) = torch.autograd.grad(value, kept[0])
    return (gradient.mean(dim=(1, 2), keepdim=True) * kept[0]).sum(dim=3)[0].relu().detach()


def agrees(model: Mask2Former, heat: np.ndarray[Any, Any], cells: Tensor) -> bool:
    """Whether the heat on the image is that of the cells: 16 pixels of the input each, of which a part is the image."""
    prepared = Predictor(model, device="cpu").prepare(photo())
    shape = [side * 16 for side in cells.shape]
    large = torch.nn.functional.interpolate(cells[None, None].double(), size=shape, mode="bilinear")[0, 0]
    seen = large[: prepared.image_size[0], : prepared.image_size[1]]
    seen = torch.nn.functional.interpolate(seen[None, None], size=(50, 70), mode="bilinear")[0, 0]
    seen = (seen - seen.min()) / (seen.max() - seen.min())
    return bool(np.corrcoef(seen.flatten(), heat.flatten())[0, 1] > 0.99 and heat.max() == 1)


def query_value(query: int, label: int) -> Any:
    def value(given: Any, cells: tuple[int, int]) -> Tensor:
        logits = given.mask_logits[0, query, : cells[0], : cells[1]]
        return given.class_logits[0, query].softmax(0)[label] * logits[logits > 0].sigmoid().mean()

    return value


def candidates(model: Mask2Former, label: int, heat: np.ndarray[Any, Any]) -> list[int]:
    """The queries whose heat for the class it is."""
    with torch.no_grad():
        given = model(as_input(model)[0])
    some = [query for query in range(6) if bool((given.mask_logits[0, query] > 0).any())]
    return [query for query in some if agrees(model, heat, heat_of(model, query_value(query, label)))]


def test_the_largest_segment_and_that_of_a_class() -> None:
    model = make("panoptic")
    answer = Predictor(model, device="cpu")(photo())
    largest = max(answer.segments, key=lambda one: one.area)
    found = explain(model, photo())
    assert (found.label, found.name, found.box_xyxy) == (largest.label, CLASSES[largest.label], None)
    assert found.score == pytest.approx(largest.score, abs=1e-5) and found.heat.shape == (50, 70)
    probabilities = model(as_input(model)[0]).class_logits[0].softmax(dim=1)[:, largest.label]
    own = int((probabilities - found.score).abs().argmin())
    assert own in candidates(model, found.label, found.heat)
    road = explain(model, photo(), "road")
    assert road.label == 1 and not np.array_equal(road.heat, found.heat)
    for place, segment in enumerate(answer.segments):
        one = explain(model, photo(), detection=place)
        assert (one.label, one.score) == (segment.label, pytest.approx(segment.score, abs=1e-5))


def test_an_object_as_the_answer_has_it() -> None:
    model = make("instance")
    answer = Predictor(model, device="cpu")(photo())
    for place in (0, 3):
        found = explain(model, photo(), detection=place)
        assert found.label == answer.labels[place] and found.box_xyxy == pytest.approx(answer.boxes_xyxy[place])
        assert found.score == pytest.approx(answer.scores[place], abs=1e-5)
        assert candidates(model, found.label, found.heat)
    label = int(answer.labels[5])
    first = answer.labels.tolist().index(label)
    assert explain(model, photo(), label).score == pytest.approx(answer.scores[first], abs=1e-5)


def test_a_classs_part_of_the_label_map() -> None:
    model = make("semantic")
    found = explain(model, photo())

    def value(given: Any, cells: tuple[int, int]) -> Tensor:
        masks = given.mask_logits[0, :, : cells[0], : cells[1]].sigmoid()
        scores = torch.einsum("qc,qhw->chw", given.class_logits[0].softmax(1)[:, :-1], masks)
        return scores[found.label][scores.argmax(0) == found.label].mean()

    assert agrees(model, found.heat, heat_of(model, value))
    answer = Predictor(model, device="cpu")(photo())
    share = float((answer.labels == found.label).mean())
    assert share == np.bincount(answer.labels.ravel()).max() / answer.labels.size
    assert found.score == pytest.approx(share, abs=0.05)


def test_what_is_not_there_is_said() -> None:
    model = make("panoptic")
    with pytest.raises(NotInImageError, match=r"detection=50 is none of the \d that the model finds"):
        explain(model, photo(), detection=50)
    with pytest.raises(ExplainError, match="one segment, and this model is for segmentation"):
        explain(make("semantic"), photo(), detection=0)
    with torch.no_grad():
        model.sem_seg_head.predictor.class_embed.bias[:3] = torch.tensor([0.0, -100, 0])
    with pytest.raises(NotInImageError, match="does not find road in the image, but"):
        explain(model, photo(), "road")
