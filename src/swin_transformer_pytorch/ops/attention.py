"""The one function that Swin's speed hangs on, and the one place that chooses how it is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from .matmul import matmul
from .reference import reference
from .sdpa import sdpa
from .windows import Pair

_IMPLEMENTATIONS: dict[str, Callable[[Tensor, Tensor, Pair, Pair, Tensor | None, Tensor | None], Tensor]] = {
    "reference": reference,
    "sdpa": sdpa,
    "matmul": matmul,
}
_forced: str | None = None


def available_implementations() -> tuple[str, ...]:
    """Names that `force_implementation` takes, on this machine."""
    return tuple(_IMPLEMENTATIONS)


@contextmanager
def force_implementation(name: str) -> Iterator[None]:
    """Inside this context every `window_attention` uses the implementation of that name, for tests and comparisons."""
    if name not in _IMPLEMENTATIONS:
        raise ValueError(f"no attention implementation {name!r}; there are: {', '.join(_IMPLEMENTATIONS)}")
    global _forced
    previous, _forced = _forced, name
    try:
        yield
    finally:
        _forced = previous


def choose_implementation(device: str, *, training: bool) -> str:
    """The implementation that `window_attention` uses: the fastest measured (see `benchmarks/`), unless one is forced.

    `training` is whether a gradient is wanted. A portable exported graph always holds the reference.
    """
    if torch.compiler.is_exporting():
        return "reference"
    if _forced is not None:
        return _forced
    return "matmul" if training and device == "cpu" else "sdpa"


def window_attention(
    qkv: Float[Tensor, "B H W qkv"],
    bias: Float[Tensor, "heads N N"],
    *,
    window_size: Pair,
    shift_size: Pair,
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
    _check(qkv, bias, window_size, shift_size, pad_token, logit_scale)
    device = qkv.device.type
    training = torch.is_grad_enabled() and (qkv.requires_grad or bias.requires_grad)
    implementation = _IMPLEMENTATIONS[choose_implementation(device, training=training)]
    # The op decides its own precision: autocast would round the scores.
    with without_autocast(device):
        return implementation(qkv, bias, window_size, shift_size, pad_token, logit_scale)


def without_autocast(device: str) -> AbstractContextManager[object]:
    """Inside this context, autocast rounds nothing on devices of that type; some (meta) have none to switch off."""
    enabled = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
    return torch.autocast(device, enabled=False) if enabled else nullcontext()


def _check(
    qkv: Tensor, bias: Tensor, window_size: Pair, shift_size: Pair, pad_token: Tensor | None, logit_scale: Tensor | None
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
