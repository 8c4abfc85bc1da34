"""Parts of COCO's dictionary: some classes, or the images of training or validation alone."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from ..choice import ClassChoice, choose_classes
from ..errors import some
from ..held_out import Split, part_of

_log = logging.getLogger(__name__)


def with_classes(document: dict[str, Any], choice: ClassChoice, path: Path, *, strict: bool) -> dict[str, Any]:
    """The dictionary with the classes of a choice, see `choose_classes`; what that leaves out is logged by count."""
    categories = sorted(document["categories"], key=lambda one: one["id"])
    names, index_of = choose_classes([one["name"] for one in categories], choice, of=path, strict=strict)
    new = {one["id"]: index for one, index in zip(categories, index_of, strict=True)}
    name_of = {one["id"]: one["name"] for one in categories}
    ids = [one["category_id"] for one in document["annotations"]]
    left_out = Counter(name_of[number] for number in ids if new[number] is None)
    say_left_out(path, left_out, "data.classes")
    annotations = [
        one | {"category_id": index + 1}
        for one in document["annotations"]
        if (index := new[one["category_id"]]) is not None
    ]
    kept = [{"id": index, "name": name} for index, name in enumerate(names, start=1)]
    return document | {"annotations": annotations, "categories": kept}


def say_left_out(path: Path, left_out: Counter[str], why: str) -> None:
    """Logs which classes' objects are left out, the most first, if there are any."""
    if left_out:
        listed = some([f"{name} {count:,}" for name, count in left_out.most_common()])
        _log.warning("%s: objects left out, as %s has not their class: %s", path, why, listed)


def held_out(document: dict[str, Any], split: Split, path: Path, *, val_fraction: float, seed: int) -> dict[str, Any]:
    """The dictionary with the images that are set apart for validation, or all others; at least one image each.

    Which these are depends on `seed` and on the number of images, in the order of their names.
    """
    images = sorted(document["images"], key=lambda one: one["file_name"])
    places = part_of(
        len(images),
        split,
        of=path,
        val_fraction=val_fraction,
        seed=seed,
        fix="give the data set a part for validation",
    )
    chosen = {images[place]["id"] for place in places}
    return document | {
        "images": [one for one in document["images"] if one["id"] in chosen],
        "annotations": [one for one in document["annotations"] if one["image_id"] in chosen],
    }
