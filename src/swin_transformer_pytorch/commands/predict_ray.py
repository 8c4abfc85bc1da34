"""`swin predict --engine ray`: the same rows, by actors of Ray, in a folder of pieces."""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..checks import plural
from . import model_source, terminal
from .errors import EXIT_SOME_BAD, UsageError
from .terminal import printable

if TYPE_CHECKING:
    from ..models.exported import ExportedModel
    from ..models.registry import Model
    from ..predict import Predictor

_NOT_HERE = ("pictures", "labels", "coco", "annotations", "yolo", "features")
_LOOKED_AT = 32


def run(
    options: argparse.Namespace,
    chosen: dict[str, Any],
    settings: Callable[[argparse.Namespace, Model | ExportedModel], dict[str, Any]],
) -> int:
    """Predicts, and says where the pieces are; the exit code.

    Args:
        options: of the command.
        chosen: what they say of a `Predictor`.
        settings: gives what rows depend on.
    """
    from ..data.images.unusable import summary
    from ..predict import Predictor
    from ..predict.pieces import check_output
    from ..predict.ray import predict_on_ray, require_ray
    from .result_rows import sigterm_as_exit

    if others := [f"--{name}" for name in _NOT_HERE if getattr(options, name) is not None]:
        raise UsageError(f"{', '.join(others)}: --engine ray writes rows alone; leave it out, or use --engine local")
    if options.output is None:
        raise UsageError("--engine ray needs --output, a folder for its pieces, such as rows.jsonl or rows.parquet")
    check_output(options.output)
    if options.device not in (None, "cpu", "cuda"):
        raise UsageError(f"--device {options.device}: Ray gives each worker its GPU; use cuda or cpu, or leave it out")
    require_ray()
    model = model_source.load(options)
    # What the model or the options cannot is said here, and not by each actor.
    _tell_white_level(options.paths, Predictor(model, device="cpu", **chosen))
    notes, whole = terminal.notes(), 0

    def tell(done: int, pieces: int, problems: Sequence[str]) -> None:
        nonlocal whole
        whole = done
        for problem in problems:
            print(f"swin: skipped: {printable(problem)}", file=sys.stderr)
        if notes.is_terminal:
            notes.print(f"{done} of {plural(pieces, 'piece')}", end="\r")

    try:
        with sigterm_as_exit():
            found = predict_on_ray(
                functools.partial(make_predictor, model_maker(model, options), chosen),
                options.paths,
                options.output,
                workers=options.workers,
                use_gpus=None if options.device is None else options.device == "cuda",
                settings=settings(options, model),
                resume=options.resume,
                told=tell,
            )
    except (KeyboardInterrupt, SystemExit):
        if whole:
            hint = "the same command with --resume goes on"
            print(f"\nswin: whole in {options.output}.partial: {plural(whole, 'piece')}; {hint}", file=sys.stderr)
        raise
    if found.kept:
        notes.print(f"{found.kept} of {plural(found.kept + found.made, 'piece')} were there before")
    notes.print(f"results: {found.output}, {plural(found.rows, 'row')} in {plural(found.kept + found.made, 'piece')}")
    if found.bad:
        notes.print(summary(found.bad, found.rows, "images"))
    return EXIT_SOME_BAD if found.bad else 0


def model_maker(model: Model | ExportedModel, options: argparse.Namespace) -> Callable[[], Any]:
    """What gives an actor the model: ours travels as it is, an exported file is opened by each actor."""
    from ..models.exported import ExportedModel

    if isinstance(model, ExportedModel):
        return functools.partial(model_source.load, options)
    return functools.partial(_same, model)


def make_predictor(make_model: Callable[[], Any], chosen: dict[str, Any]) -> Predictor:
    """An actor's predictor, of a model in its fastest form on its device."""
    import torch

    from ..models.exported import ExportedModel
    from ..optimize import optimize_for_inference
    from ..predict import Predictor

    model = make_model()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if not isinstance(model, ExportedModel):
        model = optimize_for_inference(model.to(device))
    return Predictor(model, device=device, **chosen)


def _same(model: Any) -> Any:
    return model


def _tell_white_level(paths: Sequence[str], predictor: Predictor) -> None:
    """Says what `predict_files` says of files of 16 bits."""
    from ..data.images.bands import tell_white_level
    from ..predict.sources import find_sources, is_elsewhere

    found = (name for name, problem in find_sources([path for path in paths if not is_elsewhere(path)]) if not problem)
    files = [name for name in itertools.islice(found, _LOOKED_AT) if not is_elsewhere(name)]
    tell_white_level(files, predictor.transform.preprocessing.white_level)
