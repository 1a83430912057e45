"""Everything that a page says, gathered from the folders of runs into one plain dict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from train.bootstrap import LEVEL
from train.bottleneck import step_text, waiting_hint
from train.metrics import confusion_matrix, predictions
from train.mistakes import mistakes
from train.report.accuracies import accuracy_rows, fusion_gain
from train.report.class_order import clustered
from train.report.classes import class_columns
from train.report.curves import charts, hover_data
from train.report.extraction import Extraction, extractions
from train.report.inputs import Inputs, Run, open_inputs
from train.report.provenance import fusion_command, origins, settings_table, versions
from train.report.thumbnails import thumbnails
from train.report.videos import video_columns
from train.scores import Scores
from tsn_core.version import __version__


def gather(
    folders: Sequence[Path], *, subset: str = "test", num_mistakes: int = 24
) -> dict[str, Any]:
    """Return what ``page.render`` makes a page of.

    Args:
        folders: Of runs and of at most one fusion.
        subset: Whose test is shown.
        num_mistakes: How many of the worst mistakes are shown with a picture.

    Returns:
        Texts, numbers and charts for the template; under ``data``, what its script needs.

    Raises:
        InputError: The folders do not go together; see ``open_inputs``.
    """
    remarks: list[str] = []
    inputs = open_inputs(folders, subset, remarks.append)
    configs = [run.config for run in inputs.runs if run.config]
    found = extractions(configs, remarks.append)
    sources = origins(inputs.runs)
    cards, num_wrong = _mistakes(inputs.tests, configs, num_mistakes, remarks)
    curves = [
        (run, charts(run.epochs, str(run.config.get("val_subset", "val")))) for run in inputs.runs
    ]
    return {
        "fused": inputs.fused,
        "title": _title(found, inputs),
        "subset": subset,
        "level": f"{100 * LEVEL:g}%",
        "remarks": remarks,
        "accuracies": accuracy_rows(inputs),
        "gain": fusion_gain(inputs.tests),
        "curves": [(run.name, drawn, _times(run)) for run, drawn in curves if drawn],
        "num_videos": len(next(iter(inputs.tests.values())).names) if inputs.tests else 0,
        "mistakes": cards,
        "num_mistakes": num_wrong,
        "extractions": found,
        "runs": [run.name for run in inputs.runs],
        "settings": settings_table(inputs.runs),
        "origins": sources,
        "fusion_command": fusion_command(inputs),
        "fusion_how": str(inputs.how.get("weights", "usual")),
        "versions": versions(found, sources),
        "made": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "version": __version__,
        "data": _data(inputs, [drawn for _, drawn in curves if drawn], found),
    }


def _times(run: Run) -> list[str]:
    """Return where the time of a run's steps went, and what would help if it waited."""
    hint = waiting_hint(
        run.epochs,
        num_workers=None,
        codec=None,
        resize_on=str(run.config.get("resize_on", "workers")),
        decode_on=str(run.config.get("decode_on", "workers")),
    )
    return [text for text in (step_text(run.epochs), hint) if text]


def _title(found: Sequence[Extraction], inputs: Inputs) -> str:
    datasets = [str(e.report["dataset"]) for e in found if "dataset" in e.report]
    tests = list(inputs.tests) or [run.name for run in inputs.runs]
    names = list(dict.fromkeys(datasets)) or [Path(e.root).name for e in found]
    parts = [name for name in tests if name != "fusion"] or tests
    return ": ".join(part for part in (", ".join(names), " + ".join(parts)) if part)


def _mistakes(
    tests: Mapping[str, Scores],
    configs: Sequence[dict[str, Any]],
    number: int,
    remarks: list[str],
) -> tuple[list[dict[str, Any]], int]:
    """Return the worst mistakes of the last test with their pictures, and how many there are."""
    if not tests:
        return [], 0
    *others, main = tests
    rows = mistakes(tests[main])
    worst = rows[:number]
    pictures = thumbnails([row["video"] for row in worst], configs, remarks.append)
    places = {str(name): place for place, name in enumerate(tests[main].names)}
    said = {
        name: predictions(tests[name].video_scores, tests[name].labels).tolist() for name in others
    }
    class_names = tests[main].class_names
    cards = []
    for row in worst:
        place = places[row["video"]]
        others_said = [(name, str(class_names[said[name][place]])) for name in others]
        cards.append({**row, "picture": pictures.get(row["video"]), "others": others_said})
    return cards, len(rows)


def _data(inputs: Inputs, curves: Sequence[Any], found: Sequence[Extraction]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "curves": [hover_data(chart) for drawn in curves for chart in drawn],
        "failures": [row for extraction in found for row in extraction.failures],
        "tests": list(inputs.tests),
    }
    if not inputs.tests:
        return data
    main = list(inputs.tests.values())[-1]
    confusion = confusion_matrix(main.video_scores, main.labels)
    return {
        **data,
        "classes": np.asarray(main.class_names).tolist(),
        "clustered": clustered(confusion),
        "columns": class_columns(inputs.tests),
        "videos": video_columns(inputs.tests),
    }
