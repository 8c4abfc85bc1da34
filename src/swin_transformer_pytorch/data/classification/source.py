"""Where labelled images are: one description for training and evaluation. Imports torch only to open it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..choice import ClassChoice
from ..held_out import Split
from ..images.decoding import Decoding
from ..shards.options import ShardOptions

if TYPE_CHECKING:
    from .dataset import LabelledImages

ClassificationKind = Literal["folder", "multi_label", "shards", "fashion_sample", "fashion_mnist"]


@dataclass(frozen=True, kw_only=True)
class ClassificationSource:
    """A data set of classification.

    Attributes:
        kind: "folder" (see `ImageFolder`), "multi_label" (see `MultiLabelImages`), "shards" (see `ShardImages`),
            "fashion_sample" (the images in the package) or "fashion_mnist" (all of them, from four files in `root`).
        root: the folder, for the kinds that have one; for shards also an address.
        labels: "multi_label": the file of labels in it, where it is called otherwise.
        channels: of the images, see `ImageFolder`.
        classes: a model's class names, to evaluate it; None for the folder's own.
        choice: which of the classes are taken, and which become one, see `choose_classes`.
        class_order: of a folder's classes, see `ImageFolder`.
        val_fraction: the part of each class, or of all images, that is held out where the folder has no val/.
        seed: of that choice.
        max_pixels: larger image files cannot be used; None for PIL's own limit, see `images.decode.open_image`.
        white_level: the value of white in files of 16 bits; None for 65535, see `images.decode.read_image`.
        decoding: how JPEGs are decoded, see `images.opened.OpenedImage`.
        shards: how shards are read.
    """

    kind: ClassificationKind = "folder"
    root: str | None = None
    labels: str | None = None
    channels: int = 3
    classes: tuple[str, ...] | None = None
    choice: ClassChoice | None = None
    class_order: str | None = None
    val_fraction: float = 0.2
    seed: int = 0
    max_pixels: int | None = None
    white_level: int | None = None
    decoding: Decoding = "exact"
    shards: ShardOptions = field(default_factory=ShardOptions)

    def open(self, split: Split | None) -> LabelledImages:
        """One part of it; None for what there is to evaluate. A `DataError` says what is missing or broken."""
        from .fashion import FashionMNIST, FashionSample
        from .folder import ImageFolder
        from .multi_label import MultiLabelImages
        from .shards import ShardImages

        part: Literal["train", "test"] = "train" if split == "train" else "test"
        if self.kind == "fashion_sample":
            return FashionSample(part)
        assert self.root is not None, "who makes it has checked that"
        if self.kind == "fashion_mnist":
            return FashionMNIST(self.root, part)
        shared: dict[str, Any] = {
            "channels": self.channels,
            "classes": self.classes,
            "choice": self.choice,
            "val_fraction": self.val_fraction,
            "seed": self.seed,
            "max_pixels": self.max_pixels,
            "white_level": self.white_level,
            "decoding": self.decoding,
        }
        if self.kind == "multi_label":
            return MultiLabelImages(self.root, split, labels=self.labels, **shared)
        if self.kind == "shards":
            return ShardImages(self.root, split, options=self.shards, **shared)
        return ImageFolder(self.root, split, class_order=self.class_order, **shared)

    def open_both(self) -> tuple[LabelledImages, LabelledImages]:
        """The images for training and those for validation; a folder of which the latter are held out is read once."""
        from .folder import ImageFolder

        train = self.open("train")
        return train, train.part("val") if isinstance(train, ImageFolder) else self.open("val")
