"""Model cards: what is known of a model, and no more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .. import __version__
from ..backbone.config import SwinConfig
from .config import MaskedConfig, ModelConfig
from .description import ModelDescription, describe

if TYPE_CHECKING:
    from .build import Model

_PIPELINES = {
    "classification": "image-classification",
    "detection": "object-detection",
    "segmentation": "image-segmentation",
    "panoptic": "image-segmentation",
    "pretraining": "image-feature-extraction",
}
_PREDICT = """```python
import swin_transformer_pytorch as swin

predictor = swin.Predictor("{source}")
print(predictor("photo.jpg"))
```"""
_FINE_TUNE = """```sh
swin train finetune --data.root labelled_photos/ --model.name null --model.weights {source}
```"""
_DOES = {"pretraining": "of masked pre-training (SimMIM), to fine-tune others from"}
_MOST_NAMED = 200  # classes in a card


def model_card(
    model: Model,
    name: str,
    source: str,
    licence: str | None = None,
    *,
    trained: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
    images: str = "",
) -> str:
    """A README.md, as the Hugging Face hub has it.

    Args:
        model: of any task.
        name: "user/name" on the hub, or a folder's name.
        source: what `Predictor` takes.
        licence: the weights' licence as the hub spells it; None leaves it open.
        trained: of a training run, what it did: names and texts.
        metrics: what was measured.
        images: on which images, in words.
    """
    from huggingface_hub import ModelCardData

    described: ModelDescription = describe(model)
    front = ModelCardData(
        library_name="swin-transformer-pytorch",
        pipeline_tag=_PIPELINES[described.task],
        license=licence,
        tags=["swin-transformer", "vision", described.task],
    ).to_yaml()
    config, preprocessing = described.config, described.preprocessing
    backbone = config if isinstance(config, SwinConfig) else config.backbone
    multiple = ", any number an image" * described.multi_label
    facts = {
        "architecture": described.name or type(model).__name__,
        "backbone": f"Swin V{backbone.version}, embed_dim {backbone.embed_dim}, depths {list(backbone.depths)}, "
        f"window {backbone.window_size[0]}x{backbone.window_size[1]}",
        "parameters": f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        **({"classes": f"{described.num_classes}{multiple}"} if described.num_classes else {}),
        **_asked(config),
        "preprocessing": "none" if preprocessing is None else json.dumps(preprocessing.to_dict()),
    }
    measured = "No figures were measured for this card.\n"
    if metrics:
        always_1 = ("val_top5", "test_top5") if described.num_classes <= 5 else ()
        figures = {key: f"{value:.4g}" for key, value in metrics.items() if key not in always_1}
        measured = f"## Measured\n\nOn {images}.\n\n{_table(figures)}"
    training = f"## Training\n\n{_table(trained)}\n" if trained else ""
    example = (_FINE_TUNE if isinstance(config, MaskedConfig) else _PREDICT).format(source=source)
    purpose = _DOES.get(described.task, f"for {described.task}")
    names = described.classes or ()
    more = f", and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    listed = f"\n## Classes\n\n{', '.join(names[:_MOST_NAMED])}{more}\n" if names else ""
    return f"""---
{front}
---

# {name.rpartition("/")[2]}

A Swin Transformer {purpose}, saved by swin-transformer-pytorch {__version__}.

{_table(facts)}
{training}{measured}
{example}
{listed}"""


def _asked(config: ModelConfig) -> dict[str, str]:
    """Of masked pre-training, what is hidden and what is to be foretold."""
    if not isinstance(config, MaskedConfig):
        return {}
    return {"hidden": f"{config.mask_ratio:.0%}, in squares of {config.mask_unit} pixels", "target": config.foretold}


def _table(rows: Mapping[str, str]) -> str:
    lines = (f"| {name} | {value} |".replace("\n", " ") for name, value in rows.items())
    return "\n".join(("| | |", "| --- | --- |", *lines, ""))
