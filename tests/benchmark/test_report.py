"""What was measured, as tables, as a picture, and back from JSON; time, memory and profiles of steps."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from swin_transformer_pytorch import benchmark
from swin_transformer_pytorch.benchmark import FLOOR, OPTIMIZED, OURS, Measurement
from swin_transformer_pytorch.benchmark.profiling import operator_kind


def _measurement(**fields: Any) -> Measurement:
    given: dict[str, Any] = {
        "model": "swin_tiny_patch4_window7_224",
        "library": OURS,
        "mode": "inference",
        "batch_size": 2,
        "dtype": "float32",
        "image_size": (100, 50),
        "seconds": 0.1,
        "ratio": 1.0,
        "optimized_ratio": None,
        "floor_ratio": None,
        "times": (0.09, 0.1, 0.1, 0.12, 0.1),
        "peak_bytes": None,
    }
    return Measurement(**{**given, **fields})


def test_a_measurement_survives_json() -> None:
    one = _measurement(peak_bytes=5, floor_ratio=1.5)
    assert Measurement.from_dict(json.loads(json.dumps(dataclasses.asdict(one)))) == one
    assert one.nanoseconds_per_pixel == pytest.approx(1e4)
    assert one.spread == pytest.approx(0.0)
    assert _measurement(times=(0.1,)).spread == 0
    assert _measurement(times=(0.05, 0.1, 0.15)).spread == pytest.approx(0.5)


def test_tables_leave_out_what_was_not_measured() -> None:
    one = _measurement()
    assert benchmark.markdown_table([one]).splitlines()[-1] == (
        "| swin_tiny_patch4_window7_224 | inference | 100x50 | 2 | float32 | swin_transformer_pytorch | 100.0 | 0% | "
        "20.0 | 1.00 |"
    )
    more = benchmark.markdown_table([one, _measurement(library=OPTIMIZED, optimized_ratio=1.0, peak_bytes=2_000_000)])
    assert more.splitlines()[0].endswith("| ours / it | optimized / it | peak MB |")
    assert more.splitlines()[2].endswith("| 1.00 |  |  |")
    assert more.splitlines()[3].endswith("| 1.00 | 1.00 | 2 |")


def _report(*measurements: Measurement) -> benchmark.BenchmarkReport:
    return benchmark.BenchmarkReport(
        device="cpu", processor="abacus", threads=1, rounds=5, versions={"torch": "2"}, measurements=measurements
    )


def test_pictures_of_bars_and_of_sizes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    libraries = (OURS, OPTIMIZED, FLOOR, "timm", "torchvision", "transformers", "openvino")
    one_size = [_measurement(library=library, seconds=0.1 + 0.01 * i) for i, library in enumerate(libraries)]
    _report(*one_size).save_picture(tmp_path / "bars.png")
    training = [dataclasses.replace(m, mode="training") for m in one_size if m.library != FLOOR]
    more_sizes = [dataclasses.replace(m, image_size=(200, 200)) for m in one_size]
    _report(*one_size, *training, *more_sizes).save_picture(tmp_path / "new" / "all.png")
    with Image.open(tmp_path / "bars.png") as bars, Image.open(tmp_path / "new" / "all.png") as everything:
        assert everything.height > 1.4 * bars.height  # a second row


def test_a_picture_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(benchmark.BenchmarkError, match="no measurements to draw"):
        benchmark.benchmark_picture([], [], tmp_path / "none.png", title="")


def test_steps_take_turns() -> None:
    calls: list[str] = []
    times = benchmark.alternate({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2, warmup=1)
    assert "".join(calls) == "ab" + "ab" * 2
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 2, "b": 2}
    assert benchmark.median_ratio([1, 9, 4], [2, 3, 4]) == 1


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak cannot be reset")
def test_the_peak_is_that_of_the_step_alone() -> None:
    setting = benchmark.Setting(
        model="swin_tiny_patch4_window7_224", mode="inference", batch_size=128, dtype="float32", image_size=(64, 64)
    )
    # Its operands take more than 200 MB, but its largest result takes 50: 128 maps of 16x16 with 384 channels.
    assert 50e6 < benchmark.peak_in_fresh_process(benchmark.make_step, setting, FLOOR) < 150e6


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::addmm", "products"),
        ("mkldnn::_linear_pointwise", "products"),
        ("aten::mkldnn_convolution", "products"),
        ("aten::mm", "products"),
        ("aten::bmm", "attention"),
        ("swin_transformer_pytorch::window_attention_backward", "attention"),
        ("aten::gelu_backward", "GELU"),
        ("aten::native_layer_norm", "LayerNorm"),
        ("aten::add_", "adds"),
        ("aten::copy_", "copies"),
        ("aten::index_select", "copies"),
        ("aten::sum", "sums"),
        ("aten::sigmoid", "other"),
    ],
)
def test_operators_have_kinds(operator: str, kind: str) -> None:
    assert operator_kind(operator) == kind


def test_a_profile_names_the_product() -> None:
    x = torch.randn(400, 400)
    found = benchmark.profile_step(lambda: x @ x, calls=2)
    assert next(iter(found.shares)) == "products"
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.seconds > 0 and len(found.operators) <= 10
