"""Image classification: the backbone, a final norm, the mean over the map and a linear head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from ..backbone.config import ConfigError, SwinConfig
from ..backbone.swin import Swin
from ..checks import require
from ..weights.adapt import ClassParameters
from ..weights.preprocessing import Preprocessing
from .description import check_length, check_num_classes
from .named_classes import NamedClasses, count_outputs


class SwinClassifier(NamedClasses, Swin):
    """Swin for classification (arXiv 2103.14030, section 4.1), with the official parameter names.

    Attributes:
        num_classes: outputs of the head; 0 for none, `forward` then gives the pooled features.
        classes: their names, or None. They go with the head: another linear layer in its place has none yet.
        multi_label: whether an image may have any number of the classes: the probability of each is the sigmoid of its
            logit. Otherwise it has one, and all share their probability by a softmax.
        preprocessing: what the weights expect of an image, or None.
        name: the variant's official name, or None.
    """

    task = "classification"
    class_layers = ("head",)  # whose rows are classes

    def __init__(
        self,
        config: SwinConfig,
        *,
        num_classes: int = 1000,
        multi_label: bool = False,
        classes: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(config)
        self.multi_label = multi_label
        self.preprocessing = preprocessing
        self.name = name
        self.norm = nn.LayerNorm(config.stage_dims[-1])
        self.reset_classifier(num_classes, classes=classes)

    @property
    def num_classes(self) -> int:
        """Outputs of the head, also of another one that was put in its place; 0 for none."""
        found = count_outputs(self.head)
        return self._made_for if found is None else found

    @property
    def num_features(self) -> int:
        """Channels of the last stage's map, which the head takes."""
        return self.config.stage_dims[-1]

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head

    def reset_classifier(
        self, num_classes: int, global_pool: str | None = None, *, classes: Sequence[str] | None = None
    ) -> None:
        """Puts in a head with random weights for other classes, with their names if they are given; 0 for none.

        Args:
            num_classes: outputs of the new head.
            global_pool: as in timm; "avg" and None are possible, for the mean is what is taken.
            classes: their names.

        Raises:
            ConfigError: `num_classes` or `global_pool` is not possible, or there are not as many names.
        """
        fix = "use 'avg', or leave it out; forward_features(images) gives the map itself"
        require(global_pool in (None, "avg"), "global_pool", global_pool, fix, error=ConfigError)
        check_num_classes(num_classes)
        check_length("class names", classes, num_classes)
        head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()
        if isinstance(head, nn.Linear):
            nn.init.trunc_normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)
        self.head = head.to(next(self.patch_embed.parameters())).train(self.training)
        self._made_for = num_classes
        self.settle(classes)

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w D"]:
        """The last stage's map, normalised."""
        return self.norm(self.forward_last(images))

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes"]:
        """Logits, for images of any one size, preprocessed as `preprocessing` says."""
        return self.forward_head(self.forward_features(images))

    def forward_head(self, features: Float[Tensor, "B h w D"], pre_logits: bool = False) -> Float[Tensor, "B _"]:
        """What the head makes of `forward_features`' map; with `pre_logits` its mean, which the head takes."""
        pooled = features.mean(dim=(1, 2))
        return pooled if pre_logits else self.head(pooled)

    def forward_intermediates(
        self,
        images: Float[Tensor, "B C H W"],
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: Literal["NCHW", "NHWC"] = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Float[Tensor, "B h w D"], list[Tensor]]:
        """The maps of stages, and `forward_features`' map; arguments and answers are timm's.

        Args:
            images: of any one size.
            indices: the stages whose maps are wanted, counted from 0, negative ones from the end; a number: the last
                so many; None: all. The maps come in the order of the stages.
            norm: whether the last stage's map, if it is among them, is normalised.
            stop_early: whether stages after the last wanted one are left out. The first answer is then the map of
                that one, normalised only if it is the last stage.
            output_fmt: of the maps: (B, C_i, H_i, W_i), or (B, H_i, W_i, C_i) as the first answer always is.
            intermediates_only: whether the maps alone are given.

        Raises:
            ConfigError: there is no such stage or format.
        """
        stages = range(len(self.config.depths))
        chosen = stages[-indices:] if isinstance(indices, int) else stages if indices is None else indices
        possible = all(index in range(-len(stages), len(stages)) for index in chosen) and len(chosen) > 0
        possible = possible and (not isinstance(indices, int) or 1 <= indices <= len(stages))
        fix = f"use stages from 0 to {stages[-1]}, or how many of the last, 1 to {len(stages)}"
        require(possible, "indices", indices, fix, error=ConfigError)
        require(output_fmt in ("NCHW", "NHWC"), "output_fmt", output_fmt, "use 'NCHW' or 'NHWC'", error=ConfigError)
        wanted = sorted({stages[index] for index in chosen})
        maps = self.forward_stages(self.patch_embed(images), wanted[-1] + 1 if stop_early else None)
        last = self.norm(maps[-1]) if len(maps) == len(stages) else maps[-1]
        taken = [last if norm and stage == stages[-1] else maps[stage] for stage in wanted]
        if output_fmt == "NCHW":
            taken = [each.permute(0, 3, 1, 2).contiguous() for each in taken]
        return taken if intermediates_only else (last, taken)

    def class_parameters(self) -> tuple[ClassParameters, ...]:
        """Those whose rows are classes: the head's, if there is one."""
        names = self._class_parameter_names()
        return (ClassParameters(names=names, of="head"),) if names else ()

    def expected_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """As it was made, but for a head of as many classes as it has now."""
        kept = {name: shape for name, shape in super().expected_shapes().items() if not name.startswith("head.")}
        count, dim = self.num_classes, self.num_features
        return kept | ({"head.weight": (count, dim), "head.bias": (count,)} if count else {})


def probabilities(model: nn.Module, logits: Float[Tensor, "B classes"]) -> Float[Tensor, "B classes"]:
    """What a classifier's logits say of each class, in [0, 1]: in sum 1, or of a `multi_label` one each by itself."""
    logits = logits.float()
    return logits.sigmoid() if getattr(model, "multi_label", False) else logits.softmax(-1)
