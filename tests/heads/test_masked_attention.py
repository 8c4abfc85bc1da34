"""The mask decoder: what queries may look at, its layers against PyTorch's own attention, what it gives."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from swin_transformer_pytorch.heads.mask_outputs import MaskOutputs
from swin_transformer_pytorch.heads.masked_attention import Attention, MaskedDecoder, allowed_cells
from swin_transformer_pytorch.heads.sine_position import sine_position

SIZES = [(2, 2), (4, 3), (7, 5)]
DIM = 16


def decoder(**changes: int) -> MaskedDecoder:
    torch.manual_seed(0)
    numbers = {"num_classes": 5, "num_queries": 6, "num_layers": 4, "num_heads": 2, "num_levels": 3, **changes}
    return MaskedDecoder(DIM, 24, **numbers)


def randomised(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    for name, tensor in module.state_dict().items():
        noise = 0.4 * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        tensor.copy_(noise + ("norm" in name and name.endswith("weight")))
    return module.double().eval()


def inputs() -> tuple[list[Tensor], Tensor]:
    generator = torch.Generator().manual_seed(2)
    maps = [torch.randn(2, DIM, *size, generator=generator, dtype=torch.float64) for size in SIZES]
    features = torch.randn(2, DIM, 13, 10, generator=generator, dtype=torch.float64)
    # Some masks are nowhere, others everywhere.
    return maps, features + torch.randn(DIM, 1, 1, generator=generator, dtype=torch.float64)


def test_a_query_looks_where_its_mask_is_and_everywhere_if_it_is_nowhere() -> None:
    logits = torch.full((1, 3, 4, 4), -3.0)
    logits[0, 0, :2, :2] = 2.0
    logits[0, 1, 2:, 2:] = 0.0  # a sigmoid of a half is mask
    allowed = allowed_cells(logits, (2, 2))
    assert allowed[0].tolist() == [[True, False, False, False], [False, False, False, True], [True] * 4]


def test_a_mask_between_cells_counts_after_the_resize() -> None:
    logits = torch.tensor([[[[5.0, -1.0, -1.0, -1.0]]]])
    assert allowed_cells(logits, (1, 2))[0, 0].tolist() == [True, False]
    assert allowed_cells(-logits, (1, 2))[0, 0].tolist() == [False, True]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_compared_in_float32(dtype: torch.dtype) -> None:
    """In halves the sigmoid of -0.0001 is 0.5, so that all would be mask."""
    logits = torch.tensor([[[[-1e-4, 1e-4]]]], dtype=dtype)
    assert (logits.sigmoid() == 0.5).all()
    assert allowed_cells(logits, (1, 2))[0, 0].tolist() == [False, True]


def test_attention_is_pytorchs() -> None:
    torch.manual_seed(3)
    theirs = nn.MultiheadAttention(DIM, 4, batch_first=True).double()
    nn.init.normal_(theirs.in_proj_bias)
    ours = Attention(DIM, 4).double()
    ours.load_state_dict(theirs.state_dict())
    query, key, value = (torch.randn(2, n, DIM, dtype=torch.float64) for n in (5, 7, 7))
    allowed = torch.rand(2, 5, 7) < 0.5
    allowed[:, :, 0] = True
    expected, _ = theirs(query, key, value, attn_mask=(~allowed).repeat_interleave(4, dim=0))
    torch.testing.assert_close(ours(query, key, value, allowed), expected)
    torch.testing.assert_close(ours(query, key, value), theirs(query, key, value)[0])


def test_it_is_its_description() -> None:
    model = randomised(decoder())
    weights = model.state_dict()
    maps, features = inputs()

    def normed(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (DIM,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    def through(name: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def attended(name: str, *arguments: Tensor, mask: Tensor | None = None) -> Tensor:
        layer = nn.MultiheadAttention(DIM, 2, batch_first=True).double()
        layer.load_state_dict({key: weights[f"{name}.{key}"] for key in layer.state_dict()})
        return layer(*arguments, attn_mask=mask)[0]

    def predicted(x: Tensor) -> tuple[Tensor, Tensor]:
        x = normed("decoder_norm", x)
        embedded = through("mask_embed.layers.1", through("mask_embed.layers.0", x).relu()).relu()
        embedded = through("mask_embed.layers.2", embedded)
        return through("class_embed", x), torch.einsum("bqc,bchw->bqhw", embedded, features)

    place = weights["query_embed.weight"]
    x = weights["query_feat.weight"].expand(2, -1, -1)
    expected = [predicted(x)]
    freed = 0
    for i in range(4):
        level = i % 3
        memory = maps[level].flatten(2).transpose(1, 2) + weights["level_embed.weight"][level]
        forbidden = F.interpolate(expected[-1][1], SIZES[level], mode="bilinear").sigmoid().flatten(2) < 0.5
        freed += int(forbidden.all(2).sum())
        forbidden[forbidden.all(2)] = False
        keys = memory + sine_position(SIZES[level], DIM, memory)
        name = f"transformer_cross_attention_layers.{i}"
        looked = attended(f"{name}.multihead_attn", x + place, keys, memory, mask=forbidden.repeat_interleave(2, dim=0))
        x = normed(f"{name}.norm", x + looked)
        name = f"transformer_self_attention_layers.{i}"
        x = normed(f"{name}.norm", x + attended(f"{name}.self_attn", x + place, x + place, x))
        name = f"transformer_ffn_layers.{i}"
        x = normed(f"{name}.norm", x + through(f"{name}.linear2", through(f"{name}.linear1", x).relu()))
        expected.append(predicted(x))
    assert freed, "the inputs have a query without any cell"
    actual = model(maps, features, every=True)
    assert len(actual) == len(expected) == 5
    for one, (classes, masks) in zip(actual, expected, strict=True):
        torch.testing.assert_close(one.class_logits, classes, rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(one.mask_logits, masks, rtol=1e-10, atol=1e-10)


def test_the_last_alone_is_the_last_of_all() -> None:
    model = randomised(decoder())
    maps, features = inputs()
    (alone,) = model(maps, features, every=False)
    last = model(maps, features, every=True)[-1]
    assert isinstance(alone, MaskOutputs) and alone.num_classes == 5
    assert torch.equal(alone.class_logits, last.class_logits) and torch.equal(alone.mask_logits, last.mask_logits)


def test_other_classes_keep_the_rest() -> None:
    model = decoder()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.half().reset_classes(9)
    assert model.class_embed.weight.shape == (10, DIM) and model.class_embed.weight.dtype == torch.float16
    model.float()
    kept = [name for name in before if not name.startswith("class_embed")]
    assert all(torch.allclose(model.state_dict()[name], before[name], atol=1e-2) for name in kept)


def test_the_authors_initialisation() -> None:
    torch.manual_seed(0)
    model = MaskedDecoder(256, 2048, num_classes=133, num_queries=100, num_layers=1, num_heads=8, num_levels=3)
    attention = model.transformer_cross_attention_layers[0].multihead_attn
    for tensor, bound in [
        (attention.in_proj_weight, math.sqrt(6 / 1024)),
        (attention.out_proj.weight, math.sqrt(6 / 512)),
        (model.transformer_ffn_layers[0].linear2.weight, math.sqrt(6 / (2048 + 256))),
        (model.class_embed.weight, 1 / math.sqrt(256)),
        (model.mask_embed.layers[2].weight, 1 / math.sqrt(256)),
    ]:
        assert tensor.abs().max().item() == pytest.approx(bound, rel=1e-2)
    for embedding in (model.query_feat, model.query_embed, model.level_embed):
        assert embedding.weight.std().item() == pytest.approx(1, rel=0.1)
    assert not attention.in_proj_bias.any() and not attention.out_proj.bias.any()


def test_a_step_reaches_every_parameter() -> None:
    model = decoder()
    maps, features = inputs()
    outputs = model([one.float() for one in maps], features.float(), every=True)
    sum(one.class_logits.square().mean() + one.mask_logits.square().mean() for one in outputs).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


def test_mixed_precision_gives_float32() -> None:
    model = decoder().eval()
    maps, features = inputs()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        (one,) = model([x.float() for x in maps], features.float(), every=False)
    assert one.class_logits.dtype == one.mask_logits.dtype == torch.float32
    assert one.mask_logits.isfinite().all()
