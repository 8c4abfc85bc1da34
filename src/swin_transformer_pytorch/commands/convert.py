"""Rewrites a checkpoint in another library's format. Tensors are renamed, split, joined and reordered, never changed.

  swin convert swin_tiny.pth --to timm swin_tiny_timm.safetensors
  swin convert model.safetensors --to official model.pth --from transformers
  swin convert upernet_from_mmseg.pth --to official upernet.pth

IN is a .pth, .pt, .bin, .ckpt or .safetensors file, a URL, or hf:owner/repo; its format is recognised from its keys.
OUT ends in .safetensors, .pth, .pt or .bin, which chooses the kind of file. The result loads strictly in the library
that it is for; the official code and OpenMMLab's make index buffers themselves, so those are left out for them. Whole
detectors and segmenters convert between official and openmmlab, segmenters also to and from transformers.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..weights.formats import FORMATS
from . import terminal

if TYPE_CHECKING:
    from torch import Tensor

    from ..weights.files import CheckpointFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from jsonargparse.typing import PositiveInt

    parser.add_argument("input", metavar="IN", help="the checkpoint")
    parser.add_argument("output", metavar="OUT", help="the file to write")
    parser.add_argument("--to", choices=FORMATS, required=True, help="the format to write")
    parser.add_argument("--from", choices=FORMATS, help="the format of IN (default: recognised from its keys)")
    parser.add_argument(
        "--window-size",
        type=PositiveInt,
        metavar="N",
        help="tokens of a window's side, for torchvision's V2, whose files must tell it and whose tensors do not",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT where there is one")


def run(options: argparse.Namespace) -> int:
    from ..weights.files import CheckpointError, read_checkpoint, save_checkpoint
    from ..weights.formats import convert_state_dict, detect_format
    from ..weights.formats.official import is_derived

    target = Path(options.output)
    if target.exists() and not options.force:
        raise CheckpointError(f"{target} exists already: choose another name, or add --force to replace it")
    checkpoint = read_checkpoint(_local(options.input))
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
    output.print(f"read    {options.input}: {source}, {_describe(checkpoint.state_dict)}")
    output.print(f"wrote   {target}: {options.to}, {_describe(converted)}, {target.stat().st_size / 1e6:.1f} MB")
    if derived := sum(is_derived(key) for key in checkpoint.state_dict) - sum(map(is_derived, converted)):
        output.print(f"left out {derived} buffers that follow from the configuration")
    if checkpoint.metadata is not None:
        kept = "kept" if metadata is not None else "left out: only the official names have a place for them"
        output.print(f"model description, classes and preprocessing: {kept}")
    return 0


def _local(source: str) -> Path:
    from ..weights.download import fetch

    return fetch(source) if source.startswith(("hf:", "http://", "https://", "file://")) else Path(source)


def _window_size(checkpoint: CheckpointFile) -> tuple[int, int] | None:
    """The window that our own checkpoints describe; None for others."""
    size = (checkpoint.metadata or {}).get("config", {}).get("window_size")
    return (size[0], size[1]) if size is not None else None


def _describe(state_dict: dict[str, Tensor]) -> str:
    return f"{len(state_dict)} tensors with {sum(tensor.numel() for tensor in state_dict.values()):,} numbers"
