"""Whole models on a GPU wait for nothing on the host's side, and copy nothing from or to it: safe for CUDA graphs.

No GPU is needed: tensors here have a device and no content, and whatever would have to look into one is refused.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import swin_transformer_pytorch as swin
from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.models.config import MaskedConfig
from swin_transformer_pytorch.models.masked import MaskedSwin
from swin_transformer_pytorch.ops import force_implementation, operators
from swin_transformer_pytorch.ops.attention import _IMPLEMENTATIONS
from swin_transformer_pytorch.ops.triton import kernel

SMALL: dict[str, Any] = {"embed_dim": 16, "depths": (2, 2), "num_heads": (1, 2)}
NAMES = {1: "swin_tiny_patch4_window7_224", 2: "swinv2_tiny_patch4_window8_256"}
TRAINED = {1: {}, 2: {"pretrained_window_sizes": (8, 8)}}
SIZE = (75, 110)  # neither whole patches nor whole windows


class SyncError(AssertionError):
    """A copy between the host and the GPU."""


class NoCopies(TorchDispatchMode):
    """Refuses what goes from the host to the GPU or back, which a CUDA graph cannot hold."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        # Numbers in tensors without dimensions go with a kernel's arguments.
        of = {one.device.type for one in (*args, out) if isinstance(one, Tensor) and one.dim()}
        if len(of) > 1:
            raise SyncError(f"{function} between the host and the GPU")
        return out


def classifier(version: int) -> nn.Module:
    return swin.create_model(NAMES[version], **SMALL, **TRAINED[version])


def backbone(version: int) -> nn.Module:
    """As dense models have it."""
    return swin.create_backbone(NAMES[version], out_indices=(0, 1), **SMALL, **TRAINED[version])


class Losses(MaskedSwin):
    """With the loss, which training calls."""

    def forward(self, images: Tensor, mask: Tensor) -> Any:
        return self.losses(images, mask)


def masked(version: int) -> nn.Module:
    config = SwinConfig(version=version, window_size=(7, 7), **SMALL)  # type: ignore[arg-type]
    return Losses(MaskedConfig(backbone=config, mask_unit=8, target_window=47))


def total(out: Any) -> Tensor:
    outs = out.values() if isinstance(out, dict) else [out] if isinstance(out, Tensor) else out
    return sum((one.float().square().mean() for one in outs), torch.zeros(()))


@pytest.fixture(params=["triton", "sdpa"])
def attention(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setitem(_IMPLEMENTATIONS, "triton", partial(operators.call, kernel._OPERATOR))
    with force_implementation(request.param):
        yield request.param


def run(model: nn.Module, *, training: bool, dtype: torch.dtype = torch.float32) -> None:
    """A step as if it were on a GPU. Autograd asks for a real one, so training is on "meta", no host either."""
    device = "meta" if training else "cuda"
    is_masked = isinstance(model, MaskedSwin)
    with FakeTensorMode():
        on_gpu = _on_gpu(model.train(training), device)
        images = torch.empty(2, 3, *((72, 104) if is_masked else SIZE), device=device, dtype=dtype)
        inputs = (images, torch.empty(2, 18, 26, dtype=torch.bool, device=device)) if is_masked else (images,)
        with NoCopies(), torch.set_grad_enabled(training):
            out = total(on_gpu(*inputs))
            if training:
                out.backward()
    if training:
        assert all(parameter.grad is not None for parameter in on_gpu.parameters())


def _on_gpu(model: nn.Module, device: str) -> nn.Module:
    """A copy whose tensors, plain attributes too, are on a GPU that is not there."""
    known: dict[int, Tensor] = {}

    def moved(tensor: Tensor) -> Tensor:
        if id(tensor) not in known:
            there = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
            known[id(tensor)] = nn.Parameter(there, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else there
        return known[id(tensor)]

    copied = copy.copy(model)
    copied.__dict__ = {
        name: moved(value) if isinstance(value, Tensor) else value for name, value in vars(model).items()
    }
    copied._parameters = {name: None if one is None else moved(one) for name, one in model._parameters.items()}  # type: ignore[assignment, misc]
    copied._buffers = {name: None if one is None else moved(one) for name, one in model._buffers.items()}
    copied._modules = {name: None if one is None else _on_gpu(one, device) for name, one in model._modules.items()}
    return copied


@pytest.mark.parametrize("make", [classifier, backbone, masked])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("training", [False, True])
def test_nothing_waits_for_the_gpu(
    make: Callable[[int], nn.Module], version: int, training: bool, attention: str
) -> None:
    run(make(version), training=training)


@pytest.mark.parametrize("make", [classifier, backbone])
@pytest.mark.parametrize("version", [1, 2])
def test_nor_does_anything_in_its_optimized_form(
    make: Callable[[int], nn.Module], version: int, attention: str
) -> None:
    """As it is made where no kernels of the CPU's are, and so nothing is packed."""
    fast = swin.optimize_for_inference(make(version).to("meta"), dtype=torch.bfloat16)
    run(fast, training=False, dtype=torch.bfloat16)


class Waiting(nn.Module):
    """One that does what is refused."""

    def __init__(self, how: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.how = how

    def forward(self, images: Tensor) -> Tensor:
        return self.how(images)


@pytest.mark.parametrize(
    ("how", "error"),
    [
        (lambda x: x * x.sum().item(), DataDependentOutputException),
        (lambda x: x if x.max() > 0 else -x, DataDependentOutputException),
        (lambda x: x[x > 0], DynamicOutputShapeException),
        (lambda x: x.cpu().cuda(), SyncError),
        (lambda x: x + torch.ones(x.shape).to(x.device), SyncError),
    ],
)
def test_what_waits_is_found(how: Callable[[Tensor], Tensor], error: type[Exception]) -> None:
    with pytest.raises(error):
        run(Waiting(how), training=False)
