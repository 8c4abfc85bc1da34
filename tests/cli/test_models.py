"""`swin models`: what it lists is what the catalogue and the registry have."""

from __future__ import annotations

import json

from swin_transformer_pytorch.backbone.complexity import count_parameters
from swin_transformer_pytorch.backbone.config import VARIANTS, find_variant
from swin_transformer_pytorch.models.registry import list_models
from swin_transformer_pytorch.weights.catalog import records


def test_lists_every_model_once(swin) -> None:
    outcome = swin("models")
    lines = [line.split() for line in outcome.out.splitlines()]
    names = [words[0] for words in lines if words and words[0] in VARIANTS]
    assert outcome.code == 0
    assert sorted(names) == list_models()


def test_a_line_has_size_accuracy_and_number_of_weights(swin) -> None:
    name = "swin_tiny_patch4_window7_224"
    line = next(line for line in swin("models").out.splitlines() if name in line)
    assert line.split() == [name, "224", "28.3M", "4.5", "81.2", str(len(records(name)))]


def test_a_name_lists_each_of_its_weights_with_its_source(swin) -> None:
    out = swin("models", "--name", "swinv2_tiny_patch4_window8_256").out
    for record in records("swinv2_tiny_patch4_window8_256"):
        line = next(line for line in out.splitlines() if f"{record.full_name} " in line)
        assert record.source in line
        assert record.top1_source is None or record.top1_source.split()[0].removeprefix("github.com/") in line


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
    assert entry["parameters"] == count_parameters(find_variant(entry["name"]).config)
    assert entry["weights"][0]["top1"] == 86.2
    assert entry["weights"][0]["preprocessing"]["image_size"] == [256, 256]
