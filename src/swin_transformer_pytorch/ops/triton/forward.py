"""The forward kernel: a program takes one head and one block of queries through its share of the windows."""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import LOG2E, NUMBERS, load_bias, load_keys, load_rows, load_scale, locate, scores, store_rows


@triton.jit(do_not_specialize=NUMBERS)
def forward(
    qkv,
    bias,
    pad_token,
    logit_scale,
    out,
    log_sums,
    height,
    width,
    shift_height,
    shift_width,
    heads,
    windows,
    parts,
    WINDOW_HEIGHT: tl.constexpr,
    WINDOW_WIDTH: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
    SHIFTED: tl.constexpr,
    PADDED: tl.constexpr,
    COSINE: tl.constexpr,
    KEEP_LOG_SUMS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Writes `out`, and `log_sums` if asked for. Program (part, block of queries, head), the last one fastest.

    Windows part, part + parts, ... are its share; a window that fits one block reads its bias once for all of them.
    Over more keys than a block, the softmax is the online one (arXiv 1805.02867).
    """
    TOKENS: tl.constexpr = WINDOW_HEIGHT * WINDOW_WIDTH
    BLOCKS: tl.constexpr = (TOKENS + BLOCK - 1) // BLOCK
    place = (height, width, shift_height, shift_width, WINDOW_HEIGHT, WINDOW_WIDTH)
    program = tl.program_id(0)
    head = program % heads
    query = program // heads % BLOCKS * BLOCK + tl.arange(0, BLOCK)
    stride = 3 * heads * HEAD_DIM
    scale = load_scale(logit_scale, head, HEAD_DIM, COSINE)
    if BLOCKS == 1:
        tile_bias = load_bias(bias, head, query, query, TOKENS)
    for window in range(program // (heads * BLOCKS), windows, parts):
        row, on_map, region = locate(query, window, place)
        q = load_rows(qkv, row, on_map, stride, head * HEAD_DIM, HEAD_DIM, BLOCK_DIM)
        largest = tl.full((BLOCK,), float("-inf"), tl.float32)
        total = tl.zeros((BLOCK,), tl.float32)
        mixed = tl.zeros((BLOCK, BLOCK_DIM), tl.float32)
        for start in range(0, TOKENS, BLOCK):
            if BLOCKS == 1:
                key, k_row, k_on_map, k_region = query, row, on_map, region
            else:
                key = start + tl.arange(0, BLOCK)
                k_row, k_on_map, k_region = locate(key, window, place)
                tile_bias = load_bias(bias, head, query, key, TOKENS)
            padding = (key < TOKENS) & (k_on_map == 0)
            k, v = load_keys(qkv, pad_token, k_row, k_on_map, padding, heads, head, HEAD_DIM, BLOCK_DIM, PADDED)
            s = scores(q, k, scale, tile_bias, region, k_region, SHIFTED, COSINE, PRECISION)
            new_largest = tl.maximum(largest, tl.max(s, axis=1))
            p = tl.exp2(s - new_largest[:, None])
            rescale = tl.exp2(largest - new_largest)
            total = total * rescale + tl.sum(p, axis=1)
            mixed = mixed * rescale[:, None] + tl.dot(p.to(v.dtype), v, input_precision=PRECISION)
            largest = new_largest
        store_rows(out, mixed / total[:, None], row, on_map, heads * HEAD_DIM, head * HEAD_DIM, HEAD_DIM, BLOCK_DIM)
        if KEEP_LOG_SUMS:
            tl.store(log_sums + row * heads + head, (largest + tl.log2(total)) / LOG2E, mask=on_map)
