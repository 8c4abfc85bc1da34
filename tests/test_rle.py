"""Run lengths, with pycocotools as the reference, byte for byte."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from swin_transformer_pytorch.rle import (
    decode_counts,
    decode_mask,
    encode_counts,
    encode_mask,
    from_uncompressed,
    mask_area,
    mask_counts,
    placed_counts,
)


def reference(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    share=st.sampled_from([0.0, 0.002, 0.1, 0.5, 0.9, 1.0]),
    grain=st.sampled_from([1, 2, 9]),
    seed=st.integers(0, 1000),
)
def test_same_bytes_as_pycocotools(height, width, share, grain, seed):
    coarse = np.random.default_rng(seed).random((height, width)) < share
    mask = np.kron(coarse, np.ones((grain, grain), dtype=bool))[:height, :width]
    counts = encode_mask(mask)
    assert counts == reference(mask)["counts"]
    np.testing.assert_array_equal(decode_mask(counts, mask.shape), mask)
    assert mask_area(counts) == mask.sum() == coco_mask.area(reference(mask))


@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    share=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_a_part_of_a_mask_has_the_run_lengths_of_the_whole(size, share, seed, data):
    top, left = (data.draw(st.integers(0, side - 1)) for side in size)
    bottom, right = (data.draw(st.integers(first + 1, side)) for first, side in zip((top, left), size, strict=True))
    part = np.random.default_rng(seed).random((bottom - top, right - left)) < share
    mask = np.zeros(size, dtype=bool)
    mask[top:bottom, left:right] = part
    np.testing.assert_array_equal(placed_counts(part, (top, left), size), mask_counts(mask))


@pytest.mark.parametrize("size", [(800, 1333), (1, 5000), (5000, 1), (37, 61)])
def test_large_and_thin_masks(size):
    height, width = size
    box = np.zeros(size, dtype=np.uint8)
    box[height // 4 :, width // 3 : width // 3 + 1 + width // 2] = 1
    for mask in (box, 1 - box, np.zeros_like(box), np.ones_like(box)):
        assert encode_mask(mask) == reference(mask)["counts"]
        np.testing.assert_array_equal(decode_mask(encode_mask(mask), size), mask)


def test_any_value_but_zero_is_the_object():
    mask = np.array([[0, 7], [255, 0]], dtype=np.uint8)
    assert encode_mask(mask) == encode_mask(mask > 0)
    assert mask_counts(mask).tolist() == [1, 2, 1]


def test_text_and_bytes_are_the_same():
    mask = np.eye(9, dtype=bool)
    np.testing.assert_array_equal(decode_mask(encode_mask(mask).decode(), (9, 9)), mask)
    assert decode_mask(encode_mask(mask), (9, 9)).flags.c_contiguous


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=30))
def test_numbers_survive_compression(counts):
    assert decode_counts(encode_counts(counts)).tolist() == counts


def test_without_any_pixels():
    for size in [(0, 5), (5, 0), (0, 0)]:
        assert encode_mask(np.zeros(size, dtype=bool)) == b"0"
        assert decode_mask(b"0", size).shape == size
    assert mask_area(b"") == 0


def test_plain_run_lengths():
    np.testing.assert_array_equal(from_uncompressed([1, 2, 3], (2, 3)), [[0, 1, 0], [1, 0, 0]])
    with pytest.raises(ValueError, match="make 6 pixels, and 2 x 4 has 8"):
        from_uncompressed([1, 2, 3], (2, 4))
    with pytest.raises(ValueError, match="at least 0"):
        from_uncompressed([-1, 9], (2, 4))
    with pytest.raises(ValueError, match="make 10000000000000000000000 pixels"):
        from_uncompressed([10**22], (2, 4))


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("!", "characters"),
        (b"\xff", "characters"),
        ("ü", "characters"),
        ("0P", "cut short"),
        ("oooooooo0", "beyond 32 bits"),
        ("1", "make 1 pixels, and 2 x 2 has 4"),
        ("", "make 0 pixels"),
    ],
)
def test_damaged_text_is_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        decode_mask(counts, (2, 2))


def test_several_masks_at_once_are_refused():
    with pytest.raises(ValueError, match=r"not \(3, 4, 5\)"):
        encode_mask(np.zeros((3, 4, 5), dtype=bool))
