"""Torch datasets of shards: layouts, the same items from any worker, fair shares, order."""

import itertools

import numpy as np
import pytest
import torch
from conftest import stored
from train_helpers import message_of, random_videos, write_shards

from tsn_core import ArrayBatches, IterableVideoDataset, VideoDataset, open_shards
from tsn_core.video_order import VideoOrder, shuffled

LENGTHS = (4, 9, 5, 7, 6, 8, 4)
DataLoader = torch.utils.data.DataLoader


@pytest.fixture(scope="module")
def flow(tmp_path_factory):
    """Seven videos of dense flow, in snippets of two units, in three shards."""
    modality = stored("flow", snippet_length=2)
    folder = tmp_path_factory.mktemp("shards") / "flow-farneback"
    write_shards(folder, modality, random_videos(modality, LENGTHS))
    return open_shards(folder)


# --- items ---


def test_snippets_of_segment_networks(flow):
    dataset = VideoDataset(flow, num_snippets=3)
    snippets, label = dataset[1]
    assert (snippets.shape, snippets.dtype, label) == ((3, 4, 24, 32), torch.uint8, 1)
    expected = flow[1].snippets([1, 4, 7])  # the middles of thirds of nine
    for k, unit, channel in np.ndindex(3, 2, 2):
        assert np.array_equal(snippets[k, 2 * unit + channel], expected[k, unit, ..., channel])
    assert [dataset[place][1] for place in range(7)] == flow.labels.tolist()
    assert torch.equal(dataset[-1][0], dataset[6][0])


def test_clips_of_video_networks(flow):
    clip, label = VideoDataset(flow, clip_length=4, stride=2)[1]
    assert (clip.shape, clip.dtype, label) == ((2, 4, 24, 32), torch.uint8, 1)
    assert clip.is_contiguous()
    expected = flow[1].clip(1, 4, stride=2)  # 7 of 10 units
    assert np.array_equal(clip.numpy(), expected.transpose(3, 0, 1, 2))


def test_transforms_see_torchvisions_layout(flow):
    seen = []

    def transform(tensor):
        seen.append(tensor.shape)
        return tensor[..., :8, :8].float() / 255

    clip, _ = VideoDataset(flow, clip_length=3, transform=transform)[0]
    assert seen == [(3, 2, 24, 32)] and (clip.shape, clip.dtype) == ((2, 3, 8, 8), torch.float32)
    snippets, _ = VideoDataset(flow, num_snippets=3, transform=transform)[0]
    assert seen[1] == (3, 4, 24, 32) and snippets.shape == (3, 4, 8, 8)


def test_training_shows_others_in_every_epoch(flow):
    for shown in ({"num_snippets": 2}, {"clip_length": 3}):
        dataset = VideoDataset(flow, training=True, **shown)
        first = dataset[1][0]
        assert torch.equal(first, dataset[1][0])
        assert torch.equal(first, VideoDataset(flow, training=True, **shown)[1][0])
        others = []
        for epoch in range(10):
            dataset.set_epoch(epoch)
            others.append(dataset[1][0].numpy().tobytes())
        assert others[0] == first.numpy().tobytes() and len(set(others)) > 3
        seeds = {
            VideoDataset(flow, training=True, seed=seed, **shown)[1][0].numpy().tobytes()
            for seed in range(10)
        }
        assert len(seeds) > 3


def noisy(tensor):
    return tensor.float() + torch.rand(())


def test_transforms_leave_the_global_generator_alone(flow):
    before = torch.get_rng_state()
    dataset = VideoDataset(flow, num_snippets=1, transform=noisy)
    item = dataset[0][0]
    assert torch.equal(before, torch.get_rng_state())
    torch.rand(3)
    assert torch.equal(dataset[0][0], item)


def test_what_cannot_be_shown(flow, tmp_path):
    for numbers in ({}, {"num_snippets": 1, "clip_length": 2}):
        assert message_of(VideoDataset, flow, **numbers) == (
            "choose exactly one of num_snippets and clip_length"
        )
    assert message_of(VideoDataset, flow, num_snippets=0) == "num_snippets must be > 0, got 0"
    assert message_of(VideoDataset, flow, clip_length=0) == "clip length must be > 0, got 0"
    modality = stored("rgb")
    write_shards(tmp_path / "rgb", modality, random_videos(modality, [9]), sampling={"fps": 5.0})
    assert message_of(VideoDataset, open_shards(tmp_path), clip_length=4, stride=2) == (
        f"{tmp_path / 'rgb'}: clips over 7 consecutive units need every unit, or snippets as long; "
        "these shards (fps=5.0) hold snippets of 1; extract them with --dense, or with "
        "--snippet-length 7"
    )
    with pytest.raises(IndexError, match=r"^7 videos, asked for number 7$"):
        VideoDataset(flow, num_snippets=1)[7]


# --- loading in other processes ---


def epochs_of(source, *, epochs=(0, 1), **options):
    """Every batch of some epochs, as nested lists; ``source`` is what the loader reads."""
    found = []
    loader = DataLoader(source, batch_size=2, **options)
    for epoch in epochs:
        source.set_epoch(epoch)
        batches = [(tensor.numpy().tobytes(), labels.tolist()) for tensor, labels in loader]
        assert len(batches) == len(loader)
        found.append(batches)
    return found


@pytest.mark.parametrize(
    ("streamed", "num_workers", "start"),
    [(False, 2, "fork"), (True, 1, "fork"), (True, 2, "fork"), (True, 1, "spawn")],
)
def test_workers_give_the_same_batches(flow, streamed, num_workers, start):
    """Also those that live on and are told the next epoch."""
    dataset = VideoDataset(flow, num_snippets=2, training=True, transform=noisy)
    source = IterableVideoDataset(dataset, buffer_size=3, batch_size=2) if streamed else dataset
    expected = epochs_of(source)
    assert expected[0] != expected[1]
    found = epochs_of(
        source,
        num_workers=num_workers,
        multiprocessing_context=start,
        persistent_workers=num_workers > 1 or start == "spawn",
    )
    assert found == expected


# --- the stream ---


def places(order, epoch=0, ranks=1, workers=1):
    """What each worker of each rank loads."""
    return [
        [list(order.of_worker(epoch, rank, ranks, worker, workers)) for worker in range(workers)]
        for rank in range(ranks)
    ]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("drop", [False, True])
def test_every_video_is_shown_by_one_worker_of_one_rank(shuffle, batch_size, workers, ranks, drop):
    shards = np.array([4] * 3 + [0] * 5 + [2] * 3)
    order = VideoOrder(shards, shuffle, 4, 7, batch_size, drop)
    shown = places(order, ranks=ranks, workers=workers)
    lengths = [sum(map(len, rank)) for rank in shown]
    assert lengths == [11 // ranks if drop else -(-11 // ranks)] * ranks
    everything = sorted(place for rank in shown for worker in rank for place in worker)
    whole = order.of_epoch(0).tolist()
    if drop:
        assert everything == sorted(whole[: 11 // ranks * ranks])
    else:
        assert everything == sorted(whole + whole[: -11 % ranks])


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_batches_in_turn_from_the_workers_are_those_of_one(workers):
    order = VideoOrder(np.repeat(np.arange(4), 5), True, 6, 0, batch_size=3)
    (alone,) = places(order, epoch=5)[0]
    (shares,) = places(order, epoch=5, workers=workers)
    batches = [[share[i : i + 3] for i in range(0, len(share), 3)] for share in shares]
    in_turn = [batches[turn % workers][turn // workers] for turn in range(sum(map(len, batches)))]
    assert [place for batch in in_turn for place in batch] == alone


def naive_shuffle(shard_numbers, buffer_size, generator):
    """A stream that really holds its buffer; the same draws in the same order."""
    kinds = sorted(set(shard_numbers))
    stream = [
        place
        for number in generator.permutation(len(kinds))
        for place, shard in enumerate(shard_numbers)
        if shard == kinds[number]
    ]
    draws = iter(generator.integers(buffer_size, size=max(len(stream) - buffer_size, 0)).tolist())
    buffer, shown = [], []
    for place in stream:
        if len(buffer) < buffer_size:
            buffer.append(place)
        else:
            at = next(draws)
            shown.append(buffer[at])
            buffer[at] = place
    return shown + generator.permutation(buffer).tolist()


@pytest.mark.parametrize("buffer_size", [1, 2, 5, 12, 99])
def test_shuffling_is_that_of_a_real_buffer(buffer_size):
    shards = np.array([3, 3, 3, 0, 0, 0, 0, 7, 7, 1, 1, 1])
    for seed in range(20):
        found = shuffled(shards, buffer_size, np.random.default_rng(seed)).tolist()
        assert found == naive_shuffle(shards.tolist(), buffer_size, np.random.default_rng(seed))
        assert sorted(found) == list(range(12))
        if buffer_size == 1:  # every shard in one piece
            runs = [int(shards[place]) for place in found]
            assert sum(a != b for a, b in itertools.pairwise(runs)) == 3


def test_a_large_buffer_gives_every_order_its_turn():
    generator = np.random.default_rng(0)
    seen = {tuple(shuffled(np.array([0, 0, 1, 1]), 4, generator)) for _ in range(1000)}
    assert len(seen) == 24


def test_the_stream_of_a_part_of_the_shards(flow):
    dataset = VideoDataset(flow[::2], num_snippets=1)
    stream = IterableVideoDataset(dataset, shuffle=False)
    assert len(stream) == 4
    for (found, label), video in zip(stream, flow[::2]):
        assert label == video.label
        assert np.array_equal(
            found[0, :2].numpy(), video.snippets([video.num_snippets // 2])[0, 0].transpose(2, 0, 1)
        )
    ranks = [IterableVideoDataset(dataset, rank=rank, num_ranks=3) for rank in range(3)]
    assert [len(rank) for rank in ranks] == [len(list(rank)) for rank in ranks] == [2, 2, 2]
    assert len(IterableVideoDataset(dataset, rank=0, num_ranks=3, drop_uneven=True)) == 1
    assert list(IterableVideoDataset(VideoDataset(flow[:0], num_snippets=1))) == []


def test_ranks_are_those_of_torch_distributed(flow, tmp_path, monkeypatch):
    dataset = VideoDataset(flow, num_snippets=1)
    for name, value in (("is_initialized", True), ("get_rank", 1), ("get_world_size", 4)):
        monkeypatch.setattr(torch.distributed, name, lambda value=value: value)
    asked = IterableVideoDataset(dataset, seed=3)
    told = IterableVideoDataset(dataset, seed=3, rank=1, num_ranks=4)
    found = [label for _, label in asked]
    assert found == [label for _, label in told] and len(asked) == 2


def test_numbers_of_a_stream_that_make_no_sense(flow):
    dataset = VideoDataset(flow, num_snippets=1)
    for options, message in (
        ({"buffer_size": 0}, "buffer_size must be > 0, got 0"),
        ({"batch_size": 0}, "batch_size must be > 0, got 0"),
        ({"rank": 1}, "give both rank and num_ranks, or neither"),
        ({"rank": 2, "num_ranks": 2}, "rank must be 0 to 1, got 2"),
    ):
        assert message_of(IterableVideoDataset, dataset, **options) == message


# --- arrays ---


def test_batches_of_arrays(flow):
    batches = ArrayBatches(flow, batch_size=3, num_snippets=2)
    assert len(batches) == 3 and [len(y) for _, y in batches] == [3, 3, 1]
    x, y = batches[1]
    assert (x.shape, x.dtype, y.tolist()) == ((3, 2, 24, 32, 4), np.float32, [1, 0, 1])
    codes = VideoDataset(flow, num_snippets=2)[4][0].numpy()  # (K, L * C, H, W)
    assert np.allclose(x[1], (codes.transpose(0, 2, 3, 1) - 127.5) / 127.5, atol=1e-6)
    with pytest.raises(IndexError, match=r"^3 batches, asked for number 3$"):
        batches[3]


def test_training_batches_of_arrays_change_with_the_epoch(flow):
    batches, again = (
        ArrayBatches(flow, batch_size=7, num_snippets=1, training=True, seed=5) for _ in range(2)
    )
    first = batches[0][0]
    assert np.array_equal(first, again[0][0])
    batches.on_epoch_end()
    assert not np.array_equal(first, batches[0][0])
    assert sorted(batches[0][1]) == sorted(flow.labels)


def test_arrays_need_one_size(tmp_path):
    modality = stored("rgb", height=None, width=None, short_side=24)
    write_shards(tmp_path / "rgb", modality, random_videos(modality, [2]))
    shards = open_shards(tmp_path)
    assert message_of(ArrayBatches, shards, batch_size=1, num_snippets=1) == (
        f"{tmp_path / 'rgb'}: frames of different sizes do not fit into one array; extract them "
        "with --size WIDTHxHEIGHT"
    )
    assert message_of(ArrayBatches, shards, batch_size=0, num_snippets=1) == (
        "batch_size must be > 0, got 0"
    )
