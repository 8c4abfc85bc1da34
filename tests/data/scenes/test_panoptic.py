"""Scenes as images with segments: what their masks and label maps say, in one map of ids."""

import numpy as np
import pytest

from swin_transformer_pytorch.data.errors import NothingFoundError
from swin_transformer_pytorch.data.panoptic.source import PanopticSource
from swin_transformer_pytorch.data.scenes.dataset import GROUND, open_scenes
from swin_transformer_pytorch.data.scenes.panoptic import PanopticScenes

SIZE = (64, 80)


def test_items_are_things_and_the_ground_is_stuff() -> None:
    scenes = open_scenes("scenes_sample", "val", num_scenes=6, seed=3, image_size=SIZE)
    source = PanopticSource(kind="scenes_sample", num_val_scenes=6, seed=3, scene_size=SIZE)
    samples = source.open("val")
    assert isinstance(samples, PanopticScenes) and len(samples) == 6
    assert samples.classes == (*scenes.classes, GROUND) and samples.things == tuple(range(10))
    assert samples.palette == scenes.semantic_palette and samples.image_ids == [0, 1, 2, 3, 4, 5]
    for index, sample in enumerate(samples[place] for place in range(6)):
        scene = scenes[index]
        assert scene.semantic is not None
        np.testing.assert_array_equal(np.asarray(sample.image), np.asarray(scene.image))
        assert sample.labels.tolist() == [*scene.labels.tolist(), 10] and not sample.crowd.any()
        np.testing.assert_array_equal(sample.masks[:-1], scene.masks != 0)
        np.testing.assert_array_equal(sample.masks[-1], scene.semantic == 10)
        assert sample.segment_ids.min() == 1, "scenes have no void"


def test_scenes_have_no_part_test() -> None:
    with pytest.raises(NothingFoundError, match="scenes have no part 'test'"):
        PanopticSource(kind="scenes_sample").open("test")
