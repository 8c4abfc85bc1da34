"""The floor's products are those that models really take."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from swin_transformer_pytorch.backbone.config import SwinConfig, find_variant
from swin_transformer_pytorch.benchmark import OURS, Product, Setting, floor_products
from swin_transformer_pytorch.benchmark.floor import floor_step
from swin_transformer_pytorch.benchmark.libraries import build_model

TINY = find_variant("swin_tiny_patch4_window7_224").config


class _Recorded(TorchFunctionMode):
    """Notes the products of linear layers on maps, and those of convolutions with a stride like their kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.products: list[tuple[int, int, int]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        if func in (F.linear, F.conv2d):
            rows = output.numel() // args[1].shape[0]
            self.products.append((rows, args[1][0].numel(), args[1].shape[0]))
        return output


def test_swin_t_has_the_known_cost() -> None:
    products = floor_products(TINY, 1, (224, 224))
    assert sum(p.flops for p in products) / 1e9 == pytest.approx(8.70, abs=0.005)
    assert sum(p.flops for p in floor_products(TINY, 8, (224, 224))) == 8 * sum(p.flops for p in products)


@pytest.mark.parametrize("library", ["timm", "torchvision"])
@pytest.mark.parametrize("mode", ["inference", "features"])
def test_they_are_those_of_the_peers(library: str, mode: str) -> None:
    # At this size no window is padded, whose tokens theirs project too.
    setting = Setting(
        model="swin_tiny_patch4_window7_224", mode=mode, batch_size=2, dtype="float32", image_size=(224, 448)
    )
    with torch.device("meta"):
        model = build_model(library, setting)
        assert model is not None
        with _Recorded() as recorded:
            model.eval()(torch.empty(2, 3, 224, 448))
    products = floor_products(TINY, 2, (224, 448), num_classes=1000 if mode == "inference" else 0)
    assert recorded.products == [(p.rows, p.in_features, p.out_features) for p in products]


@pytest.mark.parametrize("size", [(30, 41), (64, 64)])
@pytest.mark.parametrize("version", [1, 2])
def test_they_have_the_weights_of_our_model(version: int, size: tuple[int, int]) -> None:
    name = "swin_tiny_patch4_window7_224" if version == 1 else "swinv2_tiny_patch4_window8_256"
    setting = Setting(model=name, mode="inference", batch_size=1, dtype="float32", image_size=size)
    with torch.device("meta"):
        model = build_model(OURS, setting)
    assert model is not None
    layers = [
        (layer.weight[0].numel(), layer.weight.shape[0])
        for path, layer in model.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and "cpb_mlp" not in path
    ]
    products = floor_products(setting.config, 1, size)
    assert [(p.in_features, p.out_features) for p in products] == layers


def test_maps_are_rounded_up() -> None:
    config = SwinConfig(depths=(1, 1), num_heads=(2, 4), embed_dim=8, patch_size=(4, 2), qkv_bias=False, window_size=4)
    products = floor_products(config, 3, (9, 9), num_classes=0)
    assert [p.rows for p in products] == [45] * 5 + [18] * 5  # maps of 3x5 and 2x3
    assert [p.bias for p in products[:3]] == [True, False, True]
    assert products[5] == Product(rows=18, in_features=32, out_features=16, bias=False)


def test_a_step_takes_each_product_once() -> None:
    products = [Product(rows=6, in_features=4, out_features=2, bias=bias) for bias in (True, False)]
    step = floor_step(products, torch.bfloat16, torch.device("cpu"))
    with _Recorded() as recorded:
        step()
    assert recorded.products == [(6, 4, 2), (6, 4, 2)]
