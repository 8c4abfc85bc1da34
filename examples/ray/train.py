"""Trains by a recipe on the workers of a Ray cluster, or of this machine.

    python examples/ray/train.py demo_classification --workers 2 --storage /shared/ray --output /shared/runs/demo

Ray Train starts the processes, connects them, and starts all again when one dies; the run then goes on from its last
checkpoint, exactly. So the recipe's output, like its data, must be in a folder that all machines see.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # before Ray is imported

from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer


def train_here(config: dict[str, Any]) -> None:
    """What each worker does; Ray has made it one process of the group."""
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    from swin_transformer_pytorch.training import load_recipe, train

    recipe = load_recipe(config["recipe"], config["values"])
    train(recipe, strategy=RayDDPStrategy(), plugins=[RayLightningEnvironment()])


def main(arguments: list[str] | None = None) -> str:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a recipe's name, or a YAML file on all machines")
    parser.add_argument("--workers", type=int, default=2, help="processes, each with a GPU if --gpus")
    parser.add_argument("--gpus", action="store_true")
    parser.add_argument("--failures", type=int, default=3, help="how often workers may die")
    parser.add_argument("--storage", required=True, help="a folder for what Ray Train writes down")
    parser.add_argument("--output", required=True, help="the run's folder")
    options = parser.parse_args(arguments)
    output = os.path.abspath(options.output)
    values = {
        "output": output,
        "resume": True,  # after a failure; where there is no run, one begins
        "trainer.devices": options.workers,
        "trainer.device": "cuda" if options.gpus else "cpu",
    }
    trainer = TorchTrainer(
        train_here,
        train_loop_config={"recipe": options.recipe, "values": values},
        scaling_config=ScalingConfig(num_workers=options.workers, use_gpu=options.gpus),
        run_config=RunConfig(
            name="swin",
            storage_path=os.path.abspath(options.storage),
            failure_config=FailureConfig(max_failures=options.failures),
        ),
    )
    trainer.fit()  # raises where workers have died too often
    return f"weights and card: {output}"


if __name__ == "__main__":
    print(main())
