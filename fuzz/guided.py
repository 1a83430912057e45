"""One target under atheris; started by ``python -m fuzz``, which has looked whether it is there."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["tsn_core", "preprocess.datasets", "train.annotations"]):
    from fuzz.targets import TARGETS, run


def _main() -> None:
    name = sys.argv.pop(1)
    target = TARGETS[name]
    sound = target.sound()
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    os.fsync = lambda _: None  # nothing of this is kept

    def check(data: bytes) -> None:
        shutil.rmtree(folder)
        folder.mkdir()
        run(name, data, folder)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        start = random.choice(sound) if random.random() < 0.5 else bytes(data)
        return target.mutate(start, random)[:most]

    atheris.Setup(sys.argv, check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    _main()
