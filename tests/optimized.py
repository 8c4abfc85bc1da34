"""Small models for the tests of optimised ones, and how near answers are."""

from collections.abc import Iterator
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor, nn

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.classification import SwinClassifier

_Model = TypeVar("_Model", bound=nn.Module)
SMALL = SwinConfig(embed_dim=16, depths=(2, 2, 1), num_heads=(2, 2, 4), window_size=4)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def randomised(model: _Model) -> _Model:
    """With parameters and statistics that leave nothing at its initial 0 or 1."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point() and tensor.ndim <= 1:
                tensor.add_(0.3 * torch.randn_like(tensor))
    return model.eval()


def classifier(**changes: Any) -> SwinClassifier:
    return randomised(SwinClassifier(SMALL.replace(**changes), num_classes=5, classes=("a", "b", "c", "d", "e")))


def assert_near(got: Tensor, expected: Tensor, tolerance: float = 1e-4) -> None:
    assert got.shape == expected.shape
    assert (got - expected).abs().max() <= tolerance * expected.abs().max()
