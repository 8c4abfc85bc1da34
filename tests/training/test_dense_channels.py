"""Detectors and segmenters of grey images and of images of many channels, from training to prediction."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from swin_transformer_pytorch import Predictor, load_model, save_model
from swin_transformer_pytorch.cli import main
from swin_transformer_pytorch.data.errors import DataError
from swin_transformer_pytorch.data.segmentation.dataset import open_segmentation
from swin_transformer_pytorch.training import load_recipe, train
from swin_transformer_pytorch.training.tasks.detection.prepare import prepare as prepare_detection
from swin_transformer_pytorch.training.tasks.segmentation.prepare import prepare as prepare_segmentation
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

HEIGHT, WIDTH, BANDS = 40, 56, 5
SMALL = {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4}
HEADS: dict[str, dict[str, Any]] = {
    "detection": {"fpn_dim": 8, "fc_dim": 8},
    "segmentation": {"decode_dim": 8, "auxiliary_dim": 8, "auxiliary_index": 0},
}
OFFICIAL = {"detection": DensePreprocessing.coco(), "segmentation": DensePreprocessing.ade20k()}
PREPARE: dict[str, Any] = {"detection": prepare_detection, "segmentation": prepare_segmentation}
CLASSES = ("ship", "cloud")


def save_bands(path: Path, pixels: np.ndarray) -> None:
    """uint8 (H, W, C), as what the path ends in says."""
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        pytest.importorskip("tifffile").imwrite(path, pixels, photometric="minisblack", planarconfig="contig")


def fill(root: Path, task: str, *, suffix: str = ".npy", bands: int = BANDS, count: int = 6) -> Path:
    """Squares that the last band alone shows, of two classes by their lightness; noise else; in two parts."""
    random = np.random.default_rng(0)
    for part in ("train", "val"):
        (root / "images" / part).mkdir(parents=True)
        (root / "labels" / part).mkdir(parents=True)
        images, annotations = [], []
        for number in range(count):
            pixels = random.integers(0, 100, (HEIGHT, WIDTH, bands), dtype=np.uint8)
            label, left, top = number % 2, int(random.integers(2, 30)), int(random.integers(2, 18))
            pixels[..., -1] = 100
            pixels[top : top + 20, left : left + 24, -1] = (20, 230)[label]
            name = f"{number}{suffix}"
            save_bands(root / "images" / part / name, pixels)
            labels = np.full((HEIGHT, WIDTH), 2, np.uint8)
            labels[top : top + 20, left : left + 24] = label
            Image.fromarray(labels).save(root / "labels" / part / f"{number}.png")
            images.append({"id": number, "file_name": name, "width": WIDTH, "height": HEIGHT})
            right, bottom = left + 24, top + 20
            outline = [[left, top, right, top, right, bottom, left, bottom]]
            box = {"bbox": [left, top, 24, 20], "area": 480, "iscrowd": 0, "segmentation": outline}
            annotations.append({"id": number, "image_id": number, "category_id": label} | box)
        categories = [{"id": label, "name": name} for label, name in enumerate(CLASSES)]
        document = {"images": images, "annotations": annotations, "categories": categories}
        if task == "detection":
            (root / "annotations").mkdir(exist_ok=True)
            (root / "annotations" / f"instances_{part}.json").write_text(json.dumps(document))
    if task == "segmentation":
        (root / "classes.txt").write_text("\n".join([*CLASSES, "sea"]))
    return root


def recipe_of(task: str, root: Path, output: Path, **overrides: Any) -> Any:
    values = {
        "model.name": None,
        "model.weights": None,
        "model.config": {**HEADS[task], "backbone": SMALL},
        "model.config_overrides": {},
        "data.root": str(root),
        "data.scale": None if task == "segmentation" else [64, 64],
        "data.batch_size": 2,
        "data.num_workers": 0,
        "schedule.epochs": 1,
        "trainer.device": "cpu",
        "output": str(output),
    }
    return load_recipe(f"finetune_{task}", values | {name.replace("__", "."): one for name, one in overrides.items()})


@pytest.mark.parametrize(("task", "suffix"), [("detection", ".npy"), ("detection", ".tif"), ("segmentation", ".npy")])
def test_bands_go_from_a_folder_to_predictions(
    task: str, suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    images = fill(tmp_path / "images", task, suffix=suffix)
    assert main(["data", str(images), "--task", task, "--picture", str(tmp_path / "look.png")]) == 0
    told = " ".join(capsys.readouterr().out.split())
    how = "in NPY files, (height, width, channels)" if suffix == ".npy" else "in TIFF files"
    assert f"images of 5 channels {how}" in told and "56 x 40" in told

    with caplog.at_level(logging.WARNING):
        result = train(recipe_of(task, images, tmp_path / "run"), progress=False)
    assert f"model.in_channels=5, as the training images have {how}" in caplog.text
    assert (result.output / "validation.png").is_file()
    assert yaml.safe_load((result.output / "recipe.yaml").read_text())["model"]["in_channels"] == BANDS
    model = load_model(result.weights)
    assert (model.config.backbone.in_channels, model.preprocessing.channels) == (BANDS, BANDS)
    pixels = np.stack([np.array(one) for one in _arrays(images / "images" / "train", suffix)]).astype(np.float64)
    np.testing.assert_allclose(model.preprocessing.mean, pixels.mean((0, 1, 2)), atol=0.01)
    np.testing.assert_allclose(model.preprocessing.std, pixels.std((0, 1, 2)), atol=0.01)

    one = images / "images" / "val" / f"0{suffix}"
    predictor, array = Predictor(result.weights, device="cpu"), _read(one)
    forms: list[Any] = [one, one.read_bytes(), array, torch.from_numpy(array).permute(2, 0, 1)]
    answers = [predictor(form).to_dict() for form in forms]
    assert all(answer == answers[0] for answer in answers)

    weights, shown = ["--weights", str(result.weights), "--device", "cpu"], tmp_path / "seen"
    rows = ["--output", str(tmp_path / "rows.jsonl"), "--pictures", str(shown)]
    assert main(["predict", str(images / "images" / "val"), *weights, *rows]) == 0
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == len(list(shown.iterdir())) == 6
    report = tmp_path / "report"
    assert main(["evaluate", *weights, "--data.root", str(images), "--output", str(report)]) == 0
    measured = json.loads((report / "report.json").read_text())
    assert measured["num_images"] == 6
    if task == "segmentation":
        assert measured["mIoU"] == pytest.approx(result.metrics["val_miou"])

    again = train(recipe_of(task, images, tmp_path / "run", resume=True), progress=False)
    assert again.metrics == result.metrics


def _read(path: Path) -> np.ndarray:
    return np.load(path) if path.suffix == ".npy" else pytest.importorskip("tifffile").imread(path)


def _arrays(folder: Path, suffix: str) -> list[np.ndarray]:
    return [_read(path) for path in sorted(folder.glob(f"*{suffix}"))]


def test_the_last_band_is_learnt(tmp_path: Path) -> None:
    images = fill(tmp_path / "images", "segmentation", count=12)
    changes = {"data__augmentation__ratio_range": [1.0, 1.0], "data__augmentation__photometric": False}
    values = {
        "schedule__epochs": 25,
        "optimizer__lr": 1e-2,
        "schedule__warmup_steps": 5,
        "model__init": "fan_in",
        **changes,
    }
    result = train(recipe_of("segmentation", images, tmp_path / "run", **values), progress=False)
    assert result.metrics["val_miou"] > 0.8


@pytest.mark.parametrize("task", HEADS)
def test_all_is_read_as_grey_where_the_recipe_says_so(task: str, tmp_path: Path) -> None:
    images = fill(tmp_path / "images", task)
    for path in (images / "images").rglob("*.npy"):
        Image.fromarray(np.load(path)[..., 2:]).save(path.with_suffix(".png"))
        path.unlink()
    for file in (images / "annotations").glob("*.json"):
        file.write_text(file.read_text().replace(".npy", ".png"))
    training, data = PREPARE[task](recipe_of(task, images, tmp_path / "run", model__in_channels=1), "cpu")
    mean = sum(OFFICIAL[task].mean) / 3
    assert training.model.preprocessing.mean == pytest.approx((mean,))
    batch = next(iter(data.training_loader(0, 1)))
    assert batch.images.shape[1] == 1
    assert data.validation_samples[0].image.mode == "L"
    assert data.evaluated(data.validation_samples).dataset[0] is not None


@pytest.mark.parametrize("task", HEADS)
def test_bands_that_do_not_go_together_are_refused(task: str, tmp_path: Path) -> None:
    images = fill(tmp_path / "images", task)
    np.save(images / "images" / "train" / "0.npy", np.zeros((HEIGHT, WIDTH, 4), np.uint8))
    with pytest.raises(DataError, match=r"have 4 and 5 channels; say which: model\.in_channels"):
        PREPARE[task](recipe_of(task, images, tmp_path / "run"), "cpu")
    with pytest.raises(DataError, match=r"can be read with model\.in_channels=7"):
        PREPARE[task](recipe_of(task, images, tmp_path / "run", model__in_channels=7), "cpu")


def test_a_coloured_model_takes_arrays_of_three_channels(tmp_path: Path) -> None:
    images = fill(tmp_path / "images", "detection", bands=3)
    values = {"data__augmentation__instaboost": True}
    training, data = prepare_detection(recipe_of("detection", images, tmp_path / "run", **values), "cpu")
    assert training.model.preprocessing.channels == 3
    batches = list(data.training_loader(0, 1))
    assert len(batches) == 3 and all(batch.images.shape[1] == 3 for batch in batches)


def test_instaboost_of_bands_is_refused(tmp_path: Path) -> None:
    images = fill(tmp_path / "images", "detection")
    recipe = recipe_of("detection", images, tmp_path / "run", data__augmentation__instaboost=True)
    with pytest.raises(ValueError, match=r"InstaBoost is for RGB .* 5 channels; .*--data\.augmentation\.instaboost"):
        prepare_detection(recipe, "cpu")


def test_weights_of_a_coloured_classifier_start_a_detector_of_bands(tmp_path: Path) -> None:
    images = fill(tmp_path / "images", "detection")
    values = {"model__name": "mask_rcnn_swin_tiny_patch4_window7", "model__config": None}
    small = {"model__config_overrides": {**SMALL, **HEADS["detection"]}}
    first, _ = prepare_detection(
        recipe_of("detection", fill(tmp_path / "rgb", "detection", bands=3), tmp_path / "run", **values, **small), "cpu"
    )
    save_model(first.model, tmp_path / "rgb.safetensors")
    values |= {"model__weights": str(tmp_path / "rgb.safetensors")}
    second, _ = prepare_detection(recipe_of("detection", images, tmp_path / "run", **values, **small), "cpu")
    weight, old = (one.model.backbone.patch_embed.proj.weight for one in (second, first))
    assert weight.shape[1] == 5
    # Repeated over the bands and scaled, so that equal bands give what equal colours gave.
    assert torch.allclose(weight[:, 0], old[:, 0] * 3 / 5) and torch.allclose(weight[:, 3], old[:, 0] * 3 / 5)


def _square(random: np.random.Generator) -> np.ndarray:
    return random.integers(0, 256, (HEIGHT, WIDTH, BANDS), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".npy", ".tif"])
@pytest.mark.parametrize("layout", ["yolo", "labelme", "voc"])
def test_layouts_of_other_tools_may_have_bands(layout: str, suffix: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for number in range(5):
        if layout == "yolo":
            (tmp_path / "images").mkdir(exist_ok=True)
            (tmp_path / "labels").mkdir(exist_ok=True)
            save_bands(tmp_path / "images" / f"{number}{suffix}", _square(random))
            (tmp_path / "labels" / f"{number}.txt").write_text("0 0.5 0.5 0.5 0.25\n")
            (tmp_path / "classes.txt").write_text("ship\n")
        elif layout == "labelme":
            save_bands(tmp_path / f"{number}{suffix}", _square(random))
            shape = {"label": "ship", "shape_type": "rectangle", "points": [[14, 15], [42, 25]]}
            document = {"shapes": [shape], "imagePath": f"{number}{suffix}", "imageHeight": HEIGHT, "imageWidth": WIDTH}
            (tmp_path / f"{number}.json").write_text(json.dumps(document))
        else:
            (tmp_path / "Annotations").mkdir(exist_ok=True)
            (tmp_path / "JPEGImages").mkdir(exist_ok=True)
            save_bands(tmp_path / "JPEGImages" / f"{number}{suffix}", _square(random))
            box = "<bndbox><xmin>15</xmin><ymin>16</ymin><xmax>42</xmax><ymax>25</ymax></bndbox>"
            text = (
                f"<annotation><filename>{number}{suffix}</filename><object><name>ship</name>{box}</object></annotation>"
            )
            (tmp_path / "Annotations" / f"{number}.xml").write_text(text)
    values = {"data__kind": "folder", "data__box_masks": True}
    training, data = prepare_detection(recipe_of("detection", tmp_path, tmp_path / "run", **values), "cpu")
    assert training.model.preprocessing.channels == BANDS
    sample = data.validation_samples[0]
    assert tuple(sample.image.shape) == (BANDS, HEIGHT, WIDTH)
    np.testing.assert_allclose(sample.boxes_xyxy, [[14, 15, 42, 25]], atol=1e-4)


def test_arrays_with_label_maps_beside_them_are_the_images(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for number in range(4):
        np.save(tmp_path / f"{number}.npy", np.full((HEIGHT, WIDTH, BANDS), number, np.uint8))
        Image.fromarray(np.full((HEIGHT, WIDTH), number % 2, np.uint8)).save(tmp_path / f"{number}_mask.png")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    maps = open_segmentation(tmp_path, "train", channels=None)
    assert sorted(Path(path).suffix for path in maps.paths) == [".npy"] * 3
    assert all(int(maps[index].image.max()) % 2 == maps[index].labels.max() for index in range(len(maps)))
    # Pictures of the same names are the images, and the arrays something else.
    for number in range(4):
        Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / f"{number}.png")
    maps = open_segmentation(tmp_path, "train", channels=None)
    assert {Path(path).suffix for path in maps.paths} == {".png"}
    assert "4 arrays" in caplog.text and "are passed over" in caplog.text
