"""The GPU kernel behind the operators: whether it is there, and how its programs are launched.

Triton is imported on the first call on a GPU, never at import: only torch's CUDA builds bring it.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...sizes import Size
from .. import operators

_log = logging.getLogger(__name__)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
HEAD_DIM_MULTIPLE = 8
MAX_HEAD_DIM = 256
MIN_CAPABILITY = (8, 0)  # what Triton supports

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
"""Whether Triton's interpreter runs the kernels, on a CPU and slowly: for tests. Triton decides it once, at import."""

_LARGEST_BLOCK = 64  # tokens of a block: the tiles that the backward pass needs at once then fit the registers
_PROGRAMS = 2048  # about so many share the windows at most: several times what a GPU runs at once
_PART_NUMBERS = 2**24  # at most about so many numbers wait to be summed to the bias's gradient


def why_not(dtype: torch.dtype = torch.float32, head_dim: int = 32) -> str | None:
    """None where maps of that type and heads of that many channels are best left to this kernel; else the reason.

    A reason is also logged, once, so that nobody gets the slower path unawares.
    """
    reason = "TRITON_INTERPRET is set" if INTERPRETED else _missing() or _unsupported(dtype, head_dim)
    if reason is not None:
        _say_once(reason)
    return reason


def can_run() -> bool:
    """Whether the kernel can run here at all: on a GPU, or for tests in Triton's interpreter."""
    return _missing() is None


def describe() -> str:
    """The version that runs here, or what is missing."""
    reason = _missing()
    if reason is not None:
        return f"none: {reason}"
    import triton as compiler

    return f"ready: triton {compiler.__version__}{', interpreted' if INTERPRETED else ''}"


def triton(
    qkv: Tensor, bias: Tensor, window_size: Size, shift_size: Size, pad_token: Tensor | None, logit_scale: Tensor | None
) -> Tensor:
    """See `window_attention`.

    Raises:
        ValueError: the kernel is not for maps of that type or device, for heads of that size, or not to be had here.
    """
    reason = _missing() or _unsupported(qkv.dtype, qkv.shape[-1] // (3 * bias.shape[0]))
    if reason is None and qkv.device.type != ("cpu" if INTERPRETED else "cuda"):
        reason = f"qkv is on {qkv.device}"
    if reason is not None:
        raise ValueError(f"the Triton kernel cannot run: {reason}; force another implementation")
    return operators.call(_OPERATOR, qkv, bias, window_size, shift_size, pad_token, logit_scale)


@functools.cache
def _missing() -> str | None:
    if not INTERPRETED:
        if not torch.cuda.is_available():
            return "no CUDA device"
        if torch.version.hip is not None:
            return "the GPU is an AMD one, which the kernel was not made for"
        capability = min(torch.cuda.get_device_capability(index) for index in range(torch.cuda.device_count()))
        if capability < MIN_CAPABILITY:
            return f"a GPU has compute capability {capability[0]}.{capability[1]}, and Triton needs 8.0"
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed: pip install triton"
    return None if INTERPRETED else _trial()


def _trial() -> str | None:
    """Compiles and runs a small kernel, which takes a C compiler, Python's headers and a driver that fits."""
    try:
        qkv, bias, out = (torch.zeros(shape, device="cuda") for shape in ((1, 1, 1, 24), (1, 1, 1), (1, 1, 1, 8)))
        _forward(operators.Inputs(qkv, bias, (1, 1), (0, 0), None, None), out, torch.zeros(0, device="cuda"))
        torch.cuda.synchronize()
    except Exception as error:  # whatever it is, PyTorch's own operators still work
        return f"triton fails here: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return None


def _unsupported(dtype: torch.dtype, head_dim: int) -> str | None:
    if dtype not in DTYPES:
        return f"qkv is {dtype}, and the kernel takes float32, bfloat16 and float16"
    if head_dim % HEAD_DIM_MULTIPLE or head_dim > MAX_HEAD_DIM:
        return f"head_dim is {head_dim}, and the kernel takes multiples of {HEAD_DIM_MULTIPLE} up to {MAX_HEAD_DIM}"
    return None


@functools.cache
def _say_once(reason: str) -> None:
    _log.warning(
        "window attention on the GPU takes PyTorch's own operators, which are slower than the Triton kernel: %s", reason
    )


def _tiles(tokens: int, head_dim: int, dtype: torch.dtype, *, tensor_cores: bool) -> dict[str, int]:
    """How much of a window of so many tokens a program has at once, so that kernels spill few registers or none.

    A tile is a block of queries by a block of keys, of head_dim rounded up. Without `tensor_cores` a product takes many
    more registers, and one load is under way at a time.
    """
    block_dim = max(16, _power_of_2(head_dim))  # 16: the least side of a tensor core's product
    row_bytes = block_dim * dtype.itemsize
    largest = 64 if row_bytes <= 128 and (tensor_cores or tokens <= 64) else 32 if row_bytes <= 512 else 16
    block = min(max(16, _power_of_2(tokens)), largest, _LARGEST_BLOCK)
    warps = 1 if block == 16 and row_bytes <= 128 else 8 if dtype.itemsize == 4 or row_bytes > 256 else 4
    return {"BLOCK": block, "BLOCK_DIM": block_dim, "num_warps": warps, "num_stages": 2 if tensor_cores else 1}


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What all kernels want to know of a call, and how it is cut into programs.

    Attributes:
        numbers: arguments of every kernel, all but `parts`.
        constants: those known when a kernel is compiled, and how many warps run a program.
        blocks: how many blocks of queries, or of keys, a window has.
    """

    numbers: dict[str, int]
    constants: dict[str, Any]
    blocks: int

    @classmethod
    def of(cls, inputs: operators.Inputs) -> _Work:
        qkv, window_size = inputs.qkv, inputs.window_size
        batch, height, width, channels = qkv.shape
        heads, tokens = inputs.bias.shape[:2]
        head_dim = channels // (3 * heads)
        padded = bool(height % window_size[0] or width % window_size[1])
        tf32 = qkv.dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32"
        tiles = _tiles(tokens, head_dim, qkv.dtype, tensor_cores=tf32 or qkv.dtype != torch.float32)
        return cls(
            numbers={
                "height": height,
                "width": width,
                "shift_height": inputs.shift_size[0],
                "shift_width": inputs.shift_size[1],
                "heads": heads,
                "windows": batch * -(-height // window_size[0]) * -(-width // window_size[1]),
            },
            constants={
                "WINDOW_HEIGHT": window_size[0],
                "WINDOW_WIDTH": window_size[1],
                "HEAD_DIM": head_dim,
                "SHIFTED": any(inputs.shift_size),
                "PADDED": padded and inputs.pad_token is not None,
                "COSINE": inputs.logit_scale is not None,
                "PRECISION": "tf32" if tf32 else "ieee",
                **tiles,
            },
            blocks=-(-tokens // tiles["BLOCK"]),
        )

    def parts(self, tiles: int) -> int:
        """Into how many parts the windows are divided where each has `tiles` programs. It depends on sizes alone."""
        return min(self.numbers["windows"], -(-_PROGRAMS // tiles))


def _power_of_2(least: int) -> int:
    return 1 << (least - 1).bit_length()


def _launch(kernel: Any, work: _Work, programs: int, parts: int, **arguments: Any) -> None:
    device_of = next(tensor for tensor in arguments.values() if tensor is not None)
    with torch.cuda.device_of(device_of):
        kernel[(programs,)](**arguments, **work.numbers, parts=parts, **work.constants)


def _forward(inputs: operators.Inputs, out: Tensor, log_sums: Tensor) -> None:
    from .forward import forward

    work = _Work.of(inputs)
    work.constants["KEEP_LOG_SUMS"] = log_sums.numel() > 0
    tiles = inputs.bias.shape[0] * work.blocks
    parts = work.parts(tiles)
    _launch(forward, work, parts * tiles, parts, **inputs.tensors, out=out, log_sums=log_sums)


def _backward(inputs: operators.Inputs, log_sums: Tensor, grad_out: Tensor, results: operators.Gradients) -> None:
    from . import backward

    grad_qkv, grad_bias, grad_pad, grad_scale = results
    work, bias = _Work.of(inputs), inputs.bias
    heads, blocks = bias.shape[0], work.blocks
    tensors = {"grad_out": grad_out, **inputs.tensors, "log_sums": log_sums}
    # What all windows share is summed in parts; a part has one place for each program that adds to it.
    parts = work.parts(heads * blocks)
    bias_parts = parts if blocks == 1 else max(1, min(work.parts(heads * blocks**2), _PART_NUMBERS // bias.numel()))
    bias_sums = bias.new_empty(bias_parts, *bias.shape)
    scale_sums = bias.new_empty(parts * blocks, grad_scale.numel())
    pad_sums = bias.new_zeros(parts * blocks, grad_pad.numel())
    if blocks == 1:
        grads = {"grad_qkv": grad_qkv, "grad_bias": bias_sums, "grad_pad": pad_sums, "grad_scale": scale_sums}
        _launch(backward.window_backward, work, parts * heads, parts, **tensors, **grads)
    else:
        tensors["deltas"] = torch.empty_like(log_sums)
        programs = parts * blocks * heads
        _launch(backward.queries_backward, work, programs, parts, **tensors, grad_qkv=grad_qkv, grad_scale=scale_sums)
        _launch(backward.keys_backward, work, programs, parts, **tensors, grad_qkv=grad_qkv, grad_pad=pad_sums)
        programs = bias_parts * blocks**2 * heads
        _launch(backward.bias_backward, work, programs, bias_parts, **tensors, grad_bias=bias_sums)
    torch.sum(bias_sums, 0, out=grad_bias)
    torch.sum(pad_sums, 0, out=grad_pad)
    torch.sum(scale_sums, 0, out=grad_scale)


operators.register(operators.OPERATOR, "CUDA", _forward, _backward)
if INTERPRETED:
    _OPERATOR = f"{operators.OPERATOR}_interpreted"
    operators.declare(_OPERATOR)
    operators.register(_OPERATOR, "CPU", _forward, _backward)
else:
    _OPERATOR = operators.OPERATOR
