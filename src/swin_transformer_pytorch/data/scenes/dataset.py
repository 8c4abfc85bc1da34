"""Scenes of Fashion-MNIST items for detection and segmentation, composed on the fly from a seed."""

from __future__ import annotations

import colorsys
import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch.utils.data import Dataset

from ...colours import Colour
from ..classification.fashion import ArrayDataset, FashionMNIST, FashionSample
from ..errors import NothingFoundError
from ..held_out import Split
from ..samples import DetectionSample
from .coco import describe, empty_document
from .cutouts import Cutout, Placed, cut_out, place
from .grounds import draw_ground, linear_ramp, random_colour

SceneKind = Literal["scenes_sample", "scenes"]

GROUND = "ground"
_ITEMS = (2, 7)
# Largest side of an item over the scene's shorter side: 29 to 74 pixels of 128.
_ITEM_SIZE = (0.23, 0.58)
_MAX_ANGLE = 45.0
# An item's middle keeps this share of the scene from its border.
_BORDER = 0.12
_MIN_VISIBLE_SHARE = 0.3
_MIN_VISIBLE_PIXELS = 20
# The held-out scenes have other items, so that this only keeps their layouts from being those of training.
_VALIDATION_SEED = 1_000_003


@dataclass(frozen=True, kw_only=True)
class _Item:
    """An item of a scene: its class, where it lies, and which pixels of that window show it."""

    label: int
    layer: Placed
    seen: NDArray[np.bool_]


class SceneDataset(Dataset[DetectionSample]):
    """Scenes of items at varied size, rotation and place, overlapping, in varied tints on textured grounds.

    Two to seven items are placed. One of which less than 30% or fewer than 20 pixels can be seen, because others cover
    it or it reaches beyond the border, is left out of the picture as well as of the annotations. Scene `index` depends
    on the items, the seed, the size and the index alone: neither on order, workers or `num_scenes`.

    Items of the data set are `DetectionSample`s: an RGB image; `boxes_xyxy` tight around what can be seen of each item
    (its right and lower ends exclusive); `masks` of that; no crowds; `semantic`, the class at each pixel. Labels count
    the items' classes from 0, in boxes as in label maps, where one more class comes last: the ground.

    Args:
        items: pictures on black to compose scenes of.
        num_scenes: how many scenes there are.
        seed: chooses the scenes.
        image_size: (height, width) of a scene, 32 pixels a side at least. Items scale with it.

    Attributes:
        classes: class names of the items, by label.
        semantic_classes: the same and the ground, by value in the label map.
        semantic_palette: an RGB colour for each of those.
        image_ids: the id of each scene, which is its index.
    """

    def __init__(
        self, items: ArrayDataset, num_scenes: int, *, seed: int = 0, image_size: tuple[int, int] = (128, 128)
    ) -> None:
        if num_scenes < 0 or len(items) == 0:
            raise ValueError(f"num_scenes={num_scenes} of {len(items)} items is not possible: use at least 0 of some")
        if min(image_size) < 32:
            raise ValueError(f"image_size={image_size} is too small for scenes: use at least 32 pixels a side")
        if seed < 0:
            raise ValueError(f"seed={seed} is not possible: use a number of at least 0")
        self.items = items
        self.num_scenes = num_scenes
        self.seed = seed
        self.image_size = (int(image_size[0]), int(image_size[1]))
        self.classes = tuple(items.classes)
        self.semantic_classes = (*self.classes, GROUND)
        self.semantic_palette = palette(len(self.classes))
        self.image_ids = list(range(num_scenes))
        self._cutouts: dict[int, Cutout] = {}

    def __len__(self) -> int:
        return self.num_scenes

    def __getitem__(self, index: int) -> DetectionSample:
        if not 0 <= index < self.num_scenes:
            raise IndexError(f"scene {index} is not among {self.num_scenes}")
        rng = np.random.default_rng((self.seed, index))
        items = self._arrange(rng)
        pixels = _paint(rng, [item.layer for item in items], self.image_size)
        semantic = np.full(self.image_size, len(self.classes), dtype=np.uint8)
        masks = np.zeros((len(items), *self.image_size), dtype=np.uint8)
        for item, mask in zip(items, masks, strict=True):
            mask[item.layer.rows, item.layer.columns] = item.seen
            semantic[item.layer.rows, item.layer.columns][item.seen] = item.label
        return DetectionSample(
            image=Image.fromarray(pixels),
            image_id=index,
            boxes_xyxy=np.array([_box(item) for item in items], dtype=np.float32).reshape(-1, 4),
            labels=np.array([item.label for item in items], dtype=np.int64),
            masks=masks,
            crowd=np.zeros(len(items), dtype=np.bool_),
            semantic=semantic,
        )

    def coco(self) -> dict[str, Any]:
        """All annotations as COCO's dictionary, composed anew: categories 1 to 10 in the order of `classes`."""
        document = empty_document(self.classes, seed=self.seed)
        for index in range(len(self)):
            describe(self[index], document)
        return document

    def _arrange(self, rng: np.random.Generator) -> list[_Item]:
        """The scene's items, lowest first."""
        height, width = self.image_size
        centres: list[tuple[float, float]] = []
        placed: list[tuple[int, Placed]] = []
        for _ in range(int(rng.integers(_ITEMS[0], _ITEMS[1] + 1))):
            index = int(rng.integers(len(self.items)))
            side = min(height, width) * rng.uniform(*_ITEM_SIZE)
            centres.append(_spread_out(rng, centres, self.image_size))
            layer = place(
                self._cutout(index),
                centre=centres[-1],
                zoom=side / max(self.items.images.shape[1:]),
                angle=rng.uniform(-_MAX_ANGLE, _MAX_ANGLE),
                mirror=bool(rng.random() < 0.5),
                size=self.image_size,
            )
            placed.append((int(self.items.labels[index]), layer))
        # From the highest item down: whether one is left out depends on those above it that are not.
        free = np.ones(self.image_size, dtype=np.float32)
        items: list[_Item] = []
        for label, layer in reversed(placed):
            window = free[layer.rows, layer.columns]
            # Strictly: where two edges share a pixel half and half, it is of neither.
            seen = layer.alpha * window > 0.5
            if int(seen.sum()) >= max(_MIN_VISIBLE_PIXELS, _MIN_VISIBLE_SHARE * layer.area):
                items.append(_Item(label=label, layer=layer, seen=seen))
                window *= 1 - layer.alpha
        return items[::-1]

    def _cutout(self, item: int) -> Cutout:
        if item not in self._cutouts:
            self._cutouts[item] = cut_out(self.items.images[item])
        return self._cutouts[item]


def open_scenes(
    kind: SceneKind,
    split: Split,
    *,
    num_scenes: int,
    root: str | None = None,
    seed: int = 0,
    image_size: tuple[int, int] = (128, 128),
) -> SceneDataset:
    """Scenes for training or, of Fashion-MNIST's test images and with another seed, for validation.

    Args:
        kind: "scenes_sample" for the items in the package, "scenes" for all of Fashion-MNIST from its files in `root`.
        split: "train" or "val".
        num_scenes, seed, image_size: see `SceneDataset`.
        root: the folder of Fashion-MNIST's four files, for "scenes".

    Raises:
        ValueError: kind or split is not known, or "scenes" has no `root`.
        NothingFoundError: the split is "test".
        DataError: `root` does not hold the files.
    """
    if split == "test":
        raise NothingFoundError(
            "split='test' is not possible: scenes have no part 'test'; measure 'val', whose items are Fashion-MNIST's "
            "test images"
        )
    if split not in ("train", "val"):
        raise ValueError(f"split={split!r} is not known: use 'train' or 'val'")
    part: Literal["train", "test"] = "train" if split == "train" else "test"
    items: ArrayDataset
    if kind == "scenes_sample":
        items = FashionSample(part)
    elif kind == "scenes":
        if root is None:
            raise ValueError("kind='scenes' needs root, the folder with Fashion-MNIST's four files")
        items = FashionMNIST(root, part)
    else:
        raise ValueError(f"kind={kind!r} is not known: use 'scenes_sample' or 'scenes'")
    offset = 0 if split == "train" else _VALIDATION_SEED
    return SceneDataset(items, num_scenes, seed=seed + offset, image_size=image_size)


def palette(num_items: int) -> tuple[Colour, ...]:
    """Colours well apart from each other for so many classes, and a dark grey for the ground after them."""
    colours = []
    for index in range(num_items):
        value = 0.95 if index % 2 == 0 else 0.75
        colour = colorsys.hsv_to_rgb(index / num_items, 0.75, value)
        colours.append((round(colour[0] * 255), round(colour[1] * 255), round(colour[2] * 255)))
    return (*colours, (64, 64, 64))


def _spread_out(
    rng: np.random.Generator, others: list[tuple[float, float]], size: tuple[int, int]
) -> tuple[float, float]:
    """Of three random places the one farthest from the other items: they overlap, but do not pile up."""
    places = rng.uniform(_BORDER, 1 - _BORDER, (3, 2)) * size
    best = places[0]
    if others:
        distances = np.linalg.norm(places[:, None] - np.array(others)[None], axis=-1).min(axis=1)
        best = places[int(distances.argmax())]
    return float(best[0]), float(best[1])


def _paint(rng: np.random.Generator, layers: list[Placed], size: tuple[int, int]) -> NDArray[np.uint8]:
    """The picture (height, width, 3) of items, lowest first, on a ground, under one light."""
    # Channels first, in which numpy is several times as fast.
    scene = draw_ground(rng, size)
    # All shadows fall to one side, as far as the light is low.
    angle, length = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.03) * min(size)
    fall = (round(length * math.sin(angle)), round(length * math.cos(angle)))
    blur = ImageFilter.BoxBlur(rng.uniform(0.01, 0.03) * min(size))
    darkness = rng.uniform(0.15, 0.5)
    for layer in layers:
        _cast_shadow(scene, layer, fall, blur, darkness)
        light = random_colour(rng, saturation=(0.0, 0.75), value=(0.65, 1.0))
        dark = light * np.float32(rng.uniform(0.05, 0.3))
        colour = dark[:, None, None] + (light - dark)[:, None, None] * layer.grey
        window = scene[:, layer.rows, layer.columns]
        window += (colour - window) * layer.alpha
    scene *= 1 + (linear_ramp(rng, size) - np.float32(0.5)) * np.float32(rng.uniform(0, 0.5))
    noise = rng.standard_normal(scene.shape, dtype=np.float32)
    noise *= np.float32(rng.uniform(1, 5))
    scene += noise
    # Halves are rounded up, and what is below 0 or above 255 is cut off.
    np.clip(scene + np.float32(0.5), 0, 255, out=scene)
    return np.ascontiguousarray(scene.astype(np.uint8).transpose(1, 2, 0))


def _cast_shadow(
    scene: NDArray[np.float32], layer: Placed, fall: tuple[int, int], blur: ImageFilter.BoxBlur, darkness: float
) -> None:
    """Darkens a scene (3, height, width) where the item's blurred outline falls, moved by (down, right) pixels."""
    outline = Image.fromarray((layer.alpha * 255).astype(np.uint8))
    shade = 1 - np.asarray(outline.filter(blur)) * np.float32(darkness / 255)
    in_scene, in_shade = [], []
    for span, shift, length in zip((layer.rows, layer.columns), fall, scene.shape[1:], strict=True):
        start, stop = max(span.start + shift, 0), max(min(span.stop + shift, length), 0)
        in_scene.append(slice(start, stop))
        in_shade.append(slice(start - span.start - shift, stop - span.start - shift))
    scene[:, in_scene[0], in_scene[1]] *= shade[in_shade[0], in_shade[1]]


def _box(item: _Item) -> tuple[float, float, float, float]:
    """(x0, y0, x1, y1) in the scene around what is seen of an item."""
    rows, columns = np.flatnonzero(item.seen.any(axis=1)), np.flatnonzero(item.seen.any(axis=0))
    x, y = item.layer.columns.start, item.layer.rows.start
    return (float(columns[0] + x), float(rows[0] + y), float(columns[-1] + 1 + x), float(rows[-1] + 1 + y))
