"""Prints the tables of measured numbers in the README from ``results/*.json``."""

from __future__ import annotations

import json

from benchmarks.report import RESULTS


def measured_rows() -> list[str]:
    """Return the lines of the table "Measured"."""
    extract = json.loads((RESULTS / "extract.json").read_text())
    flow = json.loads((RESULTS / "flow.json").read_text())
    tvl1 = flow["methods"]["tvl1"]
    gain = extract["two_jobs_over_one"]
    memory = extract["memory_10_minutes_over_10_seconds"]
    rows = (
        (
            "TV-L1 against OpenCV's, one thread, 340x256, median of "
            f"{flow['pairs']} pairs of {flow['clips']} clips",
            f"{tvl1['ratio_median']} times as fast",
        ),
        ("its mean difference to OpenCV's flow", f"{tvl1['epe_mean']:.3f} px"),
        (
            "RGB extraction against merely decoding the same files, one thread",
            f"{extract['rgb_over_decode_one_thread']:.2f} times the time",
        ),
        ("two jobs against one, TV-L1 flow", f"{gain['flow_tvl1']:.2f} times as fast"),
        (
            "two jobs against one, all modalities with Farneback",
            f"{gain['all_farneback']:.2f} times as fast",
        ),
        ("peak memory, 10-minute against 10-second video", f"{memory:.2f} times"),
    )
    return [f"| {what} | {result} |" for what, result in rows]


def accuracy_rows() -> list[str]:
    """Return the lines of the table of accuracies on the aerobics clips."""
    accuracy = json.loads((RESULTS / "accuracy.json").read_text())
    seeds = list(accuracy["pooled"].values())
    lines = [
        f"| input | {' | '.join(accuracy['pooled'])} |",
        "|---" * (len(seeds) + 1) + "|",
    ]
    for name, row in seeds[0].items():
        counts = [f"{rows[name]['right']} of {row['num_videos']}" for rows in seeds]
        lines.append(f"| {name} | {' | '.join(counts)} |")
    return lines


if __name__ == "__main__":
    print("\n".join([*measured_rows(), "", *accuracy_rows()]))
