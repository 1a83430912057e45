"""What the codes of stored units tell about how the units were made."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from tsn_core.modality import StoredModality

STEP = 2  # of the pixels looked at, along both sides
_STILL = 128  # code of no motion and of no difference
_FLAT = {1: 2.0, 2: 0.25}  # deviation in codes below which a unit of so many frames shows nothing
_ROWS = 8  # every so many-th row is enough to compare neighbours


@dataclass
class UnitStatistics:
    """Sums over units of one modality, from which everything else follows.

    Attributes:
        modality: How the units were stored.
        codes: How often each code occurs in each channel, (C, 256).
        speeds: Of flow: how often each speed occurs, (256,), in steps of the code; the last is
            everything beyond.
        num_units: Units looked at.
        flat: Of them, those that are one colour: black frames, or no motion at all.
        still_pixels: Of all pixels, those whose every code says no motion or difference.
        num_pairs: Pairs of consecutive units within a snippet.
        same_pairs: Of them, those that are equal.
        smoothness: Correlation of horizontal neighbours, summed over ``num_units - flat``.
        steadiness: For each video, the correlation of consecutive units; none of one-unit snippets.
        still_videos: Names of the videos of which every unit is flat.
    """

    modality: StoredModality
    codes: np.ndarray = field(init=False)
    speeds: np.ndarray = field(init=False)
    num_units: int = 0
    flat: int = 0
    still_pixels: float = 0.0
    num_pixels: int = 0
    num_pairs: int = 0
    same_pairs: int = 0
    smoothness: float = 0.0
    steadiness: list[float] = field(default_factory=list)
    still_videos: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.codes = np.zeros((self.modality.channels, 256), np.int64)
        self.speeds = np.zeros(256, np.int64)

    def add(self, name: str, snippets: np.ndarray) -> None:
        """Add snippets of a video, uint8, shape (K, L, H, W, C), K > 0."""
        seen = snippets[:, :, ::STEP, ::STEP]
        units = seen.reshape(-1, *seen.shape[2:])  # (K * L, h, w, C)
        for channel, counts in enumerate(self.codes):
            counts += np.bincount(units[..., channel].ravel(), minlength=256)
        if self.modality.kind.has_algorithm:
            offset = units.astype(np.float32) - np.float32(self.modality.zero)
            speed = np.minimum(np.hypot(offset[..., 0], offset[..., 1]), 255).astype(np.int64)
            self.speeds += np.bincount(speed.ravel(), minlength=256)
        self.still_pixels += float((units == _STILL).all(axis=-1).sum())
        self.num_pixels += int(np.prod(units.shape[:3]))
        deviation = units.std(axis=(1, 2)).max(axis=-1)  # (K * L,)
        flat = deviation < _FLAT[self.modality.kind.frames_per_unit]
        self.num_units += len(units)
        self.flat += int(flat.sum())
        rows = snippets[:, :, ::_ROWS].reshape(len(units), -1, *snippets.shape[3:])
        self.smoothness += sum(map(_neighbours, rows[~flat]))
        if flat.all():
            self.still_videos.append(name)
        if seen.shape[1] > 1:
            first, second = seen[:, :-1], seen[:, 1:]
            self.num_pairs += int(np.prod(first.shape[:2]))
            self.same_pairs += int((first == second).all(axis=(2, 3, 4)).sum())
            if not flat.all():
                self.steadiness.append(_correlation(first, second))

    @property
    def means(self) -> np.ndarray:
        """Mean code of each channel, (C,)."""
        return (self.codes * np.arange(256)).sum(axis=1) / self.codes.sum(axis=1)

    @property
    def deviation(self) -> float:
        """Of all codes, from 127.5."""
        counts = self.codes.sum(axis=0)
        return float(np.sqrt((counts * (np.arange(256) - 127.5) ** 2).sum() / counts.sum()))

    @property
    def clipped_share(self) -> float:
        """Of all codes, those that are 0 or 255."""
        return float(self.codes[:, [0, 255]].sum() / self.codes.sum())

    @property
    def still_share(self) -> float:
        """Of all pixels, those that say no motion, or no difference."""
        return self.still_pixels / self.num_pixels

    def speed_px(self, share: float) -> float:
        """Return the speed that this share of the pixels does not exceed, in px."""
        below = np.cumsum(self.speeds) / self.speeds.sum()
        return float((np.searchsorted(below, share) + 0.5) * self.modality.scale)

    @property
    def mean_smoothness(self) -> float | None:
        """1 where neighbours are equal, 0 for noise; None where all units are flat."""
        seen = self.num_units - self.flat
        return self.smoothness / seen if seen else None

    @property
    def mean_steadiness(self) -> float | None:
        """1 where consecutive units are equal, 0 where they have nothing in common; or None."""
        return float(np.mean(self.steadiness)) if self.steadiness else None


def channel_names(modality: StoredModality) -> tuple[str, ...]:
    """Return what to call the channels of a unit: x and y, R, G and B, or their numbers."""
    if modality.kind.has_algorithm:
        return ("x", "y")
    return ("R", "G", "B") if modality.channels == 3 else tuple(map(str, range(modality.channels)))


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Return 1 minus the mean squared difference over twice the variance."""
    a, b = first.astype(np.float32), second.astype(np.float32)
    variance = (a.var(dtype=np.float64) + b.var(dtype=np.float64)) or 1e-9
    return float(1 - ((a - b) ** 2).mean(dtype=np.float64) / variance)


def _neighbours(unit: np.ndarray) -> float:
    return _correlation(unit[:, :-1], unit[:, 1:])
