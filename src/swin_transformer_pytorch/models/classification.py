"""Image classification: the backbone, a final norm, the mean over the map and a linear head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor, nn

from ..backbone.config import SwinConfig
from ..backbone.swin import Swin
from ..weights.adapt import ClassParameters
from ..weights.preprocessing import Preprocessing
from .description import check_length, check_num_classes
from .named_classes import NamedClasses, count_outputs


class SwinClassifier(NamedClasses, Swin):
    """Swin for classification (arXiv 2103.14030, section 4.1), with the official parameter names.

    Attributes:
        num_classes: outputs of the head; 0 for none, `forward` then gives the pooled features.
        classes: their names, or None. They go with the head: another linear layer in its place has none yet.
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
        classes: Sequence[str] | None = None,
        preprocessing: Preprocessing | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(config)
        self.preprocessing = preprocessing
        self.name = name
        self.norm = nn.LayerNorm(config.stage_dims[-1])
        self.reset_classifier(num_classes, classes=classes)

    @property
    def num_classes(self) -> int:
        """Outputs of the head, also of another one that was put in its place; 0 for none."""
        found = count_outputs(self.head)
        return self._made_for if found is None else found

    def reset_classifier(self, num_classes: int, *, classes: Sequence[str] | None = None) -> None:
        """Puts in a head with random weights for other classes, with their names if they are given; 0 for none.

        Raises:
            ConfigError: `num_classes` is not possible, or there are not as many names.
        """
        check_num_classes(num_classes)
        check_length("class names", classes, num_classes)
        dim = self.config.stage_dims[-1]
        head = nn.Linear(dim, num_classes) if num_classes else nn.Identity()
        if isinstance(head, nn.Linear):
            nn.init.trunc_normal_(head.weight, std=0.02)
            nn.init.zeros_(head.bias)
        self.head = head.to(next(self.patch_embed.parameters())).train(self.training)
        self._made_for = num_classes
        self.settle(classes)

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w D"]:
        """The last stage's map, normalised."""
        return self.norm(self.forward_stages(self.patch_embed(images))[-1])

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes"]:
        """Logits, for images of any one size, preprocessed as `preprocessing` says."""
        return self.head(self.forward_features(images).mean(dim=(1, 2)))

    def class_parameters(self) -> tuple[ClassParameters, ...]:
        """Those whose rows are classes: the head's, if there is one."""
        names = self._class_parameter_names()
        return (ClassParameters(names=names, of="head"),) if names else ()

    def expected_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """As it was made, but for a head of as many classes as it has now."""
        kept = {name: shape for name, shape in super().expected_shapes().items() if not name.startswith("head.")}
        count, dim = self.num_classes, self.config.stage_dims[-1]
        return kept | ({"head.weight": (count, dim), "head.bias": (count,)} if count else {})
