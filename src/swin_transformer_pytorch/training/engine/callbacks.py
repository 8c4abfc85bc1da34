"""What happens around the steps of a run: checkpoints, the history file, and when it is validated."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer

from ...visualize import training_curve
from ...weights.files import CheckpointError
from ...whole import failure, write_text
from .checkpoint_files import BEST, LAST
from .module import Training
from .sharded_checkpoints import ShardingStrategy
from .stopping import RunStoppedError, StopSignals

HISTORY, TABLE, CURVES, RECIPE = "history.jsonl", "history.csv", "curves.png", "recipe.yaml"
_DRAWN_SECONDS = 60.0
_FIVE = 5

_log = logging.getLogger(__name__)


class Checkpoints(Callback):
    """Writes last.ckpt every so many steps or minutes and after each epoch, and best.ckpt after each best validation.

    A signal to stop is heeded after the step that it comes in, or after the epoch where that is the epoch's last one,
    when that is saved. best.ckpt has no optimizer state: it is for use, not for resuming.

    The run ends after `patience` validations without a better one, if that is not None.

    Attributes:
        best: the task's main metric in the best validation so far; None before the first.
        worse: validations since then.
    """

    def __init__(
        self,
        folder: Path,
        signals: StopSignals,
        *,
        every_steps: int,
        every_minutes: float | None,
        patience: int | None = None,
    ) -> None:
        self.folder = folder
        self.patience = patience
        self.worse = 0
        self.signals = signals
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.best: float | None = None
        self.best_metrics: dict[str, float] = {}
        self._step = 0
        self._saved_at = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.watch()
        self._step = trainer.global_step
        self._saved_at = time.monotonic()
        trainer.should_stop = self._is_over()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Between two steps gradients are being added up, and the epoch's last batch is followed by validation and its
        # own checkpoint.
        if isinstance(trainer.strategy, ShardingStrategy):
            trainer.strategy.poll()
        if trainer.global_step == self._step or trainer.is_last_batch:
            return
        self._step = trainer.global_step
        stop = self._any_rank(trainer, self.signals.received is not None)
        minutes = (time.monotonic() - self._saved_at) / 60
        overdue = self.every_minutes is not None and self._any_rank(trainer, minutes >= self.every_minutes)
        if stop or overdue or self._step % self.every_steps == 0:
            self._save(trainer, LAST)
        if stop:
            self.on_train_end(trainer, pl_module)
            raise RunStoppedError

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(trainer.strategy, ShardingStrategy):
            trainer.strategy.finish()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = cast(Training, pl_module)
        self._step = trainer.global_step
        if validates(trainer):
            score = module.metrics[module.main_metric]
            self.worse += 1
            if module.is_better(score, self.best):
                self.best, self.worse, self.best_metrics = score, 0, dict(module.metrics)
                self._save(trainer, BEST)
            if self._is_over():
                trainer.should_stop = True
                if trainer.is_global_zero:
                    _log.warning("no better validation for trainer.patience=%d of them: the run ends", self.patience)
        self._save(trainer, LAST)
        if self._any_rank(trainer, self.signals.received is not None):
            self.on_train_end(trainer, pl_module)
            raise RunStoppedError

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "worse": self.worse, "best_metrics": self.best_metrics}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Checkpoints of before there were other tasks say "best_top1".
        self.best = state_dict["best"] if "best" in state_dict else state_dict["best_top1"]
        self.worse = state_dict.get("worse", 0)
        self.best_metrics = state_dict.get("best_metrics", {})

    def _is_over(self) -> bool:
        return self.patience is not None and self.worse >= self.patience

    def _save(self, trainer: Trainer, name: str) -> None:
        trainer.save_checkpoint(self.folder / name, weights_only=name == BEST)
        self._saved_at = time.monotonic()

    @staticmethod
    def _any_rank(trainer: Trainer, here: bool) -> bool:
        """All ranks write a checkpoint together, so all must come to one decision."""
        return here if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(here, all=False)


class History(Callback):
    """Adds a line to history.jsonl after each epoch, and writes the same as history.csv and, at most once a minute and
    at the end, as curves.png; before the first step, what is run as recipe.yaml.

    Keys: "epoch" (1 is the first), "step", "train_loss", "train_losses" (its parts, where there are several), "lr",
    "seconds", and after a validation the task's metrics, such as "val_top1".
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / HISTORY
        self._start = time.monotonic()
        self._drawn_at = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            plain = {**cast(Training, pl_module).recipe.to_dict(), "resume": False}
            if plain["data"]["root"] is not None:  # so that the run can be resumed from wherever
                plain["data"]["root"] = os.path.abspath(plain["data"]["root"])
            _write(self.path.with_name(RECIPE), yaml.safe_dump(plain, sort_keys=False))
            # Epochs after the checkpoint are done again, so their lines go.
            lines, unreadable = parse_history(self.path)
            if unreadable:
                _log.warning("%s: %d lines cannot be read and are left out", self.path, unreadable)
            _write_history(self.path, [line for line in lines if line["epoch"] <= trainer.current_epoch])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.monotonic()
        cast(Training, pl_module).start_epoch()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = cast(Training, pl_module)
        module.end_epoch()
        if trainer.is_global_zero:
            line: dict[str, Any] = {
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
                "train_loss": module.train_loss(),
                "lr": peak_rate(trainer),
                "seconds": round(time.monotonic() - self._start, 2),
            }
            if parts := module.train_losses():
                line["train_losses"] = parts
            if validates(trainer):
                line |= module.metrics
            _write_history(self.path, history := [*read_history(self.path), line])
            last = trainer.current_epoch + 1 == trainer.max_epochs or trainer.should_stop
            if last or time.monotonic() - self._drawn_at > _DRAWN_SECONDS:
                training_curve([telling(line) for line in history], self.path.with_name(CURVES))
                self._drawn_at = time.monotonic()


class ValidationEpochs(Callback):
    """Validates after every so many epochs, and after the last in any case."""

    def __init__(self, *, every_epochs: int) -> None:
        self.every_epochs = every_epochs

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        last = trainer.current_epoch + 1 == trainer.max_epochs
        trainer.check_val_every_n_epoch = 1 if last else self.every_epochs


def validates(trainer: Trainer) -> bool:
    """Whether the current epoch has a validation."""
    return (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0


def peak_rate(trainer: Trainer) -> float:
    """The learning rate of the group that has the highest: that of the head, where layers' rates decay."""
    return max(float(group["lr"]) for group in trainer.optimizers[0].param_groups)


def telling(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the history or a run's metrics, without a top-5 that is always 1, as that of five classes."""
    few = metrics.get("val_num_classes", _FIVE + 1) <= _FIVE
    return {name: value for name, value in metrics.items() if not (few and name.endswith("_top5"))}


def read_history(path: Path) -> list[dict[str, Any]]:
    """The lines of a history file, without those that cannot be read; none where there is no file."""
    return parse_history(path)[0]


def parse_history(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Its lines, and how many more cannot be read."""
    if not path.exists():
        return [], 0
    texts = [text for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if text.strip("\0 ")]
    lines = [line for text in texts if (line := _parse_line(text)) is not None]
    return lines, len(texts) - len(lines)


def _parse_line(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return line if isinstance(line, dict) and isinstance(line.get("epoch"), int) else None


def _write_history(path: Path, lines: list[dict[str, Any]]) -> None:
    _write(path, "".join(json.dumps(line) + "\n" for line in lines))
    flat = [
        {**{f"train_{name}": value for name, value in line.get("train_losses", {}).items()}, **line} for line in lines
    ]
    columns = dict.fromkeys(name for line in flat for name in sorted(line, key=_column) if name != "train_losses")
    table = io.StringIO()
    writer = csv.DictWriter(table, list(columns), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    _write(path.with_name(TABLE), table.getvalue())


def _column(name: str) -> int:
    """What is in each line comes first, then the parts of the loss, then the metrics."""
    return 2 * name.startswith("val_") + name.startswith("train_loss_")


def _write(path: Path, text: str) -> None:
    """Replaces the file whole, so that a kill leaves the old or the new one."""
    try:
        write_text(path, text)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({failure(error)}): make room or mend it, and continue with --resume"
        ) from error
