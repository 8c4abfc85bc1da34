"""From a segmenter's logits to label maps: of whole images, of overlapping windows, of several sizes.

Logits are resized as in the authors' code, to the size of the input and then to that of the original image, and never
exist at full size for all classes: bands of rows are resized, reduced to labels and forgotten.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn

from ..ops.padding import group_by_size
from ..sizes import Size
from ..weights.preprocessing import DensePreprocessing
from .bands import band_rows, resize_bands, resize_columns, source_rows
from .inputs import model_input

RATIOS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
"""Sizes of multi-scale inference in the published results, each as it is and mirrored."""

# Rows of the image whose sums over windows are taken together, at least, but for windows of less than eight times as
# many: fewer cost more calls than they save memory.
_SUMMED_ROWS = 16


class SegmentationError(ValueError):
    """An inference that cannot be made. The message says why and the fix."""


def segment(
    model: nn.Module,
    images: Float[Tensor, "B C h w"] | Sequence[Float[Tensor, "C _h _w"]],
    output_sizes: Sequence[Size] | None = None,
) -> list[Integer[Tensor, "H W"]]:
    """Label maps of whole images of any sizes, each as the image gets it alone: those of one size share a batch.

    Args:
        model: a `Segmenter`, or any module that gives logits (B, classes, h', w'); in evaluation mode.
        images: preprocessed, not padded.
        output_sizes: (height, width) of each label map, that of the original image; None for those of `images`.

    Returns:
        A map an image, of uint8, or of int32 for more than 256 classes.

    Raises:
        SegmentationError: the model is in training mode, or there is not one size an image.
    """
    input_sizes = [(image.shape[1], image.shape[2]) for image in images]
    sizes = input_sizes if output_sizes is None else list(output_sizes)
    if len(sizes) != len(images):
        raise SegmentationError(
            f"{len(sizes)} output sizes for {len(images)} images; give one (height, width) an image"
        )
    labels: dict[int, Tensor] = {}
    with torch.no_grad():
        for places in group_by_size(input_sizes):
            # A batch that came as one tensor is of one size.
            batch = images if isinstance(images, Tensor) else torch.stack([images[place] for place in places])
            logits = _logits(model, model_input(model, batch))
            for place, one in zip(places, logits, strict=True):
                labels[place] = _labels(_resized(one, input_sizes[place], sizes[place]), sizes[place])
    return [labels[place] for place in range(len(images))]


def segment_multi_scale(
    model: nn.Module, images: Sequence[Float[Tensor, "C _h _w"]], output_size: Size, *, flip: bool = True
) -> Integer[Tensor, "H W"]:
    """The label map of one image from several sizes of it, each also mirrored if `flip`.

    Each view's logits are resized to `output_size`; the mean of their softmax decides.

    Args:
        model: as `segment` has it.
        images: one image, preprocessed at each ratio, such as `[transform(image).pixels ...]` with
            `preprocessing_at_ratio` of `RATIOS`.
        output_size: (height, width) of the label map: the original image's.

    Raises:
        SegmentationError: the model is in training mode, or there is no image.
    """
    if not images:
        raise SegmentationError("no image was given; give the image at one ratio or more")
    with torch.no_grad():
        views: list[Iterator[Tensor]] = []
        for image in (model_input(model, one) for one in images):
            logits = [_logits(model, image.unsqueeze(0))[0]]
            if flip:
                # Resizing a mirrored map is mirroring a resized one, so the small one is mirrored back.
                logits.append(_logits(model, image.flip(2).unsqueeze(0))[0].flip(2))
            rows = band_rows(len(logits[0]), output_size[1])
            views += [_resized(one, (image.shape[1], image.shape[2]), output_size, rows) for one in logits]
        return _labels(_mean_probabilities(views), output_size)


def segment_sliding(
    model: nn.Module,
    image: Float[Tensor, "C h w"],
    crop_size: Size,
    stride: Size,
    output_size: Size | None = None,
    *,
    batch_size: int = 1,
) -> Integer[Tensor, "H W"]:
    """The label map of an image of any size, seen through overlapping windows whose logits are averaged.

    The windows go row by row, and rows of the image that no later window covers are reduced to labels at once. So the
    memory above the model's own does not grow with the image's height: it is what the model gives for the rows of
    windows that overlap, and at most about classes x crop height x image width floats.

    Args:
        model: as `segment` has it.
        image: preprocessed, not padded. Windows cut from the image at its original size need no `output_size`.
        crop_size: (height, width) of a window; one that is larger than the image shrinks to it.
        stride: (height, width) from a window to the next, at most `crop_size`. The last one ends with the image.
        output_size: (height, width) that the averaged logits are resized to; None for that of `image`.
        batch_size: windows that go through the model together.

    Raises:
        SegmentationError: the model is in training mode, or a size, stride or batch is not possible.
    """
    for name, pair, most in (("crop_size", crop_size, None), ("stride", stride, crop_size)):
        if min(pair) < 1 or (most is not None and (pair[0] > most[0] or pair[1] > most[1])):
            limit = f", at most crop_size={crop_size}" if most is not None else ""
            raise SegmentationError(f"{name}={pair} is not possible: use (height, width) of at least 1 pixel{limit}")
    if batch_size < 1:
        raise SegmentationError(f"batch_size={batch_size} is not possible: use at least 1 window")
    input_size = (image.shape[1], image.shape[2])
    output_size = input_size if output_size is None else output_size
    with torch.no_grad():
        bands = _sliding_bands(model, model_input(model, image), crop_size, stride, batch_size)
        return _labels(resize_bands(bands, input_size, output_size), output_size)


def preprocessing_at_ratio(preprocessing: DensePreprocessing, ratio: float, image_size: Size) -> DensePreprocessing:
    """The preprocessing for one view of multi-scale inference: the limits of the resize times `ratio`, cut to pixels.

    `image_size`, (height, width) of the original image, counts where the preprocessing has no limits of its own.
    """
    longest, shortest = preprocessing.scale or (max(image_size), min(image_size))
    scale = (max(int(longest * ratio), 1), max(int(shortest * ratio), 1))
    return dataclasses.replace(preprocessing, scale=scale)


def window_starts(length: int, crop: int, stride: int) -> list[int]:
    """Where windows begin along one side: a stride apart, the last one moved back to end with the image."""
    count = max(length - crop + stride - 1, 0) // stride + 1
    return [max(min(index * stride + crop, length) - crop, 0) for index in range(count)]


def _logits(model: nn.Module, images: Tensor) -> Float[Tensor, "B classes h w"]:
    if model.training:
        raise SegmentationError("the model is in training mode, where batch norm and dropout differ: call model.eval()")
    logits: Tensor = model(images)
    return logits.float()


def _resized(
    logits: Float[Tensor, "classes h w"], input_size: Size, output_size: Size, rows: int | None = None
) -> Iterator[Float[Tensor, "classes rows W"]]:
    """Logits resized to the size of the input, and then to that wanted."""
    at_input_size = resize_bands([logits], (logits.shape[1], logits.shape[2]), input_size)
    return resize_bands(at_input_size, input_size, output_size, rows)


def _labels(bands: Iterable[Float[Tensor, "classes rows W"]], size: Size) -> Integer[Tensor, "H W"]:
    """The class of the highest value at each pixel. A softmax would not change which that is."""
    labels: Tensor | None = None
    top = 0
    for band in bands:
        if labels is None:
            labels = torch.empty(size, dtype=torch.uint8 if len(band) <= 256 else torch.int32, device=band.device)
        labels[top : top + band.shape[1]] = band.argmax(dim=0)
        top += band.shape[1]
    assert labels is not None and top == size[0], "a map's bands have all its rows"
    return labels


def _mean_probabilities(views: Sequence[Iterator[Tensor]]) -> Iterator[Float[Tensor, "classes rows W"]]:
    for first, *others in zip(*views, strict=True):
        mean = first.softmax(dim=0)
        for band in others:
            mean += band.softmax(dim=0)
        yield mean / len(views)


def _sliding_bands(
    model: nn.Module, image: Float[Tensor, "C h w"], crop_size: Size, stride: Size, batch_size: int
) -> Iterator[Float[Tensor, "classes rows w"]]:
    """The averaged logits of all windows, at the image's size, in bands.

    Rows of windows are held as the model gave them, which is at a quarter of the image's size each way, until all that
    cover a row of the image are there. Where windows overlap so much that sums at the image's size are smaller, those
    are held instead.
    """
    height, width = image.shape[1:]
    crop = (min(crop_size[0], height), min(crop_size[1], width))
    tops, lefts = (window_starts(n, c, s) for n, c, s in zip((height, width), crop, stride, strict=True))
    in_column, in_row = _coverage(tops, crop[0], height, image), _coverage(lefts, crop[1], width, image)
    windows: list[_Window] = []
    sums: _Ring | None = None
    for top, next_top in zip(tops, [*tops[1:], height], strict=True):
        for first in range(0, len(lefts), batch_size):
            some = lefts[first : first + batch_size]
            crops = [image[:, top : top + crop[0], left : left + crop[1]] for left in some]
            for left, logits in zip(some, _logits(model, torch.stack(crops)), strict=True):
                window = _Window(top, left, logits)
                if not windows and sums is None:
                    rows_held = -(-crop[0] // stride[0])
                    if rows_held * len(lefts) * logits.numel() > len(logits) * crop[0] * width:
                        sums = _Ring(logits.new_zeros(len(logits), crop[0], width))
                if sums is None:
                    windows.append(window)
                else:
                    sums.add(window, crop)
        classes = sums.rows.shape[0] if sums is not None else len(windows[0].logits)
        rows = max(band_rows(classes, width), min(_SUMMED_ROWS, crop[0] // 8))
        for start in range(top, next_top, rows):
            stop = min(start + rows, next_top)
            if sums is None:
                band = _sum_of_windows(windows, start, stop, crop, width)
            else:
                band = sums.take(start, stop)
            yield band.div_(in_column[start:stop].unsqueeze(1) * in_row)
        windows = [window for window in windows if window.top + crop[0] > next_top]


@dataclasses.dataclass(frozen=True)
class _Window:
    """What the model gave for a window of the image whose first row and column those are."""

    top: int
    left: int
    logits: Float[Tensor, "classes h w"]

    def rows(self, start: int, stop: int, crop: Size) -> Float[Tensor, "classes rows w"]:
        """Those rows of the image, resized from the logits."""
        height = self.logits.shape[1]
        if height == crop[0]:
            taken = self.logits[:, start - self.top : stop - self.top]
        else:
            found = source_rows(start - self.top, stop - self.top, height, crop[0])
            lower, upper, fraction = (one.to(self.logits.device) for one in found)
            taken = torch.lerp(self.logits[:, lower], self.logits[:, upper], fraction.unsqueeze(1))
        return resize_columns(taken, crop[1])


def _sum_of_windows(
    windows: Sequence[_Window], start: int, stop: int, crop: Size, width: int
) -> Float[Tensor, "classes rows width"]:
    """Of rows of the image, the sum over the windows that see them, in the order of the windows."""
    logits = windows[0].logits
    band = logits.new_zeros(len(logits), stop - start, width)
    for window in windows:
        first, last = max(start, window.top), min(stop, window.top + crop[0])
        if first < last:
            place = band[:, first - start : last - start, window.left : window.left + crop[1]]
            place += window.rows(first, last, crop)
    return band


@dataclasses.dataclass(frozen=True)
class _Ring:
    """Sums of windows at the image's size: row y of the image is row y % crop height."""

    rows: Float[Tensor, "classes crop_height w"]

    def add(self, window: _Window, crop: Size) -> None:
        """Adds a window, a band of rows at a time."""
        length, step = self.rows.shape[1], band_rows(len(self.rows), crop[1])
        for start in range(window.top, window.top + crop[0], step):
            stop = min(start + step, window.top + crop[0])
            rows = torch.arange(start, stop, device=self.rows.device) % length
            self.rows[:, rows, window.left : window.left + crop[1]] += window.rows(start, stop, crop)

    def take(self, start: int, stop: int) -> Float[Tensor, "classes rows w"]:
        """The sums of those rows, which are 0 afterwards."""
        rows = torch.arange(start, stop, device=self.rows.device) % self.rows.shape[1]
        taken = self.rows[:, rows]
        self.rows[:, rows] = 0
        return taken


def _coverage(starts: Sequence[int], crop: int, length: int, like: Tensor) -> Float[Tensor, " length"]:
    """How many windows cover each place along one side."""
    count = torch.zeros(length, device=like.device)
    for start in starts:
        count[start : start + crop] += 1
    return count
