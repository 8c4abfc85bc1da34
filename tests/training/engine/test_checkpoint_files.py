"""Checkpoints of a run: whole or as before whatever goes wrong, damage is found, and the newest whole one is taken."""

import errno
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swin_transformer_pytorch import whole
from swin_transformer_pytorch.training.engine import checkpoint_files
from swin_transformer_pytorch.training.engine.callbacks import read_history
from swin_transformer_pytorch.training.engine.checkpoint_files import (
    CheckpointFiles,
    holds_run,
    read_newest,
    read_training_checkpoint,
    take_up,
)
from swin_transformer_pytorch.weights.files import CheckpointError, DamagedFileError, read_checkpoint, save_checkpoint


def content(step: int) -> dict[str, Any]:
    recipe = {"trainer": {"checkpoint_every_steps": 7}}
    weights = {"model.w": torch.full((500,), float(step))}
    return {"swin": {}, "recipe": recipe, "loops": {}, "global_step": step, "state_dict": weights}


def save(folder: Path, *steps: int) -> None:
    for step in steps:
        CheckpointFiles().save_checkpoint(content(step), folder / "last.ckpt")


def step_of(path: Path) -> int:
    checkpoint = read_training_checkpoint(path)
    assert torch.equal(checkpoint["state_dict"]["model.w"], torch.full((500,), float(checkpoint["global_step"])))
    return int(checkpoint["global_step"])


def test_a_checkpoint_is_a_plain_torch_file_and_the_one_before_is_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3)
    assert sorted(os.listdir(tmp_path)) == ["last.ckpt", "previous.ckpt"]
    assert (step_of(tmp_path / "last.ckpt"), step_of(tmp_path / "previous.ckpt")) == (3, 2)
    for mmap in (False, True):
        assert torch.load(tmp_path / "last.ckpt", weights_only=True, mmap=mmap)["global_step"] == 3
    with zipfile.ZipFile(tmp_path / "last.ckpt") as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"sha256:")
    CheckpointFiles().save_checkpoint(content(9), tmp_path / "best.ckpt")
    assert step_of(tmp_path / "previous.ckpt") == 2
    assert (tmp_path / "last.ckpt").stat().st_mode & 0o777 == 0o666 & ~whole._umask()


@given(data=st.data())
def test_damage_anywhere_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Flipped bits and cut ends, also in the hash itself: an error, or the content as it was."""
    folder = tmp_path_factory.mktemp("damaged")
    save(folder, 5)
    path = folder / "last.ckpt"
    good = path.read_bytes()
    place = data.draw(st.one_of(st.integers(0, len(good) - 1), st.integers(len(good) - 100, len(good) - 1)))
    bad = good[:place]
    if data.draw(st.booleans()):
        bad += bytes([good[place] ^ (1 << data.draw(st.integers(0, 7)))]) + good[place + 1 :]
    path.write_bytes(bad)
    for read in (read_training_checkpoint, lambda path: read_checkpoint(path).state_dict):
        try:
            found = read(path)
        except DamagedFileError:
            continue
        except CheckpointError as error:  # the first bytes say what kind of file it is
            assert place < 4, error  # noqa: PT017
            continue
        weights = found.get("state_dict", found)
        assert all(torch.equal(tensor, torch.full((500,), 5.0)) for tensor in weights.values())


@pytest.mark.parametrize("name", ["fsync", "chmod", "replace"])
@pytest.mark.parametrize("call", [1, 2])
def test_whatever_fails_while_writing_what_was_whole_remains(
    name: str, call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1, 2)
    save_checkpoint(tmp_path / "model.pth", {"w": torch.ones(3)})
    calls, real = 0, getattr(os, name)

    def failing(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing)
        try:
            save(tmp_path, 3)
        except CheckpointError as error:
            assert "No space left on device" in str(error)  # noqa: PT017
            assert "--resume" in str(error)  # noqa: PT017
    assert {path.name for path in tmp_path.iterdir()} <= {"last.ckpt", "previous.ckpt", "model.pth"}
    assert take_up(tmp_path)["global_step"] in (2, 3)
    assert step_of(tmp_path / "last.ckpt") in (2, 3)


FULL = """
import resource, sys
from pathlib import Path
import torch
from swin_transformer_pytorch.training.engine.checkpoint_files import CheckpointFiles
from swin_transformer_pytorch.weights.files import CheckpointError, save_checkpoint
folder = Path(sys.argv[1])
for limit in range(0, 40_000, 3000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    weights = {"w": torch.zeros(10_000)}
    for name, write in {
        "last.ckpt": lambda path: CheckpointFiles().save_checkpoint(weights, path),
        "best.ckpt": lambda path: CheckpointFiles().save_checkpoint(weights, path),
        "model.pth": lambda path: save_checkpoint(path, weights),
        "model.safetensors": lambda path: save_checkpoint(path, weights),
    }.items():
        try:
            write(folder / name)
        except CheckpointError as error:
            assert name in str(error) and "File too large" in str(error), error
        else:
            raise AssertionError(f"{name} was written within {limit} bytes")
"""


def test_a_disk_that_is_full_at_any_byte_leaves_every_file_as_it_was(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    save(tmp_path, 1, 2)
    CheckpointFiles().save_checkpoint(content(2), tmp_path / "best.ckpt")
    for name in ("model.pth", "model.safetensors"):
        save_checkpoint(tmp_path / name, {"w": torch.ones(3)})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


KINDS = ["whole", "damaged", "missing"]


@pytest.mark.parametrize("last", KINDS)
@pytest.mark.parametrize("previous", KINDS)
def test_the_newest_whole_checkpoint_is_taken(
    last: str, previous: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path, 1, 2)
    for name, kind in (("last.ckpt", last), ("previous.ckpt", previous)):
        path = tmp_path / name
        if kind == "damaged":
            data = bytearray(path.read_bytes())
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        elif kind == "missing":
            path.unlink()
    assert holds_run(tmp_path) == ((last, previous) != ("missing", "missing"))
    if "whole" not in (last, previous):
        with pytest.raises(CheckpointError, match="cannot be resumed from"):
            take_up(tmp_path)
        with pytest.raises(CheckpointError, match="cannot be resumed from"):
            read_newest(tmp_path)
        return
    expected = 2 if last == "whole" else 1
    assert read_newest(tmp_path)["global_step"] == expected  # another process, before and after
    assert take_up(tmp_path)["global_step"] == expected
    assert step_of(tmp_path / "last.ckpt") == expected
    assert read_newest(tmp_path)["global_step"] == expected
    assert (tmp_path / "damaged.ckpt").exists() == (last == "damaged")
    if last == "damaged":
        assert "up to 7 steps are done again" in caplog.text
        assert str(tmp_path / "last.ckpt") in caplog.text
    # The next one must not push out the good one.
    save(tmp_path, 8)
    assert step_of(tmp_path / "last.ckpt") == 8
    if last == "whole" or previous == "whole":
        assert step_of(tmp_path / "previous.ckpt") == expected


def test_a_file_of_something_else_is_no_reason_to_go_back(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    torch.save({"model": {}}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"no last\.ckpt of a training run"):
        take_up(tmp_path)
    assert step_of(tmp_path / "previous.ckpt") == 1


def test_checkpoints_of_before_there_were_hashes_are_taken(tmp_path: Path) -> None:
    torch.save(content(4), tmp_path / "last.ckpt")
    assert take_up(tmp_path)["global_step"] == 4


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / ".last.ckpt.abc").write_bytes(b"half")
    (tmp_path / ".mine").write_bytes(b"")
    whole.remove_unfinished(tmp_path, (checkpoint_files.LAST, checkpoint_files.BEST))
    assert sorted(os.listdir(tmp_path)) == [".mine", "last.ckpt"]


@given(garbage=st.binary(max_size=60), place=st.integers(0, 2))
def test_a_damaged_history_loses_only_what_is_damaged(
    tmp_path_factory: pytest.TempPathFactory, garbage: bytes, place: int
) -> None:
    path = tmp_path_factory.mktemp("history") / "history.jsonl"
    lines = [b'{"epoch": 1}', b'{"epoch": 2}']
    path.write_bytes(b"\n".join([*lines[:place], garbage, *lines[place:]]))
    found = read_history(path)
    assert [line for line in found if line in ({"epoch": 1}, {"epoch": 2})][:2] == [{"epoch": 1}, {"epoch": 2}]
    assert all(isinstance(line["epoch"], int) for line in found)


@pytest.mark.parametrize("line", ["[1]", "{}", '{"epoch": "1"}', "[" * 100_000, "1", "\0" * 50, '{"epoch": 1'])
def test_lines_that_are_none_of_a_history(line: str, tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text(f'{line}\n{{"epoch": 3}}\n')
    assert read_history(tmp_path / "history.jsonl") == [{"epoch": 3}]
