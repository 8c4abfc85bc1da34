"""What README and the documentation show is run here: Python snippets, `swin` commands, make targets, pip extras.

A block under `<!-- network -->` (it would download) or `<!-- long -->` is only checked: Python must compile, and a
command line must parse, its recipe keys included. A page's Python blocks share their names, in order.
"""

import glob
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from swin_transformer_pytorch import cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:^<!-- (?P<marker>\w+) -->\n)?^```(?P<language>python|sh)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
MARKERS = (None, "network", "long")


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    runs: bool
    where: str


def blocks(page: Path, language: str) -> list[Block]:
    source = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(source):
        line = source.count("\n", 0, match.start("text"))
        where = f"{page.relative_to(ROOT)}:{line}"
        assert match["marker"] in MARKERS, f"{where}: unknown marker {match['marker']}"
        if match["language"] == language:
            found.append(Block(language, match["text"], match["marker"] is None, where))
    return found


def pages_with(language: str) -> list[Any]:
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in PAGES if blocks(page, language)]


@pytest.fixture
def page_folder(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the snippets name."""
    from swin_transformer_pytorch.models.registry import create_model

    random = np.random.default_rng(0)
    for path in ("photo.jpg", "new.jpg", "photos/cat/1.jpg", "photos/dog/1.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (48, 64, 3), np.uint8)).save(tmp_path / path)
    (tmp_path / "my_recipe.yaml").write_text("model: {name: swin_tiny_patch4_window7_224}\n", encoding="utf-8")
    if "my_weights.pth" in page.read_text(encoding="utf-8"):
        torch.save(create_model("swin_tiny_patch4_window7_224").state_dict(), tmp_path / "my_weights.pth")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize("page", pages_with("python"))
def test_python_snippets(page: Path, page_folder: Path) -> None:
    names: dict[str, Any] = {"__name__": "snippet"}
    for block in blocks(page, "python"):
        code = compile(block.text, block.where, "exec")
        if block.runs:
            exec(code, names)  # noqa: S102


def commands(block: Block) -> Iterator[list[str]]:
    for line in block.text.splitlines():
        words = shlex.split(line, comments=True)
        if words:
            yield words


@pytest.mark.parametrize("page", pages_with("sh"))
def test_commands(page: Path, page_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(page, "sh"):
        for program, *words in commands(block):
            where = f"{block.where}: {shlex.join([program, *words])}"
            if program == "make":
                assert re.search(rf"^{words[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), where
            elif program == "pip":
                check_pip(words, where)
            elif program == "python":
                assert (ROOT / words[0]).is_file(), where
            elif program == "swin" and block.runs:
                words = [expanded for word in words for expanded in sorted(glob.glob(word)) or [word]]
                assert cli.main(words) == 0, where
                capsys.readouterr()
            elif program == "swin":
                check_parses(words, where)
            else:
                pytest.fail(f"{where}: no way to check {program!r} is known")


def check_pip(words: list[str], where: str) -> None:
    assert words[:2] == ["install", "-e"], where
    match = re.fullmatch(r"\.(?:\[(\w+)\])?", words[2])
    assert match, where
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert match[1] is None or match[1] in extras, where


def check_parses(words: list[str], where: str) -> None:
    name, *rest = words
    assert name in cli.COMMANDS, where
    command = importlib.import_module(f"swin_transformer_pytorch.commands.{name}")
    if name == "train":
        # Its options are the recipe's keys, which only the recipe can check.
        assert cli.main([name, *rest, "--print-config"]) == 0, where
    else:
        rewrite = getattr(command, "rewrite", list)
        cli.build_parser(name, command).parse_args(rewrite(rest))


def test_every_page_is_seen() -> None:
    assert sum(len(blocks(page, language)) for page in PAGES for language in ("python", "sh")) >= 30
