"""The one function that Swin's speed hangs on, and the one place that chooses how it is computed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from ..sizes import Size
from .cpu import choice as cpu_choice
from .cpu import kernel as cpu_kernel
from .cpu import library as cpu_library
from .cpu import prebuilt as cpu_prebuilt
from .matmul import matmul
from .plain import is_transformed
from .reference import reference
from .sdpa import sdpa
from .tracing import constant_when_traced
from .triton import kernel as triton_kernel

_IMPLEMENTATIONS: dict[str, Callable[[Tensor, Tensor, Size, Size, Tensor | None, Tensor | None], Tensor]] = {
    "reference": reference,
    "sdpa": sdpa,
    "matmul": matmul,
    "cpu": cpu_kernel.cpu,
    "triton": triton_kernel.triton,
}
_forced: str | None = os.environ.get("SWIN_ATTENTION") or None


def available_implementations() -> tuple[str, ...]:
    """Names that `force_implementation` takes, on this machine: the kernels are there if they can run."""
    kernels = {"cpu": _cpu_kernel_is_ready, "triton": triton_kernel.can_run}
    return tuple(name for name in _IMPLEMENTATIONS if name not in kernels or kernels[name]())


@contextmanager
def force_implementation(name: str) -> Iterator[None]:
    """Inside this context every `window_attention` uses the implementation of that name, for tests and comparisons.

    The environment variable `SWIN_ATTENTION` does the same for a whole process.
    """
    _check_name(name)
    global _forced
    previous, _forced = _forced, name
    try:
        yield
    finally:
        _forced = previous


def choose_implementation(
    device: str, *, training: bool, dtype: torch.dtype = torch.float32, head_dim: int = 32
) -> str:
    """The implementation that `window_attention` uses: the fastest measured (see `benchmarks/`), unless one is forced.

    `training` is whether a gradient is wanted. A portable exported graph always holds the reference, a graph of
    `torch.jit.trace` too, and `torch.func` and forward-mode differentiation go through it: it alone knows them all.
    """
    if torch.compiler.is_exporting() or is_transformed():
        return "reference"
    if _forced is not None:
        return _check_name(_forced)
    if device == "cuda" and _triton_takes(dtype, head_dim):
        return "triton"
    if device != "cpu":
        return "sdpa"
    if cpu_kernel.supports(dtype, head_dim) and _cpu_kernel_is_ready():
        return "cpu"
    return "matmul" if training else "sdpa"


def describe_kernels(*, build: bool = False) -> dict[str, str]:
    """Each fused kernel with where it lies, or why it is not there.

    Args:
        build: build the CPU's anew, whatever an earlier try came to, unless they came with the installation. A
            process that has already asked keeps its answer. The GPU's is compiled by Triton, for each shape on its
            first use.
    """
    try:
        library = cpu_library.find(again=build)
    except cpu_library.KernelBuildError as error:
        cpu = products = f"none: {error}"
    else:
        origin = "built ahead" if library.parent == cpu_prebuilt.FOLDER else "built here"
        cpu = f"ready, for {cpu_kernel.TAKES}: {origin}, {library}"
        products = cpu_choice.describe()
    return {"cpu": cpu, "cpu products": products, "triton": triton_kernel.describe()}


@constant_when_traced  # what is traced may depend on it, but not on how it is found out
def _cpu_kernel_is_ready() -> bool:
    return cpu_library.why_not() is None


@constant_when_traced
def _triton_takes(dtype: torch.dtype, head_dim: int) -> bool:
    return triton_kernel.why_not(dtype, head_dim) is None


def _check_name(name: str) -> str:
    if name not in _IMPLEMENTATIONS:
        raise ValueError(f"no attention implementation {name!r}; there are: {', '.join(_IMPLEMENTATIONS)}")
    return name


def window_attention(
    qkv: Float[Tensor, "B H W qkv"],
    bias: Float[Tensor, "heads N N"],
    *,
    window_size: Size,
    shift_size: Size,
    pad_token: Float[Tensor, " qkv"] | None = None,
    logit_scale: Float[Tensor, " heads"] | None = None,
) -> Float[Tensor, "B H W C"]:
    """Multi-head self-attention inside shifted windows (arXiv 2103.14030, section 3.2), from map to map.

    The map is padded right and bottom to whole windows, shifted cyclically up and left, and cut into windows of N
    tokens; inside each, scores + bias + shift mask go through a softmax and weight the values; the result is put back
    to where its tokens were.

    Args:
        qkv: the projected map in its natural layout, any H and W of at least 1; (3, heads, head_dim) in the last axis.
        bias: relative position bias, N = window height * window width. Has a gradient.
        window_size: (height, width) in tokens.
        shift_size: (height, width) in tokens, each from 0 to less than the window's.
        pad_token: what every token beyond the map is: the projection's bias (V2: its key part is zero); zeros if None.
            Padding takes part in the attention, as in the official code. Has a gradient.
        logit_scale: None for scores q.k / sqrt(head_dim) (V1). Given, q and k are normalised in float32 and their
            product multiplied by it (V2: arXiv 2111.09883, section 3.2).

    Raises:
        ValueError: if the shapes do not fit together; the message says which.
    """
    if not torch.jit.is_tracing():  # whose sizes are tensors
        _check(qkv, bias, window_size, shift_size, pad_token, logit_scale)
    device = qkv.device.type
    training = torch.is_grad_enabled() and (qkv.requires_grad or bias.requires_grad)
    head_dim = qkv.shape[-1] // (3 * bias.shape[0])
    implementation = _IMPLEMENTATIONS[
        choose_implementation(device, training=training, dtype=qkv.dtype, head_dim=head_dim)
    ]
    # The op decides its own precision: autocast would round the scores.
    with without_autocast(device):
        return implementation(qkv, bias, window_size, shift_size, pad_token, logit_scale)


def without_autocast(device: str) -> AbstractContextManager[object]:
    """Inside this context, autocast rounds nothing on devices of that type; some (meta) have none to switch off."""
    enabled = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if enabled else nullcontext()


def _check(
    qkv: Tensor, bias: Tensor, window_size: Size, shift_size: Size, pad_token: Tensor | None, logit_scale: Tensor | None
) -> None:
    heads, tokens, keys = bias.shape
    if not tokens == keys == window_size[0] * window_size[1]:
        raise ValueError(
            f"bias is {tuple(bias.shape)}, but window_size={window_size} needs (heads, N, N) with "
            f"N={window_size[0] * window_size[1]}"
        )
    if qkv.shape[-1] % (3 * heads):
        raise ValueError(f"qkv has {qkv.shape[-1]} channels, which is not 3 * {heads} heads * head_dim")
    if not (0 <= shift_size[0] < window_size[0] and 0 <= shift_size[1] < window_size[1]):
        raise ValueError(f"shift_size={shift_size} must be at least 0 and less than window_size={window_size}")
    if pad_token is not None and pad_token.shape != qkv.shape[-1:]:
        raise ValueError(f"pad_token is {tuple(pad_token.shape)}; it must be one token of qkv, ({qkv.shape[-1]},)")
    if logit_scale is not None and logit_scale.shape != (heads,):
        raise ValueError(f"logit_scale is {tuple(logit_scale.shape)}; it must be one number a head, ({heads},)")
