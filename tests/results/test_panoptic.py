"""Segments of an image: what they say, and COCO's files of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from swin_transformer_pytorch.results import PanopticSegmentation, Segment
from swin_transformer_pytorch.results.panoptic import colours_as_ids, ids_as_colours
from swin_transformer_pytorch.results.rows import json_line, row_of

IDS = np.array([[7, 7, 7, 300], [7, 0, 0, 300], [70_000, 7, 300, 300]])
NAMES = ("sky", "café", "car", "sea")
PALETTE = ((0, 0, 255), (1, 2, 3), (255, 0, 0), (9, 9, 9))


def segment(number: int, label: int, area: int, **fields: Any) -> Segment:
    return Segment(**{"id": number, "label": label, "score": 0.5, "area": area, "is_thing": label == 2, **fields})


SEGMENTS = (segment(7, 0, 5, score=0.875), segment(300, 2, 4), segment(70_000, 2, 1, score=0.1))


def result(**fields: Any) -> PanopticSegmentation:
    return PanopticSegmentation(**{"segment_ids": IDS, "segments": SEGMENTS, "names": NAMES, **fields})


def test_segments_tell_what_they_are() -> None:
    found = result()
    assert found.segment_ids.dtype == np.int32
    assert (found.image_size, len(found)) == ((3, 4), 3)
    assert found.shares == {7: 5 / 12, 300: 4 / 12, 70_000: 1 / 12}
    assert [*found.counts().items()] == [("car", 2), ("sky", 1)]
    assert str(found) == "sky 41.7%, 2 x car 41.7%"
    assert repr(found) == "<PanopticSegmentation of 3 x 4 pixels: sky 41.7%, 2 x car 41.7%>"
    assert json.loads(json_line(row_of("a.png", found))) == {
        "path": "a.png",
        "image_size": [3, 4],
        "segments": [
            {"id": 7, "label": 0, "name": "sky", "score": 0.875, "area": 5, "is_thing": False},
            {"id": 300, "label": 2, "name": "car", "score": 0.5, "area": 4, "is_thing": True},
            {"id": 70_000, "label": 2, "name": "car", "score": 0.1, "area": 1, "is_thing": True},
        ],
    }


def test_segments_are_equal_where_all_is() -> None:
    assert result() == result(segment_ids=IDS.astype(np.uint32), names=[*NAMES])
    assert result() != result(palette=PALETTE) and result() != 3
    assert result() != result(segments=SEGMENTS[::-1])
    assert result() != result(segment_ids=IDS[::-1].copy())


def test_masks_are_of_a_segment_or_of_a_class() -> None:
    found = result()
    np.testing.assert_array_equal(found.mask(300), IDS == 300)
    np.testing.assert_array_equal(found.mask("car"), (IDS == 300) | (IDS == 70_000))
    np.testing.assert_array_equal(found.mask("cafe\u0301"), np.zeros((3, 4), dtype=bool))  # in the other form
    with pytest.raises(ValueError, match="no segment 8: the ids are 7, 300, 70000"):
        found.mask(8)
    with pytest.raises(ValueError, match="no segment 0"):
        found.mask(0)
    with pytest.raises(ValueError, match=r"no class 'caar': did you mean car\?"):
        found.mask("caar")


def test_a_table_has_a_row_a_segment() -> None:
    table = result().to_pandas()
    assert table.name.tolist() == ["sky", "car", "car"] and table.is_thing.tolist() == [False, True, True]
    assert table.pixels.sum() == 10 and table.share.sum() == pytest.approx(10 / 12)


def test_an_image_may_have_no_segments() -> None:
    empty = result(segment_ids=np.zeros((2, 3), dtype=np.uint8), segments=())
    assert str(empty) == "no segments" and empty.to_coco(1, "1.png")["segments_info"] == []
    assert empty.to_dict()["segments"] == [] and empty.counts() == {}


def test_numbers_of_numpy_are_taken() -> None:
    one = Segment(id=np.int32(7), label=np.int64(0), score=np.float32(0.5), area=np.int64(5), is_thing=np.bool_(False))
    assert json.dumps(vars(one)) and one == segment(7, 0, 5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"segment_ids": IDS[None]}, r"shape \(1, 3, 4\)"),
        ({"segment_ids": IDS.astype(float)}, "float64"),
        ({"segment_ids": -IDS}, "go from -70000 to 0"),
        ({"segment_ids": IDS * 1000}, "go from 0 to 70000000; use 1 to 16777215"),
        ({"segments": SEGMENTS[:2]}, "pixels of no segment: 70000"),
        ({"segments": (*SEGMENTS, SEGMENTS[0])}, "two segments have the id 7"),
        ({"segments": (*SEGMENTS, segment(8, 0, 1))}, "segment 8 has no pixel"),
        ({"segments": (*SEGMENTS, segment(0, 0, 2))}, "segment 0 has no pixel"),
        ({"segments": (segment(7, 0, 4), *SEGMENTS[1:])}, "segment 7 has the area 4, and segment_ids 5"),
        ({"segments": (segment(7, 4, 5), *SEGMENTS[1:])}, "label 4 has no name among the 4"),
        ({"segments": (segment(7, -1, 5), *SEGMENTS[1:])}, "label -1"),
        ({"segments": (segment(7, 0, 5, score=float("nan")), *SEGMENTS[1:])}, "score nan"),
        ({"segments": (segment(7, 0, 5, score=1.5), *SEGMENTS[1:])}, r"score 1\.5"),
        ({"segments": (*SEGMENTS[:2], segment(70_000, 2, 1, is_thing=False))}, "'car' has both things and stuff"),
        ({"palette": PALETTE[:3]}, "3 colours for 4 classes"),
    ],
)
def test_segments_that_cannot_be_are_an_error(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        result(**fields)


def test_cocos_entry_has_the_datas_categories() -> None:
    entry = result().to_coco(17, "17.png", {"car": 90, "sky": 187})
    assert (entry["image_id"], entry["file_name"]) == (17, "17.png")
    assert [one["category_id"] for one in entry["segments_info"]] == [187, 90, 90]
    assert [one["bbox"] for one in entry["segments_info"]] == [[0, 0, 3, 3], [2, 0, 2, 3], [0, 2, 1, 1]]
    assert entry["segments_info"][1] == {
        "id": 300,
        "category_id": 90,
        "area": 4,
        "bbox": [2, 0, 2, 3],
        "iscrowd": 0,
        "score": 0.5,
        "isthing": 1,
    }
    assert json.dumps(entry)
    assert [one["category_id"] for one in result().to_coco(1, "a.png")["segments_info"]] == [1, 3, 3]
    assert [one["category_id"] for one in result().to_coco(1, "a.png", [4, 5, 6, 7])["segments_info"]] == [4, 6, 6]
    with pytest.raises(ValueError, match=r"category_ids has no sky"):
        result().to_coco(1, "a.png", {"car": 1})
    with pytest.raises(ValueError, match="2 category_ids and the label 2"):
        result().to_coco(1, "a.png", [1, 2])


@pytest.mark.parametrize("palette", [None, PALETTE])
def test_what_is_saved_is_read_back(palette: Any, tmp_path: Path) -> None:
    found, path = result(palette=palette), tmp_path / "new" / "a.png"
    found.save_coco(path, image_id=12)
    assert PanopticSegmentation.read_coco(path) == found
    assert sorted(one.name for one in path.parent.iterdir()) == ["a.json", "a.png"]
    pixels = np.array(Image.open(path)).astype(int)
    np.testing.assert_array_equal(pixels @ [1, 256, 65_536], IDS)
    document = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert document["images"] == [{"id": 12, "file_name": "a.png", "height": 3, "width": 4}]
    assert [(one["id"], one["name"], one.get("isthing")) for one in document["categories"]] == [
        (1, "sky", 0),
        (2, "café", None),
        (3, "car", 1),
        (4, "sea", None),
    ]


@settings(max_examples=30)
@given(st.integers(0, 5), st.integers(1, 9), st.integers(1, 9), st.randoms(use_true_random=False))
def test_any_segments_are_read_back(count: int, height: int, width: int, random: Any) -> None:
    import tempfile

    ids = [0, *(random.randrange(1, 1 << 24) for _ in range(count))]
    pixels = np.array([[random.choice(ids) for _ in range(width)] for _ in range(height)], dtype=np.int64)
    np.testing.assert_array_equal(colours_as_ids(ids_as_colours(pixels)), pixels)
    there = [number for number in dict.fromkeys(ids) if number and (pixels == number).any()]
    segments = [
        segment(number, random.randrange(4), int((pixels == number).sum()), score=random.random()) for number in there
    ]
    found = result(segment_ids=pixels, segments=segments)
    with tempfile.TemporaryDirectory() as folder:
        found.save_coco(Path(folder) / "a.PNG")
        assert PanopticSegmentation.read_coco(Path(folder) / "a.PNG") == found


def test_a_disk_that_is_full_leaves_both_files_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    result().save_coco(path)
    before = {one.name: one.read_bytes() for one in tmp_path.iterdir()}

    def full(self: Image.Image, target: Path, **options: Any) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match="No space"):
        result(palette=PALETTE).save_coco(path)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_files_that_are_no_result_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(ValueError, match=r"ends in '.jpg'"):
        result().save_coco(tmp_path / "a.jpg")
    with pytest.raises(ValueError, match=r"a\.json cannot be read"):
        PanopticSegmentation.read_coco(path)
    result().save_coco(path)
    document = json.loads(path.with_suffix(".json").read_text())

    def broken(change: dict[str, Any], match: str) -> None:
        path.with_suffix(".json").write_text(json.dumps(document | change))
        with pytest.raises(ValueError, match=match):
            PanopticSegmentation.read_coco(path)

    broken({"annotations": []}, r"a\.png and a\.json are no result")
    broken({"annotations": [{"segments_info": []}]}, "pixels of no segment: 7, 300, 70000")
    broken({"categories": []}, "there is no 1")
    path.with_suffix(".json").write_text("{")
    with pytest.raises(ValueError, match=r"a\.json are no result"):
        PanopticSegmentation.read_coco(path)
    result().save_coco(path)
    Image.new("L", (4, 3)).save(path)
    with pytest.raises(ValueError, match="RGB pixels of 8 bits"):
        PanopticSegmentation.read_coco(path)


@pytest.mark.parametrize("pixels", [np.zeros((2, 3)), np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 3), np.uint16)])
def test_ids_are_three_bytes(pixels: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="RGB pixels of 8 bits"):
        colours_as_ids(pixels)
