"""How busy the devices were that computed a run's flow, and what the run was limited by."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from preprocess.devices import CPU
from preprocess.flow_usage import FlowUsage
from preprocess.job import JobReport, VideoReport

_BUSY = 0.85  # of the time: more jobs would gain little
_WAITING = 0.5  # of the decoding processes' time


@dataclass(frozen=True)
class FlowFacts:
    """What a run's flow in batches was like.

    Attributes:
        devices: On how many devices it was computed.
        on_gpu: Whether these are GPUs.
        pairs: Computed.
        batches: In how many batches.
        filling: Pairs over those that would have fitted into the batches.
        run_seconds: Wall time of the run.
        seconds: For which processes were there that computed it, in all.
        busy_seconds: Of these, in which they computed.
        videos_seconds: Wall time of all videos, in their processes.
        waiting_seconds: Of these, waiting for flow.
    """

    devices: int
    on_gpu: bool
    pairs: int
    batches: int
    filling: float
    run_seconds: float
    seconds: float
    busy_seconds: float
    videos_seconds: float
    waiting_seconds: float

    @property
    def busy_share(self) -> float:
        """Of the time."""
        return self.busy_seconds / self.seconds if self.seconds > 0 else 0.0

    @property
    def waiting_share(self) -> float:
        """Of the time of the videos."""
        return self.waiting_seconds / self.videos_seconds if self.videos_seconds > 0 else 0.0

    @property
    def pairs_per_second(self) -> float:
        """Of all devices together, over the whole run."""
        return self.pairs / self.run_seconds if self.run_seconds > 0 else 0.0

    @property
    def bottleneck(self) -> str:
        """``flow``, ``decoding``, or ``neither``, where each waits for the other."""
        if self.busy_share >= _BUSY:
            return "flow"
        return "neither" if self.waiting_share >= _WAITING else "decoding"

    def text(self) -> str:
        """Return one line that names the bottleneck, and what would help."""
        who = "GPU" if self.on_gpu else "flow process"
        who += "es" if self.devices > 1 and not self.on_gpu else "s" if self.devices > 1 else ""
        if self.bottleneck == "flow":
            end = "flow is the bottleneck"
        elif self.bottleneck == "neither":
            end = "flow and decoding wait for each other; more --jobs would help"
        else:
            end = "decoding is the bottleneck; more --jobs would help, as far as there are cores"
        mean = self.pairs / max(self.batches, 1)
        return (
            f"flow: {self.pairs} pairs, {self.pairs_per_second:.1f} pairs/s, {mean:.1f} in a batch "
            f"({100 * self.filling:.0f}% of what fits); {who} busy {100 * self.busy_share:.0f}% of "
            f"the time: {end}"
        )

    def content(self) -> dict[str, Any]:
        """Return everything, fit for JSON."""
        return {
            "devices": self.devices,
            "on_gpu": self.on_gpu,
            "pairs": self.pairs,
            "batches": self.batches,
            "pairs_per_second": round(self.pairs_per_second, 3),
            "batch_filling": round(self.filling, 4),
            "busy_share": round(self.busy_share, 4),
            "waiting_share": round(self.waiting_share, 4),
            "bottleneck": self.bottleneck,
        }


class FlowTally:
    """Gathers what the jobs of a run say of their flow; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._first: dict[str, FlowUsage | None] = {}
        self._last: dict[str, FlowUsage] = {}
        self._seconds = self._waiting = 0.0

    def video(self, video: VideoReport) -> None:
        """Take note of a video that is through."""
        with self._lock:
            if video.tries:
                self._seconds += video.seconds
                self._waiting += video.flow_seconds

    def shard(self, report: JobReport) -> None:
        """Take note of a shard that is finished."""
        before, after = report.flow
        if after is None:
            return
        if before is not None and before.origin != after.origin:
            before = None  # another one: it was started in the middle of this job
        with self._lock:
            known = self._first.get(after.origin, before)
            earlier = None if known is None or before is None else _earlier(known, before)
            self._first[after.origin] = earlier
            last = self._last.get(after.origin, after)
            self._last[after.origin] = last if last.seconds > after.seconds else after

    def facts(self, run_seconds: float) -> FlowFacts | None:
        """Return what there is to say; None where no flow was computed in batches.

        Args:
            run_seconds: Wall time of the run.
        """
        with self._lock:
            lasts = list(self._last.values())
            firsts = [self._first[last.origin] for last in lasts]
            pairs = _grown("pairs", firsts, lasts)
            if not pairs:
                return None
            room = _grown("room", firsts, lasts)
            return FlowFacts(
                devices=len({(last.machine, last.device) for last in lasts}),
                on_gpu=not lasts[0].device.startswith(CPU),
                pairs=int(pairs),
                batches=int(_grown("batches", firsts, lasts)),
                filling=pairs / max(room, 1),
                run_seconds=run_seconds,
                seconds=_grown("seconds", firsts, lasts),
                busy_seconds=_grown("busy_seconds", firsts, lasts),
                videos_seconds=self._seconds,
                waiting_seconds=self._waiting,
            )


def _earlier(one: FlowUsage, other: FlowUsage) -> FlowUsage:
    return one if one.seconds <= other.seconds else other


def _grown(name: str, firsts: Iterable[FlowUsage | None], lasts: Iterable[FlowUsage]) -> float:
    """Return by how much a count has grown in all."""
    return sum(
        getattr(last, name) - (0 if first is None else getattr(first, name))
        for first, last in zip(firsts, lasts)
    )
