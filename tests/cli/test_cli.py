"""The command itself: help without torch, exit codes, and messages instead of tracebacks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from swin_transformer_pytorch import __version__, cli
from swin_transformer_pytorch.backbone.config import ConfigError
from swin_transformer_pytorch.commands import evaluate, models
from swin_transformer_pytorch.commands.errors import UsageError

_HEAVY = ("torch", "torchvision", "lightning", "matplotlib", "huggingface_hub", "transformers", "timm", "PIL")


def _python(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    command = [sys.executable, *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, **options)  # type: ignore[call-overload]


def test_help_and_listings_load_nothing_heavy() -> None:
    script = f"""
import sys
from swin_transformer_pytorch.cli import COMMANDS, main
lines = [["--help"], ["--version"], ["models"], ["models", "--json"], ["models", "--name", "tiny"], ["nonsense"]]
for line in [*lines, *([name, "--help"] for name in COMMANDS), ["train", "demo_classification", "--print-config"]]:
    main(line)
    heavy = [module for module in {_HEAVY!r} if module in sys.modules]
    assert not heavy, (line, heavy)
"""
    done = _python("-W", "error", "-c", script)
    assert done.returncode == 0, done.stderr


def test_runs_as_a_module() -> None:
    done = _python("-m", "swin_transformer_pytorch", "--version")
    assert (done.returncode, done.stdout) == (0, f"swin {__version__}\n")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    script = "import sys; from swin_transformer_pytorch.cli import main; sys.exit(main(['models', '--json']))"
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=writer, stderr=subprocess.PIPE, env=environment, timeout=120
    )
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == cli.EXIT_BROKEN_PIPE


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_overview_names_every_command(swin, words) -> None:
    outcome = swin(*words)
    assert outcome.code == 0
    assert all(f"  {name} " in outcome.out for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_each_command_explains_itself(swin, name) -> None:
    outcome = swin(name, "--help")
    assert outcome.code == 0
    assert f"usage: swin {name}" in outcome.out
    assert "type: <class" not in outcome.out


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["modles"], "did you mean models?"),
        (["xyzzy"], "use one of demo, predict"),
        (["models", "--nmae", "x"], "did you mean --name?"),
        (["predict"], "required: paths"),
        (["convert", "a.pth", "b.pth"], "required: --to"),
        (["convert", "a.pth", "b.pth", "--to", "tensorflow"], "choose from"),
        (["predict", "a.jpg", "--top-k", "0"], "--top-k"),
        (["predict", "a.jpg", "--batch-size=many"], "--batch-size"),
        (["train"], "required: recipe ("),
        (["train", "demo_clasification"], "did you mean demo_classification"),
        (["train", "demo_classification", "--optimizer.lt", "1"], "did you mean optimizer.lr?"),
        (["train", "demo_classification", "--optimizer.lr"], "--optimizer.lr has no value"),
        (["models", "--name", "swin_tini"], "did you mean swin_tiny_patch4_window7_224"),
    ],
)
def test_a_users_mistake_is_one_line_and_code_2(swin, words, hint) -> None:
    outcome = swin(*words)
    assert outcome.code == cli.EXIT_USAGE
    assert outcome.out == ""
    assert outcome.err.startswith("swin: error: ")
    assert outcome.err.count("\n") == 1
    assert hint in outcome.err


def _raising(error: BaseException):
    def run(_options) -> int:
        raise error

    return run


def test_debug_shows_the_traceback_of_a_users_mistake(swin, monkeypatch) -> None:
    monkeypatch.setattr(models, "run", _raising(ConfigError("depths=() is not possible")))
    assert swin("models").err == "swin: error: depths=() is not possible\n"
    monkeypatch.setenv("SWIN_DEBUG", "1")
    with pytest.raises(ConfigError):
        swin("models")


def test_a_missing_file_is_the_users_mistake(swin, monkeypatch) -> None:
    monkeypatch.setattr(models, "run", _raising(FileNotFoundError(2, "No such file or directory", "gone.yaml")))
    outcome = swin("models")
    assert outcome.code == cli.EXIT_USAGE
    assert "gone.yaml" in outcome.err


@pytest.mark.parametrize("error", [TypeError("a bug"), AssertionError("a bug"), OSError("no file named")])
def test_a_bug_keeps_its_traceback(swin, monkeypatch, error) -> None:
    monkeypatch.setattr(models, "run", _raising(error))
    with pytest.raises(type(error)):
        swin("models")


def test_a_value_error_of_another_package_is_a_bug(swin, monkeypatch) -> None:
    monkeypatch.setattr(models, "run", lambda _options: int("seven"))
    with pytest.raises(ValueError, match="seven"):
        swin("models")


def test_an_interrupt_has_its_own_code(swin, monkeypatch) -> None:
    monkeypatch.setattr(models, "run", _raising(KeyboardInterrupt()))
    outcome = swin("models")
    assert outcome.code == cli.EXIT_INTERRUPTED
    assert "Traceback" not in outcome.err


def test_choices_written_out_for_speed_are_the_real_ones() -> None:
    from swin_transformer_pytorch.data.classification.source import ClassificationKind
    from swin_transformer_pytorch.data.detection.source import DetectionKind
    from swin_transformer_pytorch.data.panoptic.source import PanopticKind
    from swin_transformer_pytorch.data.segmentation.source import SegmentationKind
    from swin_transformer_pytorch.models.registry import TASKS

    assert models.TASKS == TASKS
    kinds = [get_args(kind) for kind in (ClassificationKind, DetectionKind, PanopticKind, SegmentationKind)]
    assert set(evaluate.KINDS) == set().union(*kinds)
    assert set(evaluate.KINDS) == {kind for kinds in evaluate.KINDS_OF_TASK.values() for kind in kinds}
    assert set(evaluate.KINDS_OF_TASK) == set(TASKS)


def test_usage_errors_are_value_errors() -> None:
    assert issubclass(UsageError, ValueError)
