"""Every published variant has exactly as many parameters as timm's model of it."""

import pytest
import timm
import torch
from timm.models.swin_transformer import SwinTransformer

from swin_transformer_pytorch.backbone.config import VARIANTS
from swin_transformer_pytorch.models.registry import create_model
from swin_transformer_pytorch.weights.catalog import records


def timms(name, num_classes):
    """timm registers neither c24 nor SimMIM's window of 6; both are its class with other numbers."""
    config = VARIANTS[name].config
    if name in ("swin_tiny_c24_patch4_window8_256", "swin_base_patch4_window6_192"):
        return SwinTransformer(
            img_size=VARIANTS[name].image_size,
            embed_dim=config.embed_dim,
            depths=config.depths,
            num_heads=config.num_heads,
            window_size=config.window_size,
            num_classes=num_classes,
        )
    registered = name.replace("_patch4", "") if name.startswith("swinv2") else name
    return timm.create_model(registered, num_classes=num_classes)


@pytest.mark.parametrize("name", VARIANTS)
def test_parameter_count(name):
    for num_classes in {record.num_classes for record in records(name)}:
        with torch.device("meta"):
            ours, theirs = create_model(name, num_classes=num_classes), timms(name, num_classes)
        assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())
