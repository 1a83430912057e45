"""Runs that were killed, shared among processes or disturbed, against undisturbed ones."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import stored
from test_fit import metrics_of, same_runs
from train_helpers import (
    bright_or_dark,
    failure,
    fit_arguments,
    run_program,
    write_dataset,
    write_shards,
)

import train.fit
from train.leakage import hashes
from train.learner import Sums
from train.run_folder import load_checkpoint
from tsn_core.manifest import read_manifest, write_manifest

ROOT = Path(__file__).resolve().parent.parent
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}  # as in this process: roundings are alike
EVERYTHING = ("--ema", 0.9, "--label-smoothing", 0.1, "--accumulate", 2, "--schedule", "cosine")


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny", train=7, val=3, test=2)


def arguments_of(shards, out, *more):
    return fit_arguments(shards, out, "--save-seconds", 0, "--batch-size", 2, *EVERYTHING, *more)


@pytest.fixture(scope="module")
def whole(shards, tmp_path_factory):
    """Three epochs of four steps, not interrupted, with every part of the trainer's state."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert run_program(*arguments_of(shards, out)).exit_code == 0
    return out


@pytest.mark.parametrize("at", [1, 2, 4, 5, 7, 9])
def test_a_run_goes_on_within_an_epoch(whole, shards, tmp_path, monkeypatch, at):
    """Stopped when the step of that number was about to begin, counted from 1."""
    original, calls = train.fit._step_seed, []

    def interrupted(*place):
        calls.append(place)
        if len(calls) == at:
            raise KeyboardInterrupt
        return original(*place)

    with monkeypatch.context() as patch:
        patch.setattr(train.fit, "_step_seed", interrupted)
        assert run_program(*arguments_of(shards, tmp_path / "run")).exit_code == 130
    result = run_program(*arguments_of(shards, tmp_path / "run"))
    assert result.exit_code == 0
    epoch, step = divmod(at - 1, 4)
    if step:
        expected = f"going on after epoch {epoch} of 3 and step {step} of the next"
        assert result.stderr.splitlines()[0] == expected
    assert same_runs(whole, tmp_path / "run")


KILLER = """
import os, signal, sys
import train.fit, train.run_folder, torch, torch._dynamo
from train.cli import main
from tsn_core.torchvision_models import load_torchvision

def counted(function, at):
    calls = []

    def call(*arguments, **options):
        calls.append(1)
        if len(calls) == at:
            if place == "save":  # half of the file is written
                arguments[1].write(b"half")
                arguments[1].flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **options)
    return call

PLACES = {
    "step": (train.fit, "_step_seed"),
    "save": (torch, "save"),
    "metrics": (train.run_folder.RunFolder, "write_metrics"),
}
load_torchvision()
for line in sys.stdin:  # each in a process of its own, which need not import everything again
    pid = os.fork()
    if pid == 0:
        place, at = line.split(":")
        owner, name = PLACES[place]
        setattr(owner, name, counted(getattr(owner, name), int(at)))
        main(prog_name="tsn-train")
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.mark.slow(reason="starts two programs, one of which is killed four times")
def test_kill_9_again_and_again_changes_nothing(whole, shards, tmp_path):
    arguments = [str(argument) for argument in arguments_of(shards, tmp_path / "run")]
    with subprocess.Popen(
        [sys.executable, "-c", KILLER, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=ONE_THREAD,
    ) as killer:
        assert killer.stdin is not None and killer.stdout is not None
        for place in ("step:3", "save:1", "save:4", "metrics:2"):
            print(place, file=killer.stdin, flush=True)
            assert killer.stdout.readline() == f"{-signal.SIGKILL}\n", place
            if (tmp_path / "run" / "last.pt").exists():
                load_checkpoint(tmp_path / "run" / "last.pt")  # whole, whatever happened
    done = subprocess.run(
        [sys.executable, "-m", "train", *arguments, "--resume"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=ONE_THREAD,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("going on after epoch ")
    assert same_runs(whole, tmp_path / "run")


def test_resume_insists_on_a_run(shards, tmp_path):
    assert failure(*arguments_of(shards, tmp_path / "run", "--resume")) == (
        f"error: {tmp_path / 'run'}: no last.pt to go on from; "
        "leave --resume out to begin a run there\n"
    )
    assert not (tmp_path / "run").exists()


def test_how_often_to_save_may_change(whole, shards, tmp_path):
    arguments = arguments_of(shards, tmp_path / "run")
    place = arguments.index("--save-seconds")
    del arguments[place : place + 2]
    assert run_program(*arguments).exit_code == 0
    assert same_runs(whole, tmp_path / "run")
    assert run_program(*arguments_of(shards, tmp_path / "run")).exit_code == 0


# --- several processes ---


def on_two_ranks(arguments):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, "--standalone", "-m", "train", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env=ONE_THREAD,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow(reason="starts torchrun with two processes")
@pytest.mark.parametrize("backbone", ["resnet18", "squeezenet1_1"])
def test_two_ranks_lose_what_one_loses(tmp_path, backbone):
    """Seven videos in steps of four: the last step deals two to one rank and one to the other."""
    shards = write_dataset(tmp_path / "tiny", train=7, val=3, test=2)
    options = ("--dropout", 0, "--batch-size", 4, "--epochs", 2, "--backbone", backbone)
    options += ("--lr", 0.001, "--ema", 0.5)
    alone, shared = (fit_arguments(shards, tmp_path / name, *options) for name in ("one", "two"))
    assert run_program(*alone).exit_code == 0
    done = on_two_ranks(shared)
    assert done.stdout.count("2 epochs, val top-1") == 1, "only the first rank speaks"
    assert len(re.findall(r"^epoch \d/2: ", done.stderr, re.MULTILINE)) == 2
    ours, theirs = (metrics_of(tmp_path / name) for name in ("one", "two"))
    for mine, other in zip(ours, theirs, strict=True):
        for column in ("train_loss", "val_loss"):
            assert float(other[column]) == pytest.approx(float(mine[column]), abs=1e-5)
        assert (other["train_top1"], other["val_top1"]) == (mine["train_top1"], mine["val_top1"])
    states = [
        load_checkpoint(tmp_path / name / "last.pt")[0].state_dict() for name in ("one", "two")
    ]
    assert states[0].keys() == states[1].keys()
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, atol=1e-3, rtol=1e-2, msg=name)


@pytest.mark.slow(reason="starts torchrun with two processes, which compile a network")
def test_two_ranks_compiled_in_bf16_and_channels_last(tmp_path):
    """All that is for speed at once, with BatchNorm frozen but for the first."""
    shards = write_dataset(tmp_path / "tiny", train=7, val=3, test=2)
    options = ("--dropout", 0, "--batch-size", 4, "--epochs", 2, "--backbone", "resnet18")
    options += ("--lr", 0.001, "--partial-bn", "--precision", "bf16", "--channels-last")
    alone = fit_arguments(shards, tmp_path / "one", *options)
    shared = fit_arguments(shards, tmp_path / "two", *options, "--compile")
    assert run_program(*alone).exit_code == 0
    on_two_ranks(shared)
    ours, theirs = (metrics_of(tmp_path / name) for name in ("one", "two"))
    for mine, other in zip(ours, theirs, strict=True):
        for column in ("train_loss", "val_loss"):
            assert float(other[column]) == pytest.approx(float(mine[column]), rel=0.01)


# --- early stop, averages, what is in a checkpoint ---


def test_patience_stops_and_stays_stopped(shards, tmp_path, monkeypatch):
    validated = iter(Sums(loss, right, 3) for loss, right in enumerate([1, 2, 1, 2, 3, 3]))
    arguments = arguments_of(shards, tmp_path / "run", "--patience", 2, "--epochs", 9)
    with monkeypatch.context() as patch:
        patch.setattr(train.fit, "_validate", lambda *_: next(validated))
        result = run_program(*arguments)
    assert result.exit_code == 0
    assert [float(row["val_top1"]) * 3 for row in metrics_of(tmp_path / "run")] == [
        *(1, 2, 1, 2)  # the fourth is as right as the second, with a higher loss
    ]
    assert result.stderr.splitlines()[-1] == "no better val accuracy for 2 epochs: stopped"
    again = run_program(*arguments)
    assert again.stderr == "all 4 epochs were done before\n"


def test_patience_must_not_watch_test_videos(tmp_path):
    shards = write_dataset(tmp_path / "tiny", val=0)
    assert failure(*fit_arguments(shards, tmp_path / "run", "--patience", 3)) == (
        "error: split 1 has no val videos, and --patience must not stop by test videos; "
        "hold some training videos out with --val-fraction 0.1\n"
    )
    options = ("--patience", 3, "--val-fraction", 0.3, "--epochs", 1)
    assert run_program(*fit_arguments(shards, tmp_path / "run", *options)).exit_code == 0


def test_a_checkpoint_tests_the_average(whole):
    model, _, progress = load_checkpoint(whole / "last.pt")
    trained = progress["trained_weights"]
    assert not torch.equal(model.state_dict()["classifier.weight"], trained["classifier.weight"])


def test_a_checkpoint_knows_its_training_videos(whole, shards):
    names = read_manifest(shards / "manifest.jsonl").subset_names(1, "train")
    _, _, progress = load_checkpoint(whole / "last.pt")
    assert progress["trained_on"].tolist() == sorted(hashes("tiny", names).tolist())


# --- data that change or do not do ---


def test_shards_that_change_under_the_run(shards, tmp_path, monkeypatch):
    mine = write_dataset(tmp_path / "tiny", train=4, val=2, test=0)
    original = train.fit._validate

    def then_extracted_again(*arguments):
        with (mine / "rgb" / "index.json").open("a") as file:
            file.write("\n")
        return original(*arguments)

    monkeypatch.setattr(train.fit, "_validate", then_extracted_again)
    result = run_program(*fit_arguments(mine, tmp_path / "run"))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        f"error: {mine / 'rgb' / 'index.json'}: changed since this program opened it; "
        "run the same command again"
    )
    assert len(load_checkpoint(tmp_path / "run" / "last.pt")[2]["rows"]) == 1


def test_one_class_only(tmp_path):
    root = write_dataset(tmp_path / "tiny")
    videos = [(name, 0, *rest) for name, _, *rest in bright_or_dark(stored("rgb"), 8)]
    (root / "rgb").rename(tmp_path / "old")
    write_shards(root / "rgb", stored("rgb"), videos)
    manifest = read_manifest(root / "manifest.jsonl")
    records = tuple(replace(record, label=0) for record in manifest.records)
    write_manifest(replace(manifest, records=records), root / "manifest.jsonl")
    assert failure(*fit_arguments(root, tmp_path / "run")) == (
        f"error: {root / 'rgb'}: all 4 training videos are of one class, walk; "
        "at least 2 are needed\n"
    )


def test_a_class_without_training_videos_is_named(tmp_path):
    root, names = write_dataset(tmp_path / "tiny"), ("walk", "run", "fly")
    manifest = read_manifest(root / "manifest.jsonl")
    write_manifest(replace(manifest, class_names=names), root / "manifest.jsonl")
    (root / "rgb").rename(tmp_path / "old")
    write_shards(root / "rgb", stored("rgb"), bright_or_dark(stored("rgb"), 8), class_names=names)
    result = run_program(*fit_arguments(root, tmp_path / "run", "--epochs", 1))
    assert result.exit_code == 0
    assert result.stderr.splitlines()[0] == (
        "1 of 3 classes have no training video: fly; they will never be predicted"
    )


def test_no_flip_class_must_be_a_class(shards, tmp_path):
    assert failure(*fit_arguments(shards, tmp_path / "run", "--no-flip-class", "hop")) == (
        "error: --no-flip-class hop: no such class; there are walk, run\n"
    )


def test_a_single_pixel_is_too_little_for_batch_norm(tmp_path):
    shards = write_dataset(tmp_path / "tiny", train=4, val=2)
    options = ("--num-segments", 1, "--batch-size", 3)  # the last step has one video
    assert failure(*fit_arguments(shards, tmp_path / "run", *options)) == (
        "error: BatchNorm cannot train on a single image of one pixel: a part of a step has only "
        "one snippet left; choose another --batch-size or a larger --input-size\n"
    )
