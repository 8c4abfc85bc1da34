"""What can be done with the result of any task: to draw it, and to make a table of it."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..extras import require
from ..whole import replacing

if TYPE_CHECKING:
    from PIL import Image


class Shown(ABC):
    """A result that can be drawn and put into a table."""

    def plot(self, image: Any) -> Image.Image:
        """The image with this result on it or beneath it, as `visualize.overlay` draws it.

        Args:
            image: the one that the result is of: a file's path or bytes, a PIL image, a uint8 array (H, W) or
                (H, W, 3), or a tensor (C, H, W).

        Raises:
            ValueError: it has another size, or cannot be read.
        """
        from ..visualize import overlay

        return overlay(image, self)  # type: ignore[arg-type]

    def save(self, image: Any, path: str | os.PathLike[str]) -> None:
        """Saves what `plot` draws; the path's ending is the format, and its folder is made where it is missing.

        Raises:
            ValueError: the ending is no picture's, or as `plot`.
        """
        from ..visualize import annotate
        from ..visualize.pictures import check_ending

        path = Path(path)
        check_ending(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            annotate(image, self, temporary)  # type: ignore[arg-type]

    def to_pandas(self) -> Any:
        """A `pandas.DataFrame` with the columns of `columns()`.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        return require("pandas", extra="tables").DataFrame(self.columns())

    @abstractmethod
    def columns(self) -> dict[str, Any]:
        """The result as the columns of a table, of equal length."""

    @abstractmethod
    def texts(self) -> list[str]:
        """What it says in words, such as "cat 93.1%", the best or largest first."""
