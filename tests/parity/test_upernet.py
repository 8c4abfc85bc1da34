"""The same logits and label maps as transformers' UPerNet with Swin, through files in each layout.

Its Swin backbone always partitions into the configured windows, as the official segmentation code does; that is our
`single_window="keep"`.
"""

from pathlib import Path

import pytest
import torch
import transformers
from torch import Tensor

from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.segmentation import Segmenter
from swin_transformer_pytorch.models.segmentation_inference import segment
from swin_transformer_pytorch.weights.files import save_checkpoint
from swin_transformer_pytorch.weights.formats import convert_state_dict
from swin_transformer_pytorch.weights.load import load_weights

CONFIG = SegmenterConfig(num_classes=11, decode_dim=24, auxiliary_dim=16).replace(
    embed_dim=24, depths=(2, 2, 2, 1), num_heads=(1, 2, 4, 8), window_size=7
)
# The last map has 4x5, 5x6 and 2x2 cells: fewer than a window.
SIZES = [(128, 160), (130, 171), (37, 61)]


@pytest.fixture(scope="module")
def theirs() -> transformers.UperNetForSemanticSegmentation:
    """Every parameter and statistic is random, so that a tensor in the wrong place shows."""
    backbone = transformers.SwinConfig(
        embed_dim=CONFIG.backbone.embed_dim,
        depths=list(CONFIG.backbone.depths),
        num_heads=list(CONFIG.backbone.num_heads),
        window_size=CONFIG.backbone.window_size[0],
        out_features=["stage1", "stage2", "stage3", "stage4"],
        # Its eager attention takes the softmax in float32, whatever the input.
        attn_implementation="sdpa",
    )
    config = transformers.UperNetConfig(
        backbone_config=backbone,
        hidden_size=CONFIG.decode_dim,
        auxiliary_channels=CONFIG.auxiliary_dim,
        num_labels=CONFIG.num_classes,
    )
    model = transformers.UperNetForSemanticSegmentation(config).eval()
    generator = torch.Generator().manual_seed(1)
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if tensor.ndim == 1:
            is_scale = "norm" in name and name.endswith("weight")
            tensor.copy_(0.3 * noise + is_scale)
        else:
            tensor.copy_(noise * (2 / tensor[0].numel()) ** 0.5)
    return model


def saved(model: transformers.UperNetForSemanticSegmentation, layout: str, folder: Path) -> Path:
    """Their weights in a file, as each project writes its own."""
    model.save_pretrained(folder)
    path = folder / "model.safetensors"
    if layout == "transformers":
        return path
    # The layout of the files is proven by tests/weights; this proves what the tensors in them mean.
    state_dict = convert_state_dict(model.state_dict(), to=layout)
    torch.save({"meta": {"CLASSES": tuple("abcdefghijk")}, "state_dict": state_dict}, folder / "model.pth")
    return folder / "model.pth"


def loaded(path: Path, layout: str) -> Segmenter:
    model = build(ModelDescription(config=CONFIG)).eval()
    report = load_weights(model, path)
    assert report.format == layout
    assert not (report.fresh or report.resized or report.adapted or report.sliced)
    return model


def images(size: tuple[int, int]) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("layout", ["transformers", "openmmlab", "official"])
def test_logits_and_label_maps(
    layout: str, size: tuple[int, int], theirs: transformers.UperNetForSemanticSegmentation, tmp_path: Path
) -> None:
    model = loaded(saved(theirs, layout, tmp_path), layout)
    x = images(size)
    with torch.no_grad():
        expected = theirs(x).logits
        actual = model(x)
    resized = torch.nn.functional.interpolate(actual, size=size, mode="bilinear", align_corners=False)
    assert expected.abs().max() > 1
    assert (resized - expected).abs().max() <= 1e-4
    labels = expected.argmax(dim=1)
    assert len(labels.unique()) > 5
    assert torch.equal(torch.stack(segment(model, x)).long(), labels)


def test_in_float64_the_difference_vanishes(
    theirs: transformers.UperNetForSemanticSegmentation, tmp_path: Path
) -> None:
    model = loaded(saved(theirs, "transformers", tmp_path), "transformers").double()
    x = images(SIZES[1]).double()
    with torch.no_grad():
        try:
            expected = theirs.double()(x).logits
        finally:
            theirs.float()
        actual = torch.nn.functional.interpolate(model(x), size=SIZES[1], mode="bilinear", align_corners=False)
    assert (actual - expected).abs().max() <= 1e-9


def test_the_auxiliary_head(theirs: transformers.UperNetForSemanticSegmentation, tmp_path: Path) -> None:
    model = loaded(saved(theirs, "openmmlab", tmp_path), "openmmlab")
    maps = [torch.randn(1, dim, 9, 7) for dim in model.backbone.channels]
    with torch.no_grad():
        difference = model.auxiliary_head(maps[2]) - theirs.auxiliary_head(maps)
    assert difference.abs().max() <= 1e-4


def test_our_file_gives_them_our_answer(theirs: transformers.UperNetForSemanticSegmentation, tmp_path: Path) -> None:
    torch.manual_seed(3)
    model = build(ModelDescription(config=CONFIG)).eval()
    save_checkpoint(tmp_path / "model.safetensors", convert_state_dict(model.state_dict(), to="transformers"))
    theirs.config.save_pretrained(tmp_path)
    peer, info = transformers.UperNetForSemanticSegmentation.from_pretrained(tmp_path, output_loading_info=True)
    # Their backbone has a norm that its feature maps never pass.
    assert {key.rpartition(".")[0] for key in info["missing_keys"]} <= {"backbone.swin.layernorm"}
    assert not (info["unexpected_keys"] or info["mismatched_keys"])
    x = images((64, 96))
    with torch.no_grad():
        expected = torch.nn.functional.interpolate(model(x), size=(64, 96), mode="bilinear", align_corners=False)
        assert (peer.eval()(x).logits - expected).abs().max() <= 1e-4
