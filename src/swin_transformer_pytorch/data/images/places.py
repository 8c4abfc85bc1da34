"""Where the images are that a tool's annotations speak of, by whatever path they had on its machine."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from ...names import composed
from .band_headers import input_size
from .files import INPUT_SUFFIXES, find_images

_UPLOADED = re.compile(r"^[0-9a-f]{8}-")  # before the name of a file that was uploaded to Label Studio


class Images:
    """The images below a folder, found by name or by name without ending; masks in Segmentation* folders are none.

    Arrays (.npy) count as images; of a name without ending, an image goes before an array.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.used: set[Path] = set()
        self._all = [
            path
            for path in map(Path, find_images(root, INPUT_SUFFIXES))
            if not path.parent.name.startswith("Segmentation")
        ]
        self._by_name: dict[str, list[Path]] = {}
        for path in self._all:
            for key in (path.name, path.stem):
                self._by_name.setdefault(composed(key), []).append(path)

    def find(self, name: str, near: Path) -> str:
        """The path below the root of the image whose path is most like `name`, and then like that of the folder `near`.

        Where there is none it is `name`, for the data set to miss it or to refuse a way out of the root.

        Raises:
            ValueError: two are as like.
        """
        wanted = PurePosixPath(name.replace("\\", "/"))

        def likeness(path: Path) -> tuple[int, bool, int, bool]:
            ends = zip(reversed(path.parts), reversed(wanted.parts), strict=False)
            same = next((index for index, (one, other) in enumerate(ends) if one != other), len(wanted.parts))
            return same, path.parent == near, len({*path.parts} & {*near.parts}), not _is_array(path)

        found = sorted(self._by_name.get(composed(wanted.name), []), key=likeness)
        if not found:
            return wanted.as_posix()
        if len(found) > 1 and likeness(found[-1]) == likeness(found[-2]):
            raise ValueError(f"{name!r:.200} could be {found[-1]} or {found[-2]}; rename one")
        self.used.add(found[-1])
        return found[-1].relative_to(self.root).as_posix()

    def find_uploaded(self, data: Mapping[str, Any]) -> str:
        """That of a Label Studio task's data: its address's last part, as it is or as it was before it was uploaded.

        Raises:
            ValueError: it names no image, or two are as like.
        """
        texts = [data[key] for key in ("image", "img", *data) if isinstance(data.get(key), str)]
        if not texts:
            raise ValueError("its data names no image")
        names = [_path_in(text) for text in texts]
        name = next((one for one in names if Path(one).suffix.lower() in INPUT_SUFFIXES), names[0])
        near = self.root / "images"
        found = self.find(name, near)
        return (
            found if (self.root / found.lstrip("/")).is_file() else self.find(_UPLOADED.sub("", Path(name).name), near)
        )

    def size(self, file_name: str) -> tuple[int, int]:
        """(height, width) of an image that `find` named; an `ImageError` where it cannot be read."""
        return input_size(self.root / file_name)

    def unannotated(self) -> int:
        """How many images in the folders of those that were found have not been."""
        folders = {(path.parent, _is_array(path)) for path in self.used}  # arrays beside images are none of theirs
        return sum((path.parent, _is_array(path)) in folders and path not in self.used for path in self._all)


def _is_array(path: Path) -> bool:
    return path.suffix.lower() == ".npy"


def _path_in(address: str) -> str:
    """The path that an address has, or that its query asks for."""
    parts = urlsplit(address)
    return parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
