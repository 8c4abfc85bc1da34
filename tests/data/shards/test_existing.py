"""Tar files that others have made are indexed as they are, and what is passed over is said."""

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pytest
from tools.flaky_store import serving

from swin_transformer_pytorch.data.classification.shards import ShardImages
from swin_transformer_pytorch.data.errors import DataError, ImageError, NothingFoundError, StoreError
from swin_transformer_pytorch.data.images.unusable import ReplacedSamples
from swin_transformer_pytorch.data.shards.errors import ShardError
from swin_transformer_pytorch.data.shards.existing import find_tars, index_tars

from .conftest import picture


def tar(path: Path, files: Mapping[str, bytes | str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            data = content.encode() if isinstance(content, str) else content
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


def test_numbers_names_and_json(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    by_number = tmp_path / "numbers"
    tar(by_number / "train-000.tar", {"a/1.png": picture(1), "a/1.cls": "2", "a/2.cls": "0\n", "a/2.png": picture(2)})
    tar(by_number / "val-000.tar", {"3.JPG": picture(3), "3.json": json.dumps({"label": 1})})
    manifest, passed = index_tars(str(by_number), by_number)
    assert (manifest.classes, [*manifest.parts], passed) == (("0", "1", "2"), ["train", "val"], {})
    assert "its classes are called by their numbers, 0 to 2" in caplog.text
    assert ShardImages(by_number, "train").labels.tolist() == [2, 0]
    assert ShardImages(by_number, "val")[0][1] == 1
    named = tmp_path / "named"
    tar(named / "0.tar", {"1.png": picture(1), "1.cls": "owl", "2.png": picture(2), "2.json": '{"class": "cat"}'})
    index_tars(str(named), named)
    images = ShardImages(named, "train", val_fraction=0)
    assert (images.classes, images.labels.tolist()) == (("cat", "owl"), [1, 0])
    assert bytes(images.paths[0]) == picture(1)
    assert images.paths[0].filename == "0.tar/1.png"


def test_classes_have_names_in_a_file(tmp_path: Path) -> None:
    tar(tmp_path / "tars" / "0.tar", {"1.png": picture(1), "1.cls": "1", "2.png": picture(2), "2.cls": "0"})
    (tmp_path / "tars" / "classes.txt").write_text("cat\nowl\n")
    assert index_tars(str(tmp_path / "tars"), tmp_path / "out")[0].classes == ("cat", "owl")
    images = ShardImages(tmp_path / "out", "train", val_fraction=0)  # the index alone is elsewhere
    assert bytes(images.paths[1]) == picture(2)
    with pytest.raises(DataError, match="labels that are not among the 1 classes: 1"):
        index_tars(str(tmp_path / "tars"), tmp_path / "other", classes=("cat",))


def test_what_is_no_image_with_its_label_is_passed_over_and_said(tmp_path: Path) -> None:
    files: dict[str, bytes | str] = {"1.png": picture(1), "1.cls": "0", "1.txt": "a cat", "2.png": picture(2)}
    files |= {"3.png": picture(3), "3.seg.png": picture(4), "3.cls": "1", "4.json": "{", "4.png": picture(5)}
    tar(tmp_path / "0.tar", files)
    (tmp_path / "1.tar.gz").write_bytes(gzip.compress((tmp_path / "0.tar").read_bytes()))
    _, passed = index_tars(str(tmp_path), tmp_path)
    assert passed == {
        ".txt files": 1,
        ".png files": 1,
        ".json files without a label": 1,
        "images without a label": 2,
    }
    assert len(ShardImages(tmp_path, "train", val_fraction=0)) == 2


def test_without_any_label_all_are_taken(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", {"1.png": picture(1), "2.png": picture(2)})
    assert index_tars(str(tmp_path), tmp_path)[0].classes == ()
    assert ShardImages(tmp_path, "train", val_fraction=0)[1][1] == -1


def test_a_truncated_member_is_a_bad_image(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files: dict[str, bytes | str] = {}
    for number in range(6):
        files |= {f"{number}.cls": str(number % 2), f"{number}.png": picture(number)}
    path = tar(tmp_path / "train-0.tar", files)
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset_data + 700])
    _, passed = index_tars(str(tmp_path), tmp_path)
    assert passed == {"images that are cut short: they cannot be used": 1}
    assert "train-0.tar is cut short" in caplog.text
    images = ShardImages(tmp_path, "train", val_fraction=0)
    assert len(images) == 6
    with pytest.raises(ImageError, match=rf"train-0\.tar/5\.png is cut short, 700 of {len(picture(5)):,} bytes"):
        images[5]
    # In training the next image stands in for it, as for any that cannot be used.
    samples = ReplacedSamples(images)
    assert samples[5][1] == samples[0][1]
    assert samples.unusable == [5]
    assert samples.summary() == "1 of 6 training images could not be used"


def test_a_label_that_is_nested_without_end_is_none(tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", {"1.png": picture(1), "1.json": "[" * 100_000, "2.png": picture(2), "2.cls": "0"})
    _, passed = index_tars(str(tmp_path), tmp_path)
    assert passed == {".json files without a label": 1, "images without a label": 1}


def test_shards_sorted_by_class_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for shard in range(5):
        of_class: dict[str, bytes | str] = {}
        for number in range(10):
            of_class |= {f"{number}.png": picture(number), f"{number}.cls": str(shard)}
        tar(tmp_path / f"{shard}.tar", of_class)
    index_tars(str(tmp_path), tmp_path)
    assert "a shard has 1.0 of 5 classes on average, and would have 4.5 if the images were shuffled" in caplog.text


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (
            {"1.png": picture(1), "1.cls": "1", "2.png": picture(2), "2.cls": "owl"},
            "labels that are numbers, and others",
        ),
        ({"1.txt": "x"}, "holds no images in its 1 tar file"),
        ({"1.png": picture(1), "1.json": '{"label": -3}'}, "labels from -3 to -3; number classes from 0"),
    ],
)
def test_what_cannot_be_right_is_refused(files: dict[str, bytes | str], told: str, tmp_path: Path) -> None:
    tar(tmp_path / "0.tar", files)
    with pytest.raises(DataError, match=told):
        index_tars(str(tmp_path), tmp_path)


def test_what_is_no_tar_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0.tar").write_bytes(gzip.compress(b"x" * 2000))
    with pytest.raises(ShardError, match="is no tar file, or is compressed"):
        index_tars(str(tmp_path), tmp_path)
    with pytest.raises(NothingFoundError, match="holds no .tar files"):
        find_tars(str(tmp_path.parent / "nowhere"))


def test_braces_name_shards_of_a_server(tmp_path: Path, impatient: None) -> None:
    for number in range(3):
        tar(tmp_path / "tars" / f"t-{number:02d}.tar", {f"{number}.png": picture(number), f"{number}.cls": str(number)})
    with serving(tmp_path / "tars") as server:
        server.fail["*"] = (1, 503)
        index_tars(f"{server.url}/t-{{00..02}}.tar", tmp_path / "out")
        images = ShardImages(tmp_path / "out", "train", val_fraction=0, options=None)
        assert [shard.name for shard in images.paths.members.shards] == ["t-00.tar", "t-01.tar", "t-02.tar"]
        assert images.labels.tolist() == [0, 1, 2]
        with pytest.raises(StoreError, match=r"t-04\.tar answered 404"):
            index_tars(f"{server.url}/t-{{04..05}}.tar", tmp_path / "other")
        with pytest.raises(StoreError, match="cannot be listed; name the shards, as in"):
            find_tars(server.url)
    assert find_tars("s3://bucket/{a,b}.tar") == ("s3://bucket", ["a.tar", "b.tar"])
    with pytest.raises(DataError, match="use one pair of braces"):
        find_tars("s3://bucket/{a,b}-{0..3}.tar")
    for numbers in ("5..3", "0..999999999"):
        with pytest.raises(DataError, match=f"{numbers[0]} to {numbers[3:]}; number tar files upwards, at most a mill"):
            find_tars(f"s3://bucket/{{{numbers}}}.tar")


def test_a_store_of_fsspec(tmp_path: Path) -> None:
    import fsspec

    path = tar(tmp_path / "0.tar", {"1.png": picture(1), "1.cls": "0", "2.png": picture(2), "2.cls": "1"})
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/tars/train-0.tar", path.read_bytes())
    try:
        index_tars("memory://tars", tmp_path / "out")
        for name in ("shards.json", "train.index.npy"):
            memory.pipe_file(f"/tars/{name}", (tmp_path / "out" / name).read_bytes())
        from swin_transformer_pytorch.data.shards.options import ShardOptions

        images = ShardImages("memory://tars", "train", val_fraction=0, options=ShardOptions(cache=str(tmp_path / "c")))
        assert bytes(images.paths[1]) == picture(2)
        memory.rm("/tars/train-0.tar")
        other = ShardImages("memory://tars", "train", val_fraction=0, options=ShardOptions(cache=str(tmp_path / "d")))
        with pytest.raises(StoreError, match=r"memory://tars/train-0\.tar is missing"):
            other[0]
    finally:
        memory.rm("/tars", recursive=True)
    with pytest.raises(StoreError, match="nowhere://x/shards.json cannot be opened"):
        ShardImages("nowhere://x", "train")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_named_as_tar_names_them(form: int, tmp_path: Path) -> None:
    name = f"{'folder/' * 12}{'x' * 60}.png"
    with tarfile.open(tmp_path / "0.tar", "w", format=form) as archive:
        for path in (name, "short.png"):
            entry = tarfile.TarInfo(path)
            entry.size = len(picture(1))
            archive.addfile(entry, io.BytesIO(picture(1)))
    index_tars(str(tmp_path), tmp_path)
    images = ShardImages(tmp_path, "train", val_fraction=0)
    # GNU's and PAX's long names lie elsewhere, so that messages have their first 100 letters.
    assert images.paths[0].filename == f"0.tar/{name if form == tarfile.USTAR_FORMAT else name[:100]}"
    assert images.paths[1].filename == "0.tar/short.png"
    assert [*images.paths] == [picture(1)] * 2
