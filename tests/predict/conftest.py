"""Small random detectors and segmenters, and images of several sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from swin_transformer_pytorch.data.scenes.dataset import SceneDataset, open_scenes
from swin_transformer_pytorch.export import export_onnx
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import DetectorConfig, SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.detection import Detector
from swin_transformer_pytorch.models.segmentation import Segmenter
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

BACKBONE = {"embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2), "window_size": 4, "drop_path_rate": 0.0}


@pytest.fixture(scope="session")
def scenes() -> SceneDataset:
    return open_scenes("scenes_sample", "val", num_scenes=3, image_size=(70, 90))


@pytest.fixture(scope="session")
def images(scenes: SceneDataset) -> list[Image.Image]:
    """Three of one size, one upright, one small."""
    some = [scenes[index].image for index in range(3)]
    return [*some, some[0].rotate(90, expand=True), some[1].resize((33, 40))]


@pytest.fixture
def detector(scenes: SceneDataset) -> Detector:
    torch.manual_seed(0)
    config = DetectorConfig(backbone=BACKBONE, num_classes=10, fpn_dim=16, fc_dim=16, max_detections=8)
    return build(
        ModelDescription(config=config, classes=scenes.classes, preprocessing=DensePreprocessing(scale=(100, 64)))
    )


def _segmenter(scenes: SceneDataset) -> Segmenter:
    torch.manual_seed(0)
    config = SegmenterConfig(
        backbone=BACKBONE, num_classes=11, decode_dim=8, auxiliary_dim=8, auxiliary_index=0, pool_scales=(1, 2)
    )
    return build(
        ModelDescription(
            config=config,
            classes=scenes.semantic_classes,
            palette=scenes.semantic_palette,
            preprocessing=DensePreprocessing(scale=(128, 48), size_divisor=1),
        )
    )


@pytest.fixture
def segmenter(scenes: SceneDataset) -> Segmenter:
    return _segmenter(scenes)


@pytest.fixture(scope="module")
def segmenter_files(
    unchecked_module: None,
    scenes: SceneDataset,
    tmp_path_factory: pytest.TempPathFactory,
    as_openvino: Callable[..., Path],
) -> dict[str, Path]:
    """The same segmenter as files for images of any size."""
    pytest.importorskip("onnxruntime")
    onnx = tmp_path_factory.mktemp("segmenter") / "small.onnx"
    export_onnx(_segmenter(scenes).eval(), onnx)
    return {"onnx": onnx, "xml": as_openvino(onnx, onnx.with_suffix(".xml"))}
