"""Every public checkpoint of Mask2Former on Swin: address, format, published figures, licence.

Imports no torch. Nothing here was measured by this project, and none of these files was ever read by it: the figures
are what their sources published, on the validation images of each data set. The authors' files are for
non-commercial use alone, so they are no variant's default. transformers' conversions of them are not here: which of
them exist was not seen, and their converter has images squeezed to 384x384, for which no figure is published.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .preprocessing import DensePreprocessing
from .record import WeightsRecord

# Data/task/configuration | first digits of the file's md5 | figures: of panoptic files PQ, mask AP and mean IoU, of
# instances mask AP, of semantic ones mean IoU and that of several scales. "-" is none.
_AUTHORS = """
coco/panoptic/maskformer2_swin_tiny_bs16_50ep                         9fd0ae 53.2 43.3 63.2
coco/panoptic/maskformer2_swin_small_bs16_50ep                        a407fd 54.6 44.7 64.2
coco/panoptic/maskformer2_swin_base_384_bs16_50ep                     9d7f02 55.1 45.2 65.1
coco/panoptic/maskformer2_swin_base_IN21k_384_bs16_50ep               54b88a 56.4 46.3 67.1
coco/panoptic/maskformer2_swin_large_IN21k_384_bs16_100ep             f07440 57.8 48.6 67.4
coco/instance/maskformer2_swin_tiny_bs16_50ep                         86143f 45.0
coco/instance/maskformer2_swin_small_bs16_50ep                        1e7f22 46.3
coco/instance/maskformer2_swin_base_384_bs16_50ep                     f6e0f6 46.7
coco/instance/maskformer2_swin_base_IN21k_384_bs16_50ep               83d103 48.1
coco/instance/maskformer2_swin_large_IN21k_384_bs16_100ep             e5f453 50.1
ade20k/panoptic/maskformer2_swin_large_IN21k_384_bs16_160k            e0c58e 48.1 34.2 54.5
ade20k/instance/maskformer2_swin_large_IN21k_384_bs16_160k            92dae9 34.9
ade20k/semantic/maskformer2_swin_tiny_bs16_160k                       5274a6 47.7 49.6
ade20k/semantic/maskformer2_swin_small_bs16_160k                      011c6d 51.3 52.4
ade20k/semantic/maskformer2_swin_base_384_bs16_160k_res640            503e96 52.4 53.7
ade20k/semantic/maskformer2_swin_base_IN21k_384_bs16_160k_res640      7e47bf 53.9 55.1
ade20k/semantic/maskformer2_swin_large_IN21k_384_bs16_160k_res640     6b4a3a 56.1 57.3
cityscapes/panoptic/maskformer2_swin_tiny_bs16_90k                    ceba0f 63.9 39.1 80.5
cityscapes/panoptic/maskformer2_swin_small_bs16_90k                   23efb7 64.8 40.7 81.8
cityscapes/panoptic/maskformer2_swin_base_IN21k_384_bs16_90k          fa840f 66.1 42.8 82.7
cityscapes/panoptic/maskformer2_swin_large_IN21k_384_bs16_90k         064788 66.6 43.6 82.9
cityscapes/instance/maskformer2_swin_tiny_bs16_90k                    6a63f8 39.7
cityscapes/instance/maskformer2_swin_small_bs16_90k                   974824 41.8
cityscapes/instance/maskformer2_swin_base_IN21k_384_bs16_90k          7a3b6d 42.0
cityscapes/instance/maskformer2_swin_large_IN21k_384_bs16_90k         dfa862 43.7
cityscapes/semantic/maskformer2_swin_tiny_bs16_90k                    2d58d4 82.1 83.0
cityscapes/semantic/maskformer2_swin_small_bs16_90k                   fa26ae 82.6 83.6
cityscapes/semantic/maskformer2_swin_base_IN21k_384_bs16_90k          1c6b65 83.3 84.5
cityscapes/semantic/maskformer2_swin_large_IN21k_384_bs16_90k         17c1ee 83.3 84.3
mapillary_vistas/panoptic/maskformer2_swin_large_IN21k_384_bs16_300k  132c71 45.5 -    60.8
mapillary_vistas/semantic/maskformer2_swin_large_IN21k_384_bs16_300k  90ee2d 63.2 64.7
"""

# Size | configuration | date | hash | box AP | mask AP | PQ
_OPENMMLAB = """
tiny  mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco-panoptic          20220326_224553 3ec9e0ae 46.3 43.4 53.4
small mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco-panoptic          20220329_225200 4a16ded7 47.8 44.5 54.5
base  mask2former_swin-b-p4-w12-384_8xb2-lsj-50e_coco-panoptic         20220331_002244 8a651d82 48.2 44.9 55.1
base  mask2former_swin-b-p4-w12-384-in21k_8xb2-lsj-50e_coco-panoptic   20220329_230021 05ec7315 50.0 46.3 56.3
large mask2former_swin-l-p4-w12-384-in21k_16xb1-lsj-100e_coco-panoptic 20220407_104949 82f8d28d 52.2 48.5 57.6
tiny  mask2former_swin-t-p4-w7-224_8xb2-lsj-50e_coco                   20220508_091649 01b0f990 47.7 44.7 -
small mask2former_swin-s-p4-w7-224_8xb2-lsj-50e_coco                   20220504_001756 c9d0c4f2 49.3 46.1 -
"""

_TASKS = {"panoptic": "panoptic", "instance": "detection", "semantic": "segmentation"}
_FIGURES = {"panoptic": ("pq", "mask_ap", "miou"), "instance": ("mask_ap",), "semantic": ("miou", "miou_multiscale")}
_CLASSES = {
    ("coco", "panoptic"): ("coco_panoptic", 133),
    ("coco", "instance"): ("coco", 80),
    ("ade20k", "panoptic"): ("ade20k", 150),
    ("ade20k", "instance"): ("ade20k_instance", 100),
    ("ade20k", "semantic"): ("ade20k", 150),
    ("cityscapes", "panoptic"): ("cityscapes", 19),
    ("cityscapes", "instance"): ("cityscapes_instance", 8),
    ("cityscapes", "semantic"): ("cityscapes", 19),
    ("mapillary_vistas", "panoptic"): ("mapillary_vistas", 65),
    ("mapillary_vistas", "semantic"): ("mapillary_vistas", 65),
}
# Pixels (most of the longer side, most of the shorter side). Two of ADE20K's models are of a smaller crop.
_SCALES = {"coco": (1333, 800), "ade20k": (2560, 640), "cityscapes": (2048, 1024), "mapillary_vistas": (2048, 2048)}
_SMALL_ADE20K = (2048, 512)


def _record(size: str, data: str, task: str, figures: dict[str, str], *, in22k: bool, **fields: Any) -> WeightsRecord:
    classes, num_classes = _CLASSES[data, task]
    tag = f"{'in22k_' if in22k else ''}{data}"
    known: dict[str, Any] = {figure: float(value) for figure, value in figures.items() if value != "-"}
    return WeightsRecord(
        name=f"mask2former_swin_{size}_patch4_window{7 if size in ('tiny', 'small') else 12}_{task}",
        tag=tag,
        task=_TASKS[task],
        num_classes=num_classes,
        classes=classes,
        **known,
        **fields,
    )


def _authors() -> list[WeightsRecord]:
    table = []
    for line in _AUTHORS.strip().split("\n"):
        path, md5, *figures = line.split()
        data, task, configuration = path.split("/")
        size = configuration.split("_")[2]
        is_small = (data, task) == ("ade20k", "semantic") and size in ("tiny", "small")
        table.append(
            _record(
                *(size, data, task, dict(zip(_FIGURES[task], figures, strict=True))),
                in22k="_IN21k_" in configuration,
                source=f"https://dl.fbaipublicfiles.com/maskformer/mask2former/{path}/model_final_{md5}.pkl",
                format="official",
                preprocessing=DensePreprocessing(scale=_SMALL_ADE20K if is_small else _SCALES[data], antialias=True),
                published_by="github.com/facebookresearch/Mask2Former MODEL_ZOO.md",
                licence="CC-BY-NC-4.0",
                md5=md5,
                notes="For non-commercial use alone.",
            )
        )
    return table


def _openmmlab() -> list[WeightsRecord]:
    table = []
    for line in _OPENMMLAB.strip().split("\n"):
        size, configuration, date, sha256, *figures = line.split()
        record = _record(
            *(size, "coco", "panoptic" if configuration.endswith("-panoptic") else "instance"),
            dict(zip(("box_ap", "mask_ap", "pq"), figures, strict=True)),
            in22k="-in21k_" in configuration,
            source="https://download.openmmlab.com/mmdetection/v3.0/mask2former/"
            f"{configuration}/{configuration}_{date}-{sha256}.pth",
            format="openmmlab",
            preprocessing=DensePreprocessing.coco(),
            published_by="github.com/open-mmlab/mmdetection configs/mask2former",
            licence="Apache-2.0",
            sha256=sha256,
            notes="OpenMMLab's own training, not the authors' weights.",
        )
        table.append(replace(record, tag=f"{record.tag}_openmmlab"))
    return table


# Those that may be a default come first.
MASK2FORMER_RECORDS: tuple[WeightsRecord, ...] = (*_openmmlab(), *_authors())
