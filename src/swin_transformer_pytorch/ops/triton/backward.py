"""The backward kernels. Scores are computed anew from the forward pass's logarithms of sums.

A window of one block is one kernel's work. Larger ones take three, each looping over what it sums: `queries_backward`
has a block of queries and loops over keys, `keys_backward` the other way round, `bias_backward` has one tile. Every
program goes through a fixed share of the windows and adds up what all windows share (the gradients of bias, padding
token and logit scale) in registers, to be written to a place of its own: no two programs ever write to one place, so
that a sum has the same bits whatever ran first.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .tiles import (
    LOG2E,
    NUMBERS,
    SHORTEST,
    inverse_lengths,
    load_bias,
    load_keys,
    load_rows,
    load_scale,
    locate,
    scores,
    store_rows,
)


@triton.jit
def _load_queries(qkv, grad_out, log_sums, row, on_map, heads, head, HEAD_DIM: tl.constexpr, BLOCK_DIM: tl.constexpr):
    """Queries of a head, the gradient of what they got, and the logarithms of sums.

    These are in units of log 2, and infinite for queries beyond the map, whose probabilities so become zero.
    """
    column = head * HEAD_DIM
    q = load_rows(qkv, row, on_map, 3 * heads * HEAD_DIM, column, HEAD_DIM, BLOCK_DIM)
    do = load_rows(grad_out, row, on_map, heads * HEAD_DIM, column, HEAD_DIM, BLOCK_DIM)
    return q, do, tl.load(log_sums + row * heads + head, mask=on_map, other=float("inf")) * LOG2E


@triton.jit
def _direction(x, COSINE: tl.constexpr):
    """x as the other side of the product saw it: of length 1 in V2."""
    if COSINE:
        return (x.to(tl.float32) * inverse_lengths(x)[:, None]).to(x.dtype)
    else:
        return x


@triton.jit
def _through_length(x, grad):
    """The gradient of x from that of x / max(length of x, `SHORTEST`), which does not change the length."""
    inverse = inverse_lengths(x)
    unit = x.to(tl.float32) * inverse[:, None]
    along = tl.where(inverse < 1.0 / SHORTEST, tl.sum(unit * grad, axis=1), 0.0)
    return inverse[:, None] * (grad - unit * along[:, None])


@triton.jit
def _store_bias_part(grad_bias, tile, part, heads, head, query, key, TOKENS: tl.constexpr):
    inside = (query < TOKENS)[:, None] & (key < TOKENS)[None, :]
    offsets = ((part.to(tl.int64) * heads + head) * TOKENS + query[:, None]) * TOKENS + key[None, :]
    tl.store(grad_bias + offsets, tile, mask=inside)


@triton.jit
def _store_padding_part(grad_pad, total, part, stride, column, HEAD_DIM: tl.constexpr, BLOCK_DIM: tl.constexpr):
    dim = tl.arange(0, BLOCK_DIM)
    tl.store(grad_pad + part * stride + column + dim, total, mask=dim < HEAD_DIM)


@triton.jit(do_not_specialize=NUMBERS)
def window_backward(
    grad_out,
    qkv,
    bias,
    pad_token,
    logit_scale,
    log_sums,
    grad_qkv,
    grad_bias,
    grad_pad,
    grad_scale,
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
    PRECISION: tl.constexpr,
):
    """Every gradient, of windows that fit one block. Program (part, head)."""
    TOKENS: tl.constexpr = WINDOW_HEIGHT * WINDOW_WIDTH
    place = (height, width, shift_height, shift_width, WINDOW_HEIGHT, WINDOW_WIDTH)
    part, head = tl.program_id(0) // heads, tl.program_id(0) % heads
    token = tl.arange(0, BLOCK)
    stride = 3 * heads * HEAD_DIM
    q_column, k_column, v_column = head * HEAD_DIM, (heads + head) * HEAD_DIM, (2 * heads + head) * HEAD_DIM
    scale = load_scale(logit_scale, head, HEAD_DIM, COSINE)
    tile_bias = load_bias(bias, head, token, token, TOKENS)
    bias_total = tl.zeros((BLOCK, BLOCK), tl.float32)
    scale_total = tl.zeros((BLOCK,), tl.float32)
    k_total = tl.zeros((BLOCK_DIM,), tl.float32)
    v_total = tl.zeros((BLOCK_DIM,), tl.float32)
    for window in range(part, windows, parts):
        row, on_map, region = locate(token, window, place)
        padding = (token < TOKENS) & (on_map == 0)
        q, do, log_sum = _load_queries(qkv, grad_out, log_sums, row, on_map, heads, head, HEAD_DIM, BLOCK_DIM)
        k, v = load_keys(qkv, pad_token, row, on_map, padding, heads, head, HEAD_DIM, BLOCK_DIM, PADDED)
        s = scores(q, k, scale, tile_bias, region, region, SHIFTED, COSINE, PRECISION)
        p = tl.exp2(s - log_sum[:, None])

        dv = tl.dot(tl.trans(p.to(do.dtype)), do, input_precision=PRECISION)
        store_rows(grad_qkv, dv, row, on_map, stride, v_column, HEAD_DIM, BLOCK_DIM)
        dp = tl.dot(do, tl.trans(v), input_precision=PRECISION)
        ds = p * (dp - tl.sum(p * dp, axis=1)[:, None])
        bias_total += ds
        ds = ds.to(q.dtype)
        dq = tl.dot(ds, _direction(k, COSINE), input_precision=PRECISION)
        dk = tl.dot(tl.trans(ds), _direction(q, COSINE), input_precision=PRECISION) * scale
        if COSINE:
            scale_total += tl.sum(dq * q.to(tl.float32), axis=1) * inverse_lengths(q)
            dq = _through_length(q, dq * scale)
            dk = _through_length(k, dk)
        else:
            dq *= scale
        store_rows(grad_qkv, dq, row, on_map, stride, q_column, HEAD_DIM, BLOCK_DIM)
        store_rows(grad_qkv, dk, row, on_map, stride, k_column, HEAD_DIM, BLOCK_DIM)
        if PADDED:
            k_total += tl.sum(tl.where(padding[:, None], dk, 0.0), axis=0)
            v_total += tl.sum(tl.where(padding[:, None], dv, 0.0), axis=0)
    _store_bias_part(grad_bias, bias_total, part, heads, head, token, token, TOKENS)
    if COSINE:
        tl.store(grad_scale + part * heads + head, tl.sum(scale_total))
    if PADDED:
        _store_padding_part(grad_pad, k_total, part, stride, k_column, HEAD_DIM, BLOCK_DIM)
        _store_padding_part(grad_pad, v_total, part, stride, v_column, HEAD_DIM, BLOCK_DIM)


@triton.jit(do_not_specialize=NUMBERS)
def queries_backward(
    grad_out,
    qkv,
    bias,
    pad_token,
    logit_scale,
    log_sums,
    deltas,
    grad_qkv,
    grad_scale,
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
    PRECISION: tl.constexpr,
):
    """Gradients of queries and logit scale, and `deltas` (B, H, W, heads): what the softmax subtracts from each row.

    Program (part, block of queries, head). The first pass over the keys finds the deltas, the second uses them.
    """
    TOKENS: tl.constexpr = WINDOW_HEIGHT * WINDOW_WIDTH
    place = (height, width, shift_height, shift_width, WINDOW_HEIGHT, WINDOW_WIDTH)
    BLOCKS: tl.constexpr = (TOKENS + BLOCK - 1) // BLOCK
    program = tl.program_id(0)
    head = program % heads
    query = program // heads % BLOCKS * BLOCK + tl.arange(0, BLOCK)
    stride = 3 * heads * HEAD_DIM
    scale = load_scale(logit_scale, head, HEAD_DIM, COSINE)
    scale_total = tl.zeros((BLOCK,), tl.float32)
    for window in range(program // (heads * BLOCKS), windows, parts):
        row, on_map, region = locate(query, window, place)
        q, do, log_sum = _load_queries(qkv, grad_out, log_sums, row, on_map, heads, head, HEAD_DIM, BLOCK_DIM)
        delta = tl.zeros((BLOCK,), tl.float32)
        dq = tl.zeros((BLOCK, BLOCK_DIM), tl.float32)
        for step in range(2 * BLOCKS):
            key = step % BLOCKS * BLOCK + tl.arange(0, BLOCK)
            k_row, k_on_map, k_region = locate(key, window, place)
            padding = (key < TOKENS) & (k_on_map == 0)
            k, v = load_keys(qkv, pad_token, k_row, k_on_map, padding, heads, head, HEAD_DIM, BLOCK_DIM, PADDED)
            tile_bias = load_bias(bias, head, query, key, TOKENS)
            s = scores(q, k, scale, tile_bias, region, k_region, SHIFTED, COSINE, PRECISION)
            p = tl.exp2(s - log_sum[:, None])
            dp = tl.dot(do, tl.trans(v), input_precision=PRECISION)
            if step < BLOCKS:
                delta += tl.sum(p * dp, axis=1)
            else:
                ds = (p * (dp - delta[:, None])).to(q.dtype)
                dq += tl.dot(ds, _direction(k, COSINE), input_precision=PRECISION)
        if COSINE:
            scale_total += tl.sum(dq * q.to(tl.float32), axis=1) * inverse_lengths(q)
            dq = _through_length(q, dq * scale)
        else:
            dq *= scale
        store_rows(grad_qkv, dq, row, on_map, stride, head * HEAD_DIM, HEAD_DIM, BLOCK_DIM)
        tl.store(deltas + row * heads + head, delta, mask=on_map)
    if COSINE:
        tl.store(grad_scale + program, tl.sum(scale_total))


@triton.jit(do_not_specialize=NUMBERS)
def keys_backward(
    grad_out,
    qkv,
    bias,
    pad_token,
    logit_scale,
    log_sums,
    deltas,
    grad_qkv,
    grad_pad,
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
    PRECISION: tl.constexpr,
):
    """Gradients of keys, values and padding token. Program (part, block of keys, head)."""
    TOKENS: tl.constexpr = WINDOW_HEIGHT * WINDOW_WIDTH
    place = (height, width, shift_height, shift_width, WINDOW_HEIGHT, WINDOW_WIDTH)
    BLOCKS: tl.constexpr = (TOKENS + BLOCK - 1) // BLOCK
    program = tl.program_id(0)
    head = program % heads
    key = program // heads % BLOCKS * BLOCK + tl.arange(0, BLOCK)
    stride = 3 * heads * HEAD_DIM
    k_column, v_column = (heads + head) * HEAD_DIM, (2 * heads + head) * HEAD_DIM
    scale = load_scale(logit_scale, head, HEAD_DIM, COSINE)
    k_total = tl.zeros((BLOCK_DIM,), tl.float32)
    v_total = tl.zeros((BLOCK_DIM,), tl.float32)
    for window in range(program // (heads * BLOCKS), windows, parts):
        k_row, k_on_map, k_region = locate(key, window, place)
        padding = (key < TOKENS) & (k_on_map == 0)
        k, v = load_keys(qkv, pad_token, k_row, k_on_map, padding, heads, head, HEAD_DIM, BLOCK_DIM, PADDED)
        dk = tl.zeros((BLOCK, BLOCK_DIM), tl.float32)
        dv = tl.zeros((BLOCK, BLOCK_DIM), tl.float32)
        for start in range(0, TOKENS, BLOCK):
            query = start + tl.arange(0, BLOCK)
            row, on_map, region = locate(query, window, place)
            q, do, log_sum = _load_queries(qkv, grad_out, log_sums, row, on_map, heads, head, HEAD_DIM, BLOCK_DIM)
            delta = tl.load(deltas + row * heads + head, mask=on_map, other=0.0)
            tile_bias = load_bias(bias, head, query, key, TOKENS)
            s = scores(q, k, scale, tile_bias, region, k_region, SHIFTED, COSINE, PRECISION)
            p = tl.exp2(s - log_sum[:, None])
            dv += tl.dot(tl.trans(p.to(do.dtype)), do, input_precision=PRECISION)
            dp = tl.dot(do, tl.trans(v), input_precision=PRECISION)
            ds = (p * (dp - delta[:, None])).to(q.dtype)
            dk += tl.dot(tl.trans(ds), _direction(q, COSINE), input_precision=PRECISION)
        dk *= scale
        if COSINE:
            dk = _through_length(k, dk)
        store_rows(grad_qkv, dk, k_row, k_on_map, stride, k_column, HEAD_DIM, BLOCK_DIM)
        store_rows(grad_qkv, dv, k_row, k_on_map, stride, v_column, HEAD_DIM, BLOCK_DIM)
        if PADDED:
            k_total += tl.sum(tl.where(padding[:, None], dk, 0.0), axis=0)
            v_total += tl.sum(tl.where(padding[:, None], dv, 0.0), axis=0)
    if PADDED:
        _store_padding_part(grad_pad, k_total, program // heads, stride, k_column, HEAD_DIM, BLOCK_DIM)
        _store_padding_part(grad_pad, v_total, program // heads, stride, v_column, HEAD_DIM, BLOCK_DIM)


@triton.jit(do_not_specialize=NUMBERS)
def bias_backward(
    grad_out,
    qkv,
    bias,
    pad_token,
    logit_scale,
    log_sums,
    deltas,
    grad_bias,
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
    PRECISION: tl.constexpr,
):
    """The bias's gradient. Program (part, block of queries, block of keys, head)."""
    TOKENS: tl.constexpr = WINDOW_HEIGHT * WINDOW_WIDTH
    place = (height, width, shift_height, shift_width, WINDOW_HEIGHT, WINDOW_WIDTH)
    BLOCKS: tl.constexpr = (TOKENS + BLOCK - 1) // BLOCK
    program = tl.program_id(0)
    part, head = program // (heads * BLOCKS * BLOCKS), program % heads
    query = program // (heads * BLOCKS) % BLOCKS * BLOCK + tl.arange(0, BLOCK)
    key = program // heads % BLOCKS * BLOCK + tl.arange(0, BLOCK)
    scale = load_scale(logit_scale, head, HEAD_DIM, COSINE)
    tile_bias = load_bias(bias, head, query, key, TOKENS)
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for window in range(part, windows, parts):
        row, on_map, region = locate(query, window, place)
        k_row, k_on_map, k_region = locate(key, window, place)
        padding = (key < TOKENS) & (k_on_map == 0)
        q, do, log_sum = _load_queries(qkv, grad_out, log_sums, row, on_map, heads, head, HEAD_DIM, BLOCK_DIM)
        k, v = load_keys(qkv, pad_token, k_row, k_on_map, padding, heads, head, HEAD_DIM, BLOCK_DIM, PADDED)
        delta = tl.load(deltas + row * heads + head, mask=on_map, other=0.0)
        s = scores(q, k, scale, tile_bias, region, k_region, SHIFTED, COSINE, PRECISION)
        p = tl.exp2(s - log_sum[:, None])
        dp = tl.dot(do, tl.trans(v), input_precision=PRECISION)
        total += p * (dp - delta[:, None])
    _store_bias_part(grad_bias, total, part, heads, head, query, key, TOKENS)
