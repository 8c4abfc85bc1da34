"""Swin Transformer in PyTorch: a general-purpose vision backbone that classifies, detects and segments.

Names are imported when they are first used: `import swin_transformer_pytorch` loads neither torch nor anything heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazily

if TYPE_CHECKING:
    from .backbone.config import SwinConfig as SwinConfig
    from .compat import (
        SwinTransformer as SwinTransformer,
        swin_b as swin_b,
        swin_l as swin_l,
        swin_s as swin_s,
        swin_t as swin_t,
    )
    from .data.transforms import create_transform as create_transform
    from .explain import attention_maps as attention_maps, grad_cam as grad_cam
    from .export import export_onnx as export_onnx, export_openvino as export_openvino
    from .models.config import (
        DetectorConfig as DetectorConfig,
        MaskedConfig as MaskedConfig,
        SegmenterConfig as SegmenterConfig,
    )
    from .models.mask2former_config import Mask2FormerConfig as Mask2FormerConfig
    from .models.registry import (
        create_backbone as create_backbone,
        create_model as create_model,
        list_models as list_models,
        load_model as load_model,
    )
    from .models.saving import push_to_hub as push_to_hub, save_model as save_model
    from .optimize import optimize_for_inference as optimize_for_inference
    from .predict import Predictor as Predictor
    from .results import (
        Classification as Classification,
        Detections as Detections,
        PanopticSegmentation as PanopticSegmentation,
        SegmentationMap as SegmentationMap,
    )
    from .weights.formats import convert_state_dict as convert_state_dict
    from .weights.load import load_weights as load_weights

__version__ = "1.0.0.dev0"

_HOMES = {
    "backbone.config": ("SwinConfig",),
    "compat": ("SwinTransformer", "swin_b", "swin_l", "swin_s", "swin_t"),
    "data.transforms": ("create_transform",),
    "explain": ("attention_maps", "grad_cam"),
    "export": ("export_onnx", "export_openvino"),
    "models.config": ("DetectorConfig", "MaskedConfig", "SegmenterConfig"),
    "models.mask2former_config": ("Mask2FormerConfig",),
    "models.registry": ("create_backbone", "create_model", "list_models", "load_model"),
    "models.saving": ("push_to_hub", "save_model"),
    "optimize": ("optimize_for_inference",),
    "predict": ("Predictor",),
    "results": ("Classification", "Detections", "PanopticSegmentation", "SegmentationMap"),
    "weights.formats": ("convert_state_dict",),
    "weights.load": ("load_weights",),
}

__all__ = ["__version__", *(name for names in _HOMES.values() for name in names)]
__getattr__, __dir__ = lazily(__name__, _HOMES)
