import numpy as np
import pytest
from PIL import Image

from swin_transformer_pytorch.data.classification.folder import DataError, ImageFolder, imagenet_synsets
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
    with pytest.raises(DataError, match="1 images but no class folders"):
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
    with pytest.raises(ValueError, match="split='test'"):
        ImageFolder(tmp_path, "test")
    with pytest.raises(ValueError, match="val_fraction=1"):
        ImageFolder(tmp_path, val_fraction=1)


def test_validation_alone_cannot_be_trained_on(tmp_path):
    fill(tmp_path / "val", cat=1, dog=1)
    assert len(ImageFolder(tmp_path, "val")) == 2
    with pytest.raises(DataError, match="no folder 'train'"):
        ImageFolder(tmp_path, "train")
