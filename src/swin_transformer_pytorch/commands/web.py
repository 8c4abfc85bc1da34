"""Shows a page, and a JSON API, at which models classify, detect or segment images: http://127.0.0.1:8000

  swin web                                                     the three small models in the package
  swin web fashion runs/flowers/best.ckpt --port 9000          those named alone
  swin web flowers=runs/flowers/best.ckpt                      by a name of your own
  curl --data-binary @photo.jpg 'http://127.0.0.1:8000/predict?model=flowers'

SOURCE is a checkpoint of ours, a name of `swin models`, or a model in the package. /openapi.json describes the API. It
listens to this machine alone unless --host says otherwise; then anyone who reaches it can send images, and there is no
password. Nothing is stored, and images are not logged.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import model_source, terminal
from .errors import UsageError

if TYPE_CHECKING:
    from ..predict import Predictor

_SHIPPED = ("fashion", "scenes_detection", "scenes_segmentation", "scenes_panoptic")
_MAX_PIXELS = 50_000_000
# Some seconds on one core. Other models shrink what they get.
_MAX_PIXELS_AT_FULL_SIZE = 4_000_000
_SPARE_CONNECTIONS = 64  # of browsers, which keep some open, and of who is told that there are too many


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import (
        ClosedUnitInterval,
        NonNegativeFloat,
        PositiveFloat,
        PositiveInt,
        restricted_number_type,
    )

    from ..web.limits import Limits

    port = restricted_number_type("Port", int, [(">=", 0), ("<=", 65535)], docstring="0 to 65535")
    parser.add_argument(
        "sources",
        nargs="*",
        default=list(_SHIPPED),
        metavar="SOURCE",
        help="models, by their names or as NAME=SOURCE",
    )
    parser.add_argument("--host", default="127.0.0.1", metavar="HOST", help="address to listen at; 0.0.0.0 is all")
    parser.add_argument("--port", type=port, default=8000, metavar="N", help="0 is any that is free")
    parser.add_argument(
        "--allow-host",
        action="append",
        metavar="NAME",
        help="a name by which browsers reach the server, beside localhost and addresses; may be repeated",
    )
    model_source.add_device_option(parser)
    parser.add_argument("--max-bytes", type=PositiveInt, default=Limits.max_bytes, metavar="N", help="of an image file")
    parser.add_argument(
        "--max-pixels",
        type=PositiveInt,
        metavar="N",
        help=f"of an image (default: {_MAX_PIXELS:,}; {_MAX_PIXELS_AT_FULL_SIZE:,} where a model does not shrink it)",
    )
    parser.add_argument(
        "--max-queue",
        type=PositiveInt,
        default=Limits.max_queue,
        metavar="N",
        help="requests of a model under way; else 503",
    )
    parser.add_argument(
        "--timeout",
        type=PositiveFloat,
        default=Limits.timeout,
        metavar="S",
        help="seconds for an image to arrive (408), and then for its answer (504)",
    )
    parser.add_argument(
        "--batch-size", type=PositiveInt, metavar="N", help="images at once (default: 32 to classify, else 4)"
    )
    parser.add_argument(
        "--batch-wait-ms",
        type=NonNegativeFloat,
        default=Limits.batch_wait * 1000,
        metavar="MS",
        help="how long one waits for others",
    )
    parser.add_argument(
        "--score-threshold",
        type=ClosedUnitInterval,
        default=0.3,
        metavar="S",
        help="detection: least score of an object, where a request does not say another",
    )


def run(options: argparse.Namespace) -> int:
    from ..extras import require

    for package in ("fastapi", "uvicorn"):
        require(package, extra="web")
    from ..web.app import create_app
    from ..web.limits import Limits
    from ..web.server import listen, make_server

    sources = _by_name(options.sources)
    device = model_source.check_device(options.device)
    limits = Limits(
        max_bytes=options.max_bytes,
        max_queue=options.max_queue,
        timeout=options.timeout,
        batch_wait=options.batch_wait_ms / 1000,
    )
    named = options.allow_host or []
    with listen(options.host, int(options.port)) as listener:
        predictors = {name: _predictor(source, device, options) for name, source in sources.items()}
        app = create_app(
            predictors,
            limits,
            score_threshold=options.score_threshold,
            hosts=[options.host, *named],
            origins=named,
        )
        shown = f"[{options.host}]" if ":" in options.host else options.host
        address = f"http://{shown}:{listener.getsockname()[1]}"
        terminal.notes().print(f"{address} has {', '.join(predictors)}; Ctrl-C stops it")
        connections = _SPARE_CONNECTIONS + limits.max_queue * len(predictors)
        make_server(app, connections=connections).run(sockets=[listener])
    return 0


def _by_name(words: Sequence[str]) -> dict[str, str]:
    """What requests call each source: its own name, a file's without folder and ending, or what the user says."""
    sources: dict[str, str] = {}
    for word in words:
        given = None if Path(word).exists() else re.match(r"([\w.-]+)=(.+)", word)
        name, source = given.groups() if given else (Path(word).stem if Path(word).exists() else word, word)
        if name in sources:
            raise UsageError(f"{sources[name]} and {source} would both be called {name}; name one: NAME={source}")
        sources[name] = source
    return sources


def _predictor(source: str, device: str | None, options: argparse.Namespace) -> Predictor:
    """Ready for its first request: kernels are built and memory is there."""
    import numpy as np

    from ..models.registry import load_model
    from ..predict import Predictor
    from ..weights.preprocessing import DensePreprocessing

    model = load_model(source)
    preprocessing = model.preprocessing
    at_full_size = isinstance(preprocessing, DensePreprocessing) and preprocessing.scale is None
    most = options.max_pixels or (_MAX_PIXELS_AT_FULL_SIZE if at_full_size else _MAX_PIXELS)
    predictor = Predictor(model, device=device, batch_size=options.batch_size, max_pixels=most)
    height, width = getattr(model, "image_size", None) or (64, 64)  # a file may be for one size
    channels = 3 if preprocessing is None else preprocessing.channels
    predictor(np.zeros((height, width, channels), np.uint8))
    return predictor
