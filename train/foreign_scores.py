"""Scores of other programs as ours: videos by name, classes in our order, before softmax."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from train.score_formats import Results
from train.scores import Scores
from tsn_core.errors import InputError
from tsn_core.listing import few

_LINE = re.compile(r"(\S.*?)(?:\s+\d+){0,2}\s+(\d{1,9})\s*")  # path, frame numbers, label
_NUMBERED = re.compile(r"(\d{1,9})\s+(\S.*)")
_SMALLEST = 1e-12  # of a probability, so that its logarithm is finite


def read_list(path: Path) -> tuple[list[str], np.ndarray]:
    """Return the videos and labels of a list file, in its order.

    Its lines are ``path label`` or ``path num_frames label``, as mmaction2, tsn-pytorch and TSM
    read them; labels count from 0.

    Raises:
        InputError: There is no such file, or a line is something else.
    """
    names, labels = [], []
    for number, line in enumerate(_lines(path), start=1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise InputError(
                f"{path}:{number}: 'path label' or 'path num_frames label' expected, got "
                f"{line[:100]!r}"
            )
        names.append(match[1].removeprefix("./"))
        labels.append(int(match[2]))
    if not names:
        raise InputError(f"{path}: no videos in it")
    return names, np.array(labels, np.int64)


def read_classes(path: Path) -> tuple[str, ...]:
    """Return the names of the classes in a file, by class id.

    One stands in each line, by itself or behind its number, as in UCF101's ``classInd.txt``.

    Raises:
        InputError: There is no such file, or one stands in it twice.
    """
    lines = list(_lines(path))
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if all(numbered):
        pairs = sorted((int(match[1]), match[2]) for match in numbered if match)
        first = pairs[0][0] if pairs else 0
        if [number for number, _ in pairs] == list(range(first, first + len(pairs))):
            lines = [name for _, name in pairs]
    if len(set(lines)) != len(lines) or len(lines) < 2:
        raise InputError(f"{path}: two classes or more expected, one a line, each of them once")
    return tuple(lines)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; check the path") from None
    except ValueError:
        raise InputError(f"{path}: not a text in UTF-8") from None
    return [line.strip() for line in text.split("\n") if line.strip()]


def to_scores(
    results: Results,
    *,
    name: str,
    source: object,
    listed: tuple[list[str], np.ndarray] | None,
    class_names: Sequence[str] | None,
    like: Scores | None,
    probabilities: bool,
) -> Scores:
    """Return results as scores that can be fused with ours.

    Args:
        results: What a file says.
        name: What the scores come from, for tables: ``mmaction2`` for example.
        source: What messages call the file.
        listed: Videos and labels of the list file, in the order of the results.
        class_names: By class id; None takes the file's, or those of ``like``.
        like: Scores of a run of ours, whose spelling of the videos' names is taken.
        probabilities: Whether the scores are probabilities, whose logarithms are taken then.

    Raises:
        InputError: Something is missing, or does not fit.
    """
    names, labels = results.names, results.labels
    if listed is not None:
        if len(listed[0]) != len(results.scores):
            raise InputError(
                f"{source}: scores of {len(results.scores)} videos, --list has {len(listed[0])}; "
                "give the list file that was tested on"
            )
        names = tuple(listed[0]) if names is None else names
        if labels is not None and names == tuple(listed[0]):
            _check_labels(source, names, labels, listed[1])
        labels = listed[1] if labels is None else labels
    chosen = class_names or results.class_names or (like.class_names.tolist() if like else None)
    for what, found, option in (
        ("videos", names, "--list"),
        ("labels", labels, "--list"),
        ("classes", chosen, "--classes or --like"),
    ):
        if found is None:
            raise InputError(f"{source}: says nothing about the {what}; give {option}")
    assert names is not None and labels is not None and chosen is not None
    if not names:
        raise InputError(f"{source}: scores of no video; write the scores again")
    if len(set(chosen)) < len(chosen):
        twice = next(one for one in chosen if list(chosen).count(one) > 1)
        raise InputError(
            f"{source}: class {twice} stands in it twice; name the classes with --classes"
        )
    if len(chosen) != results.scores.shape[1]:
        raise InputError(
            f"{source}: scores of {results.scores.shape[1]} classes, {len(chosen)} are named; "
            "check --classes"
        )
    wrong = labels[(labels < 0) | (labels >= len(chosen))]
    if wrong.size:
        raise InputError(
            f"{source}: a label is {wrong[0]}, of {len(chosen)} classes; labels count from 0"
        )
    if like is not None:
        names = _spelled(names, like, source)
    if len(set(names)) != len(names):
        twice = next(one for one in names if names.count(one) > 1)
        raise InputError(f"{source}: {twice} stands in it twice; every video must have one name")
    values = results.scores
    if probabilities:
        values = np.log(np.maximum(values, _SMALLEST))
    with np.errstate(over="ignore"):
        video_scores = values.astype(np.float32)
    if not np.isfinite(video_scores).all():
        raise InputError(f"{source}: its scores are not all finite")
    return Scores(
        name=name,
        names=np.array(names),
        labels=labels,
        scores=video_scores[:, None],
        video_scores=video_scores,
        class_names=np.array(chosen),
    )


def are_probabilities(scores: np.ndarray) -> bool:
    """Return whether the scores of every video, (V, C), are 0 or more and add up to 1.

    Examples:
        >>> are_probabilities(np.array([[0.25, 0.75]])), are_probabilities(np.array([[0.5, 2.0]]))
        (True, False)
    """
    return bool(
        scores.size and (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1, atol=1e-3)
    )


def _check_labels(
    source: object, names: Sequence[str], labels: np.ndarray, listed: np.ndarray
) -> None:
    differs = np.flatnonzero(labels != listed)
    if differs.size:
        place = differs[0]
        raise InputError(
            f"{source}: video {place} has label {labels[place]}, {names[place]} has "
            f"{listed[place]} in --list; give the list file that was tested on, in its order"
        )


def _spelled(names: Sequence[str], like: Scores, source: object) -> tuple[str, ...]:
    """Return names as a run of ours spells them, which has them with their suffix.

    Raises:
        InputError: A name could be two, or none of them is known.
    """
    known = like.names.tolist()
    exact = set(known)
    bare: dict[str, list[str]] = {}
    for one in known:
        bare.setdefault(str(PurePosixPath(one).with_suffix("")), []).append(one)
    spelled, unknown = [], []
    for one in names:
        found = [one] if one in exact else bare.get(one) or bare.get(_without_suffix(one), [])
        if len(found) > 1:
            raise InputError(f"{source}: {one} could be {' or '.join(found)}; name it in full")
        if not found:
            unknown.append(one)
        spelled.append(found[0] if found else one)
    if len(unknown) == len(names):
        raise InputError(
            f"{source}: none of its videos ({few(unknown)}) is in --like, which has "
            f"{few(known)}; give a run on the same videos"
        )
    return tuple(spelled)


def _without_suffix(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix("")) if path.name else name
