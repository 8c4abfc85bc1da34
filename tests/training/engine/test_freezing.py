"""What a run leaves as it is: to the bit, in evaluation mode, and without work for it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training.conftest import TINY

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.data.classification.fashion import FashionSample
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import DetectorConfig, ModelConfig, SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.registry import load_model
from swin_transformer_pytorch.predict import Predictor
from swin_transformer_pytorch.training import RecipeError, load_recipe, train
from swin_transformer_pytorch.training.engine.freezing import freeze
from swin_transformer_pytorch.weights.files import read_checkpoint

SMALL = SwinConfig(embed_dim=8, depths=(1, 2), num_heads=(1, 2), window_size=4, drop_path_rate=0.2)
MODELS: dict[str, ModelConfig] = {
    "classification": SMALL,
    "detection": DetectorConfig(method="mask_rcnn", backbone=SMALL, num_classes=3, fpn_dim=8, fc_dim=8),
    "segmentation": SegmenterConfig(backbone=SMALL, num_classes=3, decode_dim=8, auxiliary_dim=8, auxiliary_index=0),
}
HEADS = {
    "classification": ("head.",),
    "detection": ("roi_head.bbox_head.fc_cls.", "roi_head.bbox_head.fc_reg.", "roi_head.mask_head.conv_logits."),
    "segmentation": ("decode_head.conv_seg.", "auxiliary_head.conv_seg."),
}


@pytest.mark.parametrize("task", MODELS)
@pytest.mark.parametrize(
    ("what", "frozen"),
    [
        (1, ("patch_embed.", "layers.0.")),
        (2, ("patch_embed.", "layers.")),
        ("backbone", ("",)),
        ("all_but_head", ("",)),
        (None, ()),
    ],
)
def test_what_learns_is_what_was_chosen(task: str, what: Any, frozen: tuple[str, ...]) -> None:
    model = build(ModelDescription(config=MODELS[task]))
    freeze(model, what)
    inside = "" if task == "classification" else "backbone."
    for name, parameter in model.named_parameters():
        of_head = name.startswith(HEADS[task])
        if what == "all_but_head" or (what == "backbone" and task == "classification"):
            expected = of_head
        else:
            expected = not name.startswith(tuple(inside + part for part in frozen))
        assert parameter.requires_grad == expected, name
    for name, module in model.named_modules():
        parameters = list(module.parameters())
        if parameters:
            assert module.training == any(parameter.requires_grad for parameter in parameters), name


def test_frozen_parts_stay_as_they_were_to_the_bit(tmp_path: Path) -> None:
    before = train(load_recipe("demo_classification", {**TINY, "schedule.epochs": 1, "output": str(tmp_path / "a")}))
    values = {
        "model.config": None,
        "model.init": "official",
        "model.weights": str(before.weights),
        "trainer.freeze": 1,
        "trainer.ema_decay": None,
        "schedule.epochs": 1,
    }
    after = train(load_recipe("demo_classification", {**TINY, **values, "output": str(tmp_path / "b")}))
    one, other = (load_model(run.weights).state_dict() for run in (before, after))
    same = {name: torch.equal(one[name], other[name]) for name in one}
    kept = tuple(name for name in one if name.startswith(("patch_embed.", "layers.0.")))
    assert kept and all(same[name] for name in kept)
    assert not any(value for name, value in same.items() if name not in kept and name.endswith("weight"))


def test_more_stages_than_there_are_is_one_error() -> None:
    with pytest.raises(RecipeError, match=r"trainer.freeze=3, but the backbone has 2 stages"):
        freeze(build(ModelDescription(config=SMALL)), 3)


@pytest.mark.parametrize("value", [0, -1, "head", 1.5, True])
def test_no_other_values_are_taken(value: Any) -> None:
    with pytest.raises(RecipeError, match="trainer.freeze"):
        load_recipe("demo_classification", {"trainer.freeze": value})


def test_a_run_ends_when_no_validation_is_better_for_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {**TINY, "optimizer.lr": 1e-12, "schedule.min_lr": 0.0, "schedule.warmup_lr": 0.0, "schedule.epochs": 9}
    recipe = load_recipe("demo_classification", {**values, "trainer.patience": 2, "output": str(tmp_path / "run")})
    result = train(recipe, progress=False)
    assert [line["epoch"] for line in result.history] == [1, 2, 3]
    assert caplog.text.count("trainer.patience=2") == 1
    capsys.readouterr()
    again = train(recipe.replace({"resume": True}))
    told = "resuming a run that trainer.patience=2 has ended after epoch 3 of 9: nothing is left to do"
    assert told in capsys.readouterr().err
    assert len(again.history) == 3
    assert again.metrics == result.metrics


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_with_patience_the_export_and_its_figures_are_those_of_the_best_validation(
    tmp_path: Path, ema_decay: float | None
) -> None:
    for part, images in (("train", 30), ("val", 12), ("test", 20)):
        sample = FashionSample("train" if part == "train" else "test")
        for index in range(images):
            picture, label = sample[index + 100 * (part == "test")]
            (folder := tmp_path / "clothes" / part / f"{int(label % 2)}").mkdir(parents=True, exist_ok=True)
            picture.save(folder / f"{index}.png")
    values = {**TINY, "data.kind": "folder", "data.root": str(tmp_path / "clothes"), "data.batch_size": 10}
    # So small a rate that no validation is better than the first one, while weights move on.
    values |= {"optimizer.lr": 1e-6, "schedule.min_lr": 1e-6, "schedule.warmup_lr": 1e-6, "schedule.epochs": 6}
    values |= {"trainer.patience": 2, "trainer.ema_decay": ema_decay, "output": str(tmp_path / "run")}
    result = train(load_recipe("demo_classification", values), progress=False)
    best = max(result.history, key=lambda line: line["val_top1"])
    assert best is not result.history[-1], "the test is of a run whose best is not its end"
    assert {name: result.metrics[name] for name in ("val_top1", "val_loss")} == {
        name: best[name] for name in ("val_top1", "val_loss")
    }
    exported, kept, last = (read_checkpoint(path).state_dict for path in (result.weights, result.best, result.last))
    assert all(torch.equal(exported[name], tensor) for name, tensor in kept.items())
    assert not all(torch.equal(exported[name], tensor) for name, tensor in last.items())
    test_images = sorted((tmp_path / "clothes" / "test").glob("*/*.png"))
    found = Predictor(result.weights, device="cpu", top_k=1)(test_images)
    right = [one.names[0] == path.parent.name for one, path in zip(found, test_images, strict=True)]
    assert result.metrics["test_top1"] == pytest.approx(sum(right) / len(right))
