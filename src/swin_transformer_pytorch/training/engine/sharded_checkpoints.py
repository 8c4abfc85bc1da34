"""Checkpoints whose tensors each device writes its part of, while training goes on: for models that no device holds.

last.ckpt is then a small file that names a folder of `torch.distributed.checkpoint`. It is put in place when the folder
is whole, so a run that is killed meanwhile goes on from the one before.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import distributed
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint import CheckpointException
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor

from ...weights.files import CheckpointError
from ...whole import failure
from .checkpoint_files import FOLDER, LAST, CheckpointFiles, read_training_checkpoint, remove_other_folders
from .ema import WeightAverage
from .processes import from_files_of_first, from_first

_TENSORS = ("state_dict", "ema_state_dict")
_OPTIMIZER, _GROUPS = "optimizer", "optimizer_groups"


@dataclass(frozen=True, kw_only=True)
class _Unfinished:
    """A checkpoint whose folder is being written."""

    written: Future[Any]
    rest: dict[str, Any]
    path: Path

    def wait(self) -> None:
        """Waits until the folder is whole.

        Raises:
            CheckpointError: one of the devices could not write its part.
        """
        try:
            self.written.result()
        except CheckpointException as error:
            whys = dict.fromkeys(failure(why) for why, _ in error.failures.values())
            raise CheckpointError(
                f"{self.path.with_name(self.rest[FOLDER])} cannot be written ({', '.join(whys)}); the checkpoint "
                "before it is whole: make room or mend it, and continue with --resume"
            ) from error


class ShardingStrategy(ModelParallelStrategy):
    """FSDP whose last.ckpt is written in parts, and whose best.ckpt is one file of whole weights.

    The folder must be one that all devices share.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, save_distributed_checkpoint=True)
        self._files = CheckpointFiles()
        self._writers: distributed.ProcessGroup | None = None
        self._unfinished: _Unfinished | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None) -> None:
        path = Path(filepath)
        self.finish()
        if path.name != LAST:
            checkpoint |= {name: whole_tensors(checkpoint[name]) for name in _TENSORS if name in checkpoint}
            if self.global_rank == 0:
                self._files.save_checkpoint(checkpoint, path)
            return
        folder = path.with_name(f"shards-{checkpoint['global_step']:09d}-{checkpoint['epoch']:06d}")
        from_first(lambda: shutil.rmtree(folder, ignore_errors=True))  # of a run that was killed
        (optimizer,) = checkpoint.pop("optimizer_states")
        tensors = {name: checkpoint.pop(name) for name in _TENSORS if name in checkpoint}
        tensors[_OPTIMIZER] = optimizer["state"]
        numbers = [
            {name: value for name, value in one.items() if name != "params"} for one in optimizer["param_groups"]
        ]
        # What is said meanwhile must not meet what training says; and files are written from the CPU.
        if self._writers is None:
            group = distributed.new_group(backend="gloo", timeout=self._timeout)
            self._writers = cast(distributed.ProcessGroup, group)
        written = dcp.async_save(tensors, checkpoint_id=folder, process_group=self._writers)
        # A copy, as training goes on with some of what it is made of.
        rest = copy.deepcopy(checkpoint | {_GROUPS: numbers, FOLDER: folder.name})
        self._unfinished = _Unfinished(written=cast("Future[Any]", written), rest=rest, path=path)

    def poll(self) -> None:
        """Puts the last checkpoint in place if it is whole by now. Any rank may call it at any time."""
        if self._unfinished is not None and self._unfinished.written.done() and self.global_rank == 0:
            self._put_in_place()

    def finish(self) -> None:
        """Waits for the last checkpoint. All ranks must call it together."""
        if self._unfinished is not None:
            self._unfinished.wait()
        self.barrier("checkpoint")  # the first rank's is done when the others' are
        self._put_in_place()
        self.barrier("checkpoint")

    def _put_in_place(self) -> None:
        if self._unfinished is None:
            return
        one, self._unfinished = self._unfinished, None
        if self.global_rank != 0:
            return
        one.wait()
        self._files.save_checkpoint(one.rest, one.path)
        remove_other_folders(one.path.parent)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        path = Path(checkpoint_path)
        checkpoint = from_files_of_first(lambda: read_training_checkpoint(path))
        optimizer = getattr(self.optimizers[0], "_optimizer", self.optimizers[0])
        model = cast(Any, self.model)
        states = get_optimizer_state_dict(model, optimizer)
        tensors: dict[str, Any] = {"state_dict": get_model_state_dict(model), _OPTIMIZER: states["state"]}
        if (decay := self.lightning_module.recipe.trainer.ema_decay) is not None:  # type: ignore[union-attr]
            tensors["ema_state_dict"] = dict(WeightAverage(self.lightning_module.model, decay).mean)  # type: ignore
        dcp.load(tensors, checkpoint_id=path.with_name(checkpoint[FOLDER]))
        set_model_state_dict(model, tensors["state_dict"])
        set_optimizer_state_dict(model, optimizer, optim_state_dict=states)
        for group, numbers in zip(optimizer.param_groups, checkpoint[_GROUPS], strict=True):
            group |= numbers  # rates among them, of which the states have the beginning's
        return checkpoint | {name: tensors[name] for name in ("ema_state_dict",) if name in tensors}


def whole_tensors(state: Mapping[str, Any]) -> dict[str, Any]:
    """Sharded tensors as whole ones on the CPU, on the first process; None in their places on the others. All ranks
    must call it together; a device holds no more than one of them at a time.
    """
    first = distributed.get_rank() == 0
    whole: dict[str, Any] = {}
    for name, tensor in state.items():
        if isinstance(tensor, DTensor):  # Lightning gives them on the CPU, where GPUs' processes do not meet
            tensor = cast(DTensor, tensor.to(tensor.device_mesh.device_type)).full_tensor()
        whole[name] = tensor.detach().to("cpu", copy=True) if first else None
    return whole
