"""A running mean of the weights, which usually does better than the weights themselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor


class WeightAverage:
    """Exponential moving average of a model's state, updated once an optimizer step.

    Early on the decay is smaller, (1 + steps) / (10 + steps), so that the mean does not cling to the random start.
    The running statistics of batch norms are averaged with the weights that they belong to; counters are copied.

    Attributes:
        decay: how much of the mean remains at each step.
        steps: updates so far.
        mean: name in the state dict -> the mean, on the tensor's device.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self._model = model
        self._known = model.state_dict().keys()
        # Not `state_dict()`, which gives copies where parameters are sharded; nor anew, as they may be gathered then.
        self._parameters = dict(model.named_parameters())
        self.mean = {name: tensor.detach().clone() for name, tensor in self._tensors().items()}

    def _tensors(self) -> dict[str, Tensor]:
        """The model's, by name. A model that was moved to another device has the same parameters, and other buffers."""
        tensors = {**self._parameters, **dict(self._model.named_buffers())}
        return {name: tensor for name, tensor in tensors.items() if name in self._known}

    @torch.no_grad()
    def update(self) -> None:
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        tensors = self._tensors()
        # Sharded parameters and whole statistics do not go together in one call.
        for sharded in (False, True):
            names = [name for name, tensor in tensors.items() if isinstance(tensor, DTensor) == sharded]
            averaged = [name for name in names if tensors[name].is_floating_point()]
            current = [tensors[name].detach() for name in averaged]
            if averaged:
                torch._foreach_lerp_([self.mean[name] for name in averaged], current, 1 - decay)
        for name, tensor in tensors.items():
            if not tensor.is_floating_point():
                self.mean[name].copy_(tensor)

    @contextmanager
    @torch.no_grad()
    def applied(self) -> Iterator[None]:
        """Within it the model has the mean's weights; afterwards its own again, to the bit."""
        own = {name: tensor.detach().clone() for name, tensor in self._tensors().items()}
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
            if isinstance(value, DTensor) and not isinstance(whole, DTensor):
                whole = distribute_tensor(whole.to(value.device), value.device_mesh, value.placements)
            value.copy_(whole)
        self.steps = steps

    def state_dict(self) -> dict[str, Tensor]:
        """Name -> the mean as a whole tensor. Where parameters are sharded, every rank must call it."""
        return {
            name: value.full_tensor() if isinstance(value, DTensor) else value.clone()
            for name, value in self.mean.items()
        }

    def _copy_to_model(self, values: Mapping[str, Tensor]) -> None:
        for name, tensor in self._tensors().items():
            tensor.copy_(values[name])
