"""Crops that are resized on the device, against those that loading processes resize."""

import json
import time
from dataclasses import replace

import pytest
import torch
from conftest import stored
from train_helpers import fit_arguments, random_videos, run_program, write_dataset, write_shards

from train.augmentation import TrainingAugmentation
from train.batches import BatchPlan
from train.crops import PackedCrops
from train.feed import on_device
from train.slots import Filled, make_slots
from train.videos import SnippetDataset, make_loader
from tsn_core.errors import InputError
from tsn_core.loading import stream
from tsn_core.modality import get_modality

CPU = torch.device("cpu")


def dataset_of(shards, *, resize, decode=True, size=16, num_segments=3, seed=5):
    return SnippetDataset(
        shards,
        range(len(shards)),
        num_segments=num_segments,
        input_size=size,
        augmentation=TrainingAugmentation(True),
        training=True,
        seed=seed,
        resize=resize,
        decode=decode,
    )


def batches(shards, resize, *, decode=True, num_workers=0, start=None, size=16, ahead=None):
    dataset = dataset_of(shards, resize=resize, decode=decode, size=size)
    plan = BatchPlan(len(dataset), 3, shuffle=True, seed=0)
    loader, sampler = make_loader(dataset, plan, num_workers=num_workers, worker_start=start)
    found = []
    for epoch in range(4):
        sampler.epoch = epoch
        brought = on_device(stream(loader), CPU, ahead=ahead)
        found += [[part.clone() for part in batch] for batch in brought]
    return found


@pytest.fixture(scope="module", params=["rgb", "flow", "rgbdiff"])
def shards(request, tmp_path_factory):
    modality = stored(request.param, snippet_length=1 if request.param == "rgb" else 2)
    folder = tmp_path_factory.mktemp("shards") / modality.folder
    return write_shards(folder, modality, random_videos(modality, (4, 9, 5, 7, 6)), per_shard=2)


@pytest.mark.parametrize("size", [16, 18, 40])
def test_they_are_those_of_the_workers_but_for_rounding(shards, size):
    boxes = set()
    for theirs, ours in zip(batches(shards, True, size=size), batches(shards, False, size=size)):
        assert ours[0].shape == theirs[0].shape and ours[0].dtype == torch.uint8
        assert ours[0].is_contiguous()
        difference = (ours[0].int() - theirs[0].int()).abs()
        assert difference.max() <= 1
        for one, other in zip(ours[1:], theirs[1:]):
            assert torch.equal(one, other)
        boxes.add(ours[0].numpy().tobytes())
    assert len(boxes) > 4


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_they_are_the_same_from_any_process(shards, start):
    expected = batches(shards, False)
    for one, other in zip(batches(shards, False, num_workers=2, start=start), expected):
        assert all(torch.equal(a, b) for a, b in zip(one, other))


def test_loaders_hand_over_one_piece_of_memory(shards):
    dataset = dataset_of(shards, resize=False, num_segments=2, seed=0)
    loader, _ = make_loader(dataset, BatchPlan(2, 2, shuffle=False, seed=0), num_workers=1)
    ((packed, labels, places, counts),) = list(stream(loader))
    assert isinstance(packed, PackedCrops) and isinstance(packed.data, Filled)
    assert packed.data.tensor().is_shared()
    units, channels = shards.modality.snippet_length, shards.modality.channels
    pixels = sum(height * width for *_, height, width in packed.crops.boxes)
    assert packed.data.num_bytes == pixels * channels * units * 2
    assert (labels.tolist(), places.tolist(), counts.tolist()) == ([0, 1], [0, 1], [True, True])


@pytest.mark.parametrize("resize", [True, False])
def test_a_slot_is_not_filled_again_while_its_batch_is_looked_at(shards, resize):
    """Batches are looked at late, when the processes have prepared all that they may."""
    expected = [[part.clone() for part in batch] for batch in batches(shards, resize)]
    dataset = dataset_of(shards, resize=resize)
    plan = BatchPlan(len(dataset), 1, shuffle=True, seed=0)
    whole = [torch.cat([batch[0] for batch in expected[n : n + 2]]) for n in range(0, 8, 2)]
    loader, sampler = make_loader(dataset, plan, num_workers=1, worker_start="fork")
    for epoch in range(4):
        sampler.epoch = epoch
        for number, batch in enumerate(on_device(stream(loader), CPU)):
            time.sleep(0.03)
            assert torch.equal(batch[0][0], whole[epoch][number])


def test_too_little_shared_memory_is_one_line(monkeypatch):
    def full(self):
        raise RuntimeError("unable to allocate shared memory(shm) for file </torch_1>")

    monkeypatch.setattr(torch.Tensor, "share_memory_", full)
    with pytest.raises(InputError) as caught:
        make_slots(4, 1_000_000)
    text = str(caught.value)
    assert text.startswith("4 loading processes need 12 MB of shared memory")
    assert "--workers" in text and "\n" not in text


def test_modalities_that_are_mirrored_by_code_are_refused(tmp_path):
    parameters = dict(get_modality("flowhsv").parameters)
    modality = replace(stored("rgb"), name="flowhsv", parameters=parameters)
    shards = write_shards(tmp_path / "flowhsv", modality, random_videos(modality, (1, 2)))
    with pytest.raises(InputError) as caught:
        batches(shards, False)
    assert str(caught.value) == (
        "--resize-on device: flowhsv is mirrored by code of its own, which runs in the loading "
        "processes alone; use --resize-on workers"
    )


def test_training_with_crops_resized_on_the_device(tmp_path):
    shards = write_dataset(tmp_path / "tiny", train=8)
    losses = []
    for name, options in (("usual", ()), ("device", ("--resize-on", "device"))):
        run = tmp_path / name
        result = run_program(*fit_arguments(shards, run, "--epochs", 1, *options))
        assert result.exit_code == 0, result.stderr
        config = json.loads((run / "config.json").read_text())
        assert config["resize_on"] == ("device" if options else "workers")
        rows = (run / "metrics.csv").read_text().splitlines()
        row = dict(zip(rows[0].split(","), map(float, rows[1].split(","))))
        assert row["copy_seconds"] > 0
        losses.append(row["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
