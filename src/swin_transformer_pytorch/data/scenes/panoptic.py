"""Scenes as images with segments: each item is a thing, and the ground is stuff."""

from __future__ import annotations

import numpy as np
from torch.utils.data import Dataset

from ...colours import Colour
from ..samples import DetectionSample, PanopticSample
from .dataset import SceneDataset


class PanopticScenes(Dataset[PanopticSample]):
    """The segments of scenes, which have no void: items in their order, lowest first, and then the ground, if seen.

    Attributes:
        scenes: what they are made of.
        classes: class names by label, the ground's last.
        things: the labels of the items' classes.
        palette: an RGB colour of each class.
        image_ids: the id of each scene, which is its index.
    """

    def __init__(self, scenes: SceneDataset) -> None:
        self.scenes = scenes
        self.classes = scenes.semantic_classes
        self.things = tuple(range(len(scenes.classes)))
        self.palette: tuple[Colour, ...] | None = scenes.semantic_palette
        self.image_ids = scenes.image_ids

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> PanopticSample:
        return with_segments(self.scenes[index], ground=len(self.classes) - 1)


def with_segments(scene: DetectionSample, *, ground: int) -> PanopticSample:
    """A scene's items and its ground, whose label is `ground`, as segments."""
    assert scene.semantic is not None, "scenes have them"
    is_ground = scene.semantic == ground
    ids = np.zeros(is_ground.shape, dtype=np.int32)
    for number, mask in enumerate(scene.masks, start=1):
        ids[mask != 0] = number
    labels = scene.labels
    if is_ground.any():
        ids[is_ground] = len(labels) + 1
        labels = np.append(labels, ground)
    return PanopticSample(
        image=scene.image,
        image_id=scene.image_id,
        segment_ids=ids,
        labels=labels,
        crowd=np.zeros(len(labels), dtype=np.bool_),
    )
