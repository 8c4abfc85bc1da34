"""A small random model as a checkpoint, a few pictures, and `swin` as a function."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.cli import main
from swin_transformer_pytorch.data.fashion import CLASSES, FashionSample
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.weights.files import save_checkpoint
from swin_transformer_pytorch.weights.preprocessing import Preprocessing


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
