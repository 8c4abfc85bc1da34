"""Recipes that are hostile or absurd: one short line at once, before anything of that size is made."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swin_transformer_pytorch.cli import main
from swin_transformer_pytorch.training import load_recipe

NAMED = {
    "classification": "model: {name: swin_tiny_patch4_window7_224}\n",
    "detection": "task: detection\nmodel: {name: mask_rcnn_swin_tiny_patch4_window7}\n",
    "segmentation": "task: segmentation\nmodel: {name: upernet_swin_tiny_patch4_window7_512x512}\n",
}


def laughs(write: Callable[[str, str], str]) -> str:
    """Nine times nine times nine ... of one list, each level written by `write(name, list)`."""
    names = "abcdefghijk"
    lists = ["[1, 1, 1, 1, 1, 1, 1, 1, 1]", *(f"[{', '.join([f'*{name}'] * 9)}]" for name in names)]
    return "".join(write(name, text) for name, text in zip(names, lists, strict=False))


MERGES = "a: &a {x: 1}\n" + "".join(
    f"{name}: &{name} {{<<: [{', '.join([f'*{before}'] * 9)}]}}\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
LAUGHING_TEXT = f"[{laughs(lambda name, text: f'&{name} {text}, ')}]"

FILES = {
    "billion laughs": laughs(lambda name, text: f"{name}: &{name} {text}\n"),
    "billion laughs by merging": MERGES,
    "billion laughs in a text": NAMED["classification"] + f"optimizer: {{lr: '{LAUGHING_TEXT}'}}",
    "billion laughs in a text of a pair": NAMED["classification"] + f"data: {{image_size: '{LAUGHING_TEXT}'}}",
    "a list in itself": NAMED["classification"] + "data: &a [*a]",
    "a group in itself": "model: &a {config: *a}",
    "a config in itself": "model: {config: &a {embed_dim: *a}}",
    "a list in itself as a text": NAMED["classification"] + "optimizer: {lr: '&a [*a]'}",
    "lists in lists, open": NAMED["classification"] + "data: " + "[" * 50_000,
    "lists in lists": "model: {config: {depths: " + "[" * 100 + "]" * 100 + "}}",
    "lists in lists in lines": "- " * 20_000,
    "groups in groups": "model: {config: " + "{a: " * 300 + "1" + "}" * 300 + "}",
    "lists in lists as a text": NAMED["classification"] + "data: {image_size: '" + "[" * 1000 + "'}",
    "200,000 unknown keys": "".join(f"key{index}: 1\n" for index in range(200_000)),
    "4,000 unknown keys": "".join(f"key{index}: 1\n" for index in range(4000)),
    "4,000 unknown fields": "model: {config: {" + ", ".join(f"k{index}: 1" for index in range(4000)) + "}}",
    "a long key": f"{'k' * 100}{'e' * 1000}: 1",
    "a long task": f"task: {'t' * 3000}",
    "a list as task": "task: [detection]",
    "a long text": NAMED["classification"] + f"output: {'x' * 10_000}",
    "a long name": f"model: {{name: {'x' * 3000}}}",
    "the character 0": NAMED["classification"] + 'output: "a\\0b"',
    "a number as key": "model: {config: {1: 2}}",
    "null as key": "model: {config: {~: 2}}",
    "a list as key": "model: {config: {[1, 2]: 2}}",
    "a date that is none": NAMED["classification"] + "output: 2001-99-99",
    "a number of 5,000 digits": NAMED["classification"] + f"trainer: {{seed: {'9' * 5000}}}",
    "a number of 3,900 digits": NAMED["classification"] + f"trainer: {{seed: {'9' * 3900}}}",
    "a number of 3,900 digits for a float": NAMED["classification"] + f"optimizer: {{lr: {'9' * 3900}}}",
    "a number of 3,900 digits in base 16": "model: {config: {embed_dim: 0x" + "f" * 3900 + "}}",
    "code": "model: !!python/object/apply:os.system [ls]",
    "a binary": "model: {config: {embed_dim: !!binary aGVsbG8=}}",
    "two documents": f"{NAMED['classification']}---\n{NAMED['classification']}",
    "no UTF-8": "\udcff",
}

CONFIG: list[tuple[str, str]] = [
    ("embed_dim", "1000000000"),
    ("embed_dim", "1e9"),
    ("embed_dim", "60000"),
    ("embed_dim", "-96"),
    ("embed_dim", ".nan"),
    ("embed_dim", "{a: 1}"),
    ("in_channels", "1000000000"),
    ("patch_size", "1000000"),
    ("patch_size", "60000"),
    ("patch_size", "[4, -4]"),
    ("window_size", "1000000000"),
    ("window_size", "50000"),
    ("depths", "[1000000000, 2, 6, 2]"),
    ("depths", "[400, 400, 400, 400], embed_dim: 2000, num_heads: [1, 1, 1, 1]"),
    ("depths", "[" + "1, " * 3000 + "1]"),
    ("depths", "[1, -1]"),
    ("depths", "[]"),
    ("num_heads", "[0, 0, 0, 0]"),
    ("num_heads", "[" + "9" * 3000 + ", 6, 12, 24]"),
    ("mlp_ratio", ".inf"),
    ("mlp_ratio", ".nan"),
    ("mlp_ratio", "1e300"),
    ("mlp_ratio", "60000"),
    ("drop_path_rate", ".nan"),
    ("version", "[1]"),
    ("single_window", "[[]]"),
    ("pretrained_window_sizes", "[1, 2]"),
    ("embed_dims", "96"),
]
DENSE_CONFIG = [
    ("detection", "backbone: 5"),
    ("detection", "backbone: [1]"),
    ("detection", "backbone: {embed_dim: 1000000000}"),
    ("detection", "fpn_dim: 1000000000"),
    ("detection", "fc_dim: -1"),
    ("detection", "method: []"),
    ("detection", "roi_samples: 1000000000000"),
    ("detection", "score_threshold: .nan"),
    ("segmentation", "decode_dim: 1000000000"),
    ("segmentation", "pool_scales: [1000000000]"),
    ("segmentation", "pool_scales: [" + "1, " * 3000 + "1]"),
    ("segmentation", "auxiliary_weight: .inf"),
    ("segmentation", "dropout: .nan"),
]

ANY_TASK = [
    ("optimizer", "lr: .nan"),
    ("optimizer", "lr: .inf"),
    ("optimizer", "lr: -1.0"),
    ("optimizer", "betas: [.nan, 0.9]"),
    ("optimizer", "weight_decay: .inf"),
    ("optimizer", "clip_grad_norm: .nan"),
    ("optimizer", "scale_lr: 1000000000000000"),
    ("schedule", "min_lr: -1"),
    ("schedule", "epochs: 1000000000000"),
    ("schedule", "epochs: -3"),
    ("trainer", "seed: 1e23"),
    ("trainer", "seed: 1.0e+23"),
    ("trainer", "seed: 99999999999999999999999"),
    ("trainer", "seed: -1"),
    ("trainer", "devices: 1000000000"),
    ("trainer", "accumulate: 1000000000000"),
    ("trainer", "ema_decay: .nan"),
    ("trainer", "checkpoint_every_minutes: .inf"),
    ("data", "batch_size: 1000000000000"),
    ("data", "batch_size: -1"),
    ("data", "num_workers: 1000000"),
]
ONE_TASK = [
    ("classification", "data", "image_size: 1000000000"),
    ("classification", "data", "image_size: [-1, 5]"),
    ("classification", "data", "val_fraction: .nan"),
    ("classification", "data", "augmentation: {mixup: .inf}"),
    ("classification", "data", "augmentation: {crop_ratio: [0.5, .inf]}"),
    ("classification", "data", "augmentation: {crop_padding: 1000000000}"),
    ("classification", "data", "augmentation: {auto_augment: rand-m9-n1000000000-inc1}"),
    ("classification", "data", f"augmentation: {{auto_augment: rand-m9-mstd{'9' * 400}-inc1}}"),
    ("classification", "schedule", "warmup_epochs: .nan"),
    ("classification", "loss", "label_smoothing: .nan"),
    ("detection", "data", "scale: [1000000000, 1000000000]"),
    ("detection", "data", "augmentation: {scales: [1000000000], max_long: 1000000000}"),
    ("detection", "data", "num_scenes: 1000000000000"),
    ("detection", "data", "scene_size: [1000000, 1000000]"),
    ("detection", "schedule", "steps: 1000000000000"),
    ("detection", "schedule", "steps: 999999937}\ntrainer: {validate_every_steps: 499999999"),
    ("detection", "schedule", "epochs: 1, gamma: .nan"),
    ("detection", "schedule", "epochs: 1, milestones: [" + "5, " * 3000 + "5]"),
    ("segmentation", "data", "augmentation: {crop_size: [1000000000, 512]}"),
    ("segmentation", "data", "augmentation: {ratio_range: [1, .inf]}"),
    ("segmentation", "data", "ignore_label: -1"),
    ("segmentation", "schedule", "epochs: 1, power: .nan"),
    ("segmentation", "schedule", "epochs: 1, warmup_steps: 1000000000000"),
]


def recipes() -> dict[str, str]:
    table = dict(FILES)
    table |= {f"config {field}: {value[:30]}": f"model: {{config: {{{field}: {value}}}}}" for field, value in CONFIG}
    table |= {
        f"{task} config {field[:30]}": f"task: {task}\nschedule: {{epochs: 1}}\nmodel: {{config: {{{field}}}}}"
        for task, field in DENSE_CONFIG
    }
    for place, (task, named) in enumerate(NAMED.items()):
        # Each task has a third of what is the same in all.
        fields = [*ANY_TASK[place::3], *((group, field) for of, group, field in ONE_TASK if of == task)]
        for group, field in fields:
            length = "" if group == "schedule" or task == "classification" else "schedule: {epochs: 1}\n"
            table[f"{task} {group}.{field[:50]}"] = f"{named}{length}{group}: {{{field}}}"
    return table


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, one short line on stderr, at once and in little memory."""
    peak, begin = peak_bytes(), time.perf_counter()
    code = main(words)
    seconds, grown = time.perf_counter() - begin, peak_bytes() - peak
    out, err = capsys.readouterr()
    assert (code, out) == (2, ""), err
    assert err.startswith("swin: error: ")
    assert err.count("\n") == 1
    assert len(err) < 1200, err
    assert "Traceback" not in err
    assert seconds < 30, "it takes a fiftieth of that on an idle machine"
    assert grown < 100 * 2**20


def peak_bytes() -> int:
    """The most memory that this process has had, where the system tells."""
    resource = pytest.importorskip("resource")
    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * (1 if sys.platform == "darwin" else 1024)


RECIPES = recipes()


@pytest.mark.parametrize("name", RECIPES)
def test_an_impossible_recipe_is_one_short_line_at_once(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(RECIPES[name].encode("utf-8", "surrogateescape"))
    run(["train", str(path), "--print-config"], capsys)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("--model.config_overrides", "&a [*a]"),
        ("--model.config_overrides", LAUGHING_TEXT),
        ("--model.config_overrides", "{1: 2}"),
        ("--model.config_overrides", "[" * 3000),
        ("--model.config_overrides.depths", "[1000000000]"),
        ("--data.image_size", LAUGHING_TEXT),
        ("--optimizer.lr", "9" * 3900),
        ("--optimizer.lr", "nan"),
        ("--trainer.seed", "9" * 5000),
        (f"--{'k' * 4000}", "1"),
        ("--model", LAUGHING_TEXT),
    ],
)
def test_an_impossible_value_on_the_command_line_is_too(
    key: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["train", "finetune", key, value, "--print-config"], capsys)


def test_anchors_and_merges_of_a_usual_size_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path: Any = tmp_path / "mine.yaml"
    path.write_text(NAMED["classification"] + "optimizer: &a {lr: 1.0e-3}\ndata: {augmentation: {<<: {mixup: 0}}}")
    assert main(["train", str(path), "--print-config"]) == 0
    assert "lr: 0.001" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["2024-31-12", "a[b", "{a: 1", "&x", "*", "- ", "x" * 200, "1e400", "%", "@home"])
def test_odd_texts_are_texts_where_texts_belong(text: str) -> None:
    assert load_recipe("finetune", {"output": text, "data.root": text}).output == text
