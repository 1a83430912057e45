"""Mistakes of a user in a hurry: each ends in one line that says what was expected."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from train_helpers import failure, fit_arguments, message_of, write_dataset

from tsn_core.array_batches import ArrayBatches
from tsn_core.check import modality_folders
from tsn_core.seed import check_seed
from tsn_core.shards import open_shards
from tsn_core.torch_dataset import VideoDataset
from tsn_core.video_order import VideoOrder

HUGE = 10**23


@pytest.fixture
def told(program):
    """The one line with which tsn-preprocess ends, by ``told("extract", ...)``."""

    def run(*arguments):
        result = program(*arguments)
        assert result.exit_code == 1
        return result.output

    return run


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--snippets", HUGE), f"--snippets must be <= 100000, got {HUGE}"),
        (("--videos-per-shard", HUGE), f"--videos-per-shard must be <= 1000000, got {HUGE}"),
    ],
)
def test_numbers_that_nobody_can_mean(told, folder_dataset, tmp_path, options, message):
    data = ("--dataset", "folder", "--data", folder_dataset, "--modality", "rgb")
    for command in (("extract", *data, "--out", tmp_path / "shards"), ("plan", *data)):
        assert told(*command, *options) == f"error: {message}\n"
    assert not (tmp_path / "shards").exists()


def test_numbers_that_an_import_cannot_mean(program, told, tmp_path):
    (tmp_path / "frames").mkdir()
    command = ("import", tmp_path / "frames", "--out", tmp_path / "shards")
    assert told(*command, "--videos-per-shard", HUGE) == (
        f"error: --videos-per-shard must be <= 1000000, got {HUGE}\n"
    )
    assert told(*command, "--snippets", HUGE) == (
        f"error: --snippets must be <= 100000, got {HUGE}\n"
    )
    result = program(*command, "--quality", 0)
    assert result.exit_code == 2
    assert result.output.endswith(
        "Invalid value for '--quality': 0 is not in the range 1<=x<=100.\n"
    )


def test_a_plan_with_a_negative_seed(told, folder_dataset):
    data = ("--dataset", "folder", "--data", folder_dataset, "--modality", "rgb")
    assert told("plan", *data, "--seed", -1) == "error: --seed must be 0 or more, got -1\n"


def test_a_folder_where_a_list_is_expected(told, folder_dataset, tmp_path):
    command = ("extract", "--dataset", "list", "--data", folder_dataset, "--modality", "rgb")
    assert told(*command, "--out", tmp_path / "shards", "--list", tmp_path) == (
        f"error: {tmp_path}: a text file expected, found a folder; name the file in it\n"
    )


def test_files_where_folders_are_expected(program, told, folder_dataset, tmp_path):
    program(
        *("extract", "--dataset", "folder", "--data", folder_dataset, "--modality", "rgb"),
        *("--out", tmp_path / "shards", "--size", "48x32", "--snippets", 1, "--no-isolation"),
    )
    shards, file = tmp_path / "shards" / "gestures", tmp_path / "file"
    file.write_text("x")
    for command in (("retry", file), ("try", file, "x.avi")):
        assert told(*command) == (
            f"error: {file}: a file; give the folder of a dataset's shards, such as shards/hmdb51\n"
        )
    line = told("inspect", shards, "--out", file, "--no-preview").splitlines()[-1]
    assert line.startswith(f"error: {file}/")
    assert line.endswith(".png: cannot be written: File exists; free space or choose another place")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
def test_a_disk_that_is_full_of_what_is_printed():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "preprocess", "export", "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == (
        "error: what this prints cannot be written: no space left where it goes; free some, or "
        "send it elsewhere\n"
    )


def test_options_of_the_other_export(told, tmp_path):
    command = ("export", tmp_path, "--out", tmp_path / "out", "--to")
    for option in (("--split", 1), ("--max-mb", 5), ("--samples", "snippet")):
        assert told(*command, "frames", *option) == (
            f"error: {option[0]} goes with --to webdataset, not with frames; leave it out\n"
        )
    assert told(*command, "webdataset", "--lossless") == (
        "error: --lossless goes with --to frames, not with webdataset; leave it out\n"
    )


def test_a_folder_that_vanishes_while_it_is_looked_through(tmp_path, monkeypatch):
    def rglob(*_):
        raise FileNotFoundError(2, "No such file or directory", "/proc/1234")

    monkeypatch.setattr("pathlib.Path.rglob", rglob)
    assert message_of(modality_folders, tmp_path) == (
        f"{tmp_path}: cannot be looked through: /proc/1234: No such file or directory; give the "
        "folder of a dataset's shards, such as shards/hmdb51"
    )


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--seed", 1 << 63, f"seed must be below 2**63, got {1 << 63}"),
        ("--seed", -1, "seed must be 0 or more, got -1"),
        ("--workers", 257, "--workers must be <= 256, got 257"),
        ("--input-size", 4097, "input_size must be <= 4096, got 4097"),
        ("--num-segments", HUGE, f"num_segments must be <= 100000, got {HUGE}"),
    ],
)
def test_trainings_that_would_fill_the_machine(tmp_path, option, value, message):
    shards = write_dataset(tmp_path / "tiny")
    command = fit_arguments(shards, tmp_path / "run", option, value)
    assert failure(*command).splitlines()[-1] == f"error: {message}"
    assert not (tmp_path / "run" / "last.pt").exists()


def test_seeds_and_epochs_of_the_library(tmp_path):
    shards = open_shards(write_dataset(tmp_path / "tiny") / "rgb")
    negative = "seed must be 0 or more, got -1"
    assert message_of(VideoDataset, shards, num_snippets=2, seed=-1) == negative
    assert message_of(ArrayBatches, shards, batch_size=2, num_snippets=2, seed=-1) == negative
    assert message_of(VideoOrder, np.arange(3), True, 2, -1) == negative
    dataset = VideoDataset(shards, num_snippets=2)
    assert message_of(dataset.set_epoch, -1) == "epoch must be 0 or more, got -1"
    assert message_of(VideoOrder(np.arange(3), True, 2, 0).of_epoch, -1) == (
        "epoch must be 0 or more, got -1"
    )
    check_seed(seed=0, epoch=(1 << 63) - 1)
