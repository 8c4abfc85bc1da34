"""The simulation of failures agrees with closed forms where there are some, and by hand where there are none."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
from tools.simulate_scale import (
    DAY,
    Job,
    best_by_simulation,
    daly,
    expected_useful,
    main,
    simulate,
    with_interval,
    young,
)

JOB = Job(
    machines=16,
    machine_mtbf=2 * DAY,
    step_seconds=0.5,
    interval_steps=1200,
    checkpoint_seconds=15,
    restart_seconds=240,
)


@pytest.mark.parametrize("interval", [60, 600, 1_800, 7_200])
@pytest.mark.parametrize("machines", [1, 16, 128])
def test_the_useful_share_is_dalys(machines: int, interval: int) -> None:
    job = with_interval(replace(JOB, machines=machines), interval)
    days = 3000 / machines  # some 1,500 failures in each
    shares = [simulate(job, days * DAY, seed).useful(job) for seed in range(12)]
    error = statistics.stdev(shares) / 12**0.5
    assert statistics.fmean(shares) == pytest.approx(expected_useful(job), abs=max(4 * error, 2e-4))


def test_failures_and_steps_lost() -> None:
    """As many failures as machines and time say; each loses half a cycle on average, but for what falls in restarts."""
    runs = [simulate(JOB, 500 * DAY, seed) for seed in range(8)]
    failures = statistics.fmean(run.failures for run in runs)
    assert failures == pytest.approx(500 * DAY / JOB.mtbf, rel=0.03)
    lost = statistics.fmean(run.lost_steps for run in runs) / failures
    assert lost == pytest.approx(JOB.interval_steps / 2, rel=0.06)
    for run in runs:
        busy = (run.steps + run.lost_steps) * JOB.step_seconds + run.failures * JOB.restart_seconds
        checkpoints = run.steps / JOB.interval_steps * JOB.checkpoint_seconds
        # What is left are restarts that others cut short, and checkpoints that were not finished.
        assert busy + checkpoints == pytest.approx(run.seconds, rel=0.005)
        assert run.waited == 0


def test_by_hand_without_failures() -> None:
    job = replace(JOB, machine_mtbf=1e15, interval_steps=10, step_seconds=2.0, checkpoint_seconds=5)
    run = simulate(job, 4 * 25 + 7)
    assert (run.steps, run.lost_steps, run.failures) == (43, 0, 0)


def test_few_spares_are_waited_for() -> None:
    """One machine that is always down for a day between lives of mean one: half of the time it is there."""
    job = replace(JOB, machines=1, machine_mtbf=DAY, spares=0, repair_seconds=DAY, restart_seconds=0)
    run = simulate(job, 4000 * DAY)
    assert run.failures == pytest.approx(2000, rel=0.06)
    assert run.waited / run.seconds == pytest.approx(0.5, abs=0.03)
    spare = simulate(replace(job, spares=50), 4000 * DAY)
    assert spare.waited == 0 and spare.failures == pytest.approx(4000, rel=0.06)


def test_bursts_have_the_same_mean() -> None:
    job = replace(JOB, machines=8, shape=0.7)
    assert simulate(job, 3000 * DAY).failures == pytest.approx(3000 * DAY / job.mtbf, rel=0.05)


def test_the_best_interval_is_youngs_and_dalys() -> None:
    found = best_by_simulation(JOB, days=200, seeds=3)
    assert young(15, JOB.mtbf) / 1.5 < found < 1.5 * young(15, JOB.mtbf)
    best = with_interval(JOB, daly(15, JOB.mtbf))
    for factor in (0.7, 1.4):
        other = with_interval(JOB, factor * daly(15, JOB.mtbf))
        assert expected_useful(other) < expected_useful(best)
    assert daly(100, 20) == 20, "where a checkpoint outlasts what it guards against"


def test_its_tables(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--gpus", "64", "--days", "20", "--seeds", "2", "--gpu-days-a-failure", "600"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| 64 | official augmentation, 224 | 64,000 | 339 (5.3 a GPU) | 5.9 | 5.9 | 0.062 and 4.3 |" in lines
    assert sum(line.startswith("| 64 | given |") for line in lines) == 6
