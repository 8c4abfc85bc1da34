"""`swin evaluate` for models of masked pre-training: the loss on images whose masks are always the same."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import plural
from . import terminal
from .errors import UsageError
from .predict import view_options

if TYPE_CHECKING:
    from ..data.classification.dataset import LabelledImages
    from ..models.masked import MaskedSwin

PICTURE = "reconstructions.png"


def run(model: MaskedSwin, options: argparse.Namespace, device: str | None) -> int:
    """Measures, shows and saves; the exit code."""
    from ..evaluation.masked import MaskedReport
    from ..evaluation.report import EvaluationError
    from ..training.tasks.pictures import draw_validation
    from .evaluate_images import counted, end

    foreign = [f"--{name.replace('_', '-')}" for name, value in view_options(options).items() if value]
    others = ("annotations", "images", "labels", "label_suffix", "allow_outside", "classes")
    foreign += [f"--data.{name}" for name in others if getattr(options.data, name)]
    if foreign:
        raise UsageError(f"{', '.join(foreign)}: not for pre-training, which this model does; leave it out")
    images = open_images(options.data, model)
    unusable = counted(images)
    loss, count = measure(model, images, options, device, unusable)
    if not count:
        raise EvaluationError(f"none of the {len(images)} images can be read; the lines above say why")
    report = MaskedReport(loss=loss, num_images=count, skipped=tuple(unusable.problems))
    terminal.output().print(f"{plural(count, 'image')}: loss {loss:.4f}, of {model.config.foretold}")
    folder = Path(options.output)
    terminal.notes().print(f"report: {report.save(folder)}")
    draw_validation(model.cpu(), images, folder / PICTURE)
    terminal.notes().print(f"images, what was hidden, reconstructions: {folder / PICTURE}")
    return end(unusable)


def open_images(data: argparse.Namespace, model: MaskedSwin) -> LabelledImages:
    """The images that the `--data` options name."""
    from ..data.shards.options import ShardOptions
    from ..data.unlabelled.source import UnlabelledSource

    preprocessing = model.preprocessing
    source = UnlabelledSource(
        kind=data.kind,
        root=data.root,
        channels=preprocessing.channels if preprocessing is not None else 3,
        val_fraction=data.val_fraction,
        seed=data.seed,
        max_pixels=data.max_pixels,
        decoding=data.decoding,
        white_level=None if preprocessing is None else preprocessing.white_level,
        shards=ShardOptions(cache=data.shards.cache, cache_gb=data.shards.cache_gb),
    )
    return source.open(data.split)


def measure(
    model: MaskedSwin, images: LabelledImages, options: argparse.Namespace, device: str | None, unusable: Any
) -> tuple[float, int]:
    """The mean loss, and over how many images it is."""
    import torch
    from torch.utils.data import DataLoader

    from ..data.images.masking import MaskRule
    from ..data.transforms import create_transform
    from ..data.unlabelled.measured import MeasuredImages, collate_measured

    transform = create_transform(model)
    rule = MaskRule.of(model.config, transform.preprocessing.image_size)
    loader: DataLoader[Any] = DataLoader(
        MeasuredImages(images, transform, rule),
        options.batch_size or 64,
        num_workers=options.num_workers,
        collate_fn=collate_measured,
        generator=torch.Generator(),
    )
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.to(target).eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for batch, problems in terminal.progress(loader, len(loader), "evaluating"):
            unusable.usable(problems)
            if batch is not None:
                found = model.losses(*(each.to(target) for each in batch))["loss_masked"].item()
                total, count = total + found * len(batch[0]), count + len(batch[0])
    return total / max(count, 1), count
