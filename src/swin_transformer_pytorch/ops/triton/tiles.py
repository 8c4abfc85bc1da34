"""What the forward and backward kernels share: where the tokens of a window lie, and its scores.

A tile is a block of queries by a block of keys of one head of one window, in registers. Arguments in capitals are known
when a kernel is compiled. Scores are in units of log 2, for exp2: what adds up to them is multiplied by `LOG2E` first.
"""

from __future__ import annotations

import triton
import triton.language as tl

NUMBERS = ["height", "width", "shift_height", "shift_width", "heads", "windows", "parts"]
"""Arguments of every kernel of which no value is worth a compilation of its own."""

LOG2E = tl.constexpr(1.4426950408889634)
MASKED_SCORE = tl.constexpr(-100.0)  # as in windows.py
SHORTEST = tl.constexpr(1e-12)  # least length of a vector that is normalised, as torch's normalize has it


@triton.jit
def locate(token, window, place):
    """For tokens of a window: row of the flattened (B * H * W) map, whether they are on the map, and their region.

    Two tokens of a window are neighbours in the image if they have the same region: the cyclic shift took both, or
    neither, across each edge. Windows are numbered along the batch's shifted maps. Rows are 64-bit.
    `place` is (height, width, shift height, shift width, WINDOW_HEIGHT, WINDOW_WIDTH), all in tokens.
    """
    height, width, shift_height, shift_width, WINDOW_HEIGHT, WINDOW_WIDTH = place
    windows_down = (height + WINDOW_HEIGHT - 1) // WINDOW_HEIGHT
    windows_across = (width + WINDOW_WIDTH - 1) // WINDOW_WIDTH
    image = window // (windows_down * windows_across)
    y = window // windows_across % windows_down * WINDOW_HEIGHT + token // WINDOW_WIDTH + shift_height
    x = window % windows_across * WINDOW_WIDTH + token % WINDOW_WIDTH + shift_width
    over_bottom = y >= windows_down * WINDOW_HEIGHT
    over_right = x >= windows_across * WINDOW_WIDTH
    y = tl.where(over_bottom, y - windows_down * WINDOW_HEIGHT, y)
    x = tl.where(over_right, x - windows_across * WINDOW_WIDTH, x)
    on_map = (token < WINDOW_HEIGHT * WINDOW_WIDTH) & (y < height) & (x < width)
    region = 2 * over_bottom.to(tl.int32) + over_right.to(tl.int32)
    return (image.to(tl.int64) * height + y) * width + x, on_map, region


@triton.jit
def load_rows(x, row, on_map, stride, column, HEAD_DIM: tl.constexpr, BLOCK_DIM: tl.constexpr):
    """`HEAD_DIM` numbers from `column` on of each row of x; zeros where a token is not on the map."""
    dim = tl.arange(0, BLOCK_DIM)
    mask = on_map[:, None]
    if BLOCK_DIM != HEAD_DIM:
        mask = mask & (dim < HEAD_DIM)[None, :]
    return tl.load(x + row[:, None] * stride + (column + dim)[None, :], mask=mask, other=0.0)


@triton.jit
def load_keys(
    qkv,
    pad_token,
    row,
    on_map,
    padding,
    heads,
    head,
    HEAD_DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Keys and values of a head, with the padding token's where `padding`. `PADDED`: there is such a token."""
    stride = 3 * heads * HEAD_DIM
    k_column, v_column = (heads + head) * HEAD_DIM, (2 * heads + head) * HEAD_DIM
    k = load_rows(qkv, row, on_map, stride, k_column, HEAD_DIM, BLOCK_DIM)
    v = load_rows(qkv, row, on_map, stride, v_column, HEAD_DIM, BLOCK_DIM)
    if PADDED:
        dim = tl.arange(0, BLOCK_DIM)
        k_token = tl.load(pad_token + k_column + dim, mask=dim < HEAD_DIM, other=0.0)
        v_token = tl.load(pad_token + v_column + dim, mask=dim < HEAD_DIM, other=0.0)
        k = tl.where(padding[:, None], k_token[None, :], k)
        v = tl.where(padding[:, None], v_token[None, :], v)
    return k, v


@triton.jit
def load_scale(logit_scale, head, HEAD_DIM: tl.constexpr, COSINE: tl.constexpr):
    """What the products of a head's queries and keys are multiplied by."""
    if COSINE:
        return tl.load(logit_scale + head)
    else:
        return HEAD_DIM**-0.5


@triton.jit
def store_rows(x, values, row, on_map, stride, column, HEAD_DIM: tl.constexpr, BLOCK_DIM: tl.constexpr):
    """The inverse of `load_rows`."""
    dim = tl.arange(0, BLOCK_DIM)
    mask = on_map[:, None]
    if BLOCK_DIM != HEAD_DIM:
        mask = mask & (dim < HEAD_DIM)[None, :]
    tl.store(x + row[:, None] * stride + (column + dim)[None, :], values.to(x.dtype.element_ty), mask=mask)


@triton.jit
def load_bias(bias, head, query, key, TOKENS: tl.constexpr):
    """The bias of a tile, times `LOG2E`; minus infinity for keys beyond the window."""
    inside = (query < TOKENS)[:, None] & (key < TOKENS)[None, :]
    offsets = (head.to(tl.int64) * TOKENS + query[:, None]) * TOKENS + key[None, :]
    tile = tl.load(bias + offsets, mask=inside, other=0.0) * LOG2E
    return tl.where((key < TOKENS)[None, :], tile, float("-inf"))


@triton.jit
def inverse_lengths(x):
    """One over the length of each row, in float32."""
    x = x.to(tl.float32)
    return 1.0 / tl.maximum(tl.sqrt(tl.sum(x * x, axis=1)), SHORTEST)


@triton.jit
def scores(
    q,
    k,
    scale,
    bias,
    q_region,
    k_region,
    SHIFTED: tl.constexpr,
    COSINE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Scores of a tile. The product is of q and k as they are stored: V2's lengths divide it in float32."""
    products = tl.dot(q, tl.trans(k), input_precision=PRECISION)
    if COSINE:
        products = products * inverse_lengths(q)[:, None] * inverse_lengths(k)[None, :]
    products = products * (scale * LOG2E) + bias
    if SHIFTED:
        products = tl.where(q_region[:, None] == k_region[None, :], products, products + MASKED_SCORE * LOG2E)
    return products
