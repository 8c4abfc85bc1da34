"""Image classification: the backbone, a final norm, the mean over the map and a linear head."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from ..backbone.config import ConfigError, SwinConfig
from ..backbone.swin import Swin
from ..weights.adapt import ClassParameters
from ..weights.preprocessing import Preprocessing
from .description import describe


class SwinClassifier(Swin):
    """Swin for classification (arXiv 2103.14030, section 4.1), with the official parameter names.

    Attributes:
        num_classes: outputs of the head; 0 for none, `forward` then gives the pooled features.
        classes: their names, or None.
        preprocessing: what the weights expect of an image, or None.
        name: the variant's official name, or None.
    """

    task = "classification"

    def __init__(
        self,
        config: SwinConfig,
        *,
        num_classes: int = 1000,
        classes: tuple[str, ...] | None = None,
        preprocessing: Preprocessing | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(config)
        if not isinstance(num_classes, int) or isinstance(num_classes, bool) or num_classes < 0:
            raise ConfigError(
                f"num_classes={num_classes!r} is not possible: use a whole number of at least 0 (0: no head, pooled "
                f"features)"
            )
        if classes is not None and len(classes) != num_classes:
            raise ConfigError(f"{len(classes)} class names for num_classes={num_classes}; give one name a class")
        self.num_classes = num_classes
        self.classes = classes
        self.preprocessing = preprocessing
        self.name = name
        self.norm = nn.LayerNorm(config.stage_dims[-1])
        self.head = nn.Linear(config.stage_dims[-1], num_classes) if num_classes else nn.Identity()
        if isinstance(self.head, nn.Linear):
            nn.init.trunc_normal_(self.head.weight, std=0.02)
            nn.init.zeros_(self.head.bias)

    def forward_features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B h w D"]:
        """The last stage's map, normalised."""
        return self.norm(self.forward_stages(self.patch_embed(images))[-1])

    def forward(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B classes"]:
        """Logits, for images of any one size, preprocessed as `preprocessing` says."""
        return self.head(self.forward_features(images).mean(dim=(1, 2)))

    def class_parameters(self) -> tuple[ClassParameters, ...]:
        """Those whose rows are classes: the head's, if there is one."""
        names = tuple(f"head.{name}" for name, _ in self.head.named_parameters())
        return (ClassParameters(names=names, of="head"),) if names else ()

    def metadata(self) -> dict[str, Any]:
        """What a checkpoint must hold for the model to be rebuilt from it alone. Plain types only."""
        return describe(self).to_dict()
