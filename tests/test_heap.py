"""Freed memory is kept where the C library can be told so, and nothing breaks elsewhere."""

import ctypes
import platform
import subprocess
import sys

import pytest

from tsn_core import heap

FAULTS = """
import resource, sys
import numpy as np
from tsn_core.heap import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def use():
    parts = [np.empty(3_000_000, np.uint8) for _ in range(8)]
    for part in parts:
        part[::4096] = 1
for _ in range(3):
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    words = [sys.executable, "-c", FAULTS, how]
    return int(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of the GNU C library")
def test_what_is_freed_is_not_cleared_anew():
    assert faults("kept") < faults("usual") / 10


@pytest.mark.parametrize("platform_name", ["darwin", "win32"])
def test_other_systems_are_left_alone(monkeypatch, platform_name):
    monkeypatch.setattr(heap.sys, "platform", platform_name)
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _: pytest.fail("asked"))
    heap.keep_freed_memory()


def test_other_c_libraries_are_left_alone(monkeypatch):
    monkeypatch.setattr(heap.ctypes, "CDLL", lambda _: object())
    heap.keep_freed_memory()


def test_it_takes_effect():
    if platform.libc_ver()[0] == "glibc":
        assert ctypes.CDLL(None).mallopt(-3, 32 << 20) == 1
