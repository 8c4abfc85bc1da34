"""The learning rate against the official one, written out."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from swin_transformer_pytorch.training import load_recipe
from swin_transformer_pytorch.training.engine.schedule import CosineSchedule, StepSchedule
from swin_transformer_pytorch.training.recipes.dense import DenseScheduleRecipe
from swin_transformer_pytorch.training.tasks.classification.module import ClassificationTraining
from swin_transformer_pytorch.training.tasks.dense.module import dense_schedule
from swin_transformer_pytorch.training.tasks.detection.module import DetectionTraining
from swin_transformer_pytorch.training.tasks.pretraining.module import PretrainingTraining
from swin_transformer_pytorch.training.tasks.segmentation.module import SegmentationTraining


def test_it_rises_linearly_then_follows_half_a_cosine() -> None:
    schedule = CosineSchedule(total_steps=100, warmup_steps=20, warmup_lr=1e-7, min_lr=1e-5)
    assert schedule.at(0, 1e-3) == 1e-7
    assert schedule.at(10, 1e-3) == pytest.approx(1e-7 + (1e-3 - 1e-7) / 2)
    assert schedule.at(20, 1e-3) == pytest.approx(1e-3)
    assert schedule.at(60, 1e-3) == pytest.approx(1e-5 + (1e-3 - 1e-5) * (1 + math.cos(math.pi / 2)) / 2)
    assert schedule.at(100, 1e-3) == pytest.approx(1e-5)
    assert schedule.at(500, 1e-3) == pytest.approx(1e-5)


def test_groups_with_a_smaller_peak_begin_and_end_at_the_same_rates() -> None:
    schedule = CosineSchedule(total_steps=10, warmup_steps=5, warmup_lr=1e-6, min_lr=1e-5)
    assert schedule.at(0, 1e-4) == schedule.at(0, 1e-3)
    assert schedule.at(10, 1e-4) == pytest.approx(schedule.at(10, 1e-3))
    assert schedule.at(5, 1e-4) == pytest.approx(1e-4)


def test_without_a_rise_it_starts_at_the_peak() -> None:
    assert CosineSchedule(total_steps=10, warmup_steps=0, warmup_lr=0, min_lr=0).at(0, 0.1) == pytest.approx(0.1)


def test_scaling_is_of_the_rates_alone() -> None:
    scaled = CosineSchedule(total_steps=10, warmup_steps=2, warmup_lr=1e-6, min_lr=1e-5).scaled(2)
    assert (scaled.warmup_lr, scaled.min_lr, scaled.total_steps, scaled.warmup_steps) == (2e-6, 2e-5, 10, 2)


def openmmlab_rate(step: int, regular: float, warmup_steps: int, ratio: float) -> float:
    """Its hook's formula, written out: the rate without warm-up, times 1 - k."""
    k = (1 - step / warmup_steps) * (1 - ratio) if step < warmup_steps else 0.0
    return regular * (1 - k)


@pytest.mark.parametrize("step", [0, 1, 250, 499, 500, 26_999, 27_000, 32_999, 33_000, 35_999])
def test_the_official_detection_schedule(step: int) -> None:
    recipe = DenseScheduleRecipe(kind="multistep", epochs=36, milestones=(27, 33), warmup_steps=500)
    schedule = dense_schedule(recipe, 36_000, peak_lr=1e-4)
    epoch = step // 1000
    regular = 1e-4 * 0.1 ** ((epoch >= 27) + (epoch >= 33))
    assert schedule.at(step, 1e-4) == pytest.approx(openmmlab_rate(step, regular, 500, 1e-3), rel=1e-12)


@pytest.mark.parametrize("step", [0, 1, 749, 1500, 80_000, 159_999])
def test_the_official_segmentation_schedule_falls_during_the_rise_too(step: int) -> None:
    recipe = DenseScheduleRecipe(kind="poly", steps=160_000, warmup_steps=1500, warmup_ratio=1e-6)
    schedule = dense_schedule(recipe, 160_000, peak_lr=6e-5)
    regular = 6e-5 * (1 - step / 160_000)
    assert schedule.at(step, 6e-5) == pytest.approx(openmmlab_rate(step, regular, 1500, 1e-6), rel=1e-12)


def test_milestones_of_a_run_of_steps_are_steps_and_rates_at_the_end_are_scaled() -> None:
    steps = DenseScheduleRecipe(kind="multistep", steps=100, milestones=(60,), gamma=0.5, warmup_steps=0)
    schedule = dense_schedule(steps, 100, peak_lr=1.0)
    assert [schedule.at(step, 1.0) for step in (0, 59, 60, 99)] == [1.0, 1.0, 0.5, 0.5]
    poly = DenseScheduleRecipe(kind="poly", steps=100, power=2.0, min_lr=0.1, warmup_steps=0)
    assert dense_schedule(poly, 100, peak_lr=1.0, factor=2.0).at(50, 1.0) == pytest.approx(0.2 + 0.8 * 0.25)
    cosine = DenseScheduleRecipe(kind="cosine", epochs=2, warmup_steps=10, warmup_ratio=0.01, min_lr=0.1)
    schedule = dense_schedule(cosine, 100, peak_lr=1.0)
    assert schedule.at(0, 1.0) == pytest.approx(0.01)
    assert schedule.at(10, 1.0) == pytest.approx(1.0)
    assert schedule.at(100, 1.0) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("kind", "run", "given", "length", "warmup", "said"),
    [
        (ClassificationTraining, {"epochs": 300}, None, 90_000, 20.0, "was chosen"),
        (ClassificationTraining, {"epochs": 30}, None, 900, 3.0, "was chosen"),
        (ClassificationTraining, {"epochs": 2}, None, 60, 0.2, "was chosen"),
        (ClassificationTraining, {"epochs": 1}, None, 1, 0.1, "was chosen"),
        (ClassificationTraining, {"epochs": 2}, 1.5, 60, 1.5, None),
        (DetectionTraining, {"epochs": 12}, None, 87_960, 500, "was chosen"),
        (DetectionTraining, {"epochs": 1}, None, 49, 4, "was chosen, of the run's 49 steps"),
        (DetectionTraining, {"steps": 7}, None, 7, 0, "was chosen"),
        (DetectionTraining, {"steps": 40}, 39, 40, 39, None),
        (DetectionTraining, {"steps": 40}, 100, 40, 100, "is all of the run's 40 steps"),
        (SegmentationTraining, {"steps": 160_000}, None, 160_000, 1500, "was chosen"),
        (SegmentationTraining, {"steps": 100}, None, 100, 10, "was chosen"),
    ],
)
def test_an_open_rise_is_the_official_one_but_at_most_a_tenth_of_the_run(
    kind: Any, run: dict[str, Any], given: Any, length: int, warmup: float, said: str | None, caplog: Any
) -> None:
    name = {ClassificationTraining: "finetune", DetectionTraining: "finetune_detection"}.get(kind)
    key = kind.warmup[0]
    lengths = ("epochs", "steps") if "steps" in key else ("epochs",)
    overrides = {f"schedule.{length}": run.get(length) for length in lengths}
    recipe = load_recipe(name or "finetune_segmentation", {**overrides, key: given})
    trainer = SimpleNamespace(max_epochs=run.get("epochs"), is_global_zero=True)
    training: Any = SimpleNamespace(recipe=recipe, trainer=trainer, warmup=kind.warmup)
    kind._settle_warmup(training, length)
    assert recipe.replace({key: warmup}) == training.recipe
    assert len(caplog.messages) == (said is not None)
    assert said is None or f"{key}={warmup:g} {said}" in caplog.text


@pytest.mark.parametrize("step", [0, 1, 9, 10, 11, 699, 700, 701, 799])
def test_the_official_steps_of_masked_pretraining_count_from_the_first(step: int) -> None:
    """As `MultiStepLRScheduler` of the official code has it: a rise to the peak, then gamma for each milestone past."""
    start, peak = 5e-7, 1e-4
    expected = start + step * (peak - start) / 10 if step < 10 else peak * 0.1 ** (step >= 700)
    schedule = StepSchedule(warmup_steps=10, warmup_lr=start, milestones=(700,), gamma=0.1)
    assert schedule.at(step, peak) == pytest.approx(expected, rel=1e-12)


def test_the_recipes_of_masked_pretraining_scale_with_the_batch() -> None:
    for name, rates in (("100ep", (4e-6, 8e-4, 4e-5)), ("800ep", (2e-6, 4e-4, 4e-5))):
        recipe = load_recipe(f"simmim_pretrain__swin_base__img192_window6__{name}")
        # 2,048 images a step, 625 steps an epoch.
        training = SimpleNamespace(recipe=recipe, lr_factor=4.0)
        epochs = recipe.schedule.epochs
        assert isinstance(epochs, int)
        schedule: Any = PretrainingTraining.schedule(training, 625 * epochs)  # type: ignore[arg-type]
        peak = recipe.optimizer.lr * 4
        found = [schedule.at(step, peak) for step in (0, 6250, 625 * epochs)]
        assert found == pytest.approx(rates)
        if name == "800ep":
            assert schedule.at(625 * 700 - 1, peak) == peak and schedule.at(625 * 700, peak) == pytest.approx(4e-5)
