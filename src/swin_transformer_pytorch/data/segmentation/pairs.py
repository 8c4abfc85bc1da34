"""Which label map belongs to which image: by name, and what the names have at the end."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from ...names import by_name
from ..errors import DataError, some
from ..images.files import INPUT_SUFFIXES, find_images, split_inputs, tell_arrays

_SHOWN = 5


def match(
    images: Path,
    labels: Path,
    suffixes: tuple[str, str | None],
    listed: Collection[str] | None,
    what: str = "label map",
) -> tuple[list[tuple[str, str]], str]:
    """Pairs each image with the PNG of its name, `what` it is called, and says what the latter has at the end."""
    for folder, of in ((images, "images"), (labels, f"{what}s")):
        if not folder.is_dir():
            raise DataError(f"{folder} is not a folder; give the one that holds the {of}")
    maps = {stem(path, labels): path for path in find_images(labels) if path.lower().endswith(".png")}
    name_of = by_name({name: name for name in maps})
    together = images == labels
    stems = {path: stem(path, images).removesuffix(suffixes[0]) for path in _inputs(images, together)}
    ending = _ending(list(stems.values()), maps, together) if suffixes[1] is None else suffixes[1]
    found = [path for path in stems if not (together and ending and stems[path].endswith(ending))]
    if listed is not None:
        found = [path for path in found if stems[path] in listed]
        if missing := sorted({*listed} - {*stems.values()}):
            raise DataError(f"{images} lacks images that are listed: {some(missing, _SHOWN)}; copy them there")
    if not found:
        raise DataError(f"{images} holds no images; add some as PNG, JPEG, TIFF or NPY")
    pairs: dict[str, tuple[str, str]] = {}
    lonely: list[str] = []
    for path in found:
        name = name_of(wanted := f"{stems[path]}{ending}") or wanted
        if name in pairs:
            raise DataError(f"{pairs[name][0]} and {path} would share one {what}; rename or remove one")
        if name in maps:
            pairs[name] = (path, maps[name])
        else:
            lonely.append(f"{path} needs {labels / f'{name}.png'}{_instead(labels, name)}")
    if lonely:
        more = f"\n  and {len(lonely) - _SHOWN} more" if len(lonely) > _SHOWN else ""
        listed_ones = "\n  ".join(lonely[:_SHOWN])
        raise DataError(f"{len(lonely)} of {len(found)} images have no {what}:\n  {listed_ones}{more}")
    return list(pairs.values()), ending


def _inputs(images: Path, together: bool) -> list[str]:
    """The images of a folder, or the arrays where there are none; or where, `together` with label maps, all images are
    PNGs, and each array has some that are called as it is and something at the end.
    """
    taken, arrays = split_inputs(find_images(images, INPUT_SUFFIXES))
    if together and arrays and all(path.lower().endswith(".png") for path in taken):
        pngs, stems = {stem(path, images) for path in taken}, [stem(path, images) for path in arrays]
        if all(one not in pngs and any(png.startswith(one) for png in pngs) for one in stems):
            return arrays
    tell_arrays(images, arrays)
    return taken


def _ending(stems: list[str], maps: Collection[str], together: bool) -> str:
    """What follows the image's name in that of every label map; empty where nothing does, or no one thing."""
    if not stems or (not together and any(stem in maps for stem in stems)):
        return ""
    first = min(stems)
    endings = {name.removeprefix(first) for name in maps if name.startswith(first) and name != first}
    fitting = [end for end in sorted(endings) if all(stem + end in maps for stem in stems if not stem.endswith(end))]
    if len(fitting) > 1:
        raise DataError(
            f"each image has several label maps, whose names end in {some(fitting)}; say which with --data.label_suffix"
        )
    return fitting[0] if fitting else ""


def _instead(labels: Path, name: str) -> str:
    """Says so where a label map lies there as another kind of file."""
    others = sorted(path.name for path in (labels / name).parent.glob(f"{Path(name).name}.*"))
    return f" (there is {others[0]}, which is no PNG)" if others else ""


def stem(path: str, folder: Path) -> str:
    """The path of a file below a folder, without its ending."""
    return Path(path).relative_to(folder).with_suffix("").as_posix()
