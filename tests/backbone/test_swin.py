"""The backbone as a pure function: any size at any moment, any shape of model, nothing remembered."""

import copy
import inspect
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.backbone.swin import Swin
from swin_transformer_pytorch.models.backbone import SwinBackbone
from swin_transformer_pytorch.models.classification import SwinClassifier

Size = tuple[int, int]
KINDS = [(version, policy) for version in (1, 2) for policy in ("unshift", "keep")]
every_kind = pytest.mark.parametrize(("version", "single_window"), KINDS)
image_sizes = st.tuples(st.integers(1, 300), st.integers(1, 300))


def tiny_config(version: int = 1, **fields: Any) -> SwinConfig:
    defaults: dict[str, Any] = {
        "embed_dim": 4,
        "depths": (2, 2),
        "num_heads": (1, 2),
        "window_size": 3,
        "mlp_ratio": 2.0,
    }
    return SwinConfig(**{**defaults, "version": version, **fields})


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Every parameter at random: V2 starts with norms of zero, which would hide all that its blocks do."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise.abs() + 0.5 if "norm" in name and name.endswith("weight") else noise * 0.5)
    return model.eval()


def classifier(version: int = 1, **fields: Any) -> SwinClassifier:
    model = SwinClassifier(tiny_config(version, **fields), num_classes=5)
    randomise(model)
    return model


def images(size: Size, *, batch: int = 1, channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(size[0] * 1000 + size[1])
    return torch.randn(batch, channels, *size, generator=generator)


@every_kind
@settings(max_examples=8, deadline=None)
@given(sizes=st.lists(image_sizes, min_size=2, max_size=4))
def test_sizes_in_any_order_give_what_each_gives_alone(version: int, single_window: str, sizes: list[Size]) -> None:
    model = classifier(version, single_window=single_window)
    untouched = copy.deepcopy(model)

    with torch.no_grad():
        for size in [*sizes, *reversed(sizes)]:
            alone = copy.deepcopy(untouched)
            logits = model(images(size))
            assert logits.isfinite().all()
            torch.testing.assert_close(logits, alone(images(size)), rtol=0, atol=1e-6)


@every_kind
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (3, 5), (12, 12), (13, 12), (300, 300)])
def test_extreme_sizes(version: int, single_window: str, size: Size) -> None:
    model = classifier(version, single_window=single_window)
    with torch.no_grad():
        assert model(images(size)).isfinite().all()


@every_kind
@settings(max_examples=15, deadline=None)
@given(size=st.tuples(st.integers(1, 90), st.integers(1, 90)), batch=st.integers(2, 5))
def test_a_batch_equals_its_images_one_by_one(version: int, single_window: str, size: Size, batch: int) -> None:
    model = classifier(version, single_window=single_window).double()
    x = images(size, batch=batch).double()

    with torch.no_grad():
        together = model(x)
        apart = torch.cat([model(image[None]) for image in x])

    torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-9)


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Every attribute of every module: tensors by value, plain ones as they are, others by identity."""

    def record(value: Any) -> Any:
        if isinstance(value, Tensor):
            return (id(value), tuple(value.flatten().tolist()))
        if isinstance(value, dict):
            return {key: record(item) for key, item in value.items()}
        return value if isinstance(value, int | float | str | tuple | None) else id(value)

    return {f"{path}.{key}": record(value) for path, m in model.named_modules() for key, value in vars(m).items()}


@every_kind
@pytest.mark.parametrize("training", [False, True])
def test_forward_changes_no_attribute_of_any_module(version: int, single_window: str, training: bool) -> None:
    model = classifier(version, single_window=single_window).train(training)
    before = snapshot(model)
    state_before = copy.deepcopy(model.state_dict())

    for size in ((8, 8), (70, 33), (1, 1), (48, 48)):
        model(images(size, batch=2)).sum().backward()
        model.zero_grad(set_to_none=True)

    assert snapshot(model) == before
    assert list(model.state_dict()) == list(state_before)
    assert all(torch.equal(value, state_before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("version", [1, 2])
def test_the_state_dict_holds_parameters_only(version: int) -> None:
    model = classifier(version)

    assert set(model.state_dict()) == {name for name, _ in model.named_parameters()}


@every_kind
@settings(max_examples=20, deadline=None)
@given(
    num_stages=st.integers(1, 5),
    patch_size=st.sampled_from([1, 2, (2, 4)]),
    window_size=st.sampled_from([1, 2, (3, 2), (2, 5)]),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
)
def test_any_number_of_stages_patch_and_window(
    version: int, single_window: str, num_stages: int, patch_size: int | Size, window_size: int | Size, size: Size
) -> None:
    config = tiny_config(
        version,
        depths=(2,) * num_stages,
        num_heads=(1, 2, 2, 4, 4)[:num_stages],
        patch_size=patch_size,
        window_size=window_size,
        single_window=single_window,
    )
    model = SwinBackbone(config, out_indices=range(num_stages))
    randomise(model)

    with torch.no_grad():
        maps = model(images(size, batch=2))

    rows, columns = -(-size[0] // config.patch_size[0]), -(-size[1] // config.patch_size[1])
    for stage, feature_map in enumerate(maps):
        assert feature_map.shape == (2, 4 * 2**stage, rows, columns)
        assert feature_map.isfinite().all()
        rows, columns = -(-rows // 2), -(-columns // 2)
    assert model.channels == tuple(feature_map.shape[1] for feature_map in maps)


@every_kind
def test_every_parameter_gets_a_gradient(version: int, single_window: str) -> None:
    model = classifier(version, single_window=single_window, depths=(2, 2), num_heads=(2, 2))

    model(images((70, 50), batch=2)).square().sum().backward()

    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("version", [1, 2])
def test_where_one_window_covers_the_map_unshift_has_no_shift_and_keep_has_one(version: int) -> None:
    """Without shifts a window sees nothing of another: the policies must differ below a window, and only there."""
    fields = {"patch_size": 1, "depths": (2,), "num_heads": (1,), "window_size": 4}
    unshift = classifier(version, **fields, single_window="unshift")
    keep = classifier(version, **fields, single_window="keep")
    with torch.no_grad():
        torch.testing.assert_close(unshift(images((9, 9))), keep(images((9, 9))), rtol=0, atol=1e-6)
        for size in ((4, 9), (9, 4), (3, 3)):
            assert (unshift(images(size)) - keep(images(size))).abs().max() > 1e-3


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("drop_path_rate", [0.0, 0.5])
def test_gradient_checkpointing_gives_the_same_gradients(version: int, drop_path_rate: float) -> None:
    plain = classifier(version, drop_path_rate=drop_path_rate).train()
    saving = classifier(version, drop_path_rate=drop_path_rate, gradient_checkpointing=True).train()
    x = images((40, 28), batch=3)
    losses = []
    for model in (plain, saving):
        torch.manual_seed(3)
        loss = model(x).square().sum()
        loss.backward()
        losses.append(loss.item())

    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    for (name, expected), got in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(
            got.grad, expected.grad, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}"
        )


def test_gradient_checkpointing_saves_less_for_the_backward_pass() -> None:
    def saved_elements(model: nn.Module) -> int:
        count = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal count
            count += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            model(images((48, 48)))
        return count

    fields = {"depths": (4, 4), "num_heads": (1, 2)}
    assert saved_elements(classifier(**fields, gradient_checkpointing=True)) < saved_elements(classifier(**fields)) / 2


@pytest.mark.parametrize("version", [1, 2])
def test_masked_pre_training_steps_in_between_the_patches_and_the_stages(version: int) -> None:
    model = Swin(tiny_config(version))
    randomise(model)
    x = images((37, 50), batch=2)
    mask_token = nn.Parameter(torch.randn(4))

    tokens = model.patch_embed(x)
    assert tokens.shape == (2, 10, 13, 4)
    hidden = torch.zeros(2, 10, 13, 1, dtype=torch.bool)
    hidden[:, ::2, ::3] = True
    maps = model.forward_stages(torch.where(hidden, mask_token, tokens))
    assert [tuple(m.shape) for m in maps] == [(2, 10, 13, 4), (2, 5, 7, 8)]
    maps[-1].square().sum().backward()
    assert mask_token.grad is not None and mask_token.grad.abs().max() > 0
    # What lies under hidden patches cannot be seen, and what does not is.
    under = x.clone()
    under[:, :, :4, :4] += 1
    with torch.no_grad():
        again = model.forward_stages(torch.where(hidden, mask_token, model.patch_embed(under)))
        shown = model.forward_stages(model.patch_embed(under))
        unmasked = model.forward_stages(model.patch_embed(x))
    torch.testing.assert_close(again[-1], maps[-1], rtol=1e-4, atol=1e-4)
    assert (shown[-1] - unmasked[-1]).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 4, 8, 8), (0, 3, 8, 8), (1, 3, 0, 8)])
def test_images_of_another_shape_are_an_error_that_says_what_is_wanted(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(batch, 3, height, width\), each at least 1"):
        as_users_call_it(classifier().patch_embed, torch.zeros(shape))


def test_eight_bit_images_are_an_error_that_names_the_transform() -> None:
    with pytest.raises(ValueError, match=r"torch\.uint8.*create_transform"):
        as_users_call_it(classifier().patch_embed, torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def as_users_call_it(module: nn.Module, *inputs: Tensor) -> Tensor:
    """Without the tests' check of annotated shapes."""
    result: Tensor = inspect.unwrap(type(module).forward)(module, *inputs)
    return result


@pytest.mark.parametrize("version", [1, 2])
def test_copies_and_pickles_give_the_same_answers(version: int) -> None:
    model = classifier(version)
    x = images((30, 41))
    with torch.no_grad():
        for again in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 -- our own
            assert torch.equal(again(x), model(x))


@pytest.mark.parametrize("version", [1, 2])
def test_shapes_are_known_without_numbers(version: int) -> None:
    with torch.device("meta"):
        model = SwinClassifier(tiny_config(version), num_classes=5)
        with torch.no_grad():
            assert model(torch.zeros(2, 3, 30, 41)).shape == (2, 5)
        assert model(torch.zeros(2, 3, 30, 41)).shape == (2, 5)


@pytest.mark.parametrize("out_indices", [(), (1, 0), (0, 2), (0, 0), (-1,), 1, "01", None])
def test_impossible_out_indices_are_an_error(out_indices: Any) -> None:
    with pytest.raises(ValueError, match=r"out_indices=.*from 0 to 1, such as \(0, 1\)"):
        SwinBackbone(tiny_config(), out_indices=out_indices)


def test_chosen_stages_are_those_of_the_whole_pyramid() -> None:
    everything = SwinBackbone(tiny_config(depths=(2, 2, 2), num_heads=(1, 2, 2)), out_indices=(0, 1, 2))
    randomise(everything)
    some = SwinBackbone(tiny_config(depths=(2, 2, 2), num_heads=(1, 2, 2)), out_indices=(0, 2))
    some.eval().load_state_dict({k: v for k, v in everything.state_dict().items() if not k.startswith("norm1.")})
    with torch.no_grad():
        maps = everything(images((50, 31)))
        chosen = some(images((50, 31)))
    torch.testing.assert_close(chosen, [maps[0], maps[2]], rtol=1e-5, atol=1e-5)
    assert (some.channels, some.strides) == ((4, 16), (4, 16))
