"""Triton's kernels of TV-L1: their results in its interpreter, and code for GPUs that they give."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_tvl1 import distance, moved_pair

from preprocess.tvl1 import tvl1_flow

pytest.importorskip("triton", reason="Triton is made for Linux")

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from triton_flow import CASES

from preprocess import tvl1_triton_kernels as kernels
from preprocess.tvl1_triton import Tiling

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


FLOATS, INTEGERS = "*fp32", "*i32"
SIZE = {"height": "i32", "width": "i32", "stride": "i32"}
TILING = Tiling()
ARGUMENTS = {
    "sweep": (
        {
            **dict.fromkeys(["u", "p", "slopes", "errors"], FLOATS),
            **dict.fromkeys(["at_u", "at_p", "todo"], INTEGERS),
            "num_pairs": "i32",
            **SIZE,
            "tiles_across": "i32",
            "limit": "fp32",
            "tau": "fp32",
        },
        {"TILE_Y": TILING.height, "TILE_X": TILING.width, "HALO": TILING.halo},
        {"num_warps": TILING.warps, "maxnreg": TILING.registers},
    ),
    "decide": (
        {
            "errors": FLOATS,
            **dict.fromkeys(["at_u", "at_p", "todo", "active", "iterations"], INTEGERS),
            "num_tiles": "i32",
            "next_todo": "i32",
            "threshold": "fp32",
        },
        {"HALO": 4, "TILES": 128, "COUNTS": 4},
        {},
    ),
    "linearise": (
        {
            **dict.fromkeys(["frames", "seconds", "u", "slopes"], FLOATS),
            "at_u": INTEGERS,
            "pairs": "*i64",
            "num_pairs": "i32",
            **SIZE,
            "unit": "fp32",
            "smallest": "fp32",
        },
        {"BLOCK": TILING.block},
        {},
    ),
    "median": (
        {"u": FLOATS, "at_u": INTEGERS, "active": INTEGERS, "num_pairs": "i32", **SIZE},
        {"SIZE": 5, "BLOCK": TILING.block},
        {},
    ),
}


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_kernels_compile_for_gpus(name: str, capability: int) -> None:
    arguments, constants, options = ARGUMENTS[name]
    kernel = getattr(kernels, name)
    assert [*arguments, *constants] == kernel.arg_names
    source = ASTSource(
        fn=kernel,
        signature={**arguments, **dict.fromkeys(constants, "constexpr")},
        constexprs=constants,
    )
    compiled = compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert compiled.asm["cubin"].startswith(b"\x7fELF")
    assert compiled.metadata.shared <= 48 * 1024, "what every GPU has, without asking for more"
