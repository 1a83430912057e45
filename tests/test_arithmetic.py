"""What is left to the device, and what is asked of a GPU, as far as one need not be there."""

import json

import pytest
import torch
from test_learner import CPU, loop
from train_helpers import fit_arguments, message_of, run_program, write_dataset

from train.arithmetic import choose_algorithms, precision_type, settled

GPU = torch.device("cuda")


@pytest.fixture(params=[True, False])
def has_bf16(request, monkeypatch):
    def is_supported(including_emulation=True):
        return request.param or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_supported)
    return request.param


def test_auto_is_bf16_and_channels_last_on_a_gpu_that_has_it(has_bf16):
    found = settled(loop(precision="auto", channels_last=None), GPU)
    assert found.precision == ("bf16" if has_bf16 else "fp32")
    assert found.channels_last == has_bf16


def test_auto_is_fp32_on_a_cpu(has_bf16):
    found = settled(loop(precision="auto", channels_last=None), CPU)
    assert (found.precision, found.channels_last) == ("fp32", False)


@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize("changes", [("fp32", True), ("bf16", False), ("bf16", True)])
def test_what_was_chosen_stays(has_bf16, device, changes):
    chosen = loop(precision=changes[0], channels_last=changes[1])
    assert settled(chosen, device) == chosen


def test_a_precision_alone_brings_its_layout(has_bf16):
    for precision, device, expected in (
        ("bf16", GPU, True),
        ("fp16", GPU, True),
        ("fp32", GPU, False),
        ("bf16", CPU, False),
    ):
        assert settled(loop(precision=precision, channels_last=None), device).channels_last == (
            expected
        )


def test_a_gpu_without_bf16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert message_of(precision_type, "bf16", GPU) == (
        "--precision bf16: this GPU does not compute in it; choose fp16 or fp32"
    )


def test_convolutions_of_a_gpu_are_the_same_in_every_run(monkeypatch):
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    try:
        cudnn.deterministic, cudnn.benchmark = False, True
        choose_algorithms(CPU)
        assert (cudnn.deterministic, cudnn.benchmark) == (False, True)
        choose_algorithms(GPU)
        assert (cudnn.deterministic, cudnn.benchmark) == (True, False)
    finally:
        cudnn.deterministic, cudnn.benchmark = before


def test_a_run_remembers_what_it_came_to(tmp_path):
    shards = write_dataset(tmp_path / "tiny")
    run = tmp_path / "run"
    result = run_program(*fit_arguments(shards, run, "--epochs", 1))
    assert result.exit_code == 0, result.stderr
    config = json.loads((run / "config.json").read_text())
    assert (config["precision"], config["channels_last"]) == ("fp32", False)
    result = run_program(*fit_arguments(shards, run, "--epochs", 1, "--precision", "fp32"))
    assert result.exit_code == 0, result.stderr
