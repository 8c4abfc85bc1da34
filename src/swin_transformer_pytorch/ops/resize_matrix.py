"""Bilinear resizing along one side, as a matrix."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def resize_matrix(length: int, target: int, like: Tensor) -> Float[Tensor, "target length"]:
    """What a row of `length` numbers is multiplied by, to be resized as `F.interpolate` does it (linear, no aligned
    corners); on the device of `like`, in its type but at least float32."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    identity = torch.eye(length, dtype=dtype, device=like.device).unsqueeze(0)
    return F.interpolate(identity, size=target, mode="linear", align_corners=False)[0].t()
