"""Which parameters decay, and how fast each layer learns: AdamW's parameter groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

# The official models' `no_weight_decay_keywords`: bias tables, V2's bias network and score scales, and the token that
# stands for what masked pre-training hides.
NO_DECAY_WORDS = ("relative_position_bias_table", "cpb_mlp", "logit_scale", "mask_token")
# The official dense recipes' rule; V2 has no such recipe, so its words above are added.
DENSE_NO_DECAY_WORDS = ("absolute_pos_embed", "norm", *NO_DECAY_WORDS)


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether weight decay applies: not to norms, biases, bias tables or V2's scales and bias network."""
    return parameter.ndim > 1 and not name.endswith(".bias") and not any(word in name for word in NO_DECAY_WORDS)


def decays_in_dense_models(name: str, parameter: nn.Parameter) -> bool:
    """The official dense recipes' rule, by name alone: biases and the heads' batch norms ("bn") do decay."""
    return not any(word in name for word in DENSE_NO_DECAY_WORDS)


def decays_in_mask_transformer(model: nn.Module) -> Callable[[str, nn.Parameter], bool]:
    """The rule of Mask2Former's authors for this model: neither norms, embeddings nor bias tables decay.

    It goes by the kinds of layers, as some norms are not called so. Other layers' biases do decay, and so do the levels
    of the pixel decoder, which are no embedding there. V2 has no such recipe, so its words are added.
    """
    kinds = (nn.LayerNorm, nn.GroupNorm, nn.Embedding)
    still = {id(one) for part in model.modules() if isinstance(part, kinds) for one in part.parameters(recurse=False)}
    return lambda name, parameter: id(parameter) not in still and not any(word in name for word in NO_DECAY_WORDS)


def layer_index(name: str, depths: Sequence[int]) -> int:
    """Depth of a parameter for layer-wise decay: 0 is the patch embedding, then a layer a block, then norm and head.

    A stage's patch merging counts with the stage's last block, as in the official SimMIM fine-tuning. Names may be
    those of a dense model's "backbone.".
    """
    parts = name.removeprefix("backbone.").split(".")
    if parts[0] == "patch_embed":
        return 0
    if parts[0] != "layers":
        return sum(depths) + 1
    stage = int(parts[1])
    if parts[2] == "blocks":
        return sum(depths[:stage]) + int(parts[3]) + 1
    return sum(depths[: stage + 1])


def parameter_groups(
    model: nn.Module,
    depths: Sequence[int],
    *,
    lr: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    backbone_lr: float = 1.0,
    rule: Callable[[str, nn.Parameter], bool] = decays,
) -> list[dict[str, Any]]:
    """Groups for `torch.optim.AdamW`, each with its own "lr", "weight_decay" and "name", in a fixed order.

    Args:
        model: a Swin model with the official parameter names. Frozen parameters are left out.
        depths: blocks in each stage.
        lr: peak learning rate of the head; a layer k layers before it gets `lr * layer_decay**k`.
        weight_decay: for the parameters that decay.
        layer_decay: in (0, 1]; with 1 there are two groups.
        backbone_lr: what the rates of a dense model's backbone are multiplied by; with 1 it has no groups of its own.
        rule: which parameters decay, by name and parameter.
    """
    last = sum(depths) + 1
    groups: dict[tuple[int, bool, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        layer = layer_index(name, depths) if layer_decay != 1 else last
        own = backbone_lr != 1 and name.startswith("backbone.")
        key = (layer, not own, rule(name, parameter))
        if key not in groups:
            groups[key] = {
                "name": f"{'backbone_' * own}layer{layer}_{'decay' if key[-1] else 'no_decay'}",
                "lr": lr * layer_decay ** (last - layer) * (backbone_lr if own else 1.0),
                "weight_decay": weight_decay if key[-1] else 0.0,
                "params": [],
            }
        groups[key]["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]
