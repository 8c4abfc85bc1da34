"""Convolution, batch norm, ReLU: the block that heads are made of, with the official parameter names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..ops import convolve, is_plain, is_pointwise_convolution, is_usual_convolution, linear, replaceable


@replaceable
class ConvModule(nn.Module):
    """A square convolution that keeps the map's size; with `norm` it has no bias, and a batch norm follows.

    The official heads synchronise that norm between GPUs: `torch.nn.SyncBatchNorm.convert_sync_batchnorm(model)`.

    Raises:
        ValueError: in training, for a single cell in the whole batch: a norm has no statistics of it.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, norm: bool = False, activation: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=not norm)
        self.bn = nn.BatchNorm2d(out_channels) if norm else None
        self.activation = activation
        init_kaiming([self.conv])

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        if self.bn is None:
            return convolved(self.conv, x, relu=self.activation)
        return self.activate(convolved(self.conv, x))

    def activate(self, x: Float[Tensor, "B D H W"]) -> Float[Tensor, "B D H W"]:
        """What follows the convolution."""
        # Statistics that processes share (SyncBatchNorm, which is no BatchNorm2d) may do with one cell each.
        if self.training and isinstance(self.bn, nn.BatchNorm2d) and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            raise ValueError("batch norm needs more than a batch of one image in training: use a batch of at least 2")
        # A norm of nothing would make its running mean NaN.
        if self.bn is not None and x.shape[0]:  # a tensor's `len` would be the example's in an exported graph
            x = self.bn(x)
        elif self.bn is not None:
            x = x * self.bn.weight[:, None, None] + self.bn.bias[:, None, None]
        return F.relu(x, inplace=True) if self.activation else x


class FusedConvolution(nn.Module, ABC):
    """What may stand in a convolution's place and take in what follows: its `forward` has `relu` as well."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "B C H W"], *, relu: bool = False) -> Float[Tensor, "B D h w"]:
        """With `relu`, without what is below 0."""


def convolved(layer: nn.Module, x: Float[Tensor, "B C H W"], *, relu: bool = False) -> Float[Tensor, "B D H W"]:
    """`layer(x)` of a convolution, without what is below 0 if `relu`; by this package's products where faster."""
    if isinstance(layer, FusedConvolution):
        fused: Tensor = layer(x, relu=relu)
        return fused
    # Compilers and exporters note which module an operator is of.
    out: Tensor
    if not torch.compiler.is_compiling() and is_usual_convolution(layer):
        return convolve(x, layer.weight, layer.bias, relu=relu)
    if not torch.compiler.is_compiling() and x.device.type == "cpu" and is_pointwise_convolution(layer):
        # Where maps are channels-last nothing is copied, and the package's own products are taken where faster.
        out = linear(x.permute(0, 2, 3, 1), layer.weight.flatten(1), layer.bias).permute(0, 3, 1, 2)
    else:
        out = layer(x)
    return F.relu(out, inplace=True) if relu else out


def projected(layer: nn.Module, x: Float[Tensor, "*shape C"]) -> Float[Tensor, "*shape D"]:
    """`layer(x)` of a linear layer; by this package's products where faster."""
    if not torch.compiler.is_compiling() and is_plain(layer, nn.Linear):
        return linear(x, layer.weight, layer.bias)
    out: Tensor = layer(x)
    return out


def fold_batch_norm(module: ConvModule) -> ConvModule:
    """The norm's statistics are fixed in inference, so that it is a factor and a shift of the convolution's outputs."""
    if module.bn is not None and is_plain(module.bn, nn.BatchNorm2d) and is_plain(module.conv, nn.Conv2d):
        module.conv = fuse_conv_bn_eval(module.conv, module.bn)
        module.bn = None
    return module


def init_kaiming(layers: Iterable[nn.Conv2d | nn.ConvTranspose2d]) -> None:
    """Kaiming-normal weights for the fan out of a ReLU (arXiv 1502.01852), biases 0."""
    _init(layers, partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu"))


def init_xavier(layers: Iterable[nn.Conv2d | nn.Linear]) -> None:
    """Xavier-uniform weights, biases 0."""
    _init(layers, nn.init.xavier_uniform_)


def init_normal(layers: Iterable[nn.Conv2d | nn.Linear], std: float) -> None:
    """Weights from N(0, std), biases 0."""
    _init(layers, partial(nn.init.normal_, std=std))


def _init(layers: Iterable[nn.Conv2d | nn.ConvTranspose2d | nn.Linear], fill: Callable[[Tensor], Tensor]) -> None:
    for layer in layers:
        fill(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
