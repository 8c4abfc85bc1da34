"""Small random models of every kind that is looked into."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.backbone import SwinBackbone
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.models.config import DetectorConfig, SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing, Preprocessing

CLASSES = ("cat", "dog", "café")


def make_model(task: str, version: int = 1, *, method: str = "mask_rcnn", **config: Any) -> Any:
    """A random model of three classes, patches of 2 pixels, windows of 4 tokens, whose blocks all do something."""
    torch.manual_seed(0)
    swin = SwinConfig(
        **{
            "version": version,
            "patch_size": 2,
            "embed_dim": 8,
            "depths": (2, 2),
            "num_heads": (1, 2),
            "window_size": 4,
            "drop_path_rate": 0.0,
            "single_window": "unshift" if task == "classification" else "keep",
            **config,
        }
    )
    dense = DensePreprocessing(scale=(64, 48), size_divisor=8 if task == "detection" else 1)
    model: nn.Module
    if task == "classification":
        prepared = Preprocessing(image_size=(24, 32), resize_size=36)
        model = SwinClassifier(swin, num_classes=3, classes=CLASSES, preprocessing=prepared)
    elif task == "backbone":
        model = SwinBackbone(swin, out_indices=(0, 1))
    else:
        heads: dict[str, Any] = {"backbone": swin, "num_classes": 3}
        described = (
            DetectorConfig(**heads, method=method, fpn_dim=16, fc_dim=16, max_detections=6, score_threshold=0.01)
            if task == "detection"
            else SegmenterConfig(**heads, decode_dim=8, auxiliary_dim=8, auxiliary_index=0, pool_scales=(1, 2))
        )
        model = build(ModelDescription(config=described, classes=CLASSES, preprocessing=dense))
    with torch.no_grad():
        for name, parameter in model.named_parameters():  # V2's norms start at zero, tables and biases near it
            if "norm" in name or "bias" in name:
                parameter.add_(torch.randn_like(parameter), alpha=0.02 if name.endswith("bias") else 0.3)
    return model.eval()
