"""Heat over images: where it lies, and what frames and captions add."""

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.visualize import attention_picture, heat_overlay


@pytest.mark.parametrize("size", [(480, 480), (28, 28), (30, 700), (1500, 1200)])
@pytest.mark.parametrize("smooth", [False, True])
def test_heat_is_coloured_where_it_is_and_nowhere_else(size, smooth):
    heat = np.zeros(size, np.float32)
    heat[: size[0] // 2, : size[1] // 2] = 1
    image = np.full(size, 90, np.uint8)
    picture = np.asarray(heat_overlay(image, heat, smooth=smooth)).astype(int)
    height, width = picture.shape[:2]
    assert 480 <= max(height, width) <= 1024
    assert picture[height // 4, width // 4].tolist() == pytest.approx([230, 222, 124], abs=1)
    for y, x in ((1, 3), (3, 1), (3, 3)):
        assert picture[height * y // 4, width * x // 4].tolist() == [90, 90, 90]


def test_more_heat_is_lighter():
    heat = np.linspace(0, 1, 480, dtype=np.float32)[None].repeat(480, axis=0)
    picture = heat_overlay(np.zeros((480, 480), np.uint8), heat).convert("L")
    assert (np.diff(np.asarray(picture)[0].astype(int)) >= -1).all()
    assert picture.getpixel((479, 0)) > picture.getpixel((0, 0)) + 150


def test_a_box_and_a_caption():
    plain = heat_overlay(np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.float32))
    framed = heat_overlay(
        np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.float32), ["a fox 93%"], box_xyxy=(16, 12, 48, 36)
    )
    assert framed.width == plain.width and framed.height > plain.height
    assert framed.getpixel((120, 200)) == framed.getpixel((359, 200)) == (0, 183, 255)
    assert framed.getpixel((110, 200)) == framed.getpixel((240, 200)) == (0, 0, 0)
    with pytest.raises(ValueError, match="48 x 64 pixels and the result is for 64 x 48"):
        heat_overlay(np.zeros((48, 64, 3), np.uint8), np.zeros((64, 48), np.float32))


def test_attention_by_head(tmp_path):
    heat = np.zeros((2, 40, 40), np.float32)
    heat[:, 10:30, 10:30] = 1e-3
    heat[0, 10:20, 10:20], heat[1, 20:30, 20:30] = 0.6, 0.2
    attention_picture(np.full((40, 40), 200, np.uint8), heat, (10, 10, 20, 20), tmp_path / "new" / "a.png")
    with Image.open(tmp_path / "new" / "a.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    warm = (pixels[..., 0] - pixels[..., 2]) > 60
    assert picture.width > picture.height  # three in a row or two
    assert 0.02 < warm.mean() < 0.2
    assert (np.abs(pixels - 100).max(axis=-1) < 3).mean() > 0.3  # dimmed where the token cannot look
