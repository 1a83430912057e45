"""The whole chain on the synthetic set of motions at full size: wall times and accuracies.

340x256 frames, 224x224 crops, ResNet-50 from nothing, every modality, every consensus function.
Everything goes through the command-line programs, as a user would type it; the commands are part
of the result. Run as ``python -m benchmarks gpu_chain`` on a machine with a GPU; it is meant to
take less than nine minutes with one H100 and 16 cores. ``--part`` chooses what one call does, and
``--minutes`` how long it may last: the next call goes on where it stopped, and once everything is
done, begins anew.

``--small --device cpu`` runs the same steps on tiny frames and networks: it measures nothing, and
shows that the script works. What it writes stays in ``--out``.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench_synthetic import tested
from benchmarks.machine import choose_device, gpu_names
from benchmarks.report import write_result
from benchmarks.steps import Steps, Stopped
from train.metrics import table
from tsn_core.consensus import CONSENSUS

PARTS = ("prepare", "modalities", "consensus")
MORE = ("warpedflow", "flowhsv")
_MINUTES = 9.0
_BY_ITSELF = "gru"  # knows only motions that a backbone has learnt before, see docs/synthetic.md
_SHARED = tuple(name for name in CONSENSUS if name != _BY_ITSELF)


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        size: Of the frames, WIDTHxHEIGHT.
        bound: Of the flow in px: the fastest shapes move by a thirtieth of the height.
        videos_per_class: Of which every fourth is for testing.
        synth: Other options of ``synth``.
        fit: Of the network, apart from the modality's.
        epochs: By modality; of the comparison of consensus functions; of the GRU after it.
        num_snippets: Of the tests.
    """

    size: str
    bound: int
    videos_per_class: int
    synth: str
    fit: str
    epochs: dict[str, int]
    num_snippets: int


# Settings of optimisation: those of bench_synthetic.
_OPTIMISATION = (
    "--no-flip --optimizer adamw --lr 0.001 --head-lr-factor 1 --schedule cosine "
    "--crop-scales 1,0.875 --batch-size 16"
)
FULL = Scale(
    "340x256",
    16,
    100,
    "",
    "--backbone resnet50 --input-size 224 --channels-last",
    {"rgb": 4, "flow": 12, "warpedflow": 12, "flowhsv": 12, "rgbdiff": 30, "avg": 12, "gru": 8},
    25,
)
SMALL = Scale(
    "96x72",
    8,
    4,
    " --frames 10",
    "--backbone conv8 --input-size 64",
    dict.fromkeys(("rgb", "flow", "warpedflow", "flowhsv", "rgbdiff", "avg", "gru"), 1),
    3,
)
_OWN = {"rgbdiff": "--num-segments 1 --dropout 0"}  # see docs/synthetic.md
_USUAL = "--num-segments 3 --dropout 0.2"


class Chain:
    """The steps, in folders below one."""

    def __init__(self, steps: Steps, scale: Scale, options: argparse.Namespace) -> None:
        self._steps = steps
        self._scale = scale
        self._options = options
        self._out: Path = options.out
        self._shards = self._out / "shards" / "synthetic"
        self.modalities = ("rgb", "flow", "rgbdiff", *options.more)

    def prepare(self) -> None:
        """Make the videos and the shards."""
        scale, options = self._scale, self._options
        data = self._out / "data" / "synthetic"
        number = options.videos_per_class or scale.videos_per_class
        self._steps.run(
            "synth",
            "preprocess",
            f"synth --out {data} --size {scale.size} --videos-per-class {number}{scale.synth}",
        )
        extract = (
            f"extract --dataset synthetic --data {data} --out {self._out / 'shards'} "
            f"--size {scale.size} --bound {scale.bound} --flow {options.flow}"
        )
        if options.device == "cuda" and options.flow == "tvl1":  # no other is computed there
            extract += " --device cuda"
        kinds = [name for name in self.modalities if name != "warpedflow"]
        modalities = " ".join(f"--modality {name}" for name in kinds)
        self._steps.run("extract", "preprocess", f"{extract} {modalities}")
        if "warpedflow" in self.modalities:
            self._steps.run("extract warpedflow", "preprocess", f"{extract} --modality flow --warp")

    def train_modalities(self) -> None:
        """Train and test a network for each modality, fuse them, and make the page."""
        for name in self.modalities:
            settings = f"--modality {name} {_OWN.get(name, _USUAL)} --weights {self._weights}"
            self._fit_and_test(name, name, settings)
        runs = " ".join(str(self.folder(name)) for name in self.modalities)
        self._steps.run("fuse", "train", f"fuse {runs} --out {self.folder('fusion')}")
        self._steps.run("report", "train", f"report {self.folder('fusion')}")

    def compare_consensus(self) -> None:
        """Train and test a flow network with each consensus.

        The GRU starts from the network with the average, whose backbone knows the motions.
        """
        self._steps.run(
            "ablate",
            "train",
            f"ablate {self._fit('avg')} --modality flow {_USUAL} --weights {self._weights} "
            f"--consensus-list {','.join(_SHARED)} --segments-list 3 --splits 1 "
            f"--num-snippets {self._scale.num_snippets} --crops 1 --out {self._out / 'consensus'}",
        )
        average = self.consensus_folder("avg") / "last.pt"
        settings = f"--modality flow {_USUAL} --consensus gru --full-bn --weights {average}"
        self._fit_and_test("gru", "gru", f"{settings} --head-dropout 0")

    @property
    def _weights(self) -> str:
        return str(self._options.weights)

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        last = ("extract", "report", "evaluate gru")
        return all(map(self._steps.complete, (*last, *self._steps.done)))

    def clear(self) -> None:
        """Remove what the steps have made, so that they are all done again."""
        made = (self._out / "data" / "synthetic", self._shards)
        for folder in (*made, self._out / "runs", self._out / "consensus"):
            shutil.rmtree(folder)
        self._steps.forget()

    def folder(self, name: str) -> Path:
        """Return the folder of a run."""
        return self._out / "runs" / name

    def consensus_folder(self, name: str) -> Path:
        """Return the folder of the run with a consensus."""
        if name == _BY_ITSELF:
            return self.folder(name)
        return self._out / "consensus" / f"{name}-3" / "split1"

    def _fit(self, epochs: str) -> str:
        options = self._options
        number = max(round(self._scale.epochs[epochs] * options.epochs_factor), 1)
        return (
            f"--shards {self._shards} {self._scale.fit} {_OPTIMISATION} --epochs {number} "
            f"--precision {options.precision} --workers {options.workers} --device {options.device}"
        )

    def _fit_and_test(self, name: str, epochs: str, settings: str) -> None:
        folder, options = self.folder(name), self._options
        self._steps.run(
            f"fit {name}", "train", f"fit {self._fit(epochs)} {settings} --out {folder}"
        )
        self._steps.run(
            f"evaluate {name}",
            "train",
            f"evaluate {folder} --num-snippets {self._scale.num_snippets} --crops 1 "
            f"--workers {options.workers} --device {options.device}",
        )

    def accuracies(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return what the tests have found so far, with intervals."""
        done = self._steps.complete
        modalities = [name for name in self.modalities if done(f"evaluate {name}")]
        modalities += ["fusion"] if done("fuse") else []
        consensus = [*(_SHARED if done("ablate") else ()), *(["gru"] * done("evaluate gru"))]
        return {
            "modalities": {name: tested(self.folder(name)) for name in modalities},
            "consensus": {name: tested(self.consensus_folder(name)) for name in consensus},
        }


def main() -> None:
    """Run the steps that are left, and write what is known."""
    with ExitStack() as stack:
        _run(_options(stack))


def _run(options: argparse.Namespace) -> None:
    scale = SMALL if options.small else FULL
    steps = Steps(options.out, 60 * options.minutes)
    chain = Chain(steps, scale, options)
    if chain.complete:
        chain.clear()
    todo = {
        "prepare": chain.prepare,
        "modalities": chain.train_modalities,
        "consensus": chain.compare_consensus,
    }
    stopped = None
    try:
        for part in options.part or PARTS:
            todo[part]()
    except Stopped as reason:
        stopped = str(reason)
    result = _result(chain, steps, options)
    _print(result)
    if options.small:
        path = options.out / "gpu_chain.json"
        path.write_text(json.dumps(result, indent=1) + "\n")
    else:
        path = write_result("gpu_chain", result)
    print(path)
    if stopped is not None:
        raise SystemExit(stopped)


def _result(chain: Chain, steps: Steps, options: argparse.Namespace) -> dict[str, Any]:
    done = steps.done
    return {
        "gpus": gpu_names() if options.device == "cuda" else [],
        "small": options.small,
        "device": options.device,
        "seconds": sum(step["seconds"] for step in done.values()),
        "steps": {
            name: {**step, "command": step["command"].replace(str(options.out), "OUT")}
            for name, step in done.items()
        },
        "accuracies": chain.accuracies(),
        "complete": chain.complete,
    }


def _print(result: dict[str, Any]) -> None:
    width = max(map(len, result["steps"]), default=0)
    for name, step in result["steps"].items():
        left = "" if step["complete"] else "  not complete"
        print(f"{name:<{width}}  {step['seconds']:7.1f} s{left}")
    print(f"{'together':<{width}}  {result['seconds']:7.1f} s")
    for rows in result["accuracies"].values():
        if rows:
            print(table(rows))


def _options(stack: ExitStack) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append", help="may be repeated; all")
    parser.add_argument("--small", action="store_true", help="tiny, to see that it works")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--flow", choices=("tvl1", "farneback", "dis"), help="tvl1; small: dis")
    parser.add_argument("--more", choices=MORE, action="append", default=[], help="more modalities")
    parser.add_argument("--weights", default="none", help="of ResNet-50: none, imagenet or a path")
    parser.add_argument("--precision", choices=("fp32", "bf16"), help="bf16 on a GPU, else fp32")
    parser.add_argument("--epochs-factor", type=float, default=1.0, help="of all numbers of epochs")
    parser.add_argument("--videos-per-class", type=int, help="100; small: 4")
    parser.add_argument("--workers", type=int, help="loading processes")
    parser.add_argument(
        "--minutes", type=float, default=_MINUTES, help="end this call after so long"
    )
    parser.add_argument("--out", type=Path, help="demo/gpu_chain; small: a temporary folder")
    options = parser.parse_args()
    options.device = choose_device(options.device, "gpu_chain")
    options.flow = options.flow or ("dis" if options.small else "tvl1")
    options.precision = options.precision or ("bf16" if options.device == "cuda" else "fp32")
    if options.workers is None:
        options.workers = 0 if options.small else min(os.cpu_count() or 1, 12)
    if options.out is None and options.small:
        folder = tempfile.TemporaryDirectory(prefix="gpu_chain-", ignore_cleanup_errors=True)
        options.out = Path(stack.enter_context(folder))
    options.out = options.out or Path("demo/gpu_chain")
    return options


if __name__ == "__main__":
    main()
