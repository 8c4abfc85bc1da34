"""What a Swin backbone is made of: `SwinConfig`, and the published variants by their official names.

This module imports no torch, so that the command line can list and check models at once.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, Literal

from ..checks import as_pair, is_count, is_number, is_pair, require, shown
from ..names import did_you_mean
from ..sizes import Size

SingleWindow = Literal["unshift", "keep"]


class ConfigError(ValueError):
    """A configuration that cannot be built. The message names the field, its value and the fix."""


_require = functools.partial(require, error=ConfigError)

# Far beyond any Swin (3 * 10^9), so that a slip is refused before it fills the memory.
_MOST_WEIGHTS, _MOST_CHANNELS, _MOST_STAGES, _MOST_BLOCKS = 10**10, 65535, 64, 500


@dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """The architecture of a Swin backbone (V1: arXiv 2103.14030; V2: arXiv 2111.09883).

    Attributes:
        version: 1 (pre-norm, dot product scores, bias table) or 2 (post-norm, cosine scores, continuous bias).
        in_channels: channels of the image.
        patch_size: pixels (height, width) of a patch; an int means square. Images are padded to whole patches.
        embed_dim: channels of the first stage; each later stage doubles them.
        depths: blocks in each stage. Any number of stages.
        num_heads: attention heads in each stage; each must divide its stage's channels.
        window_size: tokens (height, width) of an attention window; an int means square.
        mlp_ratio: hidden channels of the MLP over its input's.
        qkv_bias: whether the query, key and value projection has a bias (V2's key part never has).
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0 at the first.
        pretrained_window_sizes: V2 only, one a stage: the windows that the continuous bias was trained with, so that
            its coordinates keep their meaning at another window. 0 stands for `window_size`; empty for all zeros.
        single_window: what happens where one window covers a whole side of a stage's map. "unshift": no shift, and
            the window shrinks to the map (official classification). "keep": both stay (official detection and
            segmentation).
        gradient_checkpointing: recompute each block in the backward pass: less memory, about a third more time.
    """

    version: Literal[1, 2] = 1
    in_channels: int = 3
    patch_size: Size = (4, 4)
    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    window_size: Size = (7, 7)
    mlp_ratio: float = 4.0
    qkv_bias: bool = True
    drop_path_rate: float = 0.1
    pretrained_window_sizes: tuple[int, ...] = ()
    single_window: SingleWindow = "unshift"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("patch_size", "window_size"):
            object.__setattr__(self, name, _pair(name, getattr(self, name)))
        for name in ("depths", "num_heads", "pretrained_window_sizes"):
            object.__setattr__(self, name, _ints(name, getattr(self, name)))
        if self.version == 2 and not self.pretrained_window_sizes:
            object.__setattr__(self, "pretrained_window_sizes", (0,) * len(self.depths))
        self._check()

    def _check(self) -> None:
        _require(is_count(self.version) and self.version <= 2, "version", self.version, "use 1 or 2")
        fix = f"use a whole number of at least 1, at most {_MOST_CHANNELS:,}"
        for name in ("in_channels", "embed_dim"):
            _require(is_count(getattr(self, name), 1, _MOST_CHANNELS), name, getattr(self, name), fix)
        ok = 0 < len(self.depths) <= _MOST_STAGES and all(1 <= depth <= _MOST_BLOCKS for depth in self.depths)
        fix = f"give each stage at least one block, at most {_MOST_BLOCKS}, and at most {_MOST_STAGES} stages"
        _require(ok, "depths", self.depths, fix)
        _require(
            len(self.num_heads) == len(self.depths) and all(h >= 1 for h in self.num_heads),
            "num_heads",
            self.num_heads,
            f"give {len(self.depths)} positive numbers, one for each stage of depths={shown(self.depths)}",
        )
        for stage, (dim, heads) in enumerate(zip(self.stage_dims, self.num_heads, strict=True)):
            fix = f"stage {stage} has {dim} channels, which {shown(heads)} heads do not divide"
            _require(dim % heads == 0, "num_heads", self.num_heads, fix)
        ratio_is_possible = is_number(self.mlp_ratio) and 0 < self.mlp_ratio <= _MOST_CHANNELS
        ratio_is_possible = ratio_is_possible and self.embed_dim * self.mlp_ratio >= 1
        fix = "use a number that leaves the MLP at least one hidden channel, such as 4.0"
        _require(ratio_is_possible, "mlp_ratio", self.mlp_ratio, fix)
        others = ", ".join(f"{name}={getattr(self, name)!r}" for name in ("window_size", "patch_size", "mlp_ratio"))
        fix = f"with depths={shown(self.depths)}, {others} it is over {_MOST_WEIGHTS:,} parameters; use less"
        _require(self._num_weights <= _MOST_WEIGHTS, "embed_dim", self.embed_dim, fix)
        rate_is_possible = is_number(self.drop_path_rate) and 0 <= self.drop_path_rate < 1
        _require(rate_is_possible, "drop_path_rate", self.drop_path_rate, "use a rate in [0, 1)")
        _require(
            self.single_window in ("unshift", "keep"), "single_window", self.single_window, "use 'unshift' or 'keep'"
        )
        for name in ("qkv_bias", "gradient_checkpointing"):
            _require(isinstance(getattr(self, name), bool), name, getattr(self, name), "use True or False")
        sizes = self.pretrained_window_sizes
        if self.version == 1:
            _require(not sizes, "pretrained_window_sizes", sizes, "only version 2 has them; leave it out")
        else:
            fix = f"give {len(self.depths)} numbers of at least 0, one for each stage"
            _require(
                len(sizes) == len(self.depths) and all(s >= 0 for s in sizes), "pretrained_window_sizes", sizes, fix
            )

    @property
    def stage_dims(self) -> tuple[int, ...]:
        """Channels of each stage's map."""
        return tuple(self.embed_dim * 2**stage for stage in range(len(self.depths)))

    @property
    def _num_weights(self) -> int:
        """Numbers in its matrices and bias tables: nearly all of its parameters."""
        table = (2 * self.window_size[0] - 1) * (2 * self.window_size[1] - 1)
        stages = zip(self.stage_dims, self.depths, self.num_heads, strict=True)
        blocks = sum(
            depth * (dim * (4 * dim + 2 * int(dim * self.mlp_ratio)) + heads * table) for dim, depth, heads in stages
        )
        merging = sum(8 * dim * dim for dim in self.stage_dims[:-1])
        return blocks + merging + self.in_channels * self.patch_size[0] * self.patch_size[1] * self.embed_dim

    @property
    def stage_strides(self) -> tuple[Size, ...]:
        """Image pixels (height, width) to one token of each stage's map."""
        return tuple(
            (self.patch_size[0] * 2**stage, self.patch_size[1] * 2**stage) for stage in range(len(self.depths))
        )

    @property
    def drop_path_rates(self) -> tuple[tuple[float, ...], ...]:
        """Each block's stochastic depth rate, stage by stage: a linear rise from 0 to `drop_path_rate`."""
        last = max(sum(self.depths) - 1, 1)
        rates = iter(self.drop_path_rate * block / last for block in range(sum(self.depths)))
        return tuple(tuple(next(rates) for _ in range(depth)) for depth in self.depths)

    def replace(self, **overrides: Any) -> SwinConfig:
        """A copy with other values. An unknown field is a `ConfigError` that lists the known ones."""
        known = [field.name for field in dataclasses.fields(self)]
        for name in overrides:
            if name not in known:
                raise ConfigError(f"unknown config field {name!r}; SwinConfig has: {', '.join(known)}")
        return dataclasses.replace(self, **overrides)

    def to_dict(self) -> dict[str, Any]:
        """Plain types only, as they travel in a checkpoint; `from_dict` reads them back."""
        return {
            name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SwinConfig:
        """Reads what `to_dict` wrote; a field that is not there has its default."""
        return cls().replace(**values)


def _ints(name: str, value: Any) -> tuple[int, ...]:
    _require(
        isinstance(value, list | tuple) and all(isinstance(v, int) and not isinstance(v, bool) for v in value),
        name,
        value,
        "use whole numbers, one for each stage",
    )
    return tuple(value)


def _pair(name: str, value: Any) -> Size:
    pair: Size = as_pair(value)
    _require(is_pair(pair), name, value, "use a positive whole number, or two of them (height, width)")
    return pair


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A published model: its architecture and the image side, in pixels, that it was trained for."""

    config: SwinConfig
    image_size: int


_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)},
    "small": {"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)},
    "base": {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)},
    "large": {"embed_dim": 192, "depths": (2, 2, 18, 2), "num_heads": (6, 12, 24, 48)},
}


def _variants() -> dict[str, Variant]:
    """Stochastic depth is that of the official recipe which trained the model."""
    table: dict[str, Variant] = {}

    def add(name: str, size: str, image_size: int, **fields: Any) -> None:
        table[name] = Variant(config=SwinConfig(**{**_SIZES[size], **fields}), image_size=image_size)

    for size, rate in (("tiny", 0.2), ("small", 0.3), ("base", 0.5), ("large", 0.2)):
        add(f"swin_{size}_patch4_window7_224", size, 224, window_size=7, drop_path_rate=rate)
    for size, rate in (("base", 0.5), ("large", 0.2)):
        add(f"swin_{size}_patch4_window12_384", size, 384, window_size=12, drop_path_rate=rate)
    c24_heads = (4, 8, 16, 32)
    add("swin_tiny_c24_patch4_window8_256", "tiny", 256, window_size=8, drop_path_rate=0.2, num_heads=c24_heads)
    add("swin_base_patch4_window6_192", "base", 192, window_size=6, drop_path_rate=0.0)

    # The last stage's map is 8x8 at 256 pixels, 6x6 at 192: the windows V2's bias was really trained with there.
    v2_rates = {"tiny": 0.2, "small": 0.3, "base": 0.5}
    for size, rate in v2_rates.items():
        for window, trained in ((8, (8, 8, 8, 8)), (16, (16, 16, 16, 8))):
            fields = {"version": 2, "window_size": window, "pretrained_window_sizes": trained}
            add(f"swinv2_{size}_patch4_window{window}_256", size, 256, drop_path_rate=rate, **fields)
    for size in ("base", "large"):
        fields = {"version": 2, "pretrained_window_sizes": (12, 12, 12, 6), "drop_path_rate": 0.2}
        add(f"swinv2_{size}_patch4_window12_192", size, 192, window_size=12, **fields)
        add(f"swinv2_{size}_patch4_window12to16_192to256", size, 256, window_size=16, **fields)
        add(f"swinv2_{size}_patch4_window12to24_192to384", size, 384, window_size=24, **fields)
    return table


VARIANTS: dict[str, Variant] = _variants()


def find_variant(name: str) -> Variant:
    """The variant of that official name; a `ConfigError` that suggests near ones where there is none."""
    if name in VARIANTS:
        return VARIANTS[name]
    raise ConfigError(
        f"there is no model named {shown(name)}; {did_you_mean(name, VARIANTS)}`swin models` lists them all"
    )
