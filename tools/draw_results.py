"""Draws the pictures of README's first screen: what the shipped models say of images in the package.

    python tools/draw_results.py

Writes docs/images/result-classification.png, result-detection.png, result-segmentation.png and result-panoptic.png.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

import swin_transformer_pytorch as swin
from swin_transformer_pytorch.data.classification.fashion import FashionSample
from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.models.registry import checkpoint_model
from swin_transformer_pytorch.visualize import (
    classification_overlay,
    detection_overlay,
    panoptic_overlay,
    segmentation_overlay,
)

IMAGES = Path(__file__).parents[1] / "docs" / "images"
_HEIGHT = 320
_ITEM, _SCENE = 3, 25
_LEAST_SCORE = 0.5


def main() -> None:
    item, scene = (
        FashionSample("test")[_ITEM][0],
        open_scenes("scenes_sample", "val", num_scenes=_SCENE + 1)[_SCENE].picture,
    )
    classified, detected, segmented, found = (
        swin.Predictor(checkpoint_model(name))(image)
        for name, image in (
            ("fashion", item),
            ("scenes_detection", scene),
            ("scenes_segmentation", scene),
            ("scenes_panoptic", scene),
        )
    )
    pictures = {
        "classification": classification_overlay(item, classified),
        "detection": detection_overlay(scene, detected.above(_LEAST_SCORE)),
        "segmentation": segmentation_overlay(scene, segmented),
        "panoptic": panoptic_overlay(scene, found),
    }
    for task, picture in pictures.items():
        width = round(picture.width * _HEIGHT / picture.height)
        small = picture.resize((width, _HEIGHT), Image.Resampling.LANCZOS).quantize(256)
        small.save(path := IMAGES / f"result-{task}.png", optimize=True)
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB, {small.width} x {small.height}")


if __name__ == "__main__":
    main()
