"""`swin models`: what it lists is what the catalogue and the registry have."""

from __future__ import annotations

import json

import pytest

from swin_transformer_pytorch.backbone.config import VARIANTS
from swin_transformer_pytorch.models.config import DENSE_VARIANTS
from swin_transformer_pytorch.models.registry import list_models
from swin_transformer_pytorch.weights.catalog import records


def test_lists_every_model_once(swin) -> None:
    outcome = swin("models")
    lines = [line.split() for line in outcome.out.splitlines()]
    names = [words[0] for words in lines if words and words[0] in VARIANTS]
    assert outcome.code == 0
    assert sorted(names) == list_models("classification")
    assert "--task detection" in outcome.err and "--task segmentation" in outcome.err


def test_a_line_has_size_accuracy_and_number_of_weights(swin) -> None:
    name = "swin_tiny_patch4_window7_224"
    line = next(line for line in swin("models").out.splitlines() if name in line)
    assert line.split() == [name, "224", "28.3M", "4.5", "81.2", str(len(records(name)))]


def test_a_name_lists_each_of_its_weights_with_its_source(swin) -> None:
    out = swin("models", "--name", "swinv2_tiny_patch4_window8_256").out
    for record in records("swinv2_tiny_patch4_window8_256"):
        line = next(line for line in out.splitlines() if f"{record.full_name} " in line)
        assert record.source in line
        assert record.published_by is None or record.published_by.split()[0].removeprefix("github.com/") in line


def test_names_may_be_globs(swin) -> None:
    found = json.loads(swin("models", "--name", "swinv2_*_256", "--json").out)
    assert {entry["name"] for entry in found} == {
        name for name in VARIANTS if name.startswith("swinv2") and name.endswith("_256")
    }


def test_json_holds_what_the_tables_show(swin) -> None:
    entry = next(
        entry
        for entry in json.loads(swin("models", "--json").out)
        if entry["name"] == "swinv2_base_patch4_window12to16_192to256"
    )
    assert entry["image_size"] == 256
    assert entry["parameters"] == 87_918_816
    assert entry["weights"][0]["top1"] == 86.2
    assert entry["weights"][0]["preprocessing"]["image_size"] == [256, 256]
    assert entry["weights"][0]["top1_source"].startswith("github.com/microsoft")


@pytest.mark.parametrize("task", ["detection", "segmentation", "panoptic"])
def test_lists_the_models_of_a_task(swin, task) -> None:
    lines = [line.split() for line in swin("models", "--task", task).out.splitlines()]
    assert sorted(words[0] for words in lines if words and words[0] in DENSE_VARIANTS) == list_models(task)


def test_a_dense_line_has_size_published_figures_and_number_of_weights(swin) -> None:
    name = "cascade_mask_rcnn_swin_tiny_patch4_window7"
    lines = swin("models", "--task", "detection").out.splitlines()
    line = next(line for line in lines if line.split()[:1] == [name])
    assert line.split() == [name, "85.6M", "50.4", "43.7", str(len(records(name)))]


def test_a_dense_name_needs_no_task_and_lists_its_weights(swin) -> None:
    name = "upernet_swin_tiny_patch4_window7_512x512"
    out = swin("models", "--name", name).out
    assert all(record.full_name in out and record.source in out for record in records(name))
    (entry,) = json.loads(swin("models", "--name", name, "--json").out)
    assert (entry["task"], entry["backbone"]) == ("segmentation", "swin_tiny_patch4_window7_224")
    assert (entry["weights"][0]["miou"], entry["weights"][0]["miou_multiscale"]) == (44.51, 45.81)
    assert "top1" not in entry["weights"][0]


def test_a_model_without_weights_is_still_found(swin) -> None:
    assert "279.8M" in swin("models", "--name", "htcpp_swin_large").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--name", "mask_rcnn_swin_huge"), "no model named 'mask_rcnn_swin_huge'; did you mean"),
        (("--task", "detection", "--name", "upernet"), "--task detection has no model 'upernet', segmentation has"),
    ],
)
def test_a_name_that_is_not_there_is_answered_with_what_is(swin, words, said) -> None:
    outcome = swin("models", *words)
    assert outcome.code == 2
    assert said in outcome.err
