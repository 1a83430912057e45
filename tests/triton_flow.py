"""Compute flow by Triton's interpreter; run as ``python triton_flow.py IN.npz OUT.npz``.

A process of its own with ``TRITON_INTERPRET=1``: kernels are for the interpreter or for a GPU from
their import on.
"""

import sys

import numpy as np
import torch

from preprocess.tvl1_parameters import TVL1Parameters
from preprocess.tvl1_torch import BatchTVL1
from preprocess.tvl1_triton import Tiling, TritonSolver

TINY = {"num_scales": 2, "num_warps": 2}
OTHERS = {"tau": 0.2, "lambda_": 0.1, "theta": 0.4, "epsilon": 0.03}
CASES = {
    # of which the last tiles are cut by the border, and of one tile alone
    "median of 5": (
        {**TINY, "inner_iterations": 8, "outer_iterations": 2},
        Tiling(32, 16, 3, block=4096),
    ),
    "median of 3": (
        {**TINY, **OTHERS, "median": 3, "inner_iterations": 9, "outer_iterations": 2},
        Tiling(64, 64, 4, block=4096),
    ),
    "no median": (
        {**TINY, "median": 1, "inner_iterations": 7, "outer_iterations": 3, "epsilon": 0.03},
        Tiling(32, 32, 3, block=1024),
    ),
}


def main(given: str, results: str) -> None:
    """Compute all cases, and one pair by itself."""
    torch.set_num_threads(1)
    arrays = np.load(given)
    frames, pairs = arrays["frames"], arrays["pairs"]
    found = {}
    for name, (parameters, tiling) in CASES.items():
        solver = TritonSolver(TVL1Parameters(**parameters), tiling)
        compute = BatchTVL1("cpu", solver=solver, **parameters)
        found[name] = compute(frames, pairs)
        found[f"{name}, iterations"] = solver.iterations[frames.shape[1:]].numpy()
        found[f"{name}, alone"] = compute(frames, pairs[-1:])[0]
    found["none"] = compute(frames, pairs[:0])
    np.savez(results, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
