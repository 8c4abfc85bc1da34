"""What a benchmark measures and refuses; what it prints is tested with the command line."""

from typing import Any

import pytest
import torch

from swin_transformer_pytorch import benchmark
from swin_transformer_pytorch.backbone.config import VARIANTS, find_variant

NAME = "swin_tiny_patch4_window7_224"
OPTIONS: dict[str, Any] = {
    "models": [NAME],
    "batch_sizes": [1],
    "dtypes": ["float32"],
    "image_size": 32,
    "training": False,
    "rounds": 1,
    "peers": [],
}


def test_one_round_of_ourselves() -> None:
    report = benchmark.run(**OPTIONS)

    (measured,) = report.measurements
    assert (measured.model, measured.library, measured.mode) == (NAME, benchmark.OURS, "inference")
    assert measured.seconds > 0 and measured.ratio == 1
    assert "torch" in report.versions
    assert report.to_dict()["measurements"][0]["seconds"] == measured.seconds


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounds": 0}, "rounds=0 must be at least 1"),
        ({"batch_sizes": [1, 0]}, "batch_sizes=0 must be at least 1"),
        ({"image_size": 0}, "image_size=0 must be at least 1"),
        ({"dtypes": ["int8"]}, "'int8' is not one of float32"),
        ({"models": ["swin_tinny"]}, "no model named 'swin_tinny'"),
        ({"peers": ["keras"]}, "no peer 'keras'; there are: timm"),
    ],
)
def test_what_cannot_be_measured_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        benchmark.run(**{**OPTIONS, **change})


def test_a_library_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise ModuleNotFoundError("No module named 'timm'", name="timm")

    monkeypatch.setattr(benchmark, "_timm", missing)
    assert [m.library for m in benchmark.run(**{**OPTIONS, "peers": ["timm"]}).measurements] == [benchmark.OURS]


# timm has neither c24 nor SimMIM's window of 6.
@pytest.mark.parametrize("name", [name for name in VARIANTS if "c24" not in name and "window6" not in name])
def test_peers_are_the_same_architecture(name: str) -> None:
    size = find_variant(name).image_size
    with torch.device("meta"):
        ours, theirs = benchmark._build(benchmark.OURS, name, size), benchmark._build("timm", name, size)
    assert ours is not None and theirs is not None
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
