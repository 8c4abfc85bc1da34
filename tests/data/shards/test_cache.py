"""Shards of a store that is slow, fails and changes: whole ones on this machine, within a limit, for many processes."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tools.flaky_store import FlakyStore
from torch.utils.data import DataLoader

from swin_transformer_pytorch.data.classification.shards import ShardImages
from swin_transformer_pytorch.data.errors import StoreError
from swin_transformer_pytorch.data.shards.cache import ShardCache
from swin_transformer_pytorch.data.shards.contents import ShardSet
from swin_transformer_pytorch.data.shards.errors import ShardError
from swin_transformer_pytorch.data.shards.index import Shard
from swin_transformer_pytorch.data.shards.options import ShardOptions
from swin_transformer_pytorch.data.stores import TRIES, Store

from .conftest import Wait

pytestmark = pytest.mark.usefixtures("impatient")


def options(tmp_path: Path, **values: object) -> ShardOptions:
    return ShardOptions(**{"cache": str(tmp_path / "cache"), "cache_gb": 1.0, "window": 1, **values})  # type: ignore[arg-type]


def all_shards(store: FlakyStore) -> tuple[Shard, ...]:
    return ShardSet(store.folder).manifest.parts["train"].shards


def taken(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.*"))


def read(cache: ShardCache, shard: Shard) -> bytes:
    handle = cache.open(shard)
    try:
        return os.read(handle, shard.size + 1)
    finally:
        os.close(handle)


def test_a_store_gives_what_the_folder_has_and_each_shard_is_fetched_once(
    store: FlakyStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = ShardImages(store.folder, "train")
    there = ShardImages(store.url, "train", options=options(tmp_path))
    for index in range(len(here)):
        assert there.paths[index] == here.paths[index]
        assert there.paths[index].filename == here.paths[index].filename
    assert {count for name, count in store.asked.items() if name.endswith(".tar")} == {1}
    assert f"shards are kept in {tmp_path / 'cache'}, at most 1 GB" in caplog.text
    # Another run finds them.
    ShardImages(store.url, "train", options=options(tmp_path))[0]
    assert store.asked["train-000000.tar"] == 1
    assert there.checksum == here.checksum


def test_a_failing_store_is_asked_again_and_said(
    store: FlakyStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shard, content = all_shards(store)[0], (store.folder / "train-000000.tar").read_bytes()
    cache = ShardCache(Store(store.url), tmp_path / "cache", 10**9)
    store.fail[shard.name], store.cut[shard.name] = (2, 503), 1
    assert read(cache, shard) == content
    assert store.asked[shard.name] == 4
    assert "answered 503 Service Unavailable: try 2 of 6 follows" in caplog.text
    assert "bytes came: try 4 of 6 follows" in caplog.text or "cut short" in caplog.text
    assert [path.suffix for path in (tmp_path / "cache").glob("*.*")] == [".tar"]


def test_a_slow_store_is_said_once(
    store: FlakyStore, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swin_transformer_pytorch.data.shards.cache._LONG", 0.05)
    cache = ShardCache(Store(store.url), tmp_path / "cache", 10**9)
    store.seconds = 0.06
    for shard in all_shards(store)[:3]:
        read(cache, shard)
    assert caplog.text.count("0 s to come, in which images were waited for; this is said once a process") == 1


def test_it_is_not_asked_for_ever(store: FlakyStore, tmp_path: Path) -> None:
    shard = all_shards(store)[0]
    cache = ShardCache(Store(store.url), tmp_path / "cache", 10**9)
    store.fail[shard.name] = (100, 500)
    with pytest.raises(StoreError, match=rf"{shard.name} answered 500 .* in the last of {TRIES} tries; resume when"):
        read(cache, shard)
    assert store.asked[shard.name] == TRIES
    assert not [*(tmp_path / "cache").glob("*.*")]
    store.fail.clear()
    read(cache, shard)
    unreachable = ShardCache(Store("http://127.0.0.1:1"), tmp_path / "other", 10**9)
    with pytest.raises(StoreError, match="cannot be reached"):
        read(unreachable, shard)


@pytest.mark.parametrize("status", [403, 404, 410])
def test_what_is_refused_is_not_asked_again(status: int, store: FlakyStore, tmp_path: Path) -> None:
    shard = all_shards(store)[0]
    store.fail[shard.name] = (1, status)
    with pytest.raises(StoreError, match=rf"{store.url}/{shard.name} answered {status} .*; check the address"):
        read(ShardCache(Store(store.url), tmp_path / "cache", 10**9), shard)
    assert store.asked[shard.name] == 1


def test_a_changed_shard_is_an_error(store: FlakyStore, tmp_path: Path) -> None:
    cache = ShardCache(Store(store.url), tmp_path / "cache", 10**9)
    first, second = all_shards(store)[:2]
    path = store.folder / first.name
    path.write_bytes(path.read_bytes() + bytes(512))
    with pytest.raises(StoreError, match=rf"{first.name} has {first.size + 512:,} bytes, and had {first.size:,} when"):
        read(cache, first)
    path = store.folder / second.name
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"!")
    with pytest.raises(StoreError, match=rf"{second.name} has other content \(sha256 .*\) than when it was indexed"):
        read(cache, second)
    assert (store.asked[first.name], store.asked[second.name]) == (1, 2)  # the latter may have been damaged on the way
    assert not [*(tmp_path / "cache").glob("*.*")]
    path.unlink()
    with pytest.raises(StoreError, match="answered 404"):
        read(cache, second)


def test_the_limit_holds_and_what_was_not_read_for_longest_goes(store: FlakyStore, tmp_path: Path) -> None:
    shards = all_shards(store)
    folder, largest = tmp_path / "cache", max(shard.size for shard in shards)
    cache = ShardCache(Store(store.url), folder, 3 * largest)
    for shard in shards[:3]:
        read(cache, shard)
        assert taken(folder) <= 3 * largest
    os.utime(folder / f"{shards[0].sha256}.tar")  # as reading it does
    for age, shard in zip((30, 20), shards[1:3], strict=True):
        os.utime(folder / f"{shard.sha256}.tar", (time.time() - age,) * 2)
    read(cache, shards[3])
    assert [cache.has(shard) for shard in shards[:4]] == [True, False, True, True]
    # What is wanted goes last, and never for what is fetched ahead.
    wanted = {shard.sha256 for shard in shards[2:4]}
    os.utime(folder / f"{shards[2].sha256}.tar", (time.time() - 99,) * 2)
    cache.fetch_ahead(shards[4], wanted | {shards[4].sha256})
    assert [cache.has(shard) for shard in shards[:5]] == [False, False, True, True, True]
    cache.fetch_ahead(shards[0], {shard.sha256 for shard in shards})
    assert not cache.has(shards[0])
    read(cache, shards[0])
    assert taken(folder) <= 3 * largest


def test_a_shard_that_goes_while_it_is_read_is_read_to_its_end(store: FlakyStore, tmp_path: Path) -> None:
    shard = all_shards(store)[0]
    cache = ShardCache(Store(store.url), tmp_path / "cache", 10**9)
    handle = cache.open(shard)
    (tmp_path / "cache" / f"{shard.sha256}.tar").unlink()
    assert len(os.read(handle, shard.size)) == shard.size
    os.close(handle)
    read(cache, shard)
    assert store.asked[shard.name] == 2


def test_a_shard_that_others_remove_while_it_is_needed_is_said_once(
    store: FlakyStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, shard = ShardCache(Store(store.url), tmp_path / "cache", 10**9), all_shards(store)[0]
    for wanted in ((), (), (shard.sha256,), (shard.sha256,)):
        os.close(cache.open(shard, lambda wanted=wanted: wanted))
        told = caplog.text.count("train-000000.tar was removed from")
        assert told == bool(wanted)
        (tmp_path / "cache" / f"{shard.sha256}.tar").unlink()
    assert "data.shards.cache_gb=1 is too little for all that read there" in caplog.text


def test_one_that_was_cut_on_the_disk_is_fetched_again(store: FlakyStore, tmp_path: Path) -> None:
    shard = all_shards(store)[0]
    cache = ShardCache(Store(store.url), tmp_path / "cache", 10**9)
    content = read(cache, shard)
    os.truncate(tmp_path / "cache" / f"{shard.sha256}.tar", 100)
    assert read(cache, shard) == content


def _read_all(root: str, cache: ShardOptions, seed: int) -> None:
    images = ShardImages(root, "train", options=cache)
    for index in range(len(images)):
        assert len(images.paths[(index * (seed + 1)) % len(images)])


def test_processes_share_a_cache_that_is_too_small_for_all(store: FlakyStore, tmp_path: Path) -> None:
    """Each reads all images in another order, which takes every shard out of the others' hands again and again."""
    largest = max(shard.size for shard in all_shards(store))
    chosen = options(tmp_path, cache_gb=3 * largest / 1e9)
    folder = tmp_path / "cache"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_read_all, args=(store.url, chosen, seed)) for seed in range(3)]
    for process in processes:
        process.start()
    most = 0
    while any(process.is_alive() for process in processes):
        if folder.exists():
            sizes = []
            for path in folder.glob("*.*"):
                try:
                    sizes.append(path.stat().st_size)
                except FileNotFoundError:
                    pass
            most = max(most, sum(sizes))
        time.sleep(0.005)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    # A file that was just renamed may be counted by both names.
    assert 0 < most <= 4 * largest
    assert taken(folder) <= 3 * largest


KILLED = """
import sys
from swin_transformer_pytorch.data.shards.cache import ShardCache
from swin_transformer_pytorch.data.shards.contents import ShardSet
from swin_transformer_pytorch.data.stores import Store
url, root, cache = sys.argv[1:]
ShardCache(Store(url), __import__("pathlib").Path(cache), 10**9).open(ShardSet(root).manifest.parts["train"].shards[0])
"""


def test_what_a_killed_process_left_is_never_used_and_makes_room(
    store: FlakyStore, tmp_path: Path, until: Wait
) -> None:
    first, second = all_shards(store)[:2]
    folder, store.seconds = tmp_path / "cache", 60.0
    source = str(Path(__file__).parents[3] / "src")
    unfinished = folder / f"{first.sha256}.part"
    words = [sys.executable, "-c", KILLED, store.url, str(store.folder), str(folder)]
    with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": source}) as process:
        try:
            until(lambda: unfinished.exists() and store.asked[first.name] == 1)
            cache = ShardCache(Store(store.url), folder, first.size + second.size - 1)
            store.seconds = 0.0
            # While it is alive its room is taken, and nobody waits to fetch ahead.
            cache.fetch_ahead(second, ())
            cache.fetch_ahead(first, ())
            assert not cache.has(second) and not cache.has(first)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    assert unfinished.stat().st_size == first.size
    read(cache, second)
    assert not unfinished.exists()
    assert read(cache, first) == (store.folder / first.name).read_bytes()


def test_what_was_left_under_the_same_lock_makes_room_too(
    store: FlakyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swin_transformer_pytorch.data.shards.cache._LOCKS", 1)
    shard, left = all_shards(store)[0], tmp_path / "cache" / f"{'0' * 64}.part"
    left.parent.mkdir()
    left.write_bytes(bytes(shard.size))
    read(ShardCache(Store(store.url), left.parent, shard.size + 1), shard)
    assert not left.exists()


def test_a_folder_that_cannot_be_written_is_told(store: FlakyStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = ShardCache(Store(store.url), tmp_path / "file" / "cache", 10**9)
    told = r"cannot hold shards \(Not a directory\); make room, or choose another"
    with pytest.raises(ShardError, match=told):
        ShardImages(store.url, "train", options=ShardOptions(cache=str(tmp_path / "file" / "cache")))
    with pytest.raises(ShardError, match=told):
        read(cache, all_shards(store)[0])


def test_too_small_a_limit_is_refused(store: FlakyStore, tmp_path: Path) -> None:
    images = ShardImages(store.url, "train", options=options(tmp_path, cache_gb=5e-5, window=4))
    assert images[0][1] >= 0  # one after another they can be read
    with pytest.raises(ShardError, match=r"cache_gb=5e-05 is too little: the 8 shards of the windows that are read"):
        images.order(8)
    with pytest.raises(ShardError, match="is less than a shard"):
        ShardImages(store.url, "val", options=options(tmp_path, cache_gb=1e-6))


def test_wanted_shards_are_fetched_ahead(store: FlakyStore, tmp_path: Path, until: Wait) -> None:
    images = ShardImages(store.url, "train", options=options(tmp_path))
    assert images.ahead is not None
    images.ahead.want([2, 4, 5])
    images.paths[0]
    until(
        lambda: (
            {name for name in store.asked if name.startswith("train-0000")}
            == {f"train-00000{n}.tar" for n in (0, 2, 4, 5)}
        )
    )
    images.ahead.want([6])
    until(lambda: store.asked["train-000006.tar"] == 1)
    images.ahead.cache.limit = 50_000
    with pytest.raises(ShardError, match="the 7 shards of the windows that are read here and fetched next take"):
        images.ahead.want([*range(7)])


def test_who_reads_one_after_another_finds_the_next_shard_fetched(
    store: FlakyStore, tmp_path: Path, until: Wait
) -> None:
    """As evaluation does, to which nobody says what is wanted."""
    images = ShardImages(store.url, "train", options=options(tmp_path))
    loader = DataLoader(images.paths, batch_size=2, num_workers=1, collate_fn=list, prefetch_factor=1)
    batches = iter(loader)
    assert next(batches) == [*images.paths[:2]]
    until(lambda: store.asked["train-000001.tar"] == 1)
    assert store.asked["train-000002.tar"] == 0
    del batches
