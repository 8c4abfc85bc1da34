"""Writes the tables of docs/model-zoo.md from the catalogue; with --check, only says whether they are current."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from swin_transformer_pytorch.backbone.complexity import variant_flops
from swin_transformer_pytorch.backbone.config import VARIANTS
from swin_transformer_pytorch.models.config import DENSE_VARIANTS, MASKED_VARIANTS, model_names, parameter_counts
from swin_transformer_pytorch.weights.catalog import RECORDS, WeightsRecord, records
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing, Preprocessing

PAGE = Path(__file__).parents[1] / "docs" / "model-zoo.md"
BEGIN = "<!-- tables written by tools/make_model_zoo.py: begin -->"
END = "<!-- tables written by tools/make_model_zoo.py: end -->"
FIGURES = {
    "detection": {"box_ap": "published box AP", "mask_ap": "published mask AP"},
    "segmentation": {"miou": "published mIoU", "miou_multiscale": "at several scales, mirrored"},
    "panoptic": {"pq": "published PQ"},
}


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def variants_table() -> str:
    rows = []
    for name, variant in VARIANTS.items():
        own = records(name)
        config = variant.config
        rows.append(
            (
                f"`{name}`",
                str(variant.image_size),
                str(config.window_size[0]),
                f"{parameter_counts()[name] / 1e6:.1f} M",
                f"{variant_flops(name) / 1e9:.1f} G",
                f"`{own[0].tag}`" if own else "none",
                f"{own[0].top1:.1f}" if own and own[0].top1 is not None else "",
            )
        )
    return table(("name", "image side", "window", "parameters", "FLOPs", "`default` weights", "published top-1"), rows)


def masked_variants_table() -> str:
    rows = [
        (
            f"`{name}`",
            str(variant.image_size),
            f"{parameter_counts()[name] / 1e6:.1f} M",
            f"`{variant.backbone}`",
            variant.config.foretold,
            f"`{variant.weights}`" if variant.weights else "none",
        )
        for name, variant in MASKED_VARIANTS.items()
    ]
    return table(("name", "image side", "parameters", "backbone", "target", "`default` weights"), rows)


def weights_table(chosen: Iterable[WeightsRecord]) -> str:
    rows = []
    for record in chosen:
        rows.append(
            (
                f"`{record.full_name}`",
                str(record.num_classes) if record.num_classes else "no head",
                f"{record.top1:g}" if record.top1 is not None else "",
                record.published_by or "",
                prepared(record.preprocessing),
                record.format,
                record.licence,
                f"[file]({address(record.source)})",
                record.notes,
            )
        )
    head = ("name", "classes", "published top-1", "published by", "image", "format", "licence", "source", "notes")
    return table(head, rows)


def dense_variants_table(task: str) -> str:
    rows = []
    for name in model_names(task):
        variant = DENSE_VARIANTS[name]
        own = records(name)
        rows.append(
            (
                f"`{name}`",
                f"{parameter_counts()[name] / 1e6:.1f} M",
                f"`{variant.backbone}`",
                f"`{own[0].tag}`" if own and own[0].commercial else "none",
                *figures(task, own),
            )
        )
    return table(("name", "parameters", "backbone", "`default` weights", *FIGURES[task].values()), rows)


def dense_weights_table(task: str) -> str:
    rows = []
    for record in (record for record in RECORDS if record.task == task):
        rows.append(
            (
                f"`{record.full_name}`",
                *figures(task, (record,)),
                record.published_by or "",
                record.format,
                record.licence,
                f"[file]({address(record.source)})",
                record.notes,
            )
        )
    return table(("name", *FIGURES[task].values(), "published by", "format", "licence", "source", "notes"), rows)


def figures(task: str, own: Sequence[WeightsRecord]) -> list[str]:
    """Those of the first record, as its source writes them: AP and PQ with one digit, mean IoU with two."""
    digits = 2 if task == "segmentation" else 1
    values = [getattr(own[0], name) if own else None for name in FIGURES[task]]
    return ["" if value is None else f"{value:.{digits}f}" for value in values]


def prepared(preprocessing: Preprocessing | DensePreprocessing) -> str:
    if isinstance(preprocessing, DensePreprocessing):
        return f"within {preprocessing.scale}"
    size, resize = preprocessing.image_size, preprocessing.resize_size
    return f"{size[0]}, both sides resized" if isinstance(resize, tuple) else f"{size[0]}, cut from {resize}"


def address(source: str) -> str:
    """A page that a browser opens for a record's source."""
    if not source.startswith("hf:"):
        return source
    owner, repository, *file = source.removeprefix("hf:").split("/")
    return f"https://huggingface.co/{owner}/{repository}" + (f"/blob/main/{'/'.join(file)}" if file else "")


def tables() -> str:
    classifiers = [record for record in RECORDS if record.num_classes and record.task == "classification"]
    pretrained = [record for record in RECORDS if not record.num_classes]
    return "\n\n".join(
        (
            BEGIN,
            "## Models",
            variants_table(),
            "## Weights that classify",
            weights_table(classifiers),
            "## Models of masked pre-training (SimMIM)",
            masked_variants_table(),
            "## Weights from masked pre-training (SimMIM)",
            weights_table(pretrained),
            "## Detectors",
            dense_variants_table("detection"),
            "## Weights that detect",
            dense_weights_table("detection"),
            "## Segmenters",
            dense_variants_table("segmentation"),
            "## Weights that segment",
            dense_weights_table("segmentation"),
            "## Panoptic models",
            dense_variants_table("panoptic"),
            "## Weights of panoptic models",
            dense_weights_table("panoptic"),
            END,
        )
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if the page is not current")
    check = parser.parse_args().check
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        print(f"{PAGE}: the two marker lines are gone; put back:\n{BEGIN}\n{END}", file=sys.stderr)
        return 1
    current = before + tables() + after
    if check and current != page:
        print(f"{PAGE.name} is not current: run `python tools/make_model_zoo.py`", file=sys.stderr)
        return 1
    if not check:
        PAGE.write_text(current, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
