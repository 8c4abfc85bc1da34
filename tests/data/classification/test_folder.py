from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from swin_transformer_pytorch.data.classification.folder import (
    DataError,
    ImageFolder,
    guessed_order,
    imagenet_synsets,
    natural_order,
)
from swin_transformer_pytorch.data.images.decode import ImageError
from swin_transformer_pytorch.data.images.files import find_images


def fill(folder, **counts):
    """Makes `counts` tiny images in a folder of each name."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / name / f"{number}.png")
    return folder


def paths(dataset):
    return {path for path, _ in dataset.samples}


def test_train_and_val_folders(tmp_path):
    fill(tmp_path / "train", cat=3, dog=2)
    fill(tmp_path / "val", cat=1, dog=2)
    train, val = ImageFolder(tmp_path, "train"), ImageFolder(tmp_path, "val")
    assert train.classes == val.classes == ("cat", "dog")
    assert [label for _, label in train.samples] == [0, 0, 0, 1, 1]
    assert len(val) == 3
    assert paths(ImageFolder(tmp_path)) == paths(val)
    image, label = train[2]
    assert (image.mode, image.getpixel((0, 0)), label) == ("RGB", (2, 0, 0), 0)
    assert ImageFolder(tmp_path, "train", channels=1)[0][0].mode == "L"


def test_a_validation_folder_may_lack_a_class_but_have_no_other(tmp_path):
    fill(tmp_path / "train", cat=1, dog=1, fox=1)
    fill(tmp_path / "valid", dog=1)
    assert ImageFolder(tmp_path, "val").samples[0][1] == 1
    fill(tmp_path / "valid", wolf=1)
    with pytest.raises(DataError, match="wolf"):
        ImageFolder(tmp_path, "val")


def test_a_flat_folder_is_parted_within_each_class(tmp_path):
    fill(tmp_path, cat=20, dog=10, fox=2)
    train, val = (ImageFolder(tmp_path, split, val_fraction=0.2) for split in ("train", "val"))
    assert np.bincount([label for _, label in val.samples]).tolist() == [4, 2, 1]
    assert not paths(train) & paths(val)
    assert paths(train) | paths(val) == paths(ImageFolder(tmp_path))
    assert paths(val) == paths(ImageFolder(tmp_path, "val", val_fraction=0.2))
    assert paths(val) != paths(ImageFolder(tmp_path, "val", val_fraction=0.2, seed=1))
    before = {path for path in paths(val) if "dog" in path}
    fill(tmp_path, ant=5)
    assert before <= paths(ImageFolder(tmp_path, "val", val_fraction=0.2))


def test_a_lone_train_folder_is_parted_too(tmp_path):
    fill(tmp_path / "train", cat=5, dog=5)
    assert (len(ImageFolder(tmp_path, "train")), len(ImageFolder(tmp_path, "val"))) == (8, 2)


@pytest.mark.parametrize("called", ["test", "testing"])
def test_a_part_for_tests_is_opened_where_there_is_one(tmp_path, called):
    fill(tmp_path / "train", cat=5, dog=5)
    with pytest.raises(DataError, match="has no folder 'test' with class folders; add it"):
        ImageFolder(tmp_path, "test")
    fill(tmp_path / called, dog=2)
    test = ImageFolder(tmp_path, "test")
    assert ([label for _, label in test.samples], test.classes) == ([1, 1], ("cat", "dog"))
    assert len(ImageFolder(tmp_path, "val")) == 2
    with pytest.raises(DataError, match="wolf"):
        ImageFolder(fill(tmp_path / called, wolf=1).parent, "test")


def test_a_class_may_be_called_train(tmp_path):
    fill(tmp_path, train=2, bus=2)
    assert ImageFolder(tmp_path).classes == ("bus", "train")


def test_images_lie_deeper_and_other_files_are_passed_over(tmp_path):
    fill(tmp_path, cat=1, dog=1)
    fill(tmp_path / "cat", young=2)
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "cat" / "._0.png").write_bytes(b"no image")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "cat" / "UPPER.JPEG").write_bytes(b"")
    assert [path.rpartition("cat")[2].replace("\\", "/") for path in find_images(tmp_path / "cat")] == [
        "/0.png",
        "/UPPER.JPEG",
        "/young/0.png",
        "/young/1.png",
    ]
    assert ImageFolder(tmp_path).classes == ("cat", "dog")


def test_a_broken_image_is_named_when_it_is_read(tmp_path):
    fill(tmp_path, cat=1, dog=1)
    (tmp_path / "cat" / "0.png").write_bytes(b"nonsense")
    with pytest.raises(ImageError, match=r"0\.png"):
        ImageFolder(tmp_path)[0]


def test_a_models_own_classes(tmp_path):
    fill(tmp_path, fox=1, cat=1)
    known = ImageFolder(tmp_path, classes=("cat", "dog", "fox"))
    assert known.classes == ("cat", "dog", "fox")
    assert [label for _, label in known.samples] == [0, 2]
    with pytest.raises(DataError, match="the model's classes: fox"):
        ImageFolder(tmp_path, classes=("cat", "dog"))
    with pytest.raises(DataError, match="several of the model's classes: cat"):
        ImageFolder(tmp_path, classes=("cat", "fox", "cat"))


@pytest.mark.parametrize(("known", "stored"), [("caf\u00e9", "cafe\u0301"), ("cafe\u0301", "caf\u00e9")])
def test_a_class_is_found_in_either_form_of_unicode(tmp_path, known, stored):
    fill(tmp_path / "train", **{known: 2, "dog": 1})
    fill(tmp_path / "val", **{stored: 3, "dog": 1})
    val = ImageFolder(tmp_path, "val")
    assert val.classes == ImageFolder(tmp_path, "train").classes
    assert sum(val.classes[label] == known for _, label in val.samples) == 3
    assert [label for _, label in ImageFolder(tmp_path, classes=["dog", "cat", known]).samples] == [2, 2, 2, 0]
    # Of two classes that look the same, a folder is the one of exactly its name.
    labels = dict.fromkeys(label for _, label in ImageFolder(tmp_path, classes=["dog", known, stored]).samples)
    assert list(labels) == [2, 0]


def test_a_subset_of_imagenet_by_synset(tmp_path):
    """For a model that knows the 1,000 by name, and for training on the subset alone."""
    fill(tmp_path, n01440764=1, n03710721=1)
    names = tuple(f"name {index}" for index in range(1000))
    assert [label for _, label in ImageFolder(tmp_path, classes=names).samples] == [0, 639]
    assert ImageFolder(tmp_path).classes == ("n01440764", "n03710721")
    by_synset = ImageFolder(tmp_path, classes=imagenet_synsets())
    assert [label for _, label in by_synset.samples] == [0, 639]


def test_synsets_are_the_thousand_in_order():
    synsets = imagenet_synsets()
    assert len(set(synsets)) == 1000
    assert list(synsets) == sorted(synsets)


def test_errors_name_the_folder_and_the_fix(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.* is not a folder"):
        ImageFolder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="neither class folders nor images"):
        ImageFolder(tmp_path)
    Image.new("L", (2, 2)).save(tmp_path / "loose.png")
    with pytest.raises(DataError, match="1 image but no class folders"):
        ImageFolder(tmp_path)
    fill(tmp_path, cat=2)
    with pytest.raises(DataError, match="one class 'cat'"):
        ImageFolder(tmp_path, "train")
    (tmp_path / "dog").mkdir()
    with pytest.raises(DataError, match=r"dog holds no images"):
        ImageFolder(tmp_path, "train")
    fill(tmp_path, emu=1)
    (tmp_path / "dog").rmdir()
    with pytest.raises(DataError, match="no images for validation"):
        ImageFolder(tmp_path, "val", val_fraction=0.0)
    with pytest.raises(ValueError, match="split='all'"):
        ImageFolder(tmp_path, "all")
    with pytest.raises(ValueError, match="val_fraction=1"):
        ImageFolder(tmp_path, val_fraction=1)


def test_validation_alone_cannot_be_trained_on(tmp_path):
    fill(tmp_path / "val", cat=1, dog=1)
    assert len(ImageFolder(tmp_path, "val")) == 2
    with pytest.raises(DataError, match="no folder 'train'"):
        ImageFolder(tmp_path, "train")


@given(st.lists(st.tuples(st.sampled_from(["", "class", "b-"]), st.integers(0, 300), st.sampled_from(["", "x"]))))
def test_natural_order_is_that_of_the_numbers(parts):
    names = {f"{before}{number}{after}": (before, number, after) for before, number, after in parts}
    assert natural_order(names) == tuple(sorted(names, key=names.__getitem__))


@given(st.lists(st.text(min_size=1, max_size=8), unique=True))
def test_natural_order_takes_any_names(names):
    assert sorted(natural_order(names)) == sorted(names)
    padded = [f"{index:03}" for index in range(len(names))]
    assert guessed_order(padded) == "", "sorted and natural order are the same"


NUMBERS = [str(number) for number in range(12)]
ORDERS = {"natural": NUMBERS, "sorted": sorted(NUMBERS), "FILE": NUMBERS[::-1]}


def labels(data):
    return {path.split("/")[-2]: label for path, label in data.samples}


@pytest.mark.parametrize("classes", [None, tuple("abcdefghijkl")])
@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_class_folders_is_what_was_asked_for(tmp_path, order, classes):
    fill(tmp_path / "data", **dict.fromkeys(NUMBERS, 2))
    (tmp_path / "order.txt").write_text("\n".join(ORDERS["FILE"]) + "\n\n")
    given = tmp_path / "order.txt" if order == "FILE" else order
    for split in ("train", "val", None):
        data = ImageFolder(tmp_path / "data", split, classes=classes, class_order=given)
        assert data.classes == (classes or tuple(ORDERS[order]))
        assert labels(data) == {name: index for index, name in enumerate(ORDERS[order])}


@pytest.mark.parametrize(
    ("lines", "classes", "message"),
    [
        (["cat", "dog", "dog"], None, r"order\.txt names dog twice"),
        ([], None, "no class folders"),
        (["cat", "dog"], None, "folders that are not among the classes in data.class_order=.*: emu"),
        (["cat", "dog", "emu", "fox"], None, "has no folders for some of the classes in .*: fox"),
        (["cat", "dog"], ("a", "b", "c"), "are 2 for the model's 3"),
        (None, None, "data.class_order='.*' cannot be read .*use natural, sorted, or a text file"),
    ],
)
def test_an_order_that_does_not_fit_is_named(tmp_path, lines, classes, message):
    fill(tmp_path / "data", cat=2, dog=2, emu=2)
    if lines is not None:
        (tmp_path / "order.txt").write_text("\n".join(lines))
    with pytest.raises(DataError, match=message):
        ImageFolder(tmp_path / "data", "train", classes=classes, class_order=tmp_path / "order.txt")


@pytest.mark.parametrize("names", [["0", "1", "10", "2"], ["007", "010"], ["999", "5"]])
def test_numbers_are_indices_of_a_models_classes(tmp_path, names, caplog):
    """As ImageNetV2's folders are: "0" to "999"."""
    fill(tmp_path, **dict.fromkeys(names, 1))
    data = ImageFolder(tmp_path, classes=tuple(f"name {index}" for index in range(1000)))
    assert labels(data) == {name: int(name) for name in names}
    first = sorted(names)[0]
    assert f"{first} is 'name {int(first)}'" in caplog.text and len(caplog.records) == 1


@pytest.mark.parametrize("names", [["0", "3"], ["1", "01"], ["0", "x"], ["0", "b"]])
def test_numbers_that_are_no_indices_are_refused(tmp_path, names):
    fill(tmp_path, **dict.fromkeys(names, 1))
    with pytest.raises(DataError, match="not among the model's classes"):
        ImageFolder(tmp_path, classes=("a", "b", "c"))
    assert ImageFolder(tmp_path).classes == tuple(sorted(names))


def test_a_models_names_come_before_numbers(tmp_path, caplog):
    fill(tmp_path, **{"0": 1, "1": 1, "10": 1})
    data = ImageFolder(tmp_path, classes=("0", "10", "1", "2"))
    assert labels(data) == {"0": 0, "10": 1, "1": 2} and not caplog.records


@pytest.mark.parametrize("split", ["train", "val", None])
def test_class_folders_may_be_links(tmp_path, split):
    fill(tmp_path / "elsewhere", cat=2, dog=2)
    (tmp_path / "data").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere" / name, target_is_directory=True)
    data = ImageFolder(tmp_path / "data", split)
    assert data.classes == ("cat", "dog") and len(data) == (4 if split is None else 2)


@pytest.mark.parametrize("target", ["..", "../..", "."])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_class_folder_that_links_back_up_is_refused_by_name(tmp_path, target, split):
    fill(tmp_path / "data", cat=2, dog=2)
    (tmp_path / "data" / "loop").symlink_to(target, target_is_directory=True)
    with pytest.raises(DataError, match=r"class folder .*data.loop is a link to .*, which it lies in"):
        ImageFolder(tmp_path / "data", split)


@pytest.mark.parametrize("target", ["..", "../..", "../../..", "../cat"])
def test_a_link_inside_a_class_leads_to_no_other_class(tmp_path, target):
    fill(tmp_path / "data", cat=2, dog=2)
    (tmp_path / "data" / "cat" / "more").symlink_to(target, target_is_directory=True)
    assert labels(ImageFolder(tmp_path / "data")) == {"cat": 0, "dog": 1}
    assert len(ImageFolder(tmp_path / "data")) == 4


@pytest.mark.parametrize(("link", "target"), [("dog", "cat"), ("cat/more", "../dog"), ("zebra", "cat/young")])
def test_one_folder_in_two_classes_is_refused_by_both_names(tmp_path, link, target):
    fill(tmp_path, cat=2, fox=2, **{"cat/young": 2}, **({} if link == "dog" else {"dog": 2}))
    (tmp_path / link).symlink_to(target, target_is_directory=True)
    with pytest.raises(DataError, match="of two classes, are one folder by a link") as error:
        ImageFolder(tmp_path)
    assert str(tmp_path / link) in str(error.value)


def test_what_several_links_of_a_class_lead_to_is_taken_once(tmp_path):
    fill(tmp_path, cat=2, dog=10, **{"cat/young": 8})
    for name in ("again", "more"):
        (tmp_path / "cat" / name).symlink_to("young", target_is_directory=True)
    train, val = ImageFolder(tmp_path, "train"), ImageFolder(tmp_path, "val")
    assert (len(train), len(val), len(ImageFolder(tmp_path))) == (16, 4, 20)


CHOICES = {
    "chosen": (["tulip", "rose"], ("tulip", "rose"), {"rose": 1, "tulip": 0}, "oak 2, pine 2"),
    "merged": (
        {"flower": ["rose", "tulip"], "tree": ["oak"]},
        ("flower", "tree"),
        {"rose": 0, "tulip": 0, "oak": 1},
        "pine 2",
    ),
    "all others": (
        {"oak": ["oak"], "no oak": ["*"]},
        ("oak", "no oak"),
        {"oak": 0, "pine": 1, "rose": 1, "tulip": 1},
        "",
    ),
}


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize(("choice", "classes", "labels", "left_out"), CHOICES.values(), ids=CHOICES)
def test_classes_are_chosen_and_merged(tmp_path, caplog, apart, choice, classes, labels, left_out) -> None:
    for split in ("train", "val") if apart else (".",):
        for name in ("oak", "pine", "rose", "tulip"):
            (tmp_path / split / name).mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (4, 4)).save(tmp_path / split / name / f"{number}.png")
    for split in ("train", "val"):
        data = ImageFolder(tmp_path, split, choice=choice)
        assert data.classes == classes
        assert {Path(path).parent.name: label for path, label in data.samples} == labels
    assert (f"as data.classes has not their class: {left_out}" in caplog.text) == bool(left_out)
    # A model may have its classes in another order.
    turned = ImageFolder(tmp_path, choice=choice, classes=classes[::-1])
    assert {Path(path).parent.name: 1 - label for path, label in turned.samples} == labels
    with pytest.raises(DataError, match="makes classes that the model has not"):
        ImageFolder(tmp_path, choice=choice, classes=("a", "b"))
    with pytest.raises(DataError, match="does not go with data.classes"):
        ImageFolder(tmp_path, choice=choice, class_order="natural")
