"""Puts a model that `swin train fashion_classification` trained into the package, with its model card.

    python tools/ship_fashion_model.py runs/fashion_classification fashion-mnist/

The first argument is the run's folder; the second holds Fashion-MNIST's four .gz files. Weights are stored in float16,
to stay below 4 MB, and it is the stored ones that are measured.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from swin_transformer_pytorch.data.classification.dataset import EvaluationDataset
from swin_transformer_pytorch.data.classification.fashion import FashionMNIST, FashionSample
from swin_transformer_pytorch.data.transforms import create_transform
from swin_transformer_pytorch.evaluation.classification import ClassificationReport, evaluate
from swin_transformer_pytorch.models.classification import SwinClassifier
from swin_transformer_pytorch.models.registry import SHIPPED, load_model
from swin_transformer_pytorch.weights.files import read_checkpoint, save_checkpoint

CARD = """# Model card: swin_fashion

A small Swin Transformer V1 that tells the ten classes of Fashion-MNIST apart. It is here so that `swin demo`,
`swin predict --weights fashion` and the tests have a trained model without a download.

| | |
| --- | --- |
| architecture | patch {patch}, window {window}, {embed_dim} channels, depths {depths}, heads {heads} |
| parameters | {parameters:,} |
| input | {side} x {side} pixels, grey, item bright on black as in the data set |
| trained with | `swin train fashion_classification`, {epochs} epochs of all 60,000 training images, from scratch |
| weights | the running mean over training, stored in float16 |
| **top-1, all 10,000 test images** | **{full_top1:.2%}** (top-5 {full_top5:.2%}) |
| top-1, the 1,000 test images in the package | {sample_top1:.2%}; both measured by `tools/ship_fashion_model.py` |
| training data | Fashion-MNIST, (c) 2017 Zalando SE, MIT licence; no image of the test set was trained on |
| licence | MIT, as the package |

Accuracy class by class, on all test images:

| class | top-1 |
| --- | ---: |
{classes}

The aim for this model is 93.0%.{verdict}

It knows nothing but centred product pictures of these ten classes: on photos its answers mean nothing.
"""


def main(run: Path, data: Path) -> None:
    weights = SHIPPED["fashion"]
    checkpoint = read_checkpoint(run / "model.safetensors")
    assert checkpoint.metadata is not None, "a run's export describes its model"
    halves = {name: tensor.half() for name, tensor in checkpoint.state_dict.items()}
    save_checkpoint(weights, halves, checkpoint.metadata)

    model = load_model("fashion")
    assert isinstance(model, SwinClassifier) and model.preprocessing is not None
    full = evaluate(model, EvaluationDataset(FashionMNIST(data, "test"), create_transform(model)))
    sample = evaluate(model, EvaluationDataset(FashionSample("test"), create_transform(model)))
    assert isinstance(full, ClassificationReport) and isinstance(sample, ClassificationReport)
    history = [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]
    short = f" This one misses it by {93 - 100 * full.top1:.2f} points: it was trained for {len(history)} epochs only."
    card = CARD.format(
        patch=model.config.patch_size[0],
        window=model.config.window_size[0],
        embed_dim=model.config.embed_dim,
        depths=list(model.config.depths),
        heads=list(model.config.num_heads),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        side=model.preprocessing.image_size[0],
        epochs=len(history),
        full_top1=full.top1,
        full_top5=full.top5,
        sample_top1=sample.top1,
        classes="\n".join(f"| {name} | {accuracy:.1%} |" for name, accuracy in full.per_class.items()),
        verdict=short if full.top1 < 0.93 else "",
    )
    weights.with_suffix(".md").write_text(card)
    print(f"{weights}: {weights.stat().st_size:,} bytes, top-1 {full.top1:.2%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
