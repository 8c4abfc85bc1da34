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
    kind = "features" if setting.mode == "features" else "classifier"
    try:
        return _BUILDERS[library, kind](setting)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == library:
            return None
        raise


def _ours(setting: Setting) -> nn.Module:
    from ..models.registry import create_model

    return create_model(setting.model)


def _our_maps(setting: Setting) -> nn.Module:
    from ..models.registry import create_backbone

    return create_backbone(setting.model)


def _timm(setting: Setting) -> nn.Module | None:
    return _create_timm(setting, num_classes=1000)


def _timm_maps(setting: Setting) -> nn.Module | None:
    return _create_timm(setting, features_only=True)


def _create_timm(setting: Setting, **options: Any) -> nn.Module | None:
    import timm

    name = setting.model.replace("_patch4", "") if setting.config.version == 2 else setting.model
    if not timm.is_model(name):
        return None
    # It cuts no rest of a patch off and pads none.
    if any(side % patch for side, patch in zip(setting.image_size, setting.config.patch_size, strict=True)):
        return None
    rate = setting.config.drop_path_rate
    model: nn.Module = timm.create_model(name, img_size=setting.image_size, drop_path_rate=rate, **options)
    return model


def _torchvision(setting: Setting) -> nn.Module | None:
    from torchvision.models import swin_transformer

    config = setting.config
    block = swin_transformer.SwinTransformerBlock
    merging = swin_transformer.PatchMerging
    if config.version == 2:
        if any(size not in (0, config.window_size[0]) for size in config.pretrained_window_sizes):
            return None
        block, merging = swin_transformer.SwinTransformerBlockV2, swin_transformer.PatchMergingV2
    model: nn.Module = swin_transformer.SwinTransformer(
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
    return model


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


def _torchvision_maps(setting: Setting) -> nn.Module | None:
    classifier = _torchvision(setting)
    return None if classifier is None else _TorchvisionMaps(classifier.get_submodule("features"))  # type: ignore[arg-type]


def _transformers(setting: Setting) -> nn.Module | None:
    import transformers

    if _has_map_below_window(setting):
        return None
    config = _transformers_config(setting, num_labels=1000)
    if setting.config.version == 1:
        return transformers.SwinForImageClassification(config)
    return transformers.Swinv2ForImageClassification(config)


def _transformers_maps(setting: Setting) -> nn.Module | None:
    import transformers

    if _has_map_below_window(setting):
        return None
    stages = [f"stage{stage + 1}" for stage in range(len(setting.config.depths))]
    config = _transformers_config(setting, out_features=stages)
    return transformers.SwinBackbone(config) if setting.config.version == 1 else transformers.Swinv2Backbone(config)


def _has_map_below_window(setting: Setting) -> bool:
    """transformers' V1 then fails: it takes a smaller window, but the bias of the whole one."""
    config = setting.config
    strides = config.stage_strides[-1]
    last = min(-(-side // stride) for side, stride in zip(setting.image_size, strides, strict=True))
    return config.version == 1 and last < config.window_size[0]


def _transformers_config(setting: Setting, **options: Any) -> Any:
    import transformers

    config = setting.config
    fields: dict[str, Any] = {
        "image_size": setting.image_size,
        "patch_size": config.patch_size[0],
        "embed_dim": config.embed_dim,
        "depths": list(config.depths),
        "num_heads": list(config.num_heads),
        "window_size": config.window_size[0],
        "drop_path_rate": config.drop_path_rate,
        **options,
    }
    if config.version == 1:
        return transformers.SwinConfig(**fields)
    return transformers.Swinv2Config(pretrained_window_sizes=list(config.pretrained_window_sizes), **fields)


_BUILDERS: dict[tuple[str, str], Callable[[Setting], nn.Module | None]] = {
    (OURS, "classifier"): _ours,
    (OURS, "features"): _our_maps,
    ("timm", "classifier"): _timm,
    ("timm", "features"): _timm_maps,
    ("torchvision", "classifier"): _torchvision,
    ("torchvision", "features"): _torchvision_maps,
    ("transformers", "classifier"): _transformers,
    ("transformers", "features"): _transformers_maps,
}
