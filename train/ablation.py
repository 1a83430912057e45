"""The same training with each consensus and several numbers of segments, compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train.ablation_plot import plot_ablation
from train.cross_table import cells, markdown
from train.crossval import CrossResult, Machine, TestSettings, cross_validate
from train.settings import RunSettings
from tsn_core.atomic import write_text
from tsn_core.consensus import CONSENSUS
from tsn_core.errors import InputError

ABLATION_FILES = ("ablation.json", "ablation.md", "ablation.png")
COLUMNS = ("consensus", "segments")


@dataclass(frozen=True)
class Variant:
    """What one row of the comparison is trained with."""

    consensus: str
    num_segments: int

    @property
    def folder(self) -> str:
        """Name of the folder of its runs.

        Examples:
            >>> Variant("avg", 3).folder
            'avg-3'
        """
        return f"{self.consensus}-{self.num_segments}"

    def of(self, settings: RunSettings) -> RunSettings:
        """Return a training's settings in this variant; topk takes all snippets at most."""
        return settings.with_network(
            consensus=self.consensus,
            num_segments=self.num_segments,
            top=min(settings.network.top, self.num_segments),
        )


def choose_variants(
    settings: RunSettings,
    consensus: Sequence[str],
    segments: Sequence[int],
    *,
    grid: bool = False,
) -> list[Variant]:
    """Return what is compared, each once.

    Args:
        settings: Of the training.
        consensus: Compared at the settings' number of segments.
        segments: Numbers of segments, compared with the settings' consensus.
        grid: Every consensus with every number of segments instead.

    Raises:
        InputError: There is no such consensus, a number is not positive, or nothing to compare.
    """
    for name in consensus:
        if name not in CONSENSUS:
            raise InputError(f"unknown consensus {name!r}; choose from {', '.join(CONSENSUS)}")
    for number in segments:
        if number < 1:
            raise InputError(f"--segments-list must be numbers > 0, got {number}")
    network = settings.network
    if grid:
        chosen = [Variant(name, number) for name in consensus for number in segments]
    else:
        chosen = [Variant(name, network.num_segments) for name in consensus]
        chosen += [Variant(network.consensus, number) for number in segments]
    if not chosen:
        raise InputError("nothing to compare: --consensus-list and --segments-list are empty")
    return list(dict.fromkeys(chosen))


def ablate(
    settings: RunSettings,
    variants: Sequence[Variant],
    splits: Sequence[int],
    out: Path,
    *,
    test: TestSettings,
    machine: Machine,
) -> dict[Variant, CrossResult]:
    """Train and test every variant on every split; goes on where an interrupted call stopped.

    Args:
        settings: Of the training, but for consensus and segments.
        variants: What is compared.
        splits: Numbers of the splits.
        out: Folder of all runs and of ``ABLATION_FILES``, which are written anew after every
            variant.
        test: How the networks are tested.
        machine: What computes.

    Raises:
        SettingsError: A run there has other settings.
        TSNError: As ``train_run`` and ``evaluate_run`` raise it.
    """
    results: dict[Variant, CrossResult] = {}
    for number, variant in enumerate(variants):
        results[variant], scores = cross_validate(
            variant.of(settings),
            splits,
            out / variant.folder,
            test=test,
            machine=machine,
            runs_before=number * len(splits),
            runs=len(variants) * len(splits),
        )
        name = next(iter(scores.values())).name
        about = {"dataset": settings.shards.name, "modality": name, "splits": list(splits)}
        tested = {"num_snippets": test.num_snippets, "crops": test.crops}
        _write(out, results, {**about, **tested})
    return results


def table_cells(results: Mapping[Variant, CrossResult]) -> list[list[str]]:
    """Return the cells of the comparison, one row for each variant."""
    return cells(COLUMNS, {(v.consensus, str(v.num_segments)): r for v, r in results.items()})


def _write(out: Path, results: Mapping[Variant, CrossResult], about: dict[str, Any]) -> None:
    rows = [
        {"consensus": v.consensus, "num_segments": v.num_segments, **result.to_dict()}
        for v, result in results.items()
    ]
    write_text(out / ABLATION_FILES[0], json.dumps({**about, "results": rows}, indent=1) + "\n")
    write_text(out / ABLATION_FILES[1], markdown(table_cells(results), len(COLUMNS)))
    splits = about["splits"]
    where = f"split {splits[0]}" if len(splits) == 1 else f"{len(splits)} splits"
    plot_ablation(
        {
            (v.consensus, v.num_segments): list(result.top1.values())
            for v, result in results.items()
        },
        out / ABLATION_FILES[2],
        f"{about['dataset']} {about['modality']}, {where}",
    )
