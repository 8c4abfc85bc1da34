import pytest
import torch
import torch.nn.functional as F

from swin_transformer_pytorch.weights.adapt import adapt_first_convolution, fit_state_dict, resize_bias_table
from swin_transformer_pytorch.weights.geometric import resize_bias_table_geometrically
from swin_transformer_pytorch.weights.imagenet_classes import imagenet22k_to_1k

TABLE = "layers.0.blocks.0.attn.relative_position_bias_table"


def test_square_table_is_resized_as_the_official_code_does():
    table = torch.randn(13 * 13, 3)
    official = F.interpolate(table.permute(1, 0).view(1, 3, 13, 13), size=(23, 23), mode="bicubic")
    expected = official.view(3, 23 * 23).permute(1, 0)
    assert torch.equal(resize_bias_table(table, (7, 7), (12, 12)), expected)


def test_oblong_table_keeps_rows_and_columns_apart():
    down, across = torch.meshgrid(torch.linspace(-1, 1, 13), torch.linspace(-1, 1, 5), indexing="ij")
    table = torch.stack([down, across], dim=-1).flatten(0, 1)
    resized = resize_bias_table(table, (7, 3), (7, 6)).reshape(13, 11, 2)
    assert torch.allclose(resized[..., 0], down[:, :1].expand(13, 11), atol=1e-6)
    assert (resized[:, 1:, 1] > resized[:, :-1, 1] - 1e-6).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_table_keeps_its_dtype(dtype):
    assert resize_bias_table(torch.ones(9, 2, dtype=dtype), (2, 2), (3, 3)).dtype == dtype


def test_one_channel_sees_a_grey_image_as_three_did():
    weight, grey = torch.randn(8, 3, 4, 4), torch.randn(2, 1, 8, 8)
    expected = F.conv2d(grey.expand(-1, 3, -1, -1), weight, stride=4)
    assert torch.allclose(F.conv2d(grey, adapt_first_convolution(weight, 1), stride=4), expected, atol=1e-5)


@pytest.mark.parametrize("channels", [2, 4, 6, 12])
def test_more_channels_keep_the_size_of_the_answer(channels):
    weight = torch.randn(8, 3, 4, 4)
    adapted = adapt_first_convolution(weight, channels)
    assert adapted.shape == (8, channels, 4, 4)
    for channel in range(channels):
        assert torch.allclose(adapted[:, channel], weight[:, channel % 3] * 3 / channels)


def test_head_of_22k_gives_1k_its_rows():
    head = {"head.weight": torch.arange(21841.0)[:, None].repeat(1, 2), "head.bias": torch.arange(21841.0)}
    fit = fit_state_dict(head, {"head.weight": torch.empty(1000, 2), "head.bias": torch.empty(1000)})
    assert fit.fits
    assert fit.tensors["head.bias"].tolist() == list(imagenet22k_to_1k())
    assert {change.key for change in fit.sliced} == head.keys()


@pytest.mark.parametrize(
    ("source", "target", "fits"),
    [
        ((9, 3), (25, 3), True),
        ((9, 3), (9, 6), False),  # other heads
        ((15, 3), (25, 3), False),  # not of a square window, and nothing tells which
        ((16, 3), (25, 3), False),  # a table's sides are odd
    ],
)
def test_only_tables_of_known_windows_are_resized(source, target, fits):
    fit = fit_state_dict({TABLE: torch.ones(source)}, {TABLE: torch.empty(target)})
    assert fit.fits == fits
    if fits:
        assert torch.allclose(fit.tensors[TABLE], torch.ones(target), atol=1e-6)


def test_tables_of_one_size_and_two_windows_are_told_apart():
    """(1, 5) and (5, 1) both have nine offsets."""
    table = torch.arange(9.0)[:, None]
    target = {TABLE: torch.empty(9, 1)}
    turned = fit_state_dict({TABLE: table}, target, windows=((1, 5), (5, 1)))
    assert turned.resized
    same = fit_state_dict({TABLE: table}, target, windows=((1, 5), (1, 5)))
    assert not same.resized
    assert torch.equal(same.tensors[TABLE], table)


def test_numbers_of_another_kind_do_not_fit():
    fit = fit_state_dict({"norm.weight": torch.ones(4, dtype=torch.int8)}, {"norm.weight": torch.empty(4)})
    assert fit.misshaped == ["norm.weight: torch.int8 in the file, torch.float32 in the model"]


def official_geometric_resize(table, source, target):
    """The official fine-tuning of SimMIM (`remap_pretrained_keys_swin`), with the spline of today's SciPy."""
    interpolate = pytest.importorskip("scipy.interpolate")
    ratio, left, right = 0.0, 1.01, 1.5
    while right - left > 1e-6:
        ratio = (left + right) / 2
        if sum(ratio**power for power in range(source - 1)) > target - 1:
            right = ratio
        else:
            left = ratio
    side = [sum(ratio**power for power in range(count)) for count in range(1, source)]
    places = [-place for place in reversed(side)] + [0.0] + side
    wanted = [min(max(offset, places[0]), places[-1]) for offset in range(1 - target, target)]
    sides = 2 * source - 1
    columns = [
        interpolate.RectBivariateSpline(places, places, head.reshape(sides, sides).numpy(), s=0)(wanted, wanted)
        for head in table.t()
    ]
    return torch.stack([torch.from_numpy(column).flatten() for column in columns], dim=1)


@pytest.mark.parametrize(("source", "target"), [(6, 7), (6, 12), (12, 14), (7, 6), (3, 8)])
def test_tables_of_masked_pretraining_are_resized_as_the_official_code_does(source, target):
    table = torch.randn((2 * source - 1) ** 2, 3, dtype=torch.float64)
    found = resize_bias_table_geometrically(table, (source, source), (target, target))
    assert (found - official_geometric_resize(table, source, target)).abs().max() < 1e-12


def test_geometric_resize_keeps_the_middle_and_flat_tables_and_does_each_axis_by_itself():
    table = torch.randn(11 * 11, 2)
    resized = resize_bias_table_geometrically(table, (6, 6), (7, 9))
    assert resized.shape == (13 * 17, 2) and resized.dtype == torch.float32
    assert torch.allclose(resized.reshape(13, 17, 2)[6, 8], table.reshape(11, 11, 2)[5, 5], atol=1e-6)
    flat = resize_bias_table_geometrically(torch.full((121, 1), 0.25), (6, 6), (7, 7))
    assert torch.allclose(flat, torch.full((169, 1), 0.25), atol=1e-6)


@pytest.mark.parametrize("masked", [True, False])
def test_only_files_of_masked_pretraining_are_resized_so(masked):
    key = "layers.0.blocks.0.attn.relative_position_bias_table"
    table = torch.randn(121, 3)
    held = {key: table} | ({"mask_token": torch.zeros(1, 1, 8)} if masked else {})
    fit = fit_state_dict(held, {key: torch.zeros(169, 3)})
    resize = resize_bias_table_geometrically if masked else resize_bias_table
    assert torch.equal(fit.tensors[key], resize(table, (6, 6), (7, 7)))
    assert ("geometric grid" in fit.resized[0].why) == masked
