"""Draws docs/images/results.png, the first picture of the README: what the shipped models say of images in the package.

python tools/draw_results.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

import swin_transformer_pytorch as swin
from swin_transformer_pytorch.data.classification.fashion import FashionSample
from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.models.registry import checkpoint_model
from swin_transformer_pytorch.visualize import classification_overlay, detection_overlay, segmentation_overlay

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "results.png"
_HEIGHT, _GAP = 420, 16
_ITEM, _SCENE = 3, 25
_LEAST_SCORE = 0.5


def main() -> None:
    item, scene = (
        FashionSample("test")[_ITEM][0],
        open_scenes("scenes_sample", "val", num_scenes=_SCENE + 1)[_SCENE].image,
    )
    classified, detected, segmented = (
        swin.Predictor(checkpoint_model(name))(image)
        for name, image in (("fashion", item), ("scenes_detection", scene), ("scenes_segmentation", scene))
    )
    pictures = [
        classification_overlay(item, classified),
        detection_overlay(scene, detected.above(_LEAST_SCORE)),
        segmentation_overlay(scene, segmented),
    ]
    scaled = [
        one.resize((round(one.width * _HEIGHT / one.height), _HEIGHT), Image.Resampling.LANCZOS) for one in pictures
    ]
    row = Image.new("RGB", (sum(one.width for one in scaled) + _GAP * (len(scaled) - 1), _HEIGHT), "white")
    left = 0
    for one in scaled:
        row.paste(one, (left, 0))
        left += one.width + _GAP
    row.quantize(256).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1e3:.0f} kB, {row.width} x {row.height}")


if __name__ == "__main__":
    main()
