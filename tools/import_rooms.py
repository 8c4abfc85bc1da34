"""The contract of `make check` on imports: one table says which room of the package may import which.

A room is a module or folder of a container, the package itself or a folder of it. The table has a line for each of its
rooms, "room -> others"; one that is missing, or named without being there, breaks the contract too, and so does any
circle of imports, between rooms or inside them. Imports inside functions and for types alone count as well.
"""

from __future__ import annotations

from typing import Any, cast

import grimp
from importlinter import Contract, ContractCheck, fields, output


class RoomsContract(Contract):
    """Fields in pyproject.toml:

    container: the package whose rooms these are.
    ground: rooms that every other may import, and that import nothing but each other.
    when_called: lines "room -> room" of imports that are in no table and close no circle, since they stand inside
        functions; a test sees that loading the one does not load the other.
    table: lines "room -> room, room.module, *": what each may import; "*" is everything, and a dotted name stands for
        that module alone and what is inside it.
    """

    type_name = "rooms"

    container = fields.StringField()
    ground = fields.ListField(subfield=fields.StringField(), required=False)
    when_called = fields.ListField(subfield=fields.StringField(), required=False)
    table = fields.ListField(subfield=fields.StringField())

    def check(self, graph: grimp.ImportGraph, verbose: bool) -> ContractCheck:
        container = cast(str, self.container)
        ground = set(cast("list[str] | None", self.ground) or ())
        allowed = {room: ground | targets for room, targets in map(_parse, cast("list[str]", self.table))}
        allowed |= dict.fromkeys(ground, ground)
        # The package's own lazily imported names are no room's.
        for imported in graph.find_modules_directly_imported_by(container):
            graph.remove_import(importer=container, imported=imported)
        rooms = {child.rpartition(".")[2] for child in graph.find_children(container)}
        problems = [f"{room} is not in the table" for room in sorted(rooms - allowed.keys())]
        problems += [f"{room} is in the table and not in {container}" for room in sorted(allowed.keys() - rooms)]
        for room, targets in map(_parse, cast("list[str] | None", self.when_called) or ()):
            here = f"{container}.{room}"
            for importer in {here} | graph.find_descendants(here):
                for imported in graph.find_modules_directly_imported_by(importer):
                    if imported.removeprefix(f"{container}.").partition(".")[0] in targets:
                        graph.remove_import(importer=importer, imported=imported)
        for importer in sorted(graph.find_descendants(container)):
            for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                if imported.startswith(f"{container}.") and not _may(importer, imported, container, allowed):
                    (line, *_) = graph.get_import_details(importer=importer, imported=imported)
                    problems.append(f"{importer} -> {imported} (line {line['line_number']})")
        if "." not in container:  # its rooms' own are among them
            problems += _circles(graph, container)
        return ContractCheck(kept=not problems, metadata={"problems": problems})

    def render_broken_contract(self, check: ContractCheck) -> None:
        for problem in cast("list[str]", check.metadata["problems"]):
            output.print_error(problem, bold=False)


def _parse(line: str) -> tuple[str, set[str]]:
    room, arrow, targets = line.partition("->")
    if not arrow:
        raise ValueError(f"the table's line {line!r} is none: write 'room -> other, other.module'")
    return room.strip(), {target.strip() for target in targets.split(",") if target.strip()}


def _may(importer: str, imported: str, container: str, allowed: dict[str, set[str]]) -> bool:
    here, there = importer.removeprefix(f"{container}."), imported.removeprefix(f"{container}.")
    room = here.partition(".")[0]
    targets = allowed.get(room, {"*"})
    return (
        room == there.partition(".")[0]
        or "*" in targets
        or any(there == target or there.startswith(f"{target}.") for target in targets)
    )


def _circles(graph: Any, package: str) -> list[str]:
    children = sorted(graph.find_children(package))
    found: list[str] = []
    if len(children) > 1:
        breakers = sorted(graph.nominate_cycle_breakers(package))
        found += [f"{importer} -> {imported} closes a circle of imports" for importer, imported in breakers]
    for child in children:
        found += _circles(graph, child)
    return found
