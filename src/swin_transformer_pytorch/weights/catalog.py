"""Every public Swin V1 and V2 checkpoint: its address, format, preprocessing and published figures.

The classifiers are here, detectors and segmenters in `catalog_dense.py`; `RECORDS` has all of them. Imports no torch,
so that the command line can list it at once. Nothing here was measured by this project: `top1` is what its source
published. MLP, mixture-of-experts, S3, CR and video models are other architectures and are not here; nor are SimMIM's
small, huge and giant models, and the classifiers fine-tuned from SimMIM.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from .catalog_dense import DENSE_RECORDS
from .catalog_mask2former import MASK2FORMER_RECORDS
from .preprocessing import Preprocessing
from .record import CatalogError, WeightsRecord

__all__ = ["RECORDS", "SHIPPED", "CatalogError", "WeightsRecord", "find_record", "records"]

_PRETRAINED = Path(__file__).with_name("pretrained")
SHIPPED = {
    "fashion": _PRETRAINED / "swin_fashion.safetensors",
    "scenes_detection": _PRETRAINED / "mask_rcnn_scenes.safetensors",
    "scenes_segmentation": _PRETRAINED / "upernet_scenes.safetensors",
    "scenes_panoptic": _PRETRAINED / "mask2former_scenes.safetensors",
}
"""Models that are inside the package, by names that are taken wherever a model or weights are named."""

_RELEASES = "https://github.com/SwinTransformer/storage/releases/download"
_OFFICIAL = "github.com/microsoft/Swin-Transformer MODELHUB.md"
_TIMM = "github.com/huggingface/pytorch-image-models results/results-imagenet.csv"
_TORCHVISION = "torchvision 0.29 models/swin_transformer.py"

# Variant | release of in1k, in22k, in22k_ft_in1k | official top-1 of in1k, in22k_ft_in1k | timm's measure of the same
# two. "-" is none.
_MICROSOFT = """
swin_tiny_patch4_window7_224              v1.0.0 v1.0.8 v1.0.8  81.2 80.9  81.388 80.966
swin_small_patch4_window7_224             v1.0.0 v1.0.8 v1.0.8  83.2 83.2  83.228 83.330
swin_base_patch4_window7_224              v1.0.0 v1.0.0 v1.0.0  83.5 85.2  83.604 85.276
swin_base_patch4_window12_384             v1.0.0 v1.0.0 v1.0.0  84.5 86.4  84.478 86.442
swin_large_patch4_window7_224             -      v1.0.0 v1.0.0  -    86.3  -      86.320
swin_large_patch4_window12_384            -      v1.0.0 v1.0.0  -    87.3  -      87.142
swin_tiny_c24_patch4_window8_256          v1.0.5 -      -       81.6 -     -      -
swinv2_tiny_patch4_window8_256            v2.0.0 -      -       81.8 -     81.824 -
swinv2_small_patch4_window8_256           v2.0.0 -      -       83.7 -     83.844 -
swinv2_base_patch4_window8_256            v2.0.0 -      -       84.2 -     84.246 -
swinv2_tiny_patch4_window16_256           v2.0.0 -      -       82.8 -     82.828 -
swinv2_small_patch4_window16_256          v2.0.0 -      -       84.1 -     84.216 -
swinv2_base_patch4_window16_256           v2.0.0 -      -       84.6 -     84.608 -
swinv2_base_patch4_window12_192           -      v2.0.0 -       -    -     -      -
swinv2_large_patch4_window12_192          -      v2.0.0 -       -    -     -      -
swinv2_base_patch4_window12to16_192to256  -      -      v2.0.0  -    86.2  -      86.270
swinv2_base_patch4_window12to24_192to384  -      -      v2.0.0  -    87.1  -      87.142
swinv2_large_patch4_window12to16_192to256 -      -      v2.0.0  -    86.9  -      86.934
swinv2_large_patch4_window12to24_192to384 -      -      v2.0.0  -    87.6  -      87.474
"""

# Variant | file | hash prefix | shorter side that the crop is cut from | published top-1
_TORCHVISION_FILES = """
swin_tiny_patch4_window7_224    swin_t    704ceda3 232 81.474
swin_small_patch4_window7_224   swin_s    5e29d889 246 83.196
swin_base_patch4_window7_224    swin_b    68c6b09e 238 83.582
swinv2_tiny_patch4_window8_256  swin_v2_t b137f0e2 260 82.072
swinv2_small_patch4_window8_256 swin_v2_s 637d8ceb 260 83.712
swinv2_base_patch4_window8_256  swin_v2_b 781e5279 272 84.112
"""

# Repositories on the Hugging Face hub whose existence was seen; the rest follow the naming pattern, unchecked.
_TRANSFORMERS_SEEN = (
    "swin-tiny-patch4-window7-224",
    "swinv2-tiny-patch4-window8-256",
    "swinv2-base-patch4-window12-192-22k",
    "swinv2-large-patch4-window12-192-22k",
    "swinv2-base-patch4-window12to16-192to256-22kto1k-ft",
    "swinv2-large-patch4-window12to16-192to256-22kto1k-ft",
    "swinv2-base-patch4-window12to24-192to384-22kto1k-ft",
    "swinv2-large-patch4-window12to24-192to384-22kto1k-ft",
)

_SIMMIM_DATA = {"1kper10": "10% of 1K", "1kper20": "20% of 1K", "1kper50": "50% of 1K", "1k": "1K", "22k": "22K"}


def _image_size(name: str) -> int:
    return int(re.split(r"_|to", name)[-1])


def _head(tag: str) -> dict[str, Any]:
    num_classes, classes = (21841, "imagenet22k") if tag == "in22k" else (1000, "imagenet1k")
    return {"num_classes": num_classes, "classes": classes}


def _official(name: str, tag: str, release: str, top1: float | None) -> WeightsRecord:
    v2 = name.startswith("swinv2")
    suffix = {"in1k": "", "in22k": "_22k"}.get(tag)
    if suffix is None:
        # Three ways of naming the same thing, one for each release.
        suffix = "_22kto1k_ft" if v2 else "_22kto1k_finetune" if release == "v1.0.8" else "_22kto1k"
    size = _image_size(name)
    no_config = tag == "in22k" and size == 384
    return WeightsRecord(
        name=name,
        tag=tag,
        source=f"{_RELEASES}/{release}/{name}{suffix}.pth",
        format="official",
        **_head(tag),
        # The recipes of 384 pixels set TEST.CROP to False: the whole image, squeezed to a square.
        preprocessing=Preprocessing.imagenet(size, (size, size) if size == 384 else None),
        top1=top1,
        published_by=_OFFICIAL if top1 else None,
        notes="No official recipe was published; preprocessed as the other 384-pixel models." if no_config else "",
    )


def _timm(name: str, tag: str, top1: float | None) -> WeightsRecord:
    size = _image_size(name)
    timm_name = name.replace("_patch4", "") if name.startswith("swinv2") else name
    return WeightsRecord(
        name=name,
        tag=f"{tag}_timm",
        source=f"hf:timm/{timm_name}.ms_{tag}/model.safetensors",
        format="timm",
        **_head(tag),
        # timm resizes the shorter side to floor(size / crop_pct); crop_pct is 1.0 at 384 pixels and 0.9 elsewhere.
        preprocessing=Preprocessing.imagenet(size, size if size == 384 else size * 10 // 9),
        top1=top1,
        published_by=_TIMM if top1 else None,
        notes="The official weights, converted by timm.",
    )


def _is_on_transformers(name: str, tag: str) -> bool:
    """V2: everything. V1: tiny and small from 1K alone, base and large from 22K alone; no c24."""
    if name.startswith("swinv2"):
        return True
    return (tag == "in1k") == ("tiny" in name or "small" in name) and "c24" not in name


def _transformers(name: str, tag: str, top1: float | None) -> WeightsRecord:
    v2 = name.startswith("swinv2")
    suffix = {"in1k": "", "in22k": "-22k" if v2 else "-in22k"}.get(tag, "-22kto1k-ft" if v2 else "")
    repository = name.replace("_", "-") + suffix
    size = _image_size(name)
    notes = "The official weights, converted by transformers."
    if repository not in _TRANSFORMERS_SEEN:
        notes += " Its address follows the naming pattern, unchecked."
    if tag == "in22k_ft_in1k" and name.startswith("swin_base"):
        notes += " Its card says ImageNet-1K; timm's weights that it was converted from came from 22K, unchecked."
        top1 = None
    return WeightsRecord(
        name=name,
        tag=f"{tag}_transformers",
        source=f"hf:microsoft/{repository}",
        format="transformers",
        **_head(tag),
        preprocessing=Preprocessing.imagenet(size, (size, size)),
        top1=top1,
        published_by=f"{_OFFICIAL} (same weights, other preprocessing)" if top1 else None,
        licence="Apache-2.0",
        notes=notes,
    )


def _torchvision(name: str, file: str, sha256: str, resize_size: int, top1: float) -> WeightsRecord:
    return WeightsRecord(
        name=name,
        tag="in1k_torchvision",
        source=f"https://download.pytorch.org/models/{file}-{sha256}.pth",
        format="torchvision",
        **_head("in1k"),
        preprocessing=Preprocessing.imagenet(_image_size(name), resize_size),
        top1=top1,
        published_by=_TORCHVISION,
        licence="BSD-3-Clause",
        sha256=sha256,
        notes="torchvision's own training, not the official weights.",
    )


def _simmim(name: str, tag: str, source: str, file_format: str, licence: str, notes: str) -> WeightsRecord:
    size = _image_size(name)
    return WeightsRecord(
        name=name,
        tag=tag,
        source=source,
        format=file_format,
        num_classes=0,
        classes=None,
        preprocessing=Preprocessing.imagenet(size, (size, size)),
        licence=licence,
        notes=f"Masked pre-training only: no head, so fine-tune before use. {notes}",
    )


def _simmim_records() -> list[WeightsRecord]:
    repository = "hf:microsoft/swin-base-simmim-window6-192"
    note = "Swin-B, 800 epochs on ImageNet-1K, converted by transformers."
    tag = "simmim_1k_800ep_transformers"
    table = [_simmim("swin_base_patch4_window6_192", tag, repository, "transformers", "Apache-2.0", note)]
    for size in ("base", "large"):
        for data, described in _SIMMIM_DATA.items():
            for iterations in ("125k", "250k", "500k"):
                file = f"simmim_swinv2_pretrain_models/swinv2_{size}_{data}_{iterations}.pth"
                name = f"swinv2_{size}_patch4_window12_192"
                note = f"SimMIM, {iterations} iterations on ImageNet ({described})."
                tag = f"simmim_{data}_{iterations}"
                table.append(_simmim(name, tag, f"hf:zdaxie/SimMIM/{file}", "official", "MIT", note))
    return table


def _records() -> tuple[WeightsRecord, ...]:
    table: list[WeightsRecord] = []
    for line in _MICROSOFT.split("\n")[1:-1]:
        name, in1k, in22k, fine_tuned, *accuracies = line.split()
        top1, top1_ft, timm1, timm1_ft = (None if value == "-" else float(value) for value in accuracies)
        for tag, release, official_top1, timm_top1 in (
            ("in1k", in1k, top1, timm1),
            ("in22k_ft_in1k", fine_tuned, top1_ft, timm1_ft),
            ("in22k", in22k, None, None),
        ):
            if release == "-":
                continue
            table.append(_official(name, tag, release, official_top1))
            if "c24" not in name:
                table.append(_timm(name, tag, timm_top1))
            if _is_on_transformers(name, tag):
                table.append(_transformers(name, tag, official_top1))
    for line in _TORCHVISION_FILES.split("\n")[1:-1]:
        name, file, sha256, resize_size, accuracy = line.split()
        table.append(_torchvision(name, file, sha256, int(resize_size), float(accuracy)))
    return (*table, *_simmim_records(), *DENSE_RECORDS, *MASK2FORMER_RECORDS)


RECORDS: tuple[WeightsRecord, ...] = _records()


def records(name: str | None = None) -> tuple[WeightsRecord, ...]:
    """All records, or those of one variant; its default comes first."""
    return RECORDS if name is None else tuple(record for record in RECORDS if record.name == name)


def find_record(name: str, tag: str = "default") -> WeightsRecord:
    """The record of a variant by its tag.

    "default" is the official file that classifies ImageNet-1K (trained on 1K alone where there is one, else
    fine-tuned from 22K), or the official 22K file where the variant has no other; of a detector or segmenter the
    official file of the longest training, else the first there is. Files whose licence forbids commercial use are
    taken by their tags alone.

    Raises:
        CatalogError: there are no weights of that variant, or none with that tag; the message lists the tags.
    """
    found = records(name)
    if not found:
        with_weights = ", ".join(dict.fromkeys(record.name for record in RECORDS))
        raise CatalogError(f"no public weights are known for {name!r}; there are some for: {with_weights}")
    tags = ", ".join(record.tag for record in found)
    if tag == "default":
        default = next((record for record in found if record.commercial), None)
        if default is None:
            raise CatalogError(
                f"{name} has no default weights: the licence of all that are public ({found[0].licence}) forbids "
                f"commercial use, so name the ones that you may use: {tags}"
            )
        return default
    for record in found:
        if record.tag == tag:
            return record
    raise CatalogError(f"no weights {tag!r} of {name}; use default, {tags}")
