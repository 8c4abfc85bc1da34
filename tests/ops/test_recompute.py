"""What the backward pass computes again: the same gradients from fewer stored maps."""

import importlib

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import profile

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.heads.deformable import DeformableEncoder, DeformableLayer
from swin_transformer_pytorch.heads.masked_attention import MaskedCrossAttention
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.ops import recompute, recomputed

# `ops.linear` is the function; the module is found by its path.
products = importlib.import_module("swin_transformer_pytorch.ops.linear")

DIM = 32
TOKENS = 2 * 16 * 16


def classifier(depth: int = 2, **fields: object) -> SwinClassifier:
    torch.manual_seed(0)
    config = SwinConfig(embed_dim=DIM, depths=(depth,), num_heads=(1,), window_size=4, drop_path_rate=0.0)
    model = SwinClassifier(config.replace(**fields), num_classes=5)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def images() -> Tensor:
    return torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def stored_bytes(model: nn.Module) -> int:
    """What is still allocated after the forward pass."""
    model(images())
    with profile(profile_memory=True) as recorded:
        out = model(images())
    assert out.requires_grad
    return sum(event.self_cpu_memory_usage for event in recorded.events())


def stored_maps(**fields: object) -> float:
    """Of a block, in maps of `DIM` channels."""
    return (stored_bytes(classifier(6, **fields)) - stored_bytes(classifier(2, **fields))) / (4 * TOKENS * DIM * 4)


@pytest.fixture(params=[False, True], ids=["own products", "PyTorch's products"])
def products_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr(products, "_takes", lambda x, *layers: False)


@pytest.mark.usefixtures("products_of")
def test_a_block_stores_ten_maps() -> None:
    # Its input, queries, keys and values, what attention gives, the MLP's input, and the GELU's, which counts four.
    assert 10 <= stored_maps() < 10.5


def test_a_layer_that_is_hooked_stores_no_more() -> None:
    hooked: list[nn.Module] = []

    def hook(module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda layer, inputs, out: hooked.append(layer))

    sizes = [stored_bytes(classifier(depth).apply(hook)) for depth in (2, 6)]
    assert 10 <= (sizes[1] - sizes[0]) / (4 * TOKENS * DIM * 4) < 10.5
    assert len(hooked) == 2 * (4 * 2 + 1 + 4 * 6 + 1)


@pytest.mark.usefixtures("products_of")
def test_checkpointing_still_stores_one() -> None:
    assert 1 <= stored_maps(gradient_checkpointing=True) < 1.5


@pytest.mark.usefixtures("products_of")
@pytest.mark.parametrize("version", [1, 2])
def test_the_same_gradients(version: int, monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for wanted in (True, False):
        if not wanted:
            monkeypatch.setattr(recompute, "_is_wanted", lambda tensor: False)
        model = classifier(version=version)
        model(images()).square().sum().backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
    for got, expected in zip(*gradients, strict=True):
        assert got is not None and torch.equal(got, expected)


def test_each_operation_gets_its_own_input() -> None:
    x = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)

    def function(x: Tensor, weight: Tensor) -> Tensor:
        activated = F.gelu(x)
        before = x.detach()
        with recomputed(activated, lambda: F.gelu(before)):
            # A part of the tensor and its square are stored as they are.
            return F.linear(activated, weight) + activated[:, :1] * weight.sum() + activated.square().sum()

    assert torch.autograd.gradcheck(function, (x, weight))


def test_without_gradients_nothing_is_kept_or_changed() -> None:
    model = classifier()
    with torch.no_grad():
        expected = model(images())
    assert torch.equal(model(images()), expected)
    grad, _ = torch.func.vjp(lambda x: x * 2, torch.ones(1))
    assert grad.item() == 2


def test_torch_func_takes_the_model() -> None:
    model = classifier()
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        layer = {name.removeprefix("layers.0.blocks.0.mlp."): value for name, value in parameters.items()}
        return torch.func.functional_call(model.layers[0].blocks[0].mlp, layer, (torch.ones(2, DIM),)).sum()

    mlp = {name: value for name, value in parameters.items() if name.startswith("layers.0.blocks.0.mlp.")}
    by_func = torch.func.grad(loss)(mlp)
    by_autograd = torch.autograd.grad(loss(mlp), list(mlp.values()))
    for got, expected in zip(by_func.values(), by_autograd, strict=True):
        torch.testing.assert_close(got, expected)


def encoder(layers: int) -> DeformableEncoder:
    torch.manual_seed(0)
    return DeformableEncoder(
        [DeformableLayer(DIM, 2 * DIM, num_heads=2, num_levels=1, num_points=1) for _ in range(layers)]
    )


def tokens() -> tuple[Tensor, Tensor]:
    """Of a map of 16 x 32 cells, and what their positions add."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, TOKENS, DIM, generator=generator), torch.randn(TOKENS, DIM, generator=generator)


def stored_by_encoder(layers: int) -> int:
    model, (x, position) = encoder(layers), tokens()
    model(x, position, [(16, 32)])
    with profile(profile_memory=True) as recorded:
        out = model(x, position, [(16, 32)])
    assert out.requires_grad
    return sum(event.self_cpu_memory_usage for event in recorded.events())


def test_a_layer_of_deformable_attention_stores_seven_maps_and_its_places() -> None:
    # What it takes, values by heads, what is read of them, both norms' inputs, and the hidden map, which counts two.
    maps = (stored_by_encoder(6) - stored_by_encoder(2)) / (4 * TOKENS * DIM * 4)
    assert 7 <= maps < 7.5


def test_the_same_gradients_of_mask2formers_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    gradients = []
    for wanted in (True, False):
        if not wanted:
            monkeypatch.setattr(recompute, "_is_wanted", lambda tensor: False)
        model, (x, position) = encoder(2), tokens()
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
        queries = MaskedCrossAttention(DIM, 2)
        memory = model(x.requires_grad_(), position, [(16, 32)])
        out = queries(tokens()[0][:, :7], tokens()[1][:7], memory, position, torch.ones(1, 7, TOKENS, dtype=torch.bool))
        out.square().sum().backward()
        gradients.append([x.grad, *(one.grad for part in (model, queries) for one in part.parameters())])
    for got, expected in zip(*gradients, strict=True):
        assert got is not None and torch.equal(got, expected)
