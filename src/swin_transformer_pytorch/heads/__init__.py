"""Heads: features in, raw predictions out; each head's losses stand beside it."""
