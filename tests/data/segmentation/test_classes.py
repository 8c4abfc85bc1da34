"""Files of class names as tools and people write them."""

from pathlib import Path

import pytest

from swin_transformer_pytorch.data.errors import DataError
from swin_transformer_pytorch.data.segmentation.classes import read_classes

NAMES = ("background", "cat", "dog")
COLOURS = ((0, 0, 0), (128, 0, 0), (0, 128, 0))
FILES = {
    "plain": ("background\ncat\n\ndog\n", None),
    "comments": ("# classes of the cameras\nbackground\n# animals\ncat\ndog\n", None),
    "colours": ("# r g b name\n0 0 0 background\n128 0 0 cat\n0,128,0,dog\n", COLOURS),
    "CVAT": (
        "# label:color_rgb:parts:actions\nbackground:0,0,0::\ncat:128,0,0:head,tail:\ndog:0,128,0::run\n",
        COLOURS,
    ),
    "Roboflow": ("Pixel Value, Class\n0, background\n1, cat\n2, dog\n", None),
    "Roboflow, closer": ("Pixel Value,Class\n0,background\n1,cat\n2,dog", None),
}


@pytest.mark.parametrize("kind", FILES)
def test_no_header_becomes_a_class(kind: str, tmp_path: Path) -> None:
    text, colours = FILES[kind]
    (tmp_path / "classes.txt").write_text(text)
    classes = read_classes(tmp_path / "classes.txt")
    assert classes.names == NAMES
    assert classes.palette == colours


@pytest.mark.parametrize("rows", ["1, cat\n2, dog", "0, cat\n2, dog", "0, cat\nx, dog", "0, cat\n1,"])
def test_a_table_whose_values_do_not_count_from_0_is_an_error_that_names_the_line(rows: str, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text(f"Pixel Value, Class\n{rows}\n")
    with pytest.raises(DataError, match=r"classes\.txt, line [23] .*count from 0"):
        read_classes(tmp_path / "classes.txt")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("classes.txt", f"{'1' * 5000} 0 0 cat\n"),
        ("classes.txt", f"cat:0,{'1' * 5000},0::\n"),
        ("classes.txt", f"Pixel Value, Class\n{'1' * 10**5}, cat\n"),
        ("classes.txt", f"{'x' * 10**5}\n" * 2),
        ("classes.json", "[" * 100_000),
        ("classes.json", '{"a": ' * 100_000),
        ("classes.json", f"[{'1' * 5000}]"),
        ("classes.json", f"[[{'1, ' * 10**5}1]]"),
        ("classes.json", f'[{{"name": "{"x" * 10**5}", "color": [{"1, " * 10**5}1]}}]'),
        ("classes.json", f'{{"cat": [0, 0, {"1" * 4000}]}}'),
    ],
    ids=range(10),
)
def test_absurd_files_are_a_short_error(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=name) as error:
        read_classes(tmp_path / name)
    assert len(str(error.value)) < 1000
