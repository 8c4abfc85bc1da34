"""The processes of one run: how they are started, what the first tells the others, and what it means to lose one."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import distributed

from ..recipes.parts import RecipeError, TrainerRecipe

Made = TypeVar("Made")

_LAUNCHER = "lightning.fabric.strategies.launchers.subprocess_script"
# What torch's libraries say where another process is gone.
_GONE = ("connection closed by peer", "connection reset by peer", "connection refused", "broken pipe", "socket timeout")


class LostProcessError(ValueError):
    """Another process of the run ended, and the run with it."""


def is_first_process() -> bool:
    """Whether this is the process of rank 0, also before the processes know each other."""
    return os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"


def joins_later() -> bool:
    """Whether this is a process that the first one has started on its machine, and that does not know it yet."""
    return not (is_first_process() or distributed.is_initialized())


def join_processes(recipe: TrainerRecipe) -> None:
    """Has the processes that torchrun started know each other; does nothing where it did not.

    Otherwise Lightning starts and joins them, on this machine, when the run begins.

    Raises:
        RecipeError: there are others than the recipe has devices, or several nodes without torchrun.
    """
    if not distributed.is_torchelastic_launched():
        if recipe.num_nodes > 1:
            raise RecipeError(
                f"trainer.num_nodes={recipe.num_nodes} needs torchrun on each node: torchrun --nnodes "
                f"{recipe.num_nodes} --node-rank 0 (1, ...) --nproc-per-node {recipe.devices} --master-addr FIRST_NODE "
                "--master-port PORT --no-python swin train ..."
            )
        if (tasks := int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))) > 1:
            if os.environ.get("SLURM_PROCID", "0") != "0":
                raise SystemExit(2)  # the first says it
            raise RecipeError(
                f"srun started {tasks} processes, which do not know each other: start one a node, with torchrun in it"
            )
        return
    here, started = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    if (here, started) != (recipe.devices, recipe.world_size):
        if os.environ["LOCAL_RANK"] != "0":
            raise SystemExit(2)  # the first of each node says it, as others may have been told other numbers
        raise RecipeError(
            f"torchrun started {started} processes, {here} on this node, and trainer.devices={recipe.devices} x "
            f"trainer.num_nodes={recipe.num_nodes} are {recipe.world_size}: give --trainer.devices {here} "
            f"--trainer.num_nodes {max(started // here, 1)}"
        )
    if started > 1 and not distributed.is_initialized():
        own = int(os.environ["LOCAL_RANK"])
        # That there are too few is said later, by one of all.
        if recipe.device in ("auto", "cuda") and own < torch.cuda.device_count():
            torch.cuda.set_device(own)
        distributed.init_process_group(timeout=time_limit(recipe))


def time_limit(recipe: TrainerRecipe) -> timedelta:
    """How long processes wait for each other."""
    return timedelta(minutes=recipe.timeout_minutes)


def from_first(make: Callable[[], Made]) -> Made | None:
    """What the first process makes, on all that know each other; None on others that do not know it yet.

    Where it fails, the others end without a word.
    """
    if not distributed.is_initialized():
        return make() if is_first_process() else None
    box: list[tuple[bool, Made | None]] = [(False, None)]
    if distributed.get_rank() == 0:
        try:
            box = [(True, make())]
        finally:
            distributed.broadcast_object_list(box)
    else:
        distributed.broadcast_object_list(box)
    (done, made), *_ = box
    if not done:
        raise SystemExit(2)
    return made


def on_all(item: Made) -> list[Made]:
    """What each of the processes has that know each other, in the order of their ranks."""
    if not distributed.is_initialized():
        return [item]
    items: list[Made] = [item] * distributed.get_world_size()
    distributed.all_gather_object(items, item)
    return items


def from_files_of_first(read: Callable[[], Made]) -> Made:
    """What is read from files that only the first process may have, being on its node; on one node each reads them."""
    one_node = os.environ.get("LOCAL_WORLD_SIZE", "1") == os.environ.get("WORLD_SIZE", "1")
    return cast(Made, from_first(read)) if distributed.is_torchelastic_launched() and not one_node else read()


def require_agreement(facts: Mapping[str, Any]) -> None:
    """All processes must have found the same, or they would wait for each other, or learn from other images.

    Args:
        facts: what each has, by what it is called.

    Raises:
        RecipeError: they have not; the first process says what.
    """
    first, *others = on_all(dict(facts))
    for number, other in enumerate(others, 2):
        for name in (name for name, value in first.items() if other[name] != value):
            if distributed.get_rank() != 0:
                raise SystemExit(2)
            raise RecipeError(
                f"processes have different {name}: the first {first[name]}, number {number} {other[name]}; give all "
                "machines the same data.root, and data.batch_size as a number"
            )


@contextmanager
def failing_together() -> Iterator[None]:
    """Where what is inside fails on some of the processes that know each other, it ends all: one says why."""
    failed: Exception | None = None
    try:
        yield
    except Exception as error:
        failed = error
    failures = on_all(failed is not None)
    if failed is not None and (len(failures) == 1 or distributed.get_rank() == failures.index(True)):
        raise failed
    if any(failures):
        raise SystemExit(2)


@contextmanager
def naming_lost_processes(fix: str) -> Iterator[None]:
    """Inside, the end of another process of the run is told in one line, whether this one notices or is ended too.

    Args:
        fix: what to do then.

    Raises:
        LostProcessError: the others could not be reached.
    """
    text = f"another process of the run has ended; what it said is above. {fix}"

    class _Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # This process is about to be killed.
            print(f"swin: error: {record.getMessage().partition('. ')[0]}, and ends the run. {fix}", file=sys.stderr)
            sys.stderr.flush()

    logger, handler = logging.getLogger(_LAUNCHER), _Told()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    except RuntimeError as error:
        if distributed.is_initialized() and any(words in str(error).lower() for words in _GONE):
            raise LostProcessError(text) from error
        raise
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
