"""Finding actions in long synthetic videos with a flow network trained on short ones.

The rule that makes an action of probabilities was chosen on the videos of seed 1; the result is
that of seed 0. Everything goes through the command-line programs, as a user would type it; the
commands are part of the result. Run as ``python -m benchmarks.bench_untrimmed``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_accuracy import run
from benchmarks.report import write_result
from train import overlap
from train.actions import ActionRule, find_actions, probabilities_over_time
from train.annotations import read_annotations
from train.scores import read_scores
from train.windows import SCALES, moment_edges, place_windows, timeline_scores, window_scores

_SEEDS = (0, 1)
_FLOW = "--modality flow --flow farneback --bound 8 --size 160x120"
_FIT = (
    "--modality flow --weights none --no-flip --input-size 64 --dropout 0.2 --optimizer adamw "
    "--lr 0.001 --head-lr-factor 1 --schedule cosine --crop-scales 1,0.875 --batch-size 16 "
    "--epochs 12"
)
_SHOWN = "videos_up_up_0001.avi.png"  # a timeline for the documentation


def measure(out: Path, seed: int, score: Any, rule: ActionRule) -> dict[str, Any]:
    """Return the overlap of the actions that ``score`` of snippets and their times leads to."""
    with np.load(out / f"windows{seed}" / "windows.npz", allow_pickle=False) as arrays:
        names, class_names = arrays["names"].tolist(), arrays["class_names"].tolist()
        videos = [
            (arrays["snippet_scores"][chosen], arrays["snippet_time"][chosen])
            for chosen in (arrays["snippet_video"] == video for video in range(len(names)))
        ]
    path = out / f"data/untrimmed{seed}/annotations.json"
    annotated = read_annotations(path, class_names)
    content = json.loads(path.read_text())["videos"]
    found, frames, rates = [], [], []
    for name, (scores, times) in zip(names, videos):
        duration, fps = content[name]["duration_seconds"], content[name]["fps"]
        probabilities = probabilities_over_time(
            score(scores, times, duration), times, rule.smooth_seconds
        )
        found.append(find_actions(probabilities, moment_edges(times, duration), rule))
        frames.append(round(duration * fps))
        rates.append(fps)
    true = [annotated[name] for name in names]
    return overlap.summarize(found, true, len(class_names), frames, rates)


def of_windows(*lengths: float) -> Any:
    """Return a function that gives snippets the mean scores of the windows that hold them."""

    def score(scores: np.ndarray, times: np.ndarray, duration: float) -> np.ndarray:
        placed = [place_windows(times, duration, length) for length in lengths]
        return timeline_scores(len(times), [(one, window_scores(scores, one)) for one in placed])

    return score


def of_snippets(scores: np.ndarray, times: np.ndarray, duration: float) -> np.ndarray:
    """Return the snippets' own scores."""
    return scores


def main() -> None:
    """Measure and write ``results/untrimmed.json``, and a picture for the documentation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo/untrimmed"))
    parser.add_argument("--picture", type=Path, default=Path("docs/images/timeline.png"))
    options = parser.parse_args()
    out = options.out
    began = time.perf_counter()
    commands = [
        run("preprocess", f"synth --out {out}/data/synthetic"),
        run(
            "preprocess",
            f"extract --dataset synthetic --data {out}/data/synthetic --out {out}/shards {_FLOW}",
        ),
        run("train", f"fit --shards {out}/shards/synthetic {_FIT} --out {out}/runs/flow"),
        run("train", f"evaluate {out}/runs/flow --num-snippets 5 --crops 1"),
    ]
    for seed in _SEEDS:
        data, name = out / f"data/untrimmed{seed}", f"untrimmed{seed}"
        commands += [
            run("preprocess", f"synth --kind untrimmed --seed {seed} --out {data}"),
            run(
                "preprocess",
                f"extract --dataset folder --data {data} --out {out}/shards {_FLOW} --fps 5",
            ),
            run(
                "train",
                f"windows {out}/runs/flow --shards {out}/shards/{name} "
                f"--annotations {data}/annotations.json --out {out}/windows{seed}",
            ),
        ]
    metrics = [json.loads((out / f"windows{seed}/metrics.json").read_text()) for seed in _SEEDS]
    trimmed = read_scores(out / "runs/flow")
    rule = ActionRule()
    result = {
        "trimmed_top1": float((trimmed.video_scores.argmax(axis=1) == trimmed.labels).mean()),
        "videos": metrics[0]["videos"],
        "actions": metrics[0]["actions"],
        "actions_of_tuning": metrics[1]["actions"],
        "rule": metrics[0]["rule"],
        "timelines": {
            name: measure(out, 0, score, rule)
            for name, score in (
                ("snippets", of_snippets),
                ("windows of 1 s", of_windows(1.0)),
                ("windows of 1, 2, 4 s", of_windows(*SCALES[:3])),
                ("windows of 1, 2, 4, 8, 16 s", of_windows(*SCALES)),
            )
        },
        "tuning": [
            {"threshold": threshold, "smooth_seconds": smooth}
            | measure(out, 1, of_snippets, ActionRule(threshold, smooth))
            for threshold, smooth in itertools.product((0.4, 0.5, 0.6, 0.7), (0.0, 0.5, 1.0, 2.0))
        ],
        "minutes": (time.perf_counter() - began) / 60,
        "commands": [command.replace(str(out), "OUT") for command in commands],
    }
    shutil.copyfile(out / "windows0/timeline" / _SHOWN, options.picture)
    print(write_result("untrimmed", result))


if __name__ == "__main__":
    main()
