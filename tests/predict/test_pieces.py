"""A prediction in pieces: each is whole or not there, and what was ended goes on with the rest."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from swin_transformer_pytorch.data.errors import ImageError
from swin_transformer_pytorch.predict.pieces import (
    PLAN,
    PiecesError,
    check_output,
    choose_piece_images,
    cut,
    piece_folder,
)

SOURCES = [(f"{number:03}.png", None) for number in range(10)]
SETTINGS = {"top_k": 5, "piece_images": 4}


def row(name: str, **more: str) -> bytes:
    return json.dumps({"path": name, **more}).encode() + b"\n"


def test_pieces_hold_every_source_once_in_order() -> None:
    tars = [("a.tar", None), ("b.tgz", None)]
    bad = ("none*.tar", ImageError("matches nothing"))
    sources = [*SOURCES[:5], *tars, *SOURCES[5:], bad]
    pieces = cut(sources, 4)
    assert [source for piece in pieces for source in piece.sources] == sources
    assert [len(piece.sources) for piece in pieces] == [4, 1, 1, 1, 4, 2]
    assert [piece.number for piece in pieces] == list(range(6))
    assert all(piece.sources == (tar,) for piece, tar in zip(pieces[2:4], tars, strict=True))
    assert cut([], 4) == []


def test_workers_get_several_pieces_of_whole_batches() -> None:
    assert choose_piece_images(SOURCES, 2) == 32
    assert choose_piece_images(SOURCES * 1000, 2) == 640  # 16 pieces
    assert choose_piece_images(SOURCES * 100_000, 2) == 1024
    assert choose_piece_images([("a.tar", None)] * 9999, 2) == 32, "tar files are pieces already"


@pytest.mark.parametrize("name", ["rows", "rows.csv", "s3://bucket/rows.parquet"])
def test_what_cannot_be_an_output(name: str) -> None:
    with pytest.raises(PiecesError, match="output"):
        check_output(name)


def test_it_is_put_in_place_when_all_pieces_are_there(tmp_path: Path) -> None:
    target, partial = tmp_path / "deep/rows.jsonl", tmp_path / "deep/rows.jsonl.partial"
    with piece_folder(target, SOURCES, SETTINGS, resume=False) as (folder, pieces):
        assert [piece.number for piece in pieces] == [0, 1, 2]
        assert folder.put(2, row("a", error="bad") + row("b"), 2, 1)
        assert folder.put(0, row("c"), 1, 0)
        assert not folder.put(0, row("d"), 1, 0), "the same piece again changes nothing"
        assert (folder.rows, folder.bad) == (3, 1)
    assert not target.exists() and sorted(path.name for path in partial.glob("part*")) == [
        "part-00000.jsonl",
        "part-00002.jsonl",
    ]
    (partial / ".part-00001.jsonl.abc.jsonl").write_bytes(b"half")  # as a kill leaves it
    with piece_folder(target, SOURCES, SETTINGS | {"piece_images": 9}, resume=True) as (folder, pieces):
        assert [piece.number for piece in pieces] == [1], "what was begun keeps its pieces' size"
        assert pieces[0].sources == tuple(SOURCES[4:8])
        assert (folder.rows, folder.bad) == (3, 1), "counted from the files"
        folder.put(1, row("e"), 1, 0)
    assert sorted(os.listdir(target)) == [f"part-{number:05d}.jsonl" for number in range(3)] and not partial.exists()
    assert (target / "part-00000.jsonl").read_bytes() == row("c")
    with piece_folder(target, SOURCES, SETTINGS, resume=True) as (folder, pieces):
        assert not pieces and (folder.rows, folder.bad) == (4, 1), "it is whole"
    with pytest.raises(PiecesError, match="is there already"):
        piece_folder(target, SOURCES, SETTINGS, resume=False).__enter__()


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """An output whose first piece is there."""
    with piece_folder(tmp_path / "rows.jsonl", SOURCES, SETTINGS, resume=False) as (folder, _):
        folder.put(0, row("a"), 1, 0)
    return tmp_path / "rows.jsonl"


def resume(begun: Path, sources=SOURCES, settings=SETTINGS, *, resume: bool = True) -> None:
    with piece_folder(begun, sources, settings, resume=resume):
        pass


def test_unlike_settings_and_images_are_not_mixed(begun: Path) -> None:
    with pytest.raises(PiecesError, match=r"1 piece of a prediction that was ended: resume it \(--resume\)"):
        resume(begun, resume=False)
    with pytest.raises(PiecesError, match="top_k 5, now 3"):
        resume(begun, settings=SETTINGS | {"top_k": 3})
    with pytest.raises(PiecesError, match="images 10, now 11"):
        resume(begun, [*SOURCES, ("new.png", None)])
    with pytest.raises(PiecesError, match="other images, as many"):
        resume(begun, [*SOURCES[1:], ("new.png", None)])
    resume(begun)


def test_damage_is_said(begun: Path) -> None:
    partial = begun.with_name("rows.jsonl.partial")
    (partial / "part-00000.jsonl").write_bytes(row("a")[:-5])
    with pytest.raises(PiecesError, match=r"part-00000\.jsonl is damaged .*; remove it, and it is made again"):
        resume(begun)
    (partial / PLAN).write_text("{")
    with pytest.raises(PiecesError, match=f"{PLAN}.* is damaged or gone"):
        resume(begun)


def test_nothing_is_left_of_what_made_no_piece(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), piece_folder(tmp_path / "rows.jsonl", SOURCES, SETTINGS, resume=False):
        raise RuntimeError
    assert not any(tmp_path.iterdir())


def _second(output: Path, answers: multiprocessing.Queue) -> None:
    try:
        resume(output)
        answers.put("no error")
    except PiecesError as error:
        answers.put(str(error))


def test_one_process_at_a_time(begun: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    with piece_folder(begun, SOURCES, SETTINGS, resume=True):
        process = context.Process(target=_second, args=(begun, answers))
        process.start()
        assert "another process is writing" in answers.get(timeout=30)
        process.join()
