"""Pasting and cropping of masks against loops over pixels."""

import math

import pytest
import torch

from swin_transformer_pytorch.ops.regions import masks as masks_module
from swin_transformer_pytorch.ops.regions.masks import crop_masks, paste_masks

SIZE = (23, 31)
BOXES = [
    [3.2, 4.7, 20.9, 17.3],
    [-6.0, -4.5, 9.0, 12.0],
    [20.0, 15.0, 45.0, 40.0],
    [10.0, 10.0, 11.0, 11.0],
    [5.3, 6.1, 5.9, 20.0],
    [0.0, 0.0, 31.0, 23.0],
    [40.0, 40.0, 50.0, 50.0],
]


def bilinear(grid: list[list[float]], y: float, x: float) -> float:
    """Zero beyond the grid."""
    total = 0.0
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < len(grid) and 0 <= column < len(grid[0]):
                total += grid[row][column] * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


def scalar_paste(grid: list[list[float]], box: list[float], size: tuple[int, int]) -> list[list[float]]:
    """The probability of each pixel of the image."""

    def place(pixel: int, low: float, high: float) -> float:
        if high == low:
            return 0.0 if pixel + 0.5 != low else -2.0
        return (pixel + 0.5 - low) / (high - low) * 2 - 1

    m = len(grid)
    pasted = [[0.0] * size[1] for _ in range(size[0])]
    for y in range(max(math.floor(box[1]) - 1, 0), min(math.ceil(box[3]) + 1, size[0])):
        for x in range(max(math.floor(box[0]) - 1, 0), min(math.ceil(box[2]) + 1, size[1])):
            gy, gx = place(y, box[1], box[3]), place(x, box[0], box[2])
            pasted[y][x] = bilinear(grid, ((gy + 1) * m - 1) / 2, ((gx + 1) * m - 1) / 2)
    return pasted


@pytest.mark.parametrize("chunk", [1, 100, 1 << 20])
def test_pasted_pixels_are_the_scalar_formulas(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(masks_module, "_CHUNK_PIXELS", chunk)
    boxes = torch.tensor([*BOXES, [7.0, 3.0, 7.0, 12.0], [8.5, 8.5, 8.5, 8.5], [4.0, 30.0, 9.0, 30.0]])
    grids = torch.rand(len(boxes), 7, 7, generator=torch.Generator().manual_seed(0))
    pasted = paste_masks(grids, boxes, SIZE)
    assert pasted.shape == (len(boxes), *SIZE)
    assert pasted.dtype == torch.bool
    for mask, grid, box in zip(pasted, grids, boxes, strict=True):
        expected = torch.tensor(scalar_paste(grid.tolist(), box.tolist(), SIZE))
        clear = (expected - 0.5).abs() > 1e-5
        assert torch.equal(mask[clear], (expected >= 0.5)[clear])


def test_a_box_of_one_pixel_has_it() -> None:
    pasted = paste_masks(torch.ones(1, 28, 28), torch.tensor([[4.0, 5.0, 5.0, 6.0]]), (10, 12))
    assert pasted.nonzero().tolist() == [[0, 5, 4]]


def test_no_masks_and_boxes_that_are_no_numbers() -> None:
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (10, 12)).shape == (0, 10, 12)
    boxes = torch.tensor([[float("nan"), 0, 5, 5], [0, 0, float("inf"), 5]])
    assert not paste_masks(torch.ones(2, 28, 28), boxes, (10, 12)).any()


def scalar_crop(mask: list[list[int]], box: list[float], size: int) -> list[list[float]]:
    """The mean of samples of each cell: adaptive, as many as the cell has pixels, rounded up."""
    height, width = len(mask), len(mask[0])
    x0, x1 = (min(max(box[i], 0.0), width) for i in (0, 2))
    y0, y1 = (min(max(box[i], 0.0), height) for i in (1, 3))
    cell_w, cell_h = (x1 - x0) / size, (y1 - y0) / size
    across, down = math.ceil(cell_w), math.ceil(cell_h)

    def value(y: float, x: float) -> float:
        if y < -1 or y > height or x < -1 or x > width:
            return 0.0
        y, x = min(max(y, 0.0), height - 1), min(max(x, 0.0), width - 1)
        return bilinear([[float(v) for v in row] for row in mask], y, x)

    cells = []
    for row in range(size):
        cells.append([])
        for column in range(size):
            samples = [
                value(y0 - 0.5 + cell_h * (row + (i + 0.5) / down), x0 - 0.5 + cell_w * (column + (j + 0.5) / across))
                for i in range(down)
                for j in range(across)
            ]
            cells[-1].append(sum(samples) / max(len(samples), 1))
    return cells


def test_targets_are_the_scalar_formulas() -> None:
    generator = torch.Generator().manual_seed(1)
    masks = (torch.rand(3, *SIZE, generator=generator) > 0.4).to(torch.uint8)
    indices = torch.tensor([2, 0, 0, 2, 1, 1])
    boxes = torch.tensor(BOXES[:6])
    targets = crop_masks(masks, indices, boxes, 5)
    for target, index, box in zip(targets, indices.tolist(), boxes.tolist(), strict=True):
        expected = torch.tensor(scalar_crop(masks[index].tolist(), box, 5))
        clear = (expected - 0.5).abs() > 1e-5
        assert torch.equal(target[clear], (expected >= 0.5).float()[clear])
    assert set(targets.unique().tolist()) == {0.0, 1.0}


def test_targets_of_no_boxes() -> None:
    empty = torch.zeros(0, dtype=torch.int64)
    for count in (0, 2):
        masks = torch.zeros(count, *SIZE, dtype=torch.uint8)
        assert crop_masks(masks, empty, torch.zeros(0, 4), 28).shape == (0, 28, 28)


def test_a_mask_cut_out_by_its_own_box_is_all_of_it() -> None:
    masks = torch.zeros(1, 40, 50, dtype=torch.uint8)
    masks[0, 10:30, 15:40] = 1
    target = crop_masks(masks, torch.tensor([0]), torch.tensor([[15.0, 10, 40, 30]]), 28)
    assert target.all()
