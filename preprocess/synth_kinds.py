"""The kinds of synthetic sets: which classes they have, and what happens in a video of each.

| kind | a video shows | classes |
|---|---|---|
| motion | one motion from start to end | the six motions |
| order | two motions, one after the other | which comes first: two pairs, both orders |
| untrimmed | several actions of the six motions, background between them | the longest motion |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from preprocess.synth_scene import MOTIONS, Part

_ORDERS = {
    f"{first}_then_{second}": (first, second)
    for pair in (("left", "up"), ("right", "down"))
    for first, second in (pair, pair[::-1])
}
_REST_FRAMES = (8, 12)  # before, between and after two motions; no snippet of 5 pairs sees both
_SHORTEST_MOTION_FRAMES = 8
_UNTRIMMED_FPS = 12.5
_ACTION_SECONDS = (3.0, 7.0)
_BACKGROUND_SECONDS = (2.0, 5.0)


def _motion_script(class_name: str, num_frames: int, generator: np.random.Generator) -> list[Part]:
    """Return one part: the motion."""
    return [Part(class_name, num_frames)]


def _order_script(class_name: str, num_frames: int, generator: np.random.Generator) -> list[Part]:
    """Return two motions, each between rests of random lengths.

    The motions change between 40% and 60% of the time that they have together. Each follows a rest
    and is followed by one, and the lengths of both are distributed alike: a single snippet, or a
    set of snippets without their order, is as likely in one order as in the other.
    """
    first, second = _ORDERS[class_name]
    rests = generator.integers(_REST_FRAMES[0], _REST_FRAMES[1] + 1, 3).tolist()
    moving = num_frames - sum(rests)
    change = round(moving * generator.uniform(0.4, 0.6))
    return [
        Part(None, rests[0]),
        Part(first, change),
        Part(None, rests[1]),
        Part(second, moving - change),
        Part(None, rests[2]),
    ]


def _untrimmed_script(
    class_name: str, num_frames: int, generator: np.random.Generator
) -> list[Part]:
    """Return actions of random motions and lengths, with background before, between and after.

    In half of the background everything stays in place, in the other half it trembles. The
    motions' names are exchanged so that no other lasts longer than that of the class.
    """
    names: list[str] = []
    lengths: list[tuple[int, int]] = []  # (background, action)
    totals = dict.fromkeys(sorted(MOTIONS), 0)
    left = num_frames
    while True:
        background, action = (
            round(generator.uniform(*seconds) * _UNTRIMMED_FPS)
            for seconds in (_BACKGROUND_SECONDS, _ACTION_SECONDS)
        )
        if left < background + action + _BACKGROUND_SECONDS[0] * _UNTRIMMED_FPS:
            break
        names.append(str(generator.choice(list(totals))))
        lengths.append((background, action))
        totals[names[-1]] += action
        left -= background + action
    longest = max(totals, key=totals.__getitem__)
    exchange = {longest: class_name, class_name: longest}
    parts = []
    for name, (background, action) in zip(names, lengths, strict=True):
        parts.append(Part(None, background, trembles=generator.random() < 0.5))
        parts.append(Part(exchange.get(name, name), action))
    return [*parts, Part(None, left, trembles=generator.random() < 0.5)]


def _longest_seconds(cycles: int) -> float:
    return cycles * (_BACKGROUND_SECONDS[1] + _ACTION_SECONDS[1]) + _BACKGROUND_SECONDS[0]


@dataclass(frozen=True)
class SynthKind:
    """What a kind of synthetic set holds.

    Attributes:
        number: Tells the random numbers of the kinds apart.
        class_names: In the order of their ids.
        script: Class name, number of frames and generator to the parts of a video.
        fps: Frame rate in Hz.
        videos_per_class: How many, unless told.
        num_frames: Length of the shortest video, unless told.
        fewest_frames: What the script can fill.
        trimmed: Whether a video shows its class alone. Untrimmed videos are all for testing, and
            the times of their actions are written down.
    """

    number: int
    class_names: tuple[str, ...]
    script: Callable[[str, int, np.random.Generator], list[Part]]
    fps: float
    videos_per_class: int
    num_frames: int
    fewest_frames: int
    trimmed: bool = True


KINDS: dict[str, SynthKind] = {
    "motion": SynthKind(
        number=0,
        class_names=tuple(sorted(MOTIONS)),
        script=_motion_script,
        fps=25.0,
        videos_per_class=40,
        num_frames=32,
        fewest_frames=2,
    ),
    "order": SynthKind(
        number=1,
        class_names=tuple(sorted(_ORDERS)),
        script=_order_script,
        fps=25.0,
        videos_per_class=40,
        num_frames=80,
        fewest_frames=3 * _REST_FRAMES[1] + round(_SHORTEST_MOTION_FRAMES / 0.4),
    ),
    "untrimmed": SynthKind(
        number=2,
        class_names=tuple(sorted(MOTIONS)),
        script=_untrimmed_script,
        fps=_UNTRIMMED_FPS,
        videos_per_class=2,
        num_frames=750,
        fewest_frames=round(_longest_seconds(cycles=2) * _UNTRIMMED_FPS),
        trimmed=False,
    ),
}
