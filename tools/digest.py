"""Digests of what the package computes, to show that a change of its code changes no number.

    python tools/digest.py before.json          # in the old tree
    python tools/digest.py after.json --compare before.json

Names go to sha256 digests of exact bytes: of random initial weights, logits, maps, detections and label maps of each
model family, of weights and histories after short training runs of each task, of what the shipped models predict and
measure, of converted files, and of help texts. It uses public names and the command line alone, so that it runs in
trees whose inside differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

import swin_transformer_pytorch as swin

Digests = Iterator[tuple[str, str]]

NARROW: dict[str, Any] = {"embed_dim": 32, "depths": (2, 2, 2), "num_heads": (2, 4, 8), "window_size": 4}
DENSE: dict[str, Any] = {"num_classes": 5, **NARROW}
DETECTOR: dict[str, Any] = {**DENSE, "fpn_dim": 16, "fc_dim": 32, "score_threshold": 0.0, "max_detections": 20}
CLASSIFIERS = ("swin_tiny_patch4_window7_224", "swinv2_tiny_patch4_window8_256")
DETECTORS = ("mask_rcnn", "cascade_mask_rcnn", "htc")
SEGMENTER = "upernet_swin_tiny_patch4_window7_512x512"
SIZES = ((64, 96), (33, 50), (9, 12))

TINY = {"patch_size": 4, "embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2], "window_size": 4}
DENSE_RUN = [
    *("--data.kind", "scenes_sample", "--data.num_scenes", "12", "--data.num_val_scenes", "3"),
    *("--data.scene_size", "[64, 64]", "--data.batch_size", "2", "--schedule.warmup_steps", "2"),
]
CONVERTED = ("official", "timm", "torchvision", "transformers", "openmmlab")


def digest(value: Any) -> str:
    """Of a tensor with type and shape, of plain values as JSON, of text as it is."""
    if isinstance(value, Tensor):
        head = f"{value.dtype} {tuple(value.shape)} ".encode()
        whole = head + value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    else:
        whole = value.encode() if isinstance(value, str) else json.dumps(value, sort_keys=True).encode()
    return hashlib.sha256(whole).hexdigest()


def command(*words: object, folder: Path | None = None) -> str:
    """What `swin` prints."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120", "NO_COLOR": "1"}
    line = [sys.executable, "-m", "swin_transformer_pytorch", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, env=environment, cwd=folder)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


def state_dicts() -> Digests:
    for name in swin.list_models():
        with torch.device("meta"):
            model = swin.create_model(name)
        shapes = {key: [str(value.dtype), *value.shape] for key, value in model.state_dict().items()}
        yield f"statedict/{name}", digest(shapes)


def weights_of(name: str, model: nn.Module) -> Digests:
    for key, value in model.state_dict().items():
        yield f"{name}/{key}", digest(value)


def parts(output: Any) -> list[Tensor]:
    """The tensors of an output, whichever form it has."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, list | tuple):
        return [tensor for one in output for tensor in parts(one)]
    return [output.boxes_xyxy, output.scores, output.labels, output.masks]


def answers(name: str, model: nn.Module) -> Digests:
    """Of the model as it is and in its fastest form, on images of several sizes, one of them below a window."""
    model = model.eval()
    forms = {"eager": model} if name.startswith("backbone") else {"eager": model, "optimized": None}
    for form, module in forms.items():
        module = module if module is not None else swin.optimize_for_inference(model)
        for size in SIZES:
            images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
            with torch.no_grad():
                for number, tensor in enumerate(parts(module(images))):
                    yield f"logits/{name}/{form}/{size[0]}x{size[1]}/{number}", digest(tensor)


def models() -> Digests:
    makers: dict[str, Callable[[], nn.Module]] = {}
    for name in CLASSIFIERS:
        narrow = {**NARROW, "pretrained_window_sizes": (0, 0, 0)} if "v2" in name else NARROW
        for policy in ("unshift", "keep"):
            fields = {**narrow, "num_classes": 7, "single_window": policy}
            makers[f"{name}/{policy}"] = partial(swin.create_model, name, **fields)
        makers[f"backbone/{name}"] = partial(swin.create_backbone, name, out_indices=(0, 2), **narrow)
    for method in DETECTORS:
        makers[method] = partial(swin.create_model, f"{method}_swin_tiny_patch4_window7", **DETECTOR)
    heads: dict[str, Any] = {"decode_dim": 16, "auxiliary_dim": 16, "auxiliary_index": 1}
    makers["upernet"] = partial(swin.create_model, SEGMENTER, **heads, **DENSE)
    for name, make in makers.items():
        torch.manual_seed(0)
        model = make()
        yield from weights_of(f"init/{name}", model)
        yield from answers(name, model)


def training() -> Digests:
    backbone = {**TINY, "drop_path_rate": 0.2}
    v2 = {**backbone, "version": 2}
    heads = {"fpn_dim": 8, "fc_dim": 8, "rpn_samples": 8, "roi_samples": 8}
    segmenter = {"decode_dim": 8, "auxiliary_dim": 8, "auxiliary_index": 0}
    runs: dict[str, tuple[str, dict[str, Any], list[str]]] = {}
    for version, config in (("v1", backbone), ("v2", v2)):
        classifier = ["--data.batch_size", "100", "--schedule.epochs", "2", "--schedule.warmup_epochs", "0.5"]
        mixed = ["--data.augmentation.mixup", "0.8", "--data.augmentation.cutmix", "1.0"]
        runs[f"classification-{version}"] = ("demo_classification", config, [*classifier, *mixed])
    for method, steps in (("mask_rcnn", 20), ("cascade_mask_rcnn", 4), ("htc", 4)):
        config = {
            "method": method,
            **heads,
            "num_semantic_classes": 11,
            "backbone": v2 if method == "htc" else backbone,
        }
        length = ["--schedule.steps", str(steps), "--trainer.validate_every_steps", str(steps)]
        runs[method] = ("scenes_detection", config, [*DENSE_RUN, *length])
    length = ["--schedule.steps", "20", "--trainer.validate_every_steps", "10"]
    runs["upernet"] = ("scenes_segmentation", {**segmenter, "backbone": backbone}, [*DENSE_RUN, *length])
    for name, (recipe, config, words) in runs.items():
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "run"
            model = ["--model.config", json.dumps(config), "--trainer.device", "cpu", "--output", str(output)]
            command("train", recipe, *model, *words)
            for key, value in load_file(output / "model.safetensors").items():
                yield f"train/{name}/{key}", digest(value)
            lines = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
            history = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
            yield f"train/{name}/history", digest(history)


def shipped() -> Digests:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number in range(3):
            pixels = torch.randint(256, (60 + 20 * number, 90, 3), generator=torch.Generator().manual_seed(number))
            Image.fromarray(pixels.to(torch.uint8).numpy()).save(folder / f"{number}.png")
        names = [f"{number}.png" for number in range(3)]
        for model in ("fashion", "scenes_detection", "scenes_segmentation"):
            told = command("predict", *names, "--weights", model, "--output", "-", "--device", "cpu", folder=folder)
            yield f"shipped/predict/{model}", digest(told)
            data = "fashion_sample" if model == "fashion" else "scenes_sample"
            words = ["--data", data, "--data.num_scenes", "6", "--output", folder / model, "--device", "cpu"]
            command("evaluate", "--weights", model, *words)
            yield f"shipped/evaluate/{model}", digest(json.loads((folder / model / "report.json").read_text()))
        for version, name in enumerate(CLASSIFIERS, start=1):
            torch.manual_seed(0)
            source = folder / f"v{version}.pth"
            narrow = {**NARROW, "pretrained_window_sizes": (0, 0, 0)} if version == 2 else NARROW
            torch.save(swin.create_model(name, num_classes=7, **narrow).state_dict(), source)
            for target in CONVERTED if version == 1 else ("official", "timm", "openmmlab", "transformers"):
                written = folder / f"v{version}_{target}.safetensors"
                command("convert", source, written, "--to", target)
                for key, value in load_file(written).items():
                    yield f"convert/v{version}/{target}/{key}", digest(value)


def texts() -> Digests:
    commands = ("benchmark", "convert", "demo", "doctor", "evaluate", "models", "predict", "scenes", "train")
    yield "help/swin", digest(command("--help"))
    for name in commands:
        yield f"help/{name}", digest(command(name, "--help"))
    for recipe in ("finetune", "finetune_detection", "finetune_segmentation"):
        yield f"help/train/{recipe}", digest(command("train", recipe, "--help"))
        yield f"help/config/{recipe}", digest(command("train", recipe, "--print-config"))
    for task in ("classification", "detection", "segmentation"):
        yield f"help/models/{task}", digest(command("models", "--task", task))


PARTS: dict[str, Callable[[], Digests]] = {
    "statedict": state_dicts,
    "models": models,
    "train": training,
    "shipped": shipped,
    "help": texts,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("output", type=Path, help="where the digests go, as JSON")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone; may be given several times")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="names what differs from another file's digests")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, str] = {}
    for name in options.only or PARTS:
        start = time.monotonic()
        found.update(PARTS[name]())
        print(f"{name}: {len(found)} digests so far, {time.monotonic() - start:.0f} s", file=sys.stderr)
    options.output.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{len(found)} digests: {digest(found)}")
    if options.compare is None:
        return 0
    other = json.loads(options.compare.read_text(encoding="utf-8"))
    prefixes = {name.partition("/")[0] for name in found}
    other = {name: value for name, value in other.items() if name.partition("/")[0] in prefixes}
    differing = sorted(name for name in found.keys() | other.keys() if found.get(name) != other.get(name))
    for name in differing:
        print(f"differs: {name}")
    print(f"{len(differing)} of {len(found)} differ")
    return int(bool(differing))


if __name__ == "__main__":
    sys.exit(main())
