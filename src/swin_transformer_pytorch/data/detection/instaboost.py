"""InstaBoost (arXiv 1908.07801): objects are jittered in their own image, over a ground filled in behind them.

Which jitters are drawn follows the authors' code with mmdet's parameters. Three parts of theirs need packages that we
do not (OpenCV's inpainting, learned matting); those are OURS: the ground is filled by `fill_hole`, an object's edge is
its antialiased mask, and masks lose what a later object covers (theirs keep it). HTC's semantic labels move along,
which theirs do not know. Their placing by a heat map (off in mmdet) is not here.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from PIL import Image, ImageEnhance

from ...labels import IGNORED
from ..images.pixels import height_width
from ..samples import DetectionSample

_NEAR_BORDER = 10  # pixels; an object this near the image's border may be cut off by it
_FRINGE = 2  # pixels around an object that show its colour too

# Maps (x, y) of the new image to (x, y) of the old one: x' = a x + b y + c, y' = d x + e y + f.
Affine: TypeAlias = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class InstaBoostPolicy:
    """How objects are jittered; the defaults are mmdet's.

    Attributes:
        aug_ratio: probability that an image is changed at all.
        action_prob: probabilities, for a group of overlapping objects, of a jitter, of a horizontal flip with a
            jitter, and of nothing. No flip near the image's border.
        scale: range of the factor of size.
        dx: a group moves by at most its width over this.
        dy: a group moves by at most its height over this.
        theta: range of the rotation in whole degrees.
        color_prob: probability that the colours of a changed image are changed as well.
    """

    aug_ratio: float = 0.5
    action_prob: tuple[float, float, float] = (1.0, 0.0, 0.0)
    scale: tuple[float, float] = (0.8, 1.2)
    dx: float = 15.0
    dy: float = 15.0
    theta: tuple[int, int] = (-1, 1)
    color_prob: float = 0.5


@dataclass(frozen=True, kw_only=True)
class _Motion:
    """What happens to one group: the map back from its new place, and the rectangle that it can reach."""

    members: list[int]
    back: Affine
    rectangle: tuple[int, int, int, int]


def instaboost(
    sample: DetectionSample, generator: torch.Generator, policy: InstaBoostPolicy | None = None
) -> DetectionSample:
    """A sample whose objects moved a little; with probability 1 - aug_ratio the very same sample.

    Objects whose boxes overlap, also by way of others, move together. Crowds stay. An object that is covered wholly
    disappears, with its annotation; boxes of objects whose mask changed are tight around what is left.

    Args:
        generator: all draws come from it.
        policy: None for mmdet's.
    """
    policy = policy or InstaBoostPolicy()
    if _uniform(generator) >= policy.aug_ratio or bool(sample.crowd.all()):
        return sample
    motions = []
    for members in overlapping_groups(sample.boxes_xyxy, ~sample.crowd):
        motion = _draw_motion(sample, members, generator, policy)
        if motion is not None:
            motions.append(motion)
    moved = _apply(sample, motions) if motions else sample
    if _uniform(generator) < policy.color_prob:
        moved = dataclasses.replace(moved, image=_jitter_colours(moved.picture, generator))
    return moved


def overlapping_groups(boxes: Float32[np.ndarray, "n 4"], wanted: Bool[np.ndarray, " n"]) -> list[list[int]]:
    """The indices of the wanted boxes, those that overlap (also by way of others) in one list."""
    groups: list[list[int]] = []
    for index in np.flatnonzero(wanted).tolist():
        x0, y0, x1, y1 = boxes[index]
        touching = [
            group
            for group in groups
            if any(x0 < boxes[i][2] and boxes[i][0] < x1 and y0 < boxes[i][3] and boxes[i][1] < y1 for i in group)
        ]
        groups = [group for group in groups if group not in touching]
        groups.append(sorted([index, *(i for group in touching for i in group)]))
    return sorted(groups)


def fill_hole(image: UInt8[np.ndarray, "H W 3"], hole: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """The image with the pixels of `hole` continued smoothly from those around it; the others stay.

    Known pixels are averaged 2x2 into ever smaller images until none is unknown; each unknown pixel then takes the
    bilinear value of the next smaller image (the "push-pull" of Gortler et al., The Lumigraph, 1996). A hole without
    any known pixel around becomes grey.
    """
    if hole.all():
        return np.full_like(image, 128)
    levels = [(image.astype(np.float32), ~hole)]
    while not levels[-1][1].all():
        colours, known = levels[-1]
        height, width = known.shape
        spare = ((0, height % 2), (0, width % 2))
        weight = np.pad(known, spare).astype(np.float32)
        summed = _sum_of_four(np.pad(colours * known[..., None], (*spare, (0, 0))))
        count = _sum_of_four(weight)
        levels.append((summed / np.maximum(count, 1)[..., None], count > 0))
    filled = levels.pop()[0]
    for colours, known in reversed(levels):
        filled = np.where(known[..., None], colours, _twice(filled)[: known.shape[0], : known.shape[1]])
    return np.where(hole[..., None], np.rint(filled), image).astype(np.uint8)


def _sum_of_four(values: Float32[np.ndarray, ...]) -> Float32[np.ndarray, ...]:
    return values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]


def _twice(values: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "2*h 2*w 3"]:
    """Bilinear: each new cell is three parts its own old one and one part the neighbour's, along both axes."""
    for axis in (0, 1):
        near = np.concatenate([np.take(values, [0], axis), values, np.take(values, [-1], axis)], axis)
        size = values.shape[axis]
        before, after = np.take(near, range(size), axis), np.take(near, range(2, size + 2), axis)
        pair = np.stack([0.75 * values + 0.25 * before, 0.75 * values + 0.25 * after], axis + 1)
        values = pair.reshape(*values.shape[:axis], 2 * size, *values.shape[axis + 1 :])
    return values


def _draw_motion(
    sample: DetectionSample, members: list[int], generator: torch.Generator, policy: InstaBoostPolicy
) -> _Motion | None:
    """None where the draw says that nothing happens. What the image's border may cut only grows, and outwards."""
    boxes = sample.boxes_xyxy[members]
    x0, y0 = (float(side) for side in boxes[:, :2].min(axis=0))
    x1, y1 = (float(side) for side in boxes[:, 2:].max(axis=0))
    height, width = height_width(sample.image)
    left, top = x0 < _NEAR_BORDER, y0 < _NEAR_BORDER
    right, bottom = x1 > width - _NEAR_BORDER, y1 > height - _NEAR_BORDER
    fixed = left or top or right or bottom
    jitter, flip, nothing = policy.action_prob
    chance = _uniform(generator) * (jitter + nothing + (0 if fixed else flip))
    scale = policy.scale[0] + _uniform(generator) * (policy.scale[1] - policy.scale[0])
    shift_x = _whole(generator, -int((x1 - x0) // policy.dx), int((x1 - x0) // policy.dx))
    shift_y = _whole(generator, -int((y1 - y0) // policy.dy), int((y1 - y0) // policy.dy))
    degrees = _whole(generator, *policy.theta)
    if chance >= jitter + (0 if fixed else flip):
        return None
    if fixed:
        scale, degrees = max(scale, 1.0), 0
    shift_x = _outwards(shift_x, low=left, high=right)
    shift_y = _outwards(shift_y, low=top, high=bottom)
    flipped = chance >= jitter
    centre = (x0 + x1) / 2, (y0 + y1) / 2
    cosine, sine = math.cos(math.radians(degrees)) / scale, math.sin(math.radians(degrees)) / scale
    sign = -1.0 if flipped else 1.0
    new_x, new_y = centre[0] + shift_x, centre[1] + shift_y
    back = (
        sign * cosine,
        sign * sine,
        centre[0] - sign * (cosine * new_x + sine * new_y),
        -sine,
        cosine,
        centre[1] + sine * new_x - cosine * new_y,
    )
    reach_x = scale * (abs(cosine) * (x1 - x0) + abs(sine) * (y1 - y0)) * scale / 2 + 2
    reach_y = scale * (abs(sine) * (x1 - x0) + abs(cosine) * (y1 - y0)) * scale / 2 + 2
    rectangle = (
        max(math.floor(new_x - reach_x), 0),
        max(math.floor(new_y - reach_y), 0),
        min(math.ceil(new_x + reach_x), width),
        min(math.ceil(new_y + reach_y), height),
    )
    return _Motion(members=members, back=back, rectangle=rectangle)


def _outwards(shift: int, *, low: bool, high: bool) -> int:
    """No way away from a border that is near: the low one, the high one, or both."""
    shift = min(shift, 0) if low else shift
    return max(shift, 0) if high else shift


def _apply(sample: DetectionSample, motions: list[_Motion]) -> DetectionSample:
    """The moved groups over the filled ground, in order; what stays lies under them, as it was."""
    image = np.asarray(sample.picture)
    moving = [index for motion in motions for index in motion.members]
    staying = np.setdiff1d(np.arange(len(sample)), moving)
    vacated, kept = _union(sample.masks[moving]), _union(sample.masks[staying])
    canvas = fill_hole(image, _grown(vacated, _FRINGE) & ~kept)
    masks = sample.masks.copy()
    masks[moving] = 0
    semantic = None if sample.semantic is None else np.where(vacated & ~kept, IGNORED, sample.semantic)
    for motion in motions:
        x0, y0, x1, y1 = motion.rectangle
        if x0 >= x1 or y0 >= y1:
            continue
        place = np.s_[y0:y1, x0:x1]
        union = _union(sample.masks[motion.members]).astype(np.uint8)
        alpha = _warp(union * 255, motion).astype(np.float32)[..., None] / 255
        colours = _warp(image * union[..., None], motion)  # already times alpha, so that no old ground comes along
        canvas[place] = np.rint(colours + (1 - alpha) * canvas[place])
        covered = alpha[..., 0] >= 0.5
        masks[:, y0:y1, x0:x1] &= ~covered
        for index in motion.members:
            warped = _warp(sample.masks[index] * 255, motion) >= 128
            masks[index, y0:y1, x0:x1] = warped & covered
        if semantic is not None and sample.semantic is not None:
            labels = _warp(sample.semantic, motion, nearest=True)
            semantic[place] = np.where(covered, labels, semantic[place])
    return _with_new_masks(sample, Image.fromarray(canvas), masks, semantic)


def _union(masks: UInt8[np.ndarray, "n H W"]) -> Bool[np.ndarray, "H W"]:
    union: Bool[np.ndarray, "H W"] = np.asarray(masks.any(axis=0))
    return union


def _with_new_masks(
    sample: DetectionSample,
    image: Image.Image,
    masks: UInt8[np.ndarray, "n H W"],
    semantic: UInt8[np.ndarray, "H W"] | None,
) -> DetectionSample:
    boxes = sample.boxes_xyxy.copy()
    for index in range(len(sample)):
        if not np.array_equal(masks[index], sample.masks[index]) and masks[index].any():
            rows, columns = np.flatnonzero(masks[index].any(axis=1)), np.flatnonzero(masks[index].any(axis=0))
            boxes[index] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    left = masks.any(axis=(1, 2)) | sample.crowd
    return dataclasses.replace(
        sample,
        image=image,
        boxes_xyxy=boxes[left],
        labels=sample.labels[left],
        masks=masks[left],
        crowd=sample.crowd[left],
        semantic=semantic,
    )


def _warp(array: UInt8[np.ndarray, ...], motion: _Motion, *, nearest: bool = False) -> UInt8[np.ndarray, ...]:
    """The part of the moved array that lies in the group's new rectangle."""
    x0, y0, x1, y1 = motion.rectangle
    a, b, c, d, e, f = motion.back
    resample = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
    shifted = (a, b, c + a * x0 + b * y0, d, e, f + d * x0 + e * y0)
    picture = Image.fromarray(array)
    return np.asarray(picture.transform((x1 - x0, y1 - y0), Image.Transform.AFFINE, shifted, resample=resample))


def _grown(mask: Bool[np.ndarray, "H W"], pixels: int) -> Bool[np.ndarray, "H W"]:
    """The mask with `pixels` more on every side, corners too."""
    height, width = mask.shape
    padded = np.pad(mask, pixels)
    steps = range(2 * pixels + 1)
    tall = np.logical_or.reduce([padded[step : step + height] for step in steps])
    return np.logical_or.reduce([tall[:, step : step + width] for step in steps])


def _jitter_colours(image: Image.Image, generator: torch.Generator) -> Image.Image:
    """Saturation, brightness, contrast and sharpness, by factors in tenths from the ranges of the authors' code."""
    for kind, low, high in (
        (ImageEnhance.Color, 0, 30),
        (ImageEnhance.Brightness, 10, 20),
        (ImageEnhance.Contrast, 10, 20),
        (ImageEnhance.Sharpness, 0, 30),
    ):
        image = kind(image).enhance(_whole(generator, low, high) / 10)
    return image


def _uniform(generator: torch.Generator) -> float:
    return torch.rand((), generator=generator).item()


def _whole(generator: torch.Generator, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator).item())
