"""Pictures of segments."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.results import PanopticSegmentation, Segment
from swin_transformer_pytorch.visualize import class_colour, overlay, panoptic_overlay
from swin_transformer_pytorch.visualize.panoptic import segment_colours


def halves(size: tuple[int, int], parts: int = 4, *, palette: bool = False) -> PanopticSegmentation:
    """Columns: nothing, stuff, and things of one class."""
    columns = np.arange(size[1]) * parts // size[1]
    ids = np.broadcast_to(columns * 1000, size)
    areas = {int(number): int((ids == number).sum()) for number in np.unique(ids) if number}
    return PanopticSegmentation(
        segment_ids=ids,
        segments=tuple(
            Segment(id=number, label=int(place > 0), score=0.9, area=area, is_thing=place > 0)
            for place, (number, area) in enumerate(reversed(areas.items()))
        ),
        names=("sky", "a fox"),
        palette=((0, 0, 200), (100, 50, 0)) if palette else None,
    )


def grey(size: tuple[int, int]) -> np.ndarray:
    return np.full(size, 128, dtype=np.uint8)


@pytest.mark.parametrize("size", [(40, 60), (600, 500), (900, 4000), (1, 1), (1, 3000), (2, 1)])
def test_segments_are_laid_over_images_of_any_size(size: tuple[int, int], tmp_path: Path) -> None:
    result = halves(size)
    result.save(grey(size), tmp_path / "new" / "out.png")
    with Image.open(tmp_path / "new" / "out.png") as picture:
        assert picture.size == panoptic_overlay(grey(size), result).size == overlay(grey(size), result).size
        assert 320 <= max(picture.size) <= 1700


@pytest.mark.parametrize("palette", [False, True])
def test_things_of_a_class_have_shades_of_its_colour_and_stuff_has_it(palette: bool) -> None:
    size = (500, 800)
    result = halves(size, palette=palette)
    colours = result.palette or (class_colour(0), class_colour(1))
    picture = np.asarray(panoptic_overlay(grey(size), result))
    assert picture.shape[1] == 800 and picture.shape[0] > 500  # the legend is beneath
    assert (picture[250, 100] == 128).all()  # of no segment
    shades = segment_colours(result, colours)
    assert shades[:2] == [colours[0], colours[1]] and shades[2] != colours[1]
    for x, colour in ((700, shades[0]), (500, shades[1]), (300, shades[2])):
        np.testing.assert_allclose(picture[250, x], 128 * 0.45 + np.array(colour) * 0.55, atol=1)
    assert (picture[250, [199, 399, 599]] == 255).all()  # borders, between things of one class too


def test_a_legend_counts_things(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageDraw

    texts = []
    usual = ImageDraw.ImageDraw.text

    def draw(self, place, text, *rest, **options) -> None:
        texts.append(text)
        usual(self, place, text, *rest, **options)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", draw)
    panoptic_overlay(grey((500, 800)), halves((500, 800)))
    assert texts == ["a fox x 2, 50.0%", "sky 25.0%"]


def test_no_segments_leave_the_image_as_it_is() -> None:
    empty = PanopticSegmentation(segment_ids=np.zeros((500, 600), dtype=np.int32), segments=(), names=("sky",))
    assert (np.asarray(panoptic_overlay(grey((500, 600)), empty)) == 128).all()


def test_another_image_than_the_results_is_an_error() -> None:
    with pytest.raises(ValueError, match="40 x 60 pixels and the result is for 20 x 30"):
        halves((20, 30)).plot(grey((40, 60)))
