"""The ways in which JPEGs are decoded, by name: for recipes, which load nothing that decodes."""

from typing import Literal, TypeAlias

Decoding: TypeAlias = Literal["exact", "scaled"]
"""See `OpenedImage`."""
