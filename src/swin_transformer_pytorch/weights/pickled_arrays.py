"""Pickled dicts of NumPy arrays, as detectron2 publishes its models (.pkl), read without unpickling them.

A pickle is a program that may call anything. Here its instructions that make dicts, lists, tuples, texts, numbers and
arrays are carried out one by one; any other, and any name but those that arrays are pickled with, is an error. No
function that a file names is ever called, NumPy's own included.
"""

from __future__ import annotations

import math
import mmap
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from .containers import RESAVE
from .errors import CheckpointError, DamagedFileError

# A torch file of the old kind is several pickles, and the first is this number.
_TORCH_MAGIC = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"
_NUMBERS = re.compile(r"b1|u1|i[1248]|f[248]")  # those that torch has too
_MOST_DIMENSIONS, _LONGEST, _MOST_INSTRUCTIONS = 8, 1 << 40, 200_000
_WHY = " when it is read, which could run code of the file's maker"

_Kind = TypeVar("_Kind")


def is_pickled_arrays(start: bytes) -> bool:
    """Whether a file that begins so is one pickle, rather than a torch file or anything else."""
    return start[:1] == b"\x80" and start[2 : 2 + len(_TORCH_MAGIC)] != _TORCH_MAGIC


def read_pickled_arrays(path: Path) -> object:
    """What a pickle holds, with tensors for its arrays: the same numbers, in the same type.

    Protocols 2 and later are read, as any version of NumPy writes them.

    Raises:
        CheckpointError: refused, for what it asks for, or for arrays that are larger than the file.
        DamagedFileError: cut short, or no pickle.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        # A map gives no more than it has, whatever length the file claims: nothing is reserved for what is not there.
        return _Program(path, len(content)).run(content)


@dataclass(frozen=True)
class _Global:
    """Something of a module that the file names; nothing but its name is here."""

    name: str


@dataclass
class _DType:
    """`numpy.dtype`: the kind of a number with its bytes, and their order."""

    code: str
    order: str = "<"


@dataclass
class _Array:
    """An array, which a pickle makes empty and fills afterwards."""

    tensor: Tensor | None = None


class _Program:
    """A pickle as it is carried out: a stack of values, and the memo of those that are used again.

    Args:
        path: how messages name the file.
        size: its bytes. Of the numbers in it twice as many are made at most: as bytes from a text, and as a tensor.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._left = 2 * size
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, content: mmap.mmap) -> object:
        try:
            steps = pickletools.genops(content)  # type: ignore[arg-type]  # it has read, readline and tell
            for count, (opcode, argument, _) in enumerate(steps):
                if opcode.name == "STOP":
                    break
                if count >= _MOST_INSTRUCTIONS:  # one of a single byte may make a list
                    raise CheckpointError(
                        f"{self._path} is refused: it has over {_MOST_INSTRUCTIONS:,} instructions, and arrays of a "
                        "model take some ten thousands; fetch it again, from where it was published"
                    )
                self._do(opcode.name, argument)
            return _filled(self._stack.pop())
        except CheckpointError:
            raise
        except Exception as error:  # What a broken pickle raises is not documented.
            why = (str(error).splitlines() or [type(error).__name__])[0].strip()[:160].rstrip(" .:")
            raise DamagedFileError(f"{self._path} is damaged or cut short ({why}): fetch it again") from error

    def _do(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in _LITERALS:
            stack.append(argument)
        elif name in _BYTES:
            stack.append(bytearray(argument))  # whose memory a tensor may have
        elif name in _NEW:
            stack.append(_NEW[name]())
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
            stack.append(tuple(map(_filled, self._pop(name[5:]))))
        elif name in ("APPEND", "APPENDS"):
            items = self._pop("1" if name == "APPEND" else "")
            _of(list, stack[-1]).extend(map(_filled, items))
        elif name in ("SETITEM", "SETITEMS"):
            items = self._pop("2" if name == "SETITEM" else "")
            pairs = zip(items[::2], items[1::2], strict=True)
            # Only texts: other keys could take without end to hash.
            _of(dict, stack[-1]).update({_of(str, key): _filled(value) for key, value in pairs})
        elif name == "GLOBAL":
            stack.append(self._named(argument.replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(self._named(".".join(_of(str, part) for part in self._pop("2"))))
        elif name == "REDUCE":
            called, arguments = self._pop("2")
            stack.append(_CALLS[_of(_Global, called).name](self, *_of(tuple, arguments)))
        elif name == "BUILD":
            (state,) = self._pop("1")
            self._build(stack[-1], state)
        elif name not in ("PROTO", "FRAME"):
            wanted = argument.replace(" ", ".", 1) if name == "INST" else name
            raise self._refused(wanted)

    def _pop(self, count: str) -> list[Any]:
        """That many of the last values; without a number, all since the last mark."""
        start = len(self._stack) - int(count) if count else self._marks.pop()
        if start < 0:
            raise ValueError("it takes more values than it has made")
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _named(self, name: str) -> _Global:
        if name not in _CALLS and name not in _TYPES:
            raise self._refused(name)
        return _Global(name)

    def _build(self, built: object, state: Any) -> None:
        if isinstance(built, _Array):
            _, shape, dtype, is_fortran, data = _of(tuple, state)
            built.tensor = self.tensor(data, dtype, shape, columns_first=bool(is_fortran))
        elif isinstance(built, _DType):
            _, built.order, *described = _of(tuple, state)
            if any(part is not None for part in described[:3]):
                raise self._refused("arrays whose elements have parts", ", which no weights have")
        elif not isinstance(built, dict):  # the attributes of an OrderedDict are no part of it
            raise ValueError(f"a {type(built).__name__} is given a state")

    def tensor(self, data: Any, dtype: Any, shape: Any, *, columns_first: bool) -> Tensor:
        """The numbers of an array, whose bytes they may share."""
        code, shape = _of(_DType, dtype).code, _of(tuple, shape)
        if not _NUMBERS.fullmatch(code):
            raise self._refused(f"an array of {code[:20]!r}", ", which are no numbers that a tensor has")
        if len(shape) > _MOST_DIMENSIONS or not all(type(side) is int and 0 <= side < _LONGEST for side in shape):
            raise ValueError(f"an array has {len(shape)} sides of no possible length")
        if math.prod(shape) * int(code[1:]) != len(_of(bytearray, data)):
            raise ValueError(f"an array of {math.prod(shape):,} numbers has {len(data):,} bytes")
        self.take(len(data))
        stored = np.dtype(code).newbyteorder(dtype.order if dtype.order in ("<", ">") else "=")
        array = np.frombuffer(data, stored) if data else np.empty(0, stored)
        array = array.astype(stored.newbyteorder("="), copy=False)
        array = array.reshape(shape[::-1]).transpose() if columns_first else array.reshape(shape)
        return torch.from_numpy(np.ascontiguousarray(array).reshape(shape))

    def encoded(self, text: Any, encoding: Any) -> bytearray:
        """The bytes that a text stands for in protocol 2."""
        if encoding != "latin1":
            raise ValueError("bytes stand in another encoding than latin1")
        self.take(len(_of(str, text)))
        return bytearray(text, encoding)

    def take(self, size: int) -> None:
        """Counts bytes that are made, for the same ones of the file may be asked for again and again."""
        self._left -= size
        if self._left < 0:
            raise CheckpointError(
                f"{self._path} is refused: its arrays have more bytes than it has; fetch it again, from where it was "
                "published"
            )

    def _refused(self, wanted: str, why: str = _WHY) -> CheckpointError:
        return CheckpointError(f"{self._path} is refused: it asks for {wanted[:100]}{why}; {RESAVE}")


def _of(kind: type[_Kind], value: object) -> _Kind:
    if not isinstance(value, kind):
        raise ValueError(f"a {type(value).__name__} stands where a {kind.__name__} belongs")
    return value


def _filled(value: Any) -> Any:
    """A value, or the tensor that an array has become."""
    return _of(Tensor, value.tensor) if isinstance(value, _Array) else value


def _array(_program: _Program, _kind: object, _shape: object, _code: object) -> _Array:
    return _Array()


def _array_of_buffer(program: _Program, data: object, dtype: object, shape: object, order: object) -> _Array:
    if order not in ("C", "F"):
        raise ValueError("an array has its axes in another order than C's or Fortran's")
    return _Array(program.tensor(data, dtype, shape, columns_first=order == "F"))


def _number(program: _Program, dtype: object, data: object) -> _Array:
    return _Array(program.tensor(data, dtype, (), columns_first=False))


def _dtype(_program: _Program, code: object, *_options: object) -> _DType:
    return _DType(_of(str, code))


def _empty_dict(_program: _Program) -> dict[str, Any]:
    return {}


def _no_bytes(_program: _Program) -> bytearray:
    return bytearray()


_LITERALS = {
    *("BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT"),
    *("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
}
_BYTES = {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}
_NEW: dict[str, Callable[[], object]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}
# What arrays and the dicts around them are pickled with, and what stands in for it.
_CALLS: dict[str, Callable[..., object]] = {
    "numpy.core.multiarray._reconstruct": _array,
    "numpy._core.multiarray._reconstruct": _array,
    "numpy.core.multiarray.scalar": _number,
    "numpy._core.multiarray.scalar": _number,
    "numpy.core.numeric._frombuffer": _array_of_buffer,
    "numpy._core.numeric._frombuffer": _array_of_buffer,
    "numpy.dtype": _dtype,
    "collections.OrderedDict": _empty_dict,
    "_codecs.encode": _Program.encoded,
    "__builtin__.bytes": _no_bytes,
}
_TYPES = {"numpy.ndarray"}
