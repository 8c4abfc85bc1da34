"""What a mask transformer gives: for each query a class and a mask."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class MaskOutputs:
    """A class and a mask of each query, of images of one size.

    Attributes:
        class_logits: a query's logit of each of K classes, and last that of none.
        mask_logits: of a quarter of the padded images' size; a pixel belongs to the query where they are above 0.
    """

    class_logits: Float[Tensor, "B Q classes"]
    mask_logits: Float[Tensor, "B Q h w"]

    @property
    def num_classes(self) -> int:
        """K: without none."""
        return self.class_logits.shape[2] - 1
