"""Predicting on a video against how long it plays, on a CPU, by the program as a user types it.

The networks are not trained, which makes them no slower. ``seconds`` is what the program says: from
opening a file to fused scores, at the default sampling. ``with_start_seconds`` is a call of the
program on a single video, from the shell and back. ``core_seconds_per_second`` is the time of
processors that a second of video takes, without the start: of a call on all videos less one on the
first; unlike the others it hardly depends on what else the machine does.

Run as ``python -m benchmarks.bench_predict``.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import clips_folder, write_result
from preprocess.commands.modality_options import stored_modality
from train.run_folder import RunFolder, save_checkpoint
from tsn_core.tsn import TSN, ModelSettings

_BACKBONES = ("mobilenet_v2", "resnet18")
_SETS = ("kinetics", "hmdb51", "ucf101", "aerobics")
_CLIPS = 3  # of each set
_CLASSES = tuple(f"class {number}" for number in range(51))


def write_run(folder: Path, modality: str, backbone: str) -> Path:
    """Write the run of an untrained network, extracted for at the default settings."""
    stored = stored_modality(
        modality,
        flow="farneback",
        bound=20.0,
        size=(256, 340),
        short_side=None,
        snippet_length=None,
        codec="jpeg",
        quality=95,
    )
    settings = ModelSettings(
        modality=modality,
        snippet_length=stored.snippet_length,
        backbone=backbone,
        consensus="avg",
        num_segments=3,
        num_classes=len(_CLASSES),
        dropout=0.8,
        top=1,
        partial_bn=True,
    )
    torch.manual_seed(0)
    model = TSN(settings, "none")
    run = RunFolder(folder)
    config = {"shards": "", "modality_folder": stored.folder, "split": 1, "input_size": 224}
    run.claim({**config, "val_subset": "test", "model": settings.to_dict()})
    told = {"stored_modality": stored.to_json(), "sampling": json.dumps({"snippets": 25})}
    save_checkpoint(run.checkpoint("last"), model, _CLASSES, told)
    return folder


def predict(videos: list[Path], runs: list[Path]) -> tuple[list[dict[str, Any]], float, float]:
    """Return what the program says, and the seconds of the call: on the clock, of processors."""
    words = [sys.executable, "-m", "tsn_app.predict_cli", *map(str, videos), "--json"]
    words += ["--device", "cpu", *(word for run in runs for word in ("--run", str(run)))]
    began = time.perf_counter()
    before = _core_seconds()
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return rows, time.perf_counter() - began, _core_seconds() - before


def _core_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and write ``results/predict.json``."""
    root = clips_folder()
    clips = {
        name: sorted(
            path for path in (root / name).rglob("*") if path.suffix in (".avi", ".mp4", ".mpg")
        )[:_CLIPS]
        for name in _SETS
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for backbone in _BACKBONES:
            rgb, flow = (
                write_run(Path(folder) / f"{modality}-{backbone}", modality, backbone)
                for modality in ("rgb", "flow")
            )
            for modalities, runs in (("rgb", [rgb]), ("rgb+flow-farneback", [rgb, flow])):
                paths = [path for paths in clips.values() for path in paths]
                found, _, cores = predict(paths, runs)
                _, whole, first_cores = predict(paths[:1], runs)
                others = sum(row["duration_seconds"] for row in found[1:])
                for name in _SETS:
                    names = {str(path) for path in clips[name]}
                    chosen = [row for row in found if row["video"] in names]
                    times = [row["duration_seconds"] / row["seconds"] for row in chosen]
                    rows.append(
                        {
                            "backbone": backbone,
                            "modalities": modalities,
                            "clips": name,
                            "duration_seconds": sum(row["duration_seconds"] for row in chosen),
                            "seconds": sum(row["seconds"] for row in chosen),
                            "times_as_fast_as_it_plays": statistics.median(times),
                            "slowest": min(times),
                        }
                    )
                    if name == _SETS[0]:
                        rows[-1]["with_start_seconds"] = whole
                        rows[-1]["core_seconds_per_second"] = (cores - first_cores) / others
                    print(json.dumps(rows[-1]), flush=True)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    result = {"threads": torch.get_num_threads(), "load_average": load, "rows": rows}
    print(write_result("predict", result))


if __name__ == "__main__":
    main()
