"""Attention maps are what the layers compute with, and pictures of them lie where the tokens are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.explain.conftest import make_model

from swin_transformer_pytorch import attention_maps, optimize_for_inference
from swin_transformer_pytorch.backbone.attention import WindowAttention, WindowAttentionV2
from swin_transformer_pytorch.backbone.swin import SwinBlock
from swin_transformer_pytorch.explain import ExplainError, attention_at
from swin_transformer_pytorch.ops import merge, partition

# Tokens of the first stage are 2 pixels: whole windows of 4, padded ones, odd sides, and maps of one window or less.
SIZES = [(16, 32), (22, 36), (31, 17), (40, 6)]


def values_of(attn, x):
    """The projection's last third, with V2's bias."""
    qkv = attn.qkv(x)
    if isinstance(attn, WindowAttentionV2) and attn.v_bias is not None:
        qkv = qkv + torch.cat([attn.q_bias, torch.zeros_like(attn.q_bias), attn.v_bias])
    return qkv.chunk(3, dim=-1)[2]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("task", ["classification", "detection", "segmentation", "backbone"])
def test_maps_applied_to_the_values_are_the_layer_s_output(task, version, size):
    model = make_model(task, version).double()
    calls = {}
    for name, module in model.named_modules():
        if isinstance(module, WindowAttention | WindowAttentionV2):
            module.register_forward_hook(lambda _, given, out, name=name: calls.__setitem__(name, (given, out)))
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    maps = attention_maps(model, image)
    assert maps.keys() == {name for name, module in model.named_modules() if isinstance(module, SwinBlock)}
    shifted = padded = False
    for name, weights in maps.items():
        (x, window, shift), expected = calls[f"{name}.attn"]
        attn = model.get_submodule(f"{name}.attn")
        bottom, right = (-side % one for side, one in zip(x.shape[1:3], window, strict=True))
        values = values_of(attn, F.pad(x, (0, 0, 0, right, 0, bottom))).roll([-one for one in shift], (1, 2))
        map_size, heads = values.shape[1:3], weights.shape[2]
        assert weights.shape == (
            map_size[0] // window[0], map_size[1] // window[1], heads, *[window[0] * window[1]] * 2,
        )  # fmt: skip
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]), rtol=0, atol=1e-12)
        split = partition(values, window).unflatten(-1, (heads, -1)).transpose(2, 3)  # (1, windows, heads, N, dim)
        out = (weights.flatten(0, 1) @ split).transpose(2, 3).flatten(3)
        out = merge(out, map_size, window).roll(shift, (1, 2))[:, : x.shape[1], : x.shape[2]]
        torch.testing.assert_close(attn.proj(out), expected, rtol=0, atol=1e-10)
        shifted, padded = shifted or any(shift), padded or bool(bottom or right)
    assert shifted == (size != (40, 6) or task != "classification")
    assert padded or size == (16, 32)


def test_a_layer_of_another_kind_in_the_projection_s_place_is_called():
    model = make_model("classification")
    image = torch.randn(1, 3, 22, 36)
    before = attention_maps(model, image)
    qkv = model.layers[0].blocks[1].attn.qkv
    model.layers[0].blocks[1].attn.qkv = torch.nn.Sequential(qkv, torch.nn.Identity())
    for name, weights in attention_maps(model, image).items():
        torch.testing.assert_close(weights, before[name], rtol=0, atol=1e-5)


@settings(max_examples=15)
@given(
    block=st.sampled_from(["layers.0.blocks.0", "layers.0.blocks.1", "layers.1.blocks.1"]),
    size=st.tuples(st.integers(9, 40), st.integers(9, 40)),
    data=st.data(),
)
def test_what_a_pixel_s_token_looks_at(block, size, data):
    """Each pixel has the weight of its own token, as the documentation of `attention_maps` numbers tokens."""
    model = make_model("backbone")
    x, y = data.draw(st.integers(0, size[1] - 1)), data.draw(st.integers(0, size[0] - 1))
    image = torch.randn(1, 3, *size)
    found = attention_at(model, image, block, (x + 0.5, y + 0.5))
    (weights,) = attention_maps(model, image, block).values()
    stride, window, shift = (2, 4)[block[7] == "1"], 4, 2 * (block[-1] == "1")
    place = [weights.shape[axis] * window for axis in (0, 1)]
    query = [((pixel // stride) - shift) % padded for pixel, padded in zip((y, x), place, strict=True)]
    part = weights[query[0] // window, query[1] // window, :, query[0] % window * window + query[1] % window]
    expected = np.zeros_like(found.heat)
    for key in range(window * window):
        row = (query[0] // window * window + key // window + shift) % place[0]
        column = (query[1] // window * window + key % window + shift) % place[1]
        pixels = np.s_[:, row * stride : (row + 1) * stride, column * stride : (column + 1) * stride]
        expected[pixels] = part[:, key].numpy()[:, None, None]
    np.testing.assert_array_equal(found.heat, expected)
    left, top, right, bottom = found.cell_xyxy
    assert left <= x < right and top <= y < bottom and right - left == bottom - top == stride
    cells = found.heat[:, ::stride, ::stride].sum(axis=(1, 2))
    np.testing.assert_allclose(cells + found.padding, 1, atol=1e-5)


def test_a_pixel_beyond_the_crop_is_refused():
    image = torch.rand(3, 36, 72)  # 24 x 32 of it are seen: columns 20 to 51
    model = make_model("classification")
    found = attention_at(model, image, "layers.0.blocks.0", (20, 6))
    assert found.cell_xyxy == (20, 6, 22, 8)
    for at in [(19.9, 6), (52, 6), (30, 5.9), (30, 30), (float("nan"), 10)]:
        with pytest.raises(ExplainError, match="where the model does not look"):
            attention_at(model, image, "layers.0.blocks.0", at)


def replaced_attention():
    model = make_model("backbone")
    model.layers[0].blocks[1].attn = torch.nn.Identity()
    return model


IMAGE = torch.zeros(1, 3, 16, 16)


@pytest.mark.parametrize(
    ("make", "image", "blocks", "words"),
    [
        (lambda: make_model("backbone"), IMAGE, "layers.0.block.1", ["layers.0.block.1", "did you mean", "blocks.1"]),
        (lambda: make_model("backbone"), IMAGE, ["stem"], ["'stem'", "layers.0.blocks.0", "4"]),
        (lambda: make_model("backbone"), torch.zeros(3, 16, 16), None, ["SwinBackbone", "(1, channels, height"]),
        (lambda: make_model("backbone"), torch.zeros(2, 3, 16, 16), None, ["(2, 3, 16, 16)", "give one"]),
        (lambda: make_model("backbone"), IMAGE.byte(), None, ["torch.uint8", "normalised"]),
        (lambda: optimize_for_inference(make_model("backbone")), IMAGE, None, ["optimised", "optimize_for_inference"]),
        (lambda: torch.nn.Linear(3, 3), IMAGE, None, ["Linear holds no Swin"]),
        (replaced_attention, IMAGE, None, ["layers.0.blocks.1", "Identity"]),
    ],
)
def test_what_cannot_be_looked_at_is_named(make, image, blocks, words):
    with pytest.raises(ExplainError) as caught:
        attention_maps(make(), image, blocks)
    assert all(word in str(caught.value) for word in words), caught.value
