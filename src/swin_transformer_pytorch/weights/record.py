"""One published checkpoint: `WeightsRecord`. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from .preprocessing import DensePreprocessing, Preprocessing


class CatalogError(ValueError):
    """No such record. The message lists what there is."""


@dataclass(frozen=True, kw_only=True)
class WeightsRecord:
    """One published checkpoint.

    Attributes:
        name: the variant's official name.
        tag: which weights of that variant. Of a classifier: `in1k`, `in22k`, `in22k_ft_in1k` or `simmim...`; of a
            detector: `coco_1x` or `coco_3x` by the length of its training; of a segmenter: `ade20k`; of Mask2Former
            the data set; with what sets it apart, and the source unless it is the official one, appended.
        task: what the model is for: "classification", "detection", "segmentation" or "panoptic".
        source: a URL, or `hf:owner/repo` with an optional `/file`.
        format: one of `weights.formats.FORMATS`.
        num_classes: rows of its head, a detector's background not counted; 0 is none.
        classes: "imagenet1k", "imagenet22k", "coco", "ade20k", of Mask2Former also "coco_panoptic",
            "ade20k_instance", "cityscapes", "cityscapes_instance" and "mapillary_vistas"; None where it has no head.
        preprocessing: the evaluation preprocessing of that source, which its published figures belong to.
        top1: published ImageNet-1K top-1 accuracy in percent, or None where none was published.
        box_ap: published box AP on the validation images of its data set (COCO's unless `classes` says another), in
            percent, or None.
        mask_ap: published mask AP there, or None.
        miou: published mean IoU there (ADE20K's unless `classes` says another) at one scale, in percent, or None.
        miou_multiscale: the same of several scales and their mirror images, or None.
        pq: published panoptic quality there, in percent, or None.
        published_by: who published those figures.
        licence: SPDX identifier, as the source states it.
        sha256: the file's hash or its first digits, where the file's name carries them.
        md5: the same of another hash, which no download is checked against.
        notes: what a user should know.
    """

    name: str
    tag: str
    source: str
    format: str
    num_classes: int
    classes: str | None
    preprocessing: Preprocessing | DensePreprocessing
    task: str = "classification"
    top1: float | None = None
    box_ap: float | None = None
    mask_ap: float | None = None
    miou: float | None = None
    miou_multiscale: float | None = None
    pq: float | None = None
    published_by: str | None = None
    licence: str = "MIT"
    sha256: str | None = None
    md5: str | None = None
    notes: str = ""

    @property
    def commercial(self) -> bool:
        """Whether its licence allows commercial use. One that does not is taken only where its tag is named."""
        return "-NC-" not in self.licence

    @property
    def full_name(self) -> str:
        """`name.tag`, as `create_model` takes it."""
        return f"{self.name}.{self.tag}"
