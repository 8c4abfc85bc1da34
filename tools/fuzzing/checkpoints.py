"""Checkpoints of small models of every task and format: bytes, headers, tensors and descriptions changed."""

from __future__ import annotations

import copy
import functools
import io
import json
import logging
import os
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor, nn

from swin_transformer_pytorch.backbone.config import SwinConfig
from swin_transformer_pytorch.compat import SwinTransformer
from swin_transformer_pytorch.models.build import build
from swin_transformer_pytorch.models.config import DetectorConfig, SegmenterConfig
from swin_transformer_pytorch.models.description import ModelDescription
from swin_transformer_pytorch.models.registry import load_model
from swin_transformer_pytorch.weights.formats import convert_state_dict
from swin_transformer_pytorch.weights.load import load_weights
from swin_transformer_pytorch.weights.preprocessing import DensePreprocessing, Preprocessing
from swin_transformer_pytorch.whole import seal

from .case import Case, Gone, Silent, damaged, nested, replaced_anywhere

V1 = SwinConfig(embed_dim=8, depths=(2, 1), num_heads=(1, 2), window_size=(4, 4), drop_path_rate=0.0)
V2 = V1.replace(version=2, pretrained_window_sizes=(4, 4))
_KEPT = V1.replace(single_window="keep")
_DETECTOR = DetectorConfig(backbone=_KEPT, num_classes=3, fpn_dim=8, fc_dim=8, num_semantic_classes=4)
_DENSE = DensePreprocessing(scale=(64, 48))
MODELS: dict[str, Callable[[], nn.Module]] = {
    "v1": lambda: build(
        ModelDescription(config=V1, num_classes=3, classes=("a", "b", "c"), preprocessing=Preprocessing.imagenet(32))
    ),
    "v2": lambda: build(ModelDescription(config=V2, num_classes=3)),
    "mask_rcnn": lambda: build(
        ModelDescription(config=_DETECTOR, classes=("a", "b", "c"), preprocessing=_DENSE),
    ),
    "cascade": lambda: build(ModelDescription(config=_DETECTOR.replace(method="cascade_mask_rcnn"))),
    "htc": lambda: build(ModelDescription(config=_DETECTOR.replace(method="htc"))),
    "upernet": lambda: build(
        ModelDescription(
            config=SegmenterConfig(backbone=_KEPT, num_classes=5, decode_dim=8, auxiliary_dim=4, auxiliary_index=1),
            palette=tuple((n, n, n) for n in range(5)),
            preprocessing=_DENSE,
        )
    ),
    "0.4.1": lambda: SwinTransformer(
        hidden_dim=8, layers=(2, 2, 2, 2), heads=(1, 1, 1, 1), num_classes=3, head_dim=8, window_size=2
    ),
}
# "own" are files that describe their model, which `load_model` reads; the others are loaded into a model.
_CLASSIFIERS = ("own", "official", "timm", "torchvision", "transformers", "openmmlab")
FORMATS: dict[str, tuple[str, ...]] = dict.fromkeys(MODELS, ("own", "official", "openmmlab"))
FORMATS |= {"v1": _CLASSIFIERS, "v2": _CLASSIFIERS, "0.4.1": ("seed",)}
FORMATS["upernet"] += ("transformers",)
_KINDS = ("safetensors", "pth", "pth", "ckpt", "old.pth")  # "ckpt" is sealed, "old.pth" no archive


class Base(NamedTuple):
    """A model with weights, the same in a format's names, and its description where the file has one."""

    model: nn.Module
    state_dict: dict[str, Tensor]
    metadata: dict[str, Any] | None


@functools.cache
def base(name: str, form: str) -> Base:
    model = _filled(name)
    own = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    if form in ("own", "seed"):
        return Base(model, own, model.metadata() if form == "own" else None)  # type: ignore[operator]
    return Base(model, convert_state_dict(own, form, window_size=4), None)


def _filled(name: str) -> nn.Module:
    """A model in which no two numbers are alike, so that none can take another's place unseen."""
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.copy_(torch.rand(tensor.shape) + 0.5 if tensor.is_floating_point() else torch.tensor(7))
    return model


def prepare() -> None:
    """Makes all bases, for processes to share."""
    for name, forms in FORMATS.items():
        for form in forms:
            base(name, form)


def make(chance: random.Random, folder: Path) -> Case:
    name = chance.choice(list(MODELS))
    form = chance.choice(FORMATS[name])
    model, state_dict, metadata = base(name, form)
    state_dict, metadata = dict(state_dict), copy.deepcopy(metadata)
    kind = chance.choice(_KINDS)
    path = folder / f"model.{kind}"
    change = chance.choice(_CHANGES if kind != "safetensors" else (*_CHANGES, _header, _header))
    tolerance, intact, unseen = 0.0, False, False
    if change in (_tensors, _dtypes):
        what = change(state_dict, chance)
        tolerance = 0.2 if change is _dtypes else 0.0
        _write(path, state_dict, metadata)
    elif change is _description:
        what = _description(metadata, chance)
        _write(path, state_dict, metadata)
    elif change is _pickles and kind != "safetensors":
        what = _pickles(path, state_dict, chance)
    elif change is None:
        what, intact = "nothing", True
        _write(path, state_dict, metadata)
    else:
        _write(path, state_dict, metadata)
        content = path.read_bytes()
        if change is _header:
            changed, what = _header(content, chance)
        else:
            changed, what = damaged(content, chance)
        path.write_bytes(changed)
        # These have no checksum, so that flipped bits of their numbers cannot be found.
        unseen = kind == "old.pth" or (kind == "safetensors" and _same_header(content, changed))
    said = _Said()

    def read() -> None:
        logging.getLogger("swin_transformer_pytorch").addHandler(said)
        try:
            loaded: nn.Module = load_model(path) if form == "own" else MODELS[name]()
            if form != "own":
                report = load_weights(loaded, path)
                said.notes += [*report.resized, *report.sliced, *report.adapted, *report.fresh]
        finally:
            logging.getLogger("swin_transformer_pytorch").removeHandler(said)
        if not (unseen or said.notes):
            _compare(model, loaded, tolerance)

    return Case(what=f"{name}, {form}, {kind}: {what}", read=read, named=(path.name,), intact=intact)


class _Said(logging.Handler):
    """Collects what is said while a file is loaded."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.notes: list[object] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.notes.append(record.getMessage())


def _compare(model: nn.Module, loaded: nn.Module, tolerance: float) -> None:
    theirs = loaded.state_dict()
    for key, tensor in model.state_dict().items():
        if key.endswith("num_batches_tracked"):
            continue  # no answer depends on it
        other = theirs.get(key)
        if other is None or other.shape != tensor.shape:
            raise Silent(f"{key} is no longer there, or of another shape")
        if not torch.allclose(tensor, other, rtol=0, atol=tolerance):
            raise Silent(f"{key} differs by {(tensor - other).abs().max().item()}")


def _write(path: Path, content: dict[str, Any], metadata: dict[str, Any] | None) -> None:
    # What a safetensors file cannot hold stands in a torch file of that name.
    plain = all(
        isinstance(value, Tensor) and value.layout == torch.strided and not value.is_meta and value.numel() < 10**6
        for value in content.values()
    )
    if path.suffix == ".safetensors" and plain:
        tensors = {key: value.contiguous().clone() for key, value in content.items()}
        try:
            header = {"swin": json.dumps(metadata)} if metadata else None
            safetensors.torch.save_file(tensors, path, metadata=header)
            return
        except (TypeError, ValueError, RecursionError, KeyError, UnicodeError, safetensors.SafetensorError):
            pass
    whole = {"model": content, "swin": metadata} if metadata is not None else {"state_dict": content}
    torch.save(whole, path, _use_new_zipfile_serialization=path.name != "model.old.pth")
    if path.suffix == ".ckpt":
        seal(path)


def _tensors(state_dict: dict[Any, Any], chance: random.Random) -> str:
    """Tensors renamed, left out, of another shape or none, without numbers."""
    key = chance.choice(list(state_dict))
    tensor = state_dict[key]
    flat = tensor.reshape(1, -1) if tensor.ndim != 2 else tensor.flatten()
    names = (f"{key}x", f"module.{key}", key.upper(), key.replace(".", "_"), key.replace("0", "9" * 5000), "", "\ud800")
    values: tuple[Any, ...] = (flat, tensor[..., None], tensor.new_zeros(0), tensor.new_zeros(()))
    values += (
        tensor.repeat(2, *[1] * tensor.ndim),
        tensor.flatten()[: max(1, tensor.numel() // 2)],
        tensor.to_sparse(),
        None,
        "text",
    )
    values += ([tensor], 10**600, torch.zeros(1).expand(10**6, 10**6), torch.empty(tensor.shape, device="meta"))
    what = chance.choice(("rename", "drop", "drop", "replace", "replace", "replace", "nan", "add", "all"))
    if what == "rename":
        state_dict[chance.choice(names)] = state_dict.pop(key)
    elif what == "drop":
        for gone in chance.sample(list(state_dict), chance.choice((1, 1, 5))):
            del state_dict[gone]
    elif what == "replace":
        state_dict[key] = chance.choice(values)
    elif what == "nan" and tensor.is_floating_point():
        state_dict[key] = tensor.clone()
        state_dict[key].view(-1)[chance.randrange(tensor.numel())] = chance.choice((float("nan"), float("inf")))
    elif what == "add":
        more = ("layers.7.blocks.0.norm1.weight", 5, None, ("a", 1), "x" * 10**6, "head.fc.weight", "norm3.weight")
        state_dict[chance.choice(more)] = tensor
    else:
        rest = chance.sample(list(state_dict), len(state_dict) // 2)
        for each in rest:
            state_dict[each] = state_dict[each].flatten() if chance.random() < 0.5 else state_dict[each][..., None]
    return f"{what} {key}"


_OTHER_DTYPES = ("float8_e4m3fn", "int8", "int64", "uint16", "bool", "complex64")


def _dtypes(state_dict: dict[str, Tensor], chance: random.Random) -> str:
    key = chance.choice(list(state_dict))
    chosen = chance.choice(("float16", "bfloat16", "float64", "float64", "float8_e5m2", *_OTHER_DTYPES))
    for each in [key] if chance.random() < 0.5 else list(state_dict):
        state_dict[each] = state_dict[each].to(getattr(torch, chosen))
    if chosen == "float64" and chance.random() < 0.7 and state_dict[key].is_floating_point():
        state_dict[key] = state_dict[key] * 1e300  # a number there, and none as float32
    return f"{key} as {chosen}"


ABSURD: tuple[Any, ...] = (-1, 0, 1e300, float("nan"), float("inf"), 10**12, 10**600, 2**63, True, None, "x")
ABSURD += (
    "x" * 10**5,
    [],
    {},
    [1] * 10**5,
    {"a": 1},
    nested(200),
    nested(200, key="config"),
    "\ud800",
    [None],
    [[1, 2]],
    1.5,
)


def _description(metadata: dict[str, Any] | None, chance: random.Random) -> str:
    if metadata is None:
        return "nothing"
    done = []
    for _ in range(chance.choice((1, 1, 3))):
        value = chance.choice((*ABSURD, Gone, Gone, metadata))
        done.append(f"{replaced_anywhere(metadata, value, chance)} = {value!r:.40}")
        if not metadata:
            break
    return ", ".join(done)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.abort, ()


def _pickles(path: Path, state_dict: dict[str, Any], chance: random.Random) -> str:
    """Torch files of what no checkpoint holds, and archives that unpack to far more than they are."""
    what = chance.choice(("loop", "deep", "evil", "bomb", "stored twice", "list", "nothing", "padded", "recompressed"))
    loop: dict[str, Any] = {}
    loop[chance.choice(("model", "state_dict", "module"))] = {"model": loop}
    contents: dict[str, Any] = {
        "loop": loop,
        "deep": nested(chance.choice((9, 200)), key="model", inner=state_dict),
        "evil": {**state_dict, "head.weight": _Evil()},
        "bomb": {"w": torch.zeros(40_000_000)},
        "list": list(state_dict.values()),
        "nothing": chance.choice(({}, None, 1, "x", torch.ones(3), {"model": {}}, {"model": None})),
    }
    torch.save(contents.get(what, state_dict), path)
    if what in ("bomb", "stored twice", "padded", "recompressed"):
        packed = io.BytesIO()
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
            for member in old.infolist():
                for _ in range(2 if what == "stored twice" else 1):
                    new.writestr(member.filename, old.read(member))
            if what == "padded":
                new.writestr("archive/data/999", bytes(200_000_000))
        path.write_bytes(packed.getvalue())
    return what


def _header(content: bytes, chance: random.Random) -> tuple[bytes, str]:
    """The header of a safetensors file, its tensors' entries and its length changed."""
    length = struct.unpack("<Q", content[:8])[0]
    try:
        header = json.loads(content[8 : 8 + length])
    except ValueError:
        return damaged(content, chance)  # it had to be written as a torch file
    if chance.random() < 0.2:
        claimed = chance.choice((0, 1, length - 1, length + 1, 2**31, 2**40, 2**64 - 1))
        return struct.pack("<Q", claimed) + content[8:], f"header of {claimed}"
    key = chance.choice(list(header))
    values = (*ABSURD, Gone, "I32", "F16", "F8_E4M3", [2**40, 2**40], [0, 10**9], [10**9, 0], {"dtype": "F32"})
    value = chance.choice(values)
    what = replaced_anywhere(header if chance.random() < 0.3 else {"": header[key]}, value, chance)
    written = json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + content[8 + length :], f"{key}: {what} = {value!r:.40}"


def _same_header(content: bytes, changed: bytes) -> bool:
    length = 8 + struct.unpack("<Q", content[:8])[0]
    return content[:length] == changed[:length] and len(content) == len(changed)


_CHANGES = (damaged, damaged, damaged, _tensors, _tensors, _tensors, _dtypes, _description, _pickles, None)
