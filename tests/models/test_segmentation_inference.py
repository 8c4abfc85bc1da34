"""Label maps against the same inference done plainly, with the logits of all classes at full size."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from swin_transformer_pytorch.models import bands
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.segmentation_inference import (
    SegmentationError,
    preprocessing_at_ratio,
    segment,
    segment_multi_scale,
    segment_sliding,
    window_starts,
)
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing

Pair = tuple[int, int]
QUICK = settings(max_examples=40, deadline=None)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The tensors are small: threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


class Blocks(nn.Module):
    """Logits that depend on the pixels of a patch and on where it is in the input, at a quarter of its size."""

    def __init__(self, classes: int = 5) -> None:
        super().__init__()
        self.classes = classes
        self.calls: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.calls.append(tuple(images.shape))
        small = F.avg_pool2d(images, 4, ceil_mode=True)
        ramp = torch.linspace(0, 2, small.shape[3]) + torch.linspace(0, 1, small.shape[2]).unsqueeze(1)
        waves = torch.arange(1, self.classes + 1).view(1, -1, 1, 1)
        return torch.sin(waves * (3 * small[:, :1] + ramp)) + torch.cos(waves * small[:, 1:2])


def resize(x: Tensor, size: Pair) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def agree(actual: Tensor, scores: Tensor) -> None:
    """Labels are those of the highest scores (classes, H, W), but where rounding may decide between two classes."""
    assert actual.shape == scores.shape[1:] and actual.dtype == torch.uint8
    best = scores.max(dim=0).values
    chosen = scores.gather(0, actual.long().unsqueeze(0))[0]
    assert (best - chosen).max() <= 2e-5
    assert (actual == scores.argmax(dim=0)).float().mean() > 0.999


@pytest.fixture
def model() -> Blocks:
    return Blocks().eval()


@pytest.fixture(params=[2**20, 300])
def _bands(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows in one band, or few in many."""
    monkeypatch.setattr(bands, "BAND_ELEMENTS", request.param)


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("output", [(37, 61), (90, 101), (20, 33), (1, 1), (37, 30)])
def test_whole_images(model: Blocks, output: Pair) -> None:
    images = torch.randn(2, 3, 37, 61)
    logits = resize(model(images), (37, 61))
    for labels, expected in zip(segment(model, images, [output] * 2), resize(logits, output), strict=True):
        agree(labels, expected)


def test_every_image_has_its_own_original_size(model: Blocks) -> None:
    labels = segment(model, torch.randn(2, 3, 16, 20), [(30, 40), (8, 10)])
    assert [tuple(one.shape) for one in labels] == [(30, 40), (8, 10)]
    assert segment(model, torch.randn(1, 3, 16, 20))[0].shape == (16, 20)


@QUICK
@given(
    source=st.tuples(st.integers(1, 30), st.integers(1, 12)),
    target=st.tuples(st.integers(1, 30), st.integers(1, 12)),
    elements=st.integers(1, 500),
    cuts=st.lists(st.integers(1, 7), min_size=1, max_size=4),
)
def test_a_resize_in_bands_is_a_resize(source: Pair, target: Pair, elements: int, cuts: list[int]) -> None:
    x = torch.randn(3, *source)
    parts = []
    while sum(part.shape[1] for part in parts) < source[0]:
        top = sum(part.shape[1] for part in parts)
        parts.append(x[:, top : top + cuts[len(parts) % len(cuts)]])
    before, bands.BAND_ELEMENTS = bands.BAND_ELEMENTS, elements
    try:
        resized = list(bands.resize_bands(parts, source, target))
    finally:
        bands.BAND_ELEMENTS = before
    assert len({band.shape[1] for band in resized[:-1]}) <= 1
    torch.testing.assert_close(torch.cat(resized, dim=1), resize(x[None], target)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("output", [(40, 52), (23, 31)])
def test_several_sizes_average_their_softmax_at_the_original_size(model: Blocks, flip: bool, output: Pair) -> None:
    images = [torch.randn(3, *size) for size in [(20, 26), (40, 52), (61, 77)]]
    expected = torch.zeros(5, *output)
    for image in images:
        for view in (image, image.flip(2)) if flip else (image,):
            at_input_size = resize(model(view[None]), (image.shape[1], image.shape[2]))
            probabilities = resize(at_input_size, output).softmax(dim=1)[0]
            expected += probabilities if view is image else probabilities.flip(2)
    agree(segment_multi_scale(model, images, output, flip=flip), expected / (6 if flip else 3))


def test_one_size_without_a_flip_is_whole(model: Blocks) -> None:
    image = torch.randn(3, 30, 42)
    assert torch.equal(segment_multi_scale(model, [image], (30, 42), flip=False), segment(model, image[None])[0])


def plain_sliding(model: nn.Module, image: Tensor, crop: Pair, stride: Pair, output: Pair | None = None) -> Tensor:
    height, width = image.shape[1:]
    rows = max(height - crop[0] + stride[0] - 1, 0) // stride[0] + 1
    columns = max(width - crop[1] + stride[1] - 1, 0) // stride[1] + 1
    total, count = torch.zeros(5, height, width), torch.zeros(height, width)
    for row in range(rows):
        for column in range(columns):
            bottom = min(row * stride[0] + crop[0], height)
            right = min(column * stride[1] + crop[1], width)
            top, left = max(bottom - crop[0], 0), max(right - crop[1], 0)
            window = image[None, :, top:bottom, left:right]
            total[:, top:bottom, left:right] += resize(model(window), (bottom - top, right - left))[0]
            count[top:bottom, left:right] += 1
    averaged = total / count
    return averaged if output is None else resize(averaged[None], output)[0]


@pytest.mark.usefixtures("_bands")
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(
    ("size", "crop", "stride", "output"),
    [
        ((40, 56), (16, 16), (8, 8), None),
        ((41, 57), (16, 20), (11, 13), None),
        ((41, 57), (16, 20), (16, 20), None),
        ((41, 57), (16, 20), (3, 20), (70, 90)),
        ((41, 57), (16, 20), (11, 13), (23, 30)),
        ((33, 17), (16, 40), (16, 40), (66, 17)),
        ((9, 57), (16, 20), (5, 7), None),
        # So dense that sums are held, not windows.
        ((29, 41), (16, 20), (3, 2), None),
        ((29, 41), (16, 20), (3, 2), (70, 90)),
    ],
)
def test_sliding_windows(
    model: Blocks, size: Pair, crop: Pair, stride: Pair, output: Pair | None, batch_size: int
) -> None:
    image = torch.randn(3, *size)
    labels = segment_sliding(model, image, crop, stride, output, batch_size=batch_size)
    agree(labels, plain_sliding(model, image, crop, stride, output))


def test_images_of_any_sizes_get_what_each_gets_alone_in_their_order() -> None:
    model = Blocks().eval()
    images = [torch.randn(3, *size) for size in ((20, 30), (9, 16), (20, 30), (16, 9))]
    sizes = [(40, 60), (9, 16), (25, 25), (32, 18)]
    maps = segment(model, images, sizes)
    assert model.calls == [(2, 3, 20, 30), (1, 3, 9, 16), (1, 3, 16, 9)]
    for labels, image, size in zip(maps, images, sizes, strict=True):
        assert torch.equal(labels, segment(model, image[None], [size])[0])
    assert segment(model, [], []) == []
    with pytest.raises(SegmentationError, match="3 output sizes for 4 images"):
        segment(model, images, sizes[:3])


def test_a_batch_of_one_size_is_not_copied() -> None:
    model, taken = nn.Conv2d(3, 4, 3, padding=1).eval(), []
    model.register_forward_pre_hook(lambda module, arguments: taken.append(arguments[0].data_ptr()))
    batch = torch.randn(2, 3, 8, 10).to(memory_format=torch.channels_last)
    segment(model, batch)
    assert taken == [batch.data_ptr()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pixels_go_where_the_model_is_and_are_of_its_type(dtype: torch.dtype) -> None:
    model = nn.Conv2d(3, 4, 3, stride=2, padding=1, device="meta", dtype=dtype).eval()  # any device but the images'
    image = torch.randn(3, 40, 50)
    maps = [
        *segment(model, [image, image[:, ::2]]),
        segment_sliding(model, image, (16, 16), (10, 10), (80, 100)),
        segment_multi_scale(model, [image, image[:, ::2, ::2]], (40, 50)),
    ]
    assert [tuple(labels.shape) for labels in maps] == [(40, 50), (20, 50), (80, 100), (40, 50)]
    assert {labels.device.type for labels in maps} == {"meta"}


@pytest.mark.parametrize("crop", [(30, 42), (64, 50)])
@pytest.mark.parametrize("output", [None, (61, 70)])
def test_one_window_that_covers_the_image_is_whole(crop: Pair, output: Pair | None) -> None:
    config = SegmenterConfig(num_classes=4, decode_dim=8, auxiliary_dim=4).replace(
        embed_dim=8, depths=(1, 1), num_heads=(1, 1), window_size=3, auxiliary_index=0
    )
    torch.manual_seed(0)
    model = build(ModelDescription(config=config)).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    image = torch.randn(3, 30, 42)
    whole = segment(model, image[None], None if output is None else [output])[0]
    assert torch.equal(segment_sliding(model, image, crop, (7, 9), output), whole)
    assert len(whole.unique()) > 1


@QUICK
@given(length=st.integers(1, 60), crop=st.integers(1, 30), stride=st.integers(1, 30))
def test_windows_cover_a_side_and_stay_inside(length: int, crop: int, stride: int) -> None:
    crop, stride = min(crop, length), min(stride, crop)
    starts = window_starts(length, crop, stride)
    covered = {place for start in starts for place in range(start, start + crop)}
    assert covered == set(range(length))
    assert starts == sorted(set(starts))


class LargestTensor(TorchDispatchMode):
    """Counts the elements of the largest tensor of floats that any operation gives."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                self.elements = max(self.elements, tensor.numel())
        return out


@pytest.mark.parametrize("output", [None, (200, 70), (60, 20)])
def test_sliding_never_holds_all_classes_for_the_whole_image(
    output: Pair | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bands, "BAND_ELEMENTS", 2**13)
    classes, crop, width = 50, 16, 64
    image = torch.randn(3, 180, width)
    with LargestTensor() as largest:
        segment_sliding(Blocks(classes).eval(), image, (crop, crop), (8, 8), output)
    assert largest.elements <= classes * crop * width
    assert classes * crop * width < classes * 180 * width / 10


def test_whole_images_are_reduced_in_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "BAND_ELEMENTS", 2**15)
    with LargestTensor() as largest:
        segment(Blocks(50).eval(), torch.randn(1, 3, 80, 80), [(320, 320)])
    assert largest.elements <= 50 * 320 * 320 // 100


def test_more_than_256_classes_need_more_than_a_byte() -> None:
    labels = segment(Blocks(300).eval(), torch.randn(1, 3, 16, 16))[0]
    assert labels.dtype == torch.int32 and labels.max() < 300


def test_labels_may_be_changed_in_place(model: Blocks) -> None:
    labels = segment(model, torch.randn(1, 3, 16, 16))[0]
    labels[labels == 1] = 255


def test_half_precision_logits_are_resized_in_float32() -> None:
    class Half(Blocks):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).bfloat16()

    image = torch.randn(1, 3, 24, 24)
    expected = resize(Half().eval()(image).float(), (24, 24))[0]
    agree(segment(Half().eval(), image)[0], expected)


def test_the_resize_of_each_ratio() -> None:
    ade = DensePreprocessing.ade20k()
    assert [preprocessing_at_ratio(ade, ratio, (480, 640)).scale for ratio in (0.5, 0.75, 1.75)] == [
        (1024, 256),
        (1536, 384),
        (3584, 896),
    ]
    unlimited = DensePreprocessing(scale=None, size_divisor=1)
    assert preprocessing_at_ratio(unlimited, 0.5, (33, 101)).scale == (50, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((0, 4), (1, 1)), r"crop_size=\(0, 4\)"),
        (((8, 8), (4, 0)), r"stride=\(4, 0\)"),
        (((8, 8), (9, 4)), r"stride=\(9, 4\).*at most crop_size=\(8, 8\)"),
    ],
)
def test_windows_that_are_not_possible(model: Blocks, arguments: tuple[Pair, Pair], message: str) -> None:
    with pytest.raises(SegmentationError, match=message):
        segment_sliding(model, torch.zeros(3, 20, 20), *arguments)


def test_other_mistakes(model: Blocks) -> None:
    image = torch.zeros(3, 20, 20)
    with pytest.raises(SegmentationError, match="batch_size=0"):
        segment_sliding(model, image, (8, 8), (4, 4), batch_size=0)
    with pytest.raises(SegmentationError, match="2 output sizes for 1 images"):
        segment(model, image[None], [(4, 4), (5, 5)])
    with pytest.raises(SegmentationError, match="no image"):
        segment_multi_scale(model, [], (4, 4))
    with pytest.raises(SegmentationError, match=r"model\.eval\(\)"):
        segment(model.train(), image[None])
