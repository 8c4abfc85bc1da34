import dataclasses
import json

import pytest

from swin_transformer_pytorch.results import Classification


def test_a_classification_is_frozen_plain_and_readable():
    result = Classification(labels=(3, 1), scores=(0.75, 0.25), names=("fox", "cat"))
    assert json.loads(json.dumps(result.to_dict())) == {
        "labels": [3, 1],
        "scores": [0.75, 0.25],
        "names": ["fox", "cat"],
    }
    assert str(result) == "fox 75.0%, cat 25.0%"
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.labels = ()


def test_its_parts_belong_together():
    with pytest.raises(ValueError, match="have 2, 1 and 2 entries"):
        Classification(labels=(3, 1), scores=(0.75,), names=("fox", "cat"))
