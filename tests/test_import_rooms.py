"""The contract on imports, on graphs made here: it must find what it is for."""

from __future__ import annotations

import grimp
import pytest
from tools.import_rooms import RoomsContract

TABLE = ["low ->", "middle -> low", "high -> middle, low.part", "top -> *"]


def problems(
    *imports: tuple[str, str], table: list[str] = TABLE, ground: tuple[str, ...] = (), **more: object
) -> list[str]:
    graph = grimp.ImportGraph()
    for module in ("p", "p.low", "p.low.part", "p.low.other", "p.middle", "p.high", "p.top", "p.ground"):
        graph.add_module(module)
    for importer, imported in imports:
        graph.add_import(importer=importer, imported=imported, line_number=3, line_contents="")
    contract = RoomsContract(
        name="rooms",
        session_options={},
        contract_options={"container": "p", "ground": [*ground], "table": table, **more},
    )
    found: list[str] = contract.check(graph, verbose=False).metadata["problems"]
    return [problem for problem in found if problem != "ground is not in the table"]


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("p.middle", "p.low.part"),
        ("p.high", "p.middle"),
        ("p.high", "p.low.part"),
        ("p.low.part", "p.low.other"),
        ("p.top", "p.low.other"),
        ("p", "p.top"),
    ],
)
def test_what_the_table_allows_is_kept(importer: str, imported: str) -> None:
    assert problems((importer, imported)) == []


@pytest.mark.parametrize(
    ("importer", "imported"),
    [
        ("p.low", "p.middle"),
        ("p.low.part", "p.high"),
        ("p.high", "p.low.other"),
        ("p.high", "p.low"),
        ("p.middle", "p.top"),
    ],
)
def test_what_it_does_not_allow_is_named_with_its_line(importer: str, imported: str) -> None:
    assert f"{importer} -> {imported} (line 3)" in problems((importer, imported))


def test_all_may_import_the_ground_and_the_ground_nothing() -> None:
    assert problems(("p.low", "p.ground"), ("p.top", "p.ground"), ground=("ground",)) == []
    assert problems(("p.ground", "p.low"), ground=("ground",)) == ["p.ground -> p.low (line 3)"]


def test_a_room_outside_the_table_and_a_line_without_a_room_are_named() -> None:
    assert problems(table=[*TABLE, "attic -> low"]) == ["attic is in the table and not in p"]
    assert problems(table=TABLE[1:]) == ["low is not in the table"]


def test_an_import_for_when_it_is_called_closes_no_circle_and_allows_no_other() -> None:
    circle = ("p.low.part", "p.middle"), ("p.middle", "p.low")
    assert problems(*circle, when_called=["low -> middle"]) == []
    assert "p.low.part -> p.middle (line 3)" in problems(*circle, when_called=["low -> high"])


def test_a_circle_is_named_even_where_each_import_is_allowed() -> None:
    (found,) = problems(("p.low.part", "p.low.other"), ("p.low.other", "p.low.part"))
    assert "closes a circle" in found
