"""Predicts for the frames of a video, a stream or a camera; needs the extra [video].

  swin video clip.mp4 --weights scenes_detection --video found.webm      what was found, drawn on each frame
  swin video clip.mp4 --weights detector.ckpt --output objects.jsonl     a line of JSON a frame, with its time
  swin video clip.mp4 --weights runs/maps/best.ckpt --every 5 --output - every fifth frame
  swin video camera:0 --weights fashion --seconds 60 --video seen.webm   a minute of the first camera
  swin video rtsp://address/stream --weights detector.ckpt --output -    until Ctrl-C, which ends files well

FILE grows as FILE.partial until it is whole. A video that breaks off or has damaged packets is said to, with exit code
1; what was read of it keeps its results.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from ..whole import is_stream, put_in_place
from . import model_source, terminal
from .errors import EXIT_INTERRUPTED, EXIT_SOME_BAD, UsageError
from .predict import SHOWN_SCORE, add_view_options, drawn_part, view_options
from .result_rows import is_stdout, sigterm_as_exit, writing

if TYPE_CHECKING:
    from ..data.images.video import Frame
    from ..predict import Prediction

_DRAWN_AHEAD = 8  # frames that wait to be drawn and encoded


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import PositiveFloat, PositiveInt

    parser.add_argument("source", metavar="VIDEO", help="a file, - for stdin, a URL, or camera:0")
    model_source.add_model_options(parser, without_either=f"without --weights: {model_source.DEFAULT_MODEL}")
    parser.add_argument("--output", metavar="FILE", help="write a line of JSON a frame; - is stdout, without the table")
    parser.add_argument("--video", metavar="FILE", help="write the video with what was found on it, a .webm (VP9)")
    parser.add_argument("--every", type=PositiveInt, default=1, metavar="N", help="take each Nth frame (default: all)")
    parser.add_argument("--seconds", type=PositiveFloat, metavar="S", help="stop there (default: at the end)")
    parser.add_argument("--top-k", type=PositiveInt, default=5, metavar="K", help="classification: classes to name")
    add_view_options(parser)
    model_source.add_device_option(parser)
    parser.add_argument(
        "--batch-size",
        type=PositiveInt,
        metavar="N",
        help="frames at once (default: 32 to classify, else 4; of cameras 1)",
    )


def run(options: argparse.Namespace) -> int:
    from ..data.images.video import Video, VideoError
    from ..extras import require
    from ..predict import Predictor
    from ..predict.video import predict_video

    require("av", extra="video")
    video = Video(options.source, every=options.every, seconds=options.seconds)
    predictor = Predictor(
        model_source.load(options),
        device=model_source.check_device(options.device),
        top_k=options.top_k,
        **view_options(options),
    )
    shown_score = SHOWN_SCORE if options.score_threshold is None else 0.0
    output = "-" if is_stdout(options.output) else options.output
    seen: Counter[str] = Counter()
    count, began, problem, code = 0, time.monotonic(), "", 0
    with ExitStack() as stack:
        stack.enter_context(sigterm_as_exit())
        send = stack.enter_context(_rows(output))
        draw = stack.enter_context(_drawing(options.video, shown_score))
        try:
            for frame, result in predict_video(predictor, video, options.batch_size):
                draw(frame, result)
                record = {"path": options.source, "frame": frame.index, "seconds": frame.seconds} | result.to_dict()
                send(json.dumps(record, ensure_ascii=False) + "\n")
                seen.update(_names(result, shown_score))
                count += 1
        except VideoError as error:
            if not count:
                raise
            problem, code = str(error), EXIT_SOME_BAD
        except (KeyboardInterrupt, SystemExit) as error:  # the usual end of what has none
            problem, code = "interrupted", EXIT_INTERRUPTED
            if isinstance(error, SystemExit):
                problem, code = "SIGTERM", int(error.code or 0)
    took = time.monotonic() - began
    notes = terminal.notes()
    if output != "-":
        table = terminal.table("class", "frames", numbers=slice(1, 2))
        for name, frames in seen.most_common():
            table.add_row(terminal.printable(name), f"{frames:,}")
        terminal.output().print(table)
    notes.print(f"{count:,} of {video.num_frames:,} frames in {took:.1f} s, {count / took:.1f} a second")
    for what, where in (("results", output), ("video", options.video)):
        if where is not None and where != "-":
            notes.print(f"{what}: {where}")
    if video.damaged:
        notes.print(f"{video.damaged:,} packets of it could not be decoded, and were left out")
        code = code or EXIT_SOME_BAD
    if problem:
        print(f"swin: {terminal.printable(problem)}", file=sys.stderr)
    return code


def _names(result: Prediction, shown_score: float) -> set[str]:
    """The classes of a frame that are told of: of a classifier the likeliest."""
    from ..results import Classification, Detections, PanopticSegmentation

    if isinstance(result, Detections):
        return set(result.above(shown_score).names)
    if isinstance(result, PanopticSegmentation):
        return set(result.counts())
    return {result.names[0]} if isinstance(result, Classification) else {result.names[label] for label in result.shares}


@contextmanager
def _rows(output: str | None) -> Iterator[Callable[[str], object]]:
    """Where lines go. A file is put in place at the end, also at that of an interrupt."""
    if output is None:
        yield lambda line: None
    elif output == "-" or is_stream(Path(output)):
        with nullcontext(sys.stdout) if output == "-" else open(output, "w", encoding="utf-8") as stream:

            def send(line: str) -> None:
                stream.write(line)
                stream.flush()

            with writing(output):
                yield send
    else:
        path = Path(output)
        partial = path.with_name(f"{path.name}.partial")
        if partial.exists():
            raise UsageError(f"{partial} has the rows of a run that was ended: rename or remove it")
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(partial):
            try:
                with partial.open("w", encoding="utf-8", buffering=1) as file:
                    yield file.write
            except BaseException:
                if not partial.stat().st_size:  # a video that cannot be read leaves nothing in the way of the next
                    partial.unlink()
                raise
            put_in_place(partial, path)


@contextmanager
def _drawing(path: str | None, shown_score: float) -> Iterator[Callable[[Frame, Prediction], None]]:
    """What draws results on frames and encodes them, in a thread, while the model goes on."""
    if path is None:
        yield lambda frame, result: None
        return
    from ..visualize import overlay
    from ..visualize.video import VideoWriter

    waiting: list[Future[None]] = []

    def draw(frame: Frame, result: Prediction) -> None:
        writer.add(overlay(frame.image, drawn_part(result, shown_score)), frame.seconds)

    def put(frame: Frame, result: Prediction) -> None:
        waiting.append(pool.submit(draw, frame, result))
        if len(waiting) > _DRAWN_AHEAD:
            waiting.pop(0).result()

    with writing(path), VideoWriter(path) as writer, ThreadPoolExecutor(max_workers=1) as pool:
        yield put
        for one in waiting:
            one.result()
