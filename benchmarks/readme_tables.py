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
    peak = extract["peak_megabytes"]["10_minutes"]
    isolation = extract["isolation_over_none"]
    seek = json.loads((RESULTS / "seek.json").read_text())["videos"]
    far, near = seek["h264_250.mp4"], seek["h264_50.mp4"]
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
        (
            "all modalities with Farneback against decoding, flow and encoding by themselves",
            f"{extract['all_farneback_over_its_parts']:.2f} times the time",
        ),
        (
            "processes of their own for videos against none: RGB, all modalities",
            f"{isolation['rgb']:.2f} and {isolation['all_farneback']:.2f} times the time",
        ),
        (
            "25 RGB snippets of a 20-minute against a 2-minute H.264 MP4, key pictures 50 and 250 "
            "frames apart",
            f"{near['rgb_20_over_2_minutes']:.2f} and {far['rgb_20_over_2_minutes']:.2f} times",
        ),
        (
            "seeking against decoding all of the 20 minutes",
            f"{near['rgb_decoding_all_over_seeking']:.0f} and "
            f"{far['rgb_decoding_all_over_seeking']:.1f} times as fast",
        ),
        ("two jobs against one, TV-L1 flow", f"{gain['flow_tvl1']:.2f} times as fast"),
        (
            "two jobs against one, all modalities with Farneback",
            f"{gain['all_farneback']:.2f} times as fast",
        ),
        (
            "peak memory of a decoding process, 10-minute video: RGB, all with TV-L1",
            f"{peak['rgb']:.0f} and {peak['all_tvl1']:.0f} MB",
        ),
        ("the same, 10-minute against 10-second video", f"{memory:.2f} times"),
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
