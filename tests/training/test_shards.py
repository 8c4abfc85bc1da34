"""Training on shards: as on any images, wherever they lie, whoever reads them, and whenever it was killed."""

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tests.data.shards.conftest import fill, pack_folder
from tests.training.test_distributed import SAME, assert_close, run
from tests.training.test_resume import KILLED_PROGRAM, assert_equal
from tools.flaky_store import FlakyStore, serving

from swin_transformer_pytorch.data.classification.augmentation import Augmentation
from swin_transformer_pytorch.data.classification.dataset import TrainingDataset
from swin_transformer_pytorch.data.classification.shards import ShardImages
from swin_transformer_pytorch.data.errors import DataError, StoreError
from swin_transformer_pytorch.data.shards.options import ShardOptions
from swin_transformer_pytorch.data.transforms import create_transform
from swin_transformer_pytorch.training import RecipeError, load_recipe, train
from swin_transformer_pytorch.training.engine.sampling import EpochBatches, TrainingLoader
from swin_transformer_pytorch.training.recipes.classification import Recipe
from swin_transformer_pytorch.training.tasks.classification.prepare import prepare
from swin_transformer_pytorch.weights.preprocessing import Preprocessing

SMALL = Preprocessing(image_size=(16, 16), resize_size=(16, 16), mean=(0.5,) * 3, std=(0.3,) * 3)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    pack_folder(fill(tmp_path / "photos", cat=30, dog=20, owl=25), tmp_path / "shards")
    return tmp_path / "shards"


@pytest.fixture
def store(shards: Path) -> Iterator[FlakyStore]:
    with serving(shards) as server:
        yield server


@pytest.fixture
def on(tiny: Callable[..., Recipe], tmp_path: Path) -> Callable[..., Recipe]:
    """The tiny recipe on images at a root: 7 steps an epoch of 8 images, in windows of 2 shards of about 7."""

    def make(name: str, root: object, overrides: dict[str, Any] | None = None) -> Recipe:
        values = {"data.kind": "folder", "data.root": str(root), "data.image_size": 16, "data.batch_size": 8}
        values |= {"model.in_channels": 3, "data.shards.window": 2, "data.shards.cache": str(tmp_path / "cache")}
        return tiny(name, {**values, **(overrides or {})})

    return make


def loader(images: ShardImages, *, workers: int, rank: int = 0, ranks: int = 1) -> TrainingLoader:
    transform = create_transform(SMALL, train=True, augment=Augmentation(mixup=0, cutmix=0))
    dataset = TrainingDataset(images, transform, seed=0)
    want = images.ahead.want if images.ahead is not None else None
    batches = EpochBatches(
        len(images), 12 // ranks, seed=0, rank=rank, world_size=ranks, order=images.order(12), want=want
    )
    return TrainingLoader(dataset, batches, num_workers=workers)


@pytest.mark.parametrize("lanes", [1, 2])
def test_other_workers_and_ranks_go_on_with_the_same_images(
    lanes: int, shards: Path, store: FlakyStore, tmp_path: Path
) -> None:
    here = ShardImages(shards, "train", options=ShardOptions(window=2, lanes=lanes))
    whole = [batch for _ in range(2) for batch in _epoch(loader(here, workers=0))]
    store.seconds = 0.02
    for number, (workers, ranks) in enumerate(((2, 1), (1, 2), (0, 3))):
        options = ShardOptions(window=2, lanes=lanes, cache=str(tmp_path / str(number)), cache_gb=1)
        parts = []
        for rank in range(ranks):
            one = loader(ShardImages(store.url, "train", options=options), workers=workers, rank=rank, ranks=ranks)
            one.epoch, one.step = 0, 3  # where a run was killed
            parts.append(_epoch(one))
        for step, pair in enumerate(zip(*parts, strict=True)):
            images, labels = (torch.cat([batch[place] for batch in pair]) for place in (0, 1))
            assert_equal(images, whole[3 + step][0], "images")
            assert_equal(labels, whole[3 + step][1], "labels")


def _epoch(one: TrainingLoader) -> list[Any]:
    return [*one]


def test_a_folder_of_shards_is_recognised_and_trained_on(on: Callable[..., Recipe], shards: Path) -> None:
    result = train(on("run", shards), progress=False)
    held = yaml.safe_load((result.output / "recipe.yaml").read_text())
    assert held["data"]["kind"] == "shards"
    card = (result.output / "README.md").read_text()
    assert "15 validation images" in card


@pytest.mark.slow
def test_a_run_on_a_store_that_was_killed_ends_as_one_on_the_folder_of_shards(
    on: Callable[..., Recipe], shards: Path, store: FlakyStore, environment: dict[str, str], tmp_path: Path
) -> None:
    """The whole run reads the folder itself; the killed one a slow store in two processes; and its rest in one."""
    expected = train(on("whole", shards), progress=False)
    store.seconds, store.fail["*"] = 0.05, (2, 503)
    recipe = on("killed", store.url, {"data.num_workers": 2})
    # Sums depend on how many threads share them.
    environment["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    (tmp_path / "program.py").write_text(KILLED_PROGRAM)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    command = [sys.executable, "-W", "error", str(tmp_path / "program.py"), str(tmp_path / "recipe.yaml"), "10"]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert process.returncode == -signal.SIGKILL, process.stderr[-3000:]
    assert "answered 503" in process.stderr
    assert torch.load(tmp_path / "killed" / "last.ckpt", weights_only=True)["global_step"] == 10
    resumed = train(recipe.replace({"resume": True, "data.num_workers": 1}), progress=False)
    one, other = (torch.load(result.last, weights_only=True) for result in (expected, resumed))
    for part in ("state_dict", "ema_state_dict", "optimizer_states"):
        assert_equal(one[part], other[part], part)


@pytest.mark.slow
def test_two_processes_that_were_killed_are_taken_up_by_one(
    on: Callable[..., Recipe], shards: Path, store: FlakyStore, environment: dict[str, str], tmp_path: Path
) -> None:
    """Both read a store through one cache, each a lane; the one that goes on reads the folder, and both lanes."""
    same = {**SAME, "data.shards.lanes": 2}
    single = train(on("single", shards, same), progress=False)
    recipe = on("both", store.url, {**same, "trainer.devices": 2, "data.batch_size": 4, "data.num_workers": 1})
    code, _, errors = run(recipe, tmp_path, environment, kill_after=9, kill_rank=1)
    assert code in (2, -signal.SIGKILL), errors
    # A device that took the step's images in two would see those of a lane, then those of the other.
    code, _, errors = run(recipe, tmp_path, environment, resume=True, trainer__devices=1, trainer__accumulate=2)
    assert code == 2 and "trainer.accumulate was 1 in the run" in errors
    alone = {
        "resume": True,
        "data.root": str(shards),
        "data.batch_size": 8,
        "trainer.devices": 1,
        "data.num_workers": 2,
    }
    resumed = train(recipe.replace(alone), progress=False)
    assert_close(resumed.output, single.output)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_that_changes_during_a_run_stops_it_with_one_line(
    workers: int, store: FlakyStore, tmp_path: Path
) -> None:
    images = ShardImages(store.url, "train", options=ShardOptions(window=2, cache=str(tmp_path / "cache")))
    path = store.folder / "train-000003.tar"
    path.write_bytes(path.read_bytes()[:-1024])
    with pytest.raises(StoreError) as raised:
        [*loader(images, workers=workers)]
    assert str(raised.value).startswith(f"{store.url}/train-000003.tar has ")
    assert "\n" not in str(raised.value)


def test_what_shards_cannot_be_is_refused(
    on: Callable[..., Recipe], shards: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(RecipeError, match=r"data\.sampling='balanced' is not possible: use all: balanced draws would"):
        prepare(on("run", shards, {"data.sampling": "balanced"}), "cpu")
    with pytest.raises(DataError, match=r"data\.shards\.lanes=3 does not divide the 8 images"):
        train(on("run", shards, {"data.shards.lanes": 3}), progress=False)
    with pytest.raises(ValueError, match=r"data\.shards\.window=0 is not possible"):
        on("run", shards, {"data.shards.window": 0})
    prepare(on("other", tmp_path / "photos"), "cpu")
    assert f"data.shards is left out, as {tmp_path / 'photos'} is none of shards" in caplog.text


def test_shards_without_labels_are_for_other_tasks(on: Callable[..., Recipe], shards: Path, tmp_path: Path) -> None:
    from swin_transformer_pytorch.data.images.files import find_images
    from swin_transformer_pytorch.data.shards.pack import Files, pack

    pack({"train": Files(paths=find_images(tmp_path / "photos"))}, tmp_path / "photos", tmp_path / "bare")
    with pytest.raises(DataError, match="bare has images without labels; telling classes apart takes two or more"):
        prepare(on("run", tmp_path / "bare"), "cpu")


@pytest.mark.slow
def test_shards_may_move_but_not_change_their_order(
    on: Callable[..., Recipe], shards: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(on("run", shards), progress=False)
    moved = shards.rename(shards.with_name("moved"))
    train(on("run", moved, {"resume": True, "data.shards.cache_gb": 3.0}), progress=False)
    assert "validation images are others" not in caplog.text
    with pytest.raises(RecipeError, match=r"data\.shards\.window was 2 in the run"):
        train(on("run", moved, {"resume": True, "data.shards.window": 3}), progress=False)


def test_help_and_yaml_have_the_keys(on: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = load_recipe(
        "finetune", ["--data.root", "x", "--data.shards.window", "null", "--data.shards.cache_gb", "7"]
    )
    assert isinstance(recipe, Recipe)
    assert (recipe.data.shards.window, recipe.data.shards.cache_gb) == (None, 7)
