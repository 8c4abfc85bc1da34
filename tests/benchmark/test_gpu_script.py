"""benchmarks/gpu.py where no GPU is: it runs on a CPU, on little, keeps what comes, and says what it lacks."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

SCRIPTS = Path(__file__).parents[2] / "benchmarks"
PARTS = ("gpu_measure", "gpu_attention", "gpu_models", "gpu_results", "gpu")
CPU = torch.device("cpu")


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Its modules by their names, "script" for the one that is run."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    modules = {name: importlib.import_module(name) for name in PARTS}
    yield SimpleNamespace(
        **{"script" if name == "gpu" else name.removeprefix("gpu_"): module for name, module in modules.items()}
    )
    for name in PARTS:
        sys.modules.pop(name)


def test_attention_is_measured_way_by_way(gpu: Any, tmp_path: Path) -> None:
    case, told = gpu.attention.ATTENTIONS[0].shrunken(), []
    ways = ["sdpa", "reference", "triton"]
    figures = gpu.attention.measure_attention(case, 1, torch.float32, CPU, 2, ways, told.append, copy_rate=1e9)
    assert [figure.mode for figure in figures].count("forward and backward") == 3
    for figure in figures:
        if figure.way == "triton" and not torch.cuda.is_available():
            assert figure.failure is not None and "no CUDA device" in figure.failure
        else:
            assert figure.seconds > 0 and figure.ratio > 0 and figure.of_copy > 0
    assert [len(each) for each in told] == [1, 2, 3, 3, 4, 5, 6, 6], "each way is told as soon as it is known"
    results = gpu.results.Results(tmp_path)
    results.belongs_to({"device": "none"})
    results.put("op, float32: x", figures)
    assert len(gpu.results.markdown(results, []).splitlines()) == 4 + len(figures)


def test_what_has_to_be_moved_is_counted(gpu: Any) -> None:
    """By hand: 2 maps of 3 x 5 tokens with 2 heads of 4 channels in float16; windows of 2 x 2."""
    case = gpu.attention.Attention(name="", map_size=(3, 5), heads=2, window_size=(2, 2), shift_size=(0, 0), head_dim=4)
    maps, bias, sums = 2 * 15 * 8 * 2, 4 * 2 * 16, 2 * 15 * 2 * 4
    assert case.bytes_moved(2, torch.float16, training=False) == 4 * maps + bias
    # Kept and read: sums. Backward: qkv, the result's gradient, the bias; qkv's gradient and the bias's.
    expected = (4 * maps + bias) + 2 * sums + (3 + 1 + 3) * maps + 2 * bias
    assert case.bytes_moved(2, torch.float16, training=True) == expected


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("v2", [False, True])
def test_flex_attention_computes_the_same(gpu: Any, v2: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    case = dataclasses.replace(gpu.attention.ATTENTIONS[0], map_size=(9, 8), heads=2, v2=v2)
    tensors = gpu.attention.tensors_of(case, 1, torch.float32, CPU)
    expected = gpu.attention._ours(case, "reference")(**tensors)
    torch.testing.assert_close(gpu.attention._flex(case, CPU)(**tensors), expected)


def test_what_is_wrong_is_told(gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = gpu.attention._answers
    monkeypatch.setattr(gpu.attention, "_answers", lambda way, *others: real("reference", *others))
    figures = gpu.attention.check(torch.float32, CPU, lambda _: None, shrink=True)
    assert len(figures) == 6 and all(figure.failure is None and "at most" in figure.note for figure in figures)

    def wrong(way: str, *others: Any) -> Any:
        found = real("reference", *others)
        return {**found, "bias": found["bias"] + (0.1 if way == "triton" else 0)}

    monkeypatch.setattr(gpu.attention, "_answers", wrong)
    figures = gpu.attention.check(torch.float32, CPU, lambda _: None, shrink=True)
    assert all(figure.failure.startswith("WRONG: bias differs by") for figure in figures)
    results = gpu.results.Results(tmp_path)
    results.put("right, float32", figures)
    assert gpu.results.summary(results).startswith(
        "right: 0 of 6 checks\npadded, shifted, float32: WRONG: bias differs"
    )


@pytest.mark.slow
@pytest.mark.parametrize("features", [False, True])
def test_models_are_measured_way_by_way(gpu: Any, features: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model, mode: model)
    models = gpu.models
    ways = (models.EAGER, models.SDPA, models.COMPILED, models.OPTIMIZED, models.TIMM, models.GRAPH)
    for whole in (gpu.script.TINY_T, gpu.script.TINY_V2):
        small = dataclasses.replace(whole, features=features).shrunken()
        for training in (False, True):
            chosen = tuple(way for way in ways if not (training and way.optimized))
            found = models.measure_model(small, 1, torch.float32, CPU, 1, chosen, training=training)
            failures = {figure.way: figure.failure for figure in found if figure.failure}
            assert failures.keys() == ({"ours, CUDA graph"} if not torch.cuda.is_available() else set())
            assert len(found) == len(chosen) and all(figure.per_second for figure in found if not figure.failure)


def test_rows_are_kept_as_they_come_and_gone_on_with(gpu: Any, tmp_path: Path, capsys: Any) -> None:
    Figure, Row = gpu.measure.Figure, gpu.script.Row
    asked: list[str] = []

    def row(name: str, seconds: float, failure: str | None = None) -> Any:
        def run(tell: Any) -> Any:
            asked.append(name)
            figure = Figure(subject=name, mode="m", dtype="d", batch_size=1, way="w", seconds=1.0, failure=failure)
            tell([figure])
            assert json.loads(results.path.read_text().splitlines()[-1])["partial"]
            return [figure]

        return Row(name=name, seconds=seconds, run=run)

    rows = [row("a", 1), row("b", 1000), row("c", 1, failure="it broke")]
    results = gpu.results.Results(tmp_path)
    results.belongs_to({"device": "x"})
    gpu.script.work(rows, results, time.time() + 30, again=False)
    assert asked == ["a", "c"], "there was no time for b"
    with results.path.open("ab") as file:
        file.write(b'{"row": "a", "par')  # as a kill leaves it
    other = gpu.results.Results(tmp_path)
    other.belongs_to({"device": "x"})
    with pytest.raises(SystemExit, match="give another --out"):
        other.belongs_to({"device": "y"})
    gpu.script.work(rows, other, time.time() + 2000, again=True)
    assert asked == ["a", "c", "b", "c"], "what has failed is measured once more where that is asked for"
    assert [name for name, _ in gpu.results.Results(tmp_path).figures()] == ["a", "c", "b"]
    table = gpu.results.markdown(other, ["d"])
    assert "it broke" in table and table.endswith("Not measured: d.\n")


def test_a_row_that_ends_its_process_or_takes_too_long_is_noted_and_the_others_are_measured(
    gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "worker.py"
    program.write_text(
        "import json, os, sys, time\n"
        "out = sys.argv[1]\n"
        "lines = [json.loads(line) for line in open(f'{out}/rows.jsonl') if line.strip()]\n"
        "done = {line['row'] for line in lines if not line['partial']}\n"
        "for row in ('dies', 'hangs', 'well'):\n"
        "    if row in done: continue\n"
        "    open(f'{out}/begun', 'w').write(json.dumps({'row': row, 'at': time.time()}))\n"
        "    if row == 'dies': os.abort()\n"
        "    if row == 'hangs': time.sleep(1000)\n"
        "    open(f'{out}/rows.jsonl', 'a').write(json.dumps({'row': row, 'partial': False, 'figures': []}) + '\\n')\n"
        "os.remove(f'{out}/begun')\n"
    )
    results = gpu.results.Results(tmp_path / "out")
    results.put("well", [], partial=True)
    rows = [gpu.script.Row(name=name, seconds=-14.5, run=lambda tell: []) for name in ("dies", "hangs", "well")]
    monkeypatch.setattr(gpu.script, "__file__", str(program))
    gpu.script.oversee(rows, results, time.time() + 60, [str(tmp_path / "out")])
    assert results.rows["dies"]["failure"] == "ended its process with -6"
    assert results.rows["hangs"]["failure"] == "took more than 2 s"
    assert results.is_done("well", again=True) and not results.is_done("dies", again=True)
    assert "Ended early: dies (ended its process with -6); hangs (took more than 2 s)." in gpu.results.markdown(
        results, []
    )


# What a machine with a GPU may lack: only the command line, training and the tests need it.
LACKING = ("jsonargparse", "docstring_parser", "beartype", "lightning", "torchmetrics", "matplotlib", "pandas")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed: it exists for Linux")
def test_it_runs_without_what_such_a_machine_lacks(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({LACKING}))\n")
    path = os.pathsep.join([str(tmp_path), str(SCRIPTS.parent / "src")])
    environment = {**os.environ, "PYTHONPATH": path, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    words = ["--tiny", "--device", "cpu", "--rounds", "1", "--out", str(tmp_path / "out")]
    command = [sys.executable, str(SCRIPTS / "gpu.py"), *words]
    for rows in ("whole, bfloat16", "right, float32"):
        done = subprocess.run([*command, "--rows", rows], capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
    assert "right: 6 of 6 checks" in done.stdout and "failed" not in done.stdout
    assert "inference: ours / timm" in done.stdout, "what was there before is in the table too"
    assert len([*(tmp_path / "out").glob("*-gpu.*")]) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run([sys.executable, str(SCRIPTS / "gpu.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("benchmarks/gpu.py measures on a CUDA device")
    assert "Traceback" not in done.stderr
