"""Puts models that `swin train scenes_detection` and its like trained into the package, with cards.

    python tools/ship_scene_models.py fashion-mnist/ --detection runs/scenes_detection
    python tools/ship_scene_models.py fashion-mnist/ --segmentation runs/scenes_segmentation
    python tools/ship_scene_models.py fashion-mnist/ --panoptic runs/scenes_panoptic

The first argument is the folder of Fashion-MNIST's four .gz files. Weights are stored in float16, and it is the stored
ones that are measured: on 1,000 scenes of items of the test set, which nothing was trained on. A run that started from
the weights of earlier runs needs how many scenes they took, for the card: --earlier-scenes NUMBER.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from swin_transformer_pytorch.data.scenes.dataset import open_scenes
from swin_transformer_pytorch.demo.scenes import NUM_SCENES, measure_detector, measure_panoptic, measure_segmenter
from swin_transformer_pytorch.models.detection import Detector
from swin_transformer_pytorch.models.mask2former import Mask2Former
from swin_transformer_pytorch.models.registry import SHIPPED, load_model
from swin_transformer_pytorch.models.segmentation import Segmenter
from swin_transformer_pytorch.training import load_recipe
from swin_transformer_pytorch.training.recipes.parts import chosen
from swin_transformer_pytorch.weights.files import read_checkpoint, save_checkpoint

MEASURED_SCENES = 1000
AIMS = {"box": 0.55, "mask": 0.50, "mIoU": 0.65, "PQ": 0.50}

DETECTION_CARD = """# Model card: mask_rcnn_scenes

A small Mask R-CNN on a Swin Transformer V1 that finds the ten kinds of Fashion-MNIST items in composed scenes. It is
here so that `swin demo`, `swin predict --weights scenes_detection` and the tests have a trained detector without a
download.

{table}
| **box AP, {measured:,} held-out scenes** | **{box[AP]:.1%}** (AP50 {box[AP50]:.1%}, AP75 {box[AP75]:.1%}) |
| **mask AP, the same** | **{mask[AP]:.1%}** (AP50 {mask[AP50]:.1%}, AP75 {mask[AP75]:.1%}) |
| box AP, mask AP, the {sample} scenes of the demo | {sample_box:.1%}, {sample_mask:.1%} |
{rest}

COCO's measure; figures by `tools/ship_scene_models.py`. AP class by class, on the held-out scenes:

| class | boxes | masks |
| --- | ---: | ---: |
{classes}

The aims for this model are {aims[box]:.0%} box AP and {aims[mask]:.0%} mask AP.{verdict}

It knows nothing but such scenes: on photos its answers mean nothing.
"""

SEGMENTATION_CARD = """# Model card: upernet_scenes

A small UPerNet on a Swin Transformer V1 that tells the ten kinds of Fashion-MNIST items and the ground apart in
composed scenes, pixel by pixel. It is here so that `swin demo`, `swin predict --weights scenes_segmentation` and the
tests have a trained segmenter without a download.

{table}
| **mIoU, {measured:,} held-out scenes** | **{report.miou:.1%}** (mAcc {report.macc:.1%}, aAcc {report.aacc:.1%}) |
| mIoU, the {sample} scenes of the demo | {sample_miou:.1%} |
{rest}

Figures by `tools/ship_scene_models.py`. Class by class, on the held-out scenes:

| class | IoU |
| --- | ---: |
{classes}

The aim for this model is {aim:.0%} mIoU.{verdict}

It knows nothing but such scenes: on photos its answers mean nothing.
"""

PANOPTIC_CARD = """# Model card: mask2former_scenes

A small Mask2Former on a Swin Transformer V1 that finds each of the ten kinds of Fashion-MNIST items in composed scenes,
and the ground, as segments. It is here so that `swin demo`, `swin predict --weights scenes_panoptic` and the tests have
a trained panoptic model without a download.

{table}
| **PQ, {measured:,} held-out scenes** | **{report.all.pq:.1%}** (SQ {report.all.sq:.1%}, RQ {report.all.rq:.1%}) |
| PQ of things, of stuff, the same | {report.things.pq:.1%}, {report.stuff.pq:.1%} |
| PQ, the {sample} scenes of the demo | {sample_pq:.1%} |
{rest}

Panoptic quality as panopticapi counts it; figures by `tools/ship_scene_models.py`. Class by class, on the held-out
scenes:

| class | PQ | SQ | RQ |
| --- | ---: | ---: | ---: |
{classes}

The aim for this model is {aim:.0%} PQ.{verdict}

It knows nothing but such scenes: on photos its answers mean nothing.
"""


def store(run: Path, name: str) -> Path:
    """The run's export in float16 at its place in the package."""
    checkpoint = read_checkpoint(run / "model.safetensors")
    assert checkpoint.metadata is not None, "a run's export describes its model"
    halves = {
        key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in checkpoint.state_dict.items()
    }
    save_checkpoint(SHIPPED[name], halves, checkpoint.metadata)
    return SHIPPED[name]


def describe(model: Detector | Segmenter | Mask2Former, run: Path, name: str, earlier: int) -> dict[str, str]:
    """The rows of a card that both have; `earlier` is how many scenes the runs before took."""
    last = json.loads((run / "history.jsonl").read_text().splitlines()[-1])
    recipe = load_recipe(run)
    batch = chosen(recipe.data.batch_size)
    start = "from scratch" if recipe.model.weights is None else f"the backbone from that of {recipe.model.weights}"
    learnt = f"{earlier + last['step'] * batch:,} scenes, {start}; "
    learnt += "in several runs, each from the weights of the one before, the last of " * bool(earlier)
    learnt += f"{last['step']:,} steps of {batch} scenes, precision {recipe.trainer.precision}"
    backbone = model.config.backbone
    if isinstance(model, Detector):
        heads = f"feature pyramid of {model.config.fpn_dim} channels, box head of {model.config.fc_dim}"
    elif isinstance(model, Segmenter):
        heads = f"decode head of {model.config.decode_dim} channels"
    else:
        config = model.config
        heads = (
            f"{config.num_queries} queries of {config.dim} channels, {config.encoder_layers} layers that look at maps "
            f"and {config.decoder_layers} that make masks"
        )
    rows = {
        "backbone": f"patch {backbone.patch_size[0]}, window {backbone.window_size[0]}, {backbone.embed_dim} channels, "
        f"depths {list(backbone.depths)}, heads {list(backbone.num_heads)}",
        "heads": heads,
        "parameters": f"{sum(parameter.numel() for parameter in model.parameters()):,}",
        "input": "128 x 128 pixels, RGB; any size works",
        "trained with": f"`swin train {name}`, {learnt}",
        "weights": "the running mean over training, stored in float16",
    }
    licence = {
        "training data": "scenes of Fashion-MNIST's training images, (c) 2017 Zalando SE, MIT licence",
        "held-out scenes": "of its test images, with other grounds; none was trained on",
        "licence": "MIT, as the package",
    }
    return {"table": _table({"": "", "---": "---", **rows}), "rest": _table(licence)}


def ship_detector(run: Path, data: str, earlier: int) -> None:
    weights = store(run, "scenes_detection")
    model = load_model("scenes_detection")
    assert isinstance(model, Detector)
    full, _ = measure_detector(model, open_scenes("scenes", "val", num_scenes=MEASURED_SCENES, root=data))
    sample, _ = measure_detector(model, open_scenes("scenes_sample", "val", num_scenes=NUM_SCENES))
    assert full.masks is not None and sample.masks is not None
    boxes, masks = full.boxes.per_class(), full.masks.per_class()
    missed = {
        kind: AIMS[kind] - (figures.metrics["AP"] or 0) for kind, figures in (("box", full.boxes), ("mask", full.masks))
    }
    card = DETECTION_CARD.format(
        measured=MEASURED_SCENES,
        sample=NUM_SCENES,
        box=full.boxes.metrics,
        mask=full.masks.metrics,
        sample_box=sample.boxes.metrics["AP"],
        sample_mask=sample.masks.metrics["AP"],
        classes="\n".join(f"| {name} | {boxes[name]:.1%} | {masks[name]:.1%} |" for name in boxes),
        aims=AIMS,
        verdict=_verdict(missed),
        **describe(model, run, "scenes_detection", earlier),
    )
    weights.with_suffix(".md").write_text(card)
    print(f"{weights.name}: {weights.stat().st_size:,} bytes, {full.boxes.metrics}, {full.masks.metrics}")


def ship_segmenter(run: Path, data: str, earlier: int) -> None:
    weights = store(run, "scenes_segmentation")
    model = load_model("scenes_segmentation")
    assert isinstance(model, Segmenter)
    full, _ = measure_segmenter(model, open_scenes("scenes", "val", num_scenes=MEASURED_SCENES, root=data))
    sample, _ = measure_segmenter(model, open_scenes("scenes_sample", "val", num_scenes=NUM_SCENES))
    card = SEGMENTATION_CARD.format(
        measured=MEASURED_SCENES,
        sample=NUM_SCENES,
        report=full,
        sample_miou=sample.miou,
        classes="\n".join(f"| {name} | {iou or 0:.1%} |" for name, iou in full.iou.items()),
        aim=AIMS["mIoU"],
        verdict=_verdict({"mIoU": AIMS["mIoU"] - full.miou}),
        **describe(model, run, "scenes_segmentation", earlier),
    )
    weights.with_suffix(".md").write_text(card)
    print(f"{weights.name}: {weights.stat().st_size:,} bytes, mIoU {full.miou:.2%}")


def ship_panoptic(run: Path, data: str, earlier: int) -> None:
    weights = store(run, "scenes_panoptic")
    model = load_model("scenes_panoptic")
    assert isinstance(model, Mask2Former)
    full, _ = measure_panoptic(model, open_scenes("scenes", "val", num_scenes=MEASURED_SCENES, root=data))
    sample, _ = measure_panoptic(model, open_scenes("scenes_sample", "val", num_scenes=NUM_SCENES))
    rows = [(name, row) for name, row in full.per_class.items() if row is not None]
    card = PANOPTIC_CARD.format(
        measured=MEASURED_SCENES,
        sample=NUM_SCENES,
        report=full,
        sample_pq=sample.all.pq,
        classes="\n".join(f"| {name} | {row['PQ']:.1%} | {row['SQ']:.1%} | {row['RQ']:.1%} |" for name, row in rows),
        aim=AIMS["PQ"],
        verdict=_verdict({"PQ": AIMS["PQ"] - full.all.pq}),
        **describe(model, run, "scenes_panoptic", earlier),
    )
    weights.with_suffix(".md").write_text(card)
    print(f"{weights.name}: {weights.stat().st_size:,} bytes, PQ {full.all.pq:.2%}")


def _verdict(missed: dict[str, float]) -> str:
    misses = [f"{100 * by:.1f} points of {what}" for what, by in missed.items() if by > 0]
    return f" This one misses them by {' and '.join(misses)}." if misses else " This one reaches them."


def _table(rows: dict[str, str]) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in rows.items())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fashion")
    ship = {"detection": ship_detector, "segmentation": ship_segmenter, "panoptic": ship_panoptic}
    for name in ship:
        parser.add_argument(f"--{name}", type=Path, metavar="RUN")
    parser.add_argument("--earlier-scenes", type=int, default=0, metavar="NUMBER")
    given = parser.parse_args()
    for name, put in ship.items():
        if (folder := getattr(given, name)) is not None:
            put(folder, given.fashion, given.earlier_scenes)
