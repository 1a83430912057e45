"""Which tests a page is about: the folders that it is asked for, and their fusion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from train.fuse import align, default_weight, different_names, fuse, spread_remark
from train.report.files import Remark, read_epochs, read_object
from train.scores import SCORES_NAME, Scores, read_scores, subset_path
from tsn_core.errors import InputError
from tsn_core.listing import few

_CLOSE = 1e-3  # of the largest score: what float32 sums may differ by


@dataclass(frozen=True)
class Run:
    """A run's folder.

    Attributes:
        name: What it is called on the page: its modality.
        path: The folder.
        config: Its settings; empty for a fused folder.
        epochs: Rows of its ``metrics.csv``.
        metrics: What its test wrote beside the scores.
        scores: Of that test, without those of snippets; None where it has not been tested.
    """

    name: str
    path: Path
    config: dict[str, Any]
    epochs: list[dict[str, float]]
    metrics: dict[str, Any]
    scores: Scores | None


@dataclass(frozen=True)
class Inputs:
    """Everything that a page is about.

    Attributes:
        runs: All runs, also those without a test.
        tests: Aligned scores by name, rgb first and the fusion last; empty if nothing was tested.
        weights: In the fusion, by the name of a test.
        fused: The folder of the fusion, where there is one.
        how: What ``metrics.json`` of the fusion says.
        subset: Whose videos were tested.
    """

    runs: tuple[Run, ...]
    tests: dict[str, Scores]
    weights: dict[str, float]
    fused: Path | None
    how: dict[str, Any]
    subset: str


def open_inputs(folders: Sequence[Path], subset: str, remark: Remark) -> Inputs:
    """Read the folders of runs and of at most one fusion of them.

    Args:
        folders: Of runs that fit, evaluate or head made, and of fuse.
        subset: Whose scores to read: ``test``, ``val`` or ``train``.
        remark: Told what the page lacks and why.

    Raises:
        InputError: A folder is given twice or holds no run, there are several fusions, or the runs
            do not go together.
    """
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise InputError("a run is given twice; give every run once")
    found = [_read_run(folder, subset, remark) for folder in folders]
    fusions = [run for run in found if "inputs" in run.metrics]
    runs = [run for run in found if "inputs" not in run.metrics]
    if len(fusions) > 1:
        raise InputError(
            f"{', '.join(str(run.path) for run in fusions)}: a page shows one fusion, "
            f"got {len(fusions)}; make a page for each"
        )
    fused = fusions[0] if fusions else None
    if fused and not runs:
        runs = _behind(fused, subset, remark)
    runs.sort(key=lambda run: run.name != "rgb")  # what others gain, they gain over rgb
    tested = [run for run in runs if run.scores is not None]
    names = different_names([_scores(run) for run in tested], [run.path for run in tested])
    renamed = {id(run): name for run, name in zip(tested, names)}
    runs = [replace(run, name=renamed.get(id(run), run.name)) for run in runs]
    tested = [run for run in runs if run.scores is not None]
    tests, weights = _with_fusion(tested, fused, remark)
    return Inputs(
        runs=tuple(runs),
        tests=tests,
        weights=weights,
        fused=fused.path if fused else None,
        how=fused.metrics if fused else {},
        subset=subset,
    )


def _read_run(folder: Path, subset: str, remark: Remark) -> Run:
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the folders of runs, or of a fusion")
    config = read_object(folder / "config.json", remark)
    metrics = read_object(subset_path(folder / "metrics.json", subset), remark)
    scores = None
    if subset_path(folder / SCORES_NAME, subset).is_file():
        scores = read_scores(folder, subset)
        scores = replace(scores, scores=scores.scores[:, :0])  # those of snippets are large
    elif config:
        more = "" if subset == "test" else f" --subset {subset}"
        remark(f"{folder}: not tested on {subset} videos; run tsn-train evaluate {folder}{more}")
    elif "inputs" in read_object(folder / "metrics.json", remark):
        raise InputError(
            f"{folder}: a fusion, which is of test videos; give its runs for --subset {subset}"
        )
    else:
        raise InputError(
            f"{folder}: no run there; give the folder that tsn-train fit, evaluate, head or fuse "
            "made"
        )
    name = scores.name if scores else str(config.get("modality_folder", folder.name))
    epochs = read_epochs(folder / "metrics.csv", remark)
    return Run(name, folder, config, epochs, metrics, scores)


def _behind(fused: Run, subset: str, remark: Remark) -> list[Run]:
    """Return the runs that a fused folder names, as far as they are still there."""
    folders = list(_folders(fused).values())
    there = [folder for folder in folders if subset_path(folder / SCORES_NAME, subset).is_file()]
    if not there or len(there) < len(folders):
        remark(
            f"{fused.path}: its inputs are not all found; give their folders, too, to see what "
            "each modality does"
        )
    return [_read_run(_short(folder), subset, remark) for folder in there]


def _short(folder: Path) -> Path:
    """Return a path without ``..``, from the working folder where it lies below that."""
    resolved = folder.resolve()
    here = Path.cwd()
    return resolved.relative_to(here) if resolved.is_relative_to(here) else resolved


def _scores(run: Run) -> Scores:
    assert run.scores is not None
    return run.scores


def _with_fusion(
    tested: Sequence[Run], fused: Run | None, remark: Remark
) -> tuple[dict[str, Scores], dict[str, float]]:
    """Return all tests, aligned, and the weights of the inputs of the fusion."""
    parts = [_scores(run) for run in tested]
    names = [run.name for run in tested]
    if fused is not None:
        parts.append(_scores(fused))
        names.append(_scores(fused).name)
    if not parts:
        return {}, {}
    total = {name for part in parts for name in part.names.tolist()}
    parts = align(parts)
    if left_out := len(total) - len(parts[0].names):
        remark(f"{left_out} videos are left out: not every test has them")
    tests = dict(zip(names, parts))
    if fused is not None:
        weights = _stored_weights(fused, tested)
        _check_fusion(tests, weights, fused, remark)
        return tests, weights
    if len(parts) < 2:
        return tests, {}
    weights = {name: default_weight(part.name) for name, part in tests.items()}
    if uneven := spread_remark(parts):
        remark(f"fusion by the usual weights: {uneven} with tsn-train fuse")
    return {**tests, "fusion": fuse(parts, list(weights.values()))}, weights


def _stored_weights(fused: Run, tested: Sequence[Run]) -> dict[str, float]:
    """Return the weights of a fusion by the names of the page, where it has those inputs.

    Inputs are known by their folders: of two runs of one modality the names tell the path as it
    was typed, and the order in which they were given.
    """
    inputs = fused.metrics["inputs"]
    rows = inputs.items() if isinstance(inputs, dict) else ()
    found = {name: row.get("weight") for name, row in rows if isinstance(row, dict)}
    folders = {name: path.resolve() for name, path in _folders(fused).items()}
    single = {path for path, number in Counter(folders.values()).items() if number == 1}
    page = {run.path.resolve(): run.name for run in tested if run.path.resolve() in single}
    taken = {page[path] for path in folders.values() if path in page}
    weights = {}
    for name, weight in found.items():
        shown = page.get(folders.get(name, Path()))
        if shown is None:  # elsewhere now, or not on the page: only its name is left
            shown = f"{name} ({folders[name]})" if name in taken else name
        if isinstance(weight, (int, float)):
            weights[shown] = float(weight)
    return weights


def _folders(fused: Run) -> dict[str, Path]:
    """Return the folders of the inputs of a fusion, by the names that it gave them."""
    named = fused.metrics.get("folders")
    rows = named.items() if isinstance(named, dict) else ()
    return {name: fused.path / str(path) for name, path in rows}


def _check_fusion(
    tests: dict[str, Scores], weights: dict[str, float], fused: Run, remark: Remark
) -> None:
    """Remark it if the fusion is of other scores than the page shows beside it."""
    *names, last = tests
    if not names:
        return
    if unknown := [name for name in names if name not in weights]:
        remark(f"{fused.path}: was made without {few(unknown)}")
    elif set(names) == set(weights):
        total = sum(weights[name] * tests[name].video_scores for name in names)
        scores = tests[last].video_scores
        reach = float(np.abs(scores).max()) if scores.size else 0.0
        if float(np.abs(total - scores).max()) > _CLOSE * max(reach, 1e-6):
            remark(f"{fused.path}: was made of other scores than the runs have now; fuse again")
