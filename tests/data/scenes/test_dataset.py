import json
import pickle

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from torch.utils.data import DataLoader

from swin_transformer_pytorch.data.classification.fashion import CLASSES, FashionSample
from swin_transformer_pytorch.data.classification.folder import DataError
from swin_transformer_pytorch.data.detection.coco import CocoDataset
from swin_transformer_pytorch.data.detection.folders import find_coco
from swin_transformer_pytorch.data.panoptic.source import PanopticSource
from swin_transformer_pytorch.data.scenes.cutouts import cut_out, place
from swin_transformer_pytorch.data.scenes.dataset import SceneDataset, open_scenes
from swin_transformer_pytorch.data.scenes.files import write_scenes
from swin_transformer_pytorch.data.scenes.panoptic import PanopticScenes

FIELDS = ("boxes_xyxy", "labels", "masks", "crowd", "semantic")


@pytest.fixture(scope="module")
def scenes() -> SceneDataset:
    return SceneDataset(FashionSample("train"), 12, seed=3, image_size=(96, 128))


def same(first, second) -> bool:
    return np.array_equal(np.asarray(first.image), np.asarray(second.image)) and all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in FIELDS
    )


def test_what_a_scene_says_of_itself_agrees(scenes):
    counts = []
    for index in range(len(scenes)):
        scene = scenes[index]
        counts.append(len(scene))
        assert scene.image_id == scenes.image_ids[index] == index
        assert (scene.image.mode, scene.image.size) == ("RGB", (128, 96))
        assert scene.masks.shape == (len(scene), 96, 128) and scene.masks.dtype == np.uint8
        assert not scene.crowd.any() and scene.labels.max() < 10
        assert scene.masks.sum(axis=0).max() <= 1, "visible parts do not overlap"
        expected = np.full((96, 128), 10)
        for mask, box, label in zip(scene.masks, scene.boxes_xyxy, scene.labels, strict=True):
            expected[mask > 0] = label
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert mask.sum() >= 20
        np.testing.assert_array_equal(scene.semantic, expected)
    assert min(counts) >= 1 and max(counts) <= 7 and len(set(counts)) > 2


def test_a_scene_depends_on_seed_and_index_alone(scenes):
    again = SceneDataset(FashionSample("train"), 40, seed=3, image_size=(96, 128))
    assert same(scenes[5], again[5])
    assert same(scenes[5], scenes[5])
    assert not same(scenes[5], scenes[6])
    assert not same(scenes[5], SceneDataset(FashionSample("train"), 40, seed=4, image_size=(96, 128))[5])
    assert same(pickle.loads(pickle.dumps(scenes))[7], again[7])  # noqa: S301


def test_workers_compose_the_same(scenes):
    loader = DataLoader(scenes, batch_size=None, num_workers=1)
    assert all(same(loaded, scenes[index]) for index, loaded in enumerate(loader))


def test_scenes_vary():
    scenes = open_scenes("scenes_sample", "train", num_scenes=20)
    means = np.array([np.asarray(scenes[index].image).mean(axis=(0, 1)) for index in range(20)])
    assert (means.std(axis=0) > 20).all()
    areas = np.concatenate([scenes[index].masks.sum(axis=(1, 2)) for index in range(20)])
    assert np.percentile(areas, 90) > 4 * np.percentile(areas, 10)
    assert len(np.unique(np.concatenate([scenes[index].labels for index in range(20)]))) == 10


def test_held_out_scenes_are_of_other_items():
    train, val = (open_scenes("scenes_sample", split, num_scenes=3) for split in ("train", "val"))
    assert (len(train.items), len(val.items)) == (2000, 1000)
    assert not same(train[0], val[0])
    assert train.classes == val.classes == CLASSES
    assert train.semantic_classes == (*CLASSES, "ground")
    assert len(set(train.semantic_palette)) == 11


def test_a_cutout_keeps_what_it_encloses_and_goes_on_outward():
    image = np.zeros((9, 9), dtype=np.uint8)
    image[2:7, 2:7] = 200
    image[4, 4] = 0
    image[0, 0] = 9
    cutout = cut_out(image)
    mask = np.asarray(cutout.mask) > 0
    assert cutout.area == mask.sum() == 25
    assert mask[4:9, 4:9].all()
    grey = np.asarray(cutout.grey)
    assert grey[6, 6] == 0
    assert (grey[3, 3:10] == 200).all() and (grey[2, 3:10] == 200).all()


def test_a_cutout_lies_where_it_is_placed():
    image = np.zeros((10, 10), dtype=np.uint8)
    image[1:9, 1:4] = 100  # high and at the left
    cutout = cut_out(image)

    def middle(**options) -> tuple[float, float, float]:
        layer = place(
            cutout, **{"centre": (30.0, 40.0), "zoom": 2.0, "angle": 0.0, "mirror": False, **options}, size=(60, 80)
        )
        alpha = np.zeros((60, 80))
        alpha[layer.rows, layer.columns] = layer.alpha
        rows, columns = np.nonzero(alpha > 0.5)
        assert layer.area == 4 * 24
        assert len(rows) == pytest.approx(layer.area, rel=0.15)
        return rows.mean() + 0.5, columns.mean() + 0.5, layer.grey[layer.alpha > 0.5].mean()

    assert middle() == pytest.approx((30, 35, 100 / 255), abs=0.3)
    assert middle(mirror=True)[:2] == pytest.approx((30, 45), abs=0.3)
    assert middle(angle=90.0)[:2] == pytest.approx((35, 40), abs=0.3), "anticlockwise: the left goes down"
    assert middle(zoom=2.0, centre=(30.5, 41.0))[:2] == pytest.approx((30.5, 36), abs=0.3)


def test_an_item_beyond_the_border_is_cut():
    cutout = cut_out(np.full((10, 10), 90, dtype=np.uint8))
    layer = place(cutout, centre=(0.0, 0.0), zoom=2.0, angle=0.0, mirror=False, size=(40, 40))
    assert (layer.rows.start, layer.columns.start) == (0, 0)
    assert (layer.alpha > 0.5).sum() == 100


# pycocotools has not followed numpy 2 here.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_written_scenes_are_a_coco_data_set(scenes, tmp_path):
    files = write_scenes(scenes, tmp_path, "train")
    write_scenes(open_scenes("scenes_sample", "val", num_scenes=2, image_size=(96, 128)), tmp_path, "val")
    folder = find_coco(tmp_path, "train")
    assert (folder.images_folder, folder.annotations_file) == (files.images, files.annotations)
    read = CocoDataset(folder.images_folder, folder.annotations_file)
    assert len(read) == 12 and read.classes == CLASSES
    for index in (0, 11):
        first, second = read[index], scenes[index]
        assert np.array_equal(np.asarray(first.image), np.asarray(second.image))
        assert all(np.array_equal(getattr(first, name), getattr(second, name)) for name in FIELDS[:-1])
    written = json.loads(files.annotations.read_text())
    assert written == scenes.coco()
    assert files.num_objects == len(written["annotations"])

    official = COCO()
    official.dataset = written
    official.createIndex()
    first = official.loadAnns(official.getAnnIds(imgIds=[4]))
    for annotation, mask in zip(first, scenes[4].masks, strict=True):
        np.testing.assert_array_equal(official.annToMask(annotation), mask)
        assert annotation["area"] == mask.sum()


def test_written_label_maps_show_the_palette(scenes, tmp_path):
    files = write_scenes(scenes, tmp_path)
    with Image.open(files.labels / "000002.png") as labels:
        assert labels.mode == "P"
        np.testing.assert_array_equal(np.asarray(labels), scenes[2].semantic)
        colours = np.asarray(labels.convert("RGB"))
    np.testing.assert_array_equal(colours, np.array(scenes.semantic_palette)[scenes[2].semantic])
    assert files.classes.read_text().splitlines()[-1] == "64 64 64 ground"


def test_written_scenes_are_data_of_segments(scenes, tmp_path):
    files = write_scenes(scenes, tmp_path)
    read = PanopticSource(root=str(tmp_path)).open("train")
    expected = PanopticScenes(scenes)
    assert (len(read), read.classes, read.things) == (12, expected.classes, expected.things)
    assert (read.palette, read.image_ids) == (expected.palette, list(range(12)))
    for index in (0, 7):
        first, second = read[index], expected[index]
        assert all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("segment_ids", "labels"))
    entry = json.loads(files.panoptic.read_text())["annotations"][3]
    ground = entry["segments_info"][-1]
    assert (entry["file_name"], ground["category_id"], ground["area"]) == (
        "000003.png",
        11,
        int((scenes[3].semantic == 10).sum()),
    )


def test_nothing_is_overwritten(scenes, tmp_path):
    (tmp_path / "labels" / "train").mkdir(parents=True)
    with pytest.raises(DataError, match=r"labels.train exists already"):
        write_scenes(scenes, tmp_path)
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    with pytest.raises(DataError, match=r"classes\.txt exists already and has other classes"):
        write_scenes(scenes, tmp_path, "val")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["classes.txt", "labels", "train"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_scenes": -1}, "num_scenes=-1"),
        ({"image_size": (16, 64)}, "image_size"),
        ({"seed": -1}, "seed=-1"),
        ({"kind": "scenes"}, "needs root"),
        ({"kind": "photos"}, "kind='photos'"),
        ({"split": "test"}, "split='test'"),
    ],
)
def test_mistakes_are_named(arguments, message):
    arguments = {"kind": "scenes_sample", "split": "train", "num_scenes": 1, **arguments}
    with pytest.raises(ValueError, match=message):
        open_scenes(arguments.pop("kind"), arguments.pop("split"), **arguments)


def test_an_index_beyond_the_end_is_an_error(scenes):
    with pytest.raises(IndexError):
        scenes[12]
