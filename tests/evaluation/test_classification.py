"""Accuracy and the confusion matrix, against counts by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from swin_transformer_pytorch.evaluation.classification import ClassificationCounts, EvaluationError, evaluate

NAMES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


class Answers(nn.Module):
    """A model whose logits are the images themselves."""

    def __init__(self, classes: tuple[str, ...] | None = NAMES) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


class Images:
    """Logits as images, (C, 1, 1)."""

    def __init__(self, logits: Tensor, labels: list[int], classes: tuple[str, ...] | None = None) -> None:
        self.logits, self.labels = logits, labels
        if classes is not None:
            self.classes = classes

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if self.labels[index] == -1:
            return f"photo {index} is damaged"
        return self.logits[index].view(-1, 1, 1), self.labels[index]


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_figures_are_those_counted_by_hand(batch_size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, 7, generator=generator)
    labels = torch.randint(6, (40,), generator=generator)  # no image of the last class
    report = evaluate(Answers(), Images(logits, labels.tolist()), batch_size=batch_size, device="cpu", progress=False)
    order = logits.argsort(dim=1, descending=True)
    assert report.top1 == pytest.approx((order[:, 0] == labels).float().mean().item())
    assert report.top5 == pytest.approx((order[:, :5] == labels[:, None]).any(1).float().mean().item())
    expected = np.zeros((7, 7), dtype=np.int64)
    for label, predicted in zip(labels.tolist(), order[:, 0].tolist(), strict=True):
        expected[label, predicted] += 1
    np.testing.assert_array_equal(report.confusion_matrix, expected)
    assert report.num_images == 40
    assert report.classes == NAMES
    assert "gnu" not in report.per_class
    assert set(report.per_class) == set(report.precision) == set(report.f1) == {*NAMES} - {"gnu"}
    for label, name in enumerate(NAMES):
        if name == "gnu":
            continue
        recall, taken = expected[label, label] / expected[label].sum(), expected[:, label].sum()
        precision = expected[label, label] / taken if taken else None
        assert report.per_class[name] == pytest.approx(recall)
        assert report.precision[name] == (precision if precision is None else pytest.approx(precision))
        both = (precision or 0) + recall
        assert report.f1[name] == pytest.approx(2 * (precision or 0) * recall / both if both else 0)


@pytest.mark.parametrize("num_classes", [2, 4])
def test_fewer_than_five_classes_have_a_perfect_top5(num_classes: int) -> None:
    report = evaluate(
        Answers(None), Images(torch.eye(num_classes), [1] + [0] * (num_classes - 1)), device="cpu", progress=False
    )
    assert report.top5 == 1.0
    assert report.top1 < 1.0
    assert report.classes == tuple(str(index) for index in range(num_classes))


def test_counting_takes_no_more_memory_where_there_are_many_classes() -> None:
    counts = ClassificationCounts(1_000_000)  # its confusion matrix would take 8 TB
    counts.add(torch.arange(3e6).view(3, -1), torch.tensor([999_999, 999_995, 999_994]))
    assert (counts.num_images, counts.in_top1, counts.in_top5) == (3, 1, 2)


def test_names_that_classes_share_are_told_apart() -> None:
    model = Answers(("crane", "crane", "cat"))
    report = evaluate(model, Images(torch.eye(3), [0, 0, 2]), device="cpu", progress=False)
    assert report.per_class == {"crane [0]": 0.5, "cat": 1.0}
    never = evaluate(model, Images(torch.eye(3)[[0, 0]], [0, 2]), device="cpu", progress=False)
    assert never.precision == {"crane [0]": 0.5, "cat": None} and never.f1["cat"] == 0


def test_damaged_images_are_skipped_and_named() -> None:
    report = evaluate(
        Answers(), Images(torch.eye(7), [-1, 1, 2, -1, 0, 5, 6]), batch_size=2, device="cpu", progress=False
    )
    assert report.num_images == 5
    assert report.top1 == pytest.approx(4 / 5)
    assert report.skipped == ("photo 0 is damaged", "photo 3 is damaged")
    with pytest.raises(EvaluationError, match=r"none of the 2 images.*photo 0"):
        evaluate(Answers(), Images(torch.eye(7), [-1, -1]), device="cpu", progress=False)


def test_the_report_is_saved_as_json(tmp_path: Path) -> None:
    report = evaluate(Answers(), Images(torch.eye(7), list(range(7))), device="cpu", progress=False)
    path = report.save(tmp_path / "new" / "folder")
    assert json.loads(path.read_text(encoding="utf-8")) == report.to_dict()


def test_what_does_not_fit_together_is_an_error() -> None:
    seven = torch.eye(7)
    with pytest.raises(EvaluationError, match="no images"):
        evaluate(Answers(), Images(seven, []), device="cpu")
    with pytest.raises(EvaluationError, match="does not know yak"):
        evaluate(Answers(), Images(seven, [0], classes=(*NAMES[:6], "yak")), device="cpu")
    with pytest.raises(EvaluationError, match="go from 9 to 9"):
        evaluate(Answers(), Images(seven, [9]), device="cpu")
    with pytest.raises(EvaluationError, match="not all finite"):
        evaluate(Answers(), Images(seven * torch.nan, [0]), device="cpu")
    with pytest.raises(EvaluationError, match="batch_size=0"):
        evaluate(Answers(), Images(seven, [0]), batch_size=0, device="cpu")


def test_images_that_are_not_prepared_are_an_error() -> None:
    from swin_transformer_pytorch.data.classification.fashion import FashionSample

    with pytest.raises(EvaluationError, match="EvaluationDataset"):
        evaluate(Answers(None), FashionSample("test"), device="cpu")  # type: ignore[arg-type]
