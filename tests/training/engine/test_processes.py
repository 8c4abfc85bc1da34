"""What several processes must have in common, and what is said where one of them fails; without other processes."""

from concurrent.futures import Future
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import pytest
from torch import distributed
from torch.distributed.checkpoint import CheckpointException

from swin_transformer_pytorch.training import RecipeError, load_recipe
from swin_transformer_pytorch.training.engine import checkpoint_files, processes
from swin_transformer_pytorch.training.engine.checkpoint_files import CheckpointFiles, remove_other_folders
from swin_transformer_pytorch.training.engine.processes import join_processes, require_agreement
from swin_transformer_pytorch.training.engine.sampling import GroupedBatches
from swin_transformer_pytorch.training.engine.sharded_checkpoints import _Unfinished
from swin_transformer_pytorch.training.tasks.dense.data import DenseData
from swin_transformer_pytorch.weights.files import CheckpointError


def others_have(monkeypatch: pytest.MonkeyPatch, rank: int, *items: Any) -> None:
    monkeypatch.setattr(processes, "on_all", lambda item: list(items))
    monkeypatch.setattr(distributed, "get_rank", lambda: rank)


def test_other_data_on_another_machine_is_named_by_the_first_process(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = {"training images": 20, "data.batch_size": 8}, {"training images": 20, "data.batch_size": 4}
    require_agreement(one)
    others_have(monkeypatch, 0, one, one)
    require_agreement(one)
    others_have(monkeypatch, 0, one, one, other)
    with pytest.raises(RecipeError, match=r"different data\.batch_size: the first 8, number 3 4; give all"):
        require_agreement(one)
    others_have(monkeypatch, 2, one, one, other)
    with pytest.raises(SystemExit):
        require_agreement(other)


@pytest.mark.parametrize(("local_rank", "error"), [("0", RecipeError), ("1", SystemExit)])
def test_a_node_that_was_told_other_numbers_says_so_itself(
    local_rank: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    ranks = {"WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": str(2 + int(local_rank)), "LOCAL_RANK": local_rank}
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(error):
        join_processes(load_recipe("demo_classification", {"trainer.devices": 2}).trainer)


def test_a_part_that_cannot_be_written_is_one_error(tmp_path: Path) -> None:
    written: Future[Any] = Future()
    written.set_exception(CheckpointException("write", {1: (OSError(28, "No space left on device"), cast(Any, None))}))
    one = _Unfinished(written=written, rest={"folder": "shards-1"}, path=tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match=r"shards-1 cannot be written \(No space left on device\); .*--resume"):
        one.wait()


def test_checkpoints_are_read_for_the_folders_that_they_name_where_there_are_some_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {"swin": {}, "recipe": {}, "loops": {}, "folder": "shards-2"}
    for name in ("shards-1", "shards-2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / ".metadata").touch()
    CheckpointFiles().save_checkpoint(content, tmp_path / "last.ckpt")
    remove_other_folders(tmp_path)
    assert [path.name for path in tmp_path.glob("shards-*")] == ["shards-2"]
    (tmp_path / "shards-2" / ".metadata").unlink()
    (tmp_path / "shards-2").rmdir()
    monkeypatch.setattr(checkpoint_files, "read_training_checkpoint", lambda path: pytest.fail("gigabytes are read"))
    remove_other_folders(tmp_path)


class Loader:
    """Stands two batches into an epoch of eight, which a pass over seven images is not."""

    def __init__(self, devices: int) -> None:
        self.batches = GroupedBatches([0] * 7, 1, seed=0, world_size=devices, steps_per_epoch=8 // devices)
        self.epoch, self.step = 0, 2

    def __len__(self) -> int:
        return len(self.batches)


def dense_data(devices: int) -> Any:
    data: Any = DenseData.__new__(DenseData)
    data.__dict__.update(_loader=Loader(devices), _lengths_before={}, num_images=7, validation_names=None)
    data.rank_and_world_size = lambda: (0, devices)
    return data


def test_other_devices_whose_passes_over_the_images_end_elsewhere_are_refused() -> None:
    state = dense_data(2).state_dict()
    one = dense_data(1)
    assert one.stretch(state) == Fraction(2)
    # Seven batches are four steps of two devices, one of them again, and seven of one.
    with pytest.raises(RecipeError, match=r"passes over the images would have 7 batches .* are 8: other images a step"):
        one.load_state_dict(state)
    same = dense_data(2)
    same.load_state_dict(state)
    assert same._loader.step == 2
