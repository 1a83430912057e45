"""TV-L1 of many pairs at once on a GPU: which way is the fastest, and how near to the CPU's result.

The pairs are 340x256 frames of made-up scenes that move, turn and grow, with noise, so that they
need different numbers of iterations, as real ones do. In one run: pairs per second of Triton's
kernels for several ways to cut the image, of torch's operations compiled and as they are, by number
of pairs in a batch; the distance to Numba's flow of the same pairs; how many iterations that took,
and the time by kernel. A rate counts everything from frames in this machine's memory to flow there.

Run as ``python -m benchmarks gpu_flow``. ``--small --device cpu`` shows that it works.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.machine import choose_device, gpu_names
from benchmarks.report import write_result
from preprocess.tvl1 import tvl1_backend, tvl1_flow
from preprocess.tvl1_parameters import TVL1Parameters
from preprocess.tvl1_torch import BatchTVL1, ScaleSolver

_MOTIONS = 64  # scenes that differ; a larger batch repeats them
_BYTES = 64  # that an iteration moves for a pixel, if nothing stays on the chip
# (rows, columns, halo, warps, registers) of ``tvl1_triton.Tiling``; the first is the default.
_TILINGS = (
    (32, 64, 4, 8, 128),
    (32, 64, 3, 8, 128),
    (32, 64, 4, 16, 64),
    (64, 64, 4, 16, 128),
    (64, 64, 6, 16, 128),
    (64, 64, 4, 32, 64),
    (32, 128, 4, 16, 128),
    (64, 128, 6, 32, 64),
    (32, 32, 2, 4, 128),
)


@dataclass(frozen=True)
class Scale:
    """How much is measured.

    Attributes:
        size: (height, width) of the frames in px.
        batches: Numbers of pairs in a batch.
        repeats: Of each measurement; the median counts.
        compared: Pairs whose flow is compared with Numba's.
        seconds: That a way may take for one batch; larger batches of a slower way are left out.
    """

    size: tuple[int, int]
    batches: tuple[int, ...]
    repeats: int
    compared: int
    seconds: float


FULL = Scale((256, 340), (16, 64, 128, 256, 512), 5, 32, 4.0)
SMALL = Scale((40, 52), (2,), 1, 2, 60.0)


def scenes(count: int, size: tuple[int, int]) -> np.ndarray:
    """Return frames of scenes before and after a small motion, (2 * count, H, W), uint8."""
    height, width = size
    frames = np.empty((2 * count, height, width), np.uint8)
    generator = np.random.default_rng(0)
    margin = 24
    for number in range(count):
        big = np.zeros((height + 2 * margin, width + 2 * margin), np.float32)
        for grain in (3, 6, 12, 24, 48):
            coarse = generator.normal(size=(big.shape[0] // grain + 2, big.shape[1] // grain + 2))
            big += grain**0.7 * cv2.resize(
                coarse.astype(np.float32), big.shape[::-1], interpolation=cv2.INTER_CUBIC
            )
        big = (big - big.min()) / (big.max() - big.min()) * 240
        centre = (big.shape[1] / 2, big.shape[0] / 2)
        turn, grow = generator.normal(0, 0.7), 1 + generator.normal(0, 0.01)
        matrix = cv2.getRotationMatrix2D(centre, turn, grow)
        matrix[:, 2] += generator.normal(0, 2.5, 2) * (number % 4 != 0)  # some stand nearly still
        moved = cv2.warpAffine(big, matrix, big.shape[::-1], flags=cv2.INTER_CUBIC)
        inside = np.s_[margin:-margin, margin:-margin]
        for offset, view in enumerate((big, moved)):
            noisy = view[inside] + generator.normal(0, 1.5, size)
            frames[2 * number + offset] = np.clip(np.rint(noisy), 0, 255)
    return frames


class Bench:
    """The pairs, and what is done with them."""

    def __init__(self, device: str, scale: Scale) -> None:
        self._device = device
        self._scale = scale
        self._frames = scenes(min(_MOTIONS, max(*scale.batches, scale.compared)), scale.size)

    def batch(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return frames and so many pairs of them."""
        numbers = np.arange(count) % (len(self._frames) // 2)
        frames = self._frames.reshape(-1, 2, *self._scale.size)[numbers]
        return frames.reshape(-1, *self._scale.size), np.arange(2 * count).reshape(count, 2)

    def rates(self, solver: str | ScaleSolver) -> dict[str, float]:
        """Return pairs per second by the number of pairs in a batch."""
        compute = BatchTVL1(self._device, solver=solver)
        found: dict[str, float] = {}
        for count in self._scale.batches:
            given = self.batch(count)
            compute(*given)  # compiles
            seconds = [self._timed(compute, given) for _ in range(self._scale.repeats)]
            found[str(count)] = round(count / statistics.median(seconds), 1)
            if statistics.median(seconds) * 2 > self._scale.seconds:
                break
        return found

    @staticmethod
    def _timed(compute: BatchTVL1, given: tuple[np.ndarray, np.ndarray]) -> float:
        began = time.perf_counter()
        compute(*given)  # ends with the copy back, which waits for the device
        return time.perf_counter() - began

    def distance(self, solver: str | ScaleSolver) -> dict[str, float]:
        """Return how far the flow is from Numba's, in px, and Numba's pairs per second."""
        frames, pairs = self.batch(self._scale.compared)
        flows = BatchTVL1(self._device, solver=solver)(frames, pairs)
        differences, seconds = [], []
        for (first, second), flow in zip(frames[pairs], flows):
            began = time.perf_counter()
            expected = tvl1_flow(first, second)
            seconds.append(time.perf_counter() - began)
            differences.append(np.linalg.norm(flow - expected, axis=-1))
        return {
            "mean_px": round(float(np.mean(differences)), 5),
            "worst_pair_mean_px": round(max(float(one.mean()) for one in differences), 5),
            "percentile_99_px": round(float(np.percentile(differences, 99)), 4),
            "numba_pairs_per_second": round(1 / statistics.median(seconds), 1),
        }


def solvers(device: str) -> dict[str, str | ScaleSolver]:
    """Return the ways that the device has, by name; the default first."""
    if device == "cpu":
        return {"eager": "eager"}
    tiled: dict[str, str | ScaleSolver] = {
        f"triton {name}": solver for name, solver in tilings().items()
    }
    return {**tiled, "compiled": "compiled", "eager": "eager"}


def tilings() -> dict[str, ScaleSolver]:
    """Return Triton's kernels by the way that they cut the image."""
    from preprocess.tvl1_triton import Tiling, TritonSolver

    assert _TILINGS[0] == tuple(asdict(Tiling()).values())[:5], "the default comes first"
    names = (f"{rows}x{columns}, {halo}" for rows, columns, halo, _, _ in _TILINGS)
    return {
        f"{name}, {tiling[3]} warps": TritonSolver(TVL1Parameters(), Tiling(*tiling))
        for name, tiling in zip(names, _TILINGS)
    }


def iterations(bench: Bench, solver: Any, count: int, device: str) -> dict[str, Any]:
    """Return how many iterations the pairs of a batch took, all warps together."""
    compute = BatchTVL1(device, solver=solver)
    given = bench.batch(count)
    compute(*given)
    by_scale = {
        f"{width}x{height}": round(float(done.float().mean()), 1)
        for (height, width), done in solver.iterations.items()
    }
    total = sum(
        height * width * float(done.sum()) for (height, width), done in solver.iterations.items()
    )
    return {"mean_by_scale": by_scale, "pixel_iterations_per_pair": round(total / count)}


def kernel_times(bench: Bench, solver: Any, count: int, device: str) -> dict[str, Any]:
    """Return milliseconds of the device by kernel for one batch, the longest first."""
    from torch.profiler import ProfilerActivity, profile

    compute = BatchTVL1(device, solver=solver)
    given = bench.batch(count)
    compute(*given)
    with profile(activities=[ProfilerActivity.CUDA]) as watched:
        compute(*given)
    rows = sorted(watched.key_averages(), key=lambda row: -row.self_device_time_total)
    return {
        row.key[:60]: {"ms": round(row.self_device_time_total / 1e3, 2), "calls": row.count}
        for row in rows[:12]
    }


def copy_rate(device: str) -> float:
    """Return bytes per second that a copy within the device's memory reads and writes."""
    source = torch.empty(1 << 28, device=device)
    target = torch.empty_like(source)
    seconds = []
    for _ in range(5):
        torch.cuda.synchronize()
        began = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return 2 * 4 * source.numel() / statistics.median(seconds)


def best(ways: dict[str, dict[str, float]], beginning: str = "") -> tuple[str, str, float]:
    """Return the fastest way whose name begins so, its number of pairs, and its rate."""
    return max(
        (
            (name, count, rate)
            for name, rates in ways.items()
            if name.startswith(beginning)
            for count, rate in rates.items()
        ),
        key=lambda row: row[2],
    )


def table(result: dict[str, Any]) -> str:
    """Return the rates as text, and what else was found."""
    counts = list(dict.fromkeys(count for rates in result["ways"].values() for count in rates))
    width = max(map(len, result["ways"]))
    lines = [
        f"{'pairs per second, by pairs in a batch':{width}}" + "".join(map("{:>9}".format, counts))
    ]
    for name, rates in result["ways"].items():
        cells = (f"{rates[count]:,.0f}" if count in rates else "–" for count in counts)
        lines.append(f"{name:{width}}" + "".join(map("{:>9}".format, cells)))
    lines += [f"{name} failed: {why}" for name, why in result["failed"].items()]
    distance = result["distance"]
    lines.append(
        "not compared with Numba's flow: Numba cannot be loaded here"
        if distance is None
        else f"to Numba's flow: mean {distance['mean_px']} px, worst pair "
        f"{distance['worst_pair_mean_px']} px; Numba on one core: "
        f"{distance['numba_pairs_per_second']} pairs/s"
    )
    if "kernels" in result:
        lines.append("one batch by kernel:")
        lines += [
            f"  {row['ms']:8.2f} ms {row['calls']:5} x  {name}"
            for name, row in result["kernels"].items()
        ]
    return "\n".join(lines)


def measure(device: str, scale: Scale) -> dict[str, Any]:
    """Measure everything that the device has."""
    bench = Bench(device, scale)
    chosen = solvers(device)
    default = next(iter(chosen))
    result: dict[str, Any] = {
        "device": gpu_names() if device != "cpu" else "cpu",
        "size": [scale.size[1], scale.size[0]],
        "default": default,
        "distance": bench.distance(chosen[default]) if tvl1_backend() == "numba" else None,
        "ways": {},
        "failed": {},
    }
    for name, solver in chosen.items():
        try:
            result["ways"][name] = bench.rates(solver)
        except Exception as error:  # of a compiler, or too little memory: the others go on
            if name == default:
                raise
            result["failed"][name] = " ".join(str(error).split()) or type(error).__name__
        print(name, result["ways"].get(name, "failed"), flush=True)
    _, count, result["pairs_per_second"] = best(result["ways"], default)
    name, _, result["best_pairs_per_second"] = best(result["ways"])
    result["best"] = name
    if device != "cpu":
        found = iterations(bench, chosen[default], int(count), device)
        moved = found["pixel_iterations_per_pair"] * _BYTES * result["pairs_per_second"]
        rate = copy_rate(device)
        result |= {
            "iterations": found,
            "kernels": kernel_times(bench, chosen[default], int(count), device),
            "copy_gigabytes_per_second": round(rate / 1e9),
            "memory_traffic_if_nothing_stayed": round(moved / rate, 2),
        }
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--small", action="store_true", help="tiny frames, nothing is measured")
    options = parser.parse_args(arguments)
    device = choose_device(options.device, "gpu_flow")
    cv2.setNumThreads(1)
    result = measure("cuda:0" if device == "cuda" else device, SMALL if options.small else FULL)
    print(table(result))
    if not options.small:
        print(write_result("gpu_flow", result))


if __name__ == "__main__":
    main()
