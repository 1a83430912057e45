"""Estimating what a dataset costs from what a few of its videos cost.

Everything here is arithmetic over plain numbers; ``preprocess.survey`` does the measuring. A cost
is explained by the one thing that is known of every video without opening it, the size of its file.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LAWS = ("video", "byte", "both")  # from the simplest on
_BETTER = 0.95  # a law replaces a simpler one if its leave-one-out error is below that much of it
_DRAWS = 500
_TAIL = 0.05  # of an interval, at each end
_NORMAL_QUANTILE = 1.6449  # at 1 - _TAIL


def stratified(
    sizes: Sequence[float], number: int, generator: np.random.Generator
) -> tuple[int, ...]:
    """Choose videos of all sizes: one at random from each of equally many sorted by size.

    Args:
        sizes: Of all files.
        number: How many to choose; at most all are.
        generator: Source of all randomness.

    Returns:
        Their places, in ascending order of size.

    Examples:
        >>> len(stratified(range(100), 12, np.random.default_rng(0)))
        12
    """
    order = np.argsort(np.asarray(sizes, np.float64), kind="stable")
    if not (number and len(order)):
        return ()
    strata = np.array_split(order, min(number, len(order)))
    return tuple(int(generator.choice(stratum)) for stratum in strata)


def sample_sizes(num_videos: int, wanted: int) -> tuple[int, int]:
    """Return how many videos to measure, and how many others to check the estimate with.

    Half as many as are measured, where the dataset has enough.

    Examples:
        >>> sample_sizes(6766, 12), sample_sizes(6, 12), sample_sizes(1, 12)
        ((12, 6), (4, 2), (1, 0))
    """
    measured = min(wanted, max(num_videos - num_videos // 3, 1))
    return measured, min(wanted // 2, num_videos - measured)


@dataclass(frozen=True)
class Law:
    """What a video costs: so much for each, and so much for each byte of its file."""

    per_video: float
    per_byte: float

    def __call__(self, sizes: np.ndarray) -> np.ndarray:
        """Return the costs of files of these sizes, in bytes."""
        return self.per_video + self.per_byte * sizes


def fit_law(kind: str, sizes: np.ndarray, costs: np.ndarray) -> Law:
    """Fit a law to what some videos cost.

    Args:
        kind: ``video``: their mean. ``byte``: the ratio of the sums, which is the ratio estimator
            of sampling theory (Cochran, Sampling Techniques, chapter 6). ``both``: least squares,
            of which neither part may be negative.
        sizes: Of the files, in bytes, (n,), n > 0.
        costs: (n,).
    """
    assert kind in LAWS and len(sizes) == len(costs) > 0
    return Law(*map(float, _fit_laws(kind, sizes, costs)))


def _fit_laws(kind: str, sizes: np.ndarray, costs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit as many laws at once as there are rows of sizes and costs, (..., n).

    Returns:
        What each says of a video and of a byte, both (...).
    """
    mean_size, mean_cost = sizes.mean(axis=-1), costs.mean(axis=-1)
    zero = np.zeros_like(mean_cost)
    by_byte = np.divide(mean_cost, mean_size, out=zero.copy(), where=mean_size != 0)
    if kind == "video":
        return mean_cost, zero
    if kind == "byte":
        return zero, by_byte
    off = sizes - mean_size[..., None]
    spread = np.sum(off**2, axis=-1)
    slope = np.sum(off * (costs - mean_cost[..., None]), axis=-1)
    slope = np.divide(slope, spread, out=zero.copy(), where=spread != 0)
    start = mean_cost - slope * mean_size
    choices = [(spread == 0) | (slope < 0), start < 0]
    return np.select(choices, [mean_cost, zero], start), np.select(choices, [zero, by_byte], slope)


def leave_one_out(kind: str, sizes: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Return by how much each video's cost exceeds what the others foretell, (n,), n > 1."""
    keep = ~np.eye(len(sizes), dtype=bool)
    told = [fit_law(kind, sizes[k], costs[k])(sizes[n]) for n, k in enumerate(keep)]
    return costs - np.array(told)


def choose_law(sizes: np.ndarray, costs: np.ndarray) -> str:
    """Return the law that foretells left-out videos best; the simplest of about equal ones."""
    if len(sizes) < 4:  # too few to tell
        return LAWS[0]
    errors = {kind: _rms(leave_one_out(kind, sizes, costs)) for kind in LAWS}
    best = LAWS[0]
    for kind in LAWS[1:]:
        if errors[kind] < _BETTER * errors[best]:
            best = kind
    return best


def _rms(values: np.ndarray) -> float:
    return math.sqrt(float(np.mean(values**2)))


@dataclass(frozen=True)
class Estimate:
    """A cost of all videos together.

    Attributes:
        total: Of all videos.
        low: Lower end of the 90 % interval; nan where one video alone was measured.
        high: Upper end; likewise.
        each: Of every video, measured or foretold, (N,).
        kind: The law: one of ``LAWS``.
        law: It, as fitted to all measured videos.
        left_out_error: Sum of what the others foretell of each measured video over the sum of
            what was measured, minus 1; nan for one video.
        spread: Root mean square of the errors of single videos left out, over their mean.
    """

    total: float
    low: float
    high: float
    each: np.ndarray
    kind: str
    law: Law
    left_out_error: float
    spread: float

    @property
    def relative_error(self) -> float:
        """Half the width of the interval over the total; nan where unknown."""
        return (self.high - self.low) / 2 / self.total if self.total else math.nan


def estimate(
    sizes: np.ndarray,
    measured: Sequence[int],
    costs: np.ndarray,
    generator: np.random.Generator,
    *,
    failed: Sequence[int] = (),
    share: float = 1.0,
) -> Estimate:
    """Estimate what all videos cost from what some of them do.

    The interval is a bootstrap over the measured videos: each draw fits the law anew and adds the
    scatter of the videos that were not measured; it is widened for the few degrees of freedom as
    Student's interval is.

    Args:
        sizes: Of all files, in bytes, (N,).
        measured: Places of those that were measured, (n,), n > 0.
        costs: What these cost, (n,).
        generator: Of the bootstrap.
        failed: Places of those that cannot be extracted, which cost nothing.
        share: Of the videos of which that is not known, those that can.
    """
    places = np.asarray(measured)
    known = sizes[places]
    kind = choose_law(known, costs)
    law = fit_law(kind, known, costs)
    each = law(sizes.astype(np.float64)) * share
    each[places] = costs
    each[list(failed)] = 0.0
    total = float(each.sum())
    number = len(places)
    if number < 2:
        return Estimate(total, math.nan, math.nan, each, kind, law, math.nan, math.nan)
    errors = leave_one_out(kind, known, costs)
    mean = float(np.mean(costs))
    others = np.delete(sizes, [*places, *failed]).astype(np.float64)
    scatter = _rms(errors) * math.sqrt(len(others) * share)
    drawn = generator.integers(number, size=(_DRAWS, number))
    per_video, per_byte = _fit_laws(kind, known[drawn], costs[drawn])
    told = (per_video * len(others) + per_byte * others.sum()) * share
    draws = told + scatter * generator.standard_normal(_DRAWS)
    foretold = float(law(others).sum()) * share
    low, high = np.quantile(draws, [_TAIL, 1 - _TAIL]) - foretold
    free = number - (2 if kind == "both" else 1)
    wider = math.sqrt(number / free) * _student_quantile(free) / _NORMAL_QUANTILE
    return Estimate(
        total,
        total + wider * min(float(low), 0.0),
        total + wider * max(float(high), 0.0),
        each,
        kind,
        law,
        -float(errors.sum()) / float(costs.sum()) if mean else math.nan,
        _rms(errors) / mean if mean else math.nan,
    )


def _student_quantile(free: int) -> float:
    """Return the 95 % quantile of Student's t (Abramowitz and Stegun, 26.7.5; 1 to 4 as tabled)."""
    tabled = {1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132}
    if free in tabled:
        return tabled[free]
    z = _NORMAL_QUANTILE
    return z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)


def failure_interval(failed: int, tried: int) -> tuple[float, float]:
    """Return the 90 % interval of the share of videos that fail (Wilson's score interval).

    Examples:
        >>> [round(end, 2) for end in failure_interval(2, 12)]
        [0.06, 0.4]
    """
    z2 = _NORMAL_QUANTILE**2
    share = failed / tried
    middle = (share + z2 / (2 * tried)) / (1 + z2 / tried)
    half = math.sqrt(z2 * (share * (1 - share) / tried + z2 / (4 * tried**2))) / (1 + z2 / tried)
    return max(middle - half, 0.0), min(middle + half, 1.0)


def makespan(costs: Sequence[float], num_workers: int) -> float:
    """Return when the last of some workers is done, each taking the next job when it is free.

    Args:
        costs: Of the jobs, in the order in which they are handed out.
        num_workers: At least 1.

    Examples:
        >>> makespan([3, 3, 3], 2)
        6.0
    """
    free = [0.0] * min(num_workers, max(len(costs), 1))
    for cost in costs:
        heapq.heapreplace(free, free[0] + cost)
    return float(max(free))


def efficiency(num_workers: int, num_cores: int, full: float) -> float:
    """Return how fast one of several workers is, against one alone on its machine.

    Args:
        num_workers: Workers in all; those beyond the cores are on further machines of this kind.
        num_cores: Of one machine, where one worker runs on each.
        full: Measured with as many workers as cores, as a share of the speed of one alone.

    Returns:
        A share: linear between 1 for one worker and ``full`` for a machine that is full, or not
        less than that for several machines.

    Examples:
        >>> [efficiency(n, 3, 0.8) for n in (1, 2, 3, 300)]
        [1.0, 0.9, 0.8, 0.8]
    """
    on_one = min(num_workers, num_cores)
    return 1.0 if num_cores == 1 else 1.0 - (1.0 - full) * (on_one - 1) / (num_cores - 1)
