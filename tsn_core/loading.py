"""Arrays as the tensors that networks take, and what loading in other processes needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from tsn_core.errors import TSNError
from tsn_core.heap import keep_freed_memory


def stream(loader: Iterable[Any]) -> Iterator[Any]:
    """Return a loader's batches; an error in a worker keeps its message of one line.

    Workers begin at once. OpenCV is loaded before, once for all that are forked, and kept to one
    thread from here on, in this process too: its threads do not survive a fork, and a forked worker
    would wait for them for ever.

    Raises:
        TSNError: As the dataset raised it, in the place of a batch.
    """
    import cv2

    cv2.setNumThreads(1)
    return _in_one_line(iter(loader))


def _in_one_line(batches: Iterator[Any]) -> Iterator[Any]:
    try:
        yield from batches
    except TSNError as error:
        text = str(error.args[0]).strip()  # str() would make it one line
        if "\nOriginal Traceback" not in text:
            raise
        # "... Traceback ...", and at its end "module.Class: message"
        message = text.rpartition("\n")[2].partition(": ")[2]
        raise type(error)(message) from None


def prepare_worker(_: int) -> None:
    """Keep a loading process to one thread, and its memory to itself: a ``worker_init_fn``."""
    import cv2

    keep_freed_memory()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
