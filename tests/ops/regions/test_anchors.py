"""Anchors against loops over cells."""

import math

import pytest
import torch

from swin_transformer_pytorch.ops.regions.anchors import base_anchors, grid_anchors, usable_cells

SIZES = [(5, 7), (3, 4), (1, 1)]
STRIDES = (4, 8, 13)


def test_base_anchors_have_the_area_and_the_ratio_of_height_to_width() -> None:
    for stride in (4, 16, 64):
        anchors = base_anchors(stride)
        for (x0, y0, x1, y1), ratio in zip(anchors.tolist(), (0.5, 1.0, 2.0), strict=True):
            assert (x0, y0) == (-x1, -y1)
            assert (x1 - x0) * (y1 - y0) == pytest.approx((8 * stride) ** 2, rel=1e-6)
            assert (y1 - y0) / (x1 - x0) == pytest.approx(ratio, rel=1e-6)


def test_anchors_are_in_the_order_row_column_ratio_and_not_rounded() -> None:
    levels = grid_anchors(SIZES, STRIDES)
    for anchors, (height, width), stride in zip(levels, SIZES, STRIDES, strict=True):
        expected = []
        for y in range(height):
            for x in range(width):
                for ratio in (0.5, 1.0, 2.0):
                    h, w = 8 * stride * math.sqrt(ratio), 8 * stride / math.sqrt(ratio)
                    expected.append([x * stride - w / 2, y * stride - h / 2, x * stride + w / 2, y * stride + h / 2])
        torch.testing.assert_close(anchors, torch.tensor(expected), atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("image_size", [(1, 1), (16, 16), (17, 28), (20, 12), (400, 400)])
def test_cells_beyond_an_images_own_padded_size_are_not_usable(image_size: tuple[int, int]) -> None:
    usable = usable_cells(SIZES, STRIDES, image_size, 8)
    padded = [math.ceil(side / 8) * 8 for side in image_size]
    expected = [
        y < math.ceil(padded[0] / stride) and x < math.ceil(padded[1] / stride)
        for (height, width), stride in zip(SIZES, STRIDES, strict=True)
        for y in range(height)
        for x in range(width)
        for _ in range(3)
    ]
    assert usable.tolist() == expected
