"""The learning rate against the official one, written out."""

import math

import pytest

from swin_transformer_pytorch.training.schedule import CosineSchedule


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
