"""Hybrid Task Cascade (arXiv 1901.07518): boxes and masks improve in turn, and a semantic branch tells the context.

Numbers and parameter names are those of mmdet's HTC. Its box heads have two fully connected layers and one box for all
classes; that of HTC++ was never published.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..ops.regions.instances import InstanceTargets
from .cascade import CascadeRoIHead
from .conv import ConvModule
from .roi import BoxHead, MaskHead, RegionExtractor
from .roi_head import DetectionRules, Extractors
from .roi_losses import BoxStage
from .semantic import SemanticHead, semantic_loss, stack_semantic_labels
from .shapes import Losses, Maps

HTC_STAGES = (
    BoxStage(iou=0.5, regression="smooth_l1", stds=(0.1, 0.1, 0.2, 0.2), loss_weight=1.0),
    BoxStage(iou=0.6, regression="smooth_l1", stds=(0.05, 0.05, 0.1, 0.1), loss_weight=0.5),
    BoxStage(iou=0.7, regression="smooth_l1", stds=(0.033, 0.033, 0.067, 0.067), loss_weight=0.25),
)
"""Each stage asks for more overlap, corrects less and weighs less; low-quality matches count, unlike in Cascade."""


class HTCMaskHead(MaskHead):
    """A mask head that, from the second stage on, also looks at the features of the one before it (section 3.2)."""

    def __init__(self, in_channels: int, *, num_classes: int, takes_previous: bool) -> None:
        super().__init__(in_channels, num_classes=num_classes)
        if takes_previous:
            self.conv_res = ConvModule(in_channels, in_channels, 1)

    def forward_flow(
        self, x: Float[Tensor, "n C s s"], previous: Float[Tensor, "n C s s"] | None
    ) -> Float[Tensor, "n C s s"]:
        """The features before the upsampling, for this head's logits and for the next head's `previous`."""
        if previous is not None:
            x = x + self.conv_res(previous)
        return self.forward_convs(x)


class HTCRoIHead(CascadeRoIHead):
    """An interleaved cascade with the semantic branch, whose features all stages' heads add to theirs.

    Interleaved (section 3.1): a stage's box head moves its regions, which are assigned and drawn anew by the stage's
    own rules; its mask head learns from those, and the next stage starts from the moved regions.
    """

    def __init__(
        self,
        *,
        box_heads: Sequence[BoxHead],
        mask_heads: Sequence[HTCMaskHead],
        semantic_head: SemanticHead,
        strides: Sequence[int],
        num_classes: int,
        num_samples: int = 512,
        stages: Sequence[BoxStage] = HTC_STAGES,
        rules: DetectionRules,
    ) -> None:
        """
        Args:
            mask_heads: one a stage, all but the first with `takes_previous`.
            semantic_head: on the maps of `strides` and the one above them.
            strides: pixels to a cell of the maps that regions look at, finest first.
        """
        super().__init__(
            box_heads=box_heads,
            mask_heads=mask_heads,
            stages=stages,
            strides=strides,
            num_classes=num_classes,
            num_samples=num_samples,
            interleaved=True,
            rules=rules,
        )
        self.semantic_head = semantic_head
        self.semantic_extractor = RegionExtractor(strides=(strides[semantic_head.fused_level],), output_size=14)

    def extractors(self, features: Maps) -> Extractors:
        """Features of regions with the semantic ones added; the semantic map is made once, here."""
        return self.with_semantics(features, self.semantic_head.embed(features))

    def with_semantics(self, features: Maps, semantics: Float[Tensor, "B C h w"]) -> Extractors:
        """The same, of a semantic map that was made before."""

        def extract(extractor: RegionExtractor, rois: Float[Tensor, "n 5"]) -> Float[Tensor, "n C s s"]:
            context = self.semantic_extractor([semantics], rois)
            if extractor.output_size != self.semantic_extractor.output_size:
                context = F.adaptive_avg_pool2d(context, extractor.output_size)
            return extractor(features, rois) + context

        return Extractors(partial(extract, self.box_extractor), partial(extract, self.mask_extractor))

    def mask_logits(self, x: Float[Tensor, "n C s s"], stage: int) -> Float[Tensor, "n classes m m"]:
        """One stage's; the heads before it run for their features only, and learn through them."""
        *earlier, last = self._flow_heads()[: stage + 1]
        flow = None
        for head in earlier:
            flow = head.forward_flow(x, flow)
        return last.forward_logits(last.forward_flow(x, flow))

    def all_mask_logits(self, x: Float[Tensor, "n C s s"]) -> list[Float[Tensor, "n classes m m"]]:
        """Every stage's, each head fed by the one before it."""
        logits, flow = [], None
        for head in self._flow_heads():
            flow = head.forward_flow(x, flow)
            logits.append(head.forward_logits(flow))
        return logits

    def _flow_heads(self) -> list[HTCMaskHead]:
        return [head for head in self.mask_head if isinstance(head, HTCMaskHead)]

    def shared_losses(self, features: Maps, targets: Sequence[InstanceTargets]) -> tuple[Extractors, Losses]:
        """`loss_semantic_seg`; regions' features have the semantic ones added.

        Raises:
            ValueError: an image has no semantic labels, or one has a label beyond the classes.
        """
        logits, semantics = self.semantic_head(features)
        size, stride = (logits.shape[2], logits.shape[3]), self.semantic_extractor.strides[0]
        labels = stack_semantic_labels([target.semantic for target in targets], size, stride)
        return self.with_semantics(features, semantics), {"loss_semantic_seg": semantic_loss(logits, labels)}
