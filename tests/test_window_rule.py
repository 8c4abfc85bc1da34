"""Which window and shift a block has on a map of a given size."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swin_transformer_pytorch.window_rule import choose_window

QUICK = settings(deadline=None, max_examples=60)
sides = st.integers(1, 8)


@pytest.mark.parametrize("shifted", [False, True])
@QUICK
@given(map_size=st.tuples(st.integers(1, 40), st.integers(1, 40)), window=st.integers(1, 12))
def test_unshift_follows_the_official_rule_for_square_windows(
    shifted: bool, map_size: tuple[int, int], window: int
) -> None:
    if min(map_size) <= window:  # microsoft/Swin-Transformer, SwinTransformerBlock.__init__
        expected_window, expected_shift = min(map_size), 0
    else:
        expected_window, expected_shift = window, window // 2 if shifted else 0

    got = choose_window(map_size, (window, window), shifted=shifted, single_window="unshift")

    assert got == ((expected_window,) * 2, (expected_shift,) * 2)


@pytest.mark.parametrize("shifted", [False, True])
@QUICK
@given(map_size=st.tuples(st.integers(1, 40), st.integers(1, 40)), window=st.tuples(sides, sides))
def test_keep_never_looks_at_the_map(shifted: bool, map_size: tuple[int, int], window: tuple[int, int]) -> None:
    got = choose_window(map_size, window, shifted=shifted, single_window="keep")

    assert got == (window, (window[0] // 2, window[1] // 2) if shifted else (0, 0))


@pytest.mark.parametrize(
    ("map_size", "expected"),
    [
        ((9, 9), ((2, 6), (1, 3))),
        ((2, 9), ((2, 6), (0, 0))),
        ((9, 6), ((2, 6), (0, 0))),
        ((1, 9), ((1, 6), (0, 0))),
        ((9, 4), ((2, 4), (0, 0))),
        ((1, 1), ((1, 1), (0, 0))),
    ],
)
def test_unshift_cuts_a_window_that_is_not_square_axis_by_axis(
    map_size: tuple[int, int], expected: tuple[tuple[int, int], tuple[int, int]]
) -> None:
    assert choose_window(map_size, (2, 6), shifted=True, single_window="unshift") == expected
