"""The flow process, with an algorithm that is quick to load and to compute, and may misbehave.

``FAKE_FLOW`` in the environment tells how, as JSON: ``most`` pairs in a batch; ``too_large`` pairs
fail; ``seconds`` for each batch; ``huge`` is the height of frames that never fit; ``deaths`` a
folder: as many files as there are in it, so many more batches end the process; ``begun`` a file to
make with the first batch; ``idle`` are seconds.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from preprocess import flow_process, flow_queue
from tsn_core.errors import DeviceError


def settings():
    return json.loads(os.environ.get("FAKE_FLOW", "{}"))


class FakeFlow:
    """Flow that is a function of the two frames, pixel by pixel."""

    in_colour = False

    def __init__(self):
        self.settings = settings()
        self.batches = []

    def most_pairs(self, height, width):
        return self.settings.get("most", 7)

    def __call__(self, frames, pairs):
        self.batches.append(len(pairs))
        if "begun" in self.settings:
            Path(self.settings["begun"]).touch()
        time.sleep(self.settings.get("seconds", 0))
        for file in Path(self.settings.get("deaths", os.devnull)).glob("*"):
            file.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if frames.shape[1] == self.settings.get("huge") or len(pairs) >= self.settings.get(
            "too_large", 1000
        ):
            raise DeviceError(f"no memory for {len(pairs)} of {frames.shape[2]}x{frames.shape[1]}")
        first, last = (frames[pairs[:, n]].astype(np.float32) for n in (0, 1))
        return np.stack([(last - first) / 16, (first + 2 * last) / 40 - 9], axis=-1)


if __name__ == "__main__":
    flow_process.make_flow = lambda method, device: FakeFlow()
    flow_process._problem = lambda device: settings().get("problem")
    flow_process._IDLE_SECONDS = settings().get("idle", 60.0)
    flow_process._LOOK_SECONDS = 0.05
    flow_queue.BATCH_SECONDS = settings().get("batch_seconds", 60)
    flow_process.main(int(sys.argv[1]), sys.argv[2])
