"""The child process of ``preprocess.isolation``, in which some videos do what must not be done.

The name of a video tells what happens after a few of its frames: ``segv``, ``kill``, ``abort``,
``unnamed`` (a signal), ``exit``, ``hang``, ``deaf`` (which hangs and holds Python's lock), ``bomb``
and ``slow``. A name that holds ``once`` misbehaves only until a file of that name with ``.seen`` is
there.
"""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from preprocess import child
from preprocess.video import Video

frames = Video.frames


def bomb() -> None:
    hoard = []
    while True:
        hoard.append(np.ones(4 << 20, np.uint8))
        time.sleep(0.005)


def slow() -> None:
    time.sleep(0.5)


def complain() -> None:
    os.write(2, b"\n  terminate called:  out of \xff luck \n\n")
    os.abort()


DEEDS: dict[str, Callable[[], object]] = {
    "segv": lambda: ctypes.string_at(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "abort": complain,
    "unnamed": lambda: os.kill(os.getpid(), 40),
    "exit": lambda: os._exit(3),
    "hang": lambda: time.sleep(1000),
    "deaf": lambda: ctypes.PyDLL(None).sleep(1000),
    "bomb": bomb,
    "slow": slow,
}


def misbehave(self: Video, *arguments: object) -> Iterator[tuple[int, np.ndarray]]:
    deed = next((deed for word, deed in DEEDS.items() if word in self.path.stem), None)
    seen = self.path.with_suffix(".seen")
    if "once" in self.path.stem and seen.exists():
        deed = None
    for number, frame in frames(self, *arguments):
        if deed is not None and number >= 3:
            seen.touch()
            deed()
        yield number, frame


Video.frames = misbehave  # type: ignore[method-assign]

if __name__ == "__main__":
    child.main(*map(int, sys.argv[1:4]), *sys.argv[4:])
