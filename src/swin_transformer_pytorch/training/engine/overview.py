"""What a run is about to do, as a table before its first step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from rich import box
from rich.table import Table

from ...checks import plural
from ...sizes import Size
from .callbacks import CURVES, HISTORY, RECIPE
from .data import TrainingData
from .module import Training

_NAMED_CLASSES = 8


def overview(module: Training, trainer: Trainer) -> Table:
    """A line for each thing that one would look up before waiting: the images, the model, the steps, the folder."""
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in describe_run(module, trainer).items():
        table.add_row(name, text)
    table.add_row("output", f"{module.recipe.output} ({HISTORY}, {CURVES}, {RECIPE}, checkpoints, model.safetensors)")
    return table


def describe_run(module: Training, trainer: Trainer) -> dict[str, str]:
    """What a run does, in words, while or after it does it."""
    data: TrainingData = trainer.datamodule  # type: ignore[attr-defined]
    recipe, model = module.recipe, module.model
    optimizer, steps = recipe.optimizer, int(trainer.estimated_stepping_batches)
    epochs = trainer.max_epochs or 1
    world, accumulate = trainer.world_size, recipe.trainer.accumulate
    batch = plural(module.batch_size, "image")
    if world * accumulate > 1:
        of_step = f"{plural(world, 'device')} x {accumulate} {'batch' if accumulate == 1 else 'batches'} a step"
        batch += f" x {of_step} = {module.batch_size * world * accumulate}"
    peak = optimizer.lr * module.lr_factor
    scaled = f" (optimizer.lr={optimizer.lr:g}, scaled by the batch over {optimizer.scale_lr})"
    source = recipe.model.weights or (recipe.model.name or "").partition(".")[2] or "random"
    sizes = [(parameter.numel(), parameter.requires_grad) for parameter in model.parameters()]
    count, trained = sum(size for size, _ in sizes), sum(size for size, learns in sizes if learns)
    frozen = f", {count - trained:,} of them frozen" if trained < count else ""
    tested = "" if data.test_samples is None else f", {len(data.test_samples):,} to be measured on at the end"
    classes = describe_classes(model.classes or (), data.class_counts(), data.counted.removesuffix("s"))
    name = model.name or type(model).__name__.removeprefix("FSDP")  # it is called so where it is sharded
    rows = [
        ("data", Path(recipe.data.root).name if recipe.data.root else recipe.data.kind),  # a card is for others too
        ("images", f"{data.num_images:,} to learn from, {data.num_val_images:,} to validate on{tested}"),
        *([("classes", classes)] if model.num_classes else []),
        *module.facts().items(),
        ("image size", _sizes(model.preprocessing)),
        ("model", f"{name}, {count:,} parameters{frozen}, from {source} weights"),
        ("device", f"{trainer.strategy.root_device.type} x {world}, precision {trainer.precision}"),
        ("batch", batch),
        ("length", f"{plural(steps, 'step')}, {plural(epochs, 'epoch')} of {steps // epochs:,}"),
        ("peak learning rate", f"{peak:g}{scaled * (module.lr_factor != 1)}"),
    ]
    return dict(rows)


def describe_classes(names: tuple[str, ...], counts: Mapping[str, int] | None, unit: str) -> str:
    """How many there are and which; with counts, those with the fewest first named as the rarest."""
    shown = ", ".join(names[:_NAMED_CLASSES]) + ", ..." * (len(names) > _NAMED_CLASSES)
    if not counts:
        return f"{len(names)}: {shown}"
    rarest = sorted(counts, key=lambda name: counts[name])
    few, many = counts[rarest[0]], counts[rarest[-1]]
    if few == many:
        return f"{len(names)}: {shown}; {plural(few, unit)} each"
    return f"{len(names)}: {shown}; from {plural(few, unit)} ({rarest[0]}) to {many:,} ({rarest[-1]})"


def _sizes(preprocessing: Any) -> str:
    if preprocessing is None:
        return "as they are"
    size: Size | None = getattr(preprocessing, "image_size", None)
    if size is not None:
        channels = "grey" if preprocessing.channels == 1 else f"{preprocessing.channels} channels"
        return f"{size[0]} x {size[1]} pixels, {channels}"
    if preprocessing.scale is None:
        return "as the images are"
    return f"within {preprocessing.scale[0]} x {preprocessing.scale[1]} pixels (longest and shortest side) to validate"
