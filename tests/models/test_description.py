"""What a model is, without its weights: it travels as plain types, and its parts must fit each other."""

import json
from dataclasses import replace
from typing import Any

import pytest

from swin_transformer_pytorch.backbone.config import ConfigError, SwinConfig
from swin_transformer_pytorch.models.config import DetectorConfig, SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing, Preprocessing, PreprocessingError

NAMES = ("cat", "dog")
COLOURS = ((255, 0, 0), (0, 0, 255))
CLASSIFIER = ModelDescription(
    config=SwinConfig(embed_dim=32, depths=(1, 1), num_heads=(1, 2)),
    num_classes=2,
    classes=NAMES,
    preprocessing=Preprocessing.imagenet(192),
    name="swin_tiny_patch4_window7_224",
)
MULTI_LABEL = replace(CLASSIFIER, multi_label=True)
DETECTOR = ModelDescription(
    config=DetectorConfig(method="htc", num_classes=2), classes=NAMES, preprocessing=DensePreprocessing.coco()
)
SEGMENTER = ModelDescription(
    config=SegmenterConfig(num_classes=2),
    classes=NAMES,
    palette=COLOURS,
    preprocessing=DensePreprocessing.ade20k(),
)


@pytest.mark.parametrize(
    ("description", "task"),
    [
        (CLASSIFIER, "classification"),
        (MULTI_LABEL, "classification"),
        (DETECTOR, "detection"),
        (SEGMENTER, "segmentation"),
        (ModelDescription(config=SwinConfig()), "classification"),
        (ModelDescription(config=DetectorConfig()), "detection"),
        (ModelDescription(config=SegmenterConfig()), "segmentation"),
    ],
)
def test_it_travels_as_plain_types(description: ModelDescription, task: str) -> None:
    plain = description.to_dict()
    assert (plain["task"], description.task) == (task, task)
    assert ("palette" in plain) == (task == "segmentation")
    # Only where it is true: files of before, and digests of descriptions, stay what they were.
    assert plain.get("multi_label") == (True if description is MULTI_LABEL else None)
    assert json.loads(json.dumps(plain)) == plain
    assert ModelDescription.from_dict(json.loads(json.dumps(plain))) == description


def test_the_number_of_classes_is_known_where_it_is_not_given() -> None:
    assert ModelDescription(config=SwinConfig()).num_classes == 1000
    assert ModelDescription(config=SwinConfig(), num_classes=0).num_classes == 0
    assert (DETECTOR.num_classes, SEGMENTER.num_classes) == (2, 2)
    assert ModelDescription(config=DetectorConfig(num_classes=7), num_classes=7).num_classes == 7


@pytest.mark.parametrize("description", [CLASSIFIER, MULTI_LABEL, DETECTOR, SEGMENTER])
def test_another_number_of_classes_has_no_names_yet(description: ModelDescription) -> None:
    other = description.with_num_classes(5)
    assert other.num_classes == 5
    assert (other.classes, other.palette) == (None, None)
    assert (other.preprocessing, other.name, other.multi_label, other.task) == (
        description.preprocessing,
        description.name,
        description.multi_label,
        description.task,
    )
    if isinstance(other.config, SwinConfig):
        assert other.config == description.config
    else:
        assert other.config.num_classes == 5
    assert description.classes == NAMES


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"config": SwinConfig(), "num_classes": -1}, r"num_classes=-1 .* at least 0"),
        ({"config": SwinConfig(), "num_classes": 2.0}, r"num_classes=2\.0 is not possible"),
        ({"config": DetectorConfig(num_classes=7), "num_classes": 8}, r"num_classes=7 and of 8"),
        ({"config": SwinConfig(), "num_classes": 3, "classes": NAMES}, "2 class names for num_classes=3"),
        ({"config": SegmenterConfig(num_classes=3), "palette": COLOURS}, "2 colours for num_classes=3"),
        ({"config": SwinConfig(), "num_classes": 2, "palette": COLOURS}, "a palette .* this model for classification"),
        ({"config": DetectorConfig(num_classes=2), "palette": COLOURS}, "a palette .* this model for detection"),
        ({"config": SegmenterConfig(), "multi_label": True}, "multi_label=True of segmentation"),
        ({"config": SwinConfig(), "multi_label": "no"}, "multi_label=.no. of classification; it is true or false"),
        ({"config": SwinConfig(), "preprocessing": DensePreprocessing()}, "for classification; give a Preprocessing"),
        (
            {"config": SegmenterConfig(), "preprocessing": Preprocessing.imagenet()},
            "for segmentation; give a DensePreprocessing",
        ),
    ],
)
def test_parts_that_do_not_fit_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelDescription(**values)


def test_what_cannot_be_read_is_named() -> None:
    plain = SEGMENTER.to_dict()
    with pytest.raises(ConfigError, match="task='depth'; this version has: classification, detection, segmentation"):
        ModelDescription.from_dict({**plain, "task": "depth"})
    with pytest.raises(PreprocessingError, match="unknown: colour"):
        ModelDescription.from_dict({**plain, "preprocessing": {**plain["preprocessing"], "colour": 1}})
    config = SegmenterConfig(num_classes=3).to_dict()
    with pytest.raises(ConfigError, match="2 class names for num_classes=3"):
        ModelDescription.from_dict({**plain, "config": config, "num_classes": 3})
