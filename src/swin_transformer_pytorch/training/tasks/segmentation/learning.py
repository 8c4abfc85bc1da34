"""How segmenters learn and answer: UPerNet, and a Mask2Former."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from jaxtyping import Integer
from torch import Tensor

from ....data.images.dense_transforms import PreparedImage
from ....data.mask_batches import collate_classes
from ....data.segmentation.transforms import SegmentationBatch, collate_segmentation
from ....models.mask2former import Mask2Former
from ....models.mask_results import label_map_of
from ....models.segmentation import PixelLosses, Segmenter
from ....models.segmentation_inference import segment
from ...recipes.parts import RecipeError, require_one_a_class
from ...recipes.segmentation import PixelLossRecipe
from ..dense.learning import Learning, mask_losses, queries_of

LabelMap = Integer[Tensor, "H W"]


def learning_of(model: Segmenter | Mask2Former, loss: PixelLossRecipe) -> Learning[LabelMap]:
    """By what the model is.

    Raises:
        RecipeError: `loss` has not as many weights as there are classes, or says something of a Mask2Former's losses.
    """
    if isinstance(model, Mask2Former):
        if loss != PixelLossRecipe():
            raise RecipeError(
                f"loss={loss} is of pixels, and a Mask2Former's losses are of masks: leave loss out, and set their "
                "weights by model.config_overrides, such as dice_weight"
            )
        assert model.preprocessing is not None, "it says how images are padded"
        collate = partial(collate_classes, size_divisor=model.preprocessing.size_divisor)
        return Learning(collate=collate, losses=mask_losses, answers=_masked_label_maps)
    require_one_a_class(loss.class_weights, model.num_classes)
    pixel_losses = PixelLosses(
        focal_gamma=loss.focal_gamma, class_weights=loss.class_weights, dice_weight=loss.dice_weight
    )
    return Learning(collate=collate_segmentation, losses=partial(_losses, losses=pixel_losses), answers=_label_maps)


def _losses(model: Segmenter, batch: SegmentationBatch, *, losses: PixelLosses) -> dict[str, Tensor]:
    return model.losses(batch.images, batch.labels, losses)


def _label_maps(model: Segmenter, images: Sequence[PreparedImage]) -> list[LabelMap]:
    return segment(model, [image.pixels for image in images], [image.original_size for image in images])


def _masked_label_maps(model: Mask2Former, images: Sequence[PreparedImage]) -> list[LabelMap]:
    return [label_map_of(model, one) for one in queries_of(model, images)]
