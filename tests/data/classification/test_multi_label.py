"""One small data set of several labels an image in every layout: each is recognised, and gives the same labels."""

import csv
import io
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from swin_transformer_pytorch.data.classification.label_files import find_label_files
from swin_transformer_pytorch.data.classification.multi_label import MultiLabelImages, has_label_file
from swin_transformer_pytorch.data.classification.source import ClassificationSource
from swin_transformer_pytorch.data.detection.layouts import find_parts
from swin_transformer_pytorch.data.errors import DataError, ImageError, NothingFoundError

needs_tifffile = pytest.mark.skipif(find_spec("tifffile") is None, reason="needs tifffile")
CHANNELS: tuple[tuple[Literal["train", "val"], int | None], ...] = (("train", 4), ("val", None))
CLASSES = ("bus", "car", "traffic light")
CONTENT: dict[str, dict[str, list[str]]] = {
    "train": {"a.png": ["car", "traffic light"], "b.png": ["bus"], "c.png": [], "d.png": ["bus", "car"]},
    "val": {"e.png": ["car"], "f.png": ["traffic light", "bus"]},
}
EACH = [(split, name, labels) for split, images in CONTENT.items() for name, labels in images.items()]


def picture(path: Path, colour: int = 9) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 6), (colour, 0, 0)).save(path)


def pictures(root: Path) -> None:
    for split, name, _ in EACH:
        picture(root / split / name)


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def table(rows: list[list[Any]], delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue()


def bits(labels: list[str]) -> list[int]:
    return [int(name in labels) for name in CLASSES]


def roboflow(root: Path) -> None:
    """With spaces before the names, as Roboflow has them."""
    for split, folder in (("train", "train"), ("val", "valid")):
        rows = [["filename", *(f" {name}" for name in CLASSES)]]
        for name, labels in CONTENT[split].items():
            picture(root / folder / name)
            rows.append([name, *bits(labels)])
        write(root / folder / "_classes.csv", table(rows))


def columns(root: Path) -> None:
    pictures(root)
    rows = [[f"{split}/{name}", split, *bits(labels)] for split, name, labels in EACH]
    write(root / "labels.csv", table([["image", "split", *CLASSES], *rows]))


def other_bits(root: Path) -> None:
    """As pandas writes booleans, with its index, for a spreadsheet of another country."""
    pictures(root)
    rows = [[number, name, *map(bool, bits(labels)), split] for number, (split, name, labels) in enumerate(EACH)]
    write(root / "labels.csv", "\ufeff" + table([["", "path", *CLASSES, "split"], *rows], delimiter=";"))


def named(mark: str) -> Callable[[Path], None]:
    def make(root: Path) -> None:
        pictures(root)
        rows = [[Path(name).stem, f"{mark} ".join(labels), split, 7] for split, name, labels in EACH]
        write(root / "labels.csv", table([["file", "tags", "split", "width"], *rows]))

    return make


def mapping(root: Path) -> None:
    pictures(root)
    write(root / "labels.json", {name: labels for _, name, labels in EACH})


def entries(root: Path) -> None:
    pictures(root)
    write(root / "labels.json", [{"file_name": name, "tags": labels, "split": split} for split, name, labels in EACH])


def label_studio(root: Path) -> None:
    """As uploaded, with a result that was cancelled, and another kind of result beside."""
    pictures(root)
    tasks = []
    for number, (_, name, labels) in enumerate(EACH):
        chosen = [{"type": "choices", "value": {"choices": labels}}] if labels else []
        text = {"type": "textarea", "value": {"text": ["a note"]}}
        annotations = [{"was_cancelled": True, "result": []}, {"result": [text, *chosen]}]
        image = f"/data/upload/3/{number:08x}-{name}"
        tasks.append({"id": number, "data": {"image": image}, "annotations": annotations})
    write(root / "project-3.json", tasks)


def json_min(root: Path) -> None:
    """One label is no list, and none is no key."""
    pictures(root)
    tasks = []
    for number, (_, name, labels) in enumerate(EACH):
        chosen = {"what": labels[0] if len(labels) == 1 else {"choices": labels}} if labels else {}
        tasks.append({"image": f"/data/local-files/?d=all/{name}", "id": number, "annotator": 1, **chosen})
    write(root / "labels.json", tasks)


def studio_csv(root: Path) -> None:
    """One label is its name, several are JSON, and none is an empty cell."""
    pictures(root)
    rows = [["annotation_id", "annotator", "created_at", "id", "image", "what"]]
    for number, (_, name, labels) in enumerate(EACH):
        chosen = labels[0] if len(labels) == 1 else json.dumps({"choices": labels}) if labels else ""
        rows.append([number, 1, "2026-01-01", number, f"/data/local-files/?d=all/{name}", chosen])
    write(root / "project-3-at-2026-01-01.csv", table(rows))


def named_ids(root: Path) -> None:
    """With columns of numbers before the file's name, that are no classes."""
    pictures(root)
    rows = [[number, name, 7, *bits(labels)] for number, (_, name, labels) in enumerate(EACH)]
    write(root / "labels.csv", table([["id", "filename", "image_id", *CLASSES], *rows]))


# Layout -> what makes it, whether it tells the parts apart, and how it is called.
LAYOUTS: dict[str, tuple[Callable[[Path], None], bool, str]] = {
    "roboflow": (roboflow, True, "_classes.csv, 3 columns of 0 and 1"),
    "columns": (columns, True, "labels.csv, 3 columns of 0 and 1"),
    "other bits": (other_bits, True, "labels.csv, 3 columns of 0 and 1"),
    "comma": (named(","), True, "labels.csv, labels parted by ','"),
    "semicolon": (named(";"), True, "labels.csv, labels parted by ';'"),
    "bar": (named("|"), True, "labels.csv, labels parted by '|'"),
    "mapping": (mapping, False, "labels.json, a list of labels an image"),
    "entries": (entries, True, "labels.json, a list of labels an image"),
    "label studio": (label_studio, False, "project-3.json, a list of labels an image"),
    "json-min": (json_min, False, "labels.json, a list of labels an image"),
    "ids": (named_ids, False, "labels.csv, 3 columns of 0 and 1"),
    "studio's csv": (studio_csv, False, "project-3-at-2026-01-01.csv, a list of labels an image"),
}


def as_found(images: MultiLabelImages) -> dict[str, list[str]]:
    return {
        path.name: [images.classes[index] for index in np.flatnonzero(row)]
        for path, row in zip(images.paths, images.labels, strict=True)
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_labels(layout: str, tmp_path: Path) -> None:
    make, has_parts, called = LAYOUTS[layout]
    make(tmp_path)
    assert has_label_file(tmp_path)
    with pytest.raises(NothingFoundError):  # none is taken for objects, Label Studio's either
        find_parts(tmp_path)
    train, val, whole = (
        ClassificationSource(kind="multi_label", root=str(tmp_path)).open(s) for s in ("train", "val", None)
    )
    expected = {name: sorted(labels) for _, name, labels in EACH}
    assert train.classes == val.classes == CLASSES
    assert (train.layout, train.held_out) == (called, not has_parts)
    if has_parts:
        assert as_found(train) == {name: sorted(labels) for name, labels in CONTENT["train"].items()}
        assert as_found(val) == as_found(whole) == {name: sorted(labels) for name, labels in CONTENT["val"].items()}
    else:
        assert as_found(train) | as_found(val) == as_found(whole) == expected
        assert (len(train), len(val)) == (5, 1)
        other = MultiLabelImages(tmp_path, "val", val_fraction=0.5, seed=3)
        assert len(other) == 3 and as_found(other).items() <= expected.items()
    image, row = train[0]
    assert (image.mode, row.dtype, row.tolist()) == ("RGB", np.uint8, train.labels[0].tolist())


@pytest.mark.parametrize(
    ("header", "cell", "classes"),
    [
        ("label", "golden retriever", ("cat", "golden retriever")),
        ("class", "golden retriever", ("cat", "golden retriever")),
        ("Label", "golden; retriever", ("cat", "golden", "retriever")),
        ("labels", "golden retriever", ("cat", "golden", "retriever")),
    ],
)
def test_a_cell_of_a_column_called_label_is_one_name(
    header: str, cell: str, classes: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    write(tmp_path / "labels.csv", table([["filename", header], ["a.png", cell], ["b.png", "cat"]]))
    assert MultiLabelImages(tmp_path, None).classes == classes
    assert ("2 images, each with one label" in caplog.text) == (len(classes) == 2)


def as_bands(root: Path, suffix: str) -> dict[str, int]:
    """Each picture of a layout as a file of four channels, all of one value, which is given by its name."""
    values = {}
    for number, path in enumerate(sorted(root.rglob("*.png"))):
        bands, file = np.full((6, 8, 4), number, np.uint8), path.with_suffix(suffix)
        if suffix == ".npy":
            np.save(file, bands if number % 2 else bands.transpose(2, 0, 1))
        else:
            pytest.importorskip("tifffile").imwrite(file, bands, photometric="minisblack", planarconfig="contig")
        path.unlink()
        values[file.name] = number
    for path in (*root.rglob("*.csv"), *root.rglob("*.json")):
        write(path, path.read_text(encoding="utf-8").replace(".png", suffix))
    return values


@pytest.mark.parametrize("suffix", [".npy", pytest.param(".tif", marks=needs_tifffile)])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_names_images_of_bands(layout: str, suffix: str, tmp_path: Path) -> None:
    LAYOUTS[layout][0](tmp_path)
    values = as_bands(tmp_path, suffix)
    assert has_label_file(tmp_path)
    train, val = (MultiLabelImages(tmp_path, split, channels=channels) for split, channels in CHANNELS)
    expected = {Path(name).stem + suffix: sorted(labels) for _, name, labels in EACH}
    assert as_found(train) | as_found(val) == expected
    for images in (train, val):
        for index, path in enumerate(images.paths):
            image, row = images[index]
            assert (image.shape, image.unique().tolist()) == ((4, 6, 8), [values[path.name]])
            assert row.tolist() == images.labels[index].tolist()
    train.channels = 5
    with pytest.raises(ImageError, match=r"has 4 channels and the model takes 5"):
        train[0]


@pytest.mark.parametrize(("white", "shown"), [(None, 15), (4095, 255), (3000, None)])
def test_pictures_of_16_bits_are_read_at_their_white_level(
    white: int | None, shown: int | None, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        Image.fromarray(np.full((6, 8), 4095, np.uint16)).save(tmp_path / f"{name}.png")
    write(tmp_path / "labels.json", {"a.png": ["x"], "b.png": []})
    images = ClassificationSource(kind="multi_label", root=str(tmp_path), channels=1, white_level=white).open(None)
    if shown is None:
        with pytest.raises(ImageError, match="values up to 4,095, above the white level of 3,000"):
            images[0]
    else:
        assert images[0][0].getextrema() == (shown, shown)


def test_json_min_of_one_choice_an_image_is_none_of_objects(tmp_path: Path) -> None:
    pictures(tmp_path)
    tasks = [
        {
            "image": f"/data/upload/1/{number:08x}-{name}",
            "id": number,
            "annotation_id": 7,
            "choice": CLASSES[number % 3],
        }
        for number, (_, name, _) in enumerate(EACH)
    ]
    write(tmp_path / "project-1.json", tasks)
    with pytest.raises(NothingFoundError):
        find_parts(tmp_path)
    assert has_label_file(tmp_path)
    images = MultiLabelImages(tmp_path)
    expected = {name: [CLASSES[number % 3]] for number, (_, name, _) in enumerate(EACH)}
    assert as_found(images) == expected


NAME = st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="|;,"), min_size=1, max_size=6).filter(
    lambda name: name.lower() not in ("0", "1", "true", "false", "0.0", "1.0")
)


@given(rows=st.lists(st.sets(NAME, max_size=4), min_size=1, max_size=6), mark=st.sampled_from("|;,"))
def test_any_labels_come_back(rows: list[set[str]], mark: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the names are, in quotes, of any script: from a column and from JSON the same."""
    root = tmp_path_factory.mktemp("any")
    names = [f"{number}.png" for number in range(len(rows))]
    for name in names:
        picture(root / name)
    found = []
    if sum(map(len, rows)) > len(rows):  # so that some are parted
        lines = [[name, mark.join(labels)] for name, labels in zip(names, rows, strict=True)]
        found.append(write(root / "a.csv", table([["file", "labels"], *lines])))
    found.append(write(root / "a.json", {name: [*labels] for name, labels in zip(names, rows, strict=True)}))
    if not any(rows):
        with pytest.raises(DataError, match="none of its .* images a label"):
            MultiLabelImages(root, labels="a.json")
        return
    read = [MultiLabelImages(root, labels=path.name) for path in found]
    assert read[0].classes == read[-1].classes
    assert as_found(read[0]) == as_found(read[-1])
    assert all(len(row) == len(labels) for row, labels in zip(as_found(read[0]).values(), rows, strict=True))


def test_what_is_left_out_kept_or_guessed_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a", "b", "c", "d", "e"):
        picture(tmp_path / f"{name}.png")
    rows = [["a.png", "red car", 3], ["b.png", "bus", 3], ["b.png", "bus", 3], ["c.png", "", 3]]
    write(tmp_path / "labels.csv", table([["file", "labels", "camera"], *rows]))
    for split in ("train", "val", None):
        caplog.clear()
        images = MultiLabelImages(tmp_path, split, val_fraction=0.34)
        notes = [
            "1 rows that are there twice passed over",
            "1 columns beside 'labels' passed over",
            "1 rows of several words, each taken for a label",
            "2 images beside those that it names left out",
        ]
        for note in notes:
            assert caplog.text.count(note) == (split != "val"), note
        empty = int((~images.labels.any(axis=1)).sum())
        assert (f"{empty} of {len(images)} {f'{split} ' if split else ''}images have no label" in caplog.text) == (
            empty > 0
        )
    assert images.classes == ("bus", "car", "red")


HEADER = ["file", *CLASSES]
WRONG: dict[str, tuple[str, Any, str]] = {
    "no such file": ("nothing.csv", None, "nothing.csv does not exist"),
    "empty": ("labels.csv", "", "names no columns"),
    "no header": ("labels.csv", table([["a.png", "car"]]), "names no columns in its first line"),
    "no rows": ("labels.csv", table([HEADER]), "names no images"),
    "a value": ("labels.csv", table([HEADER, ["a.png", 0, 1, -1]]), "line 2: 'traffic light' is '-1'; use 0 or 1"),
    "a cell too few": ("labels.csv", table([HEADER, ["a.png", 0, 1]]), "line 2 has 3 columns, and the first one 4"),
    "a column twice": ("labels.csv", table([["file", "x", "x"], ["a.png", 0, 1]]), "several columns of one name: x"),
    "missing": ("labels.csv", table([HEADER, ["z.png", 0, 1, 1]]), r"line 2: there is no image 'z\.png'"),
    "outside": (
        "labels.csv",
        table([HEADER, ["../../z.png", 0, 1, 1]]),
        r"line 2: there is no image '\.\./\.\./z\.png'",
    ),
    "other labels": ("labels.csv", table([HEADER, ["a.png", 0, 1, 1], ["a.png", 0, 1, 0]]), "line 3.*other labels"),
    "a split": ("labels.csv", table([["file", "x", "split"], ["a.png", 1, "dev"]]), "its split is 'dev'; use train"),
    "no split": (
        "labels.json",
        [{"file": "a.png", "labels": ["x"]}, {"file": "b.png", "labels": ["x"], "split": "val"}],
        "some of its images a split",
    ),
    "no JSON": ("labels.json", "{", "is not JSON"),
    "a number": ("labels.json", "3", "neither a list nor an object"),
    "a number an image": ("labels.json", {"a.png": 3}, "entry 0: its labels are 3; write a list of names"),
    "numbers": ("labels.json", {"a.png": [3]}, r"entry 0: its labels are \[3\]"),
    "no image": ("labels.json", [{"labels": ["x"]}], r"entry 0: it has no image \(file_name"),
    "no key": ("labels.json", [{"file": "a.png"}], "entry 0: it has no labels or tags"),
    "no object": ("labels.json", ["a.png"], "entry 0: 'a.png' is no object"),
    "no bytes of UTF-8": ("labels.csv", b"file,\xff\n", "is no text in UTF-8"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_broken_is_named(case: str, tmp_path: Path) -> None:
    name, content, message = WRONG[case]
    for image in ("a.png", "b.png"):
        picture(tmp_path / image)
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        write(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        MultiLabelImages(tmp_path, labels=name)


def test_parts_that_lack_classes_or_images_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not a folder"):
        MultiLabelImages(tmp_path / "nowhere")
    with pytest.raises(NothingFoundError, match=r"no file of labels: looked for _classes\.csv.*data\.labels"):
        MultiLabelImages(tmp_path)
    roboflow(tmp_path)
    with pytest.raises(DataError, match="for train, val and none for 'test'"):
        MultiLabelImages(tmp_path, "test")
    write(tmp_path / "valid" / "_classes.csv", table([["filename", "bus", "van"], ["e.png", 0, 1]]))
    with pytest.raises(DataError, match="have other classes: car, traffic light, van"):
        MultiLabelImages(tmp_path, "train")
    write(tmp_path / "labels.json", {})
    with pytest.raises(DataError, match=r"several files of labels: labels\.json, train/_classes\.csv; say which"):
        MultiLabelImages(tmp_path, "train")
    picture(tmp_path / "one" / "a.png")
    write(tmp_path / "one" / "labels.json", {"a.png": ["x"]})
    with pytest.raises(DataError, match="1 image and data.val_fraction=0.2"):
        MultiLabelImages(tmp_path / "one", "train")


@pytest.mark.parametrize(
    ("choice", "classes", "expected"),
    [
        (None, None, {"d.png": ["bus", "car"], "a.png": ["car", "traffic light"], "c.png": []}),
        (["car"], None, {"d.png": ["car"], "b.png": [], "a.png": ["car"]}),
        ({"vehicle": ["car", "bus"]}, None, {"d.png": ["vehicle"], "b.png": ["vehicle"], "c.png": []}),
        ({"light": ["traffic light"], "other": ["*"]}, None, {"a.png": ["light", "other"], "d.png": ["other"]}),
        (None, ["van", "traffic light", "car", "bus"], {"a.png": ["traffic light", "car"], "c.png": []}),
        ({"van": ["car", "lorry"]}, ["van", "bike"], {"d.png": ["van"], "b.png": []}),
    ],
)
def test_classes_are_chosen_merged_and_looked_up(
    choice: Any, classes: list[str] | None, expected: dict[str, list[str]], tmp_path: Path
) -> None:
    roboflow(tmp_path)
    images = MultiLabelImages(tmp_path, "train", choice=choice, classes=classes)
    assert expected.items() <= as_found(images).items()
    assert images.classes == (tuple(classes) if classes else tuple(choice or CLASSES))


@pytest.mark.parametrize(
    ("choice", "classes", "message"),
    [
        (["van"], None, "names 'van', and .* has bus, car"),
        (None, ["car", "bus"], "classes that the model has not: traffic light; its: car, bus"),
        ({"van": ["car"]}, ["car"], "classes that the model has not: van"),
    ],
)
def test_classes_that_are_not_there_are_named(choice: Any, classes: Any, message: str, tmp_path: Path) -> None:
    roboflow(tmp_path)
    with pytest.raises(DataError, match=message):
        MultiLabelImages(tmp_path, "train", choice=choice, classes=classes)


def test_an_image_is_read_as_asked_and_named_where_it_is_broken(tmp_path: Path) -> None:
    mapping(tmp_path)
    assert MultiLabelImages(tmp_path, channels=1)[0][0].mode == "L"
    with pytest.raises(ImageError, match="more than 40"):
        MultiLabelImages(tmp_path, max_pixels=40)[0]
    (tmp_path / "train" / "a.png").write_bytes(b"nonsense")
    with pytest.raises(ImageError, match=r"a\.png"):
        MultiLabelImages(tmp_path)[0]


def test_class_folders_stay_classes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    for part in ("", "train"):
        root = tmp_path / f"root{part}"
        picture(root / part / "cat" / "a.png")
        picture(root / part / "dog" / "b.png")
        assert not has_label_file(root) and not caplog.text
        write(root / "labels.csv", table([["file", "labels"], ["a.png", "cat"]]))
        assert not has_label_file(root)
        assert "labels.csv is not read, as there are class folders: --data.kind multi_label" in caplog.text
        caplog.clear()
        assert ClassificationSource(root=str(root)).open(None).classes == ("cat", "dog")
    write(tmp_path / "masks" / "train" / "_classes.csv", "Pixel Value, Class\n0, background\n")
    write(tmp_path / "masks" / "objects.json", [{"id": 1, "annotations": [], "data": {}}])
    assert not find_label_files(tmp_path / "masks")
    assert not has_label_file(tmp_path / "nowhere")


TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
KEYS = st.sampled_from(
    ["file", "labels", "split", "annotations", "result", "value", "choices", "data", "image", "annotator"]
)
LEAF = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["a.png", "x", "val"]) | TEXT
JSON = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@pytest.fixture(scope="module")
def one_picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("one")
    picture(root / "a.png")
    return root


@given(content=JSON | st.builds("file,labels,split\n{}".format, TEXT) | TEXT | st.builds(str, st.lists(TEXT)))
def test_any_content_is_read_or_one_short_error(content: Any, one_picture: Path) -> None:
    for name in ("any.csv", "any.json"):
        write(one_picture / name, content)
        with suppress(DataError):
            assert [path.name for path in MultiLabelImages(one_picture, labels=name).paths] == ["a.png"]
