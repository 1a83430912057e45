"""Videos as a dataset: which snippets, the same batches from any workers, and what is missing."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import stored
from train_helpers import random_videos, write_shards

from train.augmentation import TrainingAugmentation, centre_view
from train.batches import BatchPlan
from train.feed import on_device
from train.subsets import subset_numbers
from train.videos import SnippetDataset, make_loader, open_modality
from tsn_core.errors import InputError, ShardError
from tsn_core.loading import stream
from tsn_core.manifest import Manifest, Record, write_manifest
from tsn_core.shard_set import ShardSet

LENGTHS = (4, 9, 5, 7, 6)


@pytest.fixture(scope="module")
def flow_shards(tmp_path_factory):
    modality = stored("flow", snippet_length=2)
    folder = tmp_path_factory.mktemp("shards") / "flow-farneback"
    return write_shards(folder, modality, random_videos(modality, LENGTHS), per_shard=2)


def dataset_of(shards, *, training=True, seed=0, num_segments=3, size=16, augmentation=None):
    return SnippetDataset(
        shards,
        range(len(shards)),
        num_segments=num_segments,
        input_size=size,
        augmentation=augmentation or TrainingAugmentation(True),
        training=training,
        seed=seed,
    )


def batches(shards, epochs=(0, 1), *, seed=0, num_workers=0, worker_start=None, shuffle=True):
    """Every batch of some epochs, as nested lists."""
    dataset = dataset_of(shards, seed=seed)
    loader, sampler = make_loader(
        dataset,
        BatchPlan(len(dataset), 2, shuffle=shuffle, seed=seed),
        num_workers=num_workers,
        worker_start=worker_start,
    )
    found = []
    for epoch in epochs:
        sampler.epoch = epoch
        found.append(
            [
                [part.numpy().tolist() for part in batch]
                for batch in on_device(stream(loader), torch.device("cpu"))
            ]
        )
    return found


# --- the same from any workers ---


@pytest.fixture(scope="module")
def expected(flow_shards):
    return batches(flow_shards)


@pytest.mark.parametrize(("num_workers", "start"), [(1, "fork"), (2, "fork"), (2, "spawn")])
def test_workers_give_the_same_batches(flow_shards, expected, num_workers, start):
    assert batches(flow_shards, num_workers=num_workers, worker_start=start) == expected


def test_forked_workers_outlive_the_threads_of_opencv(flow_shards):
    """A forked process waits for ever for threads that only its parent has."""
    code = (
        "import cv2, numpy, sys, torch\n"
        "from train.augmentation import centre_view\n"
        "from train.batches import BatchPlan\n"
        "from train.videos import SnippetDataset, make_loader\n"
        "from tsn_core.loading import stream\n"
        "from tsn_core.shard_set import ShardSet\n"
        "cv2.setNumThreads(2)\n"
        "cv2.GaussianBlur(numpy.zeros((999, 999, 3), numpy.uint8), (0, 0), 3)\n"
        "dataset = SnippetDataset(ShardSet(sys.argv[1]), range(3), num_segments=2,\n"
        "    input_size=16, augmentation=centre_view, training=True, seed=0)\n"
        "plan = BatchPlan(3, 3, shuffle=True, seed=0)\n"
        "loader, _ = make_loader(dataset, plan, num_workers=1, worker_start='fork')\n"
        "print(len(list(stream(loader))))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(flow_shards.folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "1\n"


def test_batches_hold_every_video_once_in_an_order_of_the_epoch(expected):
    first, second = ([place for batch in epoch for place in batch[2]] for epoch in expected)
    assert sorted(first) == sorted(second) == [0, 1, 2, 3, 4]
    assert first != second
    assert [len(batch[2]) for batch in expected[0]] == [2, 2, 1]
    for epoch in expected:
        for _, labels, places, counts in epoch:
            assert all(counts)
            assert labels == [place % 2 for place in places]


def test_epochs_show_other_snippets_and_crops_of_a_video(flow_shards):
    dataset = dataset_of(flow_shards)
    shown = {dataset[epoch, 1, True][0].numpy().tobytes() for epoch in range(20)}
    assert len(shown) > 15
    assert torch.equal(dataset[3, 1, True][0], dataset[3, 1, True][0])


def test_an_epoch_does_not_depend_on_those_before(flow_shards, expected):
    assert batches(flow_shards, epochs=(1,)) == expected[1:]


def test_another_seed_gives_other_batches(flow_shards, expected):
    assert batches(flow_shards, seed=1) != expected


def test_without_shuffling_the_order_is_the_datasets(flow_shards):
    epochs = batches(flow_shards, shuffle=False)
    assert [[batch[2] for batch in epoch] for epoch in epochs] == [[[0, 1], [2, 3], [4]]] * 2


def test_starting_workers_draws_nothing_from_the_global_generator(flow_shards):
    before = torch.get_rng_state()
    batches(flow_shards, num_workers=1, worker_start="fork")
    assert torch.equal(torch.get_rng_state(), before)


# --- which snippets ---


class Recorder:
    """A ShardSet that notes which snippets are asked for."""

    def __init__(self, shards):
        self._shards = shards
        self.asked = []

    def __len__(self):
        return len(self._shards)

    def __getattr__(self, name):
        return getattr(self._shards, name)

    def unit_views(self, video, snippets):
        self.asked.append((video, np.asarray(snippets).tolist()))
        return self._shards.unit_views(video, snippets)


@pytest.mark.parametrize("num_segments", [1, 2, 3, 5, 7])
def test_dense_shards_follow_the_classic_formula(flow_shards, num_segments):
    """N units, L = 2: k * n + randint(n) with n = (N - L + 1) // K, and its other cases."""
    recorder = Recorder(flow_shards)
    dataset = dataset_of(recorder, num_segments=num_segments)
    allowed = {}
    for place, starts in enumerate(LENGTHS):
        units = starts + 1
        width = (units - 2 + 1) // num_segments
        if width:
            allowed[place] = [set(range(k * width, (k + 1) * width)) for k in range(num_segments)]
        elif units > num_segments:
            allowed[place] = [set(range(starts))] * num_segments
        else:
            allowed[place] = [{0}] * num_segments
    for epoch in range(60):
        for place in range(len(LENGTHS)):
            dataset[epoch, place, True]
    seen = {place: [set() for _ in range(num_segments)] for place in range(len(LENGTHS))}
    for place, chosen in recorder.asked:
        assert chosen == sorted(chosen)
        for k, start in enumerate(chosen):
            seen[place][k].add(start)
    for place, segments in seen.items():
        for k, starts in enumerate(segments):
            assert starts <= allowed[place][k]
            if LENGTHS[place] // num_segments:
                assert starts == allowed[place][k]


@pytest.mark.parametrize("sampling", [{"snippets": 9}, {"fps": 6.25}])
@pytest.mark.parametrize("num_segments", [1, 3, 5, 7])
def test_sparse_shards_give_every_stored_snippet_its_turn(tmp_path, sampling, num_segments):
    """Also those behind K whole parts, which the formula for all frames leaves out."""
    modality = stored("flow", snippet_length=2)
    stored_counts = (1, 2, 5, 9)
    videos = [
        (name, label, units, range(0, 4 * count, 4))
        for count, (name, label, units, _) in zip(
            stored_counts, random_videos(modality, [4 * count for count in stored_counts])
        )
    ]
    shards = write_shards(tmp_path / "flow-farneback", modality, videos, sampling=sampling)
    assert shards.num_snippets.tolist() == list(stored_counts)
    recorder = Recorder(shards)
    dataset = dataset_of(recorder, num_segments=num_segments)
    for epoch in range(60):
        for place in range(len(stored_counts)):
            dataset[epoch, place, True]
    seen = {place: [set() for _ in range(num_segments)] for place in range(len(stored_counts))}
    for place, chosen in recorder.asked:
        assert chosen == sorted(chosen) and len(chosen) == num_segments
        for k, number in enumerate(chosen):
            seen[place][k].add(number)
    for place, count in enumerate(stored_counts):
        for k in range(num_segments):
            expected = {
                i
                for i in range(count)
                if 2 * k * count <= (2 * i + 1) * num_segments < 2 * (k + 1) * count
            }
            assert seen[place][k] == (expected or {(2 * k + 1) * count // (2 * num_segments)})
        assert set().union(*seen[place]) == set(range(count))


@pytest.mark.parametrize("training", [True, False])
def test_fewer_snippets_than_segments_repeat(tmp_path, training):
    """TSN's rule for a dense timeline of few units: the first snippet, or random ones in order."""
    modality = stored("flow", snippet_length=2)
    videos = random_videos(modality, [1, 2, 7])
    recorder = Recorder(write_shards(tmp_path / "flow-farneback", modality, videos))
    dataset = dataset_of(recorder, num_segments=7, training=training)
    for epoch in range(20):
        for place in range(3):
            assert dataset[epoch, place, True][0].shape == (7, 4, 16, 16)
    seen = [{tuple(chosen) for place, chosen in recorder.asked if place == p} for p in range(3)]
    assert seen[0] == {(0,) * 7}
    assert seen[1] == {(0,) * 7 if training else (0, 0, 0, 1, 1, 1, 1)}
    assert seen[2] == {tuple(range(7))}


def test_validation_takes_the_centres(flow_shards):
    recorder = Recorder(flow_shards)
    dataset = dataset_of(recorder, training=False, augmentation=centre_view)
    first = [dataset[0, place, True][0] for place in range(5)]
    assert recorder.asked == [
        (place, [((2 * k + 1) * starts) // 6 for k in range(3)])
        for place, starts in enumerate(LENGTHS)
    ]
    assert all(torch.equal(first[place], dataset[9, place, True][0]) for place in range(5))


def test_items_are_the_shards_pixels(flow_shards):
    dataset = dataset_of(flow_shards, training=False, size=21, augmentation=centre_view)
    snippets, label, place, counts = dataset[0, 1, True]
    stack = flow_shards.read(1, [1, 4, 7])[:, :, 1:22, 5:26]
    expected = stack.transpose(0, 1, 4, 2, 3).reshape(3, 4, 21, 21)  # unit after unit
    assert np.array_equal(snippets.numpy(), expected)
    assert (label, place, counts, dataset.name(1)) == (1, 1, True, "run/1.avi")


# --- what goes wrong in a worker ---


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_damaged_image_is_one_line(tmp_path, num_workers):
    modality = stored("rgb", codec="jpeg", quality=90)
    write_shards(tmp_path / "rgb", modality, random_videos(modality, [1, 1]))
    path = tmp_path / "rgb" / "shard-00000.h5"
    data = path.read_bytes()
    assert data.count(b"\xff\xd8\xff") == 2
    path.write_bytes(data.replace(b"\xff\xd8\xff", b"\0\0\0"))
    shards = ShardSet(tmp_path / "rgb")
    dataset = dataset_of(shards, augmentation=centre_view, num_segments=1)
    plan = BatchPlan(len(dataset), 2, shuffle=False, seed=0)
    loader, _ = make_loader(dataset, plan, num_workers=num_workers)
    with pytest.raises(ShardError) as caught:
        list(stream(loader))
    assert str(caught.value) == (
        f"{path}: walk/0.avi, image 0: JPEG of shape (24, 32, 3) expected, got no JPEG; "
        "delete the file and extract again"
    )


def test_bugs_keep_their_traceback():
    def broken():
        yield 1
        raise KeyError("a bug")

    with pytest.raises(KeyError, match="a bug"):
        list(stream(broken()))


# --- opening ---


def make_folders(root, *names):
    for name in names:
        kind, _, algorithm = name.partition("-")
        changes = {"algorithm": algorithm} if algorithm else {}
        modality = stored(kind, snippet_length=1, **changes)
        write_shards(root / name, modality, random_videos(modality, [1]))
    records = (Record("walk/0.avi", 0, {1: "train"}), Record("run/9.avi", 1, {1: "train"}))
    manifest = Manifest("tiny", ("walk", "run"), records)
    write_manifest(manifest, root / "manifest.jsonl")
    return manifest


def opening_error(*arguments):
    with pytest.raises(InputError) as caught:
        open_modality(*arguments)
    return str(caught.value)


def test_open_modality(tmp_path):
    manifest = make_folders(tmp_path, "rgb", "flow-dis")
    for modality, flow, folder in (
        ("rgb", None, "rgb"),
        ("rgb", "tvl1", "rgb"),
        ("flow", None, "flow-dis"),
        ("flow", "dis", "flow-dis"),
    ):
        shards, read = open_modality(tmp_path, modality, flow)
        assert (shards.folder, read) == (tmp_path / folder, manifest)


def test_open_modality_that_is_not_there(tmp_path):
    assert opening_error(tmp_path, "rgb", None) == (
        f"{tmp_path / 'manifest.jsonl'}: no manifest there; give the folder of a "
        "dataset's shards, such as shards/hmdb51, or make one with tsn-preprocess scan "
        "or extract"
    )
    make_folders(tmp_path)
    assert opening_error(tmp_path, "rgb", None) == (
        f"{tmp_path}: no rgb shards, only nothing; extract them with tsn-preprocess extract, "
        "or choose another --modality"
    )
    make_folders(tmp_path, "rgb", "flow-dis")
    assert opening_error(tmp_path, "rgbdiff", None) == (
        f"{tmp_path}: no rgbdiff shards, only flow-dis, rgb; extract them with "
        "tsn-preprocess extract, or choose another --modality"
    )
    assert opening_error(tmp_path, "flow", "tvl1") == (
        f"{tmp_path}: no flow-tvl1 shards, only flow-dis, rgb; extract them with "
        "tsn-preprocess extract, or choose another --modality"
    )
    make_folders(tmp_path, "flow-farneback")
    assert opening_error(tmp_path, "flow", None) == (
        f"{tmp_path}: has flow-dis, flow-farneback; choose one with --flow"
    )


def test_open_flow_where_there_is_none(tmp_path):
    make_folders(tmp_path, "rgb")
    assert opening_error(tmp_path, "flow", None) == (
        f"{tmp_path}: no flow shards, only rgb; extract them with tsn-preprocess extract, "
        "or choose another --modality"
    )


def test_subsets_are_in_the_manifests_order(tmp_path):
    modality = stored("rgb")
    shards = write_shards(tmp_path / "rgb", modality, random_videos(modality, [1] * 4))
    names = ("walk/2.avi", "gone.avi", "walk/0.avi", "run/3.avi")
    records = [Record(name, 0, {1: "train", 2: "test"}) for name in names]
    records.append(Record("run/1.avi", 1, {1: "test"}))
    records.append(Record("lost.avi", 1, {1: "val"}))
    manifest = Manifest("tiny", ("walk", "run"), tuple(records))
    assert subset_numbers(shards, manifest, 1, "train") == ([2, 0, 3], ["gone.avi"])
    assert subset_numbers(shards, manifest, 1, "test") == ([1], [])
    for split, subset, message in (
        (3, "train", "tiny: no split 3; it has 1, 2"),
        (
            2,
            "train",
            f"{tmp_path / 'rgb'}: split 2 has no train videos: no list names one, or, without "
            "lists, no class has two videos; mend that and run the same tsn-preprocess extract "
            "again, which decodes no video twice",
        ),
        (
            2,
            "val",
            f"{tmp_path / 'rgb'}: split 2 has no val videos: no list names one; hold training "
            "videos out with tsn-train fit --val-fraction 0.1, or name some and run the same "
            "tsn-preprocess extract again",
        ),
        (
            1,
            "val",
            f"{tmp_path / 'rgb'}: split 1 has no val videos with snippets: they failed, or were "
            f"never extracted (lost.avi); try again with tsn-preprocess retry {tmp_path}",
        ),
    ):
        with pytest.raises(InputError) as caught:
            subset_numbers(shards, manifest, split, subset)
        assert str(caught.value) == message


def test_a_set_of_shards_opened_twice_reads_the_same(flow_shards):
    again = ShardSet(flow_shards.folder)
    assert np.array_equal(again.read(3, [0, 5]), flow_shards.read(3, [0, 5]))


def test_the_augmentation_is_told_the_class_of_each_video(flow_shards):
    seen = []

    def augmentation(height, width, generator, label):
        seen.append(label)
        return centre_view(height, width, generator, label)

    dataset = dataset_of(flow_shards, augmentation=augmentation)
    assert [dataset[0, place, True][1] for place in range(len(LENGTHS))] == seen == [0, 1, 0, 1, 0]
