"""The numbers that `swin models` shows without torch are those of the models."""

import pytest
import torch

from swin_transformer_pytorch.models.config import model_names, parameter_counts
from swin_transformer_pytorch.models.registry import create_model


def test_every_model_is_counted_once_and_in_order() -> None:
    assert list(parameter_counts()) == model_names()


@pytest.mark.parametrize("name", model_names())
def test_a_count_is_that_of_the_model(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    assert parameter_counts()[name] == sum(parameter.numel() for parameter in model.parameters())
