"""Room for a whole batch, so that images are made where they will lie."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float32
from torch import Tensor
from torch.utils.data import get_worker_info


def empty_batch(*shape: int) -> Float32[Tensor, ...]:
    """Numbers yet to be written; in a worker process of a DataLoader in memory that is shared with the one it works
    for, to which it then goes without a copy.
    """
    if get_worker_info() is None or 0 in shape:
        return torch.empty(shape, dtype=torch.float32)
    room = torch.UntypedStorage._new_shared(4 * math.prod(shape), device="cpu")
    return torch.empty(0, dtype=torch.float32).set_(room, 0, shape, torch.empty(shape, device="meta").stride())
