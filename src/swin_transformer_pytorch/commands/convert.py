"""Rewrites a checkpoint in another library's format. Tensors are renamed, split, joined and reordered, never changed.

  swin convert swin_tiny.pth --to timm swin_tiny_timm.safetensors
  swin convert model.safetensors --to official model.pth --from transformers
  swin convert upernet_from_mmseg.pth --to official upernet.pth
  swin convert best.ckpt --to transformers folder_for_transformers

IN is a .pth, .pt, .bin, .ckpt, .pkl or .safetensors file, a folder of transformers, a URL, or hf:owner/repo; its format
is recognised from its keys. OUT ends in .safetensors, .pth, .pt or .bin, which chooses the kind of file; with --to
transformers and no ending it is a folder with config and processor, of a classifier that IN or --model names, which
`AutoModelForImageClassification` and `AutoImageProcessor` load. The result loads strictly in the library
that it is for; the official code and OpenMMLab's make index buffers themselves, so those are left out for them. Whole
detectors and segmenters convert between official and openmmlab, UPerNet and Mask2Former also to and from transformers.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..weights.formats import FORMATS
from . import terminal
from .errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from ..weights.files import CheckpointFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import PositiveInt

    parser.add_argument("input", metavar="IN", help="the checkpoint")
    parser.add_argument("output", metavar="OUT", help="the file or folder to write")
    parser.add_argument("--to", choices=FORMATS, required=True, help="the format to write")
    parser.add_argument("--from", choices=FORMATS, help="the format of IN (default: recognised from its keys)")
    parser.add_argument(
        "--window-size",
        type=PositiveInt,
        metavar="N",
        help="tokens of a window's side, for torchvision's V2, whose files must tell it and whose tensors do not",
    )
    parser.add_argument(
        "--model", metavar="NAME", help="for a folder: official name of the model, where IN does not say which it is"
    )
    parser.add_argument(
        "--which",
        choices=["averaged", "raw"],
        help="the weights to take of a training's checkpoint that has both (default: the averaged of ours)",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT where there is one")


def run(options: argparse.Namespace) -> int:
    from ..weights.files import CheckpointError, save_checkpoint
    from ..weights.folders import read_files
    from ..weights.formats import convert_state_dict, detect_format
    from ..weights.formats.official import is_derived

    target = Path(options.output)
    if target.exists() and not options.force:
        raise CheckpointError(f"{target} exists already: choose another name, or add --force to replace it")
    if target.is_dir() or not target.suffix:
        return _write_folder(options, target)
    checkpoint = read_files(_local(options.input), options.which)
    source = getattr(options, "from") or detect_format(checkpoint.state_dict)
    window_size = options.window_size or _window_size(checkpoint)
    converted = convert_state_dict(checkpoint.state_dict, to=options.to, source=source, window_size=window_size)
    # Our description goes with our names: a file in another library's must look as that library wrote it.
    metadata = checkpoint.metadata if options.to == "official" else None
    description = checkpoint.metadata or {}
    save_checkpoint(
        target,
        converted,
        metadata,
        classes=description.get("classes") or checkpoint.classes,
        palette=description.get("palette") or checkpoint.palette,
    )
    output = terminal.output()
    kind = f"{source}, {checkpoint.which} weights" if checkpoint.which else source
    output.print(f"read    {options.input}: {kind}, {_describe(checkpoint.state_dict)}")
    output.print(f"wrote   {target}: {options.to}, {_describe(converted)}, {target.stat().st_size / 1e6:.1f} MB")
    if lost := masked_alone(checkpoint.state_dict, source, converted):
        output.print(f"left out {', '.join(lost)}: of masked pre-training alone, which {options.to} has not")
    derived = sum(is_derived(key) for key in checkpoint.state_dict) - sum(map(is_derived, converted))
    if derived > 0:
        output.print(f"left out {derived} buffers that follow from the configuration")
    for note in checkpoint.notes:
        output.print(f"note    {note}")
    if checkpoint.beside:
        output.print(f"left out {len(checkpoint.beside)} tensors beside the model, such as {checkpoint.beside[0]}")
    if checkpoint.metadata is not None:
        kept = "kept" if metadata is not None else "left out: only the official names have a place for them"
        output.print(f"model description, classes and preprocessing: {kept}")
    return 0


def _write_folder(options: argparse.Namespace, target: Path) -> int:
    from ..models.registry import checkpoint_model, create_model
    from ..models.saving import save_for_transformers

    if options.to != "transformers":
        raise UsageError(f"{target} has no ending, so it is a folder, which only --to transformers writes: end in .pth")
    if options.model is not None:
        model = create_model(options.model, weights=options.input, which=options.which)
    else:
        model = checkpoint_model(options.input, which=options.which)
    notes = save_for_transformers(model, target)
    output = terminal.output()
    output.print(f"wrote   {target}: {', '.join(sorted(path.name for path in target.iterdir()))}")
    for note in notes:
        output.print(f"transformers differs: {note}")
    return 0


def masked_alone(state_dict: dict[str, Tensor], source: str, converted: dict[str, Tensor]) -> list[str]:
    """Official names of what belongs to masked pre-training and was not converted."""
    from ..weights.formats import to_official
    from ..weights.formats.official import is_masked_pretraining

    kept = any(key.endswith("mask_token") for key in converted)
    return [] if kept else [key for key in to_official(state_dict, source) if is_masked_pretraining(key)]


def _local(source: str) -> Path:
    from ..weights.download import fetch

    return fetch(source) if source.startswith(("hf:", "http://", "https://", "file://")) else Path(source)


def _window_size(checkpoint: CheckpointFile) -> tuple[int, int] | None:
    """The window that our own checkpoints describe; None for others."""
    size = (checkpoint.metadata or {}).get("config", {}).get("window_size")
    return (size[0], size[1]) if size is not None else None


def _describe(state_dict: dict[str, Tensor]) -> str:
    return f"{len(state_dict)} tensors with {sum(tensor.numel() for tensor in state_dict.values()):,} numbers"
