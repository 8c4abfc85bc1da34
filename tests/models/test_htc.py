"""HTC++ as a whole: names, gradients through the global block and the semantic branch, soft scores."""

import pytest
import torch

from swin_transformer_pytorch.heads.roi import BoxHead
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import DENSE_VARIANTS, DetectorConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.detection import Detector, InstanceTargets

SMALL = {"depths": (1, 1, 1, 1), "embed_dim": 8, "num_heads": (1, 1, 2, 2), "window_size": 4, "drop_path_rate": 0.0}


def tiny(name: str) -> Detector:
    torch.manual_seed(0)
    config = DENSE_VARIANTS[name].config.replace(
        num_classes=3, fpn_dim=8, fc_dim=16, num_semantic_classes=4, roi_samples=32, max_detections=20, **SMALL
    )
    assert isinstance(config, DetectorConfig)
    return build(ModelDescription(config=config))


def target(semantic: bool = True) -> InstanceTargets:
    masks = torch.zeros(2, 60, 90, dtype=torch.uint8)
    masks[0, 10:40, 8:50] = 1
    masks[1, 20:60, 40:90] = 1
    return InstanceTargets(
        boxes_xyxy=torch.tensor([[8.0, 10, 50, 40], [40, 20, 90, 60]]),
        labels=torch.tensor([0, 2]),
        masks=masks,
        semantic=torch.randint(4, (8, 12)) if semantic else None,
    )


@pytest.mark.parametrize("name", ["htc_swin_tiny_patch4_window7", "htcpp_swin_tiny_patch4_window7"])
def test_every_parameter_learns(name: str) -> None:
    model = tiny(name)
    losses = model.losses(torch.randn(1, 3, 64, 96), [target()], [(60, 90)])
    torch.stack(list(losses.values())).sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and bool(parameter.grad.isfinite().all()), key
        # The window of the last map holds one cell of its own; random heads of 8 channels may die in their ReLUs.
        assert bool(parameter.grad.any()) or "bias_table" in key or "convs" in key, key


def test_plus_plus_adds_the_global_block_alone() -> None:
    plain, plus = tiny("htc_swin_tiny_patch4_window7"), tiny("htcpp_swin_tiny_patch4_window7")
    added = set(plus.state_dict()) - set(plain.state_dict())
    parts = ("norm1", "qkv", "proj", "norm2", "fc1", "fc2")
    assert added == {f"global_attention.{part}.{kind}" for part in parts for kind in ("weight", "bias")}
    assert plus.roi_head.rules.soft_nms and not plain.roi_head.rules.soft_nms
    assert plain.roi_head.rules.score_threshold == 0.001


def test_soft_nms_keeps_what_plain_nms_drops() -> None:
    model = tiny("htcpp_swin_tiny_patch4_window7").eval()
    (found,) = model(torch.randn(1, 3, 64, 96), [(60, 90)])
    assert len(found) == 20 and bool((found.scores[1:] <= found.scores[:-1]).all())
    assert found.scores.min() >= 0.001 and bool((found.boxes_xyxy[:, 2] <= 90).all())


def test_an_image_without_semantic_labels_is_an_error_that_names_the_fix() -> None:
    model = tiny("htc_swin_tiny_patch4_window7")
    with pytest.raises(ValueError, match=r"image 0 .*no semantic labels.*stuff_folder.*cascade_mask_rcnn"):
        model.losses(torch.randn(1, 3, 64, 96), [target(semantic=False)], [(60, 90)])


@pytest.mark.parametrize(("size", "millions", "with_convolutions"), [("base", 155.6, 159.5), ("large", 279.8, 283.8)])
def test_sizes_are_those_that_the_guide_compares_with_the_published(
    size: str, millions: float, with_convolutions: float
) -> None:
    config = DENSE_VARIANTS[f"htcpp_swin_{size}_patch4_window7"].config
    assert isinstance(config, DetectorConfig)
    with torch.device("meta"):
        model = build(ModelDescription(config=config))
        convolutional = BoxHead(256, num_classes=80, num_convs=4, num_fcs=1, class_agnostic=True)
        standard = BoxHead(256, num_classes=80, class_agnostic=True)
    count, more, less = (sum(p.numel() for p in m.parameters()) / 1e6 for m in (model, convolutional, standard))
    assert round(count, 1) == millions and round(count + 3 * (more - less), 1) == with_convolutions
