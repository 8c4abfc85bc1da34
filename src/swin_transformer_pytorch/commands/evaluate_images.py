"""What `swin evaluate` does with the images of a detector or segmenter: predict each, whatever happens to some."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence, Sized
from operator import attrgetter
from pathlib import Path
from typing import Any, Protocol

from torch.utils.data import DataLoader, Dataset

from ..data.images.bands import tell_white_level
from ..data.images.unusable import Samples, Unusable, item_or_problem
from ..evaluation.report import EvaluationError
from ..predict import Predictor
from . import terminal
from .errors import EXIT_SOME_BAD
from .predict import view_options


class Answering(Protocol):
    """What prepares images and answers for a few at once, as a `Predictor` does."""

    batch_size: int

    def prepare(self, image: Any) -> Any: ...

    def predict_prepared(self, prepared: Sequence[Any]) -> Sequence[Any]: ...


class PreparedSamples(Dataset[Any]):
    """Items are (what is known of the image, the image as the model takes it), or what is wrong with it, as text."""

    def __init__(self, samples: Samples[Any], predictor: Answering, truth: Sequence[str]) -> None:
        self.samples = samples
        self.prepare = predictor.prepare
        self.truth = attrgetter(*truth)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Any, Any] | str:
        return item_or_problem(lambda: self._prepared(self.samples[index]))

    def _prepared(self, sample: Any) -> tuple[Any, Any]:
        return self.truth(sample), self.prepare(sample.image)


def build_predictor(model: Any, options: argparse.Namespace, device: str | None) -> Predictor:
    """The predictor that the options describe."""
    return Predictor(model, device=device, batch_size=options.batch_size, **view_options(options))


def measure(
    predictor: Answering,
    samples: Samples[Any],
    truth: Sequence[str],
    update: Callable[[Any, Any], None],
    num_workers: int,
) -> Unusable:
    """Hands what `truth` names of each sample, a tuple of several, and the result for its image to `update`, with a bar
    on a terminal.

    Those that cannot be used, or that do not go together, are named on stderr, and counted in what is returned.
    """
    unusable = counted(samples)
    items = PreparedSamples(samples, predictor, truth)
    loader: DataLoader[Any] = DataLoader(items, predictor.batch_size, num_workers=num_workers, collate_fn=list)
    for batch in terminal.progress(loader, len(loader), "evaluating"):
        usable = unusable.usable(batch)
        results = predictor.predict_prepared([prepared for _, prepared in usable]) if usable else []
        for (known, _), result in zip(usable, results, strict=True):
            try:
                update(known, result)
            except EvaluationError as error:
                unusable.usable([str(error)])
    return unusable


def counted(samples: Sized) -> Unusable:
    """Counts the images that cannot be used; each is named on stderr. Says where they are read as nearly black."""
    tell_white_level(getattr(samples, "paths", ()), getattr(samples, "white_level", None))
    return Unusable(len(samples), "images", say=lambda problem: print(f"swin: skipped: {problem}", file=sys.stderr))


def tell_held_out(data: argparse.Namespace, split: str, folder: Path) -> None:
    """Says that what is measured is the part that training held out, or all but that."""
    share = f"the {data.val_fraction:.0%} of {folder} that `swin train` holds out"
    terminal.notes().print(f"measured: {share if split == 'val' else f'all but {share}'}")


def end(unusable: Unusable) -> int:
    """Says how many could not be used; the exit code."""
    if line := unusable.summary():
        terminal.notes().print(line)
    return EXIT_SOME_BAD if unusable.problems else 0
