"""The models of scenes in the package are what their cards say."""

from __future__ import annotations

import re
from typing import Any

import pytest

from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.demo.scenes import NUM_SCENES, measure_detector, measure_panoptic, measure_segmenter
from swin_transformer_pytorch.models.registry import SHIPPED, load_model

MAX_BYTES = 8_000_000
TOLERANCE = 0.003  # processors round differently; the card has one decimal


def card_figures(name: str) -> list[float]:
    """The shares in the card's row on the demo's scenes."""
    card = SHIPPED[name].with_suffix(".md").read_text(encoding="utf-8")
    row = re.search(rf"^\|[^|]* the {NUM_SCENES} scenes of the demo \|([^|]*)\|$", card, re.MULTILINE)
    assert row is not None, f"the card of {name} has no row on the {NUM_SCENES} scenes of the demo"
    return [float(figure) / 100 for figure in re.findall(r"([\d.]+)%", row[1])]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["scenes_detection", "scenes_segmentation", "scenes_panoptic"])
def test_a_shipped_scene_model_is_what_its_card_says(name: str) -> None:
    assert SHIPPED[name].stat().st_size <= MAX_BYTES
    model: Any = load_model(name)
    scenes = open_scenes("scenes_sample", "val", num_scenes=NUM_SCENES)
    if model.task == "detection":
        report, _ = measure_detector(model, scenes)
        assert report.masks is not None
        measured = [report.boxes.metrics["AP"], report.masks.metrics["AP"]]
    elif model.task == "panoptic":
        measured = [measure_panoptic(model, scenes)[0].all.pq]
    else:
        measured = [measure_segmenter(model, scenes)[0].miou]
    assert measured == pytest.approx(card_figures(name), abs=TOLERANCE)
