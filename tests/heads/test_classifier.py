"""The classification loss against PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F

from swin_transformer_pytorch.heads.classifier import smooth_targets, soft_cross_entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_smoothed_labels_is_pytorchs(smoothing: float) -> None:
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 3, 0])
    targets = smooth_targets(labels, 4, smoothing)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(6))
    expected = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(soft_cross_entropy(logits, targets), expected)


def test_half_precision_logits_are_taken_in_float32() -> None:
    logits, targets = torch.randn(3, 5).bfloat16(), torch.full((3, 5), 0.2)
    loss = soft_cross_entropy(logits, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, soft_cross_entropy(logits.float(), targets))


def test_shapes_that_differ_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\).*\(2, 4\)"):
        soft_cross_entropy(torch.zeros(2, 3), torch.zeros(2, 4))
