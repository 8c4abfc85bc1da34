"""From the queries of a Mask2Former to answers: segments, objects or a label map, at the original image's size.

There are two policies, whose rules differ; OpenMMLab's are the authors', with other numbers for segments:

"authors": masks are resized to the padded input, cut to the image, and resized to the original one.
"transformers" (of release 5, `Mask2FormerImageProcessor`): masks are resized to 384 x 384 with all padding, which suits
images squeezed to that size alone, and probabilities, scores or finished masks to the original size.

Masks never exist at full size for all queries: see `bands`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int, Integer
from torch import Tensor
from torch.nn import functional as F

from ..checks import require
from ..sizes import Size
from .bands import band_rows, resize_bands
from .mask2former_config import LEAST_PROBABILITY, Policy
from .query_masks import QueryMasks, cut_bands, masks_at_output, resized_masks

_SQUARE = (384, 384)


@dataclass(frozen=True, kw_only=True)
class PanopticSegments:
    """The segments of one image, in the order in which they were found.

    Attributes:
        segment_ids: the id of each pixel's segment, 0 for none.
        ids: those of the segments, 1, 2, ... By transformers' rules one may occur more than once, with other classes.
        labels: class indices from 0.
        scores: probability of the class; of stuff that several queries make up, that of the first.
        areas: pixels.
        is_thing: whether a segment is an object; else it is all of the class in the image.
        queries: which query each is of; of stuff that several make up, the first.
    """

    segment_ids: Int[Tensor, "H W"]
    ids: Int[Tensor, " n"]
    labels: Int[Tensor, " n"]
    scores: Float[Tensor, " n"]
    areas: Int[Tensor, " n"]
    is_thing: Bool[Tensor, " n"]
    queries: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, kw_only=True)
class MaskedInstances:
    """The objects of one image with their masks, best first.

    Attributes:
        boxes_xyxy: corners of the masks in pixels of the original image; all 0 of an empty mask.
        scores: in [0, 1]: the class's probability times the mask's mean.
        labels: class indices from 0.
        masks: which pixels are the object's.
        queries: which query each is of.
    """

    boxes_xyxy: Float[Tensor, "n 4"]
    scores: Float[Tensor, " n"]
    labels: Int[Tensor, " n"]
    masks: Bool[Tensor, "n H W"]
    queries: Int[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.labels)


def panoptic(
    image: QueryMasks,
    things: Sequence[int],
    *,
    least_probability: float | None = None,
    least_share: float = 0.8,
    policy: Policy = "authors",
) -> PanopticSegments:
    """A segment for each pixel, or none.

    Of queries whose best class is probable enough, each pixel is won by the highest product of probability and mask.
    By the authors' rules a segment is what its query wins of its own mask (a half or more), if it wins nearly all of
    it; transformers has it be all that is won, and holds the products to a half. Segments of one class of stuff are
    one.

    Args:
        image: one image's.
        things: indices of the classes whose segments are objects.
        least_probability: of a query's best class, which has more; None for the policy's own, 0.8 or 0.5.
        least_share: of its own mask, that a segment keeps; by transformers' rules it keeps more.
        policy: whose rules.

    Raises:
        ValueError: there is no such policy.
    """
    _check_policy(policy)
    least = LEAST_PROBABILITY[policy] if least_probability is None else least_probability
    num_classes = image.class_logits.shape[1] - 1
    probabilities, classes = image.class_logits.softmax(dim=1).max(dim=1)
    kept = (classes != num_classes) & (probabilities > least)
    probabilities, classes = probabilities[kept], classes[kept]
    contest = _Contest(image, image.mask_logits[kept], probabilities, policy)
    if policy == "authors":
        is_large = contest.won.double() / contest.areas.double() >= least_share
    else:
        is_large = (contest.won / contest.areas).double() > least_share  # 4 of 5 is more than 0.8 in float32
    is_segment = ((contest.inside > 0) & (contest.areas > 0) & is_large).tolist()
    found: list[tuple[int, int]] = []  # segment's id, query
    of_stuff: dict[int, int] = {}
    ids, last = [0] * len(classes), 0
    for query, label in enumerate(classes.tolist()):
        if not is_segment[query]:
            continue
        is_known = label in of_stuff
        if is_known and policy == "transformers":
            last = of_stuff[label]  # so that the next segment has an id that is another's
        elif not is_known:
            last += 1
        ids[query] = of_stuff[label] if is_known else last
        if label not in things:
            of_stuff[label] = ids[query]
        if not is_known or policy == "transformers":
            found.append((ids[query], query))
    return _segments(contest, ids, found, probabilities, classes, things, kept.nonzero()[:, 0])


def instances(
    image: QueryMasks, things: Sequence[int] | None = None, *, max_detections: int = 100, policy: Policy = "authors"
) -> MaskedInstances:
    """The most probable objects, of any query and class, so that a query may stand for several.

    Args:
        image: one image's.
        things: indices of the classes that objects may have; None: any.
        max_detections: most objects that are looked at; transformers looks at as many as there are queries, and leaves
            out those whose score is below 0.5 or whose mask is empty.
        policy: whose rules.

    Raises:
        ValueError: there is no such policy.
    """
    _check_policy(policy)
    probabilities = image.class_logits.softmax(dim=1)[:, :-1]
    num_queries, num_classes = probabilities.shape
    most = max_detections if policy == "authors" else num_queries
    scores, places = probabilities.flatten().topk(min(most, num_queries * num_classes))
    labels, queries = places % num_classes, places // num_classes
    if things is not None:
        allowed = torch.isin(labels, torch.tensor(list(things), device=labels.device, dtype=labels.dtype))
        scores, labels, queries = scores[allowed], labels[allowed], queries[allowed]
    used, which = queries.unique(return_inverse=True)
    masks, means = _masks(image, image.mask_logits[used], policy)
    scores = scores * means[which]
    order = scores.argsort(descending=True, stable=True)
    if policy == "transformers":
        order = order[(scores[order] >= 0.5) & masks.flatten(1).any(dim=1)[which[order]]]
    chosen = which[order]
    return MaskedInstances(
        boxes_xyxy=_boxes(masks)[chosen],
        scores=scores[order],
        labels=labels[order],
        masks=masks[chosen],
        queries=queries[order],
    )


def semantic(
    image: QueryMasks, *, resized: Literal["masks", "scores"] = "scores", policy: Policy = "authors"
) -> Integer[Tensor, "H W"]:
    """The class of each pixel: that of the highest sum, over the queries, of its probability times the mask.

    Args:
        image: one image's.
        resized: what is resized to the original size: "scores", the sums at the input's size, as the authors do with
            models of semantic answers alone; or "masks", as they do with others. transformers resizes scores.
        policy: whose rules.

    Returns:
        Labels of uint8, or of int32 for more than 256 classes.

    Raises:
        ValueError: there is no such policy.
    """
    return _highest(semantic_scores(image, resized=resized, policy=policy), image.output_size)


def semantic_of_views(
    views: Sequence[QueryMasks],
    mirrored: Sequence[bool],
    *,
    resized: Literal["masks", "scores"] = "scores",
    policy: Policy = "authors",
) -> Integer[Tensor, "H W"]:
    """The class of each pixel by the mean of the views' sums; see `semantic`.

    Args:
        views: of one image, resized or mirrored, with its size as the output's.
        mirrored: whether each is, so that its sums are mirrored back.
        resized, policy: as there.

    Raises:
        ValueError: there is no such policy.
    """
    size = views[0].output_size
    rows = band_rows(views[0].class_logits.shape[1], size[1])
    each = [semantic_scores(view, resized=resized, policy=policy, rows=rows) for view in views]

    def means() -> Iterator[Tensor]:
        for bands in zip(*each, strict=True):
            upright = (band.flip(2) if flipped else band for band, flipped in zip(bands, mirrored, strict=True))
            yield sum(upright, start=torch.zeros_like(bands[0])) / len(views)

    return _highest(means(), size)


def _highest(scores: Iterator[Float[Tensor, "classes rows W"]], size: Size) -> Integer[Tensor, "H W"]:
    labels: Tensor | None = None
    top = 0
    for band in scores:
        if labels is None:
            labels = torch.empty(size, dtype=torch.uint8 if len(band) <= 256 else torch.int32, device=band.device)
        labels[top : top + band.shape[1]] = band.argmax(dim=0)
        top += band.shape[1]
    assert labels is not None and top == size[0], "a map's bands have all its rows"
    return labels


def semantic_scores(
    image: QueryMasks,
    *,
    resized: Literal["masks", "scores"] = "scores",
    policy: Policy = "authors",
    rows: int | None = None,
) -> Iterator[Float[Tensor, "classes rows W"]]:
    """The sums that `semantic` compares, in bands, of so many rows if that is given."""
    _check_policy(policy)
    require(resized in ("masks", "scores"), "resized", resized, "use 'masks' or 'scores'")
    probabilities = image.class_logits.softmax(dim=1)[:, :-1].T  # (K, Q)

    def summed(bands: Iterator[Tensor]) -> Iterator[Tensor]:
        for band in bands:
            yield (probabilities @ band.sigmoid().flatten(1)).unflatten(1, band.shape[1:])

    if policy == "transformers":
        return resize_bands(summed(resized_masks(image.mask_logits, _SQUARE)), _SQUARE, image.output_size, rows)
    if resized == "masks":
        return summed(masks_at_output(image.mask_logits, image, rows))
    scores = summed(resized_masks(image.mask_logits, image.padded_size))
    return resize_bands(cut_bands(scores, image.input_size), image.input_size, image.output_size, rows)


class _Contest:
    """Which query wins each pixel.

    Attributes:
        winners: a query for each pixel; one more than there are where the pixel is in no segment of its winner.
        won: pixels that each query wins.
        inside: those of them that may be in its segment.
        areas: pixels of its own mask.
    """

    def __init__(
        self, image: QueryMasks, logits: Float[Tensor, "n h w"], scores: Float[Tensor, " n"], policy: Policy
    ) -> None:
        count = len(logits)
        self.winners = torch.full(image.output_size, count, dtype=torch.int32, device=logits.device)
        self.won, self.inside, self.areas = torch.zeros(3, count, dtype=torch.long, device=logits.device).unbind()
        if not count:
            return
        if policy == "authors":
            bands = (band.sigmoid() for band in masks_at_output(logits, image))
        else:
            squares = (band.sigmoid() for band in resized_masks(logits, _SQUARE))
            bands = (band * scores[:, None, None] for band in resize_bands(squares, _SQUARE, image.output_size))
        top = 0
        for band in bands:
            own = band >= 0.5
            products = band.mul_(scores[:, None, None]) if policy == "authors" else band
            winners = products.max(dim=0).indices  # of equal ones the first; `argmax` takes four times as long
            self.won += winners.flatten().bincount(minlength=count)
            self.areas += own.flatten(1).sum(dim=1)
            if policy == "authors":
                winners = torch.where(own.gather(0, winners[None])[0], winners, count)
            self.inside += winners.flatten().bincount(minlength=count + 1)[:count]
            self.winners[top : top + len(winners)] = winners
            top += len(winners)


def _segments(
    contest: _Contest,
    ids: Sequence[int],
    found: Sequence[tuple[int, int]],
    probabilities: Float[Tensor, " k"],
    classes: Int[Tensor, " k"],
    things: Sequence[int],
    kept: Int[Tensor, " k"],
) -> PanopticSegments:
    """Paints each query's pixels with its segment's id; 0 is no segment. `kept` are the queries that are here."""
    device = classes.device
    of_query = torch.tensor([*ids, 0], dtype=torch.int32, device=device)
    segment_ids = of_query[contest.winners]
    of_segment = torch.tensor([number for number, _ in found], dtype=torch.int32, device=device)
    queries = torch.tensor([query for _, query in found], dtype=torch.long, device=device)
    areas = torch.zeros(max(ids, default=0) + 1, dtype=torch.long, device=device)
    areas.index_add_(0, of_query[:-1].long(), contest.inside)
    labels = classes[queries]
    return PanopticSegments(
        segment_ids=segment_ids,
        ids=of_segment,
        labels=labels,
        scores=probabilities[queries],
        areas=areas[of_segment.long()],
        is_thing=torch.isin(labels, torch.tensor(list(things), dtype=labels.dtype, device=device)),
        queries=kept[queries],
    )


def _masks(
    image: QueryMasks, logits: Float[Tensor, "n h w"], policy: Policy
) -> tuple[Bool[Tensor, "n H W"], Float[Tensor, " n"]]:
    """Where each mask's logit is above 0, and the mask's mean there."""
    at = image.output_size if policy == "authors" else _SQUARE
    masks = torch.zeros(len(logits), *at, dtype=torch.bool, device=logits.device)
    sums, counts = torch.zeros(2, len(logits), device=logits.device).unbind()
    top = 0
    bands = masks_at_output(logits, image) if policy == "authors" else resized_masks(logits, at)
    for band in bands if len(logits) else ():
        inside = band > 0
        masks[:, top : top + band.shape[1]] = inside
        sums += (band.sigmoid() * inside).flatten(1).sum(dim=1)
        counts += inside.flatten(1).sum(dim=1)
        top += band.shape[1]
    if policy == "transformers":
        rows, columns = (_nearest(old, new, logits) for old, new in zip(_SQUARE, image.output_size, strict=True))
        masks = masks[:, rows][:, :, columns]
    return masks, sums / (counts + 1e-6)


def _nearest(old: int, new: int, like: Tensor) -> Int[Tensor, " new"]:
    """The old place that each new one is resized from."""
    places = torch.arange(old, dtype=torch.float32, device=like.device)[None, None]
    return F.interpolate(places, size=new, mode="nearest")[0, 0].long()


def _boxes(masks: Bool[Tensor, "n H W"]) -> Float[Tensor, "n 4"]:
    """The corners of each mask, the pixels at its edges included."""
    sides = []
    for along in (masks.any(dim=1), masks.any(dim=2)):  # columns, then rows
        length = along.shape[1]
        first = along.int().argmax(dim=1)
        last = length - along.flip(1).int().argmax(dim=1)
        sides.append(torch.stack([first, last], dim=1) * along.any(dim=1, keepdim=True))
    return torch.stack(sides, dim=2).flatten(1).float()


def _check_policy(policy: str) -> None:
    require(policy in get_args(Policy), "policy", policy, f"use one of {', '.join(get_args(Policy))}")
