import pytest

from swin_transformer_pytorch.weights.dense_classes import (
    ade20k_palette,
    class_palette,
    coco_category_ids,
    dense_class_names,
)


def test_coco_has_torchvisions_names_by_category_id():
    from torchvision.models._meta import _COCO_CATEGORIES

    ids, names = coco_category_ids(), dense_class_names("coco")
    assert len(ids) == len(names) == 80
    assert {i: name for i, name in enumerate(_COCO_CATEGORIES) if i and name != "N/A"} == dict(
        zip(ids, names, strict=True)
    )


def test_ade20k_has_a_colour_for_each_of_its_names():
    names, palette = dense_class_names("ade20k"), ade20k_palette()
    assert len(names) == len(palette) == len(set(names)) == 150
    assert all(0 <= value <= 255 for colour in palette for value in colour)
    assert (names[0], palette[0]) == ("wall", (120, 120, 120))
    assert (names[7], palette[7]) == ("bed", (204, 5, 255))
    assert (names[149], palette[149]) == ("flag", (92, 0, 255))
    # As published: these two share one.
    shared = [name for name, colour in zip(names, palette, strict=True) if palette.count(colour) > 1]
    assert shared == ["road", "skyscraper"]


def test_only_ade20k_has_colours_of_its_own():
    assert class_palette("ade20k") == ade20k_palette()
    assert class_palette("coco") is None


def test_another_data_set_is_named():
    with pytest.raises(ValueError, match="'voc'.*coco, ade20k"):
        dense_class_names("voc")
