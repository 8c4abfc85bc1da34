import dataclasses

import pytest

from swin_transformer_pytorch.weights.preprocessing import (
    DensePreprocessing,
    Preprocessing,
    PreprocessingError,
    preprocessing_from_dict,
)


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


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing.imagenet(),
        DensePreprocessing.coco(),
        DensePreprocessing.ade20k(),
        DensePreprocessing(scale=None, size_divisor=4, mean=(128.0,), std=(64.0,)),
    ],
)
def test_either_kind_is_read_back_from_plain_types(preprocessing):
    assert preprocessing_from_dict(preprocessing.to_dict()) == preprocessing


@pytest.mark.parametrize("made", [Preprocessing.imagenet(), DensePreprocessing.coco(), DensePreprocessing.ade20k()])
def test_a_white_level_is_written_only_where_there_is_one(made):
    assert "white_level" not in made.to_dict()  # so that versions without it read the file
    other = dataclasses.replace(made, white_level=4095)
    assert preprocessing_from_dict(other.to_dict()) == other != made
    for wrong in (0, 65536, 4095.0, True, "4095"):
        with pytest.raises(PreprocessingError, match=f"white_level={wrong!r}.*from 1 to 65535"):
            dataclasses.replace(made, white_level=wrong)


def test_antialiasing_is_written_only_where_it_is_done():
    assert "antialias" not in DensePreprocessing().to_dict()  # so that versions without it read the file
    other = DensePreprocessing(antialias=True)
    assert other.to_dict()["antialias"] is True
    assert preprocessing_from_dict(other.to_dict()) == other
    with pytest.raises(PreprocessingError, match="antialias=1.*use true or false"):
        DensePreprocessing(antialias=1)


def test_dense_resize_keeps_the_shape_within_both_limits():
    coco = DensePreprocessing.coco()
    assert coco.resized((480, 640)) == (800, 1067)  # the shorter side decides
    assert coco.resized((300, 900)) == (444, 1333)  # the longer side decides
    assert DensePreprocessing.ade20k().resized((512, 683)) == (512, 683)
    assert DensePreprocessing(scale=None).resized((37, 61)) == (37, 61)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"scale": 800}, "scale=800"),
        ({"scale": (800, 1333)}, "scale=(800, 1333)"),
        ({"size_divisor": 0}, "size_divisor=0"),
        ({"std": (1.0,)}, "std=(1.0,)"),
    ],
)
def test_impossible_dense_ones_name_the_field_and_its_value(fields, named):
    with pytest.raises(PreprocessingError) as error:
        DensePreprocessing(**fields)
    assert named in str(error.value)


def test_unknown_kinds_and_dense_fields_are_refused():
    with pytest.raises(PreprocessingError, match="kind='video'"):
        preprocessing_from_dict({"kind": "video"})
    with pytest.raises(PreprocessingError, match="unknown: crop"):
        preprocessing_from_dict({"kind": "dense", "crop": 7})
