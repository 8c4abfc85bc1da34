"""COCO's annotation files: any value put in the place of any other, and JSON that is none, too deep or too large."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from swin_transformer_pytorch import rle
from swin_transformer_pytorch.data.detection.coco import CocoDataset
from swin_transformer_pytorch.data.detection.folders import CocoFolder
from swin_transformer_pytorch.data.detection.source import DetectionSource

from .case import Case, Gone, Silent, damaged, nested, replaced_anywhere

VALUES: tuple[Any, ...] = (None, True, False, 0, -1, 1.5, 3.0, 1e39, -1e39, 1e308, 10**30, 10**400, 2**63, 2**31)
VALUES += (float("nan"), float("inf"), "", "x", "7", "\ud800", "\0", "名前.png", "a" * 5000, "a" * 5000 + "/b.png")
VALUES += ([], {}, [[]], [None], ["x"] * 4, [1, 2, 3], [1, 2, 3, 4], [[1, 2, 3, 4]], [1e39] * 4, [0, 0, 1e39, 1e39])
VALUES += ([1e308] * 4, [10**400, -(10**400), 5, 5], [True, True, 9, 9], [10**30, 0, 9, 9], nested(300), nested(900))
VALUES += (nested(300, key="a"), [[1e6] * 6], [[float("nan")] * 6], [[-5.0, 3.0] * 2000], [[1] * 7], [["x"] * 6], Gone)
VALUES += ({"counts": [2**40], "size": [48, 64]}, {"counts": "0" * 9, "size": [48, 64]}, {"counts": [], "size": []})
VALUES += ({"counts": "\ud800", "size": [48, 64]}, {"counts": [10**400, 5 - 10**400], "size": [48, 64]}, "../a.png")
VALUES += ({"counts": [3072.0], "size": [48, 64]}, {"counts": [-1, 3073], "size": [48, 64]}, Gone, Gone)
VALUES += ({"counts": [2**63, 3072 - 2**63], "size": [48, 64]}, {"size": [10**9, 10**9], "counts": [10**18]})
VALUES += ({"counts": "zzzzzzz" * 10**4},)


def make(chance: random.Random, folder: Path) -> Case:
    images, path, stuff = folder / "images", folder / "coco.json", folder / "stuff"
    for each in (images, stuff):
        each.mkdir()
    rng = np.random.default_rng(chance.randrange(1000))
    for name in ("a.png", "b.png"):
        Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(images / name)
        Image.fromarray(rng.integers(0, 9, (48, 64), dtype=np.uint8)).save(stuff / name)
    text, what = _text(chance)
    path.write_bytes(text)
    if with_stuff := chance.random() < 0.3:
        content, done = damaged((stuff / "a.png").read_bytes(), chance)
        (stuff / "a.png").write_bytes(content)
        what += f"; label map of stuff: {done}"
    training, box_masks = chance.random() < 0.5, chance.random() < 0.7

    def read() -> None:
        source = DetectionSource(
            train=CocoFolder(images_folder=images, annotations_file=path),
            stuff=with_stuff,
            stuff_folder=str(stuff),
            box_masks=box_masks,
        )
        dataset = source.open("train", training=training)
        assert isinstance(dataset, CocoDataset)
        for index in range(len(dataset)):
            sample = dataset[index]
            if not np.isfinite(sample.boxes_xyxy).all():
                raise Silent(f"boxes {sample.boxes_xyxy.tolist()}")
            if len(sample) and not 0 <= sample.labels.min() <= sample.labels.max() < len(dataset.classes):
                raise Silent(f"labels {sample.labels.tolist()}")
            if sample.masks.shape != (len(sample), 48, 64):
                raise Silent(f"masks {sample.masks.shape}")

    named = (path.name, "a.png", "b.png")
    return Case(what=what, read=read, named=named, intact=what == "nothing")


def document() -> dict[str, Any]:
    """A whole file: polygons, run lengths in both forms, a box alone."""
    mask = np.zeros((48, 64), dtype=bool)
    mask[10:30, 10:30] = True
    square = [[10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]]
    shapes: list[Any] = [
        square,
        {"size": [48, 64], "counts": rle.encode_mask(mask).decode()},
        {"size": [48, 64], "counts": rle.mask_counts(mask).tolist()},
        square * 2,
    ]
    objects = [
        {"id": number, "image_id": number % 2, "category_id": 3, "bbox": [10, 10, 20.5, 20], "segmentation": shape}
        for number, shape in enumerate(shapes)
    ]
    objects[1] |= {"iscrowd": 1, "area": 400}
    return {
        "info": {"year": 2017},
        "images": [{"id": n, "file_name": f"{name}.png", "height": 48, "width": 64} for n, name in enumerate("ab")],
        "categories": [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}],
        "annotations": objects,
    }


def _text(chance: random.Random) -> tuple[bytes, str]:
    tree = document()
    kind = chance.choice(("values",) * 3 + ("numbers", "numbers", "all", "twice", "bytes", "text", "nothing"))
    whole = json.dumps(tree)
    if kind == "bytes":
        return damaged(whole.encode(), chance)
    if kind == "text":
        five_thousand = "1" * 5000
        texts: tuple[str | bytes, ...] = (whole.replace("20.5", five_thousand), whole.replace("20.5", "1e999999"), "[]")
        texts += ("[" * 100_000, '{"images": ' * 50_000, whole.replace('"id": 3', f'"id": {five_thousand}'), "", "null")
        texts += (whole.replace("20.5", "-" + "9" * 4000), whole.encode("utf-16"), "\ufeff" + whole, whole + whole)
        texts += ('{"images": ' * 950 + "1" + "}" * 950, b"\xff" + whole.encode(), f"[{whole}]", '{"images": 1}}')
        text = chance.choice(texts)
        return text if isinstance(text, bytes) else text.encode(), f"text {text[:20]!r} of {len(text)}"
    done = []
    if kind == "twice":
        entries = tree[chance.choice(("images", "annotations", "categories"))]
        entries.append(dict(chance.choice(entries)))
        done.append("an entry twice")
    elif kind == "all":
        key, value = chance.choice(list(tree["annotations"][0])), chance.choice(VALUES)
        for entry in tree["annotations"]:
            entry[key] = None if value is Gone else value
        done.append(f"every {key} = {value!r:.40}")
    elif kind == "numbers":
        value = chance.choice((1e39, -1e39, 1e308, 10**30, 10**39, 2**63, 5e37, 0.1, -7, float("nan"), True, "1"))
        entry = chance.choice(tree["annotations"])
        shapes = {key: entry[key] for key in ("bbox", "segmentation")}
        where = replaced_anywhere(shapes, value, chance)
        entry |= shapes
        done.append(f"{where} = {value}")
    elif kind == "values":
        for _ in range(chance.choice((1, 1, 2))):
            value = chance.choice(VALUES)
            part = tree[chance.choice(("annotations", "annotations", "annotations", "images", "categories"))]
            if not isinstance(part, list) or not part:
                break
            done.append(f"{replaced_anywhere(part if chance.random() < 0.9 else tree, value, chance)} = {value!r:.60}")
    return json.dumps(tree).encode(), ", ".join(done) or "nothing"
