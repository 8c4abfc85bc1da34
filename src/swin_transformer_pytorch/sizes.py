"""Pairs of lengths."""

Size = tuple[int, int]
"""(height, width), in pixels or in tokens."""
