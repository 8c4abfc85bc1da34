import pytest

from swin_transformer_pytorch.weights.preprocessing import Preprocessing, PreprocessingError


def test_official_rule_cuts_224_from_256():
    assert Preprocessing.imagenet().resize_size == 256
    assert Preprocessing.imagenet(256).resize_size == 292
    assert Preprocessing.imagenet(192).resize_size == 219


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing.imagenet((224, 320), 400),
        Preprocessing.imagenet(384, (384, 384), interpolation="bilinear"),
        Preprocessing(image_size=28, resize_size=28, mean=(0.5,), std=(0.25,)),
    ],
)
def test_survives_plain_types(preprocessing):
    values = preprocessing.to_dict()
    assert all(isinstance(value, int | float | str | list) for value in values.values())
    assert Preprocessing.from_dict(values) == preprocessing


def test_channels_are_those_of_the_mean():
    assert Preprocessing.imagenet().channels == 3
    assert Preprocessing(image_size=28, resize_size=28, mean=(0.5,), std=(0.25,)).channels == 1


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"image_size": 0, "resize_size": 8}, "image_size=0"),
        ({"image_size": (8, 8, 8), "resize_size": 8}, "image_size=(8, 8, 8)"),
        ({"image_size": True, "resize_size": 8}, "image_size=True"),
        ({"image_size": 8, "resize_size": 7}, "resize_size=7"),
        ({"image_size": 8, "resize_size": (9, 9)}, "resize_size=(9, 9)"),
        ({"image_size": 8, "resize_size": 8, "interpolation": "lanczos"}, "interpolation='lanczos'"),
        ({"image_size": 8, "resize_size": 8, "mean": (0.5,)}, "std="),
        ({"image_size": 8, "resize_size": 8, "std": (0.0, 1.0, 1.0)}, "std="),
        ({"image_size": 8, "resize_size": 8, "mean": (float("nan"),) * 3}, "mean="),
    ],
)
def test_impossible_ones_name_the_field_and_its_value(fields, named):
    with pytest.raises(PreprocessingError) as error:
        Preprocessing(**fields)
    assert named in str(error.value)


def test_unknown_and_missing_fields_are_both_listed():
    with pytest.raises(PreprocessingError, match=r"unknown: crop; missing: resize_size"):
        Preprocessing.from_dict({"image_size": 8, "crop": 7})
