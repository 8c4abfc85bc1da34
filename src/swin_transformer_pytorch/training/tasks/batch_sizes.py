"""How many images a step takes and how long a run is where its recipe says "auto": by their number and the memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from ...models.config import Task
from ...weights.checkpoint import DENSE_TASKS
from ..recipes.parts import chosen

if TYPE_CHECKING:
    from ..engine.data import TrainingData
    from ..engine.module import Training

Made = TypeVar("Made", bound="tuple[Training, TrainingData]")

# Of the memory there is, what is left to the system, to workers and to what a step needs for moments.
_USED = 0.5
# A parameter's value, gradient, two moments and mean, in float32.
_BYTES_OF_A_PARAMETER = 20
_TRIED = 2  # images: batch norm needs two

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """Of a task: the batches that a pass over few images has, how large they are, and how long a run is."""

    batches: int
    least: int
    most: int
    steps: int
    epochs: tuple[int, int]


_RULES: dict[Task, _Rule] = {
    "classification": _Rule(batches=20, least=4, most=32, steps=1500, epochs=(10, 60)),
    "detection": _Rule(batches=50, least=1, most=8, steps=2000, epochs=(12, 40)),
    "segmentation": _Rule(batches=25, least=2, most=8, steps=2000, epochs=(12, 60)),
    "panoptic": _Rule(batches=50, least=1, most=8, steps=2000, epochs=(12, 60)),
    "pretraining": _Rule(batches=20, least=4, most=64, steps=10000, epochs=(20, 400)),
}


def settle(recipe: Any, num_images: int, device: str, make: Callable[[Any], Made]) -> Made:
    """What `make` makes of the recipe, once its batch and its length are settled; what was chosen is said.

    A batch is a power of two: as large as leaves a pass a number of steps, but no larger than the memory allows. What
    an image takes of that is counted in a step on the CPU without its way back.

    Args:
        recipe: of any task.
        num_images: training images.
        device: what the run will be on.
        make: a module and its data, of the recipe.
    """
    rule = _RULES[recipe.task]
    devices = recipe.trainer.world_size
    if recipe.data.batch_size == "auto":
        by_count = _power_of_two(num_images / (rule.batches * devices * recipe.trainer.accumulate))
        by_count = min(max(by_count, rule.least), rule.most, max(num_images // devices, 1))
        trial = {"data.batch_size": min(_TRIED, num_images), "data.num_workers": 0}
        trial |= {"schedule.epochs": 1} if recipe.schedule.epochs == "auto" else {}
        module, data = make(recipe.replace(trial))
        an_image = saved_bytes(module, data) / data.batch_size
        room = _USED * memory(device) - _BYTES_OF_A_PARAMETER * sum(each.numel() for each in module.parameters())
        by_memory = _power_of_two(room / an_image)
        # Batch norm needs two images, which one alone has in no step.
        size = max(min(by_count, by_memory), -(-_TRIED // devices) if recipe.task in DENSE_TASKS else 1)
        recipe = recipe.replace({"data.batch_size": size})
        why = f"for {num_images:,} training images" if by_count <= by_memory else "as the memory allows"
        _log.warning("data.batch_size=%d, %s (a step takes %.3g MB an image)", size, why, an_image / 1e6)
    if recipe.schedule.epochs == "auto":
        a_step = chosen(recipe.data.batch_size) * devices * recipe.trainer.accumulate
        an_epoch = max(num_images // a_step, 1)
        epochs = min(max(round(rule.steps / an_epoch), rule.epochs[0]), rule.epochs[1])
        recipe = recipe.replace({"schedule.epochs": epochs})
        _log.warning("schedule.epochs=%d, about %s steps", epochs, f"{epochs * an_epoch:,}")
    return make(recipe)


@contextmanager
def saved_storages() -> Iterator[dict[int, int]]:
    """What is kept for the way back of all that is computed inside: bytes by address, while the graph lives."""
    storages: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        yield storages


def saved_bytes(module: Training, data: TrainingData) -> int:
    """What a step on the first batch keeps for its way back. Neither weights nor random numbers are changed."""
    model, known = module.model, {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.random.fork_rng(devices=[]), saved_storages() as storages:
        batch = next(iter(data.training_loader(0, 1)))
        kept = module.losses(batch, 0)  # the graph has to live while it is counted
    del kept
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    return sum(size for place, size in storages.items() if place not in known)


def memory(device: str) -> int:
    """Bytes of the device's memory: of a GPU what is free, of the machine all."""
    if device == "cuda":
        return int(torch.cuda.mem_get_info()[0])
    return machine_memory() or 8 * 2**30


def machine_memory() -> int | None:
    """Bytes of the machine's memory; None where the system does not tell them, as Windows does not."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None


def _power_of_two(value: float) -> int:
    """The largest that is not above it, at least 1."""
    return 1 << max(int(value).bit_length() - 1, 0)
