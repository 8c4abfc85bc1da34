import pytest
from torchvision.models._meta import _IMAGENET_CATEGORIES

from swin_transformer_pytorch.weights.imagenet_classes import class_names, imagenet22k_to_1k


def test_names_are_the_usual_ones_in_head_order():
    assert class_names("imagenet1k") == tuple(_IMAGENET_CATEGORIES)
    assert class_names("imagenet22k") is None


def test_unknown_dataset():
    with pytest.raises(ValueError, match="'imagenet21k'"):
        class_names("imagenet21k")


def test_map_has_a_row_for_each_class():
    rows = imagenet22k_to_1k()
    assert len(rows) == len(set(rows)) == 1000
    assert min(rows) >= 0
    assert max(rows) < 21841
    # The first lines of the official data/map22kto1k.txt: tench, goldfish, great white shark.
    assert rows[:3] == (359, 368, 460)
