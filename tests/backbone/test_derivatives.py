"""Second and forward derivatives, per-sample gradients and traced graphs of whole models."""

import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, fx, nn

from swin_transformer_pytorch import swin_transformer
from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.ops import available_implementations, force_implementation

# PyTorch's own formulas for forward mode are scripts, and tracing is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")

DEFAULT = None
IMPLEMENTATIONS = [name for name in available_implementations() if name != "triton"]


@pytest.fixture(autouse=True)
def own_products_on_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIN_PRODUCTS", "own")


def classifier(version: int, **fields: object) -> SwinClassifier:
    torch.manual_seed(0)
    config = SwinConfig(
        version=version,  # type: ignore[arg-type]
        embed_dim=16,
        depths=(2, 1),
        num_heads=(2, 4),
        window_size=4,
        drop_path_rate=0.0,
    )
    model = SwinClassifier(config.replace(**fields), num_classes=5)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


def images(batch: int = 2) -> Tensor:
    return torch.randn(batch, 3, 70, 75, generator=torch.Generator().manual_seed(0))


def in_float64(model: SwinClassifier) -> SwinClassifier:
    other = SwinClassifier(model.config, num_classes=5).double()
    other.load_state_dict(model.state_dict())
    return other


def penalty_gradients(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """As in a gradient penalty, of WGAN-GP or of double back-propagation."""
    x = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(model(x).logsumexp(1).sum(), x, create_graph=True)
    grad.square().sum().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_near(got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-4) -> None:
    assert got.keys() == expected.keys()
    for name, grad in expected.items():
        assert (got[name].double() - grad).abs().max() <= tolerance * (grad.abs().max() + 1e-3), name


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("implementation", [DEFAULT, *IMPLEMENTATIONS])
def test_gradient_penalty(version: int, implementation: str | None, checkpointed: bool) -> None:
    model = classifier(version, gradient_checkpointing=checkpointed)
    with force_implementation("reference"):
        expected = penalty_gradients(in_float64(model), images().double())
    if implementation is None:
        assert_near(penalty_gradients(model, images()), expected)
    else:
        with force_implementation(implementation):
            assert_near(penalty_gradients(model, images()), expected)


@pytest.mark.parametrize("version", [1, 2])
def test_torch_func(version: int) -> None:
    model = classifier(version)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor) -> Tensor:
        return torch.func.functional_call(model, parameters, (image[None],)).logsumexp(1).sum()

    per_sample = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, images())
    for index in range(2):
        model.zero_grad(set_to_none=True)
        model(images()[index : index + 1]).logsumexp(1).sum().backward()
        assert_near(
            {name: grad[index] for name, grad in per_sample.items()},
            {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None},
        )

    # An ensemble: one call for several models.
    several = {name: torch.stack([value, 0.5 * value]) for name, value in parameters.items()}
    x = images()
    out = torch.func.vmap(lambda p: torch.func.functional_call(model, p, (x,)))(several)
    torch.testing.assert_close(out[0], model(images()), rtol=1e-4, atol=1e-4)

    # Forward mode: the derivative along a direction, against the products with gradients.
    direction = torch.cos(images())
    _, tangent = torch.func.jvp(model, (images(),), (direction,))
    x = images().requires_grad_()
    rows = [torch.autograd.grad(logit.sum(), x, retain_graph=True)[0] for logit in model(x).unbind(1)]
    expected = torch.stack([(row * direction).flatten(1).sum(1) for row in rows], dim=1)
    torch.testing.assert_close(tangent, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_jacobian_in_one_pass(implementation: str) -> None:
    model, x = classifier(1), images(1).requires_grad_()
    with force_implementation(implementation):
        logits = model(x)
        (got,) = torch.autograd.grad(logits, x, torch.eye(5)[:, None], is_grads_batched=True, retain_graph=True)
        expected = torch.stack([torch.autograd.grad(logit, x, retain_graph=True)[0] for logit in logits[0]])
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


@pytest.fixture
def tracer_warnings(unchecked_shapes: None) -> Iterator[list[warnings.WarningMessage]]:
    """What a traced graph holds for the example's sizes alone, PyTorch says."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", torch.jit.TracerWarning)
        yield caught


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("single_window", ["unshift", "keep"])
@pytest.mark.parametrize("version", [1, 2])
def test_jit_trace(
    version: int, single_window: str, training: bool, tracer_warnings: list[warnings.WarningMessage]
) -> None:
    model = classifier(version, single_window=single_window).train(training)
    traced = torch.jit.trace(model, images())  # which checks itself
    assert tracer_warnings
    assert "swin_transformer_pytorch::" not in str(traced.inlined_graph)
    for batch in (1, 2, 5):
        torch.testing.assert_close(traced(images(batch)), model(images(batch)), rtol=1e-4, atol=1e-4)
    traced(images()).sum().backward()
    got = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    model(images()).sum().backward()
    assert_near(got, {name: p.grad.double() for name, p in model.named_parameters() if p.grad is not None})


@pytest.mark.usefixtures("tracer_warnings")
def test_jit_trace_of_0_4_1(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = swin_transformer.SwinTransformer(
        hidden_dim=8, layers=(2, 2, 2, 2), heads=(1, 1, 2, 2), window_size=2
    ).eval()
    x = torch.randn(3, 3, 64, 64)
    traced = torch.jit.trace(model, x[:1])
    traced.save(tmp_path / "model.pt")
    torch.testing.assert_close(torch.jit.load(tmp_path / "model.pt")(x), model(x), rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("tracer_warnings")
def test_fx_says_that_sizes_decide() -> None:
    """Windows follow the map's size, which a symbolic trace does not have: `torch.export` has."""
    with pytest.raises(fx.proxy.TraceError, match="control flow"):
        fx.symbolic_trace(classifier(1))
