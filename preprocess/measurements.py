"""What measuring a few videos of a dataset has shown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tsn_core.modality import StoredModality


@dataclass(frozen=True)
class Source:
    """A video of the dataset whose file is there."""

    name: str
    path: Path
    num_bytes: int


@dataclass(frozen=True)
class Probe:
    """What one video costs in all modalities together, as if all its units had been made.

    Times are without waiting for a processor core that other programs have.

    Attributes:
        place: Of the video among the sources.
        decode_seconds: What the modalities share: opening, decoding, resizing.
        unit_seconds: What each modality costs beyond that.
        num_bytes: What it adds to the shards of each modality.
        spent_seconds: What measuring it took, waiting included.
        queue_seconds: Of that, waiting for a processor core.
        start_seconds: What measuring it took beyond that, if it was the first of its process.
        num_pixels: Height times width of its frames.
    """

    place: int
    decode_seconds: float
    unit_seconds: tuple[float, ...]
    num_bytes: tuple[float, ...]
    spent_seconds: float
    queue_seconds: float
    start_seconds: float
    num_pixels: int

    @property
    def seconds(self) -> float:
        """Of one worker alone on its machine."""
        return self.decode_seconds + sum(self.unit_seconds)


@dataclass(frozen=True)
class Process:
    """A process that extracts some modalities and nothing else.

    Attributes:
        decode_share: Its decoding over that of all modalities together.
        start_seconds: What it takes once, before and with the first video.
        peak_bytes: Largest resident memory.
    """

    decode_share: float
    start_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Crowd:
    """As many workers as cores, side by side.

    Attributes:
        num_workers: How many.
        decode: Speed of decoding of each, as a share of that of one worker alone.
        units: Speed of each modality, likewise.
    """

    num_workers: int
    decode: float
    units: tuple[float, ...]


@dataclass(frozen=True)
class Failure:
    """A video that could not be extracted: its place among the sources, and why."""

    place: int
    name: str
    reason: str


@dataclass(frozen=True)
class Survey:
    """All that was measured.

    Attributes:
        sources: All videos of the dataset whose files are there.
        modalities: What was measured.
        num_tried: Videos that were tried, those of the checks included.
        probes: Those that can be extracted, measured by one worker alone.
        every: Of each modality, every so many-th unit was made for that.
        failures: Those that cannot.
        together: A process that extracts all modalities.
        alone: Of each modality, a process that extracts just that.
        crowd: Workers side by side.
        checks: Other videos, extracted in full.
        check_workers: How many workers extracted these, side by side.
        seconds: What all of it took.
    """

    sources: tuple[Source, ...]
    modalities: tuple[StoredModality, ...]
    num_tried: int
    probes: tuple[Probe, ...]
    every: tuple[int, ...]
    failures: tuple[Failure, ...]
    together: Process
    alone: tuple[Process, ...]
    crowd: Crowd
    checks: tuple[Probe, ...]
    check_workers: int
    seconds: float
