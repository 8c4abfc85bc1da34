"""Stages of an optimised model in one call of the library: the bits of their layers, and where they do not go so."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.ops import force_implementation
from swin_transformer_pytorch.ops.cpu.library import why_not
from swin_transformer_pytorch.optimize import optimize_for_inference
from swin_transformer_pytorch.optimize import swin as optimize_swin

pytestmark = pytest.mark.skipif(why_not() is not None, reason=f"no CPU kernel here: {why_not()}")


@pytest.fixture(autouse=True)
def own_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIN_PRODUCTS", "own")


def classifier(version: int = 1) -> SwinClassifier:
    """With parameters that leave nothing at its initial 0 or 1."""
    torch.manual_seed(0)
    config = SwinConfig(embed_dim=32, depths=(2, 3, 1), num_heads=(2, 4, 8), window_size=4, single_window="keep")
    model = SwinClassifier(config.replace(version=version), num_classes=5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim <= 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


def count_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many blocks each call of the library gets from now on."""
    calls = []
    real = optimize_swin.run_blocks

    def run_blocks(x: Tensor, blocks: Any, geometry: Any, out: Tensor) -> None:
        calls.append(len(blocks))
        real(x, blocks, geometry, out)

    monkeypatch.setattr(optimize_swin, "run_blocks", run_blocks)
    return calls


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", [(3, 64, 64), (1, 37, 90), (2, 9, 5)])
def test_a_stage_in_one_call_has_the_bits_of_its_layers(
    version: int, dtype: torch.dtype, size: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = optimize_for_inference(classifier(version), dtype)
    images = torch.randn(size[0], 3, *size[1:]).to(dtype)
    calls = count_calls(monkeypatch)
    with torch.inference_mode():
        together = fast(images)
        assert calls == [2, 3, 1]
        monkeypatch.setattr(optimize_swin, "takes_map", lambda *_: False)
        monkeypatch.setattr(optimize_swin, "run_patch_merging", None)  # nor these: patch embedding and merging
        monkeypatch.setattr(optimize_swin, "run_patch_embed", None)
        assert torch.equal(together, fast(images))
        assert calls == [2, 3, 1]


def test_a_stage_in_one_call_whatever_the_number_of_threads() -> None:
    fast, images, threads = optimize_for_inference(classifier()), torch.randn(2, 3, 64, 64), torch.get_num_threads()
    try:
        with torch.inference_mode():
            found = [(torch.set_num_threads(count), fast(images))[1] for count in (1, 2, 5)]
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])


def test_what_is_changed_in_an_optimised_model_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.randn(1, 3, 64, 64)
    calls = count_calls(monkeypatch)
    first = "layers.0.blocks.1"
    for name, expected in (
        ("layers.0", [2, 3, 1]),
        (first, [1, 1, 3, 1]),
        (f"{first}.qkv", [1, 3, 1]),
        (f"{first}.norm2", [1, 3, 1]),
    ):
        fast = optimize_for_inference(classifier())
        with torch.inference_mode():
            before = fast(images)
            seen: list[Tensor] = []
            module = fast.get_submodule(name)
            handle = module.register_forward_hook(lambda module, inputs, out, seen=seen: seen.append(out))
            calls.clear()
            torch.testing.assert_close(fast(images), before, rtol=1e-5, atol=1e-5)
            assert len(seen) == 1
            assert calls == expected
            handle.remove()
            module.register_forward_hook(lambda module, inputs, out: out * torch.linspace(0, 2, out.shape[-1]))
            assert (fast(images) - before).abs().max() > 3e-5  # of which rounding is a hundredth


def test_modes_and_other_tensors_see_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, images = optimize_for_inference(classifier()), torch.randn(1, 3, 64, 64)
    calls = count_calls(monkeypatch)
    with torch.inference_mode(), FlopCounterMode(display=False):
        fast(images)
    with torch.inference_mode(), force_implementation("reference"):
        fast(images)
    assert calls == []


def test_blocks_of_other_widths_go_one_by_one_and_maps_that_do_not_fit_are_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = classifier()
    torch.manual_seed(1)
    mlp = model.get_submodule("layers.0.blocks.1.mlp")
    mlp.fc1, mlp.fc2 = torch.nn.Linear(32, 208), torch.nn.Linear(208, 32)
    fast, images = optimize_for_inference(model.eval()), torch.randn(1, 3, 64, 64)
    calls = count_calls(monkeypatch)
    with torch.inference_mode():
        torch.testing.assert_close(fast(images), model(images), rtol=1e-4, atol=1e-5)
        assert calls == [1, 1, 3, 1]
        for name in ("layers.1", "layers.1.blocks.0", "layers.0.downsample"):
            with pytest.raises((ValueError, RuntimeError)):
                fast.get_submodule(name)(torch.randn(1, 8, 8, 96))
        with pytest.raises(ValueError, match="takes torch.float32"):
            fast.get_submodule("layers.0.downsample")(torch.randn(1, 8, 8, 32).bfloat16())
