"""Grad-CAM beside one written out number by number, in every task; and that the model is as it was before."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.explain.conftest import make_model
from torch import nn

from swin_transformer_pytorch import Predictor, grad_cam, optimize_for_inference
from swin_transformer_pytorch.data.classification.transforms import EvaluationTransform
from swin_transformer_pytorch.explain import ExplainError, NotInImageError, explain
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

TASKS = ["classification", "detection", "segmentation"]


def score_of(model, image, target):
    """The number that is explained, from the model's own parts: a logit, a box's score, a mean of logits."""
    if model.task == "classification":
        return model(image)[0, target]
    if model.task == "segmentation":
        logits = model(image)[0]
        mine = logits.argmax(0) == target
        return logits[target][mine].mean() if mine.any() else logits[target].mean()
    scores = model(image)[0].scores
    features, sizes = model.extract(image), [tuple(image.shape[2:])]
    regions = model.rpn_head.propose(model.rpn_head(features), sizes, training=False)
    (raw,) = model.roi_head.forward_boxes(model.roi_head.extractors(features).boxes, regions, sizes)
    probabilities = raw.logits.softmax(1)[:, :-1].flatten()
    return probabilities[(probabilities - scores[target]).abs().argmin()]


def cam_by_numbers(model, layer, image, target, stride):
    """(h, w) weighted sums, clipped below at 0, and the map spread over the image, each by loops."""
    kept = []

    def keep(module, inputs, output):
        if output.requires_grad:
            output.retain_grad()
            kept.append(output)

    hook = layer.register_forward_hook(keep)
    score_of(model, image, target).backward()
    hook.remove()
    output = next(one for one in kept if one.grad is not None)
    values, grads = output.detach()[0].double().numpy(), output.grad[0].double().numpy()
    model.zero_grad()
    rows, columns, channels = values.shape
    cam = np.zeros((rows, columns))
    for channel in range(channels):
        weight = sum(grads[row, column, channel] for row in range(rows) for column in range(columns)) / rows / columns
        cam += weight * values[:, :, channel]
    cam = np.maximum(cam, 0)
    height, width = image.shape[2:]
    heat = np.zeros((height, width))
    for y in range(height):
        for x in range(width):
            at_y, at_x = (min(max((one + 0.5) / stride - 0.5, 0), n - 1) for one, n in ((y, rows), (x, columns)))
            top, left = min(int(at_y), rows - 2), min(int(at_x), columns - 2)
            down, right = at_y - top, at_x - left
            above = cam[top, left] * (1 - right) + cam[top, left + 1] * right
            below = cam[top + 1, left] * (1 - right) + cam[top + 1, left + 1] * right
            heat[y, x] = above * (1 - down) + below * down
    heat -= heat.min()
    return heat / heat.max() if heat.max() > 0 else heat


@pytest.mark.parametrize("size", [(32, 32), (22, 36), (31, 17)])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("task", TASKS)
def test_figures_are_those_of_loops(task, version, size):
    """Windows that are whole, padded and shifted; sides that are no multiple of a cell."""
    dtype = torch.float32 if task == "detection" else torch.float64  # which regions cannot be of
    model = make_model(task, version).to(dtype)
    image = torch.randn(1, 3, *size).to(dtype)
    prefix = "" if task == "classification" else "backbone."
    some = 0
    for target, layer, stride in ((0, "layers.1.blocks.1.norm1", 4), (1, None, 4), (2, "layers.0.blocks.1", 2)):
        which = {"detection": target} if task == "detection" else {"target": target}
        heat = grad_cam(model, image, layer=layer and prefix + layer, **which)
        assert heat.shape == size and heat.dtype == np.float32
        module = model.get_submodule(prefix + (layer or "layers.1.blocks.1.norm1"))
        np.testing.assert_allclose(heat, cam_by_numbers(model, module, image, target, stride), atol=1e-5)
        some += heat.any()
    assert some, "each of them is empty"


@pytest.mark.parametrize("layer", ["layers.0.blocks.1", "layers.0.blocks.0.attn.proj", "patch_embed.norm", "norm"])
def test_figures_of_other_layers(layer):
    model = make_model("classification")
    image = torch.randn(1, 3, 22, 36)
    heat = grad_cam(model, image, 1, layer)
    stride = 4 if layer == "norm" else 2
    np.testing.assert_allclose(heat, cam_by_numbers(model, model.get_submodule(layer), image, 1, stride), atol=1e-5)
    convolution = grad_cam(model, image, 1, "patch_embed.proj")
    assert convolution.shape == (22, 36)


@pytest.mark.parametrize("method", ["mask_rcnn", "cascade_mask_rcnn", "htc"])
def test_detections_are_those_that_are_predicted(method):
    model = make_model("detection", method=method)
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    result = Predictor(model, device="cpu")(image)
    assert len(result) >= 3
    for place in range(3):
        found = explain(model, image, detection=place)
        assert found.name == result.names[place]
        assert found.score == pytest.approx(result.scores[place], abs=1e-6)
        np.testing.assert_allclose(found.box_xyxy, result.boxes_xyxy[place], atol=1e-3)
    label = int(result.labels[-1])
    best = explain(Predictor(model, device="cpu", score_threshold=0.99), image, label)
    assert best.score == pytest.approx(result.scores[result.labels == label][0], abs=1e-6)


def test_answers_are_those_that_are_predicted():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    classified = Predictor(make_model("classification"), device="cpu")(image)
    found = explain(make_model("classification"), image)
    assert (found.name, found.label) == (classified.names[0], classified.labels[0])
    assert found.score == pytest.approx(classified.scores[0], abs=1e-6)
    model = make_model("segmentation")
    segmented = Predictor(model, device="cpu")(image)
    found = explain(model, image)
    assert (found.label, found.name) == (next(iter(segmented.shares)), model.classes[found.label])
    for target, name in ((1, "dog"), ("dog", "dog"), ("cafe\u0301", "café"), ("2", "café"), (np.int64(0), "cat")):
        assert explain(model, image, target).name == name


@settings(max_examples=30)
@given(
    size=st.tuples(st.integers(20, 200), st.integers(20, 200)),
    crop=st.tuples(st.integers(8, 40), st.integers(8, 40)),
    more=st.integers(0, 15),
    both=st.booleans(),
)
def test_the_part_of_an_image_that_a_classifier_sees(size, crop, more, both):
    """An image whose pixels are their own coordinates comes out as `seen` says that it is cut."""
    transform = EvaluationTransform(
        Preprocessing(image_size=crop, resize_size=crop if both else max(crop) + more, interpolation="bilinear")
    )
    ramp = [np.arange(side, dtype=np.float32) / 200 for side in size]
    image = torch.from_numpy(np.stack(np.meshgrid(*ramp, indexing="ij")))
    image = torch.cat([image, image[:1]])
    rows, columns = (transform.resize_and_crop(image)[axis].numpy() * 200 + 0.5 for axis in (0, 1))
    left, top, right, bottom = transform.seen(size)
    for kept, start, stop, side in ((rows[:, 0], top, bottom, size[0]), (columns[0], left, right, size[1])):
        expected = start + (np.arange(len(kept)) + 0.5) * (stop - start) / len(kept)
        cell = (stop - start) / len(kept)  # antialiasing and edges blur by about as much
        inner = (expected > 1.5 * cell + 1) & (expected < side - 1.5 * cell - 1)
        np.testing.assert_allclose(kept[inner], expected[inner], atol=0.15 * max(cell, 1))
    assert (right - left) * (bottom - top) == pytest.approx(size[0] * size[1]) or not both


@pytest.mark.parametrize("task", TASKS)
def test_heat_lies_in_the_image_s_own_pixels(task):
    """An image and the model's input of it: the same heat, up to how it is spread; beyond the crop it is 0."""
    model = make_model(task, 1)
    pixels = np.random.default_rng(3).integers(0, 256, (36, 72, 3), np.uint8)
    which = {"detection": 0} if task == "detection" else {"target": 1}
    layer = "layers.0.blocks.0" if task == "classification" else "backbone.layers.0.blocks.0"
    heat = grad_cam(model, pixels, layer=layer, **which)
    assert heat.shape == (36, 72) and heat.any() and heat.min() == 0 and heat.max() == 1
    if task == "classification":
        image = EvaluationTransform(model.preprocessing)(pixels)[None]
        assert not heat[:6].any() and not heat[30:].any() and not heat[:, :20].any() and not heat[:, 52:].any()
        np.testing.assert_allclose(heat[6:30, 20:52], grad_cam(model, image, 1, layer), atol=1e-5)


def parts_of(model):
    """All that looking into it could have changed."""
    return (
        {name: (module.training, len(module._forward_hooks), len(module._forward_pre_hooks))
         for name, module in model.named_modules()},
        {name: (p.requires_grad, p.grad, p._version) for name, p in model.named_parameters()},
    )  # fmt: skip


class FailsError(Exception):
    pass


def fail(*_):
    raise FailsError


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("task", TASKS)
def test_the_model_is_as_it_was(task, fails):
    model = make_model(task)
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.ones_like(parameters[1])
    model.train()
    next(model.children()).eval()
    if fails:
        next(module for name, module in model.named_modules() if name.endswith("norm2")).register_forward_hook(fail)
    before = parts_of(model)
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    looks = (lambda: grad_cam(model, image), lambda: grad_cam(model, image, layer="no.such"))
    for look in looks:
        raised = None
        try:
            look()
        except (FailsError, ExplainError) as error:
            raised = type(error)
        assert raised is (ExplainError if look is looks[1] else FailsError if fails else None)
        after = parts_of(model)
        assert after[0] == before[0]
        for (grads, grad, version), now in zip(before[1].values(), after[1].values(), strict=True):
            assert (grads, version) == now[::2] and grad is now[1]


def changed(kind):
    model = make_model("classification", gradient_checkpointing=kind == "checkpointing")
    if kind == "frozen":
        model.requires_grad_(False)
    if kind == "compiled":
        model = torch.compile(model, backend="eager")
    if kind == "compiled in place":
        model.compile(backend="eager")
    return model.train() if kind == "training" else model


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    "kind", ["checkpointing", "frozen", "training", "compiled", "compiled in place", "no_grad", "inference_mode"]
)
def test_how_a_model_is_used_otherwise_makes_no_difference(kind):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    expected = grad_cam(make_model("classification"), pixels, 2)
    assert expected.any()
    with torch.inference_mode(kind == "inference_mode"), torch.set_grad_enabled(kind != "no_grad"):
        with torch.inference_mode(False), torch.enable_grad():
            model = changed(kind)
        np.testing.assert_allclose(grad_cam(model, pixels, 2), expected, atol=1e-5)


class Cut(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x).detach()


def cut_off():
    model = make_model("classification")
    model.head = Cut(model.head)
    return model


def of_inference():
    with torch.inference_mode():
        return make_model("classification")


PIXELS = np.zeros((40, 50, 3), np.uint8)
CLASSIFIER = "classification"


@pytest.mark.parametrize(
    ("make", "options", "words"),
    [
        (CLASSIFIER, {"target": "cats"}, ["'cats'", "did you mean cat?", "0 to 2"]),
        (CLASSIFIER, {"target": "zebra"}, ["'zebra'", "cat, dog, café"]),
        (CLASSIFIER, {"target": 3}, ["target=3", "3 classes", "0 to 2"]),
        (CLASSIFIER, {"target": -1}, ["target=-1"]),
        (CLASSIFIER, {"target": True}, ["target=True"]),
        (CLASSIFIER, {"detection": 0}, ["detection=0", "classification", "leave one out"]),
        ("detection", {"detection": 0, "target": 1}, ["target=1 is given as well"]),
        ("detection", {"detection": 99}, ["detection=99", "0 to 5", "best first"]),
        (CLASSIFIER, {"layer": "layers.1.blocks.1.norm9"}, ["no layer", "did you mean", "layers.1.blocks.1.norm1"]),
        (CLASSIFIER, {"layer": "head"}, ["'head'", "(1, 3)", "not one map"]),
        ("detection", {"layer": "rpn_head.rpn_conv"}, ["runs 3 times"]),
        ("detection", {"layer": "backbone"}, ["list", "not one map"]),
        ("segmentation", {"layer": "auxiliary_head.conv_seg"}, ["runs 0 times"]),
        ("segmentation", {"layer": "decode_head.psp_modules.0.1.conv"}, ["one cell"]),
        ("detection", {"layer": "roi_head.mask_head.conv_logits"}, ["runs 0 times"]),
        (cut_off, {}, ["gradients are cut", "detaches"]),
        (of_inference, {}, ["inference_mode", "outside"]),
        (lambda: make_model("backbone"), {}, ["SwinBackbone", "attention_maps"]),
        (lambda: optimize_for_inference(make_model(CLASSIFIER)), {}, ["optimised", "optimize_for_inference"]),
        (lambda: nn.Conv2d(3, 3, 1), {}, ["Conv2d holds no Swin"]),
        (lambda: Predictor(make_model("segmentation"), flip=True), {}, ["several times", "flip"]),
        (lambda: Predictor(make_model("segmentation"), mode="slide"), {}, ["slide"]),
        (lambda: Predictor(make_model("detection"), multi_scale=True), {}, ["multi_scale"]),
    ],
)
def test_what_cannot_be_explained_is_named_with_the_fix(make, options, words):
    model = make_model(make) if isinstance(make, str) else make()
    with pytest.raises(ExplainError) as caught:
        grad_cam(model, PIXELS, **options)
    assert all(word in str(caught.value) for word in words), caught.value


def test_what_only_another_image_has():
    model = make_model("detection")
    model.roi_head.rules = type(model.roi_head.rules)(score_threshold=0.9999)
    for which, word in (({}, "an object"), ({"target": "dog"}, "dog")):
        with pytest.raises(NotInImageError, match=f"does not find {word}.*no object at all"):
            grad_cam(model, PIXELS, **which)
    with pytest.raises(NotInImageError, match="one cell for an image of 4 x 4"):
        grad_cam(make_model("classification"), torch.zeros(1, 3, 4, 4))
