"""mAP and F1 of several labels an image, against scikit-learn's and torchmetrics'."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.metrics import average_precision_score, f1_score
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_average_precision

from swin_transformer_pytorch.evaluation.classification import EvaluationError, evaluate
from swin_transformer_pytorch.evaluation.multi_label import MultiLabelCounts, MultiLabelReport, average_precision

NAMES = ("ant", "bee", "cat")


class Answers(nn.Module):
    """A model whose logits are the images themselves."""

    multi_label = True
    classes = NAMES

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def items(logits: np.ndarray, labels: np.ndarray) -> list[object]:
    return [(torch.from_numpy(one)[:, None, None], row) for one, row in zip(logits, labels, strict=True)]


# Few values, so that many are equal; columns without a positive come up.
LOGITS = arrays.arrays(np.float32, (12, 3), elements=st.sampled_from([-2.0, -1.0, 0.0, 0.5, 3.0]))
LABELS = arrays.arrays(np.uint8, (12, 3), elements=st.integers(0, 1))


@given(logits=LOGITS, labels=LABELS, batch_size=st.sampled_from([1, 5, 64]))
def test_the_figures_are_the_peers(logits: np.ndarray, labels: np.ndarray, batch_size: int) -> None:
    scored = labels.any(axis=0)
    if not scored.any():
        with pytest.raises(EvaluationError, match="none of the 12 images has a label"):
            evaluate(Answers(), items(logits, labels), batch_size=batch_size, device="cpu", progress=False)
        return
    report = evaluate(Answers(), items(logits, labels), batch_size=batch_size, device="cpu", progress=False)
    assert isinstance(report, MultiLabelReport)
    wanted = average_precision_score(labels[:, scored], logits[:, scored], average=None)
    assert [one for one in report.ap.values() if one is not None] == pytest.approx(np.atleast_1d(wanted).tolist())
    scores, truth = torch.from_numpy(logits).sigmoid(), torch.from_numpy(labels).long()
    peer = [binary_average_precision(scores[:, one], truth[:, one]).item() for one in np.flatnonzero(scored)]
    assert report.mean_ap == pytest.approx(np.mean(peer), abs=1e-6)
    assert report.f1 == pytest.approx(f1_score(labels, logits >= 0, average=None, zero_division=0.0)[scored].mean())
    assert (report.num_scored, report.num_images) == (scored.sum(), 12)
    assert report.positives == dict(zip(NAMES, labels.sum(axis=0).tolist(), strict=True))
    assert [name for name, one in report.ap.items() if one is None] == [
        n for n, has in zip(NAMES, scored, strict=True) if not has
    ]
    assert [*report.class_f1] == [*report.ap] == [*NAMES]


@given(st.integers(1, 300).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, 2**32 - 1), st.integers(1, 40))))
def test_average_precision_of_any_scores(drawn: tuple[int, int, int]) -> None:
    count, seed, levels = drawn
    rng = np.random.default_rng(seed)
    scores, truth = rng.integers(levels, size=count).astype(np.float32), rng.random(count) < 0.3
    if truth.any():
        assert average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores))
    else:
        assert np.isnan(average_precision(scores, truth))


def test_damaged_images_are_skipped_and_the_report_is_saved(tmp_path: Path) -> None:
    logits = np.array([[3, -1, -1], [-1, 2, -1]], dtype=np.float32)
    data = [*items(logits, (logits > 0).astype(np.uint8)), "photo 2 is damaged"]
    report = evaluate(Answers(), data, batch_size=2, device="cpu", progress=False)
    assert (report.num_images, report.skipped, report.mean_ap, report.f1) == (2, ("photo 2 is damaged",), 1.0, 1.0)
    saved = json.loads(report.save(tmp_path).read_text(encoding="utf-8"))
    assert saved == report.to_dict() and saved["ap"] == {"ant": 1.0, "bee": 1.0, "cat": None}


def test_labels_of_the_other_kind_are_an_error() -> None:
    image = torch.zeros(3, 1, 1)
    with pytest.raises(EvaluationError, match=r"the labels are \(1,\) and the model gives \(1, 3\)"):
        evaluate(Answers(), [(image, 1)], device="cpu", progress=False)
    single = Answers()
    single.multi_label = False
    with pytest.raises(EvaluationError, match="several labels each and the model gives one"):
        evaluate(single, [(image, np.array([0, 1, 1], dtype=np.uint8))], device="cpu", progress=False)
    with pytest.raises(EvaluationError, match="for 4 classes"):
        MultiLabelCounts(4).add(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.uint8))
