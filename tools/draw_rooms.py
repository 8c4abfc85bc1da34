"""Draws docs/images/rooms.svg from the contract on imports; with --check, only says whether it is current."""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "rooms.svg"
WIDTH, BOX, HIGH, GAP, ROW = 900, 124, 34, 14, 84
TOP = ("benchmark", "demo", "doctor", "commands", "cli", "__main__")


def read_rooms() -> tuple[list[str], dict[str, list[str]]]:
    """The ground floor, and for each other room those that it may import."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    contract = next(one for one in contracts if one["name"] == "rooms of the package")
    rooms: dict[str, list[str]] = {}
    for line in contract["table"]:
        room, _, targets = line.partition("->")
        named = (target.strip().partition(".")[0] for target in targets.split(","))
        rooms[room.strip()] = list(dict.fromkeys(name for name in named if name and name != "*"))
    return contract["ground"], rooms


def draw(ground: list[str], rooms: dict[str, list[str]]) -> str:
    """Each room in a row above all that it may import; arrows that others imply are left out."""
    below = {room: reach(room, rooms) for room in rooms}
    levels = {room: level(room, rooms) for room in rooms if room not in TOP}
    rows = [[room for room in rooms if levels.get(room) == number] for number in range(max(levels.values()) + 1)]
    rows.append([room for room in TOP if room in rooms and room != "__main__"])
    height = ROW * (len(rows) + 1)
    places: dict[str, tuple[float, float]] = {}
    for number, row in enumerate(rows):
        left = (WIDTH - len(row) * (BOX + GAP) + GAP) / 2
        for place, room in enumerate(row):
            places[room] = (left + place * (BOX + GAP), height - ROW * (number + 2) + (ROW - HIGH) / 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        'font-size="14" text-anchor="middle">',
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#6e7781"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
    ]
    for room, (x, y) in places.items():
        for target in rooms[room]:
            if any(target in below[other] for other in rooms[room] if other != target):
                continue
            to_x, to_y = places[target]
            parts.append(
                f'<line x1="{x + BOX / 2:.0f}" y1="{y + HIGH:.0f}" x2="{to_x + BOX / 2:.0f}" y2="{to_y - 2:.0f}" '
                'stroke="#6e7781" marker-end="url(#a)"/>'
            )
    for room, (x, y) in places.items():
        fill = "#fff8c5" if room in TOP else "#ddf4ff"
        parts.append(box(x, y, BOX, room, fill))
    wide = WIDTH - 80
    parts.append(box(40, height - ROW + (ROW - HIGH) / 2, wide, "ground floor: " + ", ".join(ground), "#dafbe1"))
    return "\n".join([*parts, "</svg>", ""])


def box(x: float, y: float, width: float, text: str, fill: str) -> str:
    return (
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{HIGH}" rx="5" fill="{fill}" stroke="#57606a"/>'
        f'<text x="{x + width / 2:.0f}" y="{y + HIGH / 2 + 5:.0f}" fill="#1f2328">{text}</text>'
    )


def level(room: str, rooms: dict[str, list[str]]) -> int:
    return max((level(target, rooms) + 1 for target in rooms[room]), default=0)


def reach(room: str, rooms: dict[str, list[str]]) -> set[str]:
    return {further for target in rooms[room] for further in ({target} | reach(target, rooms))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the picture is not current")
    options = parser.parse_args()
    drawn = draw(*read_rooms())
    if options.check:
        if PICTURE.read_text(encoding="utf-8") != drawn:
            print(f"{PICTURE} is not current: run python tools/draw_rooms.py", file=sys.stderr)
            return 1
        return 0
    PICTURE.write_text(drawn, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
