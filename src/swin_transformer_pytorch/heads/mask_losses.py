"""What a mask transformer minimises: each prediction is matched with the targets anew, then its classes and masks are
compared with theirs at some points (Mask2Former, arXiv 2112.01527, sections 3.3 and 4.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from ..checks import is_count, is_number, is_rate, require
from ..extras import require as require_extra
from ..ops.attention import without_autocast
from ..ops.plain import is_transformed
from ..ops.regions.instances import MaskTargets
from .mask_outputs import MaskOutputs
from .shapes import Losses

Match = tuple[Int[Tensor, " m"], Int[Tensor, " m"]]
"""Queries of one image, rising, and the target of each: as many as there are of the fewer."""

# What is no number is matched last; a sum of these is finite in 64 bits, in which scipy reckons.
_WORST = torch.finfo(torch.float32).max


@dataclass(frozen=True, kw_only=True)
class MaskLosses:
    """The losses of a decoder's predictions, and the costs by which they are matched. The defaults are the authors'.

    Attributes:
        class_weight: of the cross entropy; in the match, of the probability of the target's class.
        mask_weight: of the binary cross entropy of masks, in both.
        dice_weight: of the Dice loss of masks, in both.
        none_weight: what a query counts in the cross entropy that no target was matched with; others count 1.
        num_points: at which masks are compared, in the match and for each matched mask.
        oversampling: times `num_points` places are drawn, of which a mask takes those where it is least certain.
        importance: the share of a mask's points that are taken so; the others are drawn uniformly.
    """

    class_weight: float = 2.0
    mask_weight: float = 5.0
    dice_weight: float = 5.0
    none_weight: float = 0.1
    num_points: int = 112 * 112
    oversampling: float = 3.0
    importance: float = 0.75

    def __post_init__(self) -> None:
        for name in ("class_weight", "mask_weight", "dice_weight"):
            value = getattr(self, name)
            require(is_number(value) and value >= 0, name, value, "use a number of at least 0")
        ok = is_number(self.none_weight) and self.none_weight > 0
        require(ok, "none_weight", self.none_weight, "use a number above 0: images without targets have no other loss")
        require(is_count(self.num_points), "num_points", self.num_points, "use a whole number of at least 1")
        ok = is_number(self.oversampling) and self.oversampling >= 1
        require(ok, "oversampling", self.oversampling, "use a number of at least 1")
        require(is_rate(self.importance), "importance", self.importance, "use a share in [0, 1]")

    def __call__(
        self,
        outputs: Sequence[MaskOutputs],
        targets: Sequence[MaskTargets],
        generator: torch.Generator | None = None,
        *,
        num_masks: float | Float[Tensor, ""] | None = None,
    ) -> Losses:
        """`loss_ce`, `loss_mask` and `loss_dice`, each summed over the predictions; in float32 at least.

        Args:
            outputs: the predictions for a batch, such as those of each layer.
            targets: of each image. Those beyond the number of queries stay unmatched.
            generator: where the points come from; None for PyTorch's own of the predictions' device.
            num_masks: what losses of masks are divided by; None for `masks_per_device`. It is at least 1.

        Raises:
            ValueError: there are no predictions, or targets do not go with them.
            MissingExtraError: scipy is not installed.
        """
        if not outputs:
            raise ValueError("outputs is empty; give the predictions of one layer at least")
        for output in outputs:
            _check_sizes(output, targets)
        _check_labels(targets, outputs[0].num_classes)
        device = outputs[0].mask_logits.device
        count = masks_per_device(targets, device) if num_masks is None else torch.as_tensor(num_masks, device=device)
        with without_autocast(device.type):
            layers = [self._of_layer(output, targets, count.clamp(min=1), generator) for output in outputs]
        return {name: torch.stack([losses[name] for losses in layers]).sum() for name in layers[0]}

    def _of_layer(
        self,
        output: MaskOutputs,
        targets: Sequence[MaskTargets],
        num_masks: Float[Tensor, ""],
        generator: torch.Generator | None,
    ) -> Losses:
        class_logits, mask_logits = _at_least_float32(output.class_logits), _at_least_float32(output.mask_logits)
        matches = [
            match(classes, masks, target, _uniform(1, self.num_points, like=masks, generator=generator)[0], self)
            for classes, masks, target in zip(class_logits, mask_logits, targets, strict=True)
        ]
        image = torch.cat([torch.full_like(queries, place) for place, (queries, _) in enumerate(matches)])
        chosen = mask_logits[image, torch.cat([queries for queries, _ in matches])]
        truth = torch.cat([target.masks[those] for target, (_, those) in zip(targets, matches, strict=True)])
        elsewhere = self.num_points - int(self.num_points * self.importance)
        candidates = _uniform(len(chosen), int(self.num_points * self.oversampling), like=chosen, generator=generator)
        others = _uniform(len(chosen), elsewhere, like=chosen, generator=generator)
        points = uncertain_points(chosen, candidates, others, self.num_points)
        masks = mask_losses(at_points(chosen, points), masks_at_points(truth, points))
        return {
            "loss_ce": self.class_weight * class_loss(class_logits, targets, matches, self.none_weight),
            "loss_mask": self.mask_weight * masks["loss_mask"] / num_masks,
            "loss_dice": self.dice_weight * masks["loss_dice"] / num_masks,
        }


def masks_per_device(targets: Sequence[MaskTargets], device: torch.device | str = "cpu") -> Float[Tensor, ""]:
    """The targets of the batch; where several processes train together, those of all batches over their number."""
    count = torch.tensor(float(sum(map(len, targets))), device=device)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(count)
        count = count / torch.distributed.get_world_size()
    return count


@torch.no_grad()
def match(
    class_logits: Float[Tensor, "Q classes"],
    mask_logits: Float[Tensor, "Q h w"],
    target: MaskTargets,
    points: Float[Tensor, "P 2"],
    weights: MaskLosses,
) -> Match:
    """Which query learns which target of an image: those pairs whose costs are the least in sum.

    A pair costs the binary cross entropy of its masks and their Dice loss at the points, less the probability of the
    target's class, each times its weight.

    Args:
        class_logits: the last column is that of none.
        mask_logits: of any size.
        target: may have none, and more than queries.
        points: (x, y) in [0, 1], from the left upper corner to the right lower one.
        weights: of the costs.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    assignment = require_extra("scipy.optimize", extra="train").linear_sum_assignment
    logits, truth = at_points(mask_logits, points[None]), masks_at_points(target.masks, points[None])
    # The cross entropy of logit x and truth t is softplus(x) - x t; PyTorch's softplus takes twice as long on a CPU.
    softplus = logits.relu() - logits.abs().sigmoid().log()
    cross_entropy = (softplus.sum(dim=1)[:, None] - logits @ truth.T) / logits.shape[1]
    probabilities = logits.sigmoid()
    both = probabilities.sum(dim=1)[:, None] + truth.sum(dim=1)
    dice = 1 - (2 * probabilities @ truth.T + 1) / (both + 1)
    classes = class_logits.softmax(dim=1)[:, target.labels.long()]
    cost = weights.mask_weight * cross_entropy + weights.dice_weight * dice - weights.class_weight * classes
    cost = cost.nan_to_num(_WORST, _WORST, _WORST).clamp(-_WORST, _WORST).cpu()
    # In a function of torch.func tensors have numbers and no memory, which NumPy would look at.
    rows, columns = assignment(cost.tolist() if is_transformed() else cost.numpy())
    return torch.from_numpy(rows).to(logits.device), torch.from_numpy(columns).to(logits.device)


@torch.no_grad()
def uncertain_points(
    logits: Float[Tensor, "n h w"],
    candidates: Float[Tensor, "n C 2"],
    others: Float[Tensor, "n F 2"],
    count: int,
) -> Float[Tensor, "n P 2"]:
    """`count` points of each mask: those of the candidates with the least |logit|, then all `others`."""
    certainty = at_points(logits, candidates).abs()
    chosen = certainty.topk(count - others.shape[1], dim=1, largest=False, sorted=False).indices
    return torch.cat([candidates.gather(1, chosen[:, :, None].expand(-1, -1, 2)), others], dim=1)


def class_loss(
    logits: Float[Tensor, "B Q classes"],
    targets: Sequence[MaskTargets],
    matches: Sequence[Match],
    none_weight: float,
) -> Float[Tensor, ""]:
    """The weighted mean of all queries' cross entropies; unmatched ones are to say "none", the last class."""
    none = logits.shape[2] - 1
    truth = torch.full(logits.shape[:2], none, device=logits.device)
    for row, target, (queries, those) in zip(truth, targets, matches, strict=True):
        row[queries] = target.labels[those].long()
    weight = logits.new_ones(none + 1)
    weight[none] = none_weight
    return F.cross_entropy(logits.transpose(1, 2), truth, weight)


def mask_losses(logits: Float[Tensor, "n P"], truth: Float[Tensor, "n P"]) -> Losses:
    """`loss_mask`, the mean binary cross entropy of a mask's points, and `loss_dice`, 1 - (2 |p g| + 1) / (|p| + |g| +
    1) of its probabilities p and the truth g; both summed over the masks, 0 without one.
    """
    probabilities = logits.sigmoid()
    overlap, both = (probabilities * truth).sum(dim=1), probabilities.sum(dim=1) + truth.sum(dim=1)
    entropies = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return {"loss_mask": entropies.mean(dim=1).sum(), "loss_dice": (1 - (2 * overlap + 1) / (both + 1)).sum()}


def at_points(maps: Float[Tensor, "n h w"], points: Float[Tensor, "_ P 2"]) -> Float[Tensor, "n P"]:
    """Maps at points (x, y) in [0, 1], between the middles of pixels bilinearly, with zeros around the map.

    Args:
        maps: of any size.
        points: of each map, or those of all.
    """
    if len(maps) == 0:
        return maps.sum() * maps.new_zeros(0, points.shape[1])  # keeps the graph, as grid_sample's does
    grid = 2 * points.to(maps.dtype).unsqueeze(2) - 1
    if len(points) == 1:  # as channels of one image, where weights are computed once
        return F.grid_sample(maps.unsqueeze(0), grid, align_corners=False)[0, :, :, 0]
    return F.grid_sample(maps.unsqueeze(1), grid, align_corners=False)[:, 0, :, 0]


def masks_at_points(masks: Bool[Tensor, "n H W"], points: Float[Tensor, "_ P 2"]) -> Float[Tensor, "n P"]:
    """What `at_points` gives of masks of 0 and 1, of which only four pixels a point are read: in floats whole masks of
    a large image would take a multiple of the predictions' memory.
    """
    height, width = masks.shape[1:]
    x, y = points[..., 0] * width - 0.5, points[..., 1] * height - 0.5
    left, top = x.floor(), y.floor()
    x, y = x - left, y - top
    pixels = F.pad(masks, (1, 1, 1, 1)).flatten(1)
    width += 2
    first = (top.long() + 1) * width + left.long() + 1

    def at(step: int) -> Float[Tensor, "n P"]:
        places = first + step
        found = pixels[:, places[0]] if len(places) == 1 else pixels.gather(1, places)
        return found.to(points.dtype)

    return torch.lerp(torch.lerp(at(0), at(1), x), torch.lerp(at(width), at(width + 1), x), y)


def _uniform(
    count: int, points: int, *, like: Tensor, generator: torch.Generator | None
) -> Float[Tensor, "count points 2"]:
    device = like.device if generator is None else generator.device
    return torch.rand(count, points, 2, generator=generator, dtype=like.dtype, device=device).to(like.device)


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _check_sizes(output: MaskOutputs, targets: Sequence[MaskTargets]) -> None:
    batch, _, height, width = output.mask_logits.shape
    if len(targets) != batch:
        raise ValueError(f"there are targets of {len(targets)} images and predictions of {batch}; give one an image")
    sizes = {(target.masks.shape[1], target.masks.shape[2]) for target in targets}
    if len(sizes) > 1 or any(rows * width != columns * height for rows, columns in sizes):
        shown = ", ".join(f"{rows} x {columns}" for rows, columns in sorted(sizes))
        raise ValueError(
            f"targets have masks of {shown} pixels (height x width) and predictions of {height} x {width}; pad masks "
            "as images are, to the one size that predictions are a quarter of"
        )


def _check_labels(targets: Sequence[MaskTargets], num_classes: int) -> None:
    for place, target in enumerate(targets):
        if len(target.masks) != len(target.labels):
            raise ValueError(
                f"image {place} has {len(target.labels)} labels and {len(target.masks)} masks; give one label a mask"
            )
    labels = torch.cat([target.labels for target in targets])
    if len(labels) == 0:
        return
    low, high = (int(one) for one in torch.stack(labels.aminmax()).tolist())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"labels go from {low} to {high} and there are {num_classes} classes; use 0 to {num_classes - 1}"
        )
