"""Class scores of tested videos, as plain arrays in an ``.npz`` file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train.array_file import read_arrays
from tsn_core.atomic import atomic_path
from tsn_core.errors import InputError

SCORES_NAME = "scores.npz"


def subset_path(path: Path, subset: str) -> Path:
    """Return where a file of a test's results lies when that was of another subset than ``test``.

    Examples:
        >>> subset_path(Path("runs/flow/scores.npz"), "val").as_posix()
        'runs/flow/scores-val.npz'
        >>> subset_path(Path("runs/flow/scores.npz"), "test").as_posix()
        'runs/flow/scores.npz'
    """
    return path if subset == "test" else path.with_name(f"{path.stem}-{subset}{path.suffix}")


@dataclass(frozen=True)
class Scores:
    """Scores before softmax of V videos.

    Attributes:
        name: What they come from: a modality, or the fusion of some.
        names: Of the videos, unique, (V,).
        labels: Class ids, (V,) int64.
        scores: Of every snippet, mean over its crops, (V, S, C) float32.
        video_scores: The consensus, mean over the crops, (V, C) float32.
        class_names: By class id, (C,).
    """

    name: str
    names: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    video_scores: np.ndarray
    class_names: np.ndarray


def softmax(scores: np.ndarray) -> np.ndarray:
    """Return the probabilities of the classes, (..., C) float64, from scores of that shape.

    Examples:
        >>> softmax(np.array([[0.0, 0.0], [1000.0, 0.0]]))
        array([[0.5, 0.5],
               [1. , 0. ]])
    """
    scores = scores.astype(np.float64)
    raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def write_scores(scores: Scores, path: Path) -> None:
    """Write the file atomically; ``numpy.load`` reads it without pickle."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            name=np.array(scores.name),
            names=scores.names.astype(np.str_),
            labels=scores.labels.astype(np.int64),
            scores=scores.scores.astype(np.float32),
            video_scores=scores.video_scores.astype(np.float32),
            class_names=scores.class_names.astype(np.str_),
        )


def read_scores(path: Path, subset: str = "test") -> Scores:
    """Read scores from a file, or from the folder of an evaluated run.

    Args:
        path: Of the folder, or of the file with the scores of the test videos.
        subset: Whose scores to read: of ``val``, those of ``scores-val.npz`` beside that file.

    Raises:
        InputError: There is no such file, or it holds something else.
    """
    file = subset_path(path / SCORES_NAME if path.is_dir() else path, subset)
    if not file.is_file():
        run = path if path.is_dir() else path.parent
        command = f"evaluate {run} --subset {subset}" if subset != "test" else "evaluate on the run"
        raise InputError(f"{file}: no scores there; run tsn-train {command} first")
    try:
        arrays = read_arrays(file, file)
        scores = Scores(
            name=str(arrays["name"]),
            names=arrays["names"],
            labels=arrays["labels"],
            scores=arrays["scores"],
            video_scores=arrays["video_scores"],
            class_names=arrays["class_names"],
        )
    except InputError:
        raise
    except KeyError as error:
        raise InputError(
            f"{file}: not a scores file: no {error.args[0]} in it; evaluate the run again"
        ) from None
    except PermissionError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}; allow that") from None
    except Exception:  # NumPy answers hostile bytes with many kinds, some advise to unpickle them
        remedy = "evaluate the run again"
        if file.suffix != ".npz":
            remedy = "take those of another program over with tsn-train import-scores"
        raise InputError(f"{file}: damaged, or not a scores file; {remedy}") from None
    defect = _defect(scores)
    if defect:
        raise InputError(f"{file}: not a scores file: {defect}; evaluate the run again")
    return scores


def _defect(scores: Scores) -> str | None:
    """Return what is wrong with the arrays, if anything."""
    videos, classes = scores.names.size, scores.class_names.size
    shapes = {
        "names": (videos,),
        "class_names": (classes,),
        "labels": (videos,),
        "video_scores": (videos, classes),
        "scores": (videos, *scores.scores.shape[1:2], classes),
    }
    kinds = {"names": "U", "class_names": "U", "labels": "i", "video_scores": "f", "scores": "f"}
    for name, shape in shapes.items():
        array = getattr(scores, name)
        if array.shape != shape or array.dtype.kind != kinds[name]:
            return f"{name} has shape {array.shape} and type {array.dtype}"
    if len(set(scores.names.tolist())) != videos:
        return "a video stands in it twice"
    if ((scores.labels < 0) | (scores.labels >= classes)).any():
        return f"labels must be 0 to {classes - 1}"
    if not np.isfinite(scores.video_scores).all():
        return "video_scores are not all finite"
    return None
