"""Videos of pictures, in VP9 and WebM, by PyAV (extra [video]): browsers play it, and neither has licence fees."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from PIL import Image

from ..extras import require
from ..whole import replacing
from .pictures import StrPath, make_room

_TICK = Fraction(1, 1000)  # of WebM
_BT709, _LIMITED_RANGE = 1, 1
# Constant quality, and as fast as the model that the pictures come from should be.
_OPTIONS = {"crf": "32", "deadline": "realtime", "cpu-used": "8", "row-mt": "1"}


class VideoWriter:
    """Writes pictures to a WebM file, which is put in place when it is whole: `with VideoWriter(path) as writer: ...`.

    Args:
        path: where; its ending is .webm.

    Attributes:
        num_frames: how many pictures it has so far.

    Raises:
        ValueError: the path has another ending.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, path: StrPath) -> None:
        self.path = Path(path)
        if self.path.suffix.lower() != ".webm":
            raise ValueError(
                f"{path} ends in {self.path.suffix or 'nothing'!r}, and videos are written as .webm; name it so"
            )
        self._av = require("av", extra="video")
        self._stack = ExitStack()
        self._container: Any = None
        self._stream: Any = None
        self._last = -1
        self.num_frames = 0

    def __enter__(self) -> Self:
        make_room(self.path)
        place = self._stack.enter_context(replacing(self.path))
        self._container = self._stack.enter_context(self._av.open(str(place), "w", format="webm"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        try:
            if kind is None and self._stream is not None:
                self._container.mux(self._stream.encode(None))
        except BaseException as failed:
            self._stack.__exit__(type(failed), failed, failed.__traceback__)
            raise
        return self._stack.__exit__(kind, error, traceback)

    def add(self, picture: Image.Image, seconds: float) -> None:
        """Adds an RGB picture that is shown from then on; one of another size than the first is resized to that."""
        if self._stream is None:
            self._begin(picture)
        size = (self._stream.width, self._stream.height)
        if self.num_frames and picture.size != self._size:
            picture = picture.resize(self._size, Image.Resampling.BICUBIC)
        frame = self._av.VideoFrame.from_ndarray(np.asarray(picture.crop((0, 0, *size))), format="rgb24")
        frame = frame.reformat(format="yuv420p", dst_colorspace=_BT709, dst_color_range=_LIMITED_RANGE)
        self._last = max(round(seconds / _TICK), self._last + 1)
        frame.pts, frame.time_base = self._last, _TICK
        self._container.mux(self._stream.encode(frame))
        self.num_frames += 1

    def _begin(self, picture: Image.Image) -> None:
        self._size = picture.size
        stream = self._stream = self._container.add_stream("libvpx-vp9", rate=30, options=_OPTIONS)
        # Colour is stored for two by two pixels.
        stream.width, stream.height = (side - side % 2 for side in picture.size)
        stream.pix_fmt, stream.bit_rate = "yuv420p", 0
        stream.codec_context.time_base = _TICK
        stream.codec_context.color_primaries = stream.codec_context.color_trc = stream.codec_context.colorspace = _BT709
        stream.codec_context.color_range = _LIMITED_RANGE
