"""One damaged file and how it is read: run in a process of its own, and judged."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

SECONDS, PEAK_BYTES = 20, 2 << 30  # of work, not of waiting for other processes
# Where a process is stopped, so that one bomb does not take the machine with it.
MOST_BYTES = 4 << 30
LONGEST_MESSAGE = 6000
FAULTS = ("CRASH", "HANG", "PEAK", "TRACEBACK", "SILENT", "WRONG", "UNCLEAR")


class Silent(Exception):
    """A damaged file was read as something else than was in it, and nothing was said."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file to read.

    Attributes:
        what: what was done to it.
        read: reads it by the package's own entry points; raises `Silent` where what it gives is not right.
        named: a message must name one of these: the file, or what is in it.
        intact: whether it must be read.
    """

    what: str
    read: Callable[[], None]
    named: tuple[str, ...]
    intact: bool = False


# Makes the case of a seed in a folder of its own.
Maker = Callable[[random.Random, Path], Case]


class Outcome(NamedTuple):
    """What came of a case: "read", "refused" or one of `FAULTS`; what was done, what was said, and what it took."""

    verdict: str
    what: str
    said: str = ""
    peak: int = 0
    seconds: float = 0.0


def judge(case: Case) -> Outcome:
    """Reads a case in this process."""
    with warnings.catch_warnings(action="ignore"):
        try:
            case.read()
        except Silent as error:
            return Outcome("SILENT", case.what, str(error))
        except UnicodeError:
            return Outcome("TRACEBACK", case.what, traceback.format_exc())
        except (ValueError, OSError) as error:
            said = str(error)
            if case.intact:
                return Outcome("WRONG", case.what, said)
            clear = any(name in said for name in case.named) and len(said) <= LONGEST_MESSAGE
            return Outcome("refused" if clear else "UNCLEAR", case.what, said if clear else traceback.format_exc())
        except Exception:
            return Outcome("TRACEBACK", case.what, traceback.format_exc())
    return Outcome("read", case.what)


def start(make: Maker, chance: random.Random, folder: Path) -> int:
    """Makes and reads a case in a process of its own, whose number it gives; `ended` says what came of it."""
    process = os.fork()
    if process:
        return process
    try:
        folder.mkdir()
        with warnings.catch_warnings(action="ignore"):
            case = make(chance, folder)
        note = folder / "outcome.json"
        note.write_text(json.dumps(Outcome("CRASH", case.what)))
        with open(os.devnull, "w") as nowhere:  # decoders write to it by themselves
            os.dup2(nowhere.fileno(), sys.stderr.fileno())
        # The system's own end of a process that takes too long, whatever code it is in.
        signal.signal(signal.SIGPROF, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(5 * SECONDS)  # it may wait without working
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MOST_BYTES,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        Path("/proc/self/clear_refs").write_text("5")  # what making it took does not count
        before, begun = _peak_bytes(), time.process_time()
        outcome = judge(case)
        outcome = outcome._replace(peak=_peak_bytes() - before, seconds=time.process_time() - begun)
        note.write_text(json.dumps(outcome))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def ended(folder: Path, status: int) -> Outcome:
    """What came of the process that `start` started, by its exit status."""
    outcome = Outcome(*json.loads((folder / "outcome.json").read_text()))
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        verdict = "HANG" if number in (signal.SIGALRM, signal.SIGPROF) else "CRASH"
        return outcome._replace(verdict=verdict, said=signal.Signals(number).name)
    too_large = outcome.peak > PEAK_BYTES and outcome.verdict in ("read", "refused")
    return outcome._replace(verdict="PEAK") if too_large else outcome


def _peak_bytes() -> int:
    """The most memory that this process has had; its own measure, as `ru_maxrss` cannot be set back."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def damaged(content: bytes, chance: random.Random, *, most: int = 4) -> tuple[bytes, str]:
    """Bytes with bits flipped, pieces cut out, doubled or put in, or the end cut off, and what was done.

    Headers and ends are a small part of a file, and the one that matters: half of the places lie there.
    """
    changed, done = bytearray(content), []
    for _ in range(chance.randint(1, most)):
        size = len(changed)
        if not size:
            break
        spots = (chance.randrange(size), chance.randrange(min(size, 300)), size - 1 - chance.randrange(min(size, 600)))
        place, length = chance.choice(spots), chance.choice((1, 4, 50, 300))
        piece = bytes(changed[place : place + length])
        kind = chance.choice(("flip", "flip", "cut", "double", "insert", "zero", "end"))
        if kind == "flip":
            changed[place] ^= 1 << chance.randrange(8)
        elif kind == "end":
            del changed[place:]
        else:
            replaced = {"cut": b"", "double": piece * 2, "insert": chance.randbytes(length) + piece}
            changed[place : place + length] = replaced.get(kind, bytes(len(piece)))
        done.append(f"{kind} {place}")
    return bytes(changed), ", ".join(done)


def nested(depth: int, *, key: str | None = None, inner: object = None) -> object:
    """Lists, or objects of one key, in each other."""
    for _ in range(depth):
        inner = [inner] if key is None else {key: inner}
    return inner


def replaced_anywhere(tree: object, value: object, chance: random.Random) -> str:
    """Puts `value` in the place of something inside a tree of dicts and lists, or takes a key away; says where."""
    where: list[str] = []
    while True:
        assert isinstance(tree, dict | list)
        key = chance.choice(list(tree)) if isinstance(tree, dict) else chance.randrange(len(tree))
        where.append(str(key))
        inner = tree[key]  # type: ignore[index]
        if not (isinstance(inner, Mapping | list) and inner) or chance.random() < 0.15:
            break
        tree = inner
    if value is Gone:
        del tree[key]  # type: ignore[arg-type]
    else:
        tree[key] = value  # type: ignore[index]
    return ".".join(where)


class Gone:
    """Stands for a key that is taken away."""
