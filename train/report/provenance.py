"""Where the numbers of a page come from: settings, shards, versions, commands."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from train.report.extraction import Extraction, ShardRecord, shard_record
from train.report.inputs import Inputs, Run
from train.report.repeat import evaluate_command, fit_command, fuse_command
from tsn_core.version import __version__

_PACKAGES = ("torch", "torchvision", "numpy", "h5py", "opencv-contrib-python")
_TESTED = (
    *("checkpoint", "split", "subset", "num_snippets", "crops", "trained_on"),
    *("features", "head", "top1_by_subset"),
)


def settings_table(runs: Sequence[Run]) -> list[tuple[str, list[str], bool]]:
    """Return rows of settings: (name, one text for each run, whether they differ)."""
    columns = [_flat(run.config) | _flat(_tested(run)) for run in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = []
    for name in names:
        values = [column.get(name, "–") for column in columns]
        rows.append((name, values, len(set(values)) > 1))
    return rows


def origins(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Return where each run comes from: its shards then and now, and how to repeat it."""
    return [_origin(run) for run in runs]


def _origin(run: Run) -> dict[str, Any]:
    shards = shard_record(run.config)
    missing = run.metrics.get("missing")
    commands = [
        fit_command(run.config, run.path) if run.config else None,
        evaluate_command(run.path, run.metrics),
    ]
    return {
        "name": run.name,
        "path": str(run.path),
        "shards": shards,
        "state": _state(run.config.get("shards_digest"), shards),
        "split": run.config.get("split", run.metrics.get("split")),
        "seed": run.config.get("seed"),
        "epochs": len(run.epochs),
        "missing": [str(name) for name in missing] if isinstance(missing, list) else [],
        "commands": [command for command in commands if command],
        "stored": _pairs(shards.modality | {"sampling": shards.sampling}) if shards else [],
    }


def _state(trained: Any, shards: ShardRecord | None) -> str:
    if shards is None:
        return "not known"
    if shards.digest is None:
        return f"{trained} in training; not readable now"
    if trained != shards.digest:
        return f"{trained} in training, {shards.digest} now: extracted again since"
    return f"{trained}, unchanged since training"


def versions(extractions: Sequence[Extraction], runs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return rows of texts: what, in the extraction, for this page."""
    then: dict[str, set[str]] = {}
    for extraction in extractions:
        told = extraction.report.get("versions")
        for name, text in told.items() if isinstance(told, Mapping) else ():
            then.setdefault(str(name), set()).add(str(text))
    for run in runs:
        for name, text in run["shards"].versions.items() if run["shards"] else ():
            then.setdefault(name, set()).add(text)
    now = {"package": __version__, "python": platform.python_version()}
    now |= {_plain(name): _installed(name) for name in _PACKAGES}
    names = dict.fromkeys([*now, *then])
    return [[n, ", ".join(sorted(then.get(n, ()))) or "–", now.get(n, "–")] for n in names]


def fusion_command(inputs: Inputs) -> str | None:
    """Return the command that makes the fusion of the page; None where there is none."""
    tested = [run for run in inputs.runs if run.name in inputs.weights]
    if not tested or (inputs.fused is None and len(tested) < 2):
        return None
    weights = [inputs.weights[run.name] for run in tested]
    return fuse_command([run.path for run in tested], weights, inputs.fused)


def _tested(run: Run) -> dict[str, Any]:
    return {f"tested {name}": run.metrics[name] for name in _TESTED if name in run.metrics}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for name, value in values.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{label}: ")
        elif isinstance(value, list):
            flat[label] = ", ".join(map(str, value)) or "–"
        elif isinstance(value, bool):
            flat[label] = "yes" if value else "no"
        else:
            flat[label] = "–" if value is None else str(value)
    return flat


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(name, text) for name, text in _flat(values).items() if text != "–"]


def _plain(package: str) -> str:
    return "opencv" if package.startswith("opencv") else package


def _installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "–"
