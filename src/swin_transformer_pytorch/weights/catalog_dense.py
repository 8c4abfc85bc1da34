"""Every public checkpoint of the detectors and segmenters that this package has: address, format, published figures.

Imports no torch. Nothing here was measured by this project, and none of these files was ever read by it: the figures
are what their sources published, on COCO's and ADE20K's validation images. Mask2Former's are in
`catalog_mask2former`. MaskFormer, OneFormer, RepPoints v2 and other methods on Swin are other architectures and are not
here; no HTC or HTC++ on Swin is public.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .preprocessing import DensePreprocessing
from .record import WeightsRecord

# Method and size | tag | release/file | box AP | mask AP
_OFFICIAL_DETECTORS = """
mask_rcnn_swin_tiny          coco_3x      v1.0.2/mask_rcnn_swin_tiny_patch4_window7                 46.0 41.6
mask_rcnn_swin_tiny          coco_1x      v1.0.3/mask_rcnn_swin_tiny_patch4_window7_1x              43.7 39.8
mask_rcnn_swin_tiny          coco_3x_moby v1.0.3/moby_mask_rcnn_swin_tiny_patch4_window7_3x         46.0 41.7
mask_rcnn_swin_tiny          coco_1x_moby v1.0.3/moby_mask_rcnn_swin_tiny_patch4_window7_1x         43.6 39.6
mask_rcnn_swin_small         coco_3x      v1.0.2/mask_rcnn_swin_small_patch4_window7                48.5 43.3
cascade_mask_rcnn_swin_tiny  coco_3x      v1.0.2/cascade_mask_rcnn_swin_tiny_patch4_window7         50.4 43.7
cascade_mask_rcnn_swin_tiny  coco_1x      v1.0.3/cascade_mask_rcnn_swin_tiny_patch4_window7_1x      48.1 41.7
cascade_mask_rcnn_swin_tiny  coco_3x_moby v1.0.3/moby_cascade_mask_rcnn_swin_tiny_patch4_window7_3x 50.2 43.5
cascade_mask_rcnn_swin_tiny  coco_1x_moby v1.0.3/moby_cascade_mask_rcnn_swin_tiny_patch4_window7_1x 48.1 41.5
cascade_mask_rcnn_swin_small coco_3x      v1.0.2/cascade_mask_rcnn_swin_small_patch4_window7        51.9 45.0
cascade_mask_rcnn_swin_base  coco_3x      v1.0.2/cascade_mask_rcnn_swin_base_patch4_window7         51.9 45.0
"""

# Size | tag | configuration | date | hash | box AP | mask AP
_MMDETECTION_FILES = """
tiny  coco_1x      mask_rcnn_swin-t-p4-w7_fpn_1x_coco              20210902_120937 9d6b7cfa 42.7 39.3
tiny  coco_3x      mask_rcnn_swin-t-p4-w7_fpn_ms-crop-3x_coco      20210906_131725 bacf6f7b 46.0 41.6
tiny  coco_3x_fp16 mask_rcnn_swin-t-p4-w7_fpn_fp16_ms-crop-3x_coco 20210908_165006 90a4008c 46.0 41.7
small coco_3x_fp16 mask_rcnn_swin-s-p4-w7_fpn_fp16_ms-crop-3x_coco 20210903_104808 b92c91f1 48.2 43.2
"""

# Size | tag | release/file | mean IoU | that of several scales
_OFFICIAL_SEGMENTERS = """
tiny  ade20k      v1.0.1/upernet_swin_tiny_patch4_window7_512x512      44.51 45.81
tiny  ade20k_moby v1.0.3/moby_upernet_swin_tiny_patch4_window7_512x512 44.06 45.58
small ade20k      v1.0.1/upernet_swin_small_patch4_window7_512x512     47.64 49.47
base  ade20k      v1.0.1/upernet_swin_base_patch4_window7_512x512      48.13 49.72
"""

# Size | window | tag | rest of the configuration's name | date | hash | mean IoU | that of several scales
_MMSEGMENTATION_FILES = """
tiny  7  ade20k       160k_ade20k_pretrain_224x224_1K  20210531_112542 e380ad3e 44.41 45.79
small 7  ade20k       160k_ade20k_pretrain_224x224_1K  20210526_192015 ee2fff1c 47.72 49.24
base  7  ade20k       160k_ade20k_pretrain_224x224_1K  20210526_192340 593b0e13 47.99 49.57
base  7  in22k_ade20k 160k_ade20k_pretrain_224x224_22K 20210526_211650 762e2178 50.13 51.9
base  12 ade20k       160k_ade20k_pretrain_384x384_1K  20210531_132020 05b22ea4 48.35 49.65
base  12 in22k_ade20k 160k_ade20k_pretrain_384x384_22K 20210531_125459 429057bf 50.76 52.4
large 7  in22k_ade20k pretrain_224x224_22K_160k_ade20k 20220318_015320 48d180dd 51.17 52.99
large 12 in22k_ade20k pretrain_384x384_22K_160k_ade20k 20220318_091743 9ba68901 52.25 54.12
"""

# Hub repository openmmlab/upernet-swin-SIZE | window | tag of the mmsegmentation file that it is a conversion of
_TRANSFORMERS_FILES = """
tiny  7  ade20k
small 7  ade20k
base  12 in22k_ade20k
large 12 in22k_ade20k
"""


def _lines(table: str) -> list[list[str]]:
    return [line.split() for line in table.split("\n")[1:-1]]


# What all official records of a task have alike; the empty ones are each record's own.
_DETECTOR = WeightsRecord(
    name="",
    tag="",
    source="",
    format="official",
    task="detection",
    num_classes=80,
    classes="coco",
    preprocessing=DensePreprocessing.coco(),
    published_by="github.com/SwinTransformer/Swin-Transformer-Object-Detection README.md",
    licence="Apache-2.0",
)
_SEGMENTER = replace(
    _DETECTOR,
    task="segmentation",
    num_classes=150,
    classes="ade20k",
    preprocessing=DensePreprocessing.ade20k(),
    published_by="github.com/SwinTransformer/Swin-Transformer-Semantic-Segmentation README.md",
)


def _numbers(figures: dict[str, str]) -> dict[str, Any]:
    return {figure: float(value) for figure, value in figures.items()}


def _official(like: WeightsRecord, name: str, tag: str, file: str, **figures: str) -> WeightsRecord:
    return replace(
        like,
        name=name,
        tag=tag,
        source=f"https://github.com/SwinTransformer/storage/releases/download/{file}.pth",
        # How its backbone was trained before, where that is not supervised on ImageNet-1K.
        notes="Started from MoBY, self-supervised on ImageNet-1K." if tag.endswith("_moby") else "",
        **_numbers(figures),
    )


def _openmmlab(
    like: WeightsRecord, name: str, project: str, tag: str, config: str, date: str, sha256: str, **figures: str
) -> WeightsRecord:
    return replace(
        like,
        name=name,
        tag=f"{tag}_openmmlab",
        source=f"https://download.openmmlab.com/{project}/swin/{config}/{config}_{date}-{sha256}.pth",
        format="openmmlab",
        published_by=f"github.com/open-mmlab/{project.partition('/')[0]} configs/swin",
        sha256=sha256,
        notes="OpenMMLab's own training, not the official weights.",
        **_numbers(figures),
    )


def _detectors() -> list[WeightsRecord]:
    table = []
    for name, tag, file, box_ap, mask_ap in _lines(_OFFICIAL_DETECTORS):
        table.append(_official(_DETECTOR, f"{name}_patch4_window7", tag, file, box_ap=box_ap, mask_ap=mask_ap))
    for size, *described, box_ap, mask_ap in _lines(_MMDETECTION_FILES):
        name = f"mask_rcnn_swin_{size}_patch4_window7"
        table.append(_openmmlab(_DETECTOR, name, "mmdetection/v2.0", *described, box_ap=box_ap, mask_ap=mask_ap))
    return table


def _segmenters() -> list[WeightsRecord]:
    table = []
    for size, tag, file, miou, multiscale in _lines(_OFFICIAL_SEGMENTERS):
        name = f"upernet_swin_{size}_patch4_window7_512x512"
        table.append(_official(_SEGMENTER, name, tag, file, miou=miou, miou_multiscale=multiscale))
    trained: dict[tuple[str, str, str], WeightsRecord] = {}
    for size, window, tag, config, date, sha256, miou, multiscale in _lines(_MMSEGMENTATION_FILES):
        name = f"upernet_swin_{size}_patch4_window{window}_512x512"
        described = (tag, f"{name}_{config}", date, sha256)
        trained[size, window, tag] = _openmmlab(
            _SEGMENTER, name, "mmsegmentation/v0.5", *described, miou=miou, miou_multiscale=multiscale
        )
    doubtful = ("base", "7", "in22k_ade20k")
    notes = f"{trained[doubtful].notes} Another of OpenMMLab's pages says 50.31."
    trained[doubtful] = replace(trained[doubtful], notes=notes)
    table += trained.values()
    for size, window, tag in _lines(_TRANSFORMERS_FILES):
        same = trained[size, window, tag]
        table.append(
            replace(
                same,
                tag=f"{tag}_transformers",
                source=f"hf:openmmlab/upernet-swin-{size}",
                published_by=f"{same.published_by} (same weights)",
                format="transformers",
                licence="MIT",
                sha256=None,
                notes="OpenMMLab's weights, converted by transformers, whose processor squeezes images to 512x512.",
            )
        )
    return table


DENSE_RECORDS: tuple[WeightsRecord, ...] = (*_detectors(), *_segmenters())
