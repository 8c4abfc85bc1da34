"""HTC's semantic branch against a plain second version of it, and its loss against a sum by hand."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from swin_transformer_pytorch.heads.semantic import SemanticHead, semantic_loss, stack_semantic_labels

CHANNELS, CLASSES = 4, 6


def maps(batch: int = 2) -> list[Tensor]:
    sizes = [(12, 20), (6, 10), (3, 5), (2, 3), (1, 2)]
    return [torch.randn(batch, CHANNELS, *size) for size in sizes]


def resized(source: Tensor, height: int, width: int) -> Tensor:
    """Bilinear, corners on corners, cell by cell."""
    out = torch.zeros(*source.shape[:2], height, width)
    for row in range(height):
        for column in range(width):
            y = row * (source.shape[2] - 1) / (height - 1)
            x = column * (source.shape[3] - 1) / (width - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, source.shape[2] - 1), min(left + 1, source.shape[3] - 1)
            upper = source[..., top, left] * (1 - (x - left)) + source[..., top, right] * (x - left)
            lower = source[..., bottom, left] * (1 - (x - left)) + source[..., bottom, right] * (x - left)
            out[..., row, column] = upper * (1 - (y - top)) + lower * (y - top)
    return out


def branch(state: dict[str, Tensor], features: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Written from the description, by the official names of the parameters alone."""

    def conv(name: str, x: Tensor, padding: int = 0) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    grids = [feature if level == 1 else resized(feature, 6, 10) for level, feature in enumerate(features)]
    x = sum(conv(f"lateral_convs.{level}.conv", grid).clamp(min=0) for level, grid in enumerate(grids))
    assert isinstance(x, Tensor)
    for i in range(4):
        x = conv(f"convs.{i}.conv", x, padding=1).clamp(min=0)
    return conv("conv_logits", x), conv("conv_embedding.conv", x).clamp(min=0)


def test_it_is_the_branch_as_described() -> None:
    head = SemanticHead(channels=CHANNELS, num_classes=CLASSES)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    features = maps()
    logits, embedding = head(features)
    assert logits.shape == (2, CLASSES, 6, 10) and embedding.shape == (2, CHANNELS, 6, 10)
    expected_logits, expected_embedding = branch(head.state_dict(), features)
    torch.testing.assert_close(logits, expected_logits)
    torch.testing.assert_close(embedding, expected_embedding)


def test_its_parameters_have_the_official_names() -> None:
    convs = [f"lateral_convs.{i}.conv" for i in range(5)] + [f"convs.{i}.conv" for i in range(4)]
    convs += ["conv_embedding.conv", "conv_logits"]
    expected = {f"{name}.{part}" for name in convs for part in ("weight", "bias")}
    state = SemanticHead(channels=256, num_classes=183).state_dict()
    assert set(state) == expected
    assert state["conv_logits.weight"].shape == (183, 256, 1, 1)
    assert state["convs.3.conv.weight"].shape == (256, 256, 3, 3)
    assert state["lateral_convs.4.conv.weight"].shape == (256, 256, 1, 1)


def test_the_loss_is_a_fifth_of_the_mean_over_labelled_pixels() -> None:
    logits = torch.randn(2, 3, 2, 2)
    labels = torch.tensor([[[0, 1], [2, 255]], [[255, 255], [1, 1]]])
    total, count = 0.0, 0
    for image in range(2):
        for y in range(2):
            for x in range(2):
                label = int(labels[image, y, x])
                if label != 255:
                    total -= float(logits[image, :, y, x].log_softmax(0)[label])
                    count += 1
    assert float(semantic_loss(logits, labels)) == pytest.approx(0.2 * total / count, rel=1e-5)


def test_nothing_labelled_is_no_loss_and_no_nan() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = semantic_loss(logits, torch.full((1, 2, 2), 255))
    loss.backward()
    assert loss.item() == 0 and logits.grad is not None and bool((logits.grad == 0).all())


def test_a_label_beyond_the_classes_is_named() -> None:
    with pytest.raises(ValueError, match=r"label 7 is beyond the 3 classes.*num_semantic_classes"):
        semantic_loss(torch.zeros(1, 3, 1, 2), torch.tensor([[[0, 7]]]))


def test_a_smaller_images_missing_labels_are_ignored() -> None:
    small, large = torch.full((1, 2), 4, dtype=torch.uint8), torch.ones(2, 3, dtype=torch.int64)
    stacked = stack_semantic_labels([small, large], (2, 3), stride=8)
    assert stacked.tolist() == [[[4, 4, 255], [255, 255, 255]], [[1, 1, 1], [1, 1, 1]]]


@pytest.mark.parametrize(
    ("stride", "expected"), [(8, [0, 1, 2, 3]), (4, [0, 0, 1, 1, 2, 2, 3, 3]), (16, [0, 2]), (6, [0, 0, 1, 2, 3])]
)
def test_labels_come_to_the_grid_of_another_stride(stride: int, expected: list[int]) -> None:
    row = torch.arange(4)[None].repeat(4, 1)
    stacked = stack_semantic_labels([row], (len(expected), len(expected)), stride)
    assert stacked[0, 0].tolist() == expected and stacked.shape[1:] == (len(expected),) * 2


def test_an_image_without_labels_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"image 1 .*stuff_folder.*cascade_mask_rcnn"):
        stack_semantic_labels([torch.zeros(2, 2, dtype=torch.int64), None], (2, 2), 8)
