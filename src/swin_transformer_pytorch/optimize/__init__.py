"""Models in the fastest form for running on their device: the same answers, with all that can be done once done.

Relative position biases are computed once, and batch norms are folded into their convolutions. On a CPU, moreover,
linear layers' weights are packed for products that take GELU and residual sums in, and a large batch or map goes
through the layers in pieces that stay in the processor's cache.
"""

from .linear import FusedLinear as FusedLinear, OptimizeError as OptimizeError
from .model import is_optimized as is_optimized, optimize_for_inference as optimize_for_inference
