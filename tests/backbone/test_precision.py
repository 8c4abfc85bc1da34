"""Half precision: finite numbers and gradients, also where V2's windows hold padding, whose keys are zero."""

import pytest
import torch

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.classification import SwinClassifier


def model_with_padding(version: int, scale: float) -> SwinClassifier:
    """Maps of 9x7 and 5x4 under windows of 4 that stay: every stage has windows that hold padding."""
    torch.manual_seed(0)
    config = SwinConfig(
        version=version,  # type: ignore[arg-type]
        embed_dim=8,
        depths=(2, 2),
        num_heads=(1, 2),
        window_size=4,
        drop_path_rate=0.0,
        single_window="keep",
    )
    model = SwinClassifier(config, num_classes=3)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * scale)
            if name.endswith("logit_scale"):
                parameter.fill_(10.0)  # beyond the clamp: scores reach their largest, 100 + 16
    return model


IMAGES = torch.randn(2, 3, 36, 28, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.02, 1.0])
def test_autocast_stays_finite_with_its_gradients(version: int, dtype: torch.dtype, scale: float) -> None:
    model = model_with_padding(version, scale)

    with torch.autocast("cpu", dtype=dtype):
        logits = model(IMAGES)
    logits.float().square().mean().backward()

    assert logits.isfinite().all()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_constant_image_stays_finite(version: int, dtype: torch.dtype) -> None:
    """All tokens alike: a norm over nothing but equal numbers, the same vector to normalise everywhere."""
    model = model_with_padding(version, 0.02)
    for value in (0.0, 1.0):
        with torch.autocast("cpu", dtype=dtype):
            logits = model(torch.full_like(IMAGES, value))
        logits.float().square().mean().backward()
        assert logits.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("version", [1, 2])
def test_autocast_stays_close_to_float32(version: int) -> None:
    model = model_with_padding(version, 0.1).eval()
    with torch.no_grad():
        expected = model(IMAGES)
        for dtype, tolerance in ((torch.float16, 0.01), (torch.bfloat16, 0.08)):
            with torch.autocast("cpu", dtype=dtype):
                logits = model(IMAGES)
            assert (logits.float() - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize("version", [1, 2])
def test_a_model_in_bfloat16_keeps_its_dtype_and_comes_back(version: int) -> None:
    model = model_with_padding(version, 0.1).eval()
    with torch.no_grad():
        expected = model(IMAGES)
        logits = model.bfloat16()(IMAGES.bfloat16())
    assert logits.dtype == torch.bfloat16
    assert (logits.float() - expected).abs().max() < 0.15 * expected.abs().max()
