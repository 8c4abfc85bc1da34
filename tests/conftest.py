"""Shapes in signatures are checked while the tests run: jaxtyping and beartype, installed before the first import."""

import os

from hypothesis import settings
from jaxtyping import install_import_hook

# Only modules of tensors: a config says which type its field has, and takes more (an int for a pair).
CHECKED = ("ops", "backbone.attention", "backbone.layers", "backbone.swin")
install_import_hook([f"swin_transformer_pytorch.{module}" for module in CHECKED], "beartype.beartype")

# A slow machine is no failure. In CI every run draws the same examples; at home each run draws new ones.
settings.register_profile("swin", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("swin")
