"""A Mask2Former in the form that exported graphs have: its queries' classes and masks, of images of any size."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from ..models.exported import QUERIES
from ..models.mask2former import Mask2Former
from .form import Form


class QueryTensors(nn.Module):
    """What a Mask2Former gives, as a tuple."""

    def __init__(self, model: Mask2Former) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, images: Float[Tensor, "B C H W"]
    ) -> tuple[Float[Tensor, "B Q classes"], Float[Tensor, "B Q h w"]]:
        given = self.model(images)
        return given.class_logits, given.mask_logits


def mask_form(exported: Mask2Former, original: Mask2Former) -> Form:
    """The whole of it as one graph.

    Args:
        exported: a copy whose stages are in their own form already.
        original: what it was made from.
    """
    return Form(QueryTensors(exported), QueryTensors(original), outputs=QUERIES)
