"""`swin data`: what a folder holds, told before any training, with the command that trains on it."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.commands.train import split_flags
from swin_transformer_pytorch.data.scenes.files import write_scenes
from swin_transformer_pytorch.training import load_recipe


def photo(path: Path, seed: int, size: tuple[int, int] = (48, 64)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def class_folders(root: Path) -> None:
    seed = 0
    for split, counts in (("train", {"cat": 3, "dog": 1}), ("val", {"cat": 1, "dog": 1})):
        for name, count in counts.items():
            for number in range(count):
                photo(root / split / name / f"{number}.png", seed=(seed := seed + 1), size=(32 + number, 40))
    photo(root / "test" / "dog" / "0.png", seed=99)


def yolo(root: Path) -> None:
    for number, lines in enumerate(("0 0.5 0.5 0.5 0.5\n0 0.1 0.1 0.05 0.05", "", "1 0.5 0.5 0.5 0.5")):
        photo(root / "train" / "images" / f"{number}.png", seed=number)
        (root / "train" / "labels").mkdir(exist_ok=True)
        (root / "train" / "labels" / f"{number}.txt").write_text(lines)
    photo(root / "valid" / "images" / "9.png", seed=2)  # that of training once more
    (root / "valid" / "labels").mkdir()
    (root / "valid" / "labels" / "9.txt").write_text("0 0.5 0.5 0.25 0.25")
    (root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [cat, dog]\n")


def label_maps(root: Path) -> None:
    for number in range(4):
        photo(root / "images" / f"{number}.png", seed=number)
        labels = np.zeros((48, 64), dtype=np.uint8)
        labels[:12], labels[12:24] = number == 0, 255
        (root / "labels").mkdir(exist_ok=True)
        Image.fromarray(labels).save(root / "labels" / f"{number}_mask.png")
    (root / "classes.txt").write_text("ground\ncat\n")


def segments(root: Path) -> None:
    """Images whose left half is a ground, and whose right half has two cats, one of them a crowd; one has 101 cats."""
    rows, columns = np.mgrid[:48, :64]
    for number in range(3):
        labels = (columns >= 32).astype(np.uint8)
        numbers = np.where((columns >= 32) & (rows < 24), 7, 0).astype(np.uint8)
        labels[:, 62:] = 255
        if number == 2:
            labels[:], numbers = 1, (rows * 64 + columns) // 30 + 1
        for folder, pixels in (("labels", labels), ("instances", numbers.astype(np.uint8))):
            (root / folder / "train").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / folder / "train" / f"{number}.png")
        photo(root / "images" / "train" / f"{number}.png", seed=number)
    (root / "classes.txt").write_text("ground\ncat\nbird\n")
    (root / "things.txt").write_text("cat\nbird\n")


FOLDERS: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "classification": (
        class_folders,
        [
            "classification, a folder a class",
            "train 4 4",
            "val 2 2",
            "test 1 1",
            "dog 1 1 1 few",
            "- test: nothing of 1 of 2 classes: cat",
            "40 x 32",
        ],
        "finetune",
    ),
    "detection": (
        yolo,
        [
            "detection, yolo",
            "train 3 3 64 x 48",
            "dog 1 0 few",
            "- train: 1 image without objects of a class; --data.keep_empty",
            "- train: 1 of 3 boxes have a side below 8 pixels",
            "- val: nothing of 1 of 2 classes: dog",
            "- the same image in two parts: ",
        ],
        "finetune_detection",
    ),
    "segmentation": (
        label_maps,
        [
            "segmentation, folder",
            "all 4 9,216 64 x 48",
            "cat 768",
            "- all: 25.0% of the pixels are ignored",
            "no part for validation",
        ],
        "finetune_segmentation",
    ),
    "panoptic": (
        segments,
        [
            "segmentation, folder",
            "panoptic, label and instance PNGs",
            "all 3 107 64 x 48",
            "bird 0 thing none ground 2 stuff few cat 105 thing",
            "- all: 2.1% of the pixels are ignored",
            "- all: 2 crowds, which training leaves out",
            "- all: 1 image with more than 100 segments, which a Mask2Former finds at most (the",
            "- all: nothing of 1 of 3 classes: bird",
        ],
        "finetune_mask2former_panoptic",
    ),
}


@pytest.mark.parametrize("task", FOLDERS)
def test_what_a_folder_holds(swin, tmp_path, task) -> None:
    make, said, recipe = FOLDERS[task]
    make(tmp_path / "my data")
    outcome = swin("data", tmp_path / "my data", "--picture", tmp_path / "look.png")
    assert outcome.code == 0, outcome.err
    for text in said:
        assert text in " ".join(outcome.out.split()), text
    with Image.open(tmp_path / "look.png") as picture:
        assert min(picture.size) > 100
    line = [line for line in outcome.out.splitlines() if line.startswith("next: ")][-1]
    command, name, *words = shlex.split(line)[2:]
    assert (command, name) == ("train", recipe)
    assert load_recipe(name, split_flags(words)[0]).data.root == str(tmp_path / "my data")


def test_the_command_has_what_was_asked_for(swin, tmp_path) -> None:
    yolo(tmp_path)
    outcome = swin(
        "data", tmp_path, "--data.kind", "yolo", "--data.classes", "{pet: [cat, dog]}", "--task", "detection"
    )
    words = shlex.split(outcome.out.splitlines()[-1])[4:]
    data = load_recipe("finetune_detection", words).data
    assert (data.kind, data.classes, data.box_masks) == ("yolo", {"pet": ["cat", "dog"]}, True)


def test_a_folder_for_several_tasks_is_told_for_each(swin, scenes, tmp_path) -> None:
    for split in ("train", "val"):
        write_scenes(scenes, tmp_path, split)
    outcome = swin("data", tmp_path)
    assert outcome.code == 0 and outcome.out.count("next: ") == 3
    assert "panoptic, COCO's panoptic format" in outcome.out and "ground 6 6 stuff few" in " ".join(outcome.out.split())
    assert swin("data", tmp_path, "--task", "segmentation").out.count("next: ") == 1


def test_cocos_segments_of_all_images_are_no_objects_and_no_label_maps(swin, scenes, tmp_path) -> None:
    files = write_scenes(scenes, tmp_path / "made", "all")
    (tmp_path / "data").mkdir()
    files.images.rename(tmp_path / "data" / "images")
    (tmp_path / "data" / "annotations").mkdir()
    files.panoptic.rename(tmp_path / "data" / "annotations" / "panoptic.json")
    files.segments.rename(tmp_path / "data" / "annotations" / "panoptic")
    outcome = swin("data", tmp_path / "data", "--data.classes", "{item: ['*'], ground: [ground]}")
    assert outcome.code == 0, outcome.err
    assert outcome.out.count("next: ") == 1 and "all 6 24 80 x 64" in " ".join(outcome.out.split())
    assert "ground 6 stuff few item 18 thing few" in " ".join(outcome.out.split())
    last = shlex.split(outcome.out.splitlines()[-1])[3:]
    assert last[0] == "finetune_mask2former_panoptic"
    assert load_recipe(last[0], split_flags(last[1:])[0]).data.classes == {"item": ["*"], "ground": ["ground"]}


def test_outlines_of_objects_are_label_maps_as_well(swin, tmp_path) -> None:
    for number in range(4):
        photo(tmp_path / f"{number}.png", seed=number)
        shape = {"label": "cat", "shape_type": "polygon", "points": [[8, 8], [40, 8], [40, 40], [8, 40]]}
        document = {"shapes": [shape], "imagePath": f"{number}.png", "imageHeight": 48, "imageWidth": 64}
        (tmp_path / f"{number}.json").write_text(json.dumps(document))
    words = ("data", tmp_path, "--data.kind", "labelme", "--picture", tmp_path / "look.jpg")
    outcome = swin(*words)
    assert outcome.code == 0 and outcome.out.count("next: ") == 2, outcome.err
    assert "segmentation, labelme, outlines drawn" in outcome.out
    assert "66.7% of the pixels are ignored; --data.background true" in outcome.out
    assert f"cat {4 * 32 * 32:,}" in " ".join(outcome.out.split())
    assert "finetune_segmentation" in swin(*words, "--task", "segmentation").out


@pytest.mark.parametrize("make", [class_folders, yolo, label_maps])
@pytest.mark.parametrize(("words", "white"), [([], 4095), (["--data.white_level", "5000"], 5000)])
def test_the_white_of_12_bits_is_told_drawn_and_passed_on(swin, tmp_path, make, words, white) -> None:
    make(tmp_path / "data")
    for path in (tmp_path / "data").rglob("*.png"):
        if path.parent.name != "labels":
            with Image.open(path) as image:
                Image.fromarray(np.full((image.height, image.width), 4000, dtype=np.uint16)).save(path)
    outcome = swin("data", tmp_path / "data", "--picture", tmp_path / "look.png", *words)
    assert outcome.code == 0, outcome.err
    guessed = f"values of at most {white:,}, which is taken for white: --data.white_level {white}"
    assert (guessed in outcome.out) == (not words)
    recipe, *given = shlex.split(outcome.out.splitlines()[-1])[3:]
    assert load_recipe(recipe, split_flags(given)[0]).data.white_level == white
    with Image.open(tmp_path / "look.png") as picture:
        pixels = np.asarray(picture.convert("L"), dtype=int)
    # Grey images of that brightness, not black ones.
    assert (abs(pixels - 4000 * 255 // white) < 4).sum() > 1000 and (pixels < 16).mean() < 0.1


@pytest.mark.parametrize(
    ("channels", "said"),
    [
        ([4, 4, 4, 4], "a folder a class, images of 4 channels in NPY files, (height, width, channels)"),
        ([4, 4, 4, 5], "images of 4 channels in NPY files, (height, width, channels) and of 5 channels in NPY files"),
        ([3, 3, 3, 6], "and of 6 channels in NPY files, (height, width, channels), of which training takes one number"),
    ],
)
def test_all_numbers_of_channels_are_told(swin, tmp_path, channels, said) -> None:
    for number, count in enumerate(channels):
        path = tmp_path / ("cat", "dog")[number % 2] / f"{number}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, np.zeros((16, 20, count), dtype=np.uint8))
    out = swin("data", tmp_path).out
    assert said in " ".join(out.split())
    assert ("--model.in_channels" in out) == (len(set(channels)) > 1)


def test_one_image_in_two_classes_and_classes_of_one_name_are_told(swin, tmp_path) -> None:
    for seed, path in enumerate(("cat/0.png", "cat/1.png", "Cat/0.png", "Cat/2.png", "dog/0.png", "dog/1.png")):
        photo(tmp_path / path, seed=seed)
    assert "two classes" not in (before := swin("data", tmp_path).out)
    assert "- classes that differ in capitals alone: Cat, cat" in before
    for name in ("copy", "again"):
        shutil.copy(tmp_path / "cat" / "1.png", tmp_path / "dog" / f"{name}.png")
    shutil.copy(tmp_path / "dog" / "0.png", tmp_path / "dog" / "same class.png")
    out = " ".join(swin("data", tmp_path).out.split())
    assert out.count("the same image in two classes") == 2
    assert f"the same image in two classes: {tmp_path / 'cat' / '1.png'} and {tmp_path / 'dog' / 'again.png'}" in out


def test_a_part_for_validation_that_does_not_go_with_the_other_is_told(swin, tmp_path) -> None:
    for folder in ("train/cat", "train/dog", "val/cat", "val/bird"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (40, 32)).save(tmp_path / folder / "1.png")
    outcome = swin("data", tmp_path)
    assert outcome.code == 2 and "that are not among the class folders" in outcome.err and "bird" in outcome.err


def test_images_that_cannot_be_read_are_named_and_counted(swin, tmp_path) -> None:
    class_folders(tmp_path)
    for number in range(9):
        (tmp_path / "train" / "dog" / f"bad{number}.png").write_bytes(b"no picture")
    outcome = swin("data", tmp_path)
    assert outcome.code == 1
    assert outcome.out.count("holds text, not an image") == 5 and "and 4 more images that cannot be used" in outcome.out
    some = swin("data", tmp_path, "--images", 3)
    assert "train: 3 of 13 images read; --images N reads more" in some.out


@pytest.mark.parametrize(
    ("files", "words", "reason"),
    [
        (["cat/0.png", "cat/1.png", "dog/.keep"], [], "the class folder ROOT/dog holds no images; fill it"),
        (["cat/0.png", "dog/0.png"], ["--data.classes", "[cat]"], "data.classes=['cat'] makes one class"),
        (
            ["cat/0.png", "dog/0.png"],
            ["--data.classes", "{pet: [cat, dog]}"],
            "data.classes={'pet': ['cat', 'dog']} ma",
        ),
        (["cat/0.png"], [], "ROOT has the one class 'cat'"),
        (["0.png"], [], "ROOT holds 1 image"),
        (["0.png", "labels.csv"], [], "ROOT/labels.csv"),
    ],
)
def test_the_reason_comes_first(swin, tmp_path, files, words, reason, caplog) -> None:
    for seed, file in enumerate(files):
        if file.endswith(".png"):
            photo(tmp_path / file, seed=seed)
        else:
            (tmp_path / file).parent.mkdir(exist_ok=True)
            (tmp_path / file).write_text("file_name,labels\nnowhere.png,cat\n")
    outcome = swin("data", tmp_path, *words)
    assert outcome.code == 2
    assert f"swin: error: {reason.replace('ROOT', str(tmp_path))}" in outcome.err
    assert caplog.text.count("data.kind is multi_label") == ("labels.csv" in files)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "holds neither class folders nor images; make a folder of images for each class. Nor does"),
        (["--task", "detection"], "has no annotations of objects that are known: looked for coco, yolo"),
        (["--task", "segmentation"], "has no images with label maps"),
        (["--data.kind", "yolo"], "is no data set of --data.kind yolo"),
        (["--data.kind", "nonsense"], "--data.kind"),
    ],
)
def test_where_it_sees_nothing_it_says_so(swin, tmp_path, words, message) -> None:
    (tmp_path / "empty").mkdir()
    outcome = swin("data", tmp_path / "empty", *words)
    assert outcome.code == 2 and message in outcome.err and "Traceback" not in outcome.err


def test_what_is_ambiguous_is_an_error_that_names_the_option(swin, tmp_path) -> None:
    yolo(tmp_path)
    shutil.copytree(tmp_path / "train" / "images", tmp_path / "JPEGImages")
    (tmp_path / "Annotations").mkdir()
    (tmp_path / "Annotations" / "0.xml").write_text("<annotation><object/></annotation>")
    outcome = swin("data", tmp_path)
    assert outcome.code == 2 and "yolo, voc; say which with --data.kind yolo or --data.kind voc" in outcome.err
    missing = swin("data", tmp_path / "nowhere")
    assert missing.code == 2 and "nowhere is not a folder" in missing.err
