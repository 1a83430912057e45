"""Slots that a GPU copies from, as far as that can be reached without one."""

import gc
import sys

import pytest
import torch

from train.slots import Filled, make_slots, opened

GPU = torch.device("cuda")


@pytest.fixture
def runtime(monkeypatch):
    """What is asked of CUDA; the answer is ``code``."""

    class Runtime:
        code = 0
        calls = ()

        def cudaHostRegister(self, address, num_bytes, flags):
            self.calls += (("register", address, num_bytes, flags),)
            return self.code

        def cudaHostUnregister(self, address):
            self.calls += (("unregister", address),)

    found = Runtime()
    monkeypatch.setattr(torch.cuda, "cudart", lambda: found)
    return found


@pytest.fixture
def pinned(monkeypatch):
    """Sizes of what was copied into pinned memory; slots that CUDA took count as pinned."""
    copied = []

    def pin(tensor):
        copied.append(tensor.numel())
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    return copied


def filled(slots):
    return Filled(slots.number, 1, 5)


def test_slots_are_pinned_once_and_let_go_with_them(runtime, pinned, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda tensor: bool(runtime.calls))
    slots = make_slots(1, 8)
    address = slots.memory.data_ptr()
    slots.memory[:] = torch.arange(24).view(3, 8)
    assert opened(filled(slots)).tolist() == [8, 9, 10, 11, 12]
    assert runtime.calls == ()
    for _ in range(2):
        data = opened(filled(slots), GPU)
        assert data.tolist() == [8, 9, 10, 11, 12]
        assert data.data_ptr() == address + 8
    assert runtime.calls == (("register", address, 24, 0),)
    del slots, data
    gc.collect()
    assert runtime.calls[1:] == (("unregister", address),)
    assert pinned == []


def test_a_forked_process_lets_go_of_slots_without_a_word(runtime, pinned, monkeypatch):
    def forked():
        raise RuntimeError("Cannot re-initialize CUDA in forked subprocess.")

    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda tensor: True)
    slots = make_slots(1, 8)
    opened(filled(slots), GPU)
    monkeypatch.setattr(torch.cuda, "cudart", forked)
    said = []
    monkeypatch.setattr(sys, "unraisablehook", said.append)
    del slots
    gc.collect()
    assert said == []


@pytest.mark.parametrize("raises", [True, False])
def test_memory_that_stays_loose_is_copied_into_pinned_memory(runtime, pinned, monkeypatch, raises):
    asked = []

    def zeros(size, device):
        asked.append(device)
        if raises:
            raise RuntimeError("CUDA error: operation not supported")

    runtime.code = 801  # cudaErrorNotSupported
    slots = make_slots(1, 8)
    monkeypatch.setattr(torch, "zeros", zeros)
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda tensor: False)
    for _ in range(2):
        opened(filled(slots), GPU)
    assert len(runtime.calls) == 1 and asked == ["cuda"]
    assert pinned == [5, 5]
    del slots
    gc.collect()
    assert len(runtime.calls) == 1


def test_a_batch_without_a_slot_is_pinned_too(pinned, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "is_pinned", lambda tensor: False)
    data = torch.arange(3, dtype=torch.uint8)
    assert opened(data) is data
    assert opened(data, torch.device("cpu")) is data
    assert torch.equal(opened(data, GPU), data)
    assert pinned == [3]
