"""Answers from made-up queries, against the authors' rules written pixel by pixel, and against transformers' own."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from swin_transformer_pytorch.models import bands
from swin_transformer_pytorch.models.panoptic_inference import instances, panoptic, semantic
from swin_transformer_pytorch.models.query_masks import QueryMasks

CLASSES = 6
THINGS = (1, 3, 4)  # not the first ones, as ADE20K's are not
KINDS = ["crowded", "few", "all stuff", "all things", "ties", "empty", "unsure"]
SHAPES = {
    "enlarged": {"padded_size": (64, 96), "input_size": (50, 71), "output_size": (83, 117)},
    "reduced": {"padded_size": (64, 64), "input_size": (64, 61), "output_size": (23, 20)},
    "as it is": {"padded_size": (64, 32), "input_size": (37, 29), "output_size": (37, 29)},
}


def made_up(kind: str, shape: str, seed: int = 0) -> QueryMasks:
    generator = torch.Generator().manual_seed(seed + 100 * KINDS.index(kind))
    sizes = SHAPES[shape]
    queries = {"crowded": 40, "few": 5}.get(kind, 15)
    height, width = (side // 4 for side in sizes["padded_size"])
    # Discs, with noise at their edges.
    y, x, radius = torch.rand(3, queries, 1, 1, generator=generator)
    rows, columns = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    distance = ((rows - y) ** 2 + (columns - x) ** 2).sqrt()
    masks = 30 * (0.06 + 0.5 * radius / queries**0.5 - distance) + 0.7 * torch.randn(
        queries, height, width, generator=generator
    )
    classes = torch.randn(queries, CLASSES + 1, generator=generator)
    best = torch.randint(0, CLASSES + 1, (queries,), generator=generator)
    if kind in ("all stuff", "all things"):
        allowed = [label for label in range(CLASSES) if (label in THINGS) == (kind == "all things")]
        best = torch.tensor(allowed)[best % len(allowed)]
    if kind == "empty":
        best = torch.full_like(best, CLASSES)
    sure = 2 + 6 * torch.rand(queries, generator=generator) if kind != "unsure" else torch.full((queries,), 1.5)
    classes[torch.arange(queries), best] += 1 + sure
    if kind == "ties":
        masks[3::3], classes[3::3] = masks[:-3:3].clone(), classes[:-3:3].clone()
    return QueryMasks(class_logits=classes, mask_logits=masks, **sizes)


every_image = pytest.mark.parametrize(("kind", "shape"), [(kind, shape) for kind in KINDS for shape in SHAPES])


@pytest.fixture(params=[bands.BAND_ELEMENTS, 2**13])
def _bands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "BAND_ELEMENTS", request.param)


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x[None], size=size, mode="bilinear", align_corners=False)[0]


def at_output(image: QueryMasks) -> Tensor:
    height, width = image.input_size
    return resize(resize(image.mask_logits, image.padded_size)[:, :height, :width], image.output_size)


def authors_panoptic(
    image: QueryMasks, least: float = 0.8, share: float = 0.8
) -> tuple[Tensor, list[tuple[int, int, int]]]:
    """Ids of pixels, and (id, label, query) of each segment."""
    scores, labels = image.class_logits.softmax(1).max(1)
    kept = [q for q in range(len(labels)) if labels[q] != CLASSES and scores[q] > least]
    masks = at_output(image).sigmoid()
    ids = torch.zeros(image.output_size, dtype=torch.int32)
    found: list[tuple[int, int, int]] = []
    if not kept:
        return ids, found
    shares = {q: (scores[q] * masks[q]).flatten().tolist() for q in kept}
    winners = [max(kept, key=lambda q: shares[q][pixel]) for pixel in range(ids.numel())]
    winner = torch.tensor(winners).view(ids.shape)
    stuff: dict[int, int] = {}
    for q in kept:
        label = int(labels[q])
        own = masks[q] >= 0.5
        won = winner == q
        if not (won & own).any() or int(won.sum()) / int(own.sum()) < share:
            continue
        if label in stuff:
            ids[won & own] = stuff[label]
            continue
        ids[won & own] = len(found) + 1
        found.append((len(found) + 1, label, q))
        if label not in THINGS:
            stuff[label] = len(found)
    return ids, found


@every_image
@pytest.mark.usefixtures("_bands")
def test_panoptic_is_the_authors(kind: str, shape: str) -> None:
    image = made_up(kind, shape)
    ids, found = authors_panoptic(image)
    actual = panoptic(image, THINGS)
    assert torch.equal(actual.segment_ids, ids) and actual.segment_ids.dtype == torch.int32
    assert list(zip(actual.ids.tolist(), actual.labels.tolist(), strict=True)) == [one[:2] for one in found]
    scores = image.class_logits.softmax(1).max(1).values
    assert actual.scores.tolist() == [scores[q].item() for _, _, q in found]
    assert actual.areas.tolist() == [int((ids == number).sum()) for number, _, _ in found]
    assert actual.is_thing.tolist() == [label in THINGS for _, label, _ in found]
    assert len(actual) == len(found)
    if kind == "empty":
        assert not found
    if kind in ("crowded", "ties", "all things") and shape == "enlarged":
        assert len(found) >= 2, "the image has segments"


@pytest.mark.parametrize(("least", "share"), [(0.0, 0.8), (0.9, 0.3), (0.8, 0.0)])
def test_its_limits_can_be_others(least: float, share: float) -> None:
    image = made_up("crowded", "reduced")
    ids, found = authors_panoptic(image, least, share)
    actual = panoptic(image, THINGS, least_probability=least, least_share=share)
    assert torch.equal(actual.segment_ids, ids) and actual.labels.tolist() == [label for _, label, _ in found]
    assert not torch.equal(ids, authors_panoptic(image)[0])


def test_a_segment_that_keeps_just_its_share_stays() -> None:
    """The first query wins 4 of the 5 pixels that are its own."""
    masks = torch.tensor([[[9.0, 9.0, 9.0, 9.0, 3.0, -9.0]], [[-9.0, -9.0, -9.0, -9.0, 9.0, 9.0]]])
    classes = torch.full((2, CLASSES + 1), -20.0)
    classes[0, 1] = classes[1, 3] = 0.0
    image = QueryMasks(
        class_logits=classes, mask_logits=masks, padded_size=(1, 6), input_size=(1, 6), output_size=(1, 6)
    )
    assert panoptic(image, THINGS).segment_ids.tolist() == [[1, 1, 1, 1, 2, 2]]
    assert panoptic(image, THINGS, least_share=0.81).segment_ids.tolist() == [[0, 0, 0, 0, 1, 1]]


@every_image
@pytest.mark.usefixtures("_bands")
def test_instances_are_the_authors(kind: str, shape: str) -> None:
    image = made_up(kind, shape)
    probabilities = image.class_logits.softmax(1)[:, :-1]
    masks = at_output(image)
    expected = []
    for place in probabilities.flatten().topk(min(20, probabilities.numel())).indices.tolist():
        query, label = divmod(place, CLASSES)
        if label in THINGS:
            inside = masks[query] > 0
            mean = masks[query].sigmoid()[inside].double().sum() / (int(inside.sum()) + 1e-6)
            expected.append((probabilities[query, label].item() * mean.item(), label, inside))
    expected.sort(key=lambda one: -one[0])
    actual = instances(image, THINGS, max_detections=20)
    assert len(actual) == len(expected)
    assert actual.scores.tolist() == pytest.approx([score for score, _, _ in expected], rel=1e-5)
    if kind == "ties":  # their order is anyone's
        return
    assert actual.labels.tolist() == [label for _, label, _ in expected]
    for box, mask, (_, _, inside) in zip(actual.boxes_xyxy, actual.masks, expected, strict=True):
        assert torch.equal(mask, inside)
        y, x = inside.nonzero(as_tuple=True)
        corners = [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0] * 4
        assert box.tolist() == [float(one) for one in corners]


def test_objects_may_be_of_any_class_and_as_many_as_there_are() -> None:
    image = made_up("few", "reduced")
    found = instances(image)
    assert len(found) == 5 * CLASSES and set(found.labels.tolist()) == set(range(CLASSES))
    assert len(instances(image, max_detections=7)) == 7
    assert len(instances(image, ())) == 0


@every_image
@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("resized", ["masks", "scores"])
def test_semantic_is_the_authors(kind: str, shape: str, resized: str) -> None:
    image = made_up(kind, shape)
    probabilities = image.class_logits.softmax(1)[:, :-1]
    if resized == "masks":
        scores = torch.einsum("qc,qhw->chw", probabilities, at_output(image).sigmoid())
    else:
        masks = resize(image.mask_logits, image.padded_size).sigmoid()
        scores = torch.einsum("qc,qhw->chw", probabilities, masks)
        scores = resize(scores[:, : image.input_size[0], : image.input_size[1]], image.output_size)
    actual = semantic(image, resized=resized)
    assert actual.dtype == torch.uint8 and actual.shape == image.output_size
    # Where two classes are as good as each other, either will do.
    chosen = scores.gather(0, actual.long()[None])[0]
    assert (scores.amax(0) - chosen).max() <= 1e-5
    assert (actual == scores.argmax(0)).float().mean() > 0.99


def as_theirs(image: QueryMasks) -> SimpleNamespace:
    return SimpleNamespace(
        class_queries_logits=image.class_logits[None], masks_queries_logits=image.mask_logits[None].clone()
    )


@pytest.fixture(scope="module")
def processor() -> transformers.Mask2FormerImageProcessor:
    return transformers.Mask2FormerImageProcessor()


@every_image
def test_panoptic_is_transformers(kind: str, shape: str, processor: transformers.Mask2FormerImageProcessor) -> None:
    image = made_up(kind, shape)
    stuff = {label for label in range(CLASSES) if label not in THINGS}
    (expected,) = processor.post_process_panoptic_segmentation(
        as_theirs(image), label_ids_to_fuse=stuff, target_sizes=[image.output_size]
    )
    actual = panoptic(image, THINGS, policy="transformers")
    # Theirs are -1 where there is no segment at all.
    assert (actual.segment_ids == expected["segmentation"].clamp(min=0)).float().mean() > 0.999
    segments = expected["segments_info"]
    assert actual.ids.tolist() == [one["id"] for one in segments]
    assert actual.labels.tolist() == [one["label_id"] for one in segments]
    assert actual.scores.tolist() == pytest.approx([one["score"] for one in segments], abs=1e-6)
    for number, area in zip(actual.ids.tolist(), actual.areas.tolist(), strict=True):
        assert area == int((actual.segment_ids == number).sum())


def test_their_stuff_turns_the_counter_back() -> None:
    """Four queries side by side: stuff, a thing, the same stuff, a thing that gets the first thing's id."""
    masks = torch.full((4, 16, 16), -9.0)
    classes = torch.full((4, CLASSES + 1), -20.0)
    for query, label in enumerate((0, 1, 0, 3)):
        masks[query, :, 4 * query : 4 * query + 4] = 9.0
        classes[query, label] = 0.0
    sizes = {"padded_size": (64, 64), "input_size": (64, 64), "output_size": (64, 64)}
    image = QueryMasks(class_logits=classes, mask_logits=masks, **sizes)
    theirs = panoptic(image, THINGS, policy="transformers")
    assert theirs.ids.tolist() == [1, 2, 1, 2] and theirs.labels.tolist() == [0, 1, 0, 3]
    authors = panoptic(image, THINGS)
    assert authors.ids.tolist() == [1, 2, 3] and authors.labels.tolist() == [0, 1, 3]


@every_image
def test_instances_are_transformers(kind: str, shape: str, processor: transformers.Mask2FormerImageProcessor) -> None:
    image = made_up(kind, shape)
    (expected,) = processor.post_process_instance_segmentation(
        as_theirs(image), target_sizes=[image.output_size], return_binary_maps=True
    )
    segments = expected["segments_info"]
    actual = instances(image, policy="transformers")
    assert len(actual) == len(segments)
    order = sorted(range(len(segments)), key=lambda i: -segments[i]["score"])
    assert actual.scores.tolist() == pytest.approx([segments[i]["score"] for i in order], abs=2e-6)
    if kind != "ties" and segments:
        assert actual.labels.tolist() == [segments[i]["label_id"] for i in order]
        for mask, i in zip(actual.masks, order, strict=True):
            assert (mask != expected["segmentation"][i].bool()).float().mean() < 1e-3


@every_image
def test_semantic_is_transformers(kind: str, shape: str, processor: transformers.Mask2FormerImageProcessor) -> None:
    image = made_up(kind, shape)
    (expected,) = processor.post_process_semantic_segmentation(as_theirs(image), target_sizes=[image.output_size])
    assert (semantic(image, policy="transformers") == expected).float().mean() > 0.999


def test_another_policy_is_named() -> None:
    image = made_up("few", "reduced")
    for answer in (lambda: panoptic(image, THINGS, policy="mine"), lambda: semantic(image, policy="mine")):
        with pytest.raises(ValueError, match="policy='mine' is not possible: use one of authors, transformers"):
            answer()
    with pytest.raises(ValueError, match="resized='both' is not possible"):
        semantic(image, resized="both")


class LargestTensor(TorchDispatchMode):
    """The most numbers that a floating-point tensor has while it is active."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                self.elements = max(self.elements, tensor.numel())
        return out


def test_no_floats_of_all_queries_and_pixels_exist_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "BAND_ELEMENTS", 2**13)
    image = dataclasses.replace(made_up("crowded", "enlarged"), output_size=(400, 500))
    with LargestTensor() as largest:
        for policy in ("authors", "transformers"):
            panoptic(image, THINGS, policy=policy)
            instances(image, policy=policy)
            semantic(image, policy=policy)
        semantic(image, resized="masks")
    queries, height, width = len(image.mask_logits), *image.output_size
    assert largest.elements < queries * height * width / 50
