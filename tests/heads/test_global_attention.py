"""The global attention block against a version that writes its softmax out."""

import pytest
import torch
from torch.nn import functional as F

from swin_transformer_pytorch.heads.global_attention import GlobalAttention


def test_it_is_a_pre_norm_block_of_attention_among_all_cells() -> None:
    block = GlobalAttention(8, 2)
    x = torch.randn(2, 8, 3, 5)
    out = block(x)
    assert out.shape == x.shape
    tokens = x.permute(0, 2, 3, 1).reshape(2, 15, 8)
    query, key, value = block.qkv(block.norm1(tokens)).split(8, dim=2)
    attended = torch.zeros(2, 15, 8)
    for head in (slice(0, 4), slice(4, 8)):
        weights = (query[..., head] @ key[..., head].transpose(1, 2) / 2).softmax(dim=2)
        attended[..., head] = weights @ value[..., head]
    tokens = tokens + block.proj(attended)
    tokens = tokens + block.fc2(F.gelu(block.fc1(block.norm2(tokens))))
    torch.testing.assert_close(out, tokens.view(2, 3, 5, 8).permute(0, 3, 1, 2), atol=1e-5, rtol=1e-4)


def test_where_a_cell_is_makes_no_difference() -> None:
    block, x = GlobalAttention(8, 2), torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(block(x.flip(3)), block(x).flip(3), atol=1e-5, rtol=1e-4)


def test_every_parameter_learns() -> None:
    block = GlobalAttention(8, 2)
    block(torch.randn(1, 8, 2, 3)).square().sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in block.parameters())


def test_heads_that_do_not_divide_the_channels_are_an_error() -> None:
    with pytest.raises(ValueError, match="num_heads=3 does not divide dim=8"):
        GlobalAttention(8, 3)
