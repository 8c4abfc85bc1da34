"""Window attention alone, for benchmarks/gpu.py: whether it is right, and how fast, beside PyTorch's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from gpu_measure import Figure, Step, Tell, measure
from swin_transformer_pytorch.ops import force_implementation, merge, pad_map, partition, shift_mask, window_attention
from swin_transformer_pytorch.ops.triton import kernel


@dataclass(frozen=True, kw_only=True)
class Attention:
    """One call of the op, as a block of a Swin makes it.

    Attributes:
        flex: whether it is compared with PyTorch's flex_attention, whose compiling takes long.
    """

    name: str
    map_size: tuple[int, int]
    heads: int
    window_size: tuple[int, int]
    shift_size: tuple[int, int]
    v2: bool = False
    head_dim: int = 32
    flex: bool = False

    @property
    def tokens(self) -> int:
        """Of a window."""
        return self.window_size[0] * self.window_size[1]

    def shrunken(self) -> Attention:
        """Of the same kind, with a head and a few windows."""
        window = (min(self.window_size[0], 4), min(self.window_size[1], 4))
        shift = (window[0] // 2, window[1] // 2)
        return dataclasses.replace(self, map_size=(7, 6), heads=1, head_dim=8, window_size=window, shift_size=shift)

    def bytes_moved(self, batch_size: int, dtype: torch.dtype, *, training: bool) -> int:
        """That have to be read and written, each once: the map's channels, thrice in and once out, and the bias."""
        tokens = batch_size * self.map_size[0] * self.map_size[1]
        channels, biases = self.heads * self.head_dim, 4 * self.heads * self.tokens**2
        forward = 4 * tokens * channels * dtype.itemsize + biases
        if not training:
            return forward
        # Backward: the same maps read and the gradients of qkv written; sums of each row and head kept and read.
        return forward + 7 * tokens * channels * dtype.itemsize + 2 * biases + 8 * tokens * self.heads


ATTENTIONS = (
    Attention(name="Swin-T stage 1", map_size=(56, 56), heads=3, window_size=(7, 7), shift_size=(3, 3), flex=True),
    Attention(name="Swin-T stage 3", map_size=(14, 14), heads=12, window_size=(7, 7), shift_size=(3, 3)),
    Attention(name="window 12, stage 1", map_size=(96, 96), heads=4, window_size=(12, 12), shift_size=(6, 6)),
    Attention(name="V2, window 8, stage 1", map_size=(64, 64), heads=3, window_size=(8, 8), shift_size=(4, 4), v2=True),
    Attention(
        name="V2, window 16, stage 1",
        map_size=(64, 64),
        heads=3,
        window_size=(16, 16),
        shift_size=(8, 8),
        v2=True,
        flex=True,
    ),
    Attention(name="padded, 200x334", map_size=(200, 334), heads=3, window_size=(7, 7), shift_size=(3, 3)),
)

_CHECKED = (
    Attention(name="padded, shifted", map_size=(20, 23), heads=3, window_size=(7, 7), shift_size=(3, 3)),
    Attention(name="whole windows", map_size=(16, 24), heads=2, window_size=(8, 8), shift_size=(0, 0)),
    Attention(name="window 16, padded", map_size=(24, 40), heads=2, window_size=(16, 16), shift_size=(8, 8)),
)
# Of the result, and of gradients over (their largest value + 1): several times what the tests ask in the interpreter.
_BOUNDS = {torch.float32: 3e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}


def tensors_of(
    case: Attention, batch_size: int, dtype: torch.dtype, device: torch.device, seed: int = 0
) -> dict[str, Tensor]:
    """Random ones; the map and the padding's token in `dtype`, the others in float32."""
    generator = torch.Generator().manual_seed(seed)
    width = 3 * case.heads * case.head_dim

    def random(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    tensors = {
        "qkv": random(batch_size, *case.map_size, width, dtype=dtype),
        "bias": random(case.heads, case.tokens, case.tokens),
        "pad_token": random(width),
    }
    if case.v2:
        tensors["logit_scale"] = 10 * torch.ones(case.heads, device=device)
    return tensors


def check(dtype: torch.dtype, device: torch.device, tell: Tell, *, shrink: bool = False) -> list[Figure]:
    """The kernel's result and every gradient against the reference in float64, and against itself, to the bit."""
    figures: list[Figure] = []
    for v2 in (False, True):
        for case in _CHECKED:
            case = dataclasses.replace(case.shrunken() if shrink else case, v2=v2)
            what = {"subject": f"{case.name}{', V2' * v2}", "mode": "right?", "dtype": _name(dtype), "batch_size": 2}
            try:
                worst, where = _difference(case, dtype, device)
            except Exception as error:
                reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
                figures.append(Figure(**what, way="triton", failure=reason[:200]))
            else:
                bad = None if worst <= _BOUNDS[dtype] else f"WRONG: {where} differs by {worst:.1e}"
                note = f"at most {worst:.1e}, {where}; the same bits twice"
                figures.append(Figure(**what, way="triton", note=note, failure=bad))
            tell(figures)
    return figures


def _difference(case: Attention, dtype: torch.dtype, device: torch.device) -> tuple[float, str]:
    tensors = tensors_of(case, 2, dtype, device)
    wide = {name: tensor.cpu().double() for name, tensor in tensors.items()}
    expected = _answers("reference", case, wide)
    got, again = (_answers("triton", case, tensors) for _ in range(2))
    for name, tensor in got.items():
        if not torch.equal(tensor, again[name]):
            raise AssertionError(f"WRONG: {name} has other bits in the second run")
    differences = {
        name: ((got[name].cpu().double() - tensor).abs().max() / (1 + (tensor.abs().max() if name != "out" else 0)))
        for name, tensor in expected.items()
    }
    where = max(differences, key=lambda name: float(differences[name]))
    return float(differences[where]), where


def _answers(implementation: str, case: Attention, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    leaves = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    out = _ours(case, implementation)(**leaves)
    upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(out.device, out.dtype)
    grads = torch.autograd.grad(out, [*leaves.values()], upstream, allow_unused=True)
    # Nothing is padded where windows are whole.
    known = {name: grad for name, grad in zip(leaves, grads, strict=True) if grad is not None}
    return {"out": out.detach(), **known}


def measure_attention(
    case: Attention,
    batch_size: int,
    dtype: torch.dtype,
    device: torch.device,
    rounds: int,
    ways: list[str],
    tell: Tell = lambda figures: None,
    *,
    copy_rate: float | None = None,
) -> list[Figure]:
    """The op alone, forward without gradients, and forward and backward."""
    tensors = tensors_of(case, batch_size, dtype, device)
    upstream = torch.randn(batch_size, *case.map_size, case.heads * case.head_dim).to(device, dtype)

    def build(way: str, training: bool) -> Step:
        run = _flex(case, device) if way == "flex_attention" else _ours(case, way)
        inputs = {name: tensor.clone().requires_grad_(training) for name, tensor in tensors.items()}
        leaves = list(inputs.values())

        def step() -> object:
            with torch.set_grad_enabled(training):
                out = run(**inputs)
                return torch.autograd.grad(out, leaves, upstream, allow_unused=True) if training else out

        return step

    figures: list[Figure] = []
    for training in (False, True):
        before = [*figures]
        figures = before + measure(
            {way: partial(build, way, training) for way in ways},
            device,
            rounds,
            lambda found, before=before: tell(before + found),
            bytes_moved=case.bytes_moved(batch_size, dtype, training=training),
            copy_rate=copy_rate,
            subject=case.name,
            mode="forward and backward" if training else "forward",
            dtype=_name(dtype),
            batch_size=batch_size,
        )
        tell(figures)
    return figures


def sweep(
    case: Attention, batch_size: int, device: torch.device, rounds: int, tell: Tell, warps: tuple[int, ...]
) -> list[Figure]:
    """The kernels in bfloat16 with other numbers of warps and stages than they choose: where to look when slow."""
    chosen = kernel._tiles(case.tokens, case.head_dim, torch.bfloat16, tensor_cores=True)
    figures: list[Figure] = []
    for block in (chosen["BLOCK"], chosen["BLOCK"] // 2):
        for num_warps in warps:
            for stages in (1, 2, 3):
                tiles = {**chosen, "BLOCK": max(16, block), "num_warps": num_warps, "num_stages": stages}
                with _tiles(tiles):
                    found = measure_attention(case, batch_size, torch.bfloat16, device, rounds, ["triton"])
                way = f"block {tiles['BLOCK']}, {num_warps} warps, {stages} stages{' (as chosen)' * (tiles == chosen)}"
                figures += [dataclasses.replace(figure, way=way, ratio=None) for figure in found]
                tell(figures)
    return figures


@contextmanager
def _tiles(tiles: dict[str, int]) -> Iterator[None]:
    before = kernel._tiles
    kernel._tiles = lambda *_, **__: tiles
    try:
        yield
    finally:
        kernel._tiles = before


def _ours(case: Attention, implementation: str) -> Callable[..., Tensor]:
    def run(**tensors: Tensor) -> Tensor:
        with force_implementation(implementation):
            return window_attention(**tensors, window_size=case.window_size, shift_size=case.shift_size)

    return run


def _flex(case: Attention, device: torch.device) -> Callable[..., Tensor]:
    """PyTorch's flex_attention, with the partition around it, compiled as one: bias and mask change the scores."""
    from torch.nn.attention.flex_attention import flex_attention

    padded = [-(-side // window) * window for side, window in zip(case.map_size, case.window_size, strict=True)]
    padded_size = (padded[0], padded[1])
    mask = shift_mask(padded_size, case.window_size, case.shift_size, device=device, dtype=torch.float32)

    def run(qkv: Tensor, bias: Tensor, pad_token: Tensor, logit_scale: Tensor | None = None) -> Tensor:
        def score(value: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return value + bias[head, query, key] + mask[batch % mask.shape[0], query, key]

        token = pad_token.to(qkv.dtype)
        x = pad_map(qkv - token, case.window_size) + token
        x = partition(x.roll([-side for side in case.shift_size], (1, 2)), case.window_size)
        q, k, v = x.reshape(-1, case.tokens, 3, case.heads, case.head_dim).permute(2, 0, 3, 1, 4).unbind()
        scale = None
        if logit_scale is not None:
            q = (F.normalize(q.float(), dim=-1) * logit_scale[:, None, None]).to(qkv.dtype)
            k, scale = F.normalize(k.float(), dim=-1).to(qkv.dtype), 1.0
        out: Any = flex_attention(q, k, v, score_mod=score, scale=scale)
        out = out.transpose(1, 2).reshape(qkv.shape[0], -1, case.tokens, qkv.shape[3] // 3)
        out = merge(out, padded_size, case.window_size).roll(case.shift_size, (1, 2))
        return out[:, : qkv.shape[1], : qkv.shape[2]]

    return torch.compile(run, dynamic=False)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
