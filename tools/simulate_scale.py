"""What training on many machines needs and loses: by arithmetic, and by a simulation of failures event by event.

    python tools/simulate_scale.py                        # the tables of docs/scale.md
    python tools/simulate_scale.py --gpus 256 --gpu-days-a-failure 1000 --checkpoint-seconds 20

Machines fail independently, each after a time drawn from a Weibull distribution; a spare takes a failed one's place, or
the job waits for a repair. It goes on from its last whole checkpoint, as `swin train --resume` does under torchrun.
With exponential times and enough spares the simulation agrees with the closed form of J. T. Daly ("A higher order
estimate of the optimum checkpoint interval for restart dumps", 2006), which tests/test_simulate_scale.py holds it to.
Needs Python alone, and takes seconds.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

DAY = 86_400.0
GPUS_A_MACHINE = 8

# Published: 419 unexpected interruptions in 54 days on 16,384 H100 ("The Llama 3 Herd of Models", 2024, section 3.3.4);
# 35 manual and 70 automatic restarts in two months on 992 A100 ("OPT", 2022, section 2.5).
GPU_DAYS_A_FAILURE = {"Llama 3": 16_384 * 54 / 419, "OPT": 992 * 60 / 105}

# Measured here, images a second of one core; docs/scale.md says of what.
IMAGES_A_CORE = {"official augmentation, 224": 189, "crop and flip, 224": 257, "SimMIM, 192": 243}
BYTES_AN_IMAGE = 1.3e12 / 14.2e6  # published: ImageNet-22K's 1.3 TB of 14.2 million files
INDEX_BYTES = 16  # measured: of an image in shards


@dataclass(frozen=True, kw_only=True)
class Job:
    """A training run on many machines. Times are in seconds.

    Attributes:
        machines: all must be up for the run to go on.
        machine_mtbf: mean time to a machine's failure.
        step_seconds: a training step.
        interval_steps: from a checkpoint to the next.
        checkpoint_seconds: for which training waits at each.
        restart_seconds: from a failure, or a spare's arrival, to the first step: noticing it, starting, reading.
        shape: of the Weibull distribution; 1 is exponential, less has failures in bursts.
        spares: machines that wait; None for enough.
        repair_seconds: until a failed one is a spare.
    """

    machines: int
    machine_mtbf: float
    step_seconds: float
    interval_steps: int
    checkpoint_seconds: float
    restart_seconds: float
    shape: float = 1.0
    spares: int | None = None
    repair_seconds: float = DAY

    @property
    def mtbf(self) -> float:
        """Between failures of any machine."""
        return self.machine_mtbf / self.machines

    @property
    def cycle_seconds(self) -> float:
        """From the end of a checkpoint to the end of the next."""
        return self.interval_steps * self.step_seconds + self.checkpoint_seconds


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run came to.

    Attributes:
        seconds: that it took.
        steps: that count.
        lost_steps: that were done and are done again.
        failures: of machines.
        waited: seconds without enough machines.
    """

    seconds: float
    steps: int
    lost_steps: int
    failures: int
    waited: float

    def useful(self, job: Job) -> float:
        """The share of the time that went into steps that count."""
        return self.steps * job.step_seconds / self.seconds


def simulate(job: Job, seconds: float, seed: int = 0) -> Outcome:
    """Runs a job for so long, from one failure to the next."""
    chance = random.Random(seed)
    scale = job.machine_mtbf / math.gamma(1 + 1 / job.shape)
    ends = [chance.weibullvariate(scale, job.shape) for _ in range(job.machines)]  # when each machine fails
    heapq.heapify(ends)
    repaired: list[float] = []
    spares = math.inf if job.spares is None else job.spares
    ready, steps, lost, failures, waited = -job.restart_seconds, 0, 0, 0, 0.0
    while True:
        fails, start = ends[0], ready + job.restart_seconds
        if (up := min(fails, seconds) - start) > 0:
            whole = int(up / job.cycle_seconds)
            begun = min(job.interval_steps, int((up - whole * job.cycle_seconds) / job.step_seconds))
            steps += whole * job.interval_steps
            if fails >= seconds:
                steps += begun  # the end is no failure
            else:
                lost += begun
        if fails >= seconds:
            return Outcome(seconds=seconds, steps=steps, lost_steps=lost, failures=failures, waited=waited)
        failures += 1
        while repaired and repaired[0] <= fails:
            heapq.heappop(repaired)
            spares += 1
        heapq.heappush(repaired, fails + job.repair_seconds)
        back = fails
        if spares > 0:
            spares -= 1
        else:
            back = heapq.heappop(repaired)
        heapq.heapreplace(ends, back + chance.weibullvariate(scale, job.shape))
        # One that fails while others are waited for, or the run starts, makes it start again.
        waited += max(0.0, back - max(ready, fails))
        ready = max(ready, back)


def expected_useful(job: Job) -> float:
    """Daly's closed form of `Outcome.useful`: exponential failures, also in checkpoints and restarts, and spares."""
    mtbf = job.mtbf
    wall = mtbf * math.exp(job.restart_seconds / mtbf) * math.expm1(job.cycle_seconds / mtbf)
    return job.interval_steps * job.step_seconds / wall


def young(checkpoint_seconds: float, mtbf: float) -> float:
    """J. W. Young's best time between checkpoints, 1974."""
    return math.sqrt(2 * checkpoint_seconds * mtbf)


def daly(checkpoint_seconds: float, mtbf: float) -> float:
    """Daly's, of a higher order."""
    if checkpoint_seconds >= 2 * mtbf:
        return mtbf
    root = math.sqrt(checkpoint_seconds / (2 * mtbf))
    return young(checkpoint_seconds, mtbf) * (1 + root / 3 + root * root / 9) - checkpoint_seconds


def with_interval(job: Job, seconds: float) -> Job:
    """The job with checkpoints about so far apart, in whole steps."""
    return replace(job, interval_steps=max(1, round(seconds / job.step_seconds)))


def best_by_simulation(job: Job, days: float, seeds: int) -> float:
    """The best of twelve intervals around Young's, each simulated with the same failures."""
    around = young(job.checkpoint_seconds, job.mtbf)

    def useful(interval: float) -> float:
        tried = with_interval(job, interval)
        return statistics.fmean(simulate(tried, days * DAY, seed).useful(tried) for seed in range(seeds))

    return max((around * 2 ** ((place - 6) / 2) for place in range(13)), key=useful)


def failure_rows(
    gpus: int, name: str, gpu_days: float, checkpoint: float, *, step: float, restart: float, days: float, seeds: int
) -> Iterator[str]:
    """A line of the table of failures for the best interval, and for a checkpoint each 1,000 steps."""
    machines = max(1, gpus // GPUS_A_MACHINE)
    job = Job(
        machines=machines,
        machine_mtbf=gpu_days * DAY / min(gpus, GPUS_A_MACHINE),
        step_seconds=step,
        interval_steps=1000,
        checkpoint_seconds=checkpoint,
        restart_seconds=restart,
    )
    best = best_by_simulation(job, days, seeds)
    chosen = with_interval(job, daly(checkpoint, job.mtbf))
    for what, tried in ((f"{chosen.interval_steps:,} (best)", chosen), ("1,000", job)):
        runs = [simulate(tried, days * DAY, seed) for seed in range(seeds)]
        failures = statistics.fmean(run.failures for run in runs) / days
        lost = statistics.fmean(run.lost_steps for run in runs) / days
        useful = statistics.fmean(run.useful(tried) for run in runs)
        minutes = f"{young(checkpoint, job.mtbf) / 60:.0f}, {best / 60:.0f}"
        shares = f"{useful:.2%} | {expected_useful(tried):.2%}"
        yield f"| {gpus:,} | {name} | {failures:.2f} | {checkpoint:g} | {minutes} | {what} | {lost:,.0f} | {shares} |"


def need_rows(gpus: int, gpu_rate: float, what: str, core_rate: float) -> str:
    """A line of the table of what the images need."""
    rate = gpus * gpu_rate
    read = rate * BYTES_AN_IMAGE / 1e9
    epochs = (f"{count / rate / 3600:.2g}" for count in (14.2e6, 1e9))
    cores = rate / core_rate
    return (
        f"| {gpus:,} | {what} | {rate:,.0f} | {cores:,.0f} ({cores / gpus:.1f} a GPU) | {read:.2g} | "
        f"{read / max(1, gpus // GPUS_A_MACHINE) * 8:.1f} | {' and '.join(epochs)} |"
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, nargs="+", default=[64, 1024])
    parser.add_argument("--gpu-rate", type=float, default=1000, help="images a second that a GPU takes")
    parser.add_argument("--gpu-batch", type=int, default=64, help="images of a GPU in a step")
    parser.add_argument("--gpu-days-a-failure", type=float, help="instead of the two published figures")
    parser.add_argument("--checkpoint-seconds", type=float, nargs="+", default=[1, 8, 40], help="that training waits")
    parser.add_argument("--restart-seconds", type=float, default=300)
    parser.add_argument("--days", type=float, default=365, help="simulated, for each of --seeds")
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args(arguments)
    print(f"Images, at {options.gpu_rate:,.0f} a second of a GPU:\n")
    print(
        "| GPUs | augmentation | images/s | loader cores | GB/s read | Gbit/s a machine | hours an epoch, 22K and 1e9 |"
    )
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for gpus in options.gpus:
        for what, rate in IMAGES_A_CORE.items():
            print(need_rows(gpus, options.gpu_rate, what, rate))
    print("\nThe images themselves:\n\n| images | TB | index, MB | shards of 1 GB |\n| ---: | ---: | ---: | ---: |")
    for count in (1.28e6, 14.2e6, 1e9):
        size = count * BYTES_AN_IMAGE
        print(f"| {count:,.0f} | {size / 1e12:.2g} | {count * INDEX_BYTES / 1e6:,.0f} | {size / 1e9:,.0f} |")
    step = options.gpu_batch / options.gpu_rate
    print(
        f"\nFailures; a step takes {step:g} s, a restart {options.restart_seconds:g} s; {options.seeds} runs of",
        end=" ",
    )
    print(f"{options.days:g} days each:\n")
    print("| GPUs | failures as | a day | checkpoint, s | best, minutes: Young, simulated | steps between | ", end="")
    print("steps lost a day | useful | useful, closed form |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    given = options.gpu_days_a_failure
    for gpus in options.gpus:
        for name, gpu_days in ({"given": given} if given else GPU_DAYS_A_FAILURE).items():
            for seconds in options.checkpoint_seconds:
                rows = failure_rows(
                    gpus,
                    name,
                    gpu_days,
                    seconds,
                    step=step,
                    restart=options.restart_seconds,
                    days=options.days,
                    seeds=options.seeds,
                )
                print(*rows, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
