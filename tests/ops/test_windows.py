"""The geometry of windows against scalar code written from its description."""

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from swin_transformer_pytorch.ops import (
    MASKED_SCORE,
    merge,
    pad_map,
    partition,
    relative_position_index,
    shift_mask,
)

QUICK = settings(max_examples=60, deadline=None)
sides = st.integers(1, 6)
counts = st.integers(1, 4)


def ramp(*shape: int) -> torch.Tensor:
    """Every element differs, so that a misplaced one shows."""
    return torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)


@QUICK
@given(batch=counts, rows=counts, columns=counts, height=sides, width=sides, channels=counts)
def test_partition_lists_windows_and_their_tokens_row_by_row_and_merge_undoes_it(
    batch: int, rows: int, columns: int, height: int, width: int, channels: int
) -> None:
    x = ramp(batch, rows * height, columns * width, channels)

    windows = partition(x, (height, width))

    assert windows.shape == (batch, rows * columns, height * width, channels)
    for row, column in itertools.product(range(rows), range(columns)):
        for y, x_in in itertools.product(range(height), range(width)):
            expected = x[:, row * height + y, column * width + x_in]
            assert torch.equal(windows[:, row * columns + column, y * width + x_in], expected)
    assert torch.equal(merge(windows, (rows * height, columns * width), (height, width)), x)


@QUICK
@given(rows=counts, columns=counts, height=sides, width=sides, data=st.data())
def test_merge_accepts_any_memory_layout(rows: int, columns: int, height: int, width: int, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(4)))
    x = ramp(2, rows * height, columns * width, 3)
    strided = x.permute(order).contiguous().permute([order.index(axis) for axis in range(4)])

    assert torch.equal(merge(partition(strided, (height, width)), x.shape[1:3], (height, width)), x)


@QUICK
@given(height=st.integers(1, 12), width=st.integers(1, 12), multiple=st.tuples(sides, sides))
def test_padding_is_right_and_bottom_only_and_zero(height: int, width: int, multiple: tuple[int, int]) -> None:
    x = ramp(2, height, width, 3) + 1

    padded = pad_map(x, multiple)

    assert torch.equal(padded[:, :height, :width], x)
    for side, before, step in zip(padded.shape[1:3], (height, width), multiple, strict=True):
        assert side % step == 0 and before <= side < before + step
    assert not padded[:, height:].any() and not padded[:, :, width:].any()


@QUICK
@given(data=st.data(), rows=counts, columns=counts, height=sides, width=sides)
def test_shift_mask_separates_exactly_the_tokens_that_the_shift_brought_together(
    data: st.DataObject, rows: int, columns: int, height: int, width: int
) -> None:
    map_height, map_width = rows * height, columns * width
    down = data.draw(st.integers(0, height - 1))
    right = data.draw(st.integers(0, width - 1))

    mask = shift_mask(
        (map_height, map_width), (height, width), (down, right), device=torch.device("cpu"), dtype=torch.float32
    )

    expected = torch.zeros(rows * columns, height * width, height * width)
    for row, column in itertools.product(range(rows), range(columns)):
        tokens = list(itertools.product(range(height), range(width)))
        for (i, (y1, x1)), (j, (y2, x2)) in itertools.product(enumerate(tokens), enumerate(tokens)):
            # Where each token was before the shift. In the image, tokens of one window are less than a window apart.
            old_y = [(row * height + y + down) % map_height for y in (y1, y2)]
            old_x = [(column * width + x + right) % map_width for x in (x1, x2)]
            neighbours = old_y[0] - old_y[1] == y1 - y2 and old_x[0] - old_x[1] == x1 - x2
            if not neighbours:
                expected[row * columns + column, i, j] = -100.0
    assert torch.equal(mask, expected)


def test_the_mask_is_the_official_value() -> None:
    assert MASKED_SCORE == -100.0


@QUICK
@given(height=sides, width=sides)
def test_relative_position_index_is_query_minus_key_row_major(height: int, width: int) -> None:
    index = relative_position_index((height, width))

    for y1, x1, y2, x2 in itertools.product(range(height), range(width), range(height), range(width)):
        expected = (y1 - y2 + height - 1) * (2 * width - 1) + (x1 - x2 + width - 1)
        assert index[y1, x1, y2, x2] == expected


@QUICK
@given(large=st.tuples(sides, sides), data=st.data())
def test_a_smaller_window_uses_the_central_part_of_the_table(large: tuple[int, int], data: st.DataObject) -> None:
    small = tuple(data.draw(st.integers(1, side)) for side in large)
    table = ramp(2 * large[0] - 1, 2 * large[1] - 1)
    centre = table[large[0] - small[0] :, large[1] - small[1] :][: 2 * small[0] - 1, : 2 * small[1] - 1]

    part = relative_position_index(large)[: small[0], : small[1], : small[0], : small[1]]

    own = relative_position_index((small[0], small[1]))
    assert torch.equal(table.flatten()[part], centre.flatten()[own])
