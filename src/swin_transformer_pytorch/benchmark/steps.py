"""One step of a library on a setting: what is timed, and whose memory is measured."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from .floor import floor_products, floor_step, wait
from .libraries import FLOOR, OPENVINO, OPTIMIZED, OURS, PEERS, build_model
from .machine import measured_device
from .openvino_peer import openvino_step
from .setting import BenchmarkError, Setting


def make_step(setting: Setting, library: str) -> Callable[[], object] | None:
    """One forward pass, or one forward and backward pass with the gradients cleared, waited for to its end.

    Weights and images are random. None where the library is not installed, or has nothing for the setting: only
    modules of PyTorch train.

    Raises:
        BenchmarkError: for a library that is none of ours, the floor and `PEERS`.
    """
    if library not in (OURS, OPTIMIZED, FLOOR, *PEERS):
        raise BenchmarkError(f"no peer {library!r}; there are: {', '.join(PEERS)}")
    device, dtype = measured_device(), getattr(torch, setting.dtype)
    if setting.mode == "training":
        if library in (OPTIMIZED, FLOOR, OPENVINO):
            return None
        model = build_model(library, setting)
        return None if model is None else _training_step(model.to(device), _images(setting, torch.float32), dtype)
    if library == FLOOR:
        classes = 0 if setting.mode == "features" else 1000
        products = floor_products(setting.config, setting.batch_size, setting.image_size, num_classes=classes)
        return floor_step(products, dtype, device)
    if library == OPENVINO:
        return openvino_step(setting) if device.type == "cpu" else None
    model = build_model(OURS if library == OPTIMIZED else library, setting)
    if model is None:
        return None
    model = model.eval().to(device)
    if library == OPTIMIZED:
        from ..optimize import optimize_for_inference

        model = optimize_for_inference(model, dtype=dtype)
    else:
        model = model.to(dtype)
    return _inference_step(model, _images(setting, dtype))


def _images(setting: Setting, dtype: torch.dtype) -> Tensor:
    return torch.randn(setting.batch_size, 3, *setting.image_size, device=measured_device()).to(dtype)


def _inference_step(model: nn.Module, images: Tensor) -> Callable[[], None]:
    def step() -> None:
        with torch.inference_mode():
            model(images)
        wait(images.device)

    return step


def _training_step(model: nn.Module, images: Tensor, dtype: torch.dtype) -> Callable[[], None]:
    model.train()

    def step() -> None:
        with torch.autocast(images.device.type, dtype=dtype) if dtype != torch.float32 else nullcontext():
            output = model(images)
            logits = output if isinstance(output, Tensor) else output.logits
            loss = logits.float().logsumexp(dim=-1).mean()
        loss.backward()
        model.zero_grad()
        wait(images.device)

    return step
