"""The segmenter: its size and names, its losses, its gradients, and what its checkpoint says."""

import pytest
import torch

from swin_transformer_pytorch.backbone.config import ConfigError
from swin_transformer_pytorch.heads.pixel_losses import PixelLosses
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import DENSE_VARIANTS, SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

TINY = SegmenterConfig(num_classes=4, decode_dim=8, auxiliary_dim=6, dropout=0.0).replace(
    embed_dim=8, depths=(1, 1, 2, 1), num_heads=(1, 1, 2, 2), window_size=3, drop_path_rate=0.0
)


@pytest.mark.parametrize(
    ("variant", "millions"), [("tiny_patch4_window7", 60), ("small_patch4_window7", 81), ("base_patch4_window7", 121)]
)
def test_published_sizes(variant: str, millions: int) -> None:
    with torch.device("meta"):
        model = build(ModelDescription(config=DENSE_VARIANTS[f"upernet_swin_{variant}_512x512"].config))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert round(parameters / 1e6) == millions
    if millions == 60:
        assert round(parameters / 1e4) == 5994
        # The official file has 271: twelve of them are index buffers, which are derived here.
        assert len(model.state_dict()) == 259


def test_official_names_and_shapes() -> None:
    with torch.device("meta"):
        model = build(ModelDescription(config=DENSE_VARIANTS["upernet_swin_tiny_patch4_window7_512x512"].config))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    expected = {
        "backbone.patch_embed.proj.weight": (96, 3, 4, 4),
        "backbone.norm3.weight": (768,),
        "decode_head.psp_modules.3.1.conv.weight": (512, 768, 1, 1),
        "decode_head.psp_modules.0.1.bn.running_var": (512,),
        "decode_head.bottleneck.conv.weight": (512, 2816, 3, 3),
        "decode_head.lateral_convs.2.conv.weight": (512, 384, 1, 1),
        "decode_head.fpn_convs.0.conv.weight": (512, 512, 3, 3),
        "decode_head.fpn_bottleneck.conv.weight": (512, 2048, 3, 3),
        "decode_head.conv_seg.weight": (150, 512, 1, 1),
        "auxiliary_head.convs.0.conv.weight": (256, 384, 3, 3),
        "auxiliary_head.convs.0.bn.num_batches_tracked": (),
        "auxiliary_head.conv_seg.bias": (150,),
    }
    assert {name: shapes[name] for name in expected} == expected


def test_a_step_reaches_every_parameter() -> None:
    model = build(ModelDescription(config=TINY))
    losses = model.losses(torch.randn(2, 3, 28, 36), torch.randint(0, 4, (2, 28, 36)))
    assert set(losses) == {"loss_ce", "aux.loss_ce"}
    sum(losses.values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


def test_losses_are_those_of_the_two_heads() -> None:
    model = build(ModelDescription(config=TINY)).eval()
    images, labels = torch.randn(2, 3, 28, 36), torch.randint(0, 4, (2, 28, 36))
    losses = model.losses(images, labels)
    torch.testing.assert_close(losses["loss_ce"], PixelLosses()(model(images), labels)["loss_ce"])
    auxiliary = model.auxiliary_head(model.backbone(images)[2])
    torch.testing.assert_close(losses["aux.loss_ce"], 0.4 * PixelLosses()(auxiliary, labels)["loss_ce"])


def test_bfloat16_autocast_trains() -> None:
    model = build(ModelDescription(config=TINY))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.losses(torch.randn(2, 3, 33, 41), torch.randint(0, 4, (2, 33, 41)))
    assert all(loss.dtype == torch.float32 for loss in losses.values())
    sum(losses.values()).backward()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("size", [(64, 64), (37, 61), (5, 3)])
def test_any_size_and_either_version(version: int, size: tuple[int, int]) -> None:
    model = build(ModelDescription(config=TINY.replace(version=version))).eval()
    with torch.no_grad():
        logits = model(torch.randn(1, 3, *size))
    assert logits.shape == (1, 4, -(-size[0] // 4), -(-size[1] // 4))
    assert logits.isfinite().all()


def test_sizes_may_come_in_any_order() -> None:
    model = build(ModelDescription(config=TINY)).eval()
    small, large = torch.randn(1, 3, 20, 28), torch.randn(1, 3, 64, 40)
    with torch.no_grad():
        first = model(small)
        model(large)
        torch.testing.assert_close(model(small), first, atol=0, rtol=0)


def test_two_stages_of_another_patch() -> None:
    config = TINY.replace(depths=(1, 1), num_heads=(1, 1), patch_size=2, auxiliary_index=0)
    with torch.no_grad():
        assert build(ModelDescription(config=config)).eval()(torch.randn(1, 3, 20, 30)).shape == (1, 4, 10, 15)


def test_metadata_rebuilds_it() -> None:
    model = build(
        ModelDescription(
            config=TINY,
            classes=("sky", "tree", "road", "car"),
            palette=((0, 0, 0), (1, 2, 3), (4, 5, 6), (255, 255, 255)),
            preprocessing=DensePreprocessing.ade20k(),
            name="mine",
        )
    )
    metadata = model.metadata()
    assert metadata["task"] == "segmentation" and metadata["num_classes"] == 4
    assert metadata["palette"][1] == [1, 2, 3] and metadata["classes"][3] == "car"
    assert metadata["preprocessing"]["scale"] == [2048, 512]
    assert SegmenterConfig.from_dict(metadata["config"]) == TINY


def test_names_and_colours_of_another_number_are_an_error() -> None:
    with pytest.raises(ConfigError, match="2 class names for num_classes=4"):
        build(ModelDescription(config=TINY, classes=("sky", "tree")))
    with pytest.raises(ConfigError, match="1 colours for num_classes=4"):
        build(ModelDescription(config=TINY, palette=((0, 0, 0),)))


def test_labels_of_another_size_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 16, 16\).*\(2, 16, 15\)"):
        build(ModelDescription(config=TINY)).losses(torch.randn(2, 3, 16, 16), torch.zeros(2, 16, 15, dtype=torch.long))
