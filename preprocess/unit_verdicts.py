"""What is suspicious about stored units, in plain words, with the likely cause and the remedy.

The thresholds lie between what was measured on 40 real clips of HMDB51, UCF101, Kinetics and a set
of aerobics, with three flow algorithms, and what deliberately wrong flow of the same clips gave;
``docs/inspect.md`` has the numbers.
"""

from __future__ import annotations

from preprocess.unit_statistics import UnitStatistics, channel_names
from tsn_core.listing import few

_FEW_VIDEOS = 4  # of fewer, motion that happens to be unusual says nothing
_MEAN_OFF = 12.0  # codes from 127.5
_CLIPPED_SHARE = 0.02
_LOST_SHARE = 0.4  # clipped, at which the codes are no clamped motion
_WIDE = 40.0  # deviation of the codes
_NARROW = 2.0
_NOISE = 0.7  # correlation of neighbours
_UNSTEADY = 0.1  # correlation of consecutive units, in the mean of the videos
_SAME_SHARE = 0.2
_FLAT_SHARE = 0.02


def verdicts(statistics: UnitStatistics) -> list[str]:
    """Return what is suspicious, one line each; nothing is the best answer."""
    if not statistics.num_units:
        return ["nothing is stored"]
    found = _repeated(statistics)
    if statistics.modality.kind.has_algorithm:
        found += _flow(statistics)
    elif statistics.modality.name == "rgbdiff":
        found += _centre(statistics, "differences")
    return found


def _repeated(statistics: UnitStatistics) -> list[str]:
    found = []
    names, moving = statistics.still_videos, statistics.modality.kind.frames_per_unit > 1
    if names:
        what = "no motion at all" if moving else "a single colour"
        why = "repeated frames, or a still picture" if moving else "black, or it did not decode"
        found.append(
            f"{what} in {len(names)} of the videos ({few(names)}): {why}; watch one of them"
        )
    elif statistics.flat > _FLAT_SHARE * statistics.num_units:
        what = "without any motion" if moving else "of a single colour"
        found.append(
            f"{100 * statistics.flat / statistics.num_units:.0f} % of the images are {what}: "
            + ("frames that the video repeats" if moving else "black frames, at cuts or ends")
        )
    same = statistics.same_pairs - statistics.flat
    if statistics.num_pairs and same > _SAME_SHARE * statistics.num_pairs:
        found.append(
            f"{100 * same / statistics.num_pairs:.0f} % of consecutive images are equal: the video "
            "repeats frames, or its frame rate was raised"
        )
    return found


def _flow(statistics: UnitStatistics) -> list[str]:
    """Return what is wrong with the coding, or else what is odd about the motion."""
    scale = statistics.modality.scale
    bound = 127.5 * scale
    clipped, smooth = statistics.clipped_share, statistics.mean_smoothness
    if smooth is None:
        return []
    if smooth < _NOISE and statistics.deviation >= _NARROW:  # few codes look rough, too
        return [
            f"neighbouring pixels have little in common (correlation {smooth:.2f}, above 0.8 "
            "expected): this is noise, not flow; check what was written"
        ]
    if clipped > _LOST_SHARE:
        return [
            f"{100 * clipped:.0f} % of the codes are 0 or 255: this is not flow coded around 128; "
            "was it stored signed, or without its offset?"
        ]
    found = _centre(statistics, "motion")
    enough = len(statistics.steadiness) >= _FEW_VIDEOS
    steady = statistics.mean_steadiness
    if clipped > _CLIPPED_SHARE:
        found.append(
            f"{100 * clipped:.0f} % of the codes are clipped at {bound:.3g} px: extract with a "
            "larger --bound, if the frames follow each other"
        )
    elif statistics.deviation > _WIDE:
        found.append(
            f"motion is nearly everywhere and fast (deviation {statistics.deviation:.0f} codes, "
            "below 30 expected): do the frames follow each other, or was each image stretched to "
            "0…255 by itself?"
        )
    elif enough and statistics.deviation < _NARROW:
        fastest = statistics.speed_px(0.999)
        found.append(
            f"motion takes few codes (deviation {statistics.deviation:.1f}, 99.9 % below "
            f"{fastest:.1f} px at a bound of {bound:.3g}): extract with a smaller --bound"
        )
    if enough and steady is not None and steady < _UNSTEADY:
        found.append(
            f"motion turns from one image to the next (correlation {steady:.2f}, 0.2 and more "
            "expected): are the frames in order, and none left out?"
        )
    return found


def _centre(statistics: UnitStatistics, what: str) -> list[str]:
    return [
        f"the mean code of {channel} is {mean:.0f}, about 128 expected: {what} to one side "
        "everywhere, or codes with another zero"
        for channel, mean in zip(channel_names(statistics.modality), statistics.means)
        if abs(mean - 127.5) > _MEAN_OFF
    ]
