"""Scores in the files of other programs: mmaction2's results; CSV, JSON and NPZ of anybody's."""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from train.array_file import read_arrays
from train.inert_arrays import ARRAY_NAMES, numbers
from train.inert_pickle import Call, read_pickle
from train.scores import Scores
from tsn_core.atomic import atomic_path, write_text
from tsn_core.errors import InputError
from tsn_core.listing import count

FORMATS = ("mmaction2", "csv", "json", "npz")
_SAMPLES = (
    frozenset(  # the classes of which mmaction2's samples were, before they became dictionaries
        [
            "mmaction.structures.action_data_sample.ActionDataSample",
            "mmengine.structures.base_data_element.BaseDataElement",
            "mmengine.structures.instance_data.InstanceData",
            "mmengine.structures.label_data.LabelData",
        ]
    )
)
_MOST_CLASSES = 1 << 31
_SCORE_KEYS = ("pred_score", "pred_scores", "_pred_score", "_pred_scores")
_LABEL_KEYS = ("gt_label", "gt_labels", "_gt_label", "_gt_labels")


@dataclass(frozen=True)
class Results:
    """What a file says of V videos; None where it does not say it.

    Attributes:
        scores: Of the classes, (V, C) float64.
        labels: Class ids, (V,) int64.
        names: Of the videos.
        class_names: By class id.
    """

    scores: np.ndarray
    labels: np.ndarray | None = None
    names: tuple[str, ...] | None = None
    class_names: tuple[str, ...] | None = None


def format_of(path: Path) -> str:
    """Return the format that a file's name tells.

    Raises:
        InputError: It tells none.
    """
    kinds = {".pkl": "mmaction2", ".pickle": "mmaction2", ".csv": "csv", ".json": "json"}
    kind = {**kinds, ".npz": "npz"}.get(path.suffix.lower())
    if kind is None:
        raise InputError(f"{path}: name its format with --from or --to: {', '.join(FORMATS)}")
    return kind


def read_results(
    path: Path, kind: str, *, num_videos: int | None, num_classes: int | None, allow_pickle: bool
) -> Results:
    """Read the scores in a file.

    Args:
        path: Of the file.
        kind: One of ``FORMATS``.
        num_videos: That it must have, V; needed where it does not name them, as mmaction2's.
        num_classes: That it must have, C; likewise.
        allow_pickle: Whether to read a pickle at all. Nothing in it is executed.

    Raises:
        InputError: The file is not there, or holds something else.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}; check the path") from None
    if kind == "csv":
        return _read_csv(path, data)
    if kind == "npz":
        return _read_npz(path, data)
    if kind == "mmaction2" and path.suffix.lower() != ".json":
        if not allow_pickle:
            raise InputError(
                f"{path}: a pickle, which other programs execute when they read it; give "
                "--allow-pickle to read its arrays here, where nothing in it is executed"
            )
        content = read_pickle(io.BytesIO(data), path, ARRAY_NAMES | _SAMPLES)
    else:
        content = _read_json(path, data)
    if isinstance(content, dict):
        return _named_videos(path, content)
    return _samples(path, content, num_videos, num_classes)


def _read_json(path: Path, data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        raise InputError(f"{path}: damaged, or not JSON; write the scores again") from None


def _samples(path: Path, content: Any, num_videos: int | None, num_classes: int | None) -> Results:
    """Return the scores in mmaction2's list, one entry for each video in the list file's order."""
    names = _file_names(path, content)
    if num_videos is None and names is not None:
        num_videos = len(names)
    if num_videos is None or num_classes is None:
        raise InputError(
            f"{path}: names neither videos nor classes; give the list file that was tested on with "
            "--list, and the classes with --classes or --like"
        )
    if not isinstance(content, list):
        raise InputError(f"{path}: a list of scores expected, got something else")
    if len(content) != num_videos:
        raise InputError(
            f"{path}: scores of {count(len(content), 'video')}, --list has {num_videos}; give the "
            "list file that was tested on"
        )
    scores = np.empty((num_videos, num_classes))
    labels: list[int] = []
    for place, sample in enumerate(content):
        what = f"the scores of video {place}"
        fields = _fields(sample)
        if fields is None:
            scores[place] = numbers(sample, num_classes, path, what)
            continue
        value = next((fields[key] for key in _SCORE_KEYS if key in fields), None)
        scores[place] = numbers(_item(value), num_classes, path, what)
        label = next((fields[key] for key in _LABEL_KEYS if key in fields), None)
        if label is not None:
            labels.append(_label(_item(label), path, f"the label of video {place}"))
    complete = len(labels) == num_videos
    return Results(scores, np.array(labels, np.int64) if complete else None, names)


def _file_names(path: Path, content: Any) -> tuple[str, ...] | None:
    """Return the ``filename`` of every sample, as ours have them; None if one has none.

    Raises:
        InputError: Two are the same.
    """
    samples = content if isinstance(content, list) else []
    names = [(_fields(sample) or {}).get("filename") for sample in samples]
    texts = tuple(name for name in names if isinstance(name, str))
    if not texts or len(texts) < len(names):
        return None
    if len(set(texts)) < len(texts):  # a short pickle could hold one sample a million times
        raise InputError(f"{path}: two of its videos have the same name; write the scores again")
    return texts


def _fields(sample: Any) -> dict[Any, Any] | None:
    """Return what a sample knows by name; None if it is scores and no more."""
    if isinstance(sample, Call) and sample.name in _SAMPLES:
        sample = sample.state
    return sample if isinstance(sample, dict) else None


def _item(value: Any) -> Any:
    """Return the tensor in a ``LabelData``, or in the dictionary that it became."""
    fields = _fields(value)
    return value if fields is None else fields.get("item", fields.get("_item"))


def _named_videos(path: Path, content: dict[str, Any]) -> Results:
    """Return the scores in our JSON."""
    classes, videos = content.get("class_names"), content.get("videos")
    if not isinstance(classes, list) or not isinstance(videos, list) or not videos:
        raise InputError(f"{path}: class_names and videos expected; see docs/models.md")
    rows, labels, names = np.empty((len(videos), len(classes))), [], []
    for place, video in enumerate(videos):
        if not isinstance(video, dict) or not isinstance(video.get("name"), str):
            raise InputError(f"{path}: video {place} has no name; see docs/models.md")
        names.append(video["name"])
        rows[place] = numbers(video.get("scores"), len(classes), path, f"the scores of {names[-1]}")
        labels.append(_label(video.get("label"), path, f"the label of {names[-1]}"))
    return Results(rows, np.array(labels, np.int64), tuple(names), tuple(map(str, classes)))


def _read_csv(path: Path, data: bytes) -> Results:
    """Return the scores in a table: name, label, and a column for each class."""
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    except (ValueError, csv.Error):
        raise InputError(f"{path}: damaged, or not a CSV file; write the scores again") from None
    rows = [row for row in rows if row]
    if len(rows) < 2 or [cell.lower() for cell in rows[0][:2]] != ["name", "label"]:
        raise InputError(f"{path}: a first line of name, label and the classes expected")
    classes = tuple(rows[0][2:])
    scores, labels = np.empty((len(rows) - 1, len(classes))), []
    for place, row in enumerate(rows[1:]):
        if len(row) != len(rows[0]):
            raise InputError(f"{path}: row {place + 2} has {len(row)} cells, not {len(rows[0])}")
        try:
            scores[place] = [float(cell) for cell in row[2:]]
            label = classes.index(row[1]) if row[1] in classes else int(row[1])
            labels.append(_label(label, path, f"the label in row {place + 2}"))
        except InputError:
            raise
        except ValueError:
            raise InputError(
                f"{path}: row {place + 2} must be a name, a class and numbers"
            ) from None
    names = tuple(row[0] for row in rows[1:])
    return Results(scores, np.array(labels, np.int64), names, classes)


def _label(value: Any, path: Path, what: str) -> int:
    """Return a class id.

    Raises:
        InputError: It is none.
    """
    label = float(numbers(value, 1, path, what)[0])
    if not (label.is_integer() and 0 <= label < _MOST_CLASSES):
        raise InputError(f"{path}: {what} must be a class id, found {label:g}; labels count from 0")
    return int(label)


def _read_npz(path: Path, data: bytes) -> Results:
    """Return the scores in arrays: scores (V, C) or (V, S, C), and labels, names, class_names."""
    try:
        found = read_arrays(io.BytesIO(data), path)
    except InputError:
        raise
    except Exception:  # NumPy answers hostile bytes with many kinds, some advise to unpickle them
        raise InputError(
            f"{path}: damaged, or not plain arrays; save scores, labels, names and class_names "
            "with numpy.savez"
        ) from None
    scores = found.get("video_scores", found.get("scores"))
    if scores is None or scores.ndim not in (2, 3) or scores.dtype.kind not in "fiu":
        raise InputError(f"{path}: an array scores of videos and classes expected")
    if scores.ndim == 3:
        scores = scores.mean(axis=1)
    texts: dict[str, tuple[str, ...] | None] = dict.fromkeys(("names", "class_names"))
    for name, size in (("names", scores.shape[0]), ("class_names", scores.shape[1])):
        if name in found:
            if found[name].shape != (size,) or found[name].dtype.kind != "U":
                raise InputError(f"{path}: {name} must be {count(size, 'text')}")
            texts[name] = tuple(found[name].tolist())
    labels = found.get("labels")
    if labels is not None and (labels.shape != scores.shape[:1] or labels.dtype.kind not in "iu"):
        raise InputError(f"{path}: labels must be {count(len(scores), 'class id')}")
    return Results(
        scores.astype(np.float64),
        None if labels is None else labels.astype(np.int64),
        texts["names"],
        texts["class_names"],
    )


def write_results(scores: Scores, path: Path, kind: str) -> None:
    """Write the scores of videos for another program, atomically.

    Args:
        scores: Of which the videos' are written, as they are: before softmax.
        path: File to write.
        kind: One of ``FORMATS``; mmaction2's is a pickle of dictionaries with ``pred_score``,
            ``pred_label`` and ``gt_label``, as its ``tools/test.py --dump`` writes.

    Raises:
        OutputError: The file cannot be written.
    """
    _WRITERS[kind](scores, path)


def _write_mmaction2(scores: Scores, path: Path) -> None:
    import torch

    samples = [
        {
            "pred_score": torch.from_numpy(row.copy()),
            "pred_label": torch.tensor([int(row.argmax())]),
            "gt_label": torch.tensor([label]),
            "num_classes": len(row),
            "filename": name,
        }
        for name, label, row in zip(
            scores.names.tolist(), scores.labels.tolist(), scores.video_scores
        )
    ]
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        pickle.dump(samples, file, protocol=4)


def _write_csv(scores: Scores, path: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    classes = scores.class_names.tolist()
    writer.writerow(["name", "label", *classes])
    for name, label, row in zip(scores.names.tolist(), scores.labels, scores.video_scores):
        writer.writerow([name, classes[label], *map(str, row)])
    write_text(path, text.getvalue())


def _write_json(scores: Scores, path: Path) -> None:
    videos = [
        {"name": name, "label": label, "scores": row}
        for name, label, row in zip(
            scores.names.tolist(), scores.labels.tolist(), scores.video_scores.tolist()
        )
    ]
    content = {"class_names": scores.class_names.tolist(), "videos": videos}
    write_text(path, json.dumps(content, indent=1) + "\n")


def _write_npz(scores: Scores, path: Path) -> None:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            scores=scores.video_scores,
            labels=scores.labels,
            names=scores.names.astype(np.str_),
            class_names=scores.class_names.astype(np.str_),
        )


_WRITERS: dict[str, Callable[[Scores, Path], None]] = {
    "mmaction2": _write_mmaction2,
    "csv": _write_csv,
    "json": _write_json,
    "npz": _write_npz,
}
