"""How many images a step takes and how long a run is, where the recipe leaves it open."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml

from swin_transformer_pytorch.training import load_recipe, train
from swin_transformer_pytorch.training.tasks import batch_sizes
from swin_transformer_pytorch.training.tasks.batch_sizes import saved_bytes, settle
from swin_transformer_pytorch.training.tasks.classification.prepare import prepare

RECIPES = {"classification": "finetune", "detection": "finetune_detection", "segmentation": "finetune_segmentation"}
GB = 10**9


@pytest.mark.parametrize(
    ("task", "images", "overrides", "memory", "batch", "epochs"),
    [
        ("classification", 3, {}, 100 * GB, 3, 60),
        ("classification", 9, {}, 100 * GB, 4, 60),
        ("classification", 100, {}, 100 * GB, 4, 60),
        ("classification", 1000, {}, 100 * GB, 32, 48),
        ("classification", 1_000_000, {}, 100 * GB, 32, 10),
        ("classification", 1_000_000, {}, 10 * GB, 4, 10),
        ("classification", 1_000_000, {}, 1, 1, 10),
        ("classification", 1000, {"trainer.devices": 4, "trainer.accumulate": 2}, 100 * GB, 4, 48),
        ("classification", 1000, {"data.batch_size": 10}, 100 * GB, 10, 15),
        ("classification", 1000, {"schedule.epochs": 7}, 100 * GB, 32, 7),
        ("detection", 100, {}, 100 * GB, 2, 40),
        ("detection", 1000, {}, 100 * GB, 8, 16),
        ("detection", 100_000, {}, 10 * GB, 4, 12),
        ("detection", 100, {"schedule.steps": 50}, 100 * GB, 2, None),
        ("segmentation", 100, {}, 100 * GB, 4, 60),
        ("segmentation", 5, {}, 100 * GB, 2, 60),  # batch norm
        ("segmentation", 5, {"trainer.devices": 2}, 1, 1, 60),
        ("segmentation", 10_000, {}, 1, 2, 12),
    ],
)
def test_what_is_chosen(
    task: str,
    images: int,
    overrides: dict[str, Any],
    memory: int,
    batch: int,
    epochs: int | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(batch_sizes, "memory", lambda device: memory)
    monkeypatch.setattr(batch_sizes, "saved_bytes", lambda module, data: GB * data.batch_size)

    def make(recipe: Any) -> Any:
        module = SimpleNamespace(recipe=recipe, parameters=lambda: iter([torch.zeros(1000, 1000)]))
        return module, SimpleNamespace(batch_size=recipe.data.batch_size)

    recipe = load_recipe(RECIPES[task], {"data.root": "photos", **overrides})
    settled = settle(recipe, images, "cpu", make)[0].recipe
    assert (settled.data.batch_size, settled.schedule.epochs) == (batch, epochs)
    by_memory = memory < 100 * GB
    assert ("as the memory allows" in caplog.text) == (by_memory and "data.batch_size" not in overrides)
    assert ("data.batch_size" in caplog.text) == ("data.batch_size" not in overrides)
    assert ("schedule.epochs" in caplog.text) == (not any(key.startswith("schedule.") for key in overrides))


def test_what_a_step_keeps_is_counted_and_nothing_is_changed(tiny: Any) -> None:
    bytes_of = {}
    for size in (4, 8):
        module, data = prepare(tiny("run", {"data.batch_size": size}), "cpu")
        before = {name: one.clone() for name, one in module.model.state_dict().items()}
        state = torch.get_rng_state()
        bytes_of[size] = saved_bytes(module, data)
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(one, before[name]) for name, one in module.model.state_dict().items())
        assert all(parameter.grad is None for parameter in module.parameters())
    assert bytes_of[8] / bytes_of[4] == pytest.approx(2, rel=0.1)
    # The map after patch embedding alone has 7 x 7 tokens of 8 channels, and is kept several times.
    assert bytes_of[8] > 10 * 8 * 7 * 7 * 8 * 4


def test_a_run_keeps_what_was_chosen(tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    rule = batch_sizes._RULES["classification"]
    small = type(rule)(batches=5, least=1, most=512, steps=6, epochs=(1, 3))
    monkeypatch.setitem(batch_sizes._RULES, "classification", small)
    values = {"data.batch_size": "auto", "schedule.epochs": "auto", "schedule.warmup_epochs": None}
    result = train(tiny("run", values), progress=False)
    held = yaml.safe_load((result.output / "recipe.yaml").read_text(encoding="utf-8"))
    assert (held["data"]["batch_size"], held["schedule"]["epochs"]) == (256, 1)
    assert [line["epoch"] for line in result.history] == [1]
    # Nothing is chosen anew, whatever would be chosen now.
    monkeypatch.delattr(batch_sizes, "saved_bytes")
    monkeypatch.setitem(
        batch_sizes._RULES, "classification", type(rule)(batches=1, least=1, most=1, steps=99, epochs=(9, 9))
    )
    caplog.clear()
    assert train(tiny("run", {**values, "resume": True}), progress=False).history == result.history
    assert "batch_size" not in caplog.text
