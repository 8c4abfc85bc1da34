"""Prediction on many processes and machines by Ray Data: pieces of the images go to actors with a model each.

Ray schedules, restarts and repeats; what is here is what an actor does with a piece. Its rows come back to the process
that asked, which alone writes files, so that no machine but its own needs a disk that all share, and an actor that dies
leaves nothing behind.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .. import extras
from ..checks import plural, require
from ..data.errors import ImageError
from ..data.images.decode import ImageSource
from ..results.rows import row_of
from .pieces import Piece, PieceFolder, PiecesError, check_output, choose_piece_images, piece_folder
from .predictor import Predictor
from .row_files import encode_rows
from .sources import Found, find_sources, images_of
from .task import Prediction

MOST_TRIES = 4
"""How often a piece is begun whose actor dies each time: Ray alone would begin it for ever."""

_PACKAGE = __name__.partition(".")[0]

MakePredictor = Callable[[], Predictor]


@dataclass(frozen=True, kw_only=True)
class RayPrediction:
    """What came of it.

    Attributes:
        output: the folder of pieces.
        rows: how many there are, an image each.
        bad: how many of these are errors.
        kept: pieces that were there before.
        made: pieces that were made now.
    """

    output: Path
    rows: int
    bad: int
    kept: int
    made: int


def predict_on_ray(
    make_predictor: MakePredictor,
    patterns: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    workers: int | None = None,
    use_gpus: bool | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    piece_images: int | None = None,
    told: Callable[[int, int, Sequence[str]], object] = lambda done, pieces, problems: None,
) -> RayPrediction:
    """Predicts for files, folders, globs, tar files and stores, on Ray.

    A running Ray is used, or the one that RAY_ADDRESS names; otherwise one is started on this machine for the time
    being, without usage statistics and dashboard.

    Args:
        make_predictor: gives each actor its predictor. It travels, with all that it holds, once to each machine. An
            actor on a CPU has one thread.
        patterns: see `sources.find_sources`. Paths are looked for on the actors' machines, relative ones from this
            process's folder.
        output: a folder on this machine whose ending says what its pieces are, .jsonl or .parquet. It is put in place
            when all are there; until then they are in OUTPUT.partial.
        workers: actors; None for one a GPU, or else one a processor core.
        use_gpus: whether actors get GPUs; where there are more actors than GPUs they share them, so that
            some read images meanwhile. None: where Ray has some.
        settings: what rows are made with, in JSON's types: unlike ones are not mixed in a folder.
        resume: whether to go on with what was ended; only pieces that are not there are made.
        piece_images: images of a piece; None for 32 to 1,024, by their number. What was begun keeps its own.
        told: is called after each piece with the number of those that are there, of all, and the new one's errors.

    Raises:
        PiecesError: the output cannot be one or does not fit, there are not enough processors, or a piece's actor died
            each time; pieces that are whole stay.
        StoreError: a store cannot be listed, or fails.
        MissingExtraError: Ray is not installed.
    """
    for what, count in (("workers", workers), ("piece_images", piece_images)):
        require(count is None or count >= 1, what, count, "use a whole number of at least 1")
    check_output(output)
    ray = require_ray()
    sources = list(find_sources(patterns))
    plan = {**(settings or {}), "piece_images": piece_images or choose_piece_images(sources, workers or _cores())}
    with piece_folder(output, sources, plan, resume=resume) as (folder, pieces):
        kept = len(folder.done)
        if pieces:
            with _started(ray, workers, use_gpus) as (actors, gpus), _explained(ray, folder):
                data = _pieces(ray, make_predictor, pieces, folder.ending, actors, gpus)
                with extras.errors_alone("ray.data"):
                    for row in data.iter_rows():
                        problems = json.loads(row["problems"])
                        folder.put(row["number"], row["content"], row["rows"], len(problems))
                        told(len(folder.done), folder.pieces, problems)
            if missing := folder.pieces - len(folder.done):
                raise PiecesError(f"Ray ended without {plural(missing, 'piece')}; resume to make the rest")
    return RayPrediction(output=Path(output), rows=folder.rows, bad=folder.bad, kept=kept, made=len(folder.done) - kept)


def require_ray() -> Any:
    """The package `ray`, with Ray Data; a `MissingExtraError` where it is not installed."""
    for name in ("pyarrow", "fsspec", "ray.data"):
        extras.require(name, extra="ray")
    return extras.require("ray", extra="ray")


def predict_rows(
    predictor: Predictor, images: Iterable[tuple[str, ImageSource | ImageError]]
) -> Iterator[dict[str, Any]]:
    """A row an image, in order, `predictor.batch_size` at once."""
    images = iter(images)
    while batch := list(itertools.islice(images, predictor.batch_size)):
        results: list[Prediction | ImageError] = predictor.answers(
            [image for _, image in batch], predictor.predict_prepared
        )
        yield from (row_of(name, result) for (name, _), result in zip(batch, results, strict=True))


class PieceWorker:
    """What an actor is: it takes a piece, and gives its file's content.

    Args:
        make_predictor: gives its predictor.
        folder: from where relative paths are looked for; not looked at where this machine has none of that name.
        ending: the format.
        tries: the actor of `Tries`.
    """

    def __init__(self, make_predictor: Any, folder: str, ending: str, tries: Any) -> None:
        import ray

        if os.path.isdir(folder):
            os.chdir(folder)
        torch.set_num_threads(1)
        make: MakePredictor = ray.get(make_predictor)
        self.predictor, self.ending, self._begun = make(), ending, lambda number: ray.get(tries.begin.remote(number))

    def __call__(self, piece: dict[str, Any]) -> dict[str, Any]:
        """What `_as_row` gave -> the file's content, how many rows it has, and its errors as JSON."""
        sources: list[Found] = [
            (name, None if problem is None else ImageError(problem)) for name, problem in json.loads(piece["sources"])
        ]
        if self._begun(piece["number"]) > MOST_TRIES:
            raise PiecesError(
                f"actors died in all of {MOST_TRIES} tries of one piece, of {sources[0][0]} to {sources[-1][0]}: one "
                "of its images may end whatever reads it, or the machines have too little memory"
            )
        rows = list(predict_rows(self.predictor, images_of(sources)))
        problems = [row["error"] for row in rows if "error" in row]
        task: Any = self.predictor.model.task
        content = encode_rows(rows, self.ending, task)
        return {"number": piece["number"], "content": content, "rows": len(rows), "problems": json.dumps(problems)}


class Tries:
    """An actor that counts how often each piece was begun; the others' memory dies with them."""

    def __init__(self) -> None:
        self._begun: Counter[int] = Counter()

    def begin(self, number: int) -> int:
        """Counts a try of a piece: the how-manieth it is."""
        self._begun[number] += 1
        return self._begun[number]


def _as_row(piece: Piece) -> dict[str, Any]:
    """A piece as it travels; JSON takes names that are no UTF-8."""
    sources = [(name, None if problem is None else str(problem)) for name, problem in piece.sources]
    return {"number": piece.number, "sources": json.dumps(sources)}


def _pieces(
    ray: Any, make_predictor: MakePredictor, pieces: Sequence[Piece], ending: str, actors: int, gpus: float
) -> Any:
    """The data set of finished pieces, each a block and so a task of its own, as they come."""
    data = ray.data.from_items([_as_row(piece) for piece in pieces], override_num_blocks=len(pieces))
    data.context.enable_progress_bars = False
    data.context.print_on_execution_start = False
    data.context.raise_original_map_exception = True  # its message is the user's
    tries = ray.remote(num_cpus=0)(Tries).remote()
    return data.map(
        PieceWorker,
        fn_constructor_args=(ray.put(make_predictor), os.getcwd(), ending, tries),
        compute=ray.data.ActorPoolStrategy(size=min(actors, len(pieces)), max_tasks_in_flight_per_actor=2),
        num_cpus=1,
        num_gpus=gpus,
    )


def _cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _started(ray: Any, workers: int | None, use_gpus: bool | None) -> Iterator[tuple[int, float]]:
    """Within it Ray runs: how many actors there are to be, and what part of a GPU each gets."""
    ours, before = not ray.is_initialized(), signal.getsignal(signal.SIGTERM)
    if ours and os.environ.get("RAY_ADDRESS"):
        ray.init(logging_level="ERROR", log_to_driver=False)
    elif ours:
        gpus_here = 0 if use_gpus is False else torch.cuda.device_count()
        if use_gpus and not gpus_here:
            raise PiecesError("GPUs are asked for, and torch finds none on this machine; use the CPU")
        cores = workers or gpus_here or _cores()
        ray.init(
            address="local",
            num_cpus=cores,
            num_gpus=gpus_here,
            include_dashboard=False,
            logging_level="ERROR",
            log_to_driver=False,
        )
    if ours and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)  # which Ray has replaced
    try:
        there = ray.cluster_resources()
        cores, gpus_there = int(there.get("CPU", 0)), 0 if use_gpus is False else int(there.get("GPU", 0))
        if use_gpus and not gpus_there:
            raise PiecesError("GPUs are asked for, and Ray has none; use the CPU")
        actors = workers or gpus_there or cores
        if not 1 <= actors <= cores:
            raise PiecesError(f"workers={actors}, and Ray has {plural(cores, 'processor core')}; use at most as many")
        share = -(-actors // gpus_there) if gpus_there else 0  # actors on a GPU
        yield actors, 0 if not share else 1 if share == 1 else int(10_000 / share) / 10_000
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def _explained(ray: Any, folder: PieceFolder) -> Iterator[None]:
    """Makes what ended an actor's work one message, with what is whole; what is a bug stays what it is."""
    try:
        yield
    except ray.exceptions.RayError as error:
        cause = getattr(error, "cause", None)  # the error itself is of its class, too, and has Ray's text
        if not (isinstance(cause, OSError) or type(cause).__module__.startswith(f"{_PACKAGE}.")):
            raise
        why = (str(cause).splitlines() or [type(cause).__name__])[0].rstrip(".")  # Ray adds lines of its own
        raise PiecesError(
            f"{why}; whole are {len(folder.done)} of {plural(folder.pieces, 'piece')}, and resume makes the others"
        ) from error
