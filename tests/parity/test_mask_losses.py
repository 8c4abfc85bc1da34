"""The same matches, losses and gradients as transformers' Mask2Former, at the same points."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from transformers import Mask2FormerConfig
from transformers.models.mask2former import modeling_mask2former as peer

from swin_transformer_pytorch.heads.mask_losses import MaskLosses, match
from swin_transformer_pytorch.heads.mask_outputs import MaskOutputs
from swin_transformer_pytorch.ops.regions.instances import MaskTargets

CLASSES, QUERIES, SIZE, POINTS = 5, 7, (9, 13), 101
LOSSES = MaskLosses(num_points=POINTS, none_weight=0.3, class_weight=1.5, mask_weight=4.0, dice_weight=3.0)
NAMES = {"loss_cross_entropy": "loss_ce", "loss_mask": "loss_mask", "loss_dice": "loss_dice"}


@pytest.fixture
def double() -> Iterator[None]:
    """Their points are of the default type, which must be that of the predictions."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def output(seed: int, images: int = 3) -> MaskOutputs:
    generator = torch.Generator().manual_seed(seed)
    return MaskOutputs(
        class_logits=2 * torch.randn(images, QUERIES, CLASSES + 1, generator=generator, dtype=torch.float64),
        mask_logits=3 * torch.randn(images, QUERIES, *SIZE, generator=generator, dtype=torch.float64),
    )


def targets(*counts: int) -> list[MaskTargets]:
    """Rectangles, one of them empty, as crops leave them."""
    generator = torch.Generator().manual_seed(7)
    height, width = 4 * SIZE[0], 4 * SIZE[1]
    found = []
    for count in counts:
        masks = torch.zeros(count, height, width, dtype=torch.bool)
        for place in range(count):
            top, left = (int(torch.randint(side - 9, (), generator=generator)) for side in (height, width))
            masks[place, top : top + 5 + 4 * place, left : left + 17 - place] = place != 1
        found.append(MaskTargets(labels=torch.randint(CLASSES, (count,), generator=generator), masks=masks))
    return found


def criterion() -> peer.Mask2FormerLoss:
    config = Mask2FormerConfig(
        num_labels=CLASSES,
        no_object_weight=LOSSES.none_weight,
        class_weight=LOSSES.class_weight,
        mask_weight=LOSSES.mask_weight,
        dice_weight=LOSSES.dice_weight,
        train_num_points=POINTS,
        oversample_ratio=LOSSES.oversampling,
        importance_sample_ratio=LOSSES.importance,
    )
    return peer.Mask2FormerLoss(config, weight_dict={})


def theirs(layers: list[MaskOutputs], truth: list[MaskTargets]) -> dict[str, Tensor]:
    """Their losses, weighted as their model does it, summed over the layers."""
    loss, weights = criterion(), (LOSSES.class_weight, LOSSES.mask_weight, LOSSES.dice_weight)
    total = {name: torch.zeros(()) for name in NAMES.values()}
    for layer in layers:
        found = loss(
            layer.mask_logits,
            layer.class_logits,
            [target.masks.to(torch.float64) for target in truth],
            [target.labels for target in truth],
        )
        for (name, ours), weight in zip(NAMES.items(), weights, strict=True):
            total[ours] = total[ours] + weight * found[name]
    return total


def with_gradients(layers: list[MaskOutputs]) -> list[MaskOutputs]:
    return [
        MaskOutputs(
            class_logits=layer.class_logits.clone().requires_grad_(),
            mask_logits=layer.mask_logits.clone().requires_grad_(),
        )
        for layer in layers
    ]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("counts", [(3, 1, 4), (2, 0, 5), (9, 1, 0), (0, 0, 0)])
def test_losses_and_gradients(counts: tuple[int, ...]) -> None:
    """Of images with more targets than queries, with some and with none."""
    layers, truth = [output(1), output(2)], targets(*counts)
    ours, others = with_gradients(layers), with_gradients(layers)
    torch.manual_seed(3)
    actual = LOSSES(ours, truth)
    torch.manual_seed(3)
    expected = theirs(others, truth)
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name].dtype == torch.float64
        torch.testing.assert_close(actual[name], value, rtol=0, atol=1e-6, msg=name)
    torch.stack(list(actual.values())).sum().backward()
    torch.stack(list(expected.values())).sum().backward()
    for mine, other in zip(ours, others, strict=True):
        for part in ("class_logits", "mask_logits"):
            gradient = getattr(mine, part).grad
            assert gradient.isfinite().all()
            wanted = getattr(other, part).grad
            wanted = torch.zeros_like(gradient) if wanted is None else wanted
            torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-6)
    assert ours[0].class_logits.grad.abs().max() > 1e-3
    assert bool(ours[0].mask_logits.grad.any()) == any(counts)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("seed", range(5))
def test_matches(seed: int) -> None:
    predictions, truth = output(seed, images=2), targets(4, 9)
    torch.manual_seed(seed)
    expected = criterion().matcher(
        predictions.mask_logits,
        predictions.class_logits,
        [target.masks.to(torch.float64) for target in truth],
        [target.labels for target in truth],
    )
    torch.manual_seed(seed)
    for image, target in enumerate(truth):
        points = torch.rand(1, POINTS, 2)[0]
        found = match(predictions.class_logits[image], predictions.mask_logits[image], target, points, LOSSES)
        assert [one.tolist() for one in found] == [one.tolist() for one in expected[image]]
