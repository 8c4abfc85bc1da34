"""SIGTERM and SIGINT end a run well: the step is finished and saved first. A second one ends it at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class RunStoppedError(Exception):
    """A signal has ended the run, after all was saved."""


class StopSignals:
    """Notes the first SIGTERM or SIGINT, for the run to end after its step.

    Attributes:
        received: the signal, or None.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._process = os.getpid()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within it, signals are noted. Other threads than the main one cannot do so, and leave them as they are."""
        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in _SIGNALS}
            self.watch()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def watch(self) -> None:
        """Also called when Lightning has put its own handler there, which would end the run without saving."""
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(self._process, number)
        self.received = signal.Signals(number)
        # Not print: it may be in the middle of another one.
        os.write(2, f"\n{self.received.name}: finishing the step to save it; once more stops at once\n".encode())


def leave_stopping_to_the_run(worker: int) -> None:
    """For processes that load images: only the run itself ends them.

    A terminal or a cluster signals all processes of a run, and the step that is to be finished needs its images.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_when_the_run_says_so, daemon=True).start()


def _end_when_the_run_says_so() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)
