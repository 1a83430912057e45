"""Compare flow algorithms on real clips: time, and distance to OpenCV's TV-L1.

Every method computes every pair, one after the other on one thread, so that a busy machine slows
all of them alike; ratios are per pair, in the same run. Prints a table and writes JSON.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import cv2
import numpy as np

from benchmarks.report import write_result
from preprocess.tvl1 import opencv_tvl1, tvl1_backend, tvl1_flow

SIZE = (340, 256)  # width, height
DATASETS = ("kinetics", "ucf101", "hmdb51")
SUFFIXES = (".avi", ".mp4", ".mkv", ".webm")
REFERENCE = "opencv tvl1"

START = """
import time
import cv2, numpy
def resident():
    lines = open('/proc/self/status').read().splitlines()
    sizes = {line.split(':')[0]: int(line.split()[1]) / 1024 for line in lines if ' kB' in line}
    return sizes['VmRSS'], sizes['RssAnon']
before = resident()
image = numpy.random.default_rng(0).integers(0, 256, (256, 340)).astype(numpy.uint8)
start = time.perf_counter()
from preprocess.tvl1 import tvl1_backend, tvl1_flow
tvl1_backend()
ready = time.perf_counter() - start
tvl1_flow(image, image)
after = resident()
print(ready, after[0] - before[0], after[1] - before[1])
"""


def frames_of(path: Path) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    while True:
        ok, frame = capture.read()
        if not ok:
            return
        yield cv2.cvtColor(cv2.resize(frame, SIZE), cv2.COLOR_BGR2GRAY)


def pairs_of(path: Path, stride: int, max_pairs: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return pairs of neighbours, every ``stride``-th, thinned out evenly to ``max_pairs``."""
    frames = list(frames_of(path))
    starts = np.arange(0, len(frames) - 1, stride)
    if len(starts) > max_pairs:
        starts = starts[np.linspace(0, len(starts) - 1, max_pairs + 2).round().astype(int)[1:-1]]
    return [(frames[start], frames[start + 1]) for start in starts]


def methods() -> dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    theirs = opencv_tvl1()
    medium = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    fast = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    return {
        REFERENCE: lambda a, b: theirs.calc(a, b, None),
        "tvl1": tvl1_flow,
        "tvl1 median=1": lambda a, b: tvl1_flow(a, b, median=1),
        "farneback": lambda a, b: cv2.calcOpticalFlowFarneback(
            a, b, None, 0.5, 3, 15, 3, 5, 1.2, 0
        ),
        "dis medium": lambda a, b: medium.calc(a, b, None),
        "dis fast": lambda a, b: fast.calc(a, b, None),
    }


def stored_bytes(flow: np.ndarray) -> int:
    """Return the bytes of this flow as a shard stores it: one JPEG, bound 20 px, quality 95."""
    image = np.rint(255 * (np.clip(flow, -20, 20) + 20) / 40).astype(np.uint8)
    stacked = np.concatenate([image[..., 0], image[..., 1]])
    return len(cv2.imencode(".jpg", stacked, [cv2.IMWRITE_JPEG_QUALITY, 95])[1])


def start_of_a_worker() -> dict[str, float]:
    """Return what a new process pays for TV-L1, beyond OpenCV and NumPy; median of five."""
    rows = []
    for _ in range(5):
        command = [sys.executable, "-c", START]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows.append([float(value) for value in output.split()])
    seconds, resident, private = np.median(rows, axis=0)
    return {
        "warm_start_seconds": round(seconds, 3),
        "resident_mib": round(resident, 1),
        "private_mib": round(private, 1),
    }


@click.command(help=__doc__)
@click.option(
    "--clips",
    default=lambda: os.environ.get("TSN_CLIPS"),
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Folder with kinetics, ucf101 and hmdb51; default: environment variable TSN_CLIPS.",
)
@click.option("--stride", default=10, show_default=True, help="Take every n-th pair of a clip.")
@click.option("--max-pairs", default=8, show_default=True, help="At most this many per clip.")
def main(clips: Path, stride: int, max_pairs: int) -> None:
    cv2.setNumThreads(1)
    tvl1_backend()
    algorithms = methods()
    seconds: dict[str, list[float]] = {name: [] for name in algorithms}
    sizes: dict[str, list[int]] = {name: [] for name in algorithms}
    means: dict[str, list[float]] = {name: [] for name in algorithms}
    tails: dict[str, list[float]] = {name: [] for name in algorithms}
    rows = []
    num_clips = 0
    for dataset in DATASETS:
        for path in sorted((clips / dataset).rglob("*")):
            if path.suffix not in SUFFIXES:
                continue
            num_clips += 1
            first_pair = len(means[REFERENCE])
            for first, second in pairs_of(path, stride, max_pairs):
                flows = {}
                for name, function in algorithms.items():
                    repeats = 1 if name == REFERENCE else 3
                    times = []
                    for _ in range(repeats):
                        start = time.perf_counter()
                        flows[name] = function(first, second)
                        times.append(time.perf_counter() - start)
                    seconds[name].append(float(np.median(times)))
                for name, flow in flows.items():
                    difference = np.linalg.norm(flow - flows[REFERENCE], axis=-1)
                    means[name].append(float(difference.mean()))
                    tails[name].append(float(np.percentile(difference, 99)))
                    sizes[name].append(stored_bytes(flow))
            here = slice(first_pair, None)
            ratio = np.array(seconds[REFERENCE][here]) / np.array(seconds["tvl1"][here])
            rows.append(
                {
                    "clip": f"{dataset}/{path.stem}",
                    "pairs": len(ratio),
                    "opencv_ms": round(float(np.median(seconds[REFERENCE][here])) * 1e3, 1),
                    "tvl1_ms": round(float(np.median(seconds["tvl1"][here])) * 1e3, 1),
                    "ratio": round(float(np.median(ratio)), 1),
                    "epe_mean": round(float(np.mean(means["tvl1"][here])), 4),
                    "epe_p99": round(float(np.mean(tails["tvl1"][here])), 4),
                }
            )
            click.echo(f"{rows[-1]['clip'][:40]:40} {rows[-1]['ratio']:5.1f} x", err=True)
    if not rows:
        raise click.ClickException(f"{clips}: no videos in kinetics, ucf101 or hmdb51")

    table = {}
    for name in algorithms:
        ratio = np.array(seconds[REFERENCE]) / np.array(seconds[name])
        table[name] = {
            "ms_per_pair": round(float(np.median(seconds[name])) * 1e3, 2),
            "ratio_median": round(float(np.median(ratio)), 1),
            "ratio_p10": round(float(np.percentile(ratio, 10)), 1),
            "ratio_total": round(sum(seconds[REFERENCE]) / sum(seconds[name]), 1),
            "epe_mean": round(float(np.mean(means[name])), 4),
            "epe_p99": round(float(np.mean(tails[name])), 4),
            "kib_per_pair": round(float(np.mean(sizes[name])) / 1024, 1),
        }
    result = {
        "size": list(SIZE),
        "clips": num_clips,
        "pairs": len(means[REFERENCE]),
        "stride": stride,
        "max_pairs_per_clip": max_pairs,
        "methods": table,
        "per_clip": rows,
        "ratio_median_over_clips": round(float(np.median([row["ratio"] for row in rows])), 1),
        "worker": start_of_a_worker(),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
    path = write_result("flow", result)
    print_table(result)
    print(path)


def print_table(result: dict) -> None:
    print(f"{result['clips']} clips, {result['pairs']} pairs, {SIZE[0]}x{SIZE[1]}, one thread")
    head = ("method", "ms/pair", "x OpenCV", "10th pct", "EPE mean", "EPE p99", "KiB/pair")
    print("{:14} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}".format(*head))
    for name, row in result["methods"].items():
        print(
            f"{name:14} {row['ms_per_pair']:9.2f} {row['ratio_median']:9.1f} "
            f"{row['ratio_p10']:9.1f} {row['epe_mean']:9.4f} {row['epe_p99']:9.4f} "
            f"{row['kib_per_pair']:9.1f}"
        )
    worker = result["worker"]
    print(
        f"a worker: {worker['warm_start_seconds']} s to start, {worker['resident_mib']} MiB more "
        f"in memory, of which {worker['private_mib']} MiB its own"
    )


if __name__ == "__main__":
    main()
