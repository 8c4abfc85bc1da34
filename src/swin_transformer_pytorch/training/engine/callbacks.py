"""What happens around the steps of a run: checkpoints, the history file, and what the user sees."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from ...weights.files import CheckpointError
from ...whole import failure, write_text
from .checkpoint_files import BEST, LAST
from .module import Training
from .stopping import RunStoppedError, StopSignals

METRICS = {
    "val_loss": "val loss {:.4f}",
    "val_top1": "top-1 {:.2%}",
    "val_top5": "top-5 {:.2%}",
    "val_box_ap": "box AP {:.2%}",
    "val_mask_ap": "mask AP {:.2%}",
    "val_miou": "mIoU {:.2%} over {val_miou_classes} of {val_num_classes} classes",
    "val_aacc": "pixel accuracy {:.2%}",
}
"""How metrics are shown; the history has more."""

HISTORY = "history.jsonl"

_log = logging.getLogger(__name__)


class Checkpoints(Callback):
    """Writes last.ckpt every so many steps or minutes and after each epoch, and best.ckpt after each best validation.

    A signal to stop is heeded after the step that it comes in, or after the epoch where that is the epoch's last one,
    when that is saved. best.ckpt has no optimizer state: it is for use, not for resuming.

    Attributes:
        best: the task's main metric in the best validation so far; None before the first.
    """

    def __init__(self, folder: Path, signals: StopSignals, *, every_steps: int, every_minutes: float | None) -> None:
        self.folder = folder
        self.signals = signals
        self.every_steps = every_steps
        self.every_minutes = every_minutes
        self.best: float | None = None
        self._step = 0
        self._saved_at = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.signals.watch()
        self._step = trainer.global_step
        self._saved_at = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        # Between two steps gradients are being added up, and the epoch's last batch is followed by validation and its
        # own checkpoint.
        if trainer.global_step == self._step or trainer.is_last_batch:
            return
        self._step = trainer.global_step
        stop = self._any_rank(trainer, self.signals.received is not None)
        minutes = (time.monotonic() - self._saved_at) / 60
        overdue = self.every_minutes is not None and self._any_rank(trainer, minutes >= self.every_minutes)
        if stop or overdue or self._step % self.every_steps == 0:
            self._save(trainer, LAST)
        if stop:
            raise RunStoppedError

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = cast(Training, pl_module)
        self._step = trainer.global_step
        if validates(trainer):
            score = module.metrics[module.main_metric]
            if self.best is None or score > self.best:
                self.best = score
                self._save(trainer, BEST)
        self._save(trainer, LAST)
        if self._any_rank(trainer, self.signals.received is not None):
            raise RunStoppedError

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Checkpoints of before there were other tasks say "best_top1".
        self.best = state_dict["best"] if "best" in state_dict else state_dict["best_top1"]

    def _save(self, trainer: Trainer, name: str) -> None:
        trainer.save_checkpoint(self.folder / name, weights_only=name == BEST)
        self._saved_at = time.monotonic()

    @staticmethod
    def _any_rank(trainer: Trainer, here: bool) -> bool:
        """All ranks write a checkpoint together, so all must come to one decision."""
        return here if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(here, all=False)


class History(Callback):
    """Adds a line to history.jsonl after each epoch.

    Keys: "epoch" (1 is the first), "step", "train_loss", "train_losses" (its parts, where there are several), "lr",
    "seconds", and after a validation the task's metrics, such as "val_top1".
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / HISTORY
        self._start = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            # Epochs after the checkpoint are done again, so their lines go.
            lines, unreadable = parse_history(self.path)
            if unreadable:
                _log.warning("%s: %d lines cannot be read and are left out", self.path, unreadable)
            write_history(self.path, [line for line in lines if line["epoch"] <= trainer.current_epoch])

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start = time.monotonic()
        cast(Training, pl_module).start_epoch()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        module = cast(Training, pl_module)
        if trainer.is_global_zero:
            line: dict[str, Any] = {
                "epoch": trainer.current_epoch + 1,
                "step": trainer.global_step,
                "train_loss": module.train_loss(),
                "lr": max(group["lr"] for group in trainer.optimizers[0].param_groups),
                "seconds": round(time.monotonic() - self._start, 2),
            }
            if parts := module.train_losses():
                line["train_losses"] = parts
            if validates(trainer):
                line |= module.metrics
            write_history(self.path, [*read_history(self.path), line])


class ProgressLines(Callback):
    """A live bar on a terminal; elsewhere, in a log file say, one line an epoch."""

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._start = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not (trainer.is_global_zero and self.console.is_terminal):
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=self.console,
        )
        total = int(trainer.num_training_batches) * int(trainer.max_epochs or 1)
        done = trainer.current_epoch * int(trainer.num_training_batches)
        self._task = self._bar.add_task("training", total=total, completed=done, numbers="")
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self._bar is not None:
            module = cast(Training, pl_module)
            lr = trainer.optimizers[0].param_groups[0]["lr"]
            self._bar.update(
                self._task,
                completed=trainer.current_epoch * int(trainer.num_training_batches) + batch_idx + 1,
                description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
                numbers=f"loss {module.train_loss():.3f} lr {lr:.1e}" if module.has_loss else "",
            )

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description="validation")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            line = read_history(self.folder / HISTORY)[-1]
            self.console.print(describe_epoch(line, int(trainer.max_epochs or 0)), highlight=False)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()
        if trainer.is_global_zero and isinstance(exception, RunStoppedError):
            self.console.print(
                f"stopped after step {trainer.global_step}; the same command with --resume continues from "
                f"{self.folder / LAST}",
                highlight=False,
                soft_wrap=True,
            )

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


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


def describe_epoch(line: dict[str, Any], epochs: int) -> str:
    """A line of the history in words."""
    words = [f"epoch {line['epoch']}/{epochs}", f"loss {line['train_loss']:.4f}"]
    words += [text.format(line[name], **line) for name, text in METRICS.items() if line.get(name) is not None]
    return "  ".join([*words, f"{line['seconds']:.1f} s"])


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


def write_history(path: Path, lines: list[dict[str, Any]]) -> None:
    """Replaces the file whole, so that a kill leaves the old or the new one."""
    try:
        write_text(path, "".join(json.dumps(line) + "\n" for line in lines))
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({failure(error)}): make room or mend it, and continue with --resume"
        ) from error
