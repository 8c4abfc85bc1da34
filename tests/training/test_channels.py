"""Images of other channels than grey or colour, and of a white level, from training to prediction."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from sklearn.metrics import average_precision_score

from swin_transformer_pytorch import Predictor, load_model
from swin_transformer_pytorch.cli import main
from swin_transformer_pytorch.data.errors import DataError
from swin_transformer_pytorch.training import load_recipe, train
from swin_transformer_pytorch.training.recipes.classification import Recipe
from swin_transformer_pytorch.training.recipes.parts import RecipeError
from swin_transformer_pytorch.training.tasks.batch_sizes import saved_bytes
from swin_transformer_pytorch.training.tasks.classification.prepare import prepare
from swin_transformer_pytorch.training.tasks.detection.prepare import prepare as prepare_detection
from swin_transformer_pytorch.training.tasks.segmentation.prepare import prepare as prepare_segmentation

SMALL = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
CLASSES = ("high", "low")


def recipe_of(root: Path, output: Path, **overrides: Any) -> Recipe:
    values = {
        "data.root": str(root),
        "data.image_size": 16,
        "data.num_workers": 0,
        "model.weights": None,
        "model.config_overrides": SMALL,
        "optimizer.lr": 3e-3,
        "optimizer.layer_decay": 1.0,
        "schedule.epochs": 6,
        "trainer.device": "cpu",
        "output": str(output),
    }
    return load_recipe("finetune", values | {name.replace("__", "."): value for name, value in overrides.items()})


def fill(root: Path, channels: int | None, *, top: float = 1.0, dtype: str = "float32", count: int = 8) -> Path:
    """Images whose last channel is the class; PNGs for None."""
    random = np.random.default_rng(0)
    for name, level in zip(CLASSES, (0.8, 0.2), strict=True):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.uniform(0, 1, (20, 24, channels or 1))
            pixels[..., -1] = np.clip(random.normal(level, 0.05, (20, 24)), 0, 1)
            if channels is None:
                Image.fromarray((pixels[..., 0] * top).astype(dtype)).save(root / name / f"{number}.png")
            else:
                np.save(root / name / f"{number}.npy", (pixels * top).astype(dtype))
    return root


def test_bands_are_learnt_and_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = fill(tmp_path / "images", 5)
    result = train(recipe_of(images, tmp_path / "run"), progress=False)
    assert result.top1 == 1.0
    assert (result.output / "validation.png").is_file()
    model = load_model(result.weights)
    assert (model.config.in_channels, model.preprocessing.channels) == (5, 5)
    one = images / "high" / "0.npy"
    predictor = Predictor(result.weights, device="cpu")
    answer = predictor(one)
    assert answer.names[0] == "high"
    as_tensor = torch.from_numpy(np.load(one)).permute(2, 0, 1)
    assert [predictor(form).scores for form in (one.read_bytes(), as_tensor)] == [answer.scores] * 2

    weights, capsys_out = ["--weights", str(result.weights)], tmp_path / "rows.jsonl"
    more = ["--output", str(capsys_out), "--pictures", str(tmp_path / "seen")]
    assert main(["predict", str(images), *weights, *more]) == 0
    assert len([json.loads(line) for line in capsys_out.read_text().splitlines()]) == 16
    assert len(list((tmp_path / "seen").iterdir())) == 16
    assert main(["evaluate", *weights, "--data.root", str(images), "--output", str(tmp_path / "report")]) == 0
    assert "top-1 100.00%" in capsys.readouterr().out
    assert main(["data", str(images), "--picture", str(tmp_path / "look.png")]) == 0
    told = capsys.readouterr().out
    assert "24 x 20" in told and "5 channels in NPY files, (height, width, channels)" in told

    resumed = train(recipe_of(images, tmp_path / "run", resume=True, schedule__epochs=6), progress=False)
    assert resumed.metrics == result.metrics


@pytest.mark.parametrize(
    ("channels", "dtype", "chosen"),
    [(None, "uint8", 3), (1, "uint8", 1), (2, "float32", 2), (3, "uint8", 3), (5, "uint8", 5), (9, "uint16", 9)],
)
def test_auto_takes_the_channels_of_arrays_and_else_the_models(
    channels: int | None, dtype: str, chosen: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    top = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    images = fill(tmp_path / "images", channels, top=top, dtype=dtype, count=4)
    with caplog.at_level(logging.WARNING):
        training, data = prepare(recipe_of(images, tmp_path / "run"), "cpu")
    recipe, preprocessing = training.recipe, data.preprocessing
    assert (recipe.model.in_channels, training.model.config.in_channels, preprocessing.channels) == (chosen,) * 3
    why = "as the model has it" if channels is None else r"NPY files, (height, width, channels)"
    assert [record.getMessage() for record in caplog.records if "in_channels" in record.getMessage()] == [
        f"model.in_channels={chosen}, {why if channels is None else f'as the training images have in {why}'}"
    ]
    changes = recipe.data.augmentation
    assert ("auto_augment=rand-m5" in caplog.text) == (changes.auto_augment is None) == (chosen not in (1, 3))
    (batch, _), *_ = data.training_loader(0, 1)
    assert batch.shape[1:] == (chosen, 16, 16)
    if chosen not in (1, 3):
        paths = data.splits.train.paths
        values = np.stack([np.load(path) for path in paths]).astype(np.float64) / top
        np.testing.assert_allclose(preprocessing.mean, values.mean((0, 1, 2)), atol=1e-4)
        np.testing.assert_allclose(preprocessing.std, values.std((0, 1, 2)), atol=1e-4)
        assert f"of {chosen} channels, by {len(paths)} training images" in caplog.text


def test_a_checkpoint_keeps_its_channels_and_what_is_known_of_them(tmp_path: Path) -> None:
    images = fill(tmp_path / "images", 5, count=4)
    first = train(recipe_of(images, tmp_path / "first", schedule__epochs=1), progress=False)
    own = {"model__name": None, "model__weights": str(first.weights), "model__config_overrides": {}}
    other = fill(tmp_path / "other", 5, top=0.5, count=4)
    _, data = prepare(recipe_of(other, tmp_path / "second", **own), "cpu")
    assert data.preprocessing == load_model(first.weights).preprocessing


def test_channels_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    images = fill(tmp_path / "images", 5, count=4)
    np.save(images / "low" / "0.npy", np.zeros((20, 24, 4), np.uint8))
    with pytest.raises(DataError, match=r"have 4 and 5 channels; say which: model\.in_channels"):
        prepare(recipe_of(images, tmp_path / "run"), "cpu")
    with pytest.raises(DataError, match=r"none of \d training images can be read with .*=7; .*the first: "):
        prepare(recipe_of(images, tmp_path / "run", model__in_channels=7), "cpu")
    with pytest.raises(RecipeError, match=r"model\.in_channels=0.*use 1 \(grey\)"):
        recipe_of(images, tmp_path / "run", model__in_channels=0)


def test_a_white_level_travels_with_the_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = fill(tmp_path / "images", None, top=4095, dtype="uint16")
    with caplog.at_level(logging.WARNING):
        prepare(recipe_of(images, tmp_path / "run"), "cpu")
    assert caplog.text.count("--data.white_level 4095 makes that white") == 1
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        result = train(recipe_of(images, tmp_path / "run", data__white_level=4095), progress=False)
    assert "white" not in caplog.text
    assert load_model(result.weights).preprocessing.white_level == 4095
    predictor = Predictor(result.weights, device="cpu")
    path = images / "high" / "0.png"
    eight = np.round(np.asarray(Image.open(path)) / 4095 * 255).astype(np.uint8)
    assert {predictor(form).scores for form in (path, Image.open(path), eight)} == {predictor(path).scores}
    weights, report = ["--weights", str(result.weights)], ["--output", str(tmp_path / "report")]
    assert main(["evaluate", *weights, "--data.root", str(images), *report]) == 0
    measured = json.loads((tmp_path / "report" / "report.json").read_text())
    assert measured["top1"] == 1.0


def several_labels(root: Path, channels: int | None, suffix: str, *, top: int = 255, dtype: str = "uint8") -> Path:
    """Images with a label for each of two channels that is light, or whose half is; PNGs for None; in three parts."""
    random, rows = np.random.default_rng(0), ["file_name,first,last,split"]
    (root / "images").mkdir(parents=True)
    for number in range(40):
        labels = number % 2, number // 2 % 2
        pixels = random.uniform(0, 0.3, (20, 24, channels or 1))
        halves = pixels[:10, :, 0], pixels[10:, :, -1]
        for half, label in zip(halves, labels, strict=True):
            half += 0.7 * label
        whole = (pixels * top).astype(dtype)
        path = root / "images" / f"{number}{suffix}"
        if suffix == ".npy":
            np.save(path, whole)
        elif channels is None:
            Image.fromarray(whole[..., 0]).save(path)
        else:
            pytest.importorskip("tifffile").imwrite(path, whole, photometric="minisblack", planarconfig="contig")
        split = "val" if number < 8 else "test" if number < 12 else "train"
        rows.append(f"{path.name},{labels[0]},{labels[1]},{split}")
    (root / "labels.csv").write_text("\n".join(rows))
    return root


@pytest.mark.parametrize(("channels", "suffix", "white"), [(4, ".npy", None), (4, ".tif", 4095), (None, ".png", 4095)])
def test_images_of_several_labels_are_read_likewise(
    channels: int | None,
    suffix: str,
    white: int | None,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    how = {"top": white, "dtype": "uint16"} if white else {}
    images = several_labels(tmp_path / "images", channels, suffix, **how)
    if channels is None:
        assert main(["data", str(images)]) == 0
        assert "which is taken for white: --data.white_level 4095" in capsys.readouterr().out
    if channels:
        assert main(["data", str(images), "--picture", str(tmp_path / "look.png")]) == 0
        told = " ".join(capsys.readouterr().out.split())
        in_files = "in NPY files, (height, width, channels)" if suffix == ".npy" else "in TIFF files"
        assert f"labels.csv, 2 columns of 0 and 1, images of 4 channels {in_files}" in told
        assert "train 28 28 24 x 20" in told and "val 8 8" in told and "test 4 4" in told

    values = {"data__white_level": white, "schedule__epochs": 6, "data__augmentation__crop": "none"}
    result = train(recipe_of(images, tmp_path / "run", optimizer__lr=1e-2, **values), progress=False)
    held = yaml.safe_load((result.output / "recipe.yaml").read_text())
    expected = {"kind": "multi_label", "batch_size": 4, "white_level": white}
    assert {key: held["data"][key] for key in expected} == expected
    assert held["model"]["in_channels"] == (channels or 3)
    assert "data.batch_size=4, for 28 training images" in caplog.text
    assert "bits and values of at most" not in caplog.text
    assert result.best_score > 0.8 and (result.output / "validation.png").is_file()
    model = load_model(result.weights)
    assert (model.preprocessing.channels, model.preprocessing.white_level) == (channels or 3, white)
    caplog.clear()
    again = recipe_of(images, tmp_path / "run", resume=True, optimizer__lr=1e-2, **values)
    assert train(again, progress=False).metrics == result.metrics
    assert "data.batch_size" not in caplog.text

    weights, report = ["--weights", str(result.weights), "--device", "cpu"], tmp_path / "report"
    words = ["--data.root", str(images), "--data.split", "test", "--output", str(report)]
    assert main(["evaluate", *weights, *words]) == 0
    measured = json.loads((report / "report.json").read_text())
    assert (measured["num_images"], measured["positives"]) == (4, {"first": 2, "last": 2})
    found = Predictor(result.weights, device="cpu")(
        [images / "images" / f"{number}{suffix}" for number in range(8, 12)]
    )
    scores = [[dict(zip(one.names, one.scores, strict=True))[name] for name in ("first", "last")] for one in found]
    truth = np.array([[number % 2, number // 2 % 2] for number in range(8, 12)])
    assert measured["mean_ap"] == pytest.approx(average_precision_score(truth, np.array(scores)))


def test_an_image_of_more_channels_takes_more_of_the_memory(tmp_path: Path) -> None:
    taken = []
    for channels in (5, 15):
        images = fill(tmp_path / f"{channels}", channels, count=4)
        training, data = prepare(recipe_of(images, tmp_path / "run", data__batch_size=4), "cpu")
        taken.append(saved_bytes(training, data) / 4)
    assert taken[1] - taken[0] == 10 * 16 * 16 * 4  # the image itself, in float32


HEADS: dict[str, dict[str, Any]] = {
    "detection": {"fpn_dim": 8, "fc_dim": 8},
    "segmentation": {"decode_dim": 8, "auxiliary_dim": 8, "auxiliary_index": 0},
}


@pytest.mark.parametrize("task", HEADS)
def test_outlines_of_16_bit_images_train_both_dense_tasks_at_their_white_level(
    task: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    levels = np.linspace(0, 4095, 48 * 64).round().astype(np.uint16).reshape(48, 64)
    for number in range(5):
        Image.fromarray(levels).save(tmp_path / f"{number}.png")
        corners = [[8, 8], [40, 8], [40, 40], [8, 40]]
        shape = {"label": "cat" if number else "dog", "shape_type": "polygon", "points": corners}
        document = {"shapes": [shape], "imagePath": f"{number}.png", "imageHeight": 48, "imageWidth": 64}
        (tmp_path / f"{number}.json").write_text(json.dumps(document))
    values = {
        "model.name": None,
        "model.weights": None,
        "model.config": {**HEADS[task], "backbone": SMALL},
        "model.config_overrides": {},
        "data.kind": "labelme",
        "data.root": str(tmp_path),
        "trainer.device": "cpu",
    }
    prepare_dense: Any = prepare_detection if task == "detection" else prepare_segmentation
    for white in (None, 4095):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            training, data = prepare_dense(load_recipe(f"finetune_{task}", values | {"data.white_level": white}), "cpu")
        assert training.model.preprocessing.white_level == white
        assert ("--data.white_level 4095 makes that white" in caplog.text) == (white is None)
        highest = max(np.asarray(sample.image).max() for sample in data.validation_samples)
        assert highest == (255 if white else 15)
        assert training.model.classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("grey", "channels", "said"), [(False, "auto", True), (True, "auto", False), (False, 1, False)]
)
def test_colours_that_the_models_one_channel_loses_are_told(
    grey: bool, channels: Any, said: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, colour in (("red", (200, 20, 20)), ("green", (20, 200, 20))):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(3):
            image = Image.new("RGB", (20, 20), (number, number, number) if grey else colour)
            image.save(tmp_path / "data" / name / f"{number}.png")
    overrides = {"model__name": None, "model__weights": "fashion", "model__in_channels": channels}
    recipe = recipe_of(tmp_path / "data", tmp_path / "run", **overrides, model__config_overrides={})
    prepare(recipe, "cpu")
    assert ("--model.in_channels 3 keeps them" in caplog.text) == said
