"""Prediction on Ray: what an actor does is tested without Ray, and all of it in a small form where it is installed."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch import Predictor, extras, load_model
from swin_transformer_pytorch.data.errors import DataError, ImageError
from swin_transformer_pytorch.predict import predict_files
from swin_transformer_pytorch.predict.pieces import Piece, PiecesError
from swin_transformer_pytorch.predict.ray import MOST_TRIES, PieceWorker, Tries, _as_row, _explained, predict_on_ray
from swin_transformer_pytorch.predict.row_files import count_rows, encode_rows
from swin_transformer_pytorch.predict.sources import find_sources
from swin_transformer_pytorch.results.rows import json_line, row_of


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Forty images, of which two are bad, and one has a name that is no UTF-8; the folder is the process's own."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(random.integers(0, 256, (28, 28), np.uint8)).save(folder / f"{number:02}.png")
    os.rename(folder / "07.png", os.fsencode(folder) + b"/caf\xe9.png")
    (folder / "13.png").write_bytes(b"no picture")
    (folder / "21.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return Path("photos")


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PieceWorker]:
    """Makes an actor's object in this process, whose tries a plain object counts."""
    counted = Tries()
    tries = types.SimpleNamespace(begin=types.SimpleNamespace(remote=counted.begin))
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(get=lambda it: it))  # type: ignore[arg-type]
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)

    def make(ending: str, folder: str = ".") -> PieceWorker:
        return PieceWorker(lambda: Predictor(load_model("fashion"), device="cpu", top_k=2), folder, ending, tries)

    return make


def test_an_actor_gives_the_rows_of_swin_predict(photos: Path, worker: Callable[..., PieceWorker]) -> None:
    predictor = Predictor(load_model("fashion"), device="cpu", top_k=2)
    expected = "".join(json_line(row_of(*found)) for found in predict_files(predictor, [photos])).encode()
    piece = Piece(number=3, sources=tuple(find_sources([photos])))
    found = worker(".jsonl")(_as_row(piece))
    assert found["content"] == expected
    assert found["number"] == 3 and found["rows"] == 40
    problems = json.loads(found["problems"])
    assert len(problems) == 2 and "13.png" in problems[0] and "21.png" in problems[1]


def test_an_actor_looks_from_the_folder_of_who_asked(
    photos: Path, worker: Callable[..., PieceWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, row = os.getcwd(), _as_row(Piece(number=0, sources=(("photos/00.png", None),)))
    monkeypatch.chdir("/")
    assert not json.loads(worker(".jsonl", asked)(row)["problems"])
    monkeypatch.chdir("/")
    assert "does not exist" in worker(".jsonl", "/no/such/folder")(row)["problems"]


def test_a_piece_whose_actors_die_is_refused_by_its_images(photos: Path, worker: Callable[..., PieceWorker]) -> None:
    row = _as_row(Piece(number=0, sources=(("photos/00.png", None), ("photos/01.png", ImageError("gone")))))
    actor = worker(".jsonl")
    for _ in range(MOST_TRIES):
        assert actor(row)["rows"] == 2
    with pytest.raises(PiecesError, match=r"in all of 4 tries of one piece, of photos/00.png to photos/01.png"):
        actor(row)


def test_parquet_has_the_same_rows_and_one_schema(photos: Path, worker: Callable[..., PieceWorker]) -> None:
    parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    sources = list(find_sources([photos]))
    good, bad = (*sources[:20], sources[-1]), (sources[20],)  # the latter piece has no result at all
    for ending in (".parquet", ".jsonl"):
        files = [worker(ending)(_as_row(Piece(number=0, sources=piece)))["content"] for piece in (good, bad)]
        for number, content in enumerate(files):
            Path(f"{number}{ending}").write_bytes(content)
            assert count_rows(Path(f"{number}{ending}")) == ((21, 1), (1, 1))[number]
    tables = [parquet.read_table(f"{number}.parquet") for number in range(2)]
    assert tables[0].schema == tables[1].schema
    lines = [json.loads(line) for line in (Path("0.jsonl").read_bytes() + Path("1.jsonl").read_bytes()).splitlines()]
    rows = pyarrow.concat_tables(tables).to_pylist()
    for row, line in zip(rows, lines, strict=True):
        assert {key: value for key, value in row.items() if value is not None} == line | {
            "path": line["path"].encode("utf-8", "backslashreplace").decode()
        }
    Path("0.parquet").write_bytes(files[0][:40])
    with pytest.raises(ValueError, match=r"0\.parquet is damaged"):
        count_rows(Path("0.parquet"))


def test_parquet_of_objects_and_of_maps(detector: Any, segmenter: Any, images: list[Image.Image]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for model in (detector, segmenter):
        found = [row_of("a.png", Predictor(model, device="cpu")(images[0])), row_of("b.png", ImageError("bad"))]
        good, bad = parquet.read_table(io.BytesIO(encode_rows(found, ".parquet", model.task))).to_pylist()
        assert {key: value for key, value in good.items() if value is not None} == found[0]
        assert {key: value for key, value in bad.items() if value is not None} == found[1]
    with pytest.raises(AssertionError, match="keys that their table lacks: image_size, shares"):
        encode_rows([row_of("a.png", Predictor(segmenter, device="cpu")(images[0]))], ".parquet", "classification")


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        (
            DataError("s3://b/x failed: slow down\nSee Ray's options"),
            "x failed: slow down; whole are 3 of 9 pieces",
        ),
        (FileNotFoundError(2, "gone", "x.onnx"), "x.onnx'; whole are 3 of 9 pieces, and resume makes the others"),
        (ZeroDivisionError("a bug"), None),
        (ValueError("numpy's"), None),
    ],
)
def test_what_ended_an_actors_work_is_said_once(cause: Exception, said: str | None) -> None:
    """Ray's error is of its cause's class, and its text is a traceback of another process."""

    class RayError(Exception):
        pass

    class RayTaskError(RayError, type(cause)):  # type: ignore[misc]
        def __str__(self) -> str:
            return "ray::MapWorker() Traceback"

    error = RayTaskError()
    error.cause = cause
    ray = types.SimpleNamespace(exceptions=types.SimpleNamespace(RayError=RayError))
    folder: Any = types.SimpleNamespace(done={1, 2, 3}, pieces=9)
    with pytest.raises(PiecesError if said else RayTaskError) as found, _explained(ray, folder):
        raise error
    assert said is None or said in str(found.value)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, photos: Path) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not (Path(path) / "ray").is_dir()])
    with pytest.raises(extras.MissingExtraError, match=r"pip install 'swin-transformer-pytorch\[ray\]'"):
        predict_on_ray(lambda: Predictor("fashion"), [photos], "rows.jsonl")
    assert not list(Path().glob("rows*"))


def test_usage_statistics_are_off_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked, expected in ((None, "0"), ("1", "1")):
        monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
        if asked is not None:
            monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", asked)
        try:
            extras.require("ray", extra="ray")
        except extras.MissingExtraError:
            pass
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == expected


# The second actor that begins a piece is killed, once; and what is asked of Ray's usage statistics is written down.
PROGRAM = """
import os, signal, sys
from pathlib import Path
import swin_transformer_pytorch as swin
from swin_transformer_pytorch.predict import ray as on_ray

def make():
    predictor = swin.Predictor(swin.optimize_for_inference(swin.load_model("fashion")), device="cpu", top_k=2)
    answer = predictor.predict_prepared
    def dying(prepared):
        try:
            os.close(os.open("killed", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return answer(prepared)
        os.kill(os.getpid(), signal.SIGKILL)
    predictor.predict_prepared = dying
    return predictor

if __name__ == "__main__":
    def told(done, pieces, problems):
        if done == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    resume = "resume" in sys.argv
    found = on_ray.predict_on_ray(make, ["photos"], sys.argv[1], workers=2, piece_images=8, resume=resume, told=told)
    from ray._common.usage.usage_lib import usage_stats_enabled
    print("found", found.rows, found.bad, found.kept, found.made, usage_stats_enabled())
"""


@pytest.mark.slow
def test_an_actor_and_then_the_whole_are_killed(photos: Path) -> None:
    """Afterwards each image has a row, once, and those of swin predict but for rounding."""
    try:
        extras.require("ray.data", extra="ray")
    except extras.MissingExtraError as error:
        pytest.skip(str(error))
    Path("program.py").write_text(PROGRAM)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path), "HOME": os.getcwd()}
    environment.pop("RAY_USAGE_STATS_ENABLED", None)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "program.py", "rows.jsonl", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)

    assert run("2").returncode == -9
    assert Path("killed").exists()
    kept = {path.name: path.read_bytes() for path in Path("rows.jsonl.partial").glob("part-*")}
    assert len(kept) == 2
    process = run("0", "resume")
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout.splitlines()[-1] == "found 40 2 2 3 False"
    files = sorted(Path("rows.jsonl").iterdir())
    assert len(files) == 5 and all((Path("rows.jsonl") / name).read_bytes() == it for name, it in kept.items())
    rows = [json.loads(line) for file in files for line in file.read_bytes().splitlines()]
    expected = [row_of(*it) for it in predict_files(Predictor(load_model("fashion"), device="cpu", top_k=2), [photos])]
    assert [row["path"] for row in rows] == [row["path"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row.get("error") == other.get("error") and row.get("labels") == other.get("labels")
        np.testing.assert_allclose(row.get("scores", []), other.get("scores", []), atol=1e-4)
