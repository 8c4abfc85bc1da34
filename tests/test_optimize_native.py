"""An optimised backbone in one call of the library: the bits of its layers, and where it does not go so."""

import copy
import pickle
import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.backbone.swin import Swin
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.ops import Map, Program, force_implementation
from swin_transformer_pytorch.ops.cpu.library import why_not
from swin_transformer_pytorch.optimize import optimize_for_inference
from swin_transformer_pytorch.optimize import stages as optimize_stages
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
    """How many blocks each call of the library goes through from now on, of those that have any."""
    calls: list[int] = []
    real = Program.run

    def run(self: Program, x: Tensor) -> list[Tensor]:
        kinds = [struct.unpack_from("=q", step)[0] for step in self._steps]
        if kinds.count(0):
            calls.append(kinds.count(0))
        return real(self, x)

    monkeypatch.setattr(Program, "run", run)
    return calls


def by_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on layers are called one by one."""
    for module in (optimize_swin, optimize_stages):
        monkeypatch.setattr(module, "takes_map", lambda *_: False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", [(3, 64, 64), (1, 37, 90), (2, 9, 5)])
def test_a_backbone_in_one_call_has_the_bits_of_its_layers(
    version: int, dtype: torch.dtype, size: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = optimize_for_inference(classifier(version), dtype)
    images = torch.randn(size[0], 3, *size[1:]).to(dtype)
    calls = count_calls(monkeypatch)
    with torch.inference_mode():
        together, maps = fast(images), fast.forward_stages(fast.patch_embed(images))
        assert calls == [6, 6]
        by_operators(monkeypatch)
        assert torch.equal(together, fast(images))
        for one, other in zip(maps, fast.forward_stages(fast.patch_embed(images)), strict=True):
            assert torch.equal(one, other)
        assert calls == [6, 6]


@pytest.mark.parametrize("batch", [1, 2, 5, 9])
@pytest.mark.parametrize("piece", [64, 300])
def test_a_batch_in_pieces_has_the_bits_of_the_whole(batch: int, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = optimize_for_inference(classifier())
    images = torch.randn(batch, 3, 30, 34).transpose(2, 3)[:, :, 1:].contiguous()  # maps of 9x8, 5x4 and 3x2
    calls = count_calls(monkeypatch)
    with torch.inference_mode():
        whole, maps = fast(images), fast.forward_stages(fast.patch_embed(images))
        for module in (optimize_swin, optimize_stages):
            monkeypatch.setattr(module, "PIECE_TOKENS", piece)
        again = optimize_for_inference(classifier())
        calls.clear()
        assert torch.equal(again(images), whole)
        assert len(calls) == 1
        if piece == 300:  # 4, 15 and 50 images; of 64 tokens a map goes through in bands
            assert calls == [2 * -(-batch // 4) + 3 + 1]
        for one, other in zip(maps, again.forward_stages(again.patch_embed(images)), strict=True):
            assert torch.equal(one, other)


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)), batch=st.integers(1, 3), piece=st.sampled_from([8, 50, 160])
)
def test_large_maps_in_bands_have_the_bits_of_the_whole(size: tuple[int, int], batch: int, piece: int) -> None:
    images = torch.randn(batch, 3, *size)
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setenv("SWIN_PRODUCTS", "own")
        fast = optimize_for_inference(classifier())
        whole, maps = fast(images), fast.forward_stages(fast.patch_embed(images))
        for module in (optimize_swin, optimize_stages):
            patch.setattr(module, "PIECE_TOKENS", piece)
        fast.layers._kept = None
        calls = count_calls(patch)
        assert torch.equal(fast(images), whole)
        for one, other in zip(maps, fast.forward_stages(fast.patch_embed(images)), strict=True):
            assert torch.equal(one, other)
        assert len(calls) == 2
        by_operators(patch)
        assert torch.equal(fast(images), whole)


@pytest.mark.parametrize("form", ["channels last", "turned", "part", "one for all"])
def test_images_in_any_form_of_memory(form: str) -> None:
    images = {
        "channels last": torch.randn(2, 3, 40, 64).contiguous(memory_format=torch.channels_last),
        "turned": torch.randn(2, 3, 64, 40).transpose(2, 3),
        "part": torch.randn(2, 5, 50, 80)[:, 1:4, 4:44, 8:72],
        "one for all": torch.randn(1, 3, 40, 64).expand(2, -1, -1, -1),
    }[form]
    fast = optimize_for_inference(classifier())
    with torch.inference_mode():
        assert torch.equal(fast(images), fast(images.clone(memory_format=torch.contiguous_format)))
        embedded = fast.patch_embed(images)
        assert torch.equal(embedded, fast.patch_embed(images.clone(memory_format=torch.contiguous_format)))
        assert torch.equal(fast.forward_stages(embedded)[-1], fast.forward_last(images))


def test_early_maps_of_a_batch_are_never_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimize_stages, "PIECE_TOKENS", 256)
    fast = optimize_for_inference(classifier())
    shapes: list[tuple[int, ...]] = []
    real = Program.new

    def new(self: Program, shape: tuple[int, ...], *, result: bool = False) -> Map:
        shapes.append(shape)
        return real(self, shape, result=result)

    monkeypatch.setattr(Program, "new", new)
    with torch.inference_mode():
        fast(torch.randn(16, 3, 64, 64))
    assert shapes == [(1, 16, 16, 32), (4, 8, 8, 64), (16, 4, 4, 128)]


def test_one_call_whatever_the_number_of_threads() -> None:
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
        ("layers.2", [2, 3, 1]),
        ("patch_embed", [6]),
        (first, [1, 1, 3, 1]),
        (f"{first}.qkv", [1, 3, 1]),
        (f"{first}.norm2", [1, 3, 1]),
    ):
        fast = optimize_for_inference(classifier())
        with torch.inference_mode():
            before = fast(images)
            assert torch.equal(fast(images), before)
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


def test_hooks_on_all_modules_see_maps() -> None:
    fast, images = optimize_for_inference(classifier()), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = fast(images)
        seen: list[object] = []
        for module in fast.modules():
            module.register_forward_hook(lambda module, inputs, out: seen.append(out))
        torch.testing.assert_close(fast(images), before, rtol=1e-5, atol=1e-5)
    assert len(seen) > 6 and all(isinstance(one, Tensor) for one in seen)


def test_who_goes_through_stages_in_another_way_later_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, images = optimize_for_inference(classifier()), torch.randn(1, 3, 64, 64)
    real, calls = Swin.forward_stages, []

    def mine(self: Swin, tokens: Tensor, count: int | None = None) -> list[Tensor]:
        calls.append(count)
        return real(self, tokens, count)

    with torch.inference_mode():
        before = fast(images)
        for place, function in ((fast, mine.__get__(fast)), (Swin, mine)):
            with monkeypatch.context() as patch:
                patch.setattr(place, "forward_stages", function)
                assert torch.equal(fast(images), before)
        assert len(calls) == 2
        fast.layers = torch.nn.ModuleList(fast.layers)
        torch.testing.assert_close(fast(images), before, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_scales_of_scores_may_have_been_of_another_type(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    model = classifier(2)
    for name, parameter in model.named_parameters():
        if name.endswith("logit_scale"):
            parameter.data.uniform_(1, 4)
    fast, images = optimize_for_inference(model.to(dtype), torch.float32), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        together = fast(images)
        by_operators(monkeypatch)
        assert torch.equal(together, fast(images))


def test_modes_and_other_tensors_see_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    fast, images = optimize_for_inference(classifier()), torch.randn(1, 3, 64, 64)
    calls = count_calls(monkeypatch)
    with torch.inference_mode(), FlopCounterMode(display=False):
        fast(images)
    with torch.inference_mode(), force_implementation("reference"):
        fast(images)
    assert calls == []


def test_what_is_put_in_a_layers_place_is_called() -> None:
    fast, images = optimize_for_inference(classifier()), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = fast(images)
        block = fast.get_submodule("layers.1.blocks.2")
        fc2, weight = block.fc2, block.fc2.weight
        block.fc2 = torch.nn.Sequential(fc2)
        with pytest.raises(TypeError):  # it is called as FusedLinear is, with the residual
            fast(images)
        block.fc2 = fc2
        assert torch.equal(fast(images), before)
        fc2.weight = 2 * weight
        changed = fast(images)
        assert not torch.equal(changed, before)
        fc2.weight.mul_(0.5)  # in place
        assert torch.equal(fast(images), before)
        fc2.weight.data = 2 * weight
        assert torch.equal(fast(images), changed)


def test_copies_and_files_of_stages_that_ran_are_stages_of_their_own() -> None:
    fast = optimize_for_inference(classifier())
    with torch.inference_mode():
        tokens = fast.patch_embed(torch.randn(1, 3, 64, 64))
        before = fast.layers.maps(tokens)[-1]
        for other in (copy.deepcopy(fast.layers), pickle.loads(pickle.dumps(fast.layers))):  # noqa: S301  # our own
            assert other._kept is None
            assert torch.equal(other.maps(tokens)[-1], before)
            other[0].blocks[0].fc1.weight.zero_()
            assert not torch.equal(other.maps(tokens)[-1], before) and torch.equal(fast.layers.maps(tokens)[-1], before)


def test_a_stage_run_of_ones_own_is_taken() -> None:
    class Mine(SwinClassifier):
        def forward_stages(self, tokens: Tensor, count: int | None = None) -> list[Tensor]:
            return [2 * each for each in super().forward_stages(tokens, count)]

    torch.manual_seed(0)
    model = classifier()
    model.__class__ = Mine
    fast, images = optimize_for_inference(model), torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(fast(images), model(images), rtol=1e-4, atol=1e-4)


def test_blocks_of_other_widths_go_together_and_maps_that_do_not_fit_are_an_error(
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
        assert calls == [6]
        for name in ("layers.1", "layers.1.blocks.0", "layers.0.downsample"):
            with pytest.raises((ValueError, RuntimeError)):
                fast.get_submodule(name)(torch.randn(1, 8, 8, 96))
        with pytest.raises(ValueError, match="takes torch.float32"):
            fast.get_submodule("layers.0.downsample")(torch.randn(1, 8, 8, 32).bfloat16())
        fast.patch_embed.norm = optimize_for_inference(torch.nn.ModuleList((torch.nn.LayerNorm(16), model)))[0]
        for call in (fast, fast.patch_embed):
            with pytest.raises((ValueError, RuntimeError)):
                call(images)
