"""How several devices share the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from ...models.masked import MaskedSwin
from ..recipes.parts import TrainerRecipe
from .processes import time_limit


def choose_strategy(recipe: TrainerRecipe) -> Any:
    """Lightning's strategy for a recipe."""
    from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

    limit = time_limit(recipe)
    if recipe.shards:
        # The mesh is Lightning's, whose second side we use for FSDP too.
        replicas, shards = (recipe.num_nodes, recipe.devices) if recipe.strategy == "hsdp" else (recipe.world_size, 1)
        mesh: dict[str, Any] = {"data_parallel_size": replicas, "tensor_parallel_size": shards, "timeout": limit}
        if recipe.checkpoints == "sharded":
            from .sharded_checkpoints import ShardingStrategy

            return ShardingStrategy(**mesh)
        # Checkpoints are one file with whole tensors, which any number of devices, or `swin predict`, can read.
        return ModelParallelStrategy(**mesh, save_distributed_checkpoint=False)
    if recipe.strategy == "auto" and recipe.world_size == 1:
        return "auto"
    return DDPStrategy(timeout=limit)


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Spreads the parameters over the devices of `mesh`, in place; each block is gathered only while it computes.

    Args:
        model: a classifier, or a dense model with a `backbone` and a method `losses`.
        mesh: the devices; of two sides, the first are copies, and the second share the parameters.
    """
    backbone = cast(Any, getattr(model, "backbone", model))
    for stage in backbone.layers:
        for block in stage.blocks:
            fully_shard(block, mesh=mesh)
    # The outermost module would stay gathered after a validation, and miss what is then written to its parameters.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    if hasattr(model, "losses"):
        register_fsdp_forward_method(model, "losses")


def compile_model(model: nn.Module) -> None:
    """Has a classifier or a dense model's backbone be compiled by `torch.compile` at its first forward, in place.

    Of a sharded model each block by itself, as between blocks parameters come and go; likewise of one of masked
    pre-training, which is not called as a whole for its losses.
    """
    backbone = cast(Any, getattr(model, "backbone", model))
    by_block = isinstance(model, FSDPModule | MaskedSwin)
    for part in [block for stage in backbone.layers for block in stage.blocks] if by_block else [backbone]:
        part.compile()


@contextmanager
def gathered(model: nn.Module) -> Iterator[None]:
    """Inside, each device has all of a sharded model's parameters, as they are at the beginning.

    So no forward waits for other devices, which may have fewer images, or call the model once for each size of them.
    """
    parts = [part for part in model.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            part.set_reshard_after_forward(True, recurse=False)


def with_shared_batch_norms(model: nn.Module, device: str, devices: int) -> nn.Module:
    """On several GPUs, batch norms take their statistics from all of them, as the official code does."""
    return nn.SyncBatchNorm.convert_sync_batchnorm(model) if device == "cuda" and devices > 1 else model
