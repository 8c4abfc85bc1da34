"""One block of attention over a whole map, for HTC++.

The paper says only that "an extra global self-attention layer is appended at the output of last stage" (arXiv
2103.14030, appendix A2.2), and neither code nor weights of it were ever published. Everything below is therefore OUR
design: a block as in the backbone, norm before attention and before the MLP, its widths and heads those of the last
stage, but attention among all cells and no position bias (the map's size is open, and the backbone's windows have
told each cell its place already).
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


class GlobalAttention(nn.Module):
    """Attention among all cells of a map, then an MLP on each, both added to what came in.

    Scores are never held as one matrix where PyTorch has a fused kernel: memory grows with the number of cells.
    """

    def __init__(self, dim: int, num_heads: int, *, mlp_ratio: float = 4.0) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"num_heads={num_heads} does not divide dim={dim}: use a divisor")
        self.num_heads = num_heads
        hidden_dim = int(dim * mlp_ratio)
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)
        for layer in (self.qkv, self.proj, self.fc1, self.fc2):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        batch, channels, height, width = x.shape
        tokens = x.flatten(2).transpose(1, 2)  # (B, H*W, C)
        qkv = self.qkv(self.norm1(tokens)).view(batch, height * width, 3, self.num_heads, channels // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, H*W, head_dim) each
        attended = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        tokens = tokens + self.proj(attended)
        tokens = tokens + self.fc2(F.gelu(self.fc1(self.norm2(tokens))))
        return tokens.transpose(1, 2).reshape(batch, channels, height, width)
