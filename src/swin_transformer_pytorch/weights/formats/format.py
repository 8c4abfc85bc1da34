"""What a checkpoint format is: one `Format` record in one file of this package, listed in its `__init__`.

No module here imports torch before there is a tensor: the command line lists the formats.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from ...sizes import Size

if TYPE_CHECKING:
    from torch import Tensor

StateDict: TypeAlias = "dict[str, Tensor]"


class FormatError(ValueError):
    """A state dict of no known format, or one that the wanted format has no place for."""


@dataclass(frozen=True, kw_only=True)
class Format:
    """The names that one library gives to the tensors of a Swin model, and the way there and back.

    Attributes:
        name: what users call it.
        matches: whether these keys are in it; those of a whole model come without `backbone.`.
        read: a classifier's or backbone's parameters to the official names; None where they are another
            architecture's.
        write: `read` undone, with what the library's strict loading wants to see. It is given the window (height,
            width), or None where nothing tells it.
        read_heads: a whole detector's or segmenter's neck and heads to the official names; None where they are those.
        write_whole: such a model from its backbone, without the prefix, and the rest; None where the library has no
            dense models, and so no norms on a backbone's maps either.
        container: the key of the state dict in the torch files of its code, or None where those hold it bare.
        foreign: whose other architecture it is of; empty where it is the paper's.
        module: the module of this package that such weights fit.
        caution: what the library's models answer otherwise than ours of the same weights, if they do: a sentence,
            given the pixels (height, width) that a window of the last stage covers.
    """

    name: str
    matches: Callable[[set[str]], bool]
    read: Callable[[StateDict], StateDict] | None = None
    write: Callable[[StateDict, Size | None], StateDict] | None = None
    read_heads: Callable[[StateDict], StateDict] | None = None
    write_whole: Callable[[StateDict, StateDict], StateDict] | None = None
    container: str | None = None
    foreign: str = ""
    module: str = ""
    caution: Callable[[Size], str] | None = None
