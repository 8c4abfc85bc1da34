"""Where images without labels are. Imports torch only to open them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from ..held_out import Split
from ..images.decoding import Decoding
from ..shards.options import ShardOptions

if TYPE_CHECKING:
    from ..classification.dataset import LabelledImages

UnlabelledKind = Literal["folder", "shards", "fashion_sample", "fashion_mnist"]


@dataclass(frozen=True, kw_only=True)
class UnlabelledSource:
    """A data set of images alone.

    Attributes:
        kind: "folder" (see `UnlabelledFolder`), "shards" (see `ShardImages`), "fashion_sample" (the images in the
            package) or "fashion_mnist" (all of them, from the four files in `root`). Labels are not looked at.
        root: the folder, for the kinds that have one; for shards also an address.
        channels: of the images; None for as many as each file has.
        val_fraction: the part of the images that is set apart where the folder has no val/.
        seed: of that choice.
        max_pixels: larger image files cannot be used; None for PIL's own limit, see `images.decode.open_image`.
        white_level: the value of white in files of 16 bits; None for 65535, see `images.decode.read_image`.
        decoding: how JPEGs are decoded, see `images.opened.OpenedImage`.
        shards: how shards are read.
    """

    kind: UnlabelledKind = "folder"
    root: str | None = None
    channels: int | None = 3
    val_fraction: float = 0.01
    seed: int = 0
    max_pixels: int | None = None
    white_level: int | None = None
    decoding: Decoding = "exact"
    shards: ShardOptions = field(default_factory=ShardOptions)

    def open(self, split: Split | None) -> LabelledImages:
        """One part of it; None for what there is to measure on. A `DataError` says what is missing or broken."""
        from ..classification.fashion import FashionMNIST, FashionSample
        from ..classification.shards import ShardImages
        from .folder import UnlabelledFolder

        part: Literal["train", "test"] = "train" if split == "train" else "test"
        if self.kind == "fashion_sample":
            return FashionSample(part)
        assert self.root is not None, "who makes it has checked that"
        if self.kind == "fashion_mnist":
            return FashionMNIST(self.root, part)
        shared: dict[str, Any] = {
            "channels": self.channels,
            "val_fraction": self.val_fraction,
            "seed": self.seed,
            "max_pixels": self.max_pixels,
            "white_level": self.white_level,
            "decoding": self.decoding,
        }
        if self.kind == "shards":
            return ShardImages(self.root, split, options=self.shards, **shared)
        return UnlabelledFolder(self.root, split, **shared)

    def open_both(self) -> tuple[LabelledImages, LabelledImages]:
        """The images for training and those for validation; a folder of which the latter are held out is read once."""
        from .folder import UnlabelledFolder

        train = self.open("train")
        return train, train.part("val") if isinstance(train, UnlabelledFolder) else self.open("val")
