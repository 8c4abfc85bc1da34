"""Swin Transformer in PyTorch: a general-purpose vision backbone that classifies, detects and segments.

Names are imported when they are first used: `import swin_transformer_pytorch` loads neither torch nor anything heavy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .backbone.config import SwinConfig
    from .compat import SwinTransformer, swin_b, swin_l, swin_s, swin_t
    from .data.transforms import create_transform
    from .models.config import DetectorConfig, SegmenterConfig
    from .models.registry import create_backbone, create_model, list_models, load_model
    from .optimize import optimize_for_inference
    from .predict import Predictor
    from .results import Classification, Detections, SegmentationMap
    from .weights.formats import convert_state_dict
    from .weights.load import load_weights

__version__ = "1.0.0.dev0"

_HOMES = {
    "SwinConfig": "backbone.config",
    "SwinTransformer": "compat",
    "swin_t": "compat",
    "swin_s": "compat",
    "swin_b": "compat",
    "swin_l": "compat",
    "create_transform": "data.transforms",
    "create_backbone": "models.registry",
    "create_model": "models.registry",
    "list_models": "models.registry",
    "load_model": "models.registry",
    "optimize_for_inference": "optimize",
    "Predictor": "predict",
    "Classification": "results",
    "Detections": "results",
    "SegmentationMap": "results",
    "DetectorConfig": "models.config",
    "SegmenterConfig": "models.config",
    "convert_state_dict": "weights.formats",
    "load_weights": "weights.load",
}

__all__ = [
    "Classification",
    "Detections",
    "DetectorConfig",
    "Predictor",
    "SegmentationMap",
    "SegmenterConfig",
    "SwinConfig",
    "SwinTransformer",
    "__version__",
    "convert_state_dict",
    "create_backbone",
    "create_model",
    "create_transform",
    "list_models",
    "load_model",
    "load_weights",
    "optimize_for_inference",
    "swin_b",
    "swin_l",
    "swin_s",
    "swin_t",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(_HOMES))
