"""How several devices share the work."""

from __future__ import annotations

from typing import Any, cast

from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard

from ..models.classification import SwinClassifier
from .recipe import TrainerRecipe


def choose_strategy(recipe: TrainerRecipe) -> Any:
    """Lightning's strategy for a recipe."""
    from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy

    if recipe.strategy == "fsdp":
        # Checkpoints are one file with whole tensors, which any number of devices, or `swin predict`, can read.
        return ModelParallelStrategy(
            data_parallel_size=recipe.devices, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    if recipe.strategy == "auto" and recipe.devices == 1:
        return "auto"
    return DDPStrategy()


def shard(model: SwinClassifier, mesh: DeviceMesh) -> None:
    """Spreads the parameters over the devices of `mesh`, in place; each block is gathered only while it computes."""
    for stage in model.layers:
        for block in cast(Any, stage).blocks:
            fully_shard(block, mesh=mesh)
    # The outermost module would stay gathered after a validation, and miss what is then written to its parameters.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
