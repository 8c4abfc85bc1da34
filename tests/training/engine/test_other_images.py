"""A run that goes on with other images than it began with."""

from pathlib import Path

import pytest
from PIL import Image
from tests.training.conftest import TINY

from swin_transformer_pytorch.training import load_recipe, train


def write(folder: Path, count: int) -> None:
    for name, value in (("cat", 0), ("dog", 200)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            Image.new("L", (28, 28), value + index).save(folder / name / f"{index}.png")


@pytest.mark.parametrize("change", ["more", "exchanged", "none", "moved"])
def test_images_that_are_validated_on_and_may_have_been_learnt_from_are_told(
    change: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = tmp_path / "photos"
    write(photos, 10)
    values = {**TINY, "data.kind": "folder", "data.root": str(photos), "data.batch_size": 8, "schedule.epochs": 2}
    values |= {"output": str(tmp_path / "run"), "data.num_workers": 0}
    train(load_recipe("demo_classification", values), progress=False)
    if change == "more":
        write(photos, 17)
    elif change == "exchanged":
        for path in [*photos.glob("*/*.png")]:
            path.rename(path.with_name(f"new_{path.name}"))
    elif change == "moved":
        photos = photos.rename(tmp_path / "elsewhere")
    caplog.clear()
    train(load_recipe("demo_classification", {**values, "data.root": str(photos), "resume": True}), progress=False)
    told = [message for message in caplog.messages if message.startswith("the validation images are others")]
    assert len(told) == (change in ("more", "exchanged"))
    assert ("training images and goes on with" in caplog.text) == (change == "more")
