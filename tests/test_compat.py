"""The 0.4.1 API against the published package itself, which is installed apart because its module bears our name."""

import importlib
import importlib.util
import inspect
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from swin_transformer_pytorch import compat, swin_transformer

DEFAULT_FOLDER = Path(sys.prefix) / "seed-0.4.1"
SIZES = ("swin_t", "swin_s", "swin_b", "swin_l")
TINY: dict[str, Any] = {"hidden_dim": 8, "layers": (2, 2, 4, 2), "heads": (1, 2, 2, 4), "num_classes": 5}


@pytest.fixture(scope="module")
def seed_package() -> ModuleType:
    """0.4.1's module, under another name. Its absence is a failure: without it this file would prove nothing."""
    folder = Path(os.environ.get("SWIN_041_PATH") or DEFAULT_FOLDER)
    file = folder / "swin_transformer_pytorch" / "swin_transformer.py"
    if not file.is_file():
        pytest.fail(
            f"version 0.4.1 is not in {folder}; run: {sys.executable} -m pip install --no-deps "
            f'--target "{DEFAULT_FOLDER}" swin-transformer-pytorch==0.4.1 einops  (or set SWIN_041_PATH to where it is)'
        )
    spec = importlib.util.spec_from_file_location("seed_swin_transformer", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its einops may be installed beside it. Last on the path, for the folder also holds a package of our name.
    sys.path.append(str(folder))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    return module


def both(seed_package: ModuleType, **options: Any) -> tuple[nn.Module, nn.Module]:
    """The seed's model and ours, in float64, each drawn from the same seed."""
    models = []
    for package in (seed_package, compat):
        torch.manual_seed(0)
        models.append(package.SwinTransformer(**{**TINY, **options}).double().eval())
    return models[0], models[1]


def images(height: int, width: int, *, batch: int = 2, channels: int = 3) -> Tensor:
    return torch.randn(batch, channels, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


CONFIGURATIONS = [
    pytest.param({"window_size": 2}, (64, 64), id="one window in the last stage"),
    pytest.param({"window_size": 2}, (64, 192), id="not square"),
    pytest.param({"window_size": 2}, (67, 65), id="pixels that fill no patch"),
    pytest.param({"window_size": 3}, (96, 192), id="odd window"),
    pytest.param({"window_size": 1}, (32, 64), id="window of one token"),
    pytest.param({"window_size": 7}, (224, 224), id="default window and size"),
    pytest.param({"window_size": 2, "relative_pos_embedding": False}, (64, 64), id="absolute table"),
    pytest.param({"window_size": 2, "head_dim": 5}, (64, 64), id="inner width is not the stage's"),
    pytest.param({"window_size": 2, "channels": 1, "num_classes": 3}, (64, 64), id="grey"),
    pytest.param({"window_size": 2, "downscaling_factors": (2, 1, 3, 2)}, (24, 48), id="other strides"),
    pytest.param({"window_size": 2, "layers": (2, 0, 2, 2)}, (64, 64), id="stage without blocks"),
]


@pytest.mark.parametrize(("options", "size"), CONFIGURATIONS)
def test_same_keys_initial_weights_logits_and_gradients(
    seed_package: ModuleType, options: dict[str, Any], size: tuple[int, int]
) -> None:
    seed, ours = both(seed_package, **options)

    expected_state, state = seed.state_dict(), ours.state_dict()
    assert list(state) == list(expected_state)
    for key, tensor in expected_state.items():
        assert torch.equal(state[key], tensor), key
    assert {n: p.requires_grad for n, p in ours.named_parameters()} == {
        n: p.requires_grad for n, p in seed.named_parameters()
    }

    x = images(*size, channels=options.get("channels", 3))
    expected, logits = seed(x), ours(x)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-8)
    expected.square().sum().backward()
    logits.square().sum().backward()
    expected_grads = {name: parameter.grad for name, parameter in seed.named_parameters()}
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, expected_grads[name], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("direction", ["seed to ours", "ours to seed"])
def test_checkpoint_files_load_strictly_both_ways(seed_package: ModuleType, direction: str, tmp_path: Path) -> None:
    models = both(seed_package, window_size=2)
    source, target = models if direction == "seed to ours" else reversed(models)
    with torch.no_grad():
        for parameter in source.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.3)
    file = tmp_path / "checkpoint.pth"
    torch.save(source.state_dict(), file)

    target.load_state_dict(torch.load(file, weights_only=True), strict=True)

    x = images(64, 128)
    torch.testing.assert_close(target(x), source(x), rtol=0, atol=1e-8)


def test_training_with_one_seed_goes_the_same_way(seed_package: ModuleType) -> None:
    x, target = images(64, 64, batch=4), torch.tensor([0, 1, 2, 3])
    losses = []
    for model in both(seed_package, window_size=2):
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
        for _ in range(5):
            loss = nn.functional.cross_entropy(model(x), target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], abs=1e-8)


def test_the_constructors_take_the_same_arguments(seed_package: ModuleType) -> None:
    def parameters(function: Callable[..., Any]) -> list[tuple[str, Any, Any]]:
        found = inspect.signature(function).parameters.values()
        return [(p.name, p.kind, p.default) for p in found if p.kind is not inspect.Parameter.VAR_KEYWORD]

    assert parameters(compat.SwinTransformer) == parameters(seed_package.SwinTransformer)
    for name in SIZES:
        assert parameters(getattr(compat, name)) == parameters(getattr(seed_package, name))


@pytest.mark.parametrize("name", SIZES)
def test_the_four_sizes_have_the_same_parameters(seed_package: ModuleType, name: str) -> None:
    with torch.device("meta"):
        ours = getattr(compat, name)(num_classes=7, head_dim=16)
    shapes = {key: value.shape for key, value in ours.state_dict().items()}

    # 0.4.1 builds its masks with numpy in between, so it cannot be built on the meta device: only the smallest is.
    if name == "swin_t":
        seed = getattr(seed_package, name)(num_classes=7, head_dim=16)
        assert shapes == {key: value.shape for key, value in seed.state_dict().items()}
    counts = {"swin_t": 2 + 2 + 6 + 2, "swin_s": 24, "swin_b": 24, "swin_l": 24}
    assert sum(key.endswith("to_qkv.weight") for key in shapes) == counts[name]


def test_an_image_that_fills_no_whole_windows_is_an_error_with_the_fix(seed_package: ModuleType) -> None:
    seed, ours = both(seed_package, window_size=2)
    x = images(64, 96)

    with pytest.raises(Exception, match="."):
        seed(x)
    with pytest.raises(ValueError, match=r"64x96 pixels .* stage 4 a map of 2x3.* multiples of 64"):
        ours(x)
    with pytest.raises(ValueError, match="3x33 pixels .* stage 1 a map of 0x8"):
        ours(images(3, 33))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": (2, 2, 3, 2)}, "layers=.*even"),
        ({"layers": (2, 2, 2)}, "layers=.*give 4"),
        ({"heads": (1, 2)}, "heads=.*give 4"),
        ({"downscaling_factors": (4, 2, 2, 2, 2)}, "downscaling_factors=.*give 4"),
    ],
)
def test_arguments_that_cannot_be_built_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compat.SwinTransformer(**{**TINY, **options})


def test_images_with_other_channels_are_an_error() -> None:
    model = compat.SwinTransformer(**TINY, window_size=2)
    with pytest.raises(ValueError, match=r"\(2, 1, 64, 64\).*\(batch, 3, height, width\)"):
        model(torch.zeros(2, 1, 64, 64))


def test_an_unknown_keyword_is_an_error() -> None:
    with pytest.raises(TypeError, match="depths"):
        compat.swin_t(depths=(2, 2, 6, 2))  # type: ignore[call-arg]


def test_the_package_offers_the_names_as_0_4_1_did() -> None:
    import swin_transformer_pytorch

    for name in ("SwinTransformer", *SIZES):
        assert getattr(swin_transformer_pytorch, name) is getattr(compat, name)


CLASSES = (
    "CyclicShift",
    "Residual",
    "PreNorm",
    "FeedForward",
    "WindowAttention",
    "SwinBlock",
    "PatchMerging",
    "StageModule",
    "SwinTransformer",
)
FUNCTIONS = ("create_mask", "get_relative_distances", *SIZES)


def test_its_own_module_path_has_all_its_names(seed_package: ModuleType) -> None:
    defined = {
        name
        for name, value in vars(seed_package).items()
        if getattr(value, "__module__", None) == seed_package.__name__
    }
    assert defined == {*CLASSES, *FUNCTIONS}
    module = importlib.import_module("swin_transformer_pytorch.swin_transformer")
    for name in defined:
        assert getattr(module, name) is getattr(compat, name)
        theirs = inspect.signature(getattr(seed_package, name)).parameters.values()
        ours = inspect.signature(getattr(module, name)).parameters.values()
        assert [(p.name, p.kind) for p in ours if p.name != "options"] == [
            (p.name, p.kind) for p in theirs if p.kind is not inspect.Parameter.VAR_KEYWORD
        ], name


@pytest.mark.parametrize("relative", [False, True])
def test_every_module_has_the_same_attributes(seed_package: ModuleType, relative: bool) -> None:
    seed, ours = both(seed_package, window_size=2, relative_pos_embedding=relative)
    parts = dict(ours.named_modules())
    for name, theirs in seed.named_modules():
        part = parts.pop(name)
        assert type(part).__name__ == type(theirs).__name__
        for attribute, value in vars(theirs).items():
            if not attribute.startswith("_") and attribute != "training":
                got = getattr(part, attribute)
                assert torch.equal(got, value) if isinstance(value, Tensor) else got == value, f"{name}.{attribute}"
    assert not parts


@pytest.mark.parametrize("window_size", [1, 2, 3, 4, 7])
def test_masks_and_distances_are_the_same(seed_package: ModuleType, window_size: int) -> None:
    ours, theirs = swin_transformer.get_relative_distances, seed_package.get_relative_distances
    assert torch.equal(ours(window_size), theirs(window_size))
    for displacement in range(window_size):
        for sides in ((False, False), (True, False), (False, True), (True, True)):
            expected = seed_package.create_mask(window_size, displacement, *sides)
            got = swin_transformer.create_mask(window_size, displacement, upper_lower=sides[0], left_right=sides[1])
            assert torch.equal(got, expected), (displacement, sides)


def test_small_parts_do_the_same(seed_package: ModuleType) -> None:
    x = images(8, 8, channels=8)
    arguments: dict[str, tuple[Any, ...]] = {
        "CyclicShift": (-3,),
        "FeedForward": (8, 12),
        "WindowAttention": (8, 2, 4, True, 4, True),
        "SwinBlock": (8, 2, 4, 12, True, 2, False),
        "PatchMerging": (8, 12, 2),
        "StageModule": (8, 12, 4, 2, 2, 4, 2, True),
    }
    for name, values in arguments.items():
        results = []
        for package in (seed_package, swin_transformer):
            torch.manual_seed(0)
            results.append(getattr(package, name)(*values).double()(x))
        torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-10)


class Scaled(nn.Module):
    def forward(self, x: Tensor, *, scale: float) -> Tensor:
        return x * scale


def test_wrappers_pass_keywords_on(seed_package: ModuleType) -> None:
    x = torch.arange(8.0)
    for package in (seed_package, swin_transformer):
        torch.testing.assert_close(package.Residual(Scaled())(x, scale=2.0), 3 * x)
        torch.testing.assert_close(package.PreNorm(8, Scaled())(x, scale=2.0), 2 * nn.functional.layer_norm(x, (8,)))


@pytest.mark.parametrize("name", ["WindowAttention", "SwinBlock", "PatchMerging", "StageModule", "SwinTransformer"])
@pytest.mark.parametrize(("options", "size"), CONFIGURATIONS[:-1])
def test_its_own_forward_put_in_as_a_patch_gives_its_numbers(
    seed_package: ModuleType,
    name: str,
    options: dict[str, Any],
    size: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seed, ours = both(seed_package, **options)
    original, calls = getattr(seed_package, name).forward, []

    def forward(self: nn.Module, *inputs: Tensor) -> Tensor:
        calls.append(self)
        return original(self, *inputs)

    x = images(*size, channels=options.get("channels", 3))
    expected = seed(x)
    monkeypatch.setattr(getattr(swin_transformer, name), "forward", forward)
    logits = ours(x)
    assert calls and all(type(module) is getattr(compat, name) for module in calls)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-10)
    expected.square().sum().backward()
    logits.square().sum().backward()
    for (key, parameter), theirs in zip(ours.named_parameters(), seed.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, theirs.grad, rtol=1e-8, atol=1e-8, msg=key)


def test_a_class_that_is_replaced_takes_effect(seed_package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("swin_transformer_pytorch.swin_transformer")
    for name in ("WindowAttention", "FeedForward", "PatchMerging", "Residual"):
        monkeypatch.setattr(module, name, getattr(seed_package, name))
    seed, ours = both(seed_package, window_size=2)
    assert sum(type(part) is seed_package.WindowAttention for part in ours.modules()) == 10
    x = images(64, 64)
    torch.testing.assert_close(ours(x), seed(x), rtol=0, atol=1e-10)


def test_whole_models_that_0_4_1_pickled_run(seed_package: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seed, _ = both(seed_package, window_size=2)
    x = images(64, 128)
    expected = seed(x)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "swin_transformer_pytorch.swin_transformer", seed_package)
        for name in CLASSES:
            patch.setattr(getattr(seed_package, name), "__module__", "swin_transformer_pytorch.swin_transformer")
        stored = pickle.dumps(seed)
    model = pickle.loads(stored)  # noqa: S301  # made above
    assert type(model) is compat.SwinTransformer
    torch.testing.assert_close(model(x), expected, rtol=0, atol=1e-10)
    with pytest.raises(ValueError, match=r"multiples of 64"):
        model(images(64, 96))
