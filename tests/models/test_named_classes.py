"""Exchanged heads: names and counts follow the layers or are refused, and what is saved can be loaded again."""

import copy
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import swin_transformer_pytorch as swin
from swin_transformer_pytorch.backbone.config import ConfigError, SwinConfig
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import DetectorConfig, SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.detection import InstanceTargets
from swin_transformer_pytorch.weights.files import save_checkpoint
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

IMAGE = np.random.default_rng(0).integers(0, 256, (28, 28, 3), dtype=np.uint8)
SMALL = SwinConfig(embed_dim=16, depths=(1, 1), num_heads=(1, 2), window_size=4)


@pytest.fixture
def fashion() -> Any:
    return swin.load_model("fashion")


def detector(method: str = "mask_rcnn") -> Any:
    config = DetectorConfig(
        method=method,  # type: ignore[arg-type]
        backbone=SMALL.replace(depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), embed_dim=8),
        num_classes=2,
        fpn_dim=8,
        fc_dim=16,
    )
    return build(ModelDescription(config=config, classes=("cat", "dog"), preprocessing=DensePreprocessing(scale=None)))


def segmenter() -> Any:
    config = SegmenterConfig(backbone=SMALL, num_classes=2, decode_dim=8, auxiliary_dim=8, auxiliary_index=1)
    description = ModelDescription(
        config=config,
        classes=("cat", "dog"),
        palette=((1, 2, 3), (4, 5, 6)),
        preprocessing=DensePreprocessing(scale=None),
    )
    return build(description)


def saved_and_loaded(model: Any, folder: Path) -> Any:
    save_checkpoint(folder / "m.safetensors", model.state_dict(), model.metadata())
    return swin.load_model(folder / "m.safetensors")


class LoRA(nn.Module):
    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.delta = base, nn.Parameter(torch.zeros_like(base.weight))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + nn.functional.linear(x, self.delta)


class Unknown(nn.Module):
    """Says nothing of its outputs."""

    def __init__(self, inputs: int, count: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(count, inputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.t()


@pytest.mark.parametrize("count", [1, 3, 10, 12])
@pytest.mark.parametrize(
    "make",
    [
        nn.Linear,
        lambda inputs, count: nn.Sequential(nn.Dropout(0.1), nn.Linear(inputs, count)),
        lambda inputs, count: nn.Sequential(nn.Linear(inputs, 7), nn.ReLU(), nn.Linear(7, count)),
    ],
    ids=["linear", "dropout", "mlp"],
)
def test_a_new_head_has_no_names_until_it_is_given_some(
    make: Callable[[int, int], nn.Module], count: int, fashion: Any, tmp_path: Path
) -> None:
    old = fashion.classes
    assert len(old) == fashion.num_classes == 10
    fashion.head = make(fashion.head.in_features, count)
    assert fashion.num_classes == count and fashion.classes is None
    result = swin.Predictor(fashion, device="cpu", top_k=5)(IMAGE)
    assert result.names == tuple(f"class {label}" for label in result.labels)
    assert len(result.names) == min(5, count)

    names = tuple(f"n{i}" for i in range(count))
    with pytest.raises(ConfigError, match=f"{count + 1} class names for num_classes={count}"):
        fashion.classes = (*names, "more")
    fashion.classes = names
    copied = copy.deepcopy(fashion)
    assert fashion.classes == copied.classes == names
    result = swin.Predictor(copied, device="cpu")(IMAGE)
    assert result.names == tuple(names[label] for label in result.labels)
    if type(fashion.head) is nn.Linear:
        loaded = saved_and_loaded(fashion, tmp_path)
        assert loaded.classes == names
        assert torch.equal(loaded.head.weight, fashion.head.weight)
    else:
        with pytest.raises(ConfigError, match=r"head\.\w+ is missing.*remove parametrizations"):
            fashion.metadata()


@pytest.mark.parametrize(
    "change",
    [
        lambda head: LoRA(head),
        lambda head: nn.Sequential(nn.Dropout(0.1), head),
        lambda head: nn.utils.parametrizations.weight_norm(head),
        lambda head: head.register_forward_hook(lambda *_: None) and head,
        lambda head: copy.deepcopy(head),
    ],
)
def test_a_head_that_is_wrapped_keeps_its_names(change: Callable[[nn.Module], nn.Module], fashion: Any) -> None:
    names, expected = fashion.classes, swin.Predictor(fashion, device="cpu")(IMAGE)
    fashion.head = change(fashion.head)
    for model in (fashion, copy.deepcopy(fashion), swin.optimize_for_inference(fashion)):
        assert model.classes == names and model.num_classes == 10
        assert swin.Predictor(model, device="cpu")(IMAGE).names == expected.names


def quantised(model: Any) -> Any:
    with warnings.catch_warnings():  # PyTorch's own, which it wants to replace
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(model, {nn.Linear})


CONVERSIONS: list[Callable[[Any], Any]] = [
    lambda model: pickle.loads(pickle.dumps(model)),  # noqa: S301
    copy.deepcopy,
    lambda model: model.half().float(),
    swin.optimize_for_inference,
    quantised,
]


@pytest.mark.parametrize("convert", CONVERSIONS)
def test_conversions_keep_names(convert: Callable[[Any], Any], fashion: Any) -> None:
    names = fashion.classes
    assert convert(fashion).classes == names


@pytest.mark.parametrize("convert", CONVERSIONS[:-1])
def test_conversions_give_no_names_to_a_new_head_of_as_many_classes(
    convert: Callable[[Any], Any], fashion: Any
) -> None:
    fashion.head = nn.Linear(fashion.head.in_features, 10)
    assert convert(fashion).classes is None


def test_a_head_that_says_nothing_of_its_outputs(fashion: Any) -> None:
    inputs = fashion.head.in_features
    fashion.head = Unknown(inputs, 10)
    assert fashion.num_classes == 10 and fashion.classes is None
    fashion.head = Unknown(inputs, 12)
    with pytest.raises(ValueError, match=r"gives 12 numbers .* of 10 classes.*model\.reset_classifier\(12, classes"):
        swin.Predictor(fashion, device="cpu")(IMAGE)
    fashion.reset_classifier(12)
    fashion.head = Unknown(inputs, 12)
    fashion.classes = tuple(f"n{i}" for i in range(12))
    assert swin.Predictor(fashion, device="cpu")(IMAGE).names[0].startswith("n")


def test_without_a_head(fashion: Any) -> None:
    fashion.head = nn.Identity()
    assert fashion.num_classes == 0 and fashion.classes is None
    with pytest.raises(ValueError, match="has no head"):
        swin.Predictor(fashion, device="cpu")
    assert fashion.metadata()["num_classes"] == 0


@pytest.mark.parametrize("count", [0, 3, 10])
def test_reset_classifier(count: int, fashion: Any, tmp_path: Path) -> None:
    fashion.double().eval()
    before = fashion.state_dict()
    names = tuple(f"n{i}" for i in range(count))
    fashion.reset_classifier(count, classes=list(names))
    assert (fashion.num_classes, fashion.classes) == (count, names)
    assert not fashion.head.training and all(p.dtype == torch.float64 for p in fashion.parameters())
    loaded = saved_and_loaded(fashion, tmp_path)
    assert loaded.metadata() == fashion.metadata() and loaded.num_classes == count
    kept = {name for name, value in loaded.state_dict().items() if name in before and torch.equal(value, before[name])}
    assert {name for name in before if not name.startswith("head.")} <= kept
    if count:
        result = swin.Predictor(loaded, device="cpu")(IMAGE)
        assert result.names == tuple(names[label] for label in result.labels)


def test_reset_classifier_refuses_and_leaves_the_model_alone(fashion: Any) -> None:
    for model in (fashion, detector(), segmenter()):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        described = model.metadata()
        for arguments in ((-1,), (2.5,), (True,), ("3",)):
            with pytest.raises(ConfigError, match="num_classes"):
                model.reset_classifier(*arguments)
        with pytest.raises(ConfigError, match="2 class names for num_classes=3"):
            model.reset_classifier(3, classes=("a", "b"))
        assert model.metadata() == described
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("make", "fresh"),
    [
        (segmenter, {"decode_head.conv_seg", "auxiliary_head.conv_seg"}),
        (detector, {"roi_head.bbox_head.fc_cls", "roi_head.bbox_head.fc_reg", "roi_head.mask_head.conv_logits"}),
        (
            lambda: detector("cascade_mask_rcnn"),
            {f"roi_head.bbox_head.{i}.{name}" for i in range(3) for name in ("fc_cls", "fc_reg")}
            | {f"roi_head.mask_head.{i}.conv_logits" for i in range(3)},
        ),
        (
            lambda: detector("htc"),
            {f"roi_head.bbox_head.{i}.{name}" for i in range(3) for name in ("fc_cls", "fc_reg")}
            | {f"roi_head.mask_head.{i}.conv_logits" for i in range(3)},
        ),
    ],
)
def test_reset_classifier_of_dense_models(make: Callable[[], Any], fresh: set[str], tmp_path: Path) -> None:
    model = make().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.reset_classifier(5, classes=("a", "b", "c", "d", "e"))
    assert (model.num_classes, model.config.num_classes, len(model.classes)) == (5, 5, 5)
    assert not any(part.training for part in model.modules())
    changed = {
        name.rpartition(".")[0]
        for name, value in model.state_dict().items()
        if value.shape != before[name].shape or not torch.equal(value, before[name])
    }
    assert changed == fresh
    loaded = saved_and_loaded(model, tmp_path)
    assert loaded.metadata() == model.metadata()
    if model.task == "segmentation":
        assert model.palette is None
        model.reset_classifier(1, palette=((1, 2, 3),))
        assert model.palette == ((1, 2, 3),)
        labels = torch.zeros(2, 32, 32, dtype=torch.long)
        assert sum(model.train().losses(torch.randn(2, 3, 32, 32), labels).values()).isfinite()
    else:
        model.reset_classifier(1)
        target = InstanceTargets(
            boxes_xyxy=torch.tensor([[2.0, 2.0, 20.0, 20.0]]),
            labels=torch.tensor([0]),
            masks=torch.ones(1, 64, 64, dtype=torch.uint8),
            semantic=torch.zeros(8, 8, dtype=torch.int64) if model.config.method == "htc" else None,
        )
        assert sum(model.train().losses(torch.randn(1, 3, 64, 64), [target]).values()).isfinite()


@pytest.mark.parametrize(
    ("make", "place", "layer"),
    [
        (segmenter, "decode_head.conv_seg", nn.Conv2d(8, 3, 1)),
        (segmenter, "auxiliary_head.conv_seg", nn.Sequential(nn.Conv2d(8, 4, 1), nn.Conv2d(4, 3, 1))),
        (detector, "roi_head.bbox_head.fc_cls", nn.Linear(16, 4)),
        (detector, "roi_head.bbox_head.fc_reg", nn.Linear(16, 12)),
        (detector, "roi_head.mask_head.conv_logits", nn.Conv2d(8, 3, 1)),
        (lambda: detector("htc"), "roi_head.bbox_head.1.fc_cls", nn.Linear(16, 4)),
    ],
)
def test_exchanged_layers_of_dense_models_are_refused_with_the_fix(
    make: Callable[[], Any], place: str, layer: nn.Module, tmp_path: Path
) -> None:
    model = make()
    parent, _, name = place.rpartition(".")
    setattr(model.get_submodule(parent), name, copy.deepcopy(layer))
    with pytest.raises(ConfigError, match=rf"{place} was exchanged.*model\.reset_classifier\(num_classes"):
        swin.Predictor(model, device="cpu")
    with pytest.raises(ConfigError, match=r"no file of it could be loaded again.*model\.reset_classifier"):
        model.metadata()
    model.reset_classifier(3, classes=("a", "b", "c"))
    setattr(model.get_submodule(parent), name, copy.deepcopy(layer))
    swin.Predictor(model, device="cpu")
    assert model.classes is None  # it does not say what its classes are
    model.classes = ("x", "y", "z")
    assert model.classes == ("x", "y", "z")
    if not isinstance(layer, nn.Sequential):
        assert saved_and_loaded(model, tmp_path).classes == ("x", "y", "z")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("layers.0.blocks.0.attn.qkv", LoRA),
        ("layers.0.blocks.0.mlp.fc1", nn.utils.parametrizations.weight_norm),
        ("layers.0.blocks.0.norm1", lambda norm: nn.Identity()),
        ("layers.0.blocks.0.attn.proj", lambda layer: nn.Linear(layer.in_features, layer.out_features, bias=False)),
        ("patch_embed.proj", lambda layer: nn.Conv2d(layer.in_channels, layer.out_channels, 7, 4, 3)),
        ("head", lambda head: nn.Linear(head.in_features, 3, bias=False)),
    ],
)
def test_no_file_is_made_that_cannot_be_loaded(name: str, change: Callable[[Any], nn.Module], fashion: Any) -> None:
    parent, _, child = name.rpartition(".")
    setattr(fashion.get_submodule(parent), child, change(fashion.get_submodule(name)))
    with pytest.raises(ConfigError, match=rf"no file of it could be loaded again: {name}\."):
        fashion.metadata()
