"""What is set apart for validation: always some, never all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swin_transformer_pytorch.data.errors import DataError
from swin_transformer_pytorch.data.held_out import part_of


def part(count: int, split: str, share: float, seed: int = 0) -> list[int]:
    return part_of(count, split, of="photos", val_fraction=share, seed=seed, fix="add some")


@given(count=st.integers(2, 60), share=st.floats(0, 1, exclude_min=True), seed=st.integers(0, 3))
def test_each_part_has_an_image_and_together_they_are_all(count: int, share: float, seed: int) -> None:
    train, val = (part(count, split, share, seed) for split in ("train", "val"))
    assert train and val and sorted(train + val) == list(range(count))
    assert len(val) == min(max(round(count * share), 1), count - 1)


def test_where_a_part_would_have_none_it_is_an_error() -> None:
    for count, split, share in ((1, "train", 0.5), (1, "val", 0.5), (0, "train", 0.2), (9, "val", 0.0)):
        with pytest.raises(DataError, match=f"photos has {count} images? .* leaves none"):
            part(count, split, share)
    assert part(9, "train", 0.0) == list(range(9))
