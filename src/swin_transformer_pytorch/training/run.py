"""`train(recipe)`: a whole training run, from a recipe to exported weights."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import extras
from ..models.card import model_card
from ..models.config import Task
from ..models.registry import checkpoint_model
from ..weights.files import read_checkpoint, save_checkpoint
from ..whole import remove_unfinished, write_text
from .engine.processes import (
    failing_together,
    from_files_of_first,
    from_first,
    is_first_process,
    join_processes,
    joins_later,
    naming_lost_processes,
    on_all,
)
from .recipes.classification import ScheduleRecipe
from .recipes.dense import DenseTrainerRecipe, leg_steps
from .recipes.parts import RecipeError, chosen
from .recipes.tasks import TASKS, AnyRecipe

if TYPE_CHECKING:
    from .engine.data import TrainingData
    from .engine.module import Training
    from .engine.stopping import StopSignals

    Prepare = Callable[[AnyRecipe, str], tuple[Training, TrainingData]]

__all__ = ["TrainResult", "choose_device", "make_trainer", "train"]

EXPORT, CARD = "model.safetensors", "README.md"


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a run left behind.

    Attributes:
        task: what the model does.
        output: the run's folder.
        weights: the exported weights (the running mean where the recipe has one), with all that prediction needs: those
            of the end, or with `trainer.patience` of the best validation.
        last: the checkpoint to resume from.
        best: the weights with the best validation.
        history: a line an epoch, as in history.jsonl.
        metrics: of the exported weights on the validation images, such as "val_top1", "val_box_ap", "val_miou" or
            "val_pq"; and on those of the data's part "test", where there is one, such as "test_top1".
        best_score: the task's main metric (those three, or "val_map") in the best validation.
        unusable: a line for training and for validation where images of theirs could not be used.
    """

    task: Task
    output: Path
    weights: Path
    last: Path
    best: Path
    history: tuple[dict[str, Any], ...]
    metrics: dict[str, float]
    best_score: float
    unusable: tuple[str, ...] = ()

    @property
    def top1(self) -> float:
        """Classification: accuracy of the exported weights on the validation images, in [0, 1]."""
        return self.metrics["val_top1"]

    @property
    def top5(self) -> float:
        """Classification: likewise, within five guesses; 1.0 where there are at most five classes."""
        return self.metrics["val_top5"]

    @property
    def best_top1(self) -> float:
        """Classification: the best validation's."""
        return self.best_score


def train(
    recipe: AnyRecipe, *, progress: bool = True, strategy: Any = None, plugins: Sequence[Any] = ()
) -> TrainResult:
    """Trains as the recipe says. Writes recipe.yaml, history.jsonl and .csv, curves.png, last.ckpt and best.ckpt to
    `recipe.output`; at the end model.safetensors, see `TrainResult.weights`, with its card, README.md, and in
    validation.png truth and prediction of some images.

    A run that was killed continues with `resume=True`, from its last checkpoint; on CPU, with as many threads, its
    weights are then those of the uninterrupted run, to the bit. Where last.ckpt is damaged, the one before it is taken.

    SIGTERM and SIGINT end it after the step that they come in, which is saved; a `SystemExit(143)` and a
    `KeyboardInterrupt` follow.

    Args:
        recipe: what to do.
        progress: whether to show a live bar on a terminal, or a line an epoch elsewhere (on stderr).
        strategy: Lightning's strategy of whoever has started the processes, such as Ray Train's; None for the recipe's.
            `trainer.devices` is still how many processes there are.
        plugins: Lightning's plugins that go with it, such as its environment.

    Raises:
        RecipeError: the recipe cannot be carried out here, or another process trains in its folder.
        DataError: there are no images, or the splits have other classes.
        CheckpointError: a checkpoint cannot be read or written, or does not fit.
        DivergedError: the loss became infinite or no number.
        MissingExtraError: Lightning is not installed.
    """
    extras.require("lightning.pytorch", extra="train")
    from .engine.run_lock import locked

    output = Path(recipe.output)
    if strategy is None:
        join_processes(recipe.trainer)
    with failing_together():
        device, precision = choose_device(recipe, all_here=strategy is None)
    with ExitStack() as lock:

        def hold() -> None:
            output.mkdir(parents=True, exist_ok=True)
            lock.enter_context(locked(output))

        from_first(hold)
        return _train(recipe, output, device, precision, progress, strategy, plugins)


def _train(
    recipe: AnyRecipe,
    output: Path,
    device: str,
    precision: Any,
    progress: bool,
    strategy: Any,
    plugins: Sequence[Any],
) -> TrainResult:
    from lightning.pytorch.utilities.exceptions import SIGTERMException
    from torch._dynamo.exc import TorchDynamoException

    from .engine.callbacks import HISTORY
    from .engine.checkpoint_files import BEST, LAST, holds_run, read_newest, take_up
    from .engine.resume import check_resumable, describe_rest, with_choices_of
    from .engine.stopping import RunStoppedError, StopSignals

    last = output / LAST

    def taken_up() -> dict[str, Any] | None:
        """What the run knows of itself where it is resumed."""
        if holds_run(output) and not recipe.resume:
            raise RecipeError(
                f"{output} already holds a run ({LAST}): add --resume to continue it, or choose another --output"
            )
        remove_unfinished(output, (LAST, BEST, HISTORY, EXPORT))
        checkpoint = take_up(output) if holds_run(output) else {}
        return {key: checkpoint[key] for key in ("recipe", "swin", "loops", "callbacks") if checkpoint} or None

    with failing_together():
        first, *others = on_all(holds_run(output))
        if any(others) and not first and is_first_process():
            raise RecipeError(
                f"{output} holds a run on another node and not on the first: number the nodes as before, by torchrun's "
                "--node-rank and --master-addr, or give a folder that all of them share"
            )
    known = from_first(taken_up)
    if known is None and joins_later() and recipe.resume and holds_run(output):
        known = read_newest(output)
    if known is not None:
        recipe = with_choices_of(recipe, known["recipe"])
    prepare: Prepare = import_module(f".{TASKS[recipe.task].prepare}", __package__).prepare
    # What a start has to say has been said, or is by the first process.
    quiet = known is not None or not is_first_process()
    with failing_together(), extras.errors_alone(__name__.partition(".")[0]) if quiet else nullcontext():
        module, data = prepare(recipe, device)
    with failing_together():
        if known is not None and is_first_process():
            check_resumable(known, last, module.recipe, module.model)
    if known is not None and is_first_process() and progress:
        print(f"resuming {describe_rest(known, recipe.trainer.patience, count_epochs(recipe))}", file=sys.stderr)
    resumed = known is not None
    del known

    signals = StopSignals()
    continuing = f"swin train --resume {output} continues from {LAST}"
    with quiet_lightning(), signals.watched(), naming_lost_processes(continuing):
        trainer = make_trainer(
            module.recipe, device, precision, output, signals, progress=progress, strategy=strategy, plugins=plugins
        )
        try:
            trainer.fit(module, datamodule=data, ckpt_path=last if resumed else None, weights_only=True)
        except TorchDynamoException as error:
            why = " ".join(str(error).split("\n")[:2])
            raise RecipeError(f"trainer.compile=true: torch.compile failed here ({why}); leave it out") from error
        except (RunStoppedError, SIGTERMException):
            if signals.received == signal.SIGINT:
                raise KeyboardInterrupt from None
            raise SystemExit(128 + signal.SIGTERM) from None
    # The others are waited for here too.
    with naming_lost_processes(continuing):
        return _finish(trainer, module, data, output)


def _finish(trainer: Any, module: Training, data: TrainingData, output: Path) -> TrainResult:
    """Exports what a run has ended with, measures it on the test images, and writes its card."""
    from .engine.callbacks import HISTORY, Checkpoints, read_history
    from .engine.checkpoint_files import BEST, LAST, PREVIOUS, remove_other_folders
    from .engine.overview import describe_run
    from .tasks.pictures import VALIDATION, draw_validation

    described, last = describe_run(module, trainer), output / LAST
    best = next(callback for callback in trainer.callbacks if isinstance(callback, Checkpoints))
    assert best.best is not None, "there is always a validation after the last epoch"
    metrics = {name: value for name, value in module.metrics.items() if name.startswith("val_")}
    ended = last
    if module.recipe.trainer.patience is not None and best.best_metrics:
        # Who ends a run because it grows no better wants what was best.
        ended, metrics = output / BEST, best.best_metrics
        module.measure(from_files_of_first(lambda: read_checkpoint(ended).state_dict))
    parts = module.recipe.trainer.checkpoints == "sharded" and ended == last
    weights = module.whole_weights() if parts else None
    if trainer.is_global_zero:
        # The file's weights are whole and on the CPU whatever the strategy, and the running mean where there is one.
        save_checkpoint(output / EXPORT, weights or read_checkpoint(ended).state_dict, module.model.metadata())
        (output / PREVIOUS).unlink(missing_ok=True)
        remove_other_folders(output)
        model = checkpoint_model(output / EXPORT).eval()
        draw_validation(model, data.validation_samples, output / VALIDATION)
    trainer.strategy.barrier("export")
    unusable = [data.train_samples.summary() if data.train_samples is not None else "", module.unusable.summary()]
    if data.test_samples is not None:
        with quiet_lightning():
            trainer.test(module, datamodule=data, verbose=False)
        unusable.append(module.unusable.summary())
    metrics |= module.test_metrics
    if trainer.is_global_zero:
        tested = "" if data.test_samples is None else f" (test_: {len(data.test_samples):,} test images)"
        card = model_card(
            model,
            output.name,
            str(output / EXPORT),
            trained=described,
            metrics=metrics,
            images=f"the run's {data.num_val_images:,} validation images{tested}, with {EXPORT}",
        )
        write_text(output / CARD, card)
    return TrainResult(
        task=module.recipe.task,
        output=output,
        weights=output / EXPORT,
        last=last,
        best=output / BEST,
        history=tuple(read_history(output / HISTORY)),
        metrics=metrics,  # not from the history, which may have lost lines
        best_score=best.best,
        unusable=tuple(filter(None, unusable)),
    )


def choose_device(recipe: AnyRecipe, *, all_here: bool = True) -> tuple[str, Any]:
    """Device ("cuda", "mps" or "cpu") and precision; a `RecipeError` where this machine lacks what is asked for.

    `all_here` is whether this machine must have all `trainer.devices`.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    chosen, precision = recipe.trainer.device, str(recipe.trainer.precision)
    device = next(name for name, there in available.items() if there) if chosen == "auto" else chosen
    if not available[device]:
        raise RecipeError(f"trainer.device={chosen!r}: this machine has none that torch can use; use 'cpu' or 'auto'")
    if precision == "16-mixed" and device != "cuda":
        raise RecipeError(f"trainer.precision={precision!r} needs a CUDA GPU; on {device!r} use 'bf16-mixed' or 'auto'")
    if precision == "16-mixed" and recipe.trainer.shards:
        shared = recipe.trainer.strategy
        raise RecipeError(
            f"trainer.precision={precision!r} does not go with trainer.strategy={shared!r}; use 'bf16-mixed'"
        )
    if all_here and device == "cuda" and recipe.trainer.devices > torch.cuda.device_count():
        raise RecipeError(f"trainer.devices={recipe.trainer.devices}, but there are {torch.cuda.device_count()} GPUs")
    if device == "mps" and recipe.trainer.devices > 1:
        raise RecipeError(f"trainer.devices={recipe.trainer.devices}, but 'mps' is one device")
    if precision == "auto":
        precision = "bf16-mixed" if device == "cuda" and torch.cuda.is_bf16_supported() else "32-true"
    return device, precision


def make_trainer(
    recipe: AnyRecipe,
    device: str,
    precision: Any,
    output: Path,
    signals: StopSignals,
    *,
    progress: bool = True,
    strategy: Any = None,
    plugins: Sequence[Any] = (),
) -> Any:
    """Lightning's trainer, set up as the recipe says; `strategy` and `plugins` are those of `train`."""
    from lightning.pytorch import Trainer

    from .engine.callbacks import Checkpoints, History, ValidationEpochs
    from .engine.checkpoint_files import CheckpointFiles
    from .engine.loggers import Figures, make_loggers
    from .engine.progress import ProgressLines
    from .engine.strategy import choose_strategy

    chosen = recipe.trainer
    callbacks: list[Any] = [ValidationEpochs(every_epochs=chosen.validate_every_epochs), History(output)]
    callbacks += [ProgressLines(output, _console())] if progress else []
    minutes = chosen.checkpoint_every_minutes
    callbacks += [Figures()] if chosen.loggers else []
    steps, patience = chosen.checkpoint_every_steps, chosen.patience
    callbacks += [Checkpoints(output, signals, every_steps=steps, every_minutes=minutes, patience=patience)]
    return Trainer(
        accelerator="gpu" if device == "cuda" else device,
        # A process that others have started has its own device alone.
        devices=chosen.devices if strategy is None else "auto",
        num_nodes=chosen.num_nodes,
        strategy=choose_strategy(chosen) if strategy is None else strategy,
        precision=precision,
        max_epochs=count_epochs(recipe),
        accumulate_grad_batches=chosen.accumulate,
        check_val_every_n_epoch=chosen.validate_every_epochs,
        callbacks=callbacks,
        plugins=[CheckpointFiles(), *plugins],
        default_root_dir=output,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,  # our own batches are each rank's already
        logger=make_loggers(chosen.loggers, output) or False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,  # a running mean is put in the weights' place meanwhile
    )


def _console() -> Any:
    from rich.console import Console

    # A log file has no width that lines would have to fit.
    return Console(file=sys.stderr, width=None if sys.stderr.isatty() else 10_000)


def count_epochs(recipe: AnyRecipe) -> int:
    """Passes over the images; in a run of `schedule.steps`, stretches from one validation to the next."""
    schedule, trainer = recipe.schedule, recipe.trainer
    if isinstance(schedule, ScheduleRecipe) or schedule.epochs is not None:
        return chosen(schedule.epochs)
    assert isinstance(trainer, DenseTrainerRecipe), "it belongs to the schedule"
    return (schedule.steps or 1) // (leg_steps(schedule, trainer) or 1)


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keeps back Lightning's banners, tips and warnings, which are about settings that are ours and not the user's."""
    import lightning.fabric.utilities.warnings as own

    with (
        warnings.catch_warnings(),
        extras.errors_alone("lightning.pytorch", "lightning.fabric", "lightning"),
    ):
        warnings.filterwarnings("ignore", module="lightning")
        for category in ("PossibleUserWarning", "LightningDeprecationWarning"):
            if hasattr(own, category):
                warnings.filterwarnings("ignore", category=getattr(own, category))
        yield
