"""Which window and shift a block has on a map of a given size: whole numbers alone, so that all may import it."""

from __future__ import annotations

from .sizes import Size


def choose_window(map_size: Size, window_size: Size, *, shifted: bool, single_window: str) -> tuple[Size, Size]:
    """Window and shift, both (height, width) in tokens, for a block on a map of `map_size`.

    With `single_window="keep"` they are the configured ones: shift is half the window, or 0 in an unshifted block.
    With "unshift" a map that one window covers along an axis gets no shift on either, and a window no larger than the
    map: min(H, W) square if it was square, as the official classification code does, else cut axis by axis.
    """
    height, width = map_size
    if single_window == "unshift" and (height <= window_size[0] or width <= window_size[1]):
        if window_size[0] == window_size[1]:
            side = min(height, width)
            return (side, side), (0, 0)
        return (min(height, window_size[0]), min(width, window_size[1])), (0, 0)
    return window_size, (window_size[0] // 2, window_size[1] // 2) if shifted else (0, 0)
