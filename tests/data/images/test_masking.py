"""What is hidden: exactly the share, whole squares, another one each time that it is drawn."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from swin_transformer_pytorch.data.images.masking import MaskRule


def test_the_official_mask_hides_22_of_36_squares() -> None:
    mask = MaskRule((6, 6), (8, 8), 0.6).draw(np.random.default_rng(0))
    assert mask.shape == (48, 48) and mask.dtype == torch.bool
    squares = mask.reshape(6, 8, 6, 8).permute(0, 2, 1, 3).flatten(2)
    assert (squares.all(2) == squares.any(2)).all(), "a square is hidden whole or not at all"
    assert squares.all(2).sum() == 22


@given(
    rows=st.integers(1, 20),
    columns=st.integers(1, 20),
    percent=st.integers(1, 99),
    seed=st.integers(0, 2**32),
)
def test_the_share_is_rounded_up_whatever_it_is(rows: int, columns: int, percent: int, seed: int) -> None:
    rule = MaskRule((rows, columns), (1, 2), percent / 100)
    exactly = math.ceil(Fraction(percent, 100) * rows * columns)  # 0.7 * 10 is a hair above 7 in binary
    assert rule.num_hidden == exactly
    assert rule.draw(np.random.default_rng(seed)).sum() == 2 * exactly


def test_masks_that_stay_differ_by_image_alone() -> None:
    rule = MaskRule((7, 7), (1, 1), 0.6)
    assert torch.equal(rule.fixed(3), rule.fixed(3))
    assert len({rule.fixed(place).numpy().tobytes() for place in range(50)}) == 50


def test_every_square_is_hidden_as_often_as_any_other() -> None:
    rule = MaskRule((6, 6), (1, 1), 0.6)
    random = np.random.default_rng(0)
    share = torch.stack([rule.draw(random) for _ in range(4000)]).double().mean(0)
    # Four deviations of a share of 22 in 36 over 4,000 draws.
    assert share == pytest.approx(torch.full((6, 6), 22 / 36).numpy(), abs=4 * math.sqrt(0.25 / 4000))
