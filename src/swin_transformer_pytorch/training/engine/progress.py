"""What a person sees of a run: what it is about to do, a live bar or lines in a log, and how each epoch went."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from .callbacks import HISTORY, peak_rate, read_history, telling
from .checkpoint_files import LAST
from .module import Training
from .overview import overview
from .stopping import RunStoppedError

METRICS = {
    "val_loss": "val loss {:.4f}",
    "val_top1": "top-1 {:.2%}",
    "val_top5": "top-5 {:.2%}",
    "val_map": "mAP {:.2%} over {val_map_classes} of {val_num_classes} classes",
    "val_f1": "F1 {:.2%}",
    "val_box_ap": "box AP {:.2%}",
    "val_mask_ap": "mask AP {:.2%}",
    "val_miou": "mIoU {:.2%} over {val_miou_classes} of {val_num_classes} classes",
    "val_aacc": "pixel accuracy {:.2%}",
    "val_pq": "PQ {:.2%}",
    "val_pq_things": "of things {:.2%}",
    "val_pq_stuff": "of stuff {:.2%}",
}
"""How metrics are shown; the history has more."""

_SILENT_SECONDS = 60.0
# Steps after the first, which is slower than others, and seconds, after which the length of a run is told.
_TIMED_STEPS, _TIMED_SECONDS = 3, 2.0


class ProgressLines(Callback):
    """A table of what the run is, about how long it takes by its first steps, and then a live bar on a terminal;
    elsewhere, in a log file say, lines.

    Those come after each epoch, and within one when `_SILENT_SECONDS` have passed without any.
    """

    def __init__(self, folder: Path, console: Console) -> None:
        self.folder = folder
        self.console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._said_at = self._started_at = 0.0
        self._started_from = 0
        self._first_step_at: float | None = None
        self._length_told = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if trainer.global_step == 0:
            self.console.print(overview(cast(Training, pl_module), trainer), highlight=False)
        self._said_at = self._started_at = time.monotonic()
        self._started_from = trainer.global_step
        self._length_told = trainer.global_step > 0  # who resumes has been told
        if not self.console.is_terminal:
            return
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=self.console,
        )
        total = int(trainer.estimated_stepping_batches)
        self._task = self._bar.add_task("training", total=total, completed=trainer.global_step, numbers="")
        self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._tell_length(trainer)
        module = cast(Training, pl_module)
        overdue = time.monotonic() - self._said_at >= _SILENT_SECONDS
        if not (trainer.is_global_zero and module.has_loss and (self._bar is not None or overdue)):
            return
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        numbers = f"{describe_losses(module)}  lr {peak_rate(trainer):.1e}"
        if self._bar is not None:
            self._bar.update(self._task, completed=trainer.global_step, description=epoch, numbers=numbers)
        else:
            total = int(trainer.estimated_stepping_batches)
            self._say(f"{epoch}  step {trainer.global_step:,}/{total:,}  {numbers}{self._to_go(trainer, total)}")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._bar is not None:
            self._bar.update(self._task, description="validation")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not trainer.is_global_zero:
            return
        done, count = batch_idx + 1, int(sum(trainer.num_val_batches))
        if self._bar is not None:
            self._bar.update(self._task, description=f"validation {done}/{count}")
        elif time.monotonic() - self._said_at >= _SILENT_SECONDS:
            self._say(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  validation {done:,}/{count:,}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            line = read_history(self.folder / HISTORY)[-1]
            self._say(describe_epoch(line, int(trainer.max_epochs or 0)))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._stop()
        if trainer.is_global_zero and isinstance(exception, RunStoppedError):
            self.console.print(
                f"stopped after step {trainer.global_step}; swin train --resume {self.folder} continues from {LAST}",
                highlight=False,
                soft_wrap=True,
            )

    def _say(self, line: str) -> None:
        self._said_at = time.monotonic()
        self.console.print(line, highlight=False, soft_wrap=True)

    def _tell_length(self, trainer: Trainer) -> None:
        """Says once about how long the run takes, as soon as a few steps tell."""
        now, done = time.monotonic(), trainer.global_step - self._started_from
        if self._length_told or not trainer.is_global_zero or not done:
            return
        if self._first_step_at is None:
            self._first_step_at = now
        timed, seconds = done - 1, now - self._first_step_at
        if timed >= _TIMED_STEPS and seconds >= _TIMED_SECONDS:
            whole = seconds / timed * int(trainer.estimated_stepping_batches)
            self._say(f"about {describe_seconds(whole)} and the validations, by its first {done} steps")
            self._length_told = True

    def _to_go(self, trainer: Trainer, total: int) -> str:
        """How long the rest takes by what was done here, validations among it; empty before there is a step."""
        done = trainer.global_step - self._started_from
        seconds = (time.monotonic() - self._started_at) / done * (total - trainer.global_step) if done else 0
        return f"  about {describe_seconds(seconds)} to go" if done else ""

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def describe_epoch(line: dict[str, Any], epochs: int) -> str:
    """A line of the history in words."""
    line = telling(line)
    words = [f"epoch {line['epoch']}/{epochs}", f"loss {line['train_loss']:.4f}"]
    words += [text.format(line[name], **line) for name, text in METRICS.items() if line.get(name) is not None]
    return "  ".join([*words, f"{line['seconds']:.1f} s"])


def describe_losses(module: Training) -> str:
    """The mean loss of the epoch so far, and its parts where it has several."""
    parts = ", ".join(f"{name.replace('loss_', '')} {value:.3f}" for name, value in module.train_losses().items())
    return f"loss {module.train_loss():.3f}{f' ({parts})' * bool(parts)}"


def describe_seconds(seconds: float) -> str:
    """A length of time, to two digits or so."""
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.{int(seconds < 10 * length)}f} {unit}"
    return f"{seconds:.0f} s"
