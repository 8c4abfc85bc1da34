"""Pictures of results: annotated images, label maps, grids, confusion matrices, curves.

`charts`, `prediction_grid` and `label_grid` draw with matplotlib, of the [train] extra; the others need only PIL.
"""

from __future__ import annotations

from PIL import Image

from ..results import Classification, Detections, PanopticSegmentation, SegmentationMap
from .charts import (
    class_scores_picture as class_scores_picture,
    confusion_matrix_picture as confusion_matrix_picture,
    precision_recall_picture as precision_recall_picture,
    training_curve as training_curve,
)
from .classification import (
    classification_overlay as classification_overlay,
    label_grid as label_grid,
    prediction_grid as prediction_grid,
)
from .detection import detection_overlay as detection_overlay
from .heat import attention_picture as attention_picture, heat_overlay as heat_overlay
from .panoptic import panoptic_overlay as panoptic_overlay
from .pictures import Picture, StrPath, class_colour as class_colour, make_room, picture_grid as picture_grid
from .segmentation import (
    label_map as label_map,
    palette_of as palette_of,
    save_label_map as save_label_map,
    segmentation_overlay as segmentation_overlay,
)


def overlay(
    image: Picture, result: Classification | Detections | PanopticSegmentation | SegmentationMap
) -> Image.Image:
    """An image with what was found in it: its likeliest classes beneath it, objects, segments or classes of pixels over
    it.

    It is shrunk or enlarged to a size that can be read; see the overlay of each. A file is read as predictions read it.
    """
    if isinstance(result, Detections):
        return detection_overlay(image, result)
    if isinstance(result, SegmentationMap):
        return segmentation_overlay(image, result)
    if isinstance(result, PanopticSegmentation):
        return panoptic_overlay(image, result)
    return classification_overlay(image, result)


def annotate(
    image: Picture, result: Classification | Detections | PanopticSegmentation | SegmentationMap, path: StrPath
) -> None:
    """Saves the `overlay`. The path's ending is the format."""
    picture = overlay(image, result)
    make_room(path)
    picture.save(path)
