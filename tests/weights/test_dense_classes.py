import pytest

from swin_transformer_pytorch.weights.dense_classes import (
    CLASS_SETS,
    ade20k_palette,
    class_palette,
    coco_category_ids,
    dense_class_names,
    thing_classes,
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


@pytest.mark.parametrize(
    ("dataset", "count", "things", "first", "last"),
    [
        ("coco", 80, 80, "person", "toothbrush"),
        ("coco_panoptic", 133, 80, "person", "rug-merged"),
        ("ade20k", 150, 100, "wall", "flag"),
        ("ade20k_instance", 100, 100, "bed", "flag"),
        ("cityscapes", 19, 8, "road", "bicycle"),
        ("cityscapes_instance", 8, 8, "person", "bicycle"),
        ("mapillary_vistas", 65, 37, "Bird", "Ego Vehicle"),
    ],
)
def test_sets_have_their_things_and_names(dataset, count, things, first, last):
    names = dense_class_names(dataset)
    assert dataset in CLASS_SETS
    assert (len(names), names[0], names[-1]) == (count, first, last)
    assert len(set(names)) == count and all(name == name.strip() and name for name in names)
    found = thing_classes(dataset)
    assert len(found) == things and list(found) == sorted(set(found))
    assert found[-1] < count
    palette = class_palette(dataset)
    assert (palette is None) == (dataset == "coco" or dataset.endswith("_instance"))
    assert palette is None or len(palette) == count


def test_things_are_what_can_be_counted():
    assert dense_class_names("coco_panoptic")[:80] == dense_class_names("coco")
    assert thing_classes("coco_panoptic") == tuple(range(80))
    named = {name: dense_class_names(name) for name in ("ade20k", "cityscapes", "mapillary_vistas")}
    things = {name: {names[index] for index in thing_classes(name)} for name, names in named.items()}
    assert {"bed", "person", "car"} <= things["ade20k"] and not {"wall", "sky", "grass"} & things["ade20k"]
    assert things["cityscapes"] == {*dense_class_names("cityscapes_instance")}
    assert {"Bird", "Car", "Bench"} <= things["mapillary_vistas"] and "Sky" not in things["mapillary_vistas"]


def test_colours_are_those_of_the_data_set():
    assert class_palette("ade20k") == ade20k_palette()
    assert class_palette("coco") is None
    assert class_palette("cityscapes")[0] == (128, 64, 128)
    assert class_palette("coco_panoptic")[0] == (220, 20, 60)


def test_another_data_set_is_named():
    with pytest.raises(ValueError, match="'voc'.*coco, ade20k"):
        dense_class_names("voc")
