"""Whether a checkpoint holds as much as the model that it describes, asked before anything of that size is made."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from ..backbone.config import ConfigError, SwinConfig
from ..weights.checkpoint import Checkpoint
from ..weights.files import CheckpointError
from ..weights.formats.dense import BACKBONE
from ..weights.formats.official import depths_of
from .config import ModelConfig

# Batch norms' statistics, which are no parameters.
_STATISTICS = (".running_mean", ".running_var", ".num_batches_tracked")


def count_parameters(build: Callable[[], nn.Module]) -> int:
    """Those of what `build` makes, counted on the meta device, where tensors of any size take no memory."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())


def check_size(checkpoint: Checkpoint, config: ModelConfig, build: Callable[[], nn.Module]) -> None:
    """Counts what `build` makes of the described config.

    Modules do take some, so the file's own names first bound how many blocks there can be.

    Raises:
        CheckpointError: the file holds another number of blocks or parameters, or nothing of that config can be built.
    """
    source, held = checkpoint.source, checkpoint.state_dict
    backbone = config if isinstance(config, SwinConfig) else config.backbone
    depths = depths_of(key.removeprefix(BACKBONE) for key in held)
    if backbone.depths != depths:
        raise CheckpointError(f"{source} describes depths={backbone.depths} and holds depths={depths}: save it again")
    numbers = sum(tensor.numel() for key, tensor in held.items() if not key.endswith(_STATISTICS))
    try:
        described = count_parameters(build)
    except ConfigError as error:
        raise CheckpointError(f"{source} describes a model that cannot be built: {error}") from error
    except (RuntimeError, OverflowError, TypeError):  # a tensor of more bytes than 64 bits can count
        described = 0
    if described != numbers:
        shown = f"{described:,}" if described else "over 10^18"
        raise CheckpointError(f"{source} describes a model of {shown} parameters and holds {numbers:,}: save it again")
