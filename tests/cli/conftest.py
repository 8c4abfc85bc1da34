"""A small random model as a checkpoint, a few pictures, and `swin` as a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.cli import main
from swin_transformer_pytorch.data.classification.fashion import CLASSES, FashionSample
from swin_transformer_pytorch.data.scenes.dataset import SceneDataset, open_scenes
from swin_transformer_pytorch.data.scenes.files import write_scenes
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.models.config import DetectorConfig, SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.mask2former_config import Mask2FormerConfig
from swin_transformer_pytorch.weights.files import save_checkpoint
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing, Preprocessing


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command left: its exit code and what it wrote."""

    code: int
    out: str
    err: str


Swin = Callable[..., Outcome]


@pytest.fixture
def swin(capsys: pytest.CaptureFixture[str]) -> Swin:
    """Runs a command line in this process."""

    def run(*words: object) -> Outcome:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Outcome(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random classifier of Fashion-MNIST that describes itself."""
    torch.manual_seed(0)
    config = SwinConfig(in_channels=1, patch_size=4, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4)
    grey = Preprocessing(image_size=28, resize_size=28, mean=(0.286,), std=(0.353,))
    model = SwinClassifier(config, num_classes=10, classes=CLASSES, preprocessing=grey)
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    save_checkpoint(path, model.state_dict(), model.metadata())
    return path


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with three pictures of clothes, one of them in a folder inside."""
    folder = tmp_path / "pictures"
    (folder / "inside").mkdir(parents=True)
    sample = FashionSample("test")
    for index, name in enumerate(("a.png", "b.jpg", "inside/c.png")):
        sample[index][0].save(folder / name)
    return folder


@pytest.fixture(scope="session")
def scenes() -> SceneDataset:
    """Scenes that dense models are measured on."""
    return open_scenes("scenes_sample", "val", num_scenes=6, image_size=(64, 80))


@pytest.fixture(scope="session")
def dense_data(scenes: SceneDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of scenes with their annotations as COCO's and as label maps."""
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(scenes, folder, "val")
    return folder


@pytest.fixture(scope="session")
def dense_checkpoints(scenes: SceneDataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random detector, segmenter and panoptic model of scenes that describe themselves."""
    torch.manual_seed(0)
    backbone = SwinConfig(
        embed_dim=16, depths=(1, 1), num_heads=(1, 2), window_size=4, drop_path_rate=0.0, single_window="keep"
    )
    detector = build(
        ModelDescription(
            config=DetectorConfig(backbone=backbone, num_classes=10, fpn_dim=16, fc_dim=16, max_detections=8),
            classes=scenes.classes,
            preprocessing=DensePreprocessing(scale=None),
        )
    )
    segmenter = build(
        ModelDescription(
            config=SegmenterConfig(backbone=backbone, num_classes=11, decode_dim=8, auxiliary_dim=8, auxiliary_index=0),
            classes=scenes.semantic_classes,
            palette=scenes.semantic_palette,
            preprocessing=DensePreprocessing(scale=None, size_divisor=1),
        )
    )
    panoptic = build(
        ModelDescription(
            config=Mask2FormerConfig(
                backbone=backbone,
                num_classes=11,
                things=tuple(range(10)),
                num_queries=8,
                dim=32,
                attention_heads=2,
                encoder_dim=32,
                encoder_layers=1,
                feedforward_dim=32,
                decoder_layers=1,
                segment_threshold=0.0,
            ),
            classes=scenes.semantic_classes,
            palette=scenes.semantic_palette,
            preprocessing=DensePreprocessing(scale=None, antialias=True),
        )
    )
    folder = tmp_path_factory.mktemp("dense")
    paths = {}
    for model in (detector, segmenter, panoptic):
        paths[model.task] = folder / f"{model.task}.safetensors"
        save_checkpoint(paths[model.task], model.state_dict(), model.metadata())
    return paths
