"""A configuration says what is wrong with it before anything is built, and travels as plain types."""

import json
import math
from typing import Any

import pytest

from swin_transformer_pytorch.backbone.config import VARIANTS, ConfigError, SwinConfig, find_variant

IMPOSSIBLE: list[tuple[str, Any, str]] = [
    ("version", 3, "use 1 or 2"),
    ("version", "2", "use 1 or 2"),
    ("version", True, "use 1 or 2"),
    ("in_channels", 0, "at least 1"),
    ("in_channels", True, "at least 1"),
    ("embed_dim", 96.0, "at least 1"),
    ("patch_size", 0, "positive whole number"),
    ("patch_size", (4, 4, 4), "two of them"),
    ("window_size", "7", "positive whole number"),
    ("window_size", (7, 0), "two of them"),
    ("depths", 2, "one for each stage"),
    ("depths", (), "at least one block"),
    ("depths", (2, 0, 2, 2), "at least one block"),
    ("depths", (2, True, 2, 2), "whole numbers"),
    ("num_heads", (3, 6), "give 4 positive numbers"),
    ("num_heads", (3, 6, 12, 0), "give 4 positive numbers"),
    ("num_heads", (3, 6, 12, 7), "stage 3 has 768 channels, which 7 heads do not divide"),
    ("mlp_ratio", "4", "such as 4.0"),
    ("mlp_ratio", 0.001, "at least one hidden channel"),
    ("mlp_ratio", math.nan, "at least one hidden channel"),
    ("mlp_ratio", math.inf, "at least one hidden channel"),
    ("qkv_bias", "no", "use True or False"),
    ("gradient_checkpointing", 1, "use True or False"),
    ("drop_path_rate", 1.0, r"\[0, 1\)"),
    ("drop_path_rate", "0.1", r"\[0, 1\)"),
    ("single_window", "shrink", "use 'unshift' or 'keep'"),
    ("pretrained_window_sizes", (7, 7, 7, 7), "only version 2 has them"),
]


@pytest.mark.parametrize(("field", "value", "fix"), IMPOSSIBLE)
def test_an_impossible_value_is_named_with_the_fix(field: str, value: Any, fix: str) -> None:
    with pytest.raises(ConfigError, match=f"^{field}=.*is not possible: .*{fix}"):
        SwinConfig(**{field: value})


@pytest.mark.parametrize("sizes", [(8, 8), (8, 8, 8, -1), "8888"])
def test_windows_of_pre_training_are_one_a_stage(sizes: Any) -> None:
    with pytest.raises(ConfigError, match="^pretrained_window_sizes="):
        SwinConfig(version=2, pretrained_window_sizes=sizes)


def test_an_unknown_field_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="'window'.*window_size.*gradient_checkpointing"):
        SwinConfig().replace(window=7)
    with pytest.raises(ConfigError, match="'window'"):
        SwinConfig.from_dict({"window": 7})


def test_one_number_is_a_square_and_lists_become_tuples() -> None:
    config = SwinConfig(patch_size=2, window_size=[3, 5], depths=[1, 1], num_heads=[1, 1])  # type: ignore[arg-type]
    assert (config.patch_size, config.window_size, config.depths) == ((2, 2), (3, 5), (1, 1))
    assert (config.stage_dims, config.stage_strides) == ((96, 192), ((2, 2), (4, 4)))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_travels_as_json(name: str) -> None:
    config = find_variant(name).config
    assert SwinConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_misspelt_name_suggests_near_ones() -> None:
    with pytest.raises(ConfigError, match="'swin_tinny_patch4_window7_224'; did you mean swin_tiny_patch4"):
        find_variant("swin_tinny_patch4_window7_224")
