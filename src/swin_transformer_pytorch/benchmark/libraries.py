"""Each library's own model of a variant, random weights: a classifier, or a backbone that gives all stages' maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from .setting import Setting

OURS = "swin_transformer_pytorch"
OPTIMIZED = "optimized"
FLOOR = "floor"
OPENVINO = "openvino"
PEERS = ("timm", "torchvision", "transformers", OPENVINO)


def build_model(library: str, setting: Setting) -> nn.Module | None:
    """That library's module for the setting; None where the library or the model is not to be had."""
    try:
        return _BUILDERS[library](setting, features=setting.mode == "features")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == library:
            return None
        raise


def _ours(setting: Setting, *, features: bool) -> nn.Module:
    from ..models.registry import create_backbone, create_model

    return create_backbone(setting.model) if features else create_model(setting.model)


def _timm(setting: Setting, *, features: bool) -> nn.Module | None:
    import timm

    name = setting.model.replace("_patch4", "") if setting.config.version == 2 else setting.model
    if not timm.is_model(name):
        return None
    # It cuts no rest of a patch off and pads none.
    if any(side % patch for side, patch in zip(setting.image_size, setting.config.patch_size, strict=True)):
        return None
    options: dict[str, Any] = {"features_only": True} if features else {"num_classes": 1000}
    rate = setting.config.drop_path_rate
    return timm.create_model(name, img_size=setting.image_size, drop_path_rate=rate, **options)


def _torchvision(setting: Setting, *, features: bool) -> nn.Module | None:
    from torchvision.models import swin_transformer

    config = setting.config
    block = swin_transformer.SwinTransformerBlock
    merging = swin_transformer.PatchMerging
    if config.version == 2:
        if any(size not in (0, config.window_size[0]) for size in config.pretrained_window_sizes):
            return None
        block, merging = swin_transformer.SwinTransformerBlockV2, swin_transformer.PatchMergingV2
    model = swin_transformer.SwinTransformer(
        patch_size=list(config.patch_size),
        embed_dim=config.embed_dim,
        depths=list(config.depths),
        num_heads=list(config.num_heads),
        window_size=list(config.window_size),
        mlp_ratio=config.mlp_ratio,
        stochastic_depth_prob=config.drop_path_rate,
        block=block,
        downsample_layer=merging,
    )
    return _TorchvisionMaps(model.features) if features else model


class _TorchvisionMaps(nn.Module):
    """The stages' maps of torchvision's classifier, channels first; without the norms that the others' maps have."""

    def __init__(self, features: nn.Sequential) -> None:
        super().__init__()
        self.features = features

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        x = images
        for index, part in enumerate(self.features):
            x = part(x)
            if index % 2 == 1:  # even ones embed and merge patches
                maps.append(x.permute(0, 3, 1, 2))
        return maps


def _transformers(setting: Setting, *, features: bool) -> nn.Module | None:
    import transformers

    config = setting.config
    # V1 then fails: it takes a smaller window, but the bias of the whole one.
    last = min(-(-side // stride) for side, stride in zip(setting.image_size, config.stage_strides[-1], strict=True))
    if config.version == 1 and last < config.window_size[0]:
        return None
    fields: dict[str, Any] = {
        "image_size": setting.image_size,
        "patch_size": config.patch_size[0],
        "embed_dim": config.embed_dim,
        "depths": list(config.depths),
        "num_heads": list(config.num_heads),
        "window_size": config.window_size[0],
        "drop_path_rate": config.drop_path_rate,
    }
    if features:
        fields["out_features"] = [f"stage{stage + 1}" for stage in range(len(config.depths))]
    else:
        fields["num_labels"] = 1000
    family = "Swin"
    if config.version == 2:
        family, fields["pretrained_window_sizes"] = "Swinv2", list(config.pretrained_window_sizes)
    model = getattr(transformers, f"{family}{'Backbone' if features else 'ForImageClassification'}")
    return model(getattr(transformers, f"{family}Config")(**fields))


_BUILDERS: dict[str, Callable[..., nn.Module | None]] = {
    OURS: _ours,
    "timm": _timm,
    "torchvision": _torchvision,
    "transformers": _transformers,
}
