"""JPEGs that are decoded where the network runs, against those that loading processes decode."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import stored
from test_handover import CPU, batches, dataset_of
from train_helpers import (
    fit_arguments,
    message_of,
    random_videos,
    run_program,
    write_dataset,
    write_shards,
)

import train.crops
import train.jpegs
from train.batches import BatchPlan
from train.crops import EncodedCrops
from train.jpegs import check_decoder, check_pixels, decode_jpegs
from train.slots import Filled
from train.videos import make_loader
from tsn_core.codec import decode_image, encode_image
from tsn_core.errors import DeviceError, MissingDependencyError, ShardError
from tsn_core.loading import stream
from tsn_core.modality import get_modality
from tsn_core.torchvision_models import load_torchvision

GPU = torch.device("cuda")


def jpegs(name, **changes):
    return stored(name, codec="jpeg", quality=90, **changes)


@pytest.fixture(scope="module", params=["rgb", "flow", "rgbdiff"])
def shards(request, tmp_path_factory):
    modality = jpegs(request.param, snippet_length=1 if request.param == "rgb" else 2)
    folder = tmp_path_factory.mktemp("shards") / modality.folder
    return write_shards(folder, modality, random_videos(modality, (4, 9, 5, 7, 6)), per_shard=2)


@pytest.mark.parametrize("size", [16, 18, 40])
def test_on_a_cpu_they_are_those_that_are_only_resized_there(shards, size):
    expected = batches(shards, False, size=size)
    found = batches(shards, False, decode=False, size=size)
    assert len(found) == len(expected) == 8
    for one, other in zip(found, expected):
        assert all(torch.equal(a, b) for a, b in zip(one, other))


@pytest.mark.parametrize("size", [16, 40])
def test_they_are_those_of_the_workers_but_for_rounding(shards, size):
    theirs = batches(shards, True, size=size)
    for one, other in zip(batches(shards, False, decode=False, size=size), theirs):
        assert (one[0].int() - other[0].int()).abs().max() <= 1


@pytest.mark.parametrize(("start", "ahead"), [("fork", None), ("spawn", None), ("fork", True)])
def test_they_are_the_same_from_any_process(shards, start, ahead):
    expected = batches(shards, False, decode=False)
    found = batches(shards, False, decode=False, num_workers=2, start=start, ahead=ahead)
    for one, other in zip(found, expected):
        assert all(torch.equal(a, b) for a, b in zip(one, other))


def test_loaders_hand_over_the_stored_bytes_in_one_piece(shards):
    dataset = dataset_of(shards, resize=False, decode=False, num_segments=2, seed=0)
    loader, _ = make_loader(dataset, BatchPlan(2, 2, shuffle=False, seed=0), num_workers=1)
    ((encoded, labels, places, counts),) = list(stream(loader))
    assert isinstance(encoded, EncodedCrops) and isinstance(encoded.data, Filled)
    assert (labels.tolist(), places.tolist(), counts.tolist()) == ([0, 1], [0, 1], [True, True])
    units = shards.modality.snippet_length
    assert len(encoded.lengths) == 2 * 2 * units
    assert encoded.data.num_bytes == sum(encoded.lengths)
    parts = encoded.data.tensor().split(encoded.lengths)
    shape = shards.modality.kind.image_shape(24, 32)
    found = [decode_image(part.numpy(), "jpeg", shape) for part in parts]
    key = (0, 1, True)
    (cut,) = dataset_of(shards, resize=False, num_segments=2, seed=0).__getitems__([key])
    for image, unit in zip(found[2 * units :], cut[0].units):
        assert np.array_equal(shards.modality.kind.unstack(image), unit)


def test_a_batch_that_does_not_fit_into_a_slot_travels_without(shards, monkeypatch):
    expected = batches(shards, False, decode=False)
    monkeypatch.setattr(shards, "mean_image_bytes", 1)
    found = batches(shards, False, decode=False, num_workers=1)
    for one, other in zip(found, expected):
        assert all(torch.equal(a, b) for a, b in zip(one, other))


# --- what is damaged ---


def damaged(tmp_path, change):
    """Return shards of which the second image of the second video is changed."""
    modality = jpegs("rgb")
    folder = tmp_path / "rgb"
    shards = write_shards(folder, modality, random_videos(modality, (3, 3)), per_shard=2)
    shard, _ = shards._find(1)
    start, stop = shard.tables.image_start[4:6]
    path = folder / "shard-00000.h5"
    data = bytearray(path.read_bytes())
    place = shard._images_offset
    data[place + start : place + stop] = change(bytes(data[place + start : place + stop]))
    path.write_bytes(data)
    return type(shards)(folder)


def no_jpeg(data):
    return bytes(len(data))


def scrambled(data):
    """The header of a JPEG, and tables that no decoder takes."""
    place = data.index(b"\xff\xc4") + 5
    return data[:place] + b"\xff" * 16 + data[place + 16 :]


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("change", [no_jpeg, scrambled])
def test_damaged_images_are_named_as_the_reader_names_them(tmp_path, change, num_workers):
    shards = damaged(tmp_path, change)
    texts = [
        message_of(
            lambda d=decode: batches(shards, False, decode=d, num_workers=num_workers),
            error=ShardError,
        )
        for decode in (True, False)
    ]
    expected = (
        f"{tmp_path}/rgb/shard-00000.h5: run/1.avi, image 4: JPEG of shape (24, 32, 3) expected, "
        "got no JPEG; delete the file and extract again"
    )
    assert texts == [expected, expected]


def test_another_shape_is_refused_before_anything_is_handed_over(tmp_path):
    other = encode_image(np.zeros((16, 16, 3), np.uint8), "jpeg", 90)
    shards = damaged(tmp_path, lambda data: other + bytes(len(data) - len(other)))
    dataset = dataset_of(shards, resize=False, decode=False)
    text = message_of(dataset.__getitems__, [(0, 1, True)], error=ShardError)
    assert text == (
        f"{tmp_path}/rgb/shard-00000.h5: run/1.avi, image 4: JPEG of shape (24, 32, 3) expected, "
        "got shape (16, 16, 3); delete the file and extract again"
    )


def test_a_device_that_refuses_sound_images(shards, monkeypatch):
    def refuse(images, shapes, device):
        raise RuntimeError("Error while decoding JPEG images: 8\nmore")

    monkeypatch.setattr(train.crops, "decode_jpegs", refuse)
    text = message_of(batches, shards, False, decode=False, error=DeviceError)
    assert text.startswith("--decode-on device: the device does not decode a batch of ")
    assert text.endswith(
        ".avi and others, though its images are sound: Error while decoding JPEG images: 8; use "
        "--decode-on workers"
    )


def test_too_little_memory_is_not_called_damage(shards, monkeypatch):
    def fill(images, shapes, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(train.crops, "decode_jpegs", fill)
    with pytest.raises(torch.OutOfMemoryError):
        batches(shards, False, decode=False)


# --- settings ---


def test_raw_shards_need_no_decoding(tmp_path):
    shards = write_shards(tmp_path / "rgb", stored("rgb"), random_videos(stored("rgb"), (1, 2)))
    text = message_of(dataset_of, shards, resize=False, decode=False)
    assert text == (
        f"--decode-on device: {tmp_path}/rgb holds raw images, which need no decoding; use "
        "--resize-on device alone"
    )


def test_modalities_that_are_mirrored_by_code_are_refused(tmp_path):
    parameters = dict(get_modality("flowhsv").parameters)
    modality = replace(jpegs("rgb"), name="flowhsv", parameters=parameters)
    shards = write_shards(tmp_path / "flowhsv", modality, random_videos(modality, (1, 2)))
    assert message_of(dataset_of, shards, resize=False, decode=False).startswith(
        "--resize-on device: flowhsv is mirrored by code of its own"
    )


def test_training_with_jpegs_decoded_on_the_device(tmp_path):
    shards = write_dataset(tmp_path / "tiny", modalities=[jpegs("rgb")], train=8)
    losses = []
    for name, options in (
        ("resized", ("--resize-on", "device")),
        ("decoded", ("--decode-on", "device")),
        ("by processes", ("--decode-on", "device", "--workers", 2)),
    ):
        run = tmp_path / name
        result = run_program(*fit_arguments(shards, run, "--epochs", 1, *options))
        assert result.exit_code == 0, result.stderr
        config = json.loads((run / "config.json").read_text())
        assert config["resize_on"] == "device"
        assert config["decode_on"] == ("workers" if name == "resized" else "device")
        rows = (run / "metrics.csv").read_text().splitlines()
        losses.append(rows[1].split(",")[2])
    assert losses[0] == losses[1] == losses[2]


def test_what_is_decoded_on_the_device_is_resized_there(tmp_path):
    words = fit_arguments(tmp_path, tmp_path / "run", "--decode-on", "device")
    result = run_program(*words, "--resize-on", "workers")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: --decode-on device: what is decoded there is resized there, too; leave out "
        "--resize-on workers\n"
    )


# --- the decoder of a GPU, as far as it can be reached without one ---


@pytest.fixture
def torchvision_alike(monkeypatch):
    """A module whose ``decode_jpeg`` is called as torchvision's would be, and its calls."""
    calls = []

    class Stream:
        def synchronize(self):
            calls.append("synchronize")

    class Module:
        __version__ = "0.26.0"

        class io:
            @staticmethod
            def decode_jpeg(images, mode, device):
                assert type(images) is list
                assert all(one.is_contiguous() and one.device == CPU for one in images)
                calls.append((len(images), mode, device.type))
                shapes = {"GRAY": (48, 32), "RGB": (24, 32, 3)}
                return decode_jpegs(images, [shapes[mode]] * len(images), CPU)

    monkeypatch.setattr(train.jpegs, "load_torchvision", lambda: Module)
    monkeypatch.setattr(torch.ops, "image", type("ops", (), {"decode_jpegs_cuda": 1}))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    return calls


def encoded(shape, seed):
    image = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    data = torch.from_numpy(np.frombuffer(encode_image(image, "jpeg", 90), np.uint8).copy())
    return data, torch.from_numpy(decode_image(data.numpy(), "jpeg", shape))


def test_a_gpu_is_asked_once_for_each_kind_of_image(torchvision_alike):
    shapes = [(24, 32, 3), (48, 32), (24, 32, 3)]
    images, pixels = zip(*(encoded(shape, seed) for seed, shape in enumerate(shapes)))
    found = decode_jpegs(images, shapes, GPU)
    assert torch.equal(found[0], pixels[0].permute(2, 0, 1))
    assert torch.equal(found[1], pixels[1][None])
    assert torch.equal(found[2], pixels[2].permute(2, 0, 1))
    gray, color = (1, "GRAY", "cuda"), (2, "RGB", "cuda")
    assert torchvision_alike == ["synchronize", gray, "synchronize", color]


def test_what_a_gpu_gives_is_looked_at():
    check_pixels(torch.zeros(1, 48, 32), (48, 32))
    text = message_of(check_pixels, torch.zeros(3, 24, 31), (24, 32, 3), error=ShardError)
    assert text == "JPEG of shape (24, 32, 3) expected, got shape (24, 31, 3)"


def test_a_torchvision_that_does_not_fit_is_one_line(monkeypatch, torchvision_alike):
    monkeypatch.setattr(torch.ops, "image", type("ops", (), {}))
    text = message_of(check_decoder, GPU, error=MissingDependencyError)
    assert text == (
        f"--decode-on device: torchvision 0.26.0 decodes no JPEGs beside torch {torch.__version__};"
        " install the torchvision that was made for it, or use --decode-on workers"
    )
    check_decoder(CPU)


@pytest.mark.skipif(
    not hasattr(load_torchvision().io, "decode_jpeg")
    or not hasattr(torch.ops.image, "decode_jpeg"),
    reason="torchvision was made for another torch",
)
@pytest.mark.parametrize("shape", [(48, 32), (24, 32, 3)])
def test_torchvisions_decoder_differs_by_little(shape):
    data, pixels = encoded(shape, 0)
    mode = "GRAY" if len(shape) == 2 else "RGB"
    (found,) = load_torchvision().io.decode_jpeg([data], mode=mode, device="cpu")
    expected = pixels[None] if len(shape) == 2 else pixels.permute(2, 0, 1)
    assert (found.int() - expected.int()).abs().max() <= 2
