"""Resizing, with OpenCV itself as the reference, bit for bit."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swin_transformer_pytorch.ops.resize import resize_bilinear_uint8, resize_nearest

SIDES = st.one_of(st.integers(1, 4), st.integers(1, 60), st.integers(1, 300))


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def opencv(image, size, interpolation=cv2.INTER_LINEAR):
    return cv2.resize(image, (size[1], size[0]), interpolation=interpolation).reshape(*size, *image.shape[2:])


@settings(max_examples=300)
@given(old=st.tuples(SIDES, SIDES), new=st.tuples(SIDES, SIDES), channels=st.sampled_from([1, 3]))
def test_bilinear_is_opencvs(old, new, channels):
    image = noise(*old, channels)
    np.testing.assert_array_equal(resize_bilinear_uint8(image, new), opencv(image, new))


@settings(max_examples=300)
@given(old=st.tuples(SIDES, SIDES), new=st.tuples(SIDES, SIDES))
def test_nearest_is_opencvs(old, new):
    labels = noise(*old)
    np.testing.assert_array_equal(resize_nearest(labels, new), opencv(labels, new, cv2.INTER_NEAREST))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ((480, 640), (800, 1067)),
        ((427, 640), (800, 1199)),
        ((1080, 1920), (750, 1333)),
        ((640, 426), (1202, 800)),
        ((800, 1333), (400, 667)),
        ((512, 683), (256, 342)),
        ((1000, 1000), (500, 500)),
        ((333, 500), (666, 1000)),
        ((1, 1), (800, 800)),
        ((1, 700), (2, 1333)),
    ],
)
def test_sizes_of_photos(old, new):
    image = noise(*old, 3, seed=1)
    np.testing.assert_array_equal(resize_bilinear_uint8(image, new), opencv(image, new))
    labels = image[:, :, 0].copy()
    np.testing.assert_array_equal(resize_nearest(labels, new), opencv(labels, new, cv2.INTER_NEAREST))


def test_extremes_stay_what_they_are():
    for level in (0, 255):
        image = np.full((37, 41, 3), level, dtype=np.uint8)
        for new in [(80, 97), (7, 5), (37, 90)]:
            assert (resize_bilinear_uint8(image, new) == level).all()


def test_views_and_other_channel_counts():
    image = noise(40, 50, 5)
    turned = image[::-1, ::-1].transpose(1, 0, 2)
    np.testing.assert_array_equal(resize_bilinear_uint8(turned, (30, 60)), opencv(turned.copy(), (30, 60)))


def test_the_same_size_is_a_copy():
    image = noise(6, 7, 3)
    for result in (resize_bilinear_uint8(image, (6, 7)), resize_nearest(image[:, :, 0], (6, 7))):
        assert not np.shares_memory(result, image)
    np.testing.assert_array_equal(resize_bilinear_uint8(image, (6, 7)), image)


def test_many_masks_at_once():
    masks = noise(5, 20, 30) > 128
    together = resize_nearest(masks, (33, 17))
    assert together.shape == (5, 33, 17) and together.dtype == bool
    for one, mask in zip(together, masks, strict=True):
        np.testing.assert_array_equal(one, resize_nearest(mask, (33, 17)))
    assert resize_nearest(masks[:0], (33, 17)).shape == (0, 33, 17)
    assert resize_nearest(np.full((4, 4), 40_000, dtype=np.int32), (2, 2)).max() == 40_000


def test_no_pixels_are_refused():
    for old, new in [((0, 5), (3, 3)), ((5, 5), (0, 3))]:
        with pytest.raises(ValueError, match="each side takes a pixel"):
            resize_bilinear_uint8(np.zeros((*old, 3), dtype=np.uint8), new)
        with pytest.raises(ValueError, match="each side takes a pixel"):
            resize_nearest(np.zeros(old, dtype=np.uint8), new)
