"""Shards in an object store: written whole or not at all, read by ranges or through a cache."""

import os
import pickle
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from conftest import stored, tree_bytes
from train_helpers import (
    failure,
    fit_arguments,
    message_of,
    random_videos,
    run_program,
    write_dataset,
    write_shards,
)

from train.augmentation import TrainingAugmentation
from train.batches import BatchPlan
from train.feed import on_device
from train.videos import SnippetDataset, make_loader
from tsn_core import location as location_module
from tsn_core import shard_cache
from tsn_core.atomic import atomic_path, write_text
from tsn_core.check import folder_defects, modality_folders
from tsn_core.errors import InputError, OutputError, ShardError, StoreError
from tsn_core.index import read_index
from tsn_core.loading import stream
from tsn_core.location import RemoteStream, is_remote, location
from tsn_core.manifest import read_manifest
from tsn_core.shard_cache import ShardCache, cache_from_environment, default_folder
from tsn_core.shard_reader import Shard, read_header
from tsn_core.shard_set import ShardSet

LENGTHS = (4, 9, 5, 7, 6)


# --- where things lie ---


def test_a_path_stays_a_path(tmp_path):
    for path in ("shards/rgb", "C:\\shards", "C:/shards", "C://shards", "a:b", "", tmp_path):
        assert type(location(path)) is type(tmp_path)
        assert location(path) == type(tmp_path)(path)
        assert not is_remote(location(path))


def test_a_url_has_what_we_need_of_a_path(store):
    root = location(f"s3://{store.bucket}/shards//")
    assert is_remote(root)
    assert location(root) is root
    assert str(root / "rgb") == f"s3://{store.bucket}/shards/rgb"
    assert (root / "rgb" / "a.h5").name == "a.h5"
    assert (root / "rgb").parent == root
    assert root.parent.parent == root.parent == location(f"S3://{store.bucket}")
    assert root.absolute() == root
    assert pickle.loads(pickle.dumps(root)) == root
    assert {root: 1}[location(f"s3://{store.bucket}/shards")] == 1
    assert sorted([root / "b", root / "a"]) == [root / "a", root / "b"]
    assert root != str(root)


def test_objects_come_and_go(store):
    root = store.path("a")
    assert list(root.rglob("*")) == []
    assert not root.exists()
    with pytest.raises(FileNotFoundError):
        (root / "x.txt").read_bytes()
    with pytest.raises(FileNotFoundError):
        root.stat()
    write_text(root / "x.txt", "grüße\n")
    for name in ("b/x.txt", "b/y.txt", "b/c/x.txt"):
        write_text(root / name, name)
    store.put("ab/x.txt", b"not below a")
    assert (root / "x.txt").read_text(encoding="utf-8") == "grüße\n"
    assert (root / "x.txt").stat().st_size == 8
    assert (root / "x.txt").is_file()
    assert not root.is_file()
    assert list(root.glob("*.txt")) == [root / "x.txt"]
    assert list(root.glob("*/x.txt")) == [root / "b/x.txt"]
    assert list(root.rglob("y*")) == [root / "b/y.txt"]
    assert len(list(root.rglob("x.txt"))) == 3
    (root / "x.txt").unlink()
    (root / "x.txt").unlink(missing_ok=True)
    assert not (root / "x.txt").exists()


def test_an_object_is_made_by_one_of_those_who_insist_on_being_first(store):
    lock = store.path("lock")
    lock.write_bytes(b"first", exclusive=True)
    with pytest.raises(FileExistsError):
        lock.write_bytes(b"second", exclusive=True)
    assert lock.read_bytes() == b"first"
    lock.write_bytes(b"third")
    assert lock.read_bytes() == b"third"


def test_what_is_no_url_of_a_store():
    assert message_of(location, "ftp://host/shards") == (
        "ftp://host/shards: unknown kind of store; choose from s3://, gs://, az://, memory://, "
        "or a folder"
    )
    assert message_of(location, "memory://") == (
        "memory://: memory://BUCKET or memory://BUCKET/PREFIX expected"
    )


def test_a_missing_package_is_named():
    code = (
        "import sys\nsys.modules['s3fs'] = None\nfrom preprocess.cli import main\n"
        "main(['verify', 's3://bucket'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: s3:// needs a package that is not installed (Install s3fs to access S3); "
        "pip install 'tsn-shards[s3]'\n"
    )


def test_a_store_that_is_not_there_is_one_line(store, monkeypatch, program):
    path = store.path()
    monkeypatch.setattr(location_module, "_filesystems", {})
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")

    def message(name, url):
        return (
            f'{path}{name}: Could not connect to the endpoint URL: "http://127.0.0.1:9/{url}"; '
            "check the address and what you may do there, then run the same command again"
        )

    key = f"{store.bucket}/shards"
    shard = path / "shard-00000.h5"
    for function in (Shard, read_header):
        text = message_of(function, shard, error=StoreError)
        assert text == message("/shard-00000.h5", f"{key}/shard-00000.h5")
    for function in (read_index, ShardSet):
        text = message_of(function, path, error=StoreError)
        assert text == message("/index.json", f"{key}/index.json")
    text = message_of(write_text, path / "a", "b", error=StoreError)
    assert text == message("/a", f"{key}/a")
    result = program("verify", path)
    listing = f"{store.bucket}?list-type=2&prefix=shards%2F&delimiter=&encoding-type=url"
    assert (result.exit_code, result.output) == (1, f"error: {message('', listing)}\n")


def test_a_bucket_that_is_not_there(store):
    path = location("s3://no-such-bucket/shards")
    assert list(path.glob("*")) == []
    assert message_of(write_text, path / "a", "b", error=OutputError) == (
        f"{path}/a: cannot be written: The specified bucket does not exist"
    )


# --- writing ---


def test_shards_in_a_store_are_those_of_a_folder(store, tmp_path):
    modalities = (stored("rgb"), stored("flow", snippet_length=2))
    local = write_dataset(tmp_path / "local", modalities=modalities)
    remote = write_dataset(store.path(), modalities=modalities)
    assert store.tree("shards") == tree_bytes(local)
    assert modality_folders(remote) == [remote / "flow-farneback", remote / "rgb"]
    assert read_manifest(remote / "manifest.jsonl") == read_manifest(local / "manifest.jsonl")


def test_a_large_file_is_uploaded_in_parts(store):
    data = np.random.default_rng(0).bytes((32 << 20) + 5)
    with store.counted() as made, atomic_path(store.path("big")) as temporary:
        temporary.write_bytes(data)
    assert store.get("big") == data
    assert [(request.method, "partNumber" in request.query) for request in made[:5]] == [
        ("POST", False),
        ("PUT", True),
        ("PUT", True),
        ("PUT", True),
        ("POST", False),
    ]


@pytest.mark.parametrize("size", [5, (32 << 20) + 5], ids=["whole", "parts"])
@pytest.mark.parametrize("old", [None, b"old"], ids=["new", "replaced"])
def test_an_upload_that_fails_leaves_what_was_there(store, size, old):
    path = store.path("a/big")
    if old is not None:
        store.put("a/big", old)
    before = store.names()
    store.fault = lambda method, name, query: (
        method == "PUT" and ("partNumber=3" in query or not query)
    )
    with pytest.raises(StoreError) as caught, atomic_path(path) as temporary:
        temporary.write_bytes(b"x" * size)
    assert str(caught.value) == (
        f"{path}: Access Denied; check the address and what you may do there, then run the same "
        "command again"
    )
    assert store.names() == before
    assert old is None or store.get("a/big") == old
    assert store.unfinished() == []
    assert not temporary.exists()
    store.fault = lambda *_: False
    with atomic_path(path) as temporary:
        temporary.write_bytes(b"new")
    assert store.get("a/big") == b"new"


def test_what_fails_before_the_upload_uploads_nothing(store):
    with store.counted() as made, pytest.raises(ZeroDivisionError):  # noqa: SIM117
        with atomic_path(store.path("a")) as temporary:
            temporary.write_bytes(b"half")
            raise ZeroDivisionError
    assert made == []
    assert not temporary.parent.exists()


# --- reading ---


@pytest.fixture
def both(store, tmp_path):
    """The same noise in a folder and in the store: three shards of at most two videos."""
    modality = stored("flow", snippet_length=2)
    videos = random_videos(modality, LENGTHS)
    local = write_shards(
        tmp_path / "flow-farneback", modality, videos, per_shard=2, sampling={"snippets": 3}
    )
    store.put_tree(local.folder, "shards/flow-farneback")
    return local, store.path("shards/flow-farneback")


def size_of(file):
    return file.stat().st_size


def assert_same(local, remote):
    assert remote.names == local.names
    assert remote.digest == local.digest
    for video in (4, 0, 3, 1, 2, 0):
        snippets = [2, 0, 3]
        assert np.array_equal(remote.read(video, snippets), local.read(video, snippets))


def cached_files(tmp_path):
    return [file for file in (tmp_path / "cache").glob("*") if not file.name.startswith(".")]


def test_shards_are_downloaded_once_into_the_cache(store, both, tmp_path):
    local, folder = both
    opened = ShardSet(folder)
    assert cached_files(tmp_path) == []  # nothing has been asked for
    with store.counted() as made:
        assert_same(local, opened)
    shards = sorted(local.folder.glob("shard-*.h5"))
    # for each: what it is, its tables (one block, as it is small), and all of it
    assert [request.method for request in made] == ["HEAD", "GET", "GET"] * 3
    assert sorted(request.size for request in made if request.size) == sorted(
        [*map(size_of, shards)] * 2
    )
    assert sorted(file.name[33:] for file in cached_files(tmp_path)) == [s.name for s in shards]
    with store.counted() as made:
        again = ShardSet(folder)
        assert_same(local, again)
    assert [r.method for r in made if r.name.endswith(".h5")] == ["HEAD"] * 3


def test_by_range_only_what_is_asked_for_is_read(store, both, tmp_path, monkeypatch):
    local, folder = both
    monkeypatch.setenv("TSN_CACHE_SIZE", "0")
    opened = ShardSet(folder)
    for video in (0, 2, 4):
        opened.snippet_frames(video)  # now the tables are there
    with store.counted() as made:
        assert_same(local, opened)
    assert len(made) == 6  # one for each video that was read
    image = 2 * 24 * 32  # raw: each is as large as every other
    assert {request.size for request in made} == {5 * image}  # from snippet 0 to the end of 3
    assert not (tmp_path / "cache").exists()


def test_large_shards_are_not_downloaded_to_see_a_little_of_them(store, tmp_path, monkeypatch):
    modality = stored("rgb", height=240, width=320)
    videos = random_videos(modality, [12, 12, 12])
    local = write_shards(tmp_path / "rgb", modality, videos)
    store.put_tree(local.folder, "rgb")
    monkeypatch.setenv("TSN_CACHE_SIZE", "0")
    size = size_of(local.folder / "shard-00000.h5")
    assert size > 8_000_000
    with store.counted() as made:
        opened = ShardSet(store.path("rgb"))
    assert [request.method for request in made if request.name.endswith(".h5")] == []
    with store.counted() as made:
        opened.snippet_frames(0)
    made = [request for request in made if request.name.endswith(".h5")]
    assert [request.method for request in made] == ["HEAD", "GET", "GET"]  # first and last block
    assert sum(request.size for request in made) <= 2 * 128 * 1024
    image = 240 * 320 * 3
    with store.counted() as made:  # snippets 0 and 2 are close, 11 is far away
        assert np.array_equal(opened.read(1, [0, 2, 11]), local.read(1, [0, 2, 11]))
    assert sorted(request.size for request in made) == [image, 3 * image]
    with store.counted() as made:
        assert read_header(store.path("rgb") / "shard-00000.h5") is not None
    assert [request.method for request in made] == ["HEAD", "GET", "GET"]


def test_a_cache_too_small_for_all_shards_keeps_the_first(store, both, tmp_path, monkeypatch):
    local, folder = both
    sizes = [size_of(path) for path in sorted(local.folder.glob("shard-*.h5"))]
    limit = sizes[0] + sizes[1]
    monkeypatch.setenv("TSN_CACHE_SIZE", str(limit / 1e9))
    opened = ShardSet(folder)
    for _ in range(2):
        assert_same(local, opened)
    assert sorted(file.name[33:] for file in cached_files(tmp_path)) == [
        "shard-00000.h5",
        "shard-00001.h5",
    ]


def test_the_shards_used_longest_ago_make_room(store, both, tmp_path):
    local, folder = both
    paths = [folder / path.name for path in sorted(local.folder.glob("shard-*.h5"))]
    sizes = [path.stat().st_size for path in paths]
    cache = ShardCache(tmp_path / "cache", max(sizes) + sizes[2])
    shards = [Shard(path, cache) for path in paths]
    foreign = tmp_path / "cache" / ".somebody's.h5"
    foreign.parent.mkdir()
    foreign.write_bytes(b"x" * cache.max_bytes)
    order = [0, 2, 1, 2, 0, 2, 1, 1, 0]
    for number in order:
        expected = local.read(2 * number, [1, 0])
        assert np.array_equal(shards[number].read_snippets(0, [1, 0]), expected)
        assert sum(map(size_of, cached_files(tmp_path))) <= cache.max_bytes
        assert any(file.name.endswith(paths[number].name) for file in cached_files(tmp_path))
    assert foreign.exists()


def test_a_shard_larger_than_the_cache_is_read_by_ranges(both, tmp_path):
    local, folder = both
    path = folder / "shard-00000.h5"
    cache = ShardCache(tmp_path / "cache", path.stat().st_size - 1)
    assert np.array_equal(Shard(path, cache).read_snippets(0, [1]), local.read(0, [1]))
    assert cached_files(tmp_path) == []


def test_unfinished_downloads_count_until_they_are_dead(both, tmp_path):
    local, folder = both
    path = folder / "shard-00000.h5"
    cache = ShardCache(tmp_path / "cache", path.stat().st_size + 10)
    unfinished = tmp_path / "cache" / f".{'0' * 32}-shard-00000.h5.1.tmp"
    unfinished.parent.mkdir()
    unfinished.write_bytes(b"x" * 11)
    shard = Shard(path, cache)
    assert np.array_equal(shard.read_snippets(0, [1]), local.read(0, [1]))
    assert cached_files(tmp_path) == []  # there was no room
    os.utime(unfinished, (time.time() - 3600,) * 2)
    assert np.array_equal(shard.read_snippets(0, [1]), local.read(0, [1]))
    assert len(cached_files(tmp_path)) == 1
    assert not unfinished.exists()


def test_readers_at_the_same_time_download_a_shard_once(store, both, tmp_path):
    local, folder = both
    path = folder / "shard-00000.h5"
    cache = ShardCache(tmp_path / "cache", 1 << 30)
    shards = [Shard(path, cache) for _ in range(4)]
    seen = []
    threads = [
        threading.Thread(target=lambda shard=shard: seen.append(shard.read_snippets(1, [3])))
        for shard in shards
    ]
    with store.counted() as made:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(seen) == 4
    assert all(np.array_equal(images, local.read(1, [3])) for images in seen)
    assert len(made) == 1


def test_a_copy_that_somebody_removed_is_downloaded_again(both, tmp_path):
    local, folder = both
    opened = ShardSet(folder)
    assert_same(local, opened)
    for file in cached_files(tmp_path):
        file.unlink()
    assert_same(local, opened)
    assert len(cached_files(tmp_path)) == 3


@pytest.mark.parametrize(("num_workers", "start"), [(2, "fork"), (2, "spawn")])
@pytest.mark.parametrize("gigabytes", ["1", "0"], ids=["cache", "ranges"])
def test_loading_processes_read_from_the_store(both, num_workers, start, gigabytes, monkeypatch):
    local, folder = both
    monkeypatch.setenv("TSN_CACHE_SIZE", gigabytes)
    remote = ShardSet(folder)
    remote.read(0, [0])  # this process has connections of its own, before it is forked

    def batches(shards, workers):
        dataset = SnippetDataset(
            shards,
            range(len(shards)),
            num_segments=3,
            input_size=16,
            augmentation=TrainingAugmentation(True),
            training=True,
            seed=0,
        )
        plan = BatchPlan(len(dataset), 2, shuffle=True, seed=0)
        loader, sampler = make_loader(
            dataset, plan, num_workers=workers, worker_start=start if workers else None
        )
        for epoch in range(2):
            sampler.epoch = epoch
            yield [
                [part.numpy().tolist() for part in batch]
                for batch in on_device(stream(loader), torch.device("cpu"))
            ]

    expected = list(batches(local, 0))
    assert list(batches(remote, num_workers)) == expected
    assert_same(local, remote)  # the workers' end did not close the connections of this process


# --- shards that change, or are not what they should be ---


@pytest.mark.parametrize("gigabytes", ["1", "0"], ids=["cache", "ranges"])
def test_a_shard_that_was_replaced_is_noticed(store, both, gigabytes, monkeypatch, tmp_path):
    _, folder = both
    monkeypatch.setenv("TSN_CACHE_SIZE", gigabytes)
    opened = ShardSet(folder)
    opened.read(0, [0])
    name = "shards/flow-farneback/shard-00000.h5"
    other = bytearray(store.get(name))
    other[-3000] ^= 1
    store.put(name, bytes(other))
    for file in cached_files(tmp_path):
        file.unlink()
    message = (
        f"{folder}/shard-00000.h5: changed since this program opened it; run the same command again"
    )
    assert message_of(opened.read, 0, [0], error=ShardError) == message
    opened._pool.get(0, None).close()
    assert message_of(opened.read, 0, [0], error=ShardError) == message
    store.client.delete_object(Bucket=store.bucket, Key=name)
    assert message_of(opened.read, 0, [0], error=ShardError) == message


def test_a_copy_of_an_older_shard_is_not_taken_for_the_new_one(store, tmp_path):
    modality = stored("rgb")
    for seed in range(2):
        videos = random_videos(modality, LENGTHS)
        videos = [(n, label, units + np.uint8(seed), s) for n, label, units, s in videos]
        local = write_shards(tmp_path / f"{seed}", modality, videos)
        store.put_tree(local.folder, "rgb")
        assert_same(local, ShardSet(store.path("rgb")))


def test_no_shard_in_the_store(store):
    path = store.path("shard-00000.h5")
    assert message_of(Shard, path, error=ShardError) == (
        f"{path}: no such shard; extract it, or check the path"
    )
    assert read_header(path) is None
    assert message_of(ShardSet, store.path(), error=ShardError) == (
        f"{store.path()}/index.json: not there; extract that modality, or let an unfinished "
        "extraction finish"
    )


def test_a_truncated_object(store, both):
    _, folder = both
    name = "shards/flow-farneback/shard-00000.h5"
    whole = store.get(name)
    store.put(name, whole[:-5000])
    assert message_of(Shard, folder / "shard-00000.h5", error=ShardError) == (
        f"{folder}/shard-00000.h5: damaged: truncated: {len(whole)} bytes expected, got "
        f"{len(whole) - 5000}; delete the file and extract again"
    )
    assert read_header(folder / "shard-00000.h5") is None


def test_hostile_objects_give_one_line(store, both):
    _, folder = both
    path, name = folder / "shard-00000.h5", "shards/flow-farneback/shard-00000.h5"
    whole = store.get(name)
    generator = np.random.default_rng(0)
    outcomes = set()
    for place in generator.integers(0, 6000, 40).tolist():
        data = bytearray(whole)
        data[place : place + 8] = generator.bytes(8)
        store.put(name, bytes(data))
        try:
            found = Shard(path).checksum_defects()
        except ShardError as error:
            assert str(error).startswith(f"{path}: ")
            assert "\n" not in str(error)
            outcomes.add("refused")
        else:
            outcomes.add("found" if found else "sound")
    assert "refused" in outcomes
    for data in (b"", b"no shard", b"<Error>"):
        store.put(name, data)
        assert message_of(Shard, path, error=ShardError).startswith(f"{path}: damaged: ")


def test_a_store_that_stops_answering_is_not_a_damaged_shard(store, both, monkeypatch, tmp_path):
    _, folder = both
    monkeypatch.setenv("TSN_CACHE_SIZE", "0")
    path = folder / "shard-00000.h5"
    message = (
        f"{path}: Access Denied; check the address and what you may do there, then run the same "
        "command again"
    )
    opened = ShardSet(folder)

    def refuse(method, name, _):
        return method == "GET" and name.endswith(".h5")

    store.fault = refuse
    for function in (Shard, read_header):
        assert message_of(function, path, error=StoreError) == message
    assert message_of(opened.read, 0, [0], error=StoreError) == message
    assert message_of(folder_defects, folder, error=StoreError) == message
    store.fault = lambda *_: False
    monkeypatch.setenv("TSN_CACHE_SIZE", "1")
    cached = ShardSet(folder)
    store.fault = refuse
    assert message_of(cached.read, 0, [0], error=StoreError) == message
    assert cached_files(tmp_path) == []
    store.fault = lambda *_: True
    with pytest.raises(StoreError):
        cached.check_unchanged()  # it is not known whether it is


def test_verify_reads_the_store(store, both, program):
    _, folder = both
    result = program("verify", folder)
    assert (result.exit_code, result.output) == (0, f"{folder}: sound\n")
    name = "shards/flow-farneback/shard-00001.h5"
    data = bytearray(store.get(name))
    data[-5000] ^= 1
    store.put(name, bytes(data))
    result = program("verify", store.path())
    assert result.exit_code == 1
    assert result.stdout == f"{folder}: 1 defect\n"
    assert result.stderr == (
        f"{folder}/shard-00001.h5: the images of run/3.avi do not match their checksum\n"
    )


# --- the cache's own settings ---


def test_the_environment_describes_the_cache(tmp_path, monkeypatch):
    monkeypatch.delenv("TSN_CACHE", raising=False)
    monkeypatch.delenv("TSN_CACHE_SIZE", raising=False)
    assert cache_from_environment() == ShardCache(default_folder(), 20_000_000_000)
    monkeypatch.setenv("TSN_CACHE", str(tmp_path))
    monkeypatch.setenv("TSN_CACHE_SIZE", "0.5")
    assert cache_from_environment() == ShardCache(tmp_path, 500_000_000)
    monkeypatch.setenv("TSN_CACHE_SIZE", "0")
    assert cache_from_environment() is None
    for text in ("-1", "nan", "inf", "much"):
        monkeypatch.setenv("TSN_CACHE_SIZE", text)
        assert message_of(cache_from_environment, error=InputError) == (
            f"TSN_CACHE_SIZE (--cache-size) must be 0 or more GB, got {text!r}"
        )


def test_the_cache_lies_in_the_user_s_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_cache.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "tsn-shards"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_folder() == tmp_path / ".cache" / "tsn-shards"


def test_a_cache_that_cannot_be_written(both, tmp_path):
    _, folder = both
    (tmp_path / "cache").write_text("a file is in the way")
    opened = ShardSet(folder)
    assert message_of(opened.read, 0, [0], error=OutputError) == (
        f"{tmp_path}/cache: cannot be written: File exists; free space, name another folder with "
        "--cache, or read without one by --cache-size 0"
    )


def test_streams_belong_to_one_process(both):
    _, folder = both
    made = RemoteStream(folder / "shard-00000.h5")
    assert made.pid == os.getpid()
    assert len(made.read(0, 10)) == 10
    made.close()


def test_local_shards_load_nothing_of_stores(tmp_path):
    local = write_shards(tmp_path / "rgb", stored("rgb"), random_videos(stored("rgb"), [3]))
    code = (
        "import sys\nfrom tsn_core.shard_set import ShardSet\n"
        "ShardSet(sys.argv[1]).read(0, [0])\nprint(*sys.modules, sep='\\n')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(local.folder)], capture_output=True, text=True, check=True
    )
    assert {"fsspec", "s3fs", "filelock"}.isdisjoint(done.stdout.split())


# --- the programs ---


@pytest.mark.slow(reason="two processes, forked, train a network for two epochs")
def test_fit_on_a_store_is_fit_on_a_folder(store, tmp_path):
    local = write_dataset(tmp_path / "local")
    store.put_tree(local)
    runs = {}
    for name, shards, options in (
        ("local", local, ()),
        ("cache", store.path(), ()),
        ("ranges", store.path(), ("--cache-size", "0", "--workers", 2)),
    ):
        run = tmp_path / f"run-{name}"
        result = run_program(*fit_arguments(shards, run, "--epochs", 2, *options))
        assert result.exit_code == 0, result.output
        rows = (run / "metrics.csv").read_text().splitlines()
        columns = [rows[0].split(",").index(key) for key in ("train_loss", "val_loss", "val_top1")]
        runs[name] = [[row.split(",")[column] for column in columns] for row in rows]
        assert len(cached_files(tmp_path)) == (0 if name == "local" else 2)  # no test videos
        assert "TSN_CACHE_SIZE" not in os.environ
    assert runs["cache"] == runs["local"]
    assert runs["ranges"] == runs["local"]
    run = tmp_path / "run-cache"
    assert f'"shards": "{store.path()}"' in (run / "config.json").read_text()
    result = run_program("evaluate", run, "--num-snippets", 3, "--crops", 1, "--workers", 0)
    assert result.exit_code == 0, result.output  # on the shards that it was trained on
    assert (run / "scores.npz").exists()


def test_what_cannot_be_trained_on(store, tmp_path):
    out = tmp_path / "run"
    assert failure(*fit_arguments(store.path(), out)) == (
        f"error: {store.path()}/manifest.jsonl: no manifest there; give the folder of a "
        "dataset's shards, such as shards/hmdb51, or make one with tsn-preprocess scan "
        "or extract\n"
    )
    local = write_dataset(tmp_path / "local")
    store.put_tree(local)
    assert failure(*fit_arguments(store.path(), out, "--cache-size", "few")) == (
        "error: TSN_CACHE_SIZE (--cache-size) must be 0 or more GB, got 'few'\n"
    )
    assert failure(*fit_arguments("ftp://host/a", out)) == (
        "error: ftp://host/a: unknown kind of store; choose from s3://, gs://, az://, memory://, "
        "or a folder\n"
    )


def test_the_cache_s_folder_is_an_option(store, tmp_path):
    store.put_tree(write_dataset(tmp_path / "local"))
    options = ("--epochs", 1, "--cache", tmp_path / "other", "--cache-size", 1)
    assert run_program(*fit_arguments(store.path(), tmp_path / "run", *options)).exit_code == 0
    assert cached_files(tmp_path) == []
    assert len([file for file in (tmp_path / "other").iterdir() if file.suffix == ".h5"]) == 2
    assert os.environ["TSN_CACHE"] == str(tmp_path / "cache")
