"""Measures a model on images: classification, detection, segmentation, panoptic segmentation or pre-training, by what
the model is for.

  swin evaluate --weights runs/flowers/best.ckpt --data.root flowers/
  swin evaluate --weights fashion --data fashion_sample
  swin evaluate --model swin_tiny_patch4_window7_224 --data.root imagenet/ --output evaluation/swin_tiny
  swin evaluate --weights detector.ckpt --data.root coco/ --multi-scale --flip
  swin evaluate --weights detector.ckpt --data.annotations boxes.json --data.images photos/
  swin evaluate --weights segmenter.ckpt --data ade20k --data.root ade20k/
  swin evaluate --weights panoptic.ckpt --data.root coco/
  swin evaluate --weights panoptic.ckpt --data.images photos/ --data.labels maps/ --data.instances numbers/
  swin evaluate --weights scenes_panoptic --data scenes_sample

Classification: top-1 and top-5, accuracy of each class, confusion matrix. A folder has one folder of images a class,
named as the model's classes are (ImageNet's: by synset), itself or in val/; or it has shards (`swin shards`). With
several labels an image: mAP, F1, average precision of each class; a folder has a file of labels, as for training.
Detection: COCO's twelve numbers for boxes and masks, average precision of each class, precision against recall, and
the detections as COCO's JSON. A folder has images and annotations, as tools export them.
Segmentation: mIoU, mean and overall accuracy, IoU of each class. A folder has images and label PNGs of the same names.
Panoptic segmentation: panoptic quality, of things and of stuff, of each class; and of the same look at each image,
COCO's numbers for its things and mIoU. A folder has COCO's panoptic JSON and PNGs, or label and instance PNGs.
Pre-training: the loss, and pictures of what was hidden and foretold. A folder has images, wherever in it.
"""

from __future__ import annotations

import argparse
import importlib
from typing import get_args

from ..data.classification.source import ClassificationKind
from ..data.detection.source import DetectionKind
from ..data.panoptic.source import PanopticKind
from ..data.segmentation.source import SegmentationKind
from ..data.shards.places import has_shards
from ..data.unlabelled.source import UnlabelledKind
from ..labels import IGNORED
from . import model_source
from .errors import UsageError
from .predict import add_view_options

KINDS_OF_TASK = {
    task: tuple(dict.fromkeys(("folder", *get_args(kinds))))
    for task, kinds in (
        ("classification", ClassificationKind),
        ("detection", DetectionKind),
        ("segmentation", SegmentationKind),
        ("panoptic", PanopticKind),
        ("pretraining", UnlabelledKind),
    )
}
KINDS = tuple(dict.fromkeys(kind for kinds in KINDS_OF_TASK.values() for kind in kinds))
FOLDERS = tuple(kind for kind in KINDS if "fashion" not in kind and "scenes" not in kind)
_FILES = ("root", "annotations", "images", "labels", "instances")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import NonNegativeInt, PositiveInt

    model_source.add_model_options(parser, without_either="one of --weights and --model is needed")
    parser.add_argument(
        "--data.kind",
        choices=KINDS,
        default="folder",
        help="your folder, whose layout is recognised; coco, yolo, ade20k and the like say it; "
        "classification: the 1,000 test images in the package, "
        "or all of Fashion-MNIST from its files in --data.root; detection, segmentation, panoptic: scenes of these, "
        "from the package or --data.root",
    )
    parser.add_argument("--data.root", metavar="DIR", help="the folder, for the kinds that have one")
    parser.add_argument(
        "--data.class_order",
        metavar="ORDER",
        help="classification: which class folder is which of the model's classes: natural (2 before 10), sorted (10 "
        "before 2) or a file of their names, one a line (default: by name; sorted for a model without names)",
    )
    add_data_choices(parser)
    parser.add_argument(
        "--data.annotations", metavar="FILE", help="detection, panoptic: COCO annotations, instead of a root"
    )
    parser.add_argument("--data.images", metavar="DIR", help="detection, segmentation, panoptic: their images")
    parser.add_argument(
        "--data.labels",
        metavar="PATH",
        help="segmentation: label PNGs, instead of a root; panoptic: PNGs of segments, where they are not in a folder "
        "of the annotations' name, or label PNGs; several labels an image: their file, if it has another name",
    )
    parser.add_argument("--data.instances", metavar="DIR", help="panoptic: the instance PNGs that go with label PNGs")
    parser.add_argument(
        "--data.ignore_label",
        type=NonNegativeInt,
        default=IGNORED,
        metavar="L",
        help="segmentation: pixels of this value in the label PNGs do not count, as those of 255 never do",
    )
    parser.add_argument(
        "--data.split",
        choices=("train", "val", "test"),
        help="which images (default: those of val/; where there are none: classification takes all, and with `val` "
        "the part that `swin train` held out; segmentation takes that part; detection needs its val)",
    )
    parser.add_argument(
        "--data.val_fraction", type=float, default=0.2, metavar="F", help="the part that training held out"
    )
    parser.add_argument(
        "--data.seed", type=NonNegativeInt, default=0, metavar="S", help="the seed it did so with; that of scenes"
    )
    parser.add_argument("--data.num_scenes", type=PositiveInt, default=200, metavar="N", help="how many scenes")
    parser.add_argument(
        "--data.max_pixels",
        type=PositiveInt,
        metavar="N",
        help="larger image files are skipped (default: 179 million)",
    )
    parser.add_argument(
        "--data.decoding",
        choices=("exact", "scaled"),
        default="exact",
        help="scaled: decode large JPEGs no larger than needed, as in a recipe with data.decoding scaled; faster, with "
        "other numbers; not for detection and segmentation",
    )
    parser.add_argument("--output", default="evaluation", metavar="DIR", help="where report and pictures go")
    add_view_options(parser)
    model_source.add_device_option(parser)
    parser.add_argument(
        "--batch-size", type=PositiveInt, metavar="N", help="images at once (default: 64 to classify, else 4)"
    )
    parser.add_argument("--num-workers", type=NonNegativeInt, default=0, metavar="N", help="processes that read images")


def add_data_choices(parser: argparse.ArgumentParser) -> None:
    """How a folder is understood: what recipes have by the same names."""
    parser.add_argument(
        "--data.classes",
        type=dict[str, list[str]] | list[str],  # type: ignore[arg-type]  # jsonargparse takes types
        metavar="CHOICE",
        help="classes of the data to keep, or to make one: [car, person] or {vehicle: [car, truck]}, as in the recipe",
    )
    parser.add_argument(
        "--data.label_suffix", metavar="END", help="segmentation: what label PNGs' names have at the end, such as _mask"
    )
    parser.add_argument(
        "--data.shards.cache", metavar="DIR", help="shards of a store: where they are kept (default: the user's cache)"
    )
    parser.add_argument(
        "--data.shards.cache_gb",
        type=float,
        default=50.0,
        metavar="N",
        help="shards of a store: the most they take there",
    )
    parser.add_argument(
        "--data.allow_outside",
        type=bool,
        default=False,
        help="detection: whether file names in the annotations may be absolute or climb out of the images' folder",
    )


def rewrite(words: list[str]) -> list[str]:
    """`--data KIND` is short for `--data.kind KIND`, which the parser would take for the whole group."""
    return [
        f"--data.kind{word.removeprefix('--data')}" if word.partition("=")[0] == "--data" else word for word in words
    ]


def run(options: argparse.Namespace) -> int:
    if options.weights is None and options.model is None:
        raise UsageError("which model? add --weights CHECKPOINT, --weights fashion or --model NAME")
    kind, given = options.data.kind, [name for name in _FILES if getattr(options.data, name) is not None]
    if kind not in FOLDERS and not kind.endswith("_sample") and "root" not in given:
        raise UsageError(f"--data {kind} needs --data.root DIR, the folder with its files")
    if kind in FOLDERS and not given:
        raise UsageError(
            "which images? add --data.root DIR, or for those in the package --data fashion_sample (classifiers) or "
            "--data scenes_sample (detectors, segmenters and panoptic models)"
        )
    device = model_source.check_device(options.device)
    model = model_source.load(options)
    shardable = model.task in ("classification", "pretraining")
    if kind == "folder" and shardable and options.data.root and has_shards(options.data.root):
        kind = options.data.kind = "shards"
    kinds = KINDS_OF_TASK[model.task]
    if kind not in kinds:
        raise UsageError(f"--data {kind} is not for {model.task}, which this model does; use {' or '.join(kinds)}")
    if options.data.class_order is not None and (model.task, kind) != ("classification", "folder"):
        raise UsageError("--data.class_order is for a classifier's folder (--data.root); leave it out")
    if options.data.instances is not None and model.task != "panoptic":
        raise UsageError(f"--data.instances is for panoptic models, and this one is for {model.task}; leave it out")
    task = importlib.import_module(f"{__package__}.evaluate_{model.task}")
    return task.run(model, options, device)
