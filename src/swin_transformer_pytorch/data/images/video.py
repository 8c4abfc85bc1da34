"""Frames of video files, streams and cameras, one after the other, by PyAV (extra [video])."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...checks import require
from ...extras import require as require_package
from ..errors import DataError

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv"})

_TIMEOUT = 10.0  # seconds for a stream to open, and for its next packet
# How each system calls its cameras to FFmpeg: format, and what stands before the number or name.
_CAMERAS = {"linux": ("v4l2", "/dev/video"), "darwin": ("avfoundation", ""), "win32": ("dshow", "video=")}


class VideoError(DataError):
    """A video that cannot be read, or not to its end. The message names it and how far it went."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Frame:
    """One picture of a video.

    Attributes:
        index: its number among all frames, from 0.
        seconds: when it is shown, from the first frame.
        image: uint8, (height, width, 3), RGB, upright.
    """

    index: int
    seconds: float
    image: NDArray[np.uint8]


class Video:
    """The frames of a video, decoded as they are asked for; each iteration begins anew.

    Args:
        source: a file; "-" for stdin; a URL that FFmpeg opens (http, rtsp, ...); or "camera:0", a number, or on Windows
            a name.
        every: 1 for all frames, 2 for every second, and so on.
        seconds: where to stop, from the first frame; None for the end.

    Attributes:
        num_frames: how many frames the iteration has decoded so far, those between `every` too.
        damaged: how many packets of it could not be decoded, and were left out.

    Raises:
        VideoError: while iterating: it cannot be opened, has no frames, or breaks off before its end, after the frames
            up to there.
        MissingExtraError: PyAV is not installed.
    """

    def __init__(self, source: str | os.PathLike[str], *, every: int = 1, seconds: float | None = None) -> None:
        require(every >= 1, "every", every, "use a whole number of at least 1")
        require(seconds is None or seconds > 0, "seconds", seconds, "use a number above 0")
        self.source, self.every, self.seconds = os.fspath(source), every, seconds
        self.num_frames = self.damaged = 0

    @property
    def is_live(self) -> bool:
        """Whether it is a camera, which has no end."""
        return self.source.startswith("camera:")

    def __iter__(self) -> Iterator[Frame]:
        av = require_package("av", extra="video")
        self.num_frames = self.damaged = 0
        try:
            with self._opened(av) as container:
                yield from self._frames(av, container)
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(f"{self.source} {self._how_far()}: {error.strerror or error}") from error

    def _how_far(self) -> str:
        return f"cannot be read after frame {self.num_frames - 1:,}" if self.num_frames else "cannot be read as a video"

    def _opened(self, av: Any) -> Any:
        address, kind = self.source, None
        if self.is_live:
            kind, before = _CAMERAS.get(sys.platform, _CAMERAS["linux"])
            address = before + self.source.partition(":")[2]
        elif self.source == "-":
            address = "pipe:0"
        elif "://" not in self.source and not Path(self.source).exists():
            raise VideoError(f"{self.source} does not exist; check the path (looked from {Path.cwd()})")
        elif Path(self.source).is_dir():
            raise VideoError(f"{self.source} is a folder; give a video file in it")
        return av.open(address, format=kind, timeout=_TIMEOUT, metadata_errors="replace")

    def _frames(self, av: Any, container: Any) -> Iterator[Frame]:
        if not container.streams.video:
            raise VideoError(f"{self.source} has no pictures; give a video")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        start = time = None
        shown = 0.0  # seconds that the last frame is shown for
        for packet in container.demux(stream):
            try:
                decoded = packet.decode()
            except av.error.InvalidDataError:
                self.damaged += 1
                continue
            for frame in decoded:
                now = self.num_frames / rate if frame.time is None else frame.time
                start = now if start is None else start
                time, index = now - start, self.num_frames
                shown = float((frame.duration or 0) * (frame.time_base or 0))
                if self.seconds is not None and time >= self.seconds:
                    return
                self.num_frames += 1
                if index % self.every == 0:
                    yield Frame(index=index, seconds=round(time, 6), image=_upright(frame))
        if time is None:
            raise VideoError(f"{self.source} has no frames that can be decoded; record or copy it again")
        length = _length(av, container, stream)
        if length is not None and time + max(shown, 2 / rate) + 0.25 < length:
            raise VideoError(f"{self.source} breaks off after {time:.1f} of {length:.1f} s: it is cut short or damaged")


def _length(av: Any, container: Any, stream: Any) -> float | None:
    """Seconds that the pictures are said to last; None where they are not, as of a camera."""
    if stream.duration is not None:
        return float(stream.duration * stream.time_base)
    if container.duration is not None and len(container.streams) == 1:
        return float(container.duration / av.time_base)
    return None


def _upright(frame: Any) -> NDArray[np.uint8]:
    """As a player shows it: phones store how they were held."""
    image: NDArray[np.uint8] = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
