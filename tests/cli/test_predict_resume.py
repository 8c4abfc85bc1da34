"""`swin predict --output FILE --resume`: whatever ends a prediction, no result of it is lost and none comes twice."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from swin_transformer_pytorch.commands import result_rows

# Ends `swin predict` by a signal at every STEP-th line of the code that writes (the first ones only prepare), each time
# in a process forked off one that has loaded torch, and then resumes it.
PROGRAM = """
import itertools, json, os, shutil, signal, sys
from pathlib import Path
import torch
import swin_transformer_pytorch.predict, swin_transformer_pytorch.visualize
from swin_transformer_pytorch.cli import main

step, folder, words = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
signals = itertools.cycle((signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT))
torch.set_num_threads(1)

def predict(*more, at=0, number=0):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.dup2(os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    lines = 0
    def count(frame, event, arg):
        nonlocal lines
        lines += 1
        if lines == at:
            os.kill(os.getpid(), number)
        return count
    watched = ("commands/result_rows.py", "commands/predict.py", "transformer_pytorch/whole.py")
    passed_over = ("add_arguments", "add_view_options", "_cells")
    def trace(frame, *_):
        code = frame.f_code
        return count if code.co_filename.endswith(watched) and code.co_name not in passed_over else None
    sys.settrace(trace if at else None)
    code = 70
    try:
        code = main(["predict", *words, *more])
    except SystemExit as end:
        code = end.code
    finally:
        os._exit(code)

signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background of a shell it is ignored
os.chdir(folder)
main(["predict", *words, "--output", "/dev/null"])  # loads all that the others then share
for at in itertools.count(140, step):
    for name in ("out", "files"):
        shutil.rmtree(name, ignore_errors=True)
    number = next(signals)
    code = predict(at=at, number=number)
    said = Path("said").read_text()
    left = sorted(os.listdir("out")) if os.path.isdir("out") else []
    again = None if "r.jsonl" in left and len(left) == 1 and code in (0, 1) else predict("--resume")
    print("trial", json.dumps({"at": at, "signal": number, "code": code, "said": said, "left": left, "again": again,
                      "end": {str(path): path.read_bytes().hex() for path in sorted(Path().glob("[of]*/**/*.*"))}}))
    if again is None:
        break
"""


@pytest.fixture
def scene_images(dense_data: Path, tmp_path: Path) -> Path:
    """Three scenes, one of them under a name that is no UTF-8, and a file that is no image."""
    folder = tmp_path / "images"
    folder.mkdir()
    sources = sorted((dense_data / "val").glob("*.png"))
    for source, name in zip(sources, (b"a.png", b"b.png", b"caf\xe9.png"), strict=False):
        shutil.copy(source, os.fsencode(folder) + b"/" + name)
    (folder / "bad.png").write_bytes(b"no picture")
    return folder


def ended_everywhere(step: int, folder: Path, *words: object) -> list[dict]:
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM, str(step), str(folder), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert process.returncode == 0, process.stderr
    return [json.loads(line[6:]) for line in process.stdout.splitlines() if line.startswith("trial ")]


@pytest.mark.slow
def test_ended_anywhere_it_goes_on_to_the_same_end(
    dense_checkpoints: dict[str, Path], scene_images: Path, tmp_path: Path
) -> None:
    words = ("images", "--weights", dense_checkpoints["segmentation"], "--output", "out/r.jsonl")
    files = ("--pictures", "files", "--labels", "files", "--batch-size", 3)
    *ended, whole = ended_everywhere(31, tmp_path, *words, *files)
    assert whole["code"] == 1 and len(whole["end"]) == 1 + 2 * 3, "all rows, and two pictures for each image"
    rows = [json.loads(line) for line in bytes.fromhex(whole["end"]["out/r.jsonl"]).splitlines()]
    assert len(rows) == 4 and sum("error" in row for row in rows) == 1
    assert any(os.fsencode(row["path"]).endswith(b"caf\xe9.png") for row in rows)
    for trial in ended:
        assert trial["end"] == whole["end"], trial["at"]
        assert trial["again"] == 1, "the bad image counts, whichever process met it"
        if trial["signal"] == signal.SIGKILL:
            assert trial["code"] == -signal.SIGKILL
        elif "r.jsonl.partial" in trial["left"]:
            assert trial["code"] == 128 + trial["signal"] and "Traceback" not in trial["said"], trial
            assert "rows are whole in out/r.jsonl.partial; the same command with --resume goes on" in trial["said"]
    resumable = [trial["signal"] for trial in ended if "r.jsonl.partial" in trial["left"]]
    assert len(resumable) > 10 and set(resumable) == {signal.SIGKILL, signal.SIGTERM, signal.SIGINT}


@pytest.fixture
def begun(swin, checkpoint, pictures, tmp_path, monkeypatch) -> tuple[tuple[object, ...], Path, bytes]:
    """Words of a prediction that was interrupted after two of three rows, its FILE, and what is to be in it."""
    target, words = tmp_path / "r.jsonl", ("predict", pictures, "--weights", checkpoint, "--batch-size", 2)
    assert swin(*words, "--output", target).code == 0
    content = target.read_bytes()
    target.unlink()
    write, left = result_rows.ResultRows.write, iter((True, True))

    def interrupted(self, record) -> None:
        if not next(left, False):
            raise KeyboardInterrupt
        write(self, record)

    with monkeypatch.context() as patch:
        patch.setattr(result_rows.ResultRows, "write", interrupted)
        outcome = swin(*words, "--output", target)
    assert outcome.code == 130 and f"2 rows are whole in {target}.partial" in outcome.err
    assert not target.exists() and _partial(target).read_bytes() == b"".join(content.splitlines(keepends=True)[:2])
    return (*words, "--output", target), target, content


def _partial(target: Path) -> Path:
    return target.with_name(target.name + ".partial")


def test_a_cut_partial_file_is_made_whole(swin, begun, tmp_path) -> None:
    words, target, content = begun
    rest = content.splitlines(keepends=True)[2]
    two = len(content) - len(rest)
    settings = tmp_path / "r.jsonl.partial.settings"
    before = settings.read_bytes()
    ends = [content[:length] for length in range(0, len(content) + 1, 29)]
    for end in [*ends, content[:two] + b"\0" * 40, content[:two] + b"[1]\n" + rest, content[:two] + b"\xff\n"]:
        _partial(target).write_bytes(end)
        settings.write_bytes(before)
        outcome = swin(*words, "--resume")
        assert outcome.code == 0, outcome.err
        assert target.read_bytes() == content
        assert f"resuming {target}" in outcome.err or end.count(b"\n") == 0
        rows = end.count(b"\n") if content.startswith(end) else 2
        cut = rows > 0 and end != b"".join(content.splitlines(keepends=True)[:rows])
        assert ("one that was not whole is done again" in outcome.err) == cut
        assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures", "r.jsonl"]
        target.unlink()


def test_a_whole_file_is_not_made_again_and_new_images_are_not_old_ones(swin, begun, pictures) -> None:
    words, target, content = begun
    shutil.copy(pictures / "a.png", pictures / "new.png")
    (pictures / "a.png").unlink()
    outcome = swin(*words, "--resume")
    assert outcome.code == 0 and "1 rows that were there before are of images that no PATH names now" in outcome.err
    names = [Path(json.loads(line)["path"]).name for line in target.read_text().splitlines()]
    assert sorted(names) == ["a.png", "b.jpg", "c.png", "new.png"]
    stamp = target.stat().st_mtime_ns, target.stat().st_ino
    outcome = swin(*words, "--resume")
    assert outcome.code == 0 and f"{target} is whole, so nothing is left to do" in outcome.err
    assert (target.stat().st_mtime_ns, target.stat().st_ino) == stamp
    assert swin(*words).code == 0 and target.stat().st_ino != stamp[1], "without --resume it is made anew"


def test_what_would_lose_or_mix_rows_is_refused(swin, begun, dense_checkpoints, tmp_path, monkeypatch) -> None:
    words, target, content = begun
    left = {path.name: path.read_bytes() for path in tmp_path.glob("r.jsonl*")}
    for more, message in (
        ((), "has 2 rows of a prediction that was ended: add --resume to go on, or remove it"),
        (("--resume", "--top-k", 3), "top_k 5, now 3"),
        (("--resume", "--pictures", tmp_path / "out"), "pictures None, now"),
        (("--resume", "--weights", "fashion"), "begun with other settings (model"),
    ):
        outcome = swin(*words, *more)
        assert (
            outcome.code == 2 and outcome.err.startswith(f"swin: error: {target}.partial ") and message in outcome.err
        )
        assert {path.name: path.read_bytes() for path in tmp_path.glob("r.jsonl*")} == left
    assert not (tmp_path / "out").exists()
    settings = tmp_path / "r.jsonl.partial.settings"
    for damage in (b"", b"{", left[settings.name][:-9]):
        settings.write_bytes(damage)
        outcome = swin(*words, "--resume")
        assert outcome.code == 2 and f"{settings}, which tells" in outcome.err and "remove both" in outcome.err
    settings.write_bytes(left[settings.name])
    assert swin(*words, "--resume", "--batch-size", 1, "--device", "cpu").code == 0, "how, and not what"
    assert len(target.read_bytes().splitlines()) == 3


def test_relative_paths_are_those_of_one_folder(swin, checkpoint, pictures, tmp_path, monkeypatch) -> None:
    words = ("predict", ".", "--weights", checkpoint, "--output", tmp_path / "r.jsonl", "--resume")
    monkeypatch.chdir(pictures)
    with limited(400):
        assert swin(*words).code == 2
    monkeypatch.chdir(pictures / "inside")
    outcome = swin(*words)
    assert outcome.code == 2 and f"working folder {str(pictures)!r}, now {str(pictures / 'inside')!r}" in outcome.err


@pytest.mark.parametrize("output", [None, "-", "/dev/stdout", "/dev/null"])
def test_a_stream_cannot_be_resumed(swin, checkpoint, pictures, output) -> None:
    where = () if output is None else ("--output", output)
    outcome = swin("predict", pictures, "--weights", checkpoint, "--resume", *where)
    assert outcome.code == 2 and "--resume needs --output FILE" in outcome.err


@contextmanager
def limited(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes, as on a disk that is full by then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("with_pictures", [False, True])
def test_a_full_disk_keeps_what_is_whole(swin, checkpoint, pictures, tmp_path, with_pictures) -> None:
    target, out = tmp_path / "out" / "r.jsonl", tmp_path / "out"
    words = ("predict", pictures, "--weights", checkpoint, "--output", target)
    words += ("--pictures", out) if with_pictures else ()
    assert swin(*words).code == 0
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    seen = set()
    for size in range(0, max(map(len, whole.values())) + 1, 97 if not with_pictures else 997):
        shutil.rmtree(out)
        out.mkdir()
        target.write_text("old\n")
        with limited(size):
            outcome = swin(*words)
        if outcome.code == 0:
            continue
        assert outcome.code == 2 and len(outcome.err.splitlines()) == 1, outcome.err
        assert "cannot be written (File too large)" in outcome.err and str(out) in outcome.err
        assert target.read_text() == "old\n"
        partial = _partial(target)
        count = len(partial.read_bytes().splitlines()) if partial.exists() else 0
        seen.add(count)
        assert (f"{count} rows are whole in {partial}; the same command with --resume" in outcome.err) == (count > 0)
        if not count:
            assert sorted(path.name for path in out.iterdir()) == ["r.jsonl"]
            target.unlink()
        assert swin(*words, "--resume").code == 0
        assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    assert {0, 2} <= seen or with_pictures


HOLDER = """
import sys
from pathlib import Path
from swin_transformer_pytorch.whole import locked
with locked(Path(sys.argv[1]), RuntimeError):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_writes_a_file(swin, begun, tmp_path) -> None:
    words, target, content = begun
    command = [sys.executable, "-c", HOLDER, f"{target}.partial.settings"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    link = tmp_path / "link.jsonl"
    link.symlink_to(target)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        for name in (target, link):
            outcome = swin(*words, "--resume", "--output", name)
            assert outcome.code == 2 and f"another process is writing {target}: wait" in outcome.err
        holder.kill()
    assert swin(*words, "--resume", "--output", link).code == 0
    assert link.is_symlink() and target.read_bytes() == content


@pytest.mark.parametrize("kind", ["fifo", "/dev/null", "/dev/stdout", "/dev/fd/1", "/dev/full", "folder"])
def test_what_is_no_file_is_written_directly(capfd, checkpoint, pictures, tmp_path, kind) -> None:
    from swin_transformer_pytorch.cli import main

    if not Path(kind).exists() and kind not in ("fifo", "folder"):
        pytest.skip(f"no {kind} here")
    output, read = kind if kind.startswith("/") else str(tmp_path / kind), []
    if kind == "fifo":
        os.mkfifo(output)
        reader = threading.Thread(target=lambda: read.append(Path(output).read_text()))
        reader.start()
    elif kind == "folder":
        Path(output).mkdir()
    code = main(["predict", str(pictures), "--weights", str(checkpoint), "--output", output])
    out, err = capfd.readouterr()
    if kind == "fifo":
        reader.join()
        out = read[0]
    assert code == (2 if kind in ("/dev/full", "folder") else 0), err
    if kind == "/dev/full":
        assert "/dev/full cannot be written (No space left on device)" in err and "--resume" not in err
    if kind in ("fifo", "/dev/stdout", "/dev/fd/1"):
        assert [set(json.loads(line)) for line in out.splitlines()] == [{"path", "labels", "scores", "names"}] * 3
    assert not list(tmp_path.glob("*partial*")) and not Path("/dev/null.partial").exists()


def test_pictures_among_the_images_are_not_predicted_for(swin, begun, checkpoint, pictures, tmp_path) -> None:
    """The pictures of the ended process lie in the folder that is searched through for images."""
    target = tmp_path / "among.jsonl"
    words = ("predict", pictures, "--weights", checkpoint, "--output", target, "--pictures", pictures)
    with limited(200):
        assert swin(*words).code == 2
    assert swin(*words, "--resume").code == 0
    rows = [json.loads(line) for line in target.read_text().splitlines()]
    assert [Path(row["path"]).name for row in rows] == ["a.png", "b.jpg", "c.png"]
    assert all(Path(row["picture"]).exists() for row in rows)


def test_the_fingerprint_is_of_every_weight(checkpoint) -> None:
    from swin_transformer_pytorch.commands.model_source import fingerprint
    from swin_transformer_pytorch.models.registry import load_model

    model, seen = load_model(checkpoint), set()
    seen.add(fingerprint(model))
    assert fingerprint(load_model(checkpoint)) in seen
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.view(-1)[-1] += 1
        seen.add(fingerprint(model))
    assert len(seen) == 1 + len(list(model.parameters()))
