"""Checkpoints as other training code writes them: whichever container, prefix or mean, the same weights come out."""

from __future__ import annotations

import argparse
import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.models.registry import load_model
from swin_transformer_pytorch.weights.errors import CheckpointError
from swin_transformer_pytorch.weights.formats import convert_state_dict
from swin_transformer_pytorch.weights.load import load_weights

CONFIG = SwinConfig(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2)


def model_of(value: float) -> SwinClassifier:
    """One all of whose numbers say which it is."""
    model = SwinClassifier(CONFIG, num_classes=3)
    for parameter in model.parameters():
        nn.init.constant_(parameter, value)
    return model


RAW, MEAN = 1.0, 2.0
raw, mean = model_of(RAW), model_of(MEAN)


def prefixed(prefix: str, model: nn.Module) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in model.state_dict().items()}


def averaged_model(value: float = MEAN) -> AveragedModel:
    return AveragedModel(model_of(value))


def loaded(content: dict[str, Any], tmp_path: Path, which: Any = None) -> tuple[float, Any]:
    torch.save(content, tmp_path / "c.pth")
    model = model_of(0.0)
    report = load_weights(model, tmp_path / "c.pth", which=which)
    (value,) = {value for parameter in model.parameters() for value in parameter.unique().tolist()}
    return value, report


# Contents that hold one set of weights.
SINGLE = {
    "model_state_dict": lambda: {"model_state_dict": raw.state_dict(), "optimizer_state_dict": {}, "epoch": 3},
    "net": lambda: {"net": raw.state_dict(), "acc": 93.1},
    "Lightning, self.model": lambda: {"state_dict": prefixed("model.", raw), "epoch": 1},
    "Lightning, self.net": lambda: {"state_dict": prefixed("net.", raw), "epoch": 1},
    "Lightning, compiled": lambda: {"state_dict": prefixed("model._orig_mod.", raw)},
    "DDP in a wrapper": lambda: {"model": prefixed("module.network.", raw)},
    "timm's names in a wrapper": lambda: prefixed_dict("model.", convert_state_dict(raw.state_dict(), to="timm")),
    "transformers' names in a wrapper": lambda: prefixed_dict(
        "net.", convert_state_dict(raw.state_dict(), to="transformers")
    ),
}
# Contents that hold a mean alone.
MEAN_ALONE = {
    "AveragedModel": lambda: averaged_model().state_dict(),
    "AveragedModel in a container": lambda: {"model_state_dict": averaged_model().state_dict()},
    "AveragedModel of DDP": lambda: {"model": AveragedModel(nn.ModuleDict({"module": model_of(MEAN)})).state_dict()},
    "model_ema": lambda: {"model_ema": averaged_model().state_dict()},
}
# Contents that hold both: what comes by default, and the content.
BOTH = {
    "timm": (RAW, lambda: {"state_dict": raw.state_dict(), "state_dict_ema": mean.state_dict(), "arch": "swin"}),
    "torchvision": (
        RAW,
        lambda: {"model": raw.state_dict(), "model_ema": averaged_model().state_dict(), "args": argparse.Namespace()},
    ),
    "a pair in Lightning": (
        RAW,
        lambda: {"state_dict": prefixed("model.", raw) | prefixed("ema_model.module.", mean)},
    ),
    "Lightning's WeightAveraging": (
        MEAN,
        lambda: {
            "state_dict": prefixed("model.", mean),
            "current_model_state": prefixed("model.", raw),
            "averaging_state": {"n_averaged": torch.tensor(5)},
        },
    ),
    "mmengine's EMAHook": (
        MEAN,
        lambda: {
            "meta": {"mmengine_version": "0.10.0"},
            "state_dict": mean.state_dict(),
            "ema_state_dict": prefixed("module.", raw) | {"steps": torch.tensor(5)},
        },
    ),
    "ours": (
        MEAN,
        lambda: {
            "state_dict": prefixed("model.", raw),
            "ema_state_dict": mean.state_dict(),
            "swin": raw.metadata(),
        },
    ),
}


def prefixed_dict(prefix: str, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state_dict.items()}


@pytest.mark.parametrize("make", SINGLE.values(), ids=SINGLE)
def test_one_set_of_weights(make: Any, tmp_path: Path) -> None:
    value, report = loaded(make(), tmp_path)
    assert (value, report.which) == (RAW, None)
    assert not report.fresh and not report.dropped and "which=" not in str(report)
    with pytest.raises(CheckpointError, match="no weights that it says are averaged: leave which='averaged' out"):
        loaded(make(), tmp_path, "averaged")


@pytest.mark.parametrize("make", MEAN_ALONE.values(), ids=MEAN_ALONE)
def test_a_mean_alone(make: Any, tmp_path: Path) -> None:
    value, report = loaded(make(), tmp_path)
    assert (value, report.which) == (MEAN, "averaged")
    assert "averaged weights" in str(report)
    assert [change.key.rpartition(".")[2] for change in report.dropped] == ["n_averaged"]
    with pytest.raises(CheckpointError, match="no weights that it says are raw"):
        loaded(make(), tmp_path, "raw")


@pytest.mark.parametrize(("default", "make"), BOTH.values(), ids=BOTH)
def test_the_raw_and_the_mean(default: float, make: Any, tmp_path: Path) -> None:
    name = {RAW: "raw", MEAN: "averaged"}
    other = {RAW: "averaged", MEAN: "raw"}[default]
    value, report = loaded(make(), tmp_path)
    assert (value, report.which) == (default, name[default])
    assert f"it has {other} ones too: which='{other}'" in str(report)
    for wanted, which in name.items():
        assert loaded(make(), tmp_path, which)[0] == wanted
    # The same of a dict in memory.
    model = model_of(0.0)
    load_weights(model, make(), which=other)
    assert model.norm.bias.unique().tolist() == [{"raw": RAW, "averaged": MEAN}[other]]


def test_which_is_chosen_wherever_a_model_is_named(tmp_path: Path) -> None:
    torch.save(BOTH["ours"][1](), tmp_path / "last.ckpt")
    for which, value in ((None, MEAN), ("averaged", MEAN), ("raw", RAW)):
        assert load_model(tmp_path / "last.ckpt", which=which).norm.bias[0] == value
    with pytest.raises(CheckpointError, match="which='mean' is not possible: use 'averaged' or 'raw'"):
        load_model(tmp_path / "last.ckpt", which="mean")  # type: ignore[arg-type]


def test_what_stands_beside_the_model_is_left_out_by_name(tmp_path: Path) -> None:
    content = {"state_dict": prefixed("model.", raw) | {"criterion.weight": torch.ones(3), "scale": torch.ones(())}}
    value, report = loaded(content, tmp_path)
    assert value == RAW
    assert {(change.key, change.why) for change in report.dropped} == {
        (key, "beside the model in the file") for key in ("criterion.weight", "scale")
    }


@pytest.mark.parametrize("attribute", ["model", "net"])
@pytest.mark.filterwarnings("ignore")
def test_files_that_lightning_writes(attribute: str, tmp_path: Path) -> None:
    import lightning as L
    from lightning.pytorch.callbacks import WeightAveraging

    class Module(L.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            setattr(self, attribute, model_of(RAW))

        def training_step(self, batch: Tensor, _: int) -> Tensor:
            return getattr(self, attribute)(batch).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    class Keep(L.Callback):
        def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
            trainer.save_checkpoint(tmp_path / "lightning.ckpt")
            kept.update(copy.deepcopy(getattr(module, attribute).state_dict()))

    kept: dict[str, Tensor] = {}
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = dict.fromkeys(("logger", "enable_progress_bar", "enable_model_summary", "enable_checkpointing"), False)
    callbacks = [Keep(), WeightAveraging()]
    trainer = L.Trainer(max_steps=2, accelerator="cpu", default_root_dir=tmp_path, callbacks=callbacks, **quiet)
    trainer.fit(Module(), torch.utils.data.DataLoader(torch.randn(4, 3, 16, 16), batch_size=2))
    model = model_of(0.0)
    assert load_weights(model, tmp_path / "lightning.ckpt", which="raw").which == "raw"
    assert all(torch.equal(model.state_dict()[key], tensor) for key, tensor in kept.items())
    assert load_weights(model, tmp_path / "lightning.ckpt").which == "averaged"
    assert not torch.equal(model.head.bias, kept["head.bias"])
