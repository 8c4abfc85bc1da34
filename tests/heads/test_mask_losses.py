"""The losses of masks against scalar code; tests/parity holds them against transformers'."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swin_transformer_pytorch import extras
from swin_transformer_pytorch.heads import mask_losses as module
from swin_transformer_pytorch.heads.mask_losses import (
    MaskLosses,
    at_points,
    masks_at_points,
    masks_per_device,
    match,
    uncertain_points,
)
from swin_transformer_pytorch.heads.mask_outputs import MaskOutputs
from swin_transformer_pytorch.ops.regions.instances import MaskTargets

FEW = MaskLosses(num_points=64)


def outputs(images: int = 2, queries: int = 4, classes: int = 3, dtype: torch.dtype = torch.float32) -> MaskOutputs:
    return MaskOutputs(
        class_logits=torch.randn(images, queries, classes + 1).to(dtype).requires_grad_(),
        mask_logits=torch.randn(images, queries, 5, 6).to(dtype).requires_grad_(),
    )


def targets(*labels: list[int], size: tuple[int, int] = (20, 24)) -> list[MaskTargets]:
    return [MaskTargets(labels=torch.tensor(one).long(), masks=torch.rand(len(one), *size) > 0.5) for one in labels]


def scalar_at(plane: list[list[float]], x: float, y: float) -> float:
    """The value at (x, y) in [0, 1], bilinear between the middles of pixels, 0 beyond."""
    height, width = len(plane), len(plane[0])
    column, row = x * width - 0.5, y * height - 0.5
    total = 0.0
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < height and 0 <= j < width:
                total += (1 - abs(row - i)) * (1 - abs(column - j)) * plane[i][j]
    return total


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 2)])
def test_maps_are_read_between_the_middles_of_pixels_and_are_zero_beyond(size: tuple[int, int]) -> None:
    maps, masks = torch.randn(3, *size, dtype=torch.float64), torch.rand(3, *size) > 0.4
    points = torch.rand(3, 50, 2, dtype=torch.float64)
    points[0, :4] = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0], [0.5, 0.5]])
    for found, planes in ((at_points(maps, points), maps), (masks_at_points(masks, points), masks.double())):
        expected = [
            [scalar_at(plane, x, y) for x, y in of_mask]
            for plane, of_mask in zip(planes.tolist(), points.tolist(), strict=True)
        ]
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_masks_at_points_is_at_points_of_zeros_and_ones_in_float32_too() -> None:
    masks, points = torch.rand(4, 33, 57) > 0.5, torch.rand(4, 500, 2)
    torch.testing.assert_close(masks_at_points(masks, points), at_points(masks.float(), points), rtol=0, atol=1e-4)


def test_points_are_those_of_the_least_logits_and_the_others() -> None:
    logits, candidates, others = torch.randn(3, 6, 4), torch.rand(3, 40, 2), torch.rand(3, 5, 2)
    points = uncertain_points(logits, candidates, others, 17)
    assert points.shape == (3, 17, 2)
    torch.testing.assert_close(points[:, 12:], others)
    for plane, of_mask, chosen in zip(logits.tolist(), candidates.tolist(), points[:, :12].tolist(), strict=True):
        ordered = sorted(of_mask, key=lambda point: abs(scalar_at(plane, *point)))
        assert sorted(chosen) == sorted(ordered[:12])


@pytest.mark.parametrize("count", [0, 1, 3, 6])
def test_the_match_is_the_cheapest_of_all(count: int) -> None:
    """Of four queries; each assignment is tried."""
    import itertools

    classes, masks = torch.randn(4, 4, dtype=torch.float64), 2 * torch.randn(4, 5, 6, dtype=torch.float64)
    (target,) = targets([*torch.randint(3, (count,)).tolist()])
    points = torch.rand(30, 2, dtype=torch.float64)
    queries, those = match(classes, masks, target, points, FEW)
    assert queries.tolist() == sorted(set(queries.tolist())) and len(queries) == len(set(those.tolist())) == min(
        4, count
    )
    costs = []
    for query, plane in enumerate(masks.tolist()):
        costs.append([])
        for label, mask in zip(target.labels.tolist(), target.masks.double().tolist(), strict=True):
            values = [(scalar_at(plane, x, y), scalar_at(mask, x, y)) for x, y in points.tolist()]
            entropy = sum(math.log1p(math.exp(x)) - x * t for x, t in values) / len(values)
            shares = [(1 / (1 + math.exp(-x)), t) for x, t in values]
            overlap, both = sum(p * t for p, t in shares), sum(p + t for p, t in shares)
            probability = classes[query].softmax(0)[label].item()
            costs[-1].append(5 * entropy + 5 * (1 - (2 * overlap + 1) / (both + 1)) - 2 * probability)
    if count <= 4:
        ways = itertools.permutations(range(4), count)
        best = min(sum(costs[query][place] for place, query in enumerate(way)) for way in ways)
    else:
        ways = itertools.permutations(range(count), 4)
        best = min(sum(costs[query][place] for query, place in enumerate(way)) for way in ways)
    found = sum(costs[query][place] for query, place in zip(queries.tolist(), those.tolist(), strict=True))
    assert found == pytest.approx(best, abs=1e-9)


def test_what_is_no_number_is_matched_last() -> None:
    classes, masks = torch.zeros(3, 4), torch.full((3, 5, 6), torch.nan)
    masks[2] = 0
    (target,) = targets([1])
    queries, those = match(classes, masks, target, torch.rand(30, 2), FEW)
    assert (queries.tolist(), those.tolist()) == ([2], [0])
    target = targets([1, 0, 2])[0]
    assert match(classes, masks * torch.inf, target, torch.rand(30, 2), FEW)[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("labels", [([], []), ([0, 2], []), ([1], [0, 1, 2, 0, 1, 2])])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_extremes_have_finite_losses_and_gradients(labels: tuple[list[int], ...], scale: float) -> None:
    """Without targets every query is to say none, and masks learn nothing."""
    one = outputs()
    scaled = MaskOutputs(class_logits=one.class_logits * scale, mask_logits=one.mask_logits * scale)
    losses = FEW([scaled], targets(*labels))
    torch.stack(list(losses.values())).sum().backward()
    for leaf in (one.class_logits, one.mask_logits):
        assert leaf.grad is not None and leaf.grad.isfinite().all()
    if not any(labels):
        assert losses["loss_mask"].item() == losses["loss_dice"].item() == 0 and not one.mask_logits.grad.any()
        wanted = torch.nn.functional.cross_entropy(scaled.class_logits.flatten(0, 1), torch.full((8,), 3))
        torch.testing.assert_close(losses["loss_ce"], 2 * wanted)
    assert list(losses) == ["loss_ce", "loss_mask", "loss_dice"] and all(one.isfinite() for one in losses.values())


def test_layers_are_summed_and_each_is_matched_anew() -> None:
    layers, truth = [outputs(), outputs()], targets([0, 1], [2])
    generator = torch.Generator().manual_seed(5)
    together = FEW(layers, truth, generator)
    generator.manual_seed(5)
    alone = [FEW([layer], truth, generator) for layer in layers]
    for name, value in together.items():
        torch.testing.assert_close(value, alone[0][name] + alone[1][name])
    generator.manual_seed(6)
    assert FEW(layers, truth, generator)["loss_mask"] != together["loss_mask"]


def test_losses_of_masks_are_divided_by_their_number_at_least_one() -> None:
    one, truth = outputs(), targets([0, 1, 2], [2])

    def losses(num_masks: float | Tensor | None) -> dict[str, float]:
        found = FEW([one], truth, torch.Generator().manual_seed(1), num_masks=num_masks)
        return {name: value.item() for name, value in found.items()}

    usual = losses(None)
    assert losses(4.0) == losses(torch.tensor(4.0)) == usual
    for number, factor in ((8.0, 0.5), (0.5, 4.0)):
        for name in ("loss_mask", "loss_dice"):
            assert losses(number)[name] == pytest.approx(factor * usual[name], rel=1e-6)
        assert losses(number)["loss_ce"] == usual["loss_ce"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_losses_are_in_float32_under_autocast(dtype: torch.dtype) -> None:
    one, truth = outputs(dtype=dtype), targets([0, 1], [])
    whole = MaskOutputs(class_logits=one.class_logits.float(), mask_logits=one.mask_logits.float())
    expected = FEW([whole], truth, torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=dtype):
        losses = FEW([one], truth, torch.Generator().manual_seed(1))
    for name, value in losses.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[name])


def test_torch_func_has_the_gradients_of_backward() -> None:
    output, truth = outputs(), targets([0, 2], [])

    def loss(classes: Tensor, masks: Tensor) -> Tensor:
        torch.manual_seed(0)
        found = MaskLosses(num_points=50)([MaskOutputs(class_logits=classes, mask_logits=masks)], truth)
        return torch.stack([*found.values()]).sum()

    parts = output.class_logits, output.mask_logits
    expected = torch.autograd.grad(loss(*(leaves := [part.detach().requires_grad_() for part in parts])), leaves)
    torch.testing.assert_close(torch.func.grad(loss, argnums=(0, 1))(*parts), expected)


def test_a_missing_scipy_is_told_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    with pytest.raises(extras.MissingExtraError, match=r"'scipy'.*pip install .*\[train\]"):
        FEW([outputs()], targets([0], [1]))


def mislabelled() -> MaskTargets:
    (target,) = targets([0])
    object.__setattr__(target, "labels", torch.zeros(2).long())  # past the check of shapes, which only tests have
    return target


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FEW([], targets([0])), "outputs is empty"),
        (lambda: FEW([outputs(2)], targets([0])), "targets of 1 images and predictions of 2"),
        (lambda: FEW([outputs(1)], targets([0], size=(20, 20))), r"masks of 20 x 20 .* predictions of 5 x 6"),
        (lambda: FEW([outputs(2)], [*targets([0]), *targets([], size=(10, 12))]), r"10 x 12, 20 x 24 pixels"),
        (lambda: FEW([outputs(2)], targets([0], [3])), "labels go from 0 to 3 and there are 3 classes"),
        (lambda: FEW([outputs(2)], targets([-1], [1])), "labels go from -1 to 1"),
        (lambda: FEW([outputs(1)], [mislabelled()]), "image 0 has 2 labels and 1 masks"),
        (lambda: MaskLosses(none_weight=0.0), "none_weight=0.0"),
        (lambda: MaskLosses(num_points=0), "num_points=0"),
        (lambda: MaskLosses(oversampling=0.5), "oversampling=0.5"),
        (lambda: MaskLosses(importance=1.5), "importance=1.5"),
        (lambda: MaskLosses(dice_weight=-1.0), r"dice_weight=-1\.0"),
    ],
)
def test_what_does_not_go_together_is_an_error(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def _fixed_points(count: int, points: int, *, like: Tensor, generator: Any) -> Tensor:
    """The same for every mask, in place of those drawn."""
    numbers = torch.arange(points, dtype=like.dtype)
    return torch.stack([(numbers * 0.618) % 1, (numbers * 0.382 + 0.1) % 1], dim=1).expand(count, points, 2)


def _losses_of(images: slice) -> dict[str, Tensor]:
    """Of some of two images, with their gradients, whatever process this is."""
    torch.manual_seed(7)
    whole, truth = outputs(dtype=torch.float64), targets([0, 1], [2, 2])
    layer = MaskOutputs(class_logits=whole.class_logits[images], mask_logits=whole.mask_logits[images])
    losses = FEW([layer], truth[images])
    gradients = torch.autograd.grad(sum(losses.values()), (whole.class_logits, whole.mask_logits))  # type: ignore[type-var]
    return {**{name: loss.detach() for name, loss in losses.items()}, "classes": gradients[0], "masks": gradients[1]}


def _in_process(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    truth = targets([0, 1, 2] if rank == 0 else [], [1] if rank == 0 else [2, 2])
    count = module.masks_per_device(truth)
    module._uniform = _fixed_points  # type: ignore[assignment]  # this process ends with the test
    torch.save({"count": count, **_losses_of(slice(rank, rank + 1))}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_have_the_losses_and_gradients_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert masks_per_device(targets([0, 1], [])).item() == 2
    torch.multiprocessing.spawn(_in_process, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first.pop("count") == second.pop("count") == 3.0, "masks of a process, of six in both"
    monkeypatch.setattr(module, "_uniform", _fixed_points)
    alone = _losses_of(slice(0, 2))
    assert alone["loss_mask"] > 0 and alone["masks"].abs().sum() > 0
    for name, expected in alone.items():  # what DistributedDataParallel makes of the two
        torch.testing.assert_close((first[name] + second[name]) / 2, expected, msg=name)
