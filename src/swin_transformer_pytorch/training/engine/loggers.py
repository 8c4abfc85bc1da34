"""A run's figures for other programs to show, by Lightning's own loggers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger

from ...extras import require
from ..recipes.parts import Logger as LoggerName
from .callbacks import peak_rate
from .module import Training

_EVERY_STEPS = 50


def make_loggers(names: tuple[LoggerName, ...], output: Path) -> list[Logger]:
    """The loggers of those names, which write to the run's folder.

    Raises:
        MissingExtraError: the package of one is not installed.
    """
    makers = {
        "csv": lambda: CSVLogger(output, name="csv", version=""),
        "tensorboard": lambda: TensorBoardLogger(output, name="tensorboard", version=""),
        "wandb": lambda: WandbLogger(name=output.name, save_dir=output),
    }
    for name in names:
        if name != "csv":
            require(name, extra=name)
    return [makers[name]() for name in dict.fromkeys(names)]


class Figures(Callback):
    """Gives the loggers the loss, its parts and the learning rate every 50 steps, and each validation's metrics."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        recipe = cast(Training, pl_module).recipe.to_dict()
        for logger in trainer.loggers:
            logger.log_hyperparams(recipe)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        module = cast(Training, pl_module)
        if trainer.is_global_zero and module.has_loss and trainer.global_step % _EVERY_STEPS == 0:
            parts = {f"train_{name}": value for name, value in module.train_losses().items()}
            self._log(trainer, {"train_loss": module.train_loss(), **parts, "lr": peak_rate(trainer)})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, cast(Training, pl_module).metrics)

    @staticmethod
    def _log(trainer: Trainer, figures: dict[str, float]) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=trainer.global_step)
            logger.save()
