"""What is known of public data sets' label maps: Pascal VOC's and Cityscapes' classes, colours and values."""

from __future__ import annotations

from ...colours import Colour
from ...labels import IGNORED
from .classes import SegmentationClasses

_VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)

# Name, value in *_labelIds.png, colour; the place is the value in *_labelTrainIds.png.
_CITYSCAPES: tuple[tuple[str, int, Colour], ...] = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)


def voc_classes() -> SegmentationClasses:
    """Pascal VOC's 21, with background, in its colours; 255, the border around objects, is no class."""
    return SegmentationClasses(names=_VOC, palette=tuple(map(_voc_colour, range(len(_VOC)))))


def _voc_colour(label: int) -> Colour:
    """Of each three bits of the label, one goes to red, one to green and one to blue, the lowest to the highest."""
    red, green, blue = (
        sum((label >> (3 * place + channel) & 1) << (7 - place) for place in range(3)) for channel in range(3)
    )
    return red, green, blue


def cityscapes_classes() -> SegmentationClasses:
    """The 19 classes that Cityscapes trains and measures."""
    names, _, colours = zip(*_CITYSCAPES, strict=True)
    return SegmentationClasses(names=names, palette=colours)


def cityscapes_values() -> tuple[int, ...]:
    """The label of each of the 256 values of *_labelIds.png; those that are not measured are ignored."""
    labels = {value: label for label, (_, value, _) in enumerate(_CITYSCAPES)}
    return tuple(labels.get(value, IGNORED) for value in range(256))
