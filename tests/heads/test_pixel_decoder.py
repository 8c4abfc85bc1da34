"""The pixel decoder: its encoder against the same written out, its maps, its beginning."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from swin_transformer_pytorch.heads.deformable import DeformableAttention, DeformableLayer, cell_centres
from swin_transformer_pytorch.heads.pixel_decoder import PixelDecoder
from swin_transformer_pytorch.heads.sine_position import sine_position
from swin_transformer_pytorch.ops.deformable import deformable_attention

DIMS = (6, 12, 24, 48)
SIZES = [(13, 10), (7, 5), (4, 3), (2, 2)]


def decoder() -> PixelDecoder:
    torch.manual_seed(0)
    return PixelDecoder(DIMS, 32, feedforward_dim=24, num_layers=2, num_heads=4)


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    """Nothing is at its first 0 or 1, and offsets stay small."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in module.state_dict().items():
        noise = 0.2 * torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
        tensor.copy_(noise + ("norm" in name and name.endswith("weight")))
    return module.double().eval()


def maps() -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = [(2, dim, *size) for dim, size in zip(DIMS, SIZES, strict=True)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def test_positions_are_sines_and_cosines_of_rows_then_columns() -> None:
    actual = sine_position((3, 5), 12, torch.zeros((), dtype=torch.float64)).view(3, 5, 12)
    for row, column, channel in [(0, 0, 0), (2, 4, 1), (1, 3, 4), (2, 0, 7), (0, 4, 10), (1, 1, 11)]:
        place, length = (row, 3) if channel < 6 else (column, 5)
        wave = channel % 6
        angle = (place + 1) / (length + 1e-6) * 2 * math.pi / 10000 ** (2 * (wave // 2) / 6)
        expected = math.cos(angle) if wave % 2 else math.sin(angle)
        assert actual[row, column, channel].item() == pytest.approx(expected, abs=1e-12)


def test_an_encoder_layer_is_its_description() -> None:
    layer = randomised(DeformableLayer(16, 24, num_heads=2, num_levels=2, num_points=3))
    weights = layer.state_dict()
    sizes = [(3, 4), (2, 2)]
    generator = torch.Generator().manual_seed(3)
    x = torch.randn(2, 16, 16, generator=generator, dtype=torch.float64)
    position = torch.randn(16, 16, generator=generator, dtype=torch.float64)

    def through(name: str, x: Tensor) -> Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def normed(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (16,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    query = x + position
    offsets = through("self_attn.sampling_offsets", query).view(2, 16, 2, 2, 3, 2)
    shares = through("self_attn.attention_weights", query).view(2, 16, 2, 6).softmax(3).view(2, 16, 2, 2, 3)
    locations = torch.empty_like(offsets)
    cells = [
        ((x + 0.5) / width, (y + 0.5) / height) for height, width in sizes for y in range(height) for x in range(width)
    ]
    for q, (x0, y0) in enumerate(cells):
        for level, (height, width) in enumerate(sizes):
            locations[:, q, :, level, :, 0] = x0 + offsets[:, q, :, level, :, 0] / width
            locations[:, q, :, level, :, 1] = y0 + offsets[:, q, :, level, :, 1] / height
    value = through("self_attn.value_proj", x).view(2, 16, 2, 8)
    read = through("self_attn.output_proj", deformable_attention(value, sizes, locations, shares))
    hidden = normed("norm1", x + read)
    expected = normed("norm2", hidden + through("linear2", through("linear1", hidden).relu()))

    centres = torch.cat([cell_centres(size, x.device, x.dtype) for size in sizes])
    lengths = torch.tensor([(width, height) for height, width in sizes], dtype=x.dtype)
    torch.testing.assert_close(layer(x, position, sizes, centres, lengths), expected, rtol=1e-11, atol=1e-11)


def test_heads_begin_by_looking_all_around() -> None:
    attention = DeformableAttention(32, num_heads=8, num_levels=3, num_points=4)
    offsets = attention.sampling_offsets.bias.view(8, 3, 4, 2)
    for head, direction in [(0, (1, 0)), (1, (1, 1)), (2, (0, 1)), (5, (-1, -1)), (7, (1, -1))]:
        for level in range(3):
            for point in range(4):
                expected = torch.tensor(direction) * (point + 1.0)
                torch.testing.assert_close(offsets[head, level, point], expected, atol=1e-5, rtol=0)
    for name in ("sampling_offsets.weight", "attention_weights.weight", "attention_weights.bias", "value_proj.bias"):
        assert not attention.state_dict()[name].any()
    assert attention.value_proj.weight.abs().max() <= math.sqrt(6 / 64)


def test_the_authors_initialisation() -> None:
    torch.manual_seed(0)
    model = PixelDecoder((96, 192, 384, 768), 256, feedforward_dim=1024, num_layers=1, num_heads=8)
    layer = model.transformer.encoder.layers[0]
    for tensor, bound in [
        (model.input_proj[0][0].weight, math.sqrt(6 / (768 + 256))),
        (layer.linear1.weight, math.sqrt(6 / (256 + 1024))),
        (layer.self_attn.output_proj.weight, math.sqrt(6 / 512)),
        (model.adapter_1.weight, math.sqrt(3 / 96)),
        (model.layer_1.weight, math.sqrt(3 / (256 * 9))),
        (model.mask_features.weight, math.sqrt(3 / 256)),
    ]:
        assert tensor.abs().max().item() == pytest.approx(bound, rel=1e-2)
        assert tensor.std().item() == pytest.approx(bound / math.sqrt(3), rel=2e-2)
    assert model.transformer.level_embed.std().item() == pytest.approx(1, rel=0.1)
    assert not model.mask_features.bias.any() and not model.input_proj[0][0].bias.any()


def test_it_gives_the_encoders_maps_coarsest_first_and_the_finest_with_them() -> None:
    model = randomised(decoder())
    with torch.no_grad():
        features, levels = model(maps())
        assert features.shape == (2, 32, *SIZES[0])
        assert [tuple(level.shape[2:]) for level in levels] == SIZES[:0:-1]
        weights = model.state_dict()
        lateral = F.conv2d(maps()[0], weights["adapter_1.weight"])
        lateral = F.group_norm(lateral, 32, weights["adapter_1.norm.weight"], weights["adapter_1.norm.bias"])
        x = lateral + F.interpolate(levels[2], SIZES[0], mode="bilinear", align_corners=False)
        x = F.conv2d(x, weights["layer_1.weight"], padding=1)
        x = F.group_norm(x, 32, weights["layer_1.norm.weight"], weights["layer_1.norm.bias"]).relu()
        expected = F.conv2d(x, weights["mask_features.weight"], weights["mask_features.bias"])
    torch.testing.assert_close(features, expected, rtol=1e-10, atol=1e-10)


def test_an_image_is_what_it_is_alone() -> None:
    model = randomised(decoder())
    with torch.no_grad():
        features, levels = model(maps())
        alone, levels_alone = model([one[1:] for one in maps()])
    torch.testing.assert_close(alone, features[1:])
    for one, other in zip(levels_alone, levels, strict=True):
        torch.testing.assert_close(one, other[1:])


def test_mixed_precision_changes_nothing() -> None:
    model = decoder().eval()
    x = [one.float() for one in maps()]
    with torch.no_grad():
        expected, _ = model(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            actual, levels = model([one.bfloat16().float() for one in x])
            halves, _ = model([one.bfloat16() for one in x])
    assert actual.dtype == levels[0].dtype == torch.float32
    torch.testing.assert_close(halves, actual, rtol=0, atol=0)
    assert (actual - expected).abs().max() < 0.05 * expected.abs().max()


def test_a_step_reaches_every_parameter() -> None:
    model = decoder()
    features, levels = model([one.float() for one in maps()])
    (features.square().mean() + sum(level.square().mean() for level in levels)).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without
