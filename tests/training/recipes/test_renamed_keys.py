"""A key that had another name once is read by it, with a note, wherever a recipe comes from."""

import logging
from pathlib import Path
from typing import Any

import pytest

from swin_transformer_pytorch.training import RecipeError, load_recipe

MINE = "model: {name: swin_tiny_patch4_window7_224}\ndata: {augmentation: {%s}}"
NOTE = "recipe key data.augmentation.hflip is now called data.augmentation.flip_prob"


@pytest.mark.parametrize(
    ("text", "overrides"),
    [
        ("hflip: 0.125", {}),
        ("flip_prob: 0.5", {"data.augmentation.hflip": 0.125}),
        ("hflip: 0.5", {"data.augmentation.flip_prob": 0.125}),
        ("flip_prob: 0.5", ["--data.augmentation.hflip", "0.125"]),
        ("flip_prob: 0.5", ["--data.augmentation.hflip=0.125"]),
        ("crop: pad", {"data.augmentation": {"crop": "pad", "hflip": 0.125}}),
        ("crop: pad", {"data": {"augmentation": {"crop": "pad", "hflip": 0.125}}}),
    ],
)
def test_an_old_name_is_read_with_a_note(
    text: str, overrides: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE % text)
    with caplog.at_level(logging.WARNING):
        recipe = load_recipe(path, overrides).to_dict()
    assert recipe["data"]["augmentation"]["flip_prob"] == 0.125
    assert "hflip" not in recipe["data"]["augmentation"]
    assert caplog.messages == [NOTE]


def test_a_copy_is_made_by_the_old_name_too(caplog: pytest.LogCaptureFixture) -> None:
    recipe = load_recipe("finetune")
    assert recipe.replace({"data.augmentation.hflip": 0.0}) == recipe.replace({"data.augmentation.flip_prob": 0.0})
    assert caplog.messages == [NOTE]


def test_todays_names_are_read_without_one(caplog: pytest.LogCaptureFixture) -> None:
    load_recipe("finetune", {"data.augmentation.flip_prob": 0.0})
    assert caplog.messages == []


def test_both_names_at_once_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE % "hflip: 0.1, flip_prob: 0.2")
    with pytest.raises(RecipeError, match=r"mine\.yaml: data\.augmentation\.hflip is the old name of .*both are given"):
        load_recipe(path)


def test_a_name_that_a_task_never_had_is_unknown() -> None:
    with pytest.raises(RecipeError, match=r"unknown key data\.augmentation\.hflip; did you mean .*flip_prob"):
        load_recipe("finetune_detection", {"data.augmentation.hflip": 0.1})
