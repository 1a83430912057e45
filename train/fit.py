"""Training one network: the loop, from top to bottom."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import astuple
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from train.batches import PlanSampler
from train.clock import Clock
from train.distributed import Ranks
from train.feed import on_device
from train.learner import Learner, Sums
from train.optimization import OptimizerSettings, rate_at
from train.progress import EpochProgress
from train.run_folder import RunFolder, save_checkpoint
from train.settings import LoopSettings
from tsn_core.errors import TSNError
from tsn_core.listing import few
from tsn_core.loading import stream

_NAMED_VIDEOS = 8  # in a message

Report = Callable[[dict[str, Any]], None]


def fit(
    learner: Learner,
    *,
    run: RunFolder,
    progress: dict[str, Any],
    identity: dict[str, Any],
    class_names: Sequence[str],
    train_loader: DataLoader,
    val_loader: DataLoader,
    check_data: Callable[[], None],
    optimizer: OptimizerSettings,
    loop: LoopSettings,
    ranks: Ranks,
    show: EpochProgress,
    reports: Sequence[Report] = (),
) -> list[dict[str, Any]]:
    """Train, validating after every epoch, from wherever ``progress`` says.

    Everything random in a step follows from the seed, the epoch, the step and the rank: the same
    settings on the same machine give the same losses, wherever a run was interrupted.

    Args:
        learner: The network; holds the state of ``progress`` already.
        run: Where checkpoints and metrics go.
        progress: Rows of the finished epochs, the step within the next one and its sums so far:
            ``{"rows": [], "step": 0, "sums": [0, 0, 0], "seconds": [0, 0, 0]}`` at the start.
        identity: Goes into every checkpoint beside the progress: what was trained on.
        class_names: By class id.
        train_loader: Training batches, by a ``PlanSampler``.
        val_loader: Validation batches, likewise.
        check_data: Raises an error where the data have changed under the run.
        optimizer: The learning rate's schedule.
        loop: Epochs, seed, patience and how often to save.
        ranks: The processes that train together.
        show: Where progress is shown.
        reports: Told the row of every epoch.

    Returns:
        The rows of ``metrics.csv``.

    Raises:
        TSNError: The loss is no longer finite; the last checkpoint is whole.
    """
    rows: list[dict[str, Any]] = list(progress["rows"])
    sampler: PlanSampler = train_loader.batch_sampler  # type: ignore[assignment]
    plan = sampler.plan
    step, sums = progress["step"], Sums(*progress["sums"])
    clock = Clock(*progress["seconds"])

    def save(name: str) -> None:
        if ranks.is_first:
            place = {
                "rows": rows,
                "step": step,
                "sums": list(astuple(sums)),
                "seconds": clock.seconds(),
            }
            content = {**identity, **place, **learner.state()}
            save_checkpoint(run.checkpoint(name), learner.tested, class_names, content)

    def begin(epoch: int) -> Iterator[Any]:
        """Have the loading processes begin with the training batches of an epoch."""
        sampler.epoch, sampler.first_step = epoch, step
        return stream(train_loader)

    saved = time.monotonic()
    kept = _kept(rows, step)
    begun: Iterator[Any] | None = None
    while len(rows) < loop.epochs and not is_over(rows, loop.patience):
        epoch = len(rows)
        check_data()
        loaded = begin(epoch) if begun is None else begun
        to_validate = stream(val_loader)  # its first batches are ready when they are wanted
        with closing(on_device(loaded, learner.device, clock)) as batches:
            while step < plan.num_steps:
                torch.manual_seed(_step_seed(loop.seed, epoch, step, ranks.rank))
                rate = rate_at(
                    epoch * plan.num_steps + step, plan.num_steps, loop.epochs, optimizer
                )
                parts = plan.num_parts(step)
                with clock.computing():
                    done = learner.step(islice(batches, parts), parts, plan.step_size(step), rate)
                if not math.isfinite(done.loss):
                    places = plan.order(epoch)[step * plan.batch_size :][: plan.step_size(step)]
                    raise _not_finite(train_loader, epoch, done.loss, places, kept)
                sums.add(done)
                step += 1
                show.batch(epoch, "train", step, plan.num_steps, sums)
                due = ranks.first_says(_is_due(saved, loop.save_seconds), learner.device)
                if step < plan.num_steps and due:
                    save("last")
                    saved, kept = time.monotonic(), _kept(rows, step)
        step, begun = 0, None
        if epoch + 1 < loop.epochs:
            begun = begin(epoch + 1)  # while the validation computes
        validated = _validate(learner, val_loader, to_validate, epoch, show, kept)
        rows.append(
            {
                "epoch": epoch + 1,
                "learning_rate": rate,
                "train_loss": sums.loss / sums.videos,
                "train_top1": sums.right / sums.videos,
                "val_loss": validated.loss / validated.videos,
                "val_top1": validated.right / validated.videos,
                **clock.columns(),
            }
        )
        sums, clock = Sums(), Clock()
        if is_best(rows):
            save("best")
        save("last")  # an epoch is done when this one is
        saved, kept = time.monotonic(), _kept(rows, step)
        if ranks.is_first:
            run.write_metrics(rows)
            for report in reports:
                report(rows[-1])
        show.epoch_done(rows[-1])
    return rows


def _validate(
    learner: Learner,
    loader: DataLoader,
    loaded: Iterator[Any],
    epoch: int,
    show: EpochProgress,
    kept: str,
) -> Sums:
    """Return the sums over the validation videos of all ranks, whose batches are ``loaded``."""
    sums = Sums()
    with closing(on_device(loaded, learner.device)) as batches:
        for number, batch in enumerate(batches, start=1):
            done = learner.validate(batch)
            if not math.isfinite(done.loss):
                raise _not_finite(loader, epoch, done.loss, batch[2].tolist(), kept)
            sums.add(done)
            show.batch(epoch, "val", number, len(loader), sums)
    return learner.add_up(sums)


def is_best(rows: Sequence[dict[str, Any]]) -> bool:
    """Return whether the last epoch has the best accuracy, or the lower loss at the same."""
    return best_epoch(rows) == len(rows)


def best_epoch(rows: Sequence[dict[str, Any]]) -> int:
    """Return the 1-based number of the first epoch of the best validation."""
    ranks = [(row["val_top1"], -row["val_loss"]) for row in rows]
    return ranks.index(max(ranks)) + 1


def is_over(rows: Sequence[dict[str, Any]], patience: int) -> bool:
    """Return whether so many epochs went by without a better validation; 0 has all patience."""
    return bool(patience and rows and len(rows) - best_epoch(rows) >= patience)


def _is_due(saved: float, seconds: float) -> bool:
    return time.monotonic() - saved >= seconds


def _step_seed(seed: int, epoch: int, step: int, rank: int) -> int:
    """Return the seed of dropout in one step, wherever the run was interrupted."""
    return int(np.random.SeedSequence((seed, epoch, step, rank)).generate_state(1, np.uint64)[0])


def _kept(rows: Sequence[dict[str, Any]], step: int) -> str:
    """Return what the last checkpoint holds, for messages."""
    if step:
        return f"last.pt keeps step {step} of epoch {len(rows) + 1}"
    return f"last.pt keeps epoch {len(rows)}" if rows else "no epoch was finished"


def _not_finite(
    loader: DataLoader, epoch: int, loss: float, places: Iterable[int], kept: str
) -> TSNError:
    names = [loader.dataset.name(int(place)) for place in places]  # type: ignore[attr-defined]
    return TSNError(
        f"epoch {epoch + 1}: the loss is {loss} in a batch of {few(names, _NAMED_VIDEOS)}; "
        f"lower --lr or --clip-gradient; {kept}"
    )
