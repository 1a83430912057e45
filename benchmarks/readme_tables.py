"""Prints the tables of measured numbers in README and docs from ``results/*.json``."""

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
    loader = json.loads((RESULTS / "loader.json").read_text())["ratios"]
    rgb, flows = loader["rgb"], loader["flow"]
    opened = json.loads((RESULTS / "open.json").read_text())["10000_shards"]
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
        (
            "training snippets from shards against folders of JPEGs read with PIL, one loading "
            "process: jpeg rgb, flow; raw rgb, flow",
            f"{rgb['jpeg_over_pil']:.1f}, {flows['jpeg_over_pil']:.1f}; "
            f"{rgb['raw_over_pil']:.0f}, {flows['raw_over_pil']:.0f} times as fast",
        ),
        (
            "the same with crops resized on the device, raw rgb, flow",
            f"{rgb['raw_device_over_pil']:.0f}, {flows['raw_device_over_pil']:.0f} times as fast",
        ),
        (
            "opening 10,000 shards, 640,000 videos, with the catalogue against without",
            f"{opened['seconds_without_over_with_catalog']:.0f} times as fast",
        ),
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


def loader_rows() -> list[str]:
    """Return the lines of the table of loaders in ``docs/performance.md``."""
    speeds = json.loads((RESULTS / "loader.json").read_text())["snippets_per_second"]
    lines = [f"| loader | {' | '.join(speeds)} |", "|---" + "|---:" * len(speeds) + "|"]
    for name in speeds["rgb"]:
        cells = []
        for by_name in speeds.values():
            value = by_name.get(name)
            times = "" if value is None else f"{value / by_name['PIL folder']:.2g}"
            cells.append("–" if value is None else f"{value:,.0f} ({times})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def stage_rows() -> list[str]:
    """Return the lines of the table of stages in ``docs/performance.md``."""
    stages = json.loads((RESULTS / "scaling.json").read_text())["stages"]
    speeds = {name: one["per_second"] for name, one in stages.items()}
    rows = [
        f"| {name} | {v:,.0f} |" if v >= 100 else f"| {name} | {v:.3g} |"
        for name, v in speeds.items()
    ]
    return ["| one core | per second |", "|---|---:|", *rows]


def growth_rows() -> list[str]:
    """Return the lines of the table of growth in ``docs/performance.md``."""
    result = json.loads((RESULTS / "scaling.json").read_text())
    lines = []
    for what, by_name in result["growth"].items():
        xs = [f"{point[0]:.3g}" for point in next(iter(by_name.values()))]
        lines += [f"| {what} | {' | '.join(xs)} |", "|---" + "|---:" * len(xs) + "|"]
        for name, points in by_name.items():
            cells = [f"{seconds:.2g} s" for _, seconds in points]
            lines.append(f"| {name} | {' | '.join(cells)} |")
        lines.append("")
    for what, by_name in result["runs"].items():
        for name, points in by_name.items():
            cells = [f"{int(x)}: {seconds:.3g} s" for x, seconds in points]
            lines.append(f"{what}, {name}: {', '.join(cells)}")
    return lines


def open_rows() -> list[str]:
    """Return the lines of the table of opening in ``docs/performance.md``."""
    result = json.loads((RESULTS / "open.json").read_text())
    small, large = result["1000_shards"], result["10000_shards"]
    lines = ["| | 1,000 shards, 64,000 videos | 10,000 shards, 640,000 videos |", "|---|---:|---:|"]
    for what, name in (
        ("open_shards", "`open_shards`"),
        ("shard_set_without_catalog", "the same without `catalog.hdf5`"),
        ("subset", "with the videos of a split, from `manifest.jsonl`"),
        ("reads", "10,000 videos of random shards read, in one process"),
    ):
        cells = [
            f"{r[what]['seconds']:.2g} s, {r[what]['peak_grown_mb']:.0f} MB" for r in (small, large)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def shuffle_rows() -> list[str]:
    """Return the lines of the table of shuffling in ``docs/performance.md``."""
    rows = json.loads((RESULTS / "shuffle.json").read_text())["rows"]
    lines = [
        "| window | shards in a batch | classes in a batch | pairs met again | top-1, by seed |",
        "|---|---:|---:|---:|---|",
    ]
    return lines + [
        f"| {row['window'] or 'all'} | {row['shards_in_a_batch']:.1f} | "
        f"{row['classes_in_a_batch']:.1f} | {row['pairs_met_again_over_chance']:.2f} | "
        f"{', '.join(f'{100 * top1:.1f}%' for top1 in row['top1'])} |"
        for row in rows
    ]


_TABLES = (
    measured_rows,
    accuracy_rows,
    loader_rows,
    stage_rows,
    growth_rows,
    open_rows,
    shuffle_rows,
)

if __name__ == "__main__":
    for table in _TABLES:
        print("\n".join([*table(), ""]))
