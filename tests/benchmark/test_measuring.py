"""What a benchmark measures and refuses; what it prints is tested with the command line."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from swin_transformer_pytorch import benchmark
from swin_transformer_pytorch.backbone.config import VARIANTS, find_variant
from swin_transformer_pytorch.benchmark import (
    FLOOR,
    OPTIMIZED,
    OURS,
    Setting,
    libraries,
    measuring,
    openvino_peer,
    steps,
)

NAME = "swin_tiny_patch4_window7_224"
OPTIONS: dict[str, Any] = {
    "models": [NAME],
    "batch_sizes": [1],
    "dtypes": ["float32"],
    "image_sizes": [32],
    "training": False,
    "rounds": 1,
    "peers": [],
}


def _setting(**fields: Any) -> Setting:
    given = {"model": NAME, "mode": "inference", "batch_size": 1, "dtype": "float32", "image_size": (32, 32)}
    return Setting(**{**given, **fields})


def test_one_round_of_ourselves() -> None:
    report = benchmark.run(**OPTIONS)

    (measured,) = report.measurements
    assert (measured.model, measured.library, measured.mode) == (NAME, OURS, "inference")
    assert measured.seconds > 0 and measured.ratio == 1
    assert measured.optimized_ratio is None and measured.floor_ratio is None and measured.peak_bytes is None
    assert "torch" in report.versions
    assert report.to_dict()["measurements"][0]["seconds"] == measured.seconds


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rounds": 0}, "rounds=0 must be at least 1"),
        ({"batch_sizes": [1, 0]}, "batch_size=0 must be at least 1"),
        ({"image_sizes": [0]}, "image_size=0 must be at least 1"),
        ({"dtypes": ["int8"]}, "'int8' is not one of float32"),
        ({"models": ["swin_tinny"]}, "no model named 'swin_tinny'"),
        ({"peers": ["keras"]}, "no peer 'keras'; there are: timm"),
    ],
)
def test_what_cannot_be_measured_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        benchmark.run(**{**OPTIONS, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mode": "export"}, "mode 'export' is not one of inference"),
        ({"dtype": "int8"}, "dtype 'int8' is not one of float32"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"image_size": (32, 0)}, "image_size=0 must be at least 1"),
    ],
)
def test_a_setting_checks_itself(change: dict[str, Any], message: str) -> None:
    with pytest.raises(benchmark.BenchmarkError, match=message):
        _setting(**change)


def test_a_step_of_an_unknown_library_is_refused() -> None:
    with pytest.raises(benchmark.BenchmarkError, match="no peer 'keras'; there are: timm, torchvision"):
        benchmark.make_step(_setting(), "keras")


def test_a_library_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'timm'", name="timm")

    monkeypatch.setitem(libraries._BUILDERS, "timm", missing)
    assert [m.library for m in benchmark.run(**{**OPTIONS, "peers": ["timm"]}).measurements] == [OURS]


def test_only_modules_train() -> None:
    setting = _setting(mode="training")
    assert [benchmark.make_step(setting, name) for name in (OPTIMIZED, FLOOR, "openvino")] == [None, None, None]


def test_ratios_are_medians_of_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {OURS: [2.0, 9.0, 4.0], OPTIMIZED: [1.0, 3.0, 3.0], FLOOR: [1.0, 1.0, 2.0]}
    monkeypatch.setattr(measuring, "make_step", lambda setting, library: lambda: None)
    monkeypatch.setattr(measuring, "alternate", lambda steps, rounds, warmup: {key: seconds[key[1]] for key in steps})
    ours, optimized, floor = benchmark.measure([_setting()], [OURS, OPTIMIZED, FLOOR], rounds=3)

    assert (ours.seconds, optimized.seconds, floor.seconds) == (4.0, 3.0, 1.0)
    assert (ours.ratio, optimized.ratio, floor.ratio) == (1.0, 2.0, 2.0)
    assert (ours.optimized_ratio, ours.floor_ratio, optimized.floor_ratio) == (0.5, 2.0, 1.5)
    assert ours.times == (2.0, 9.0, 4.0)


def test_settings_are_compared_in_one_run() -> None:
    settings = [_setting(), _setting(batch_size=2)]
    measured = benchmark.measure(settings, [FLOOR, OURS], rounds=2, warmup=1)
    assert [(m.batch_size, m.library) for m in measured] == [(1, FLOOR), (1, OURS), (2, FLOOR), (2, OURS)]
    assert all(len(m.times) == 2 and m.floor_ratio is not None for m in measured)


@pytest.mark.parametrize("mode", ["inference", "features"])
def test_autocast_is_for_training_alone(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []

    class Model(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.extend([x.dtype, self.weight.dtype])
            return super().forward(x)

    monkeypatch.setattr(steps, "build_model", lambda library, setting: Model(32, 4))
    for setting in (_setting(mode=mode, dtype="bfloat16"), _setting(mode="training", dtype="bfloat16")):
        step = benchmark.make_step(setting, "timm")
        assert step is not None
        step()
    assert seen == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]


# timm has neither c24 nor SimMIM's window of 6.
@pytest.mark.parametrize("name", [name for name in VARIANTS if "c24" not in name and "window6" not in name])
def test_peers_are_the_same_architecture(name: str) -> None:
    size = find_variant(name).image_size
    setting = _setting(model=name, image_size=(size, size))
    with torch.device("meta"):
        ours, theirs = libraries.build_model(OURS, setting), libraries.build_model("timm", setting)
    assert ours is not None and theirs is not None
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())


@pytest.mark.parametrize("library", [OURS, "timm", "torchvision", "transformers"])
def test_backbones_give_maps_of_one_size(library: str) -> None:
    setting = _setting(mode="features", image_size=(224, 256))
    with torch.device("meta"):
        model = libraries.build_model(library, setting)
        assert model is not None
        output = model.eval()(torch.empty(1, 3, *setting.image_size))
    maps = output if isinstance(output, list) else output.feature_maps
    channels_last = library == "timm"
    shapes = [tuple(m.shape[1:3] if channels_last else m.shape[2:]) for m in maps]
    assert shapes == [(56, 64), (28, 32), (14, 16), (7, 8)]


def test_peers_are_left_out_where_they_fail() -> None:
    assert libraries.build_model("timm", _setting(mode="features", image_size=(64, 66))) is None
    assert libraries.build_model("transformers", _setting(image_size=(223, 192))) is None
    with torch.device("meta"):
        assert libraries.build_model("transformers", _setting(image_size=(223, 193))) is not None


def test_openvino_is_for_inference_in_two_precisions() -> None:
    assert openvino_peer.openvino_step(_setting(dtype="float16")) is None
    assert openvino_peer.openvino_step(_setting(mode="features")) is None


def test_openvino_runs_what_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    asked: list[str] = []
    small = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 4 * 5, 7))
    monkeypatch.setattr(openvino_peer, "build_model", lambda library, setting: asked.append(library) or small)
    step = openvino_peer.openvino_step(_setting(batch_size=2, image_size=(4, 5)))
    assert step is not None and asked == ["timm"]
    (logits,) = dict(step()).values()  # type: ignore[call-overload]
    assert logits.shape == (2, 7)
