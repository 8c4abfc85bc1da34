import sys
import unicodedata

import numpy as np
import pytest
from PIL import Image, ImageFont

from swin_transformer_pytorch.extras import MissingExtraError
from swin_transformer_pytorch.results import Classification, Detections, SegmentationMap
from swin_transformer_pytorch.visualize import (
    annotate,
    charts,
    confusion_matrix_picture,
    label_grid,
    picture_grid,
    pictures,
    prediction_grid,
    training_curve,
)
from swin_transformer_pytorch.visualize.charts import new_figure, save_figure
from swin_transformer_pytorch.visualize.pictures import text_font


def result(*names):
    scores = tuple(2.0 ** -(place + 1) for place in range(len(names)))
    return Classification(labels=tuple(range(len(names))), scores=scores, names=names)


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def has_colour(path, colour, tolerance=20):
    return (np.abs(pixels(path).astype(int) - colour).max(axis=-1) < tolerance).any()


GREEN, RED = (26, 127, 55), (207, 34, 46)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("size", [(28, 28), (1500, 600), (1, 20000), (1, 1)])
def test_an_annotated_image_of_any_size(size, suffix, tmp_path):
    path = tmp_path / "new" / f"out{suffix}"
    annotate(
        Image.new("RGB", size, (200, 30, 30)), result("fox", "a name that is far too long for one line " * 4), path
    )
    with Image.open(path) as picture:
        assert picture.width >= 320
        assert max(picture.size) <= 1400
    if suffix == ".png" or 1 not in size:  # others blur a line of one pixel
        assert has_colour(path, (200, 30, 30))
    assert has_colour(path, (182, 227, 255))  # the bar of the best class


def test_the_image_itself_is_not_covered(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (400, 500, 3), dtype=np.uint8)
    annotate(image, result("fox"), tmp_path / "out.png")
    np.testing.assert_array_equal(pixels(tmp_path / "out.png")[:400, :500], image)


def test_grids_mark_right_and_wrong(tmp_path):
    images = [np.full((28, 28), value, dtype=np.uint8) for value in (0, 100, 200)]
    results = [result("fox", "cat")] * 3
    for name, targets, green, red in (
        ("r", [0] * 3, 1, 0),
        ("w", [1] * 3, 0, 1),
        ("m", [0, 1, 7], 1, 1),
        ("n", None, 0, 0),
    ):
        path = tmp_path / f"{name}.png"
        prediction_grid(images, results, targets, path, classes=["fox", "cat"])
        assert (has_colour(path, GREEN), has_colour(path, RED)) == (green, red)


@pytest.mark.parametrize(
    ("found", "targets", "green", "red"),
    [
        ([["a"], [], ["b", "a"]], [["a"], [], ["a", "b"]], 1, 0),
        ([["a"], ["b"]], [["a", "b"], []], 0, 1),
        ([["a"], ["a very long name of a class"] * 9], [["a"], ["b"]], 1, 1),
    ],
)
def test_grids_of_several_labels_tell_right_from_wrong(found, targets, green, red, tmp_path):
    images = [np.full((40, 60, 3), 128, dtype=np.uint8)] * len(found)
    label_grid(images, found, targets, tmp_path / "grid.png")
    assert (has_colour(tmp_path / "grid.png", GREEN), has_colour(tmp_path / "grid.png", RED)) == (green, red)


@pytest.mark.parametrize(("count", "known"), [(0, 0), (2, 3)])
def test_grids_need_one_of_each(count, known, tmp_path):
    images = [np.zeros((8, 8), dtype=np.uint8)] * count
    with pytest.raises(ValueError, match="give one of each"):
        prediction_grid(images, [result("fox")] * count, [0] * known, tmp_path / "grid.png")


@pytest.mark.parametrize("size", [2, 10, 30, 31, 1000])
def test_confusion_matrices_of_any_size(size, tmp_path):
    matrix = np.eye(size, dtype=np.int64) * 9
    matrix[0, 1] = 3
    path = tmp_path / "matrix.png"
    confusion_matrix_picture(matrix, [f"class {index}" for index in range(size)], path)
    height, width, _ = pixels(path).shape
    assert 200 < height < 2500
    assert 200 < width < 2500
    assert has_colour(path, (8, 48, 107))  # the diagonal is there


def test_rare_mistakes_show_among_a_thousand_classes(tmp_path):
    matrix = np.eye(1000, dtype=np.int64) * 50
    confusion_matrix_picture(matrix, ["x"] * 1000, tmp_path / "clean.png")
    matrix[500, 20] = 25
    confusion_matrix_picture(matrix, ["x"] * 1000, tmp_path / "mistake.png")
    clean, mistake = pixels(tmp_path / "clean.png"), pixels(tmp_path / "mistake.png")
    width = 700  # the matrix, without the list beside it
    assert (clean[100:800, :width] != mistake[100:800, :width]).any()


def test_a_confusion_matrix_without_images_or_with_names_in_any_script(tmp_path):
    confusion_matrix_picture(np.zeros((2, 2), dtype=np.int64), ["猫", "собака"], tmp_path / "empty.png")
    annotate(Image.new("RGB", (50, 50)), result("猫", "собака"), tmp_path / "annotated.png")
    with pytest.raises(ValueError, match=r"\(2, 3\) does not go with 2"):
        confusion_matrix_picture(np.zeros((2, 3)), ["a", "b"], tmp_path / "bad.png")


BEYOND_ASCII = ["Käfer é", "ñandú", "Straße", "собака", "Ωμέγα", "10 µm – 20 µm…", "Đà Nẵng", "ẞ ǆ ⅓ ☃"]


def drawn(name, tmp_path):
    """The pictures that show a name, each kind of them."""
    image = Image.new("RGB", (64, 48))
    box = Detections(boxes_xyxy=[[4, 4, 60, 44]], scores=[0.5], labels=[0], names=[name], image_size=(48, 64))
    label_map = SegmentationMap(labels=np.zeros((48, 64), dtype=np.uint8), names=(name,))
    for kind, result_ in enumerate((result(name), box, label_map)):
        annotate(image, result_, tmp_path / f"{kind}.png")
    picture_grid([image], tmp_path / "3.png", titles=[name])
    confusion_matrix_picture(np.eye(2, dtype=np.int64), [name, "x"], tmp_path / "4.png")
    return [pixels(tmp_path / f"{kind}.png") for kind in range(5)]


@pytest.mark.parametrize("name", BEYOND_ASCII)
def test_letters_beyond_ascii_are_drawn(name, caplog):
    font = text_font(20, ["plain", name])
    nothing = bytes(font.getmask("\u0378"))  # no character
    assert all(bytes(font.getmask(letter)) != nothing for letter in name)
    assert not caplog.records


@pytest.mark.parametrize("name", BEYOND_ASCII[:3])
def test_both_forms_of_unicode_are_drawn_alike(name, tmp_path):
    pairs = zip(*(drawn(unicodedata.normalize(form, name), tmp_path) for form in ("NFC", "NFD")), strict=True)
    for composed, decomposed in pairs:
        np.testing.assert_array_equal(composed, decomposed)


def test_ascii_keeps_pillows_font_and_matplotlib_is_not_imported(monkeypatch):
    for module in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    every = "".join(map(chr, range(32, 127)))
    assert text_font(17, ["fox", every, "cut short…"]).getname() == ImageFont.load_default(17).getname()
    assert text_font(17, ["fox", "é"]).getname() == ("DejaVu Sans", "Book")
    assert "matplotlib" not in sys.modules


@pytest.mark.parametrize("installed", [True, False])
@pytest.mark.parametrize("name", ["猫", "한국어 dog", "\U0001f43a"])
def test_what_no_font_has_is_said_once_with_the_fix(name, installed, tmp_path, monkeypatch, caplog):
    pictures._say_once.cache_clear()
    if not installed:
        monkeypatch.setattr(pictures, "_dejavu_sans", lambda: None)
    fix = "Latin, Greek or Cyrillic" if installed else "pip install 'swin-transformer-pytorch[train]'"
    for _ in range(2):
        drawn(name, tmp_path)
    (record,) = [record for record in caplog.records if name in record.getMessage() and "%" not in record.getMessage()]
    assert fix in record.getMessage()


def test_other_warnings_of_matplotlib_are_passed_on(tmp_path):
    figure = new_figure(0.3, 0.3)
    axes = figure.subplots(1, 9)
    axes[0].set_title("猫")
    with pytest.warns(UserWarning, match="constrained_layout not applied"):
        save_figure(figure, tmp_path / "tiny.png")


def test_training_curves_with_gaps_and_of_one_point(tmp_path):
    history = [
        {"epoch": 1, "train_loss": 2.0},
        {"epoch": 2, "train_loss": 1.0, "val_loss": 1.2, "val_top1": 0.5, "lr": 1e-3},
    ]
    for name, points in (
        ("both", history),
        ("one", history[1:]),
        ("loss", history[:1]),
        ("plain", [{"val_top1": 0.5}]),
    ):
        training_curve(points, tmp_path / f"{name}.png")
    # Two panels, or one.
    assert pixels(tmp_path / "both.png").shape[1] > 1.5 * pixels(tmp_path / "loss.png").shape[1]
    with pytest.raises(ValueError, match="no loss and no accuracy"):
        training_curve([{"epoch": 1, "lr": 0.1}], tmp_path / "none.png")
    with pytest.raises(ValueError, match="0 points"):
        training_curve([], tmp_path / "none.png")


@pytest.mark.parametrize(
    ("names", "legend", "title"),
    [
        (["val_top1", "val_top5"], ["top-1", "top-5"], "best of validation top-1: 75.00%"),
        (["val_map", "val_f1"], ["mAP", "F1"], "best of validation mAP: 75.00%"),
        (
            ["val_box_ap", "val_box_ap50", "val_box_ap75", "val_mask_ap"],
            ["box AP", "box AP50", "box AP75", "mask AP"],
            "best of validation box AP: 75.00%",
        ),
        (
            ["val_miou", "val_macc", "val_aacc"],
            ["mIoU", "mAcc", "pixel accuracy"],
            "best of validation mIoU: 75.00%",
        ),
        (["train_loss", "val_loss"], ["train loss", "validation loss"], "loss"),
    ],
)
def test_curves_are_named_as_people_name_them(names, legend, title, monkeypatch):
    drawn = []
    monkeypatch.setattr(charts, "save_figure", lambda figure, path: drawn.append(figure))
    training_curve([{"epoch": 1} | dict.fromkeys(names, 0.5), {"epoch": 2} | dict.fromkeys(names, 0.75)], "x.png")
    (axes,) = drawn[0].axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == legend
    assert axes.get_title() == title


def test_without_matplotlib_only_annotate_works(tmp_path, monkeypatch):
    for module in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr("importlib.import_module", refuse)
    annotate(Image.new("RGB", (50, 50)), result("fox"), tmp_path / "annotated.png")
    with pytest.raises(MissingExtraError, match=r"pip install 'swin-transformer-pytorch\[train\]'"):
        training_curve([{"train_loss": 1.0}], tmp_path / "curve.png")


def refuse(module):
    raise ModuleNotFoundError(f"No module named {module!r}", name=module.partition(".")[0])
