"""A running mean of the weights, which usually does better than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


class WeightAverage:
    """Exponential moving average of a model's parameters, updated once an optimizer step.

    Early on the decay is smaller, (1 + steps) / (10 + steps), so that the mean does not cling to the random start.

    Attributes:
        decay: how much of the mean remains at each step.
        steps: updates so far.
        mean: parameter name -> the mean, on the parameter's device.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self._parameters = dict(model.named_parameters())
        self.mean = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        current = [parameter.detach() for parameter in self._parameters.values()]
        torch._foreach_lerp_(list(self.mean.values()), current, 1 - decay)

    @contextmanager
    @torch.no_grad()
    def applied(self) -> Iterator[None]:
        """Within it the model has the mean's weights; afterwards its own again, to the bit."""
        own = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._copy_to_model(self.mean)
        try:
            yield
        finally:
            self._copy_to_model(own)

    @torch.no_grad()
    def load(self, mean: Mapping[str, Tensor], steps: int) -> None:
        """Takes up what `mean` and `steps` were at another time."""
        for name, value in self.mean.items():
            whole = mean[name]
            if isinstance(value, DTensor):
                whole = distribute_tensor(whole.to(value.device), value.device_mesh, value.placements)
            value.copy_(whole)
        self.steps = steps

    def state_dict(self) -> dict[str, Tensor]:
        """Parameter name -> the mean as a whole tensor. Where parameters are sharded, every rank must call it."""
        return {
            name: value.full_tensor() if isinstance(value, DTensor) else value.clone()
            for name, value in self.mean.items()
        }

    def _copy_to_model(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])
