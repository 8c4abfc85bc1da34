"""Some classes of COCO's panoptic dictionary, or several as one."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Any

from ..choice import ClassChoice, choose_classes
from ..errors import DataError, some

NO_CATEGORY = 0
"""The category of segments whose class a choice leaves out; their pixels are void."""

_log = logging.getLogger(__name__)


def with_classes(document: dict[str, Any], choice: ClassChoice, path: Path, *, strict: bool) -> dict[str, Any]:
    """The dictionary with the classes of a choice, see `choose_classes`; what that leaves out is logged by count.

    Raises:
        DataError: a class of things and one of stuff would become one; or see `choose_classes`.
    """
    categories = sorted(document["categories"], key=lambda one: one["id"])
    names, index_of = choose_classes([one["name"] for one in categories], choice, of=path, strict=strict)
    kept = [
        _merged(name, [one for one, place in zip(categories, index_of, strict=True) if place == index], index + 1, path)
        for index, name in enumerate(names)
    ]
    new = {
        one["id"]: NO_CATEGORY if index is None else index + 1 for one, index in zip(categories, index_of, strict=True)
    }
    name_of = {one["id"]: one["name"] for one in categories}
    old = [one["category_id"] for entry in document["annotations"] for one in entry["segments_info"]]
    left_out = Counter(name_of[number] for number in old if new[number] == NO_CATEGORY)
    if left_out:
        listed = some([f"{name} {count:,}" for name, count in left_out.most_common()])
        _log.warning("%s: segments whose pixels are void, as data.classes has not their class: %s", path, listed)
    annotations = [
        entry | {"segments_info": [one | {"category_id": new[one["category_id"]]} for one in entry["segments_info"]]}
        for entry in document["annotations"]
    ]
    return document | {"annotations": annotations, "categories": [one for one in kept if one is not None]}


def _merged(name: str, categories: list[dict[str, Any]], number: int, path: Path) -> dict[str, Any] | None:
    """The category that some become; None of none, as a part of a data set may lack some."""
    if not categories:
        return None
    if len({one["isthing"] for one in categories}) > 1:
        kinds = [f"{one['name']} ({'thing' if one['isthing'] else 'stuff'})" for one in categories]
        raise DataError(
            f"data.classes makes {name!r:.60} of things and of stuff of {path}: {some(kinds)}; merge either kind by "
            "itself"
        )
    first = categories[0]
    colour = {} if first.get("color") is None else {"color": first["color"]}
    return {"id": number, "name": name, "isthing": first["isthing"], **colour}
