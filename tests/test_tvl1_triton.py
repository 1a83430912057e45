"""Triton's kernels of TV-L1: their results in its interpreter, and code for GPUs that they give."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_tvl1 import distance, moved_pair

from preprocess.tvl1 import tvl1_flow

pytest.importorskip("triton", reason="Triton is made for Linux")

from triton.backends.compiler import GPUTarget
from triton.compiler import CompiledKernel
from triton.runtime import JITFunction, driver
from triton_flow import CASES

from preprocess import tvl1_triton_kernels as kernels
from preprocess.tvl1_parameters import TVL1Parameters
from preprocess.tvl1_triton import Tiling, TritonSolver

NAMES = ["decide", "linearise", "median", "sweep"]
ROOT = Path(__file__).parent.parent
MOTIONS = [(1.5, (2.3, -1.2)), (0.0, (0.0, 0.0)), (0.0, (0.4, 0.7))]
INTERPRETED = pytest.mark.slow(reason="Triton's interpreter takes half a minute for three flows")


@pytest.fixture(scope="module")
def moved() -> tuple[np.ndarray, np.ndarray]:
    """Frames, (6, H, W), and three pairs of them that need different numbers of iterations."""
    frames = [frame for motion in MOTIONS for frame in moved_pair(41, 50, *motion)[:2]]
    return np.stack(frames), np.arange(6).reshape(3, 2)


@pytest.fixture(scope="module")
def interpreted(moved, tmp_path_factory) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("triton")
    np.savez(folder / "given.npz", frames=moved[0], pairs=moved[1])
    program = Path(__file__).with_name("triton_flow.py")
    subprocess.run(
        [sys.executable, program, folder / "given.npz", folder / "found.npz"],
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "1"},
    )
    return dict(np.load(folder / "found.npz"))


@INTERPRETED
@pytest.mark.parametrize("name", CASES)
def test_flow_is_that_of_numba(moved, interpreted, name: str) -> None:
    frames, pairs = moved
    parameters, _ = CASES[name]
    assert np.abs(interpreted[name][0]).mean() > 0.2
    for (first, second), found in zip(frames[pairs], interpreted[name]):
        difference = distance(found, tvl1_flow(first, second, **parameters))
        assert difference.mean() <= 0.001
        assert difference.max() < 0.05


@INTERPRETED
@pytest.mark.parametrize("name", CASES)
def test_pairs_stop_when_they_are_good_enough(interpreted, name: str) -> None:
    parameters, tiling = CASES[name]
    moving, still, slow = interpreted[f"{name}, iterations"].tolist()
    most = parameters["inner_iterations"] * parameters["outer_iterations"]
    assert still == parameters["num_warps"], "one for each warp finds no change"
    assert still < slow <= moving <= most * parameters["num_warps"]
    if name == "no median":
        assert {moving % tiling.halo, slow % tiling.halo} != {0}, "some stop within a launch"


@INTERPRETED
@pytest.mark.parametrize("name", CASES)
def test_a_pair_does_not_depend_on_those_beside_it(interpreted, name: str) -> None:
    np.testing.assert_array_equal(interpreted[f"{name}, alone"], interpreted[name][-1])


@INTERPRETED
def test_no_pairs_at_all(interpreted) -> None:
    assert interpreted["none"].shape == (0, 41, 50, 2)


def test_tiles_cover_every_size() -> None:
    for length in range(3, 400):
        for halo in (1, 4, 7):
            tiling = Tiling(32, 64, halo)
            down, across = tiling.count(length, length)
            for count, side in ((down, 32), (across, 64)):
                core = side - 2 * halo
                covered = np.zeros(length, int)
                for tile in range(count):
                    first = tile * core - 1
                    begin = 0 if tile == 0 else first + halo
                    end = length if tile == count - 1 else first + side - halo
                    assert end <= first + side, "the last tile reaches the border"
                    covered[begin:end] += 1
                assert (covered == 1).all()


class NoGPU:
    """Stands for Triton's driver: tells what to compile for, and nothing else."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self._target


@pytest.fixture
def compiled(monkeypatch) -> Callable[[int, int], dict[str, CompiledKernel]]:
    """Return what runs the solver up to, not including, the start of a kernel on a GPU."""
    launched: dict[str, CompiledKernel] = {}
    run = JITFunction.run

    def prepare(kernel: JITFunction, *arguments: Any, warmup: bool, **options: Any) -> None:
        launched[kernel.__name__] = run(kernel, *arguments, warmup=True, **options)

    def compiled_for(capability: int, num_pairs: int) -> dict[str, CompiledKernel]:
        monkeypatch.setattr(driver, "_active", NoGPU(capability))
        launched.clear()
        solve = TritonSolver(TVL1Parameters(num_warps=1, outer_iterations=1))
        frames, flow = torch.zeros(2 * num_pairs, 41, 50), torch.zeros(num_pairs, 2, 41, 50)
        solve(frames, torch.arange(2 * num_pairs).view(num_pairs, 2), flow)
        return dict(launched)

    monkeypatch.setattr(JITFunction, "run", prepare)
    yield compiled_for
    for name in NAMES:
        getattr(kernels, name).device_caches.clear()


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_gpus(compiled, capability: int) -> None:
    found = compiled(capability, 3)
    assert sorted(found) == NAMES
    for kernel in found.values():
        assert kernel.asm["cubin"].startswith(b"\x7fELF")
        assert kernel.metadata.target.arch == capability
        assert kernel.metadata.shared <= 48 * 1024, "what every GPU has, without asking for more"
    assert found["sweep"].metadata.num_warps == Tiling().warps
    assert found["sweep"].metadata.maxnreg == Tiling().registers


def test_code_is_the_same_for_any_number_of_pairs(compiled) -> None:
    first, *others = (compiled(90, num_pairs) for num_pairs in (1, 2, 3, 4, 16))
    for other in others:
        assert {name: id(kernel) for name, kernel in other.items()} == {
            name: id(kernel) for name, kernel in first.items()
        }
