"""Pictures of detections and label maps."""

import itertools

import numpy as np
import pytest
from PIL import Image, ImageDraw

from swin_transformer_pytorch.results import Detections, SegmentationMap
from swin_transformer_pytorch.rle import encode_mask
from swin_transformer_pytorch.visualize import (
    annotate,
    class_colour,
    class_scores_picture,
    detection_overlay,
    picture_grid,
    precision_recall_picture,
    save_label_map,
    segmentation_overlay,
)


def found(size, boxes, *, masks=True, names=None, labels=None):
    """Detections whose masks fill their boxes."""
    rles = []
    for left, top, right, bottom in boxes:
        mask = np.zeros(size, dtype=bool)
        mask[int(top) : int(bottom), int(left) : int(right)] = True
        rles.append(encode_mask(mask))
    return Detections(
        boxes_xyxy=boxes,
        scores=np.linspace(0.9, 0.1, len(boxes)),
        labels=labels or [0] * len(boxes),
        names=names or ["a fox"] * len(boxes),
        image_size=size,
        mask_rles=rles if masks else None,
    )


def grey(size, value=128):
    return np.full(size, value, dtype=np.uint8)


@pytest.mark.parametrize("size", [(40, 60), (600, 500), (900, 4000), (1, 1), (1, 3000), (2, 1)])
def test_an_image_of_any_size_gets_its_objects(size, tmp_path):
    height, width = size
    boxes = [[0, 0, width / 2, height], [width / 3, height / 4, width, height], [-5, -5, 2 * width, 2 * height]]
    path = tmp_path / "new" / "out.png"
    annotate(grey(size), found(size, boxes, labels=[0, 1, 2]), path)
    with Image.open(path) as picture:
        assert 480 <= max(picture.size) <= 1600
        assert len(picture.convert("RGB").getcolors(1 << 24)) >= 3


def test_masks_tint_their_pixels_and_no_others():
    size, box = (500, 600), [100, 200, 300, 400]
    picture = np.asarray(detection_overlay(grey(size), found(size, [box])))
    tint = np.array(class_colour(0))
    np.testing.assert_allclose(picture[300, 200], 128 * 0.58 + tint * 0.42, atol=1)
    assert (picture[450, 200] == 128).all()
    assert (picture[300, 350] == 128).all()
    without = np.asarray(detection_overlay(grey(size), found(size, [box], masks=False)))
    assert (without[300, 200] == 128).all()
    assert (without[200, 250] == tint).all()  # the box


def test_names_do_not_cover_one_another():
    size = (500, 600)
    # Objects in one another: all eight places at the corners are soon taken.
    boxes = [[100 - shift, 100, 300 + shift, 300] for shift in range(11)]
    labels = [*range(11)]
    picture = np.asarray(detection_overlay(grey(size), found(size, boxes, masks=False, labels=labels)))
    # The ground of each name has its class's colour; all of them are seen whole.
    areas = [int((picture == np.array(class_colour(label))).all(axis=-1).sum()) for label in labels]
    alone = np.asarray(detection_overlay(grey(size), found(size, boxes[:1], masks=False)))
    name = int((alone == np.array(class_colour(0))).all(axis=-1).sum()) - 2 * 4 * 200  # without the box
    assert min(areas) > 0.9 * name > 500


@pytest.fixture
def drawn(monkeypatch):
    """(words, box) of what is written on pictures, in that order."""
    written, text = [], ImageDraw.ImageDraw.text

    def keep(self, xy, words, *args, **options):
        written.append((words, self.textbbox(xy, words, font=options["font"], anchor=options["anchor"])))
        return text(self, xy, words, *args, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", keep)
    return written


def test_a_name_without_a_free_place_is_left_out(drawn):
    """Fifteen objects in a strip that has room for a few of their names."""
    size = (40, 500)
    detection_overlay(grey(size), found(size, [[4 * n, 0, 100 + 4 * n, 40] for n in range(15)], masks=False))
    assert 2 <= len(drawn) < 15
    for (_, (left, top, right, bottom)), (_, other) in itertools.combinations(drawn, 2):
        assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_names_of_a_flat_picture_leave_most_of_it_free(drawn):
    size = (100, 1500)
    detection_overlay(grey(size), found(size, [[10, 40, 400, 90]], masks=False))
    ((_, (_, top, _, bottom)),) = drawn
    assert bottom - top < 16


def test_a_colour_is_of_a_class_whatever_else_is_found():
    """Objects of one class look alike, in one picture and in the next, and names of one class are told apart."""
    size, boxes = (500, 600), [[20, 40, 120, 140], [220, 40, 320, 140], [420, 40, 520, 140]]
    for labels in ([3, 7, 3], [7, 3, 11], [11, 11, 11]):
        picture = np.asarray(detection_overlay(grey(size), found(size, boxes, labels=labels)))
        for (left, top, *_), label in zip(boxes, labels, strict=True):
            assert tuple(picture[top + 50, left]) == class_colour(label)
    side_by_side = detection_overlay(grey(size), found(size, [[0, 0, 600, 500]] * 2, masks=False))
    (left, right) = (side_by_side.crop((0, 0, 300, 12)), side_by_side.crop((300, 0, 600, 12)))
    for half in (left, right):
        columns = (np.asarray(half) == np.array(class_colour(0))).all(axis=-1).sum(axis=0)
        assert columns.max() > 6 and columns.min() <= 4  # a name's ground, and the box's edge beside it


def test_no_objects_leave_the_image_as_it_is():
    size = (500, 600)
    picture = np.asarray(detection_overlay(grey(size), found(size, [])))
    assert (picture == 128).all()


def test_a_hundred_objects_and_long_names_fit():
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 400, (100, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(1, 100, (100, 2))], axis=1).tolist()
    names = ["a name that is far too long for one line " * 3] * 100
    picture = detection_overlay(grey((500, 500)), found((500, 500), boxes, names=names))
    assert picture.size == (500, 500)


def labels(size=(60, 80)):
    """The left half is the first class, the right one the second, the last row is unlabelled."""
    values = np.zeros(size, dtype=np.uint8)
    values[:, size[1] // 2 :] = 1
    values[-1] = 255
    return SegmentationMap(labels=values, names=("sky", "sea"), palette=((200, 0, 0), (0, 0, 200)))


def test_a_label_map_is_a_png_whose_values_are_the_classes(tmp_path):
    result = labels()
    path = tmp_path / "new" / "labels.png"
    save_label_map(result, path)
    with Image.open(path) as picture:
        assert picture.mode == "P"
        np.testing.assert_array_equal(np.asarray(picture), result.labels)
        colours = np.asarray(picture.convert("RGB"))
    assert [tuple(colours[0, place]) for place in (0, 79)] == list(result.palette)
    assert tuple(colours[-1, 0]) == (255, 255, 255)


def test_more_than_256_classes_need_16_bits(tmp_path):
    result = SegmentationMap(labels=np.array([[0, 299], [255, 1]]), names=[f"class {i}" for i in range(300)])
    save_label_map(result, tmp_path / "labels.png")
    with Image.open(tmp_path / "labels.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), result.labels)
    assert segmentation_overlay(grey((2, 2)), result).width == 480


@pytest.mark.parametrize("size", [(60, 80), (600, 500), (900, 4000), (1, 1), (1, 3000)])
def test_maps_are_laid_over_images_of_any_size(size, tmp_path):
    annotate(grey(size), labels(size), tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as picture:
        assert 480 <= picture.width <= 1600


def test_pixels_have_their_class_colour_and_a_legend_tells_it():
    result = labels((500, 600))
    picture = np.asarray(segmentation_overlay(grey((500, 600)), result))
    np.testing.assert_allclose(picture[200, 100], 128 * 0.45 + np.array((200, 0, 0)) * 0.55, atol=1)
    np.testing.assert_allclose(picture[200, 500], 128 * 0.45 + np.array((0, 0, 200)) * 0.55, atol=1)
    assert (picture[499, 100] == 128).all()  # unlabelled
    assert (picture[200, 299] == 255).all()  # the border
    legend = picture[500:]
    assert all((legend == np.array(colour)).all(axis=-1).any() for colour in result.palette)


def test_a_class_has_its_colour_on_pixels_of_any_colour():
    """A red image does not make a blue class violet."""
    red, blue = np.full((300, 500, 3), (220, 40, 30), np.uint8), (40, 60, 240)
    result = SegmentationMap(labels=np.zeros((300, 500), np.uint8), names=("sea",), palette=(blue,))
    pixel = np.asarray(segmentation_overlay(red, result))[100, 100].astype(int)
    assert pixel[2] - pixel[0] > 80 and abs(pixel[0] - pixel[1]) < 20


@pytest.mark.parametrize(("count", "told"), [(20, []), (30, ["and 6 smaller"])])
def test_a_legend_has_whole_names_and_says_what_it_leaves_out(count, told, drawn):
    names = tuple(f"ground with number {index}" for index in range(count))
    values = np.repeat(np.arange(count, dtype=np.uint8), 20)[None].repeat(60, 0)
    segmentation_overlay(grey(values.shape), SegmentationMap(labels=values, names=names))
    assert [words for words, _ in drawn] == [f"{name} {1 / count:.1%}" for name in names[:24]] + told


def test_a_name_of_several_lines_is_drawn_by_its_first():
    result = SegmentationMap(labels=np.zeros((30, 40), np.uint8), names=("sea\nand more",))
    assert segmentation_overlay(grey((30, 40)), result).size[0] == 480
    with_none = SegmentationMap(labels=np.zeros((30, 40), np.uint8), names=("\n",))
    assert segmentation_overlay(grey((30, 40)), with_none).size[0] == 480


@pytest.mark.parametrize("result", [found((4, 5), []), labels((4, 5))])
def test_another_image_than_the_results_is_an_error(result, tmp_path):
    with pytest.raises(ValueError, match=r"5 x 4 pixels .* 4 x 5"):
        annotate(grey((5, 4)), result, tmp_path / "out.png")


def test_colours_differ():
    colours = np.array([class_colour(label) for label in range(24)], dtype=float)
    distances = np.linalg.norm(colours[:, None] - colours[None], axis=-1)
    assert distances[~np.eye(24, dtype=bool)].min() > 25


def test_grids_of_pictures(tmp_path):
    pictures = [grey((60, 80)), grey((90, 40)), Image.new("RGB", (10, 10))]
    picture_grid(pictures, tmp_path / "grid.png", titles=["one", "two", "three"])
    picture_grid(pictures, tmp_path / "row.png", columns=3)
    with Image.open(tmp_path / "grid.png") as grid, Image.open(tmp_path / "row.png") as row:
        assert grid.width > 160
        assert row.width > row.height
    for bad in ([], ["one"]):
        with pytest.raises(ValueError, match="give one of each"):
            picture_grid(pictures, tmp_path / "bad.png", titles=bad)


@pytest.mark.parametrize("count", [1, 10, 150])
def test_bars_of_any_number_of_classes(count, tmp_path):
    scores = {f"class {index}": index / count for index in range(count)}
    class_scores_picture({**scores, "nowhere": None}, tmp_path / "bars.png", what="IoU", mean=0.5)
    with Image.open(tmp_path / "bars.png") as picture:
        assert 100 < picture.height < 2500
    with pytest.raises(ValueError, match="no classes"):
        class_scores_picture({}, tmp_path / "bars.png", what="IoU", mean=None)


def test_precision_against_recall(tmp_path):
    curve = np.linspace(1, 0, 101)
    precision_recall_picture({"boxes": {"IoU 0.50": curve}, "masks": {"IoU 0.50": curve}}, tmp_path / "two.png")
    precision_recall_picture({"boxes": {"IoU 0.50": curve}}, tmp_path / "one.png")
    with Image.open(tmp_path / "two.png") as two, Image.open(tmp_path / "one.png") as one:
        assert two.width > 1.5 * one.width
    with pytest.raises(ValueError, match="no curves"):
        precision_recall_picture({"boxes": {}}, tmp_path / "none.png")
