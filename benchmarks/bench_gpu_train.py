"""Snippets per second that a GPU trains on: those that lie in its memory, against those of shards.

TSN with ResNet-50, K = 3 snippets of a video, 64 videos a step, crops of 224x224, steps of the
trainer itself (``train.learner``). *Synthetic* snippets lie on the device from the start: nothing
can be faster. *Fed* ones come from shards of made-up pictures of 340x256 through the trainer's own
loader and feed, in all ways of sharing the work between loading processes and the device. All
shards lie in the memory of the operating system. The first steps are left out, a speed is the
median of several rounds. Where the time goes: the clock of the trainer, and a profile.

Run as ``python -m benchmarks gpu_train``, or ``python -m benchmarks.bench_gpu_train`` with options;
``--device cpu --small`` goes through everything in a minute, with a small network, and says nothing
about speed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice, repeat
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.device_profile import profiled
from benchmarks.gpu_material import MODALITIES, make_shards
from benchmarks.machine import choose_device
from benchmarks.report import BESIDE, RESULTS, write_result
from train.augmentation import SCALES, TrainingAugmentation
from train.batches import BatchPlan
from train.bottleneck import usable_cores
from train.clock import Clock
from train.distributed import Ranks
from train.feed import Batch, on_device
from train.learner import Learner
from train.optimization import OptimizerSettings
from train.settings import LoopSettings
from train.videos import SnippetDataset, make_loader
from tsn_core.errors import TSNError
from tsn_core.loading import stream
from tsn_core.modality import get_modality
from tsn_core.shard_set import ShardSet
from tsn_core.tsn import TSN, ModelSettings

_SEGMENTS, _CLASSES, _RATE = 3, 51, 0.001
_WARM_UP = 5  # steps
_PROFILED = 4  # steps
_USUAL = "bf16, channels last"  # what is fed
_COMPILED = "bf16, channels last, compiled"
# precision, channels last, compiled, any algorithm of cuDNN rather than repeatable ones
_ARITHMETIC: dict[str, tuple[str, bool, bool, bool]] = {
    "fp32": ("fp32", False, False, False),
    "bf16": ("bf16", False, False, False),
    _USUAL: ("bf16", True, False, False),
    "bf16, channels last, any algorithm": ("bf16", True, False, True),
    _COMPILED: ("bf16", True, True, False),
}
# who decodes, and who resizes, by codec
_WAYS = {
    "jpeg": (("workers", "workers"), ("workers", "device"), ("device", "device")),
    "raw": (("workers", "workers"), ("workers", "device")),
}


@dataclass(frozen=True)
class Scale:
    """How large everything is.

    Attributes:
        backbone: Of the network.
        size: (height, width) of stored units in px.
        input_size: Side of the crops in px.
        batch: Videos of a step.
        videos: In the shards.
        snippets: Of each stored video.
        steps: Of one round.
        rounds: How many, after the warm-up.
    """

    backbone: str = "resnet50"
    size: tuple[int, int] = (256, 340)
    input_size: int = 224
    batch: int = 64
    videos: int = 64
    snippets: int = 9
    steps: int = 20
    rounds: int = 3


SMALL = Scale("conv8", (48, 64), 32, 4, 8, 3, 2, 2)


class Bench:
    """Measures on one device, at one scale."""

    def __init__(self, scale: Scale, device: torch.device) -> None:
        self.scale = scale
        self.device = device

    def learner(self, modality: str, arithmetic: str) -> Learner:
        """Return a network that trains, with new weights."""
        precision, channels_last, compiled, any_algorithm = _ARITHMETIC[arithmetic]
        torch.manual_seed(0)
        model = TSN(
            ModelSettings(
                modality=modality,
                snippet_length=get_modality(modality).snippet_length,
                backbone=self.scale.backbone,
                consensus="avg",
                num_segments=_SEGMENTS,
                num_classes=_CLASSES,
                dropout=0.8,
                top=2,
                partial_bn=True,
            )
        )
        optimizer = OptimizerSettings(
            "sgd", _RATE, 1.0, 0.9, 0.0005, "step", (36, 72), 0, gradient_clip=20.0
        )
        loop = LoopSettings(1, 0, 0, 0.0, 0.0, precision, channels_last, compiled, 0.0)
        learner = Learner(model, optimizer, loop, self.device, Ranks())
        if any_algorithm:
            torch.backends.cudnn.deterministic = False
        return learner

    def synthetic(self, modality: str) -> Iterator[Batch]:
        """Yield the same batch of noise for ever, which lies on the device."""
        kind, scale = get_modality(modality), self.scale
        channels = kind.snippet_length * kind.unit_channels
        shape = (scale.batch, _SEGMENTS, channels, scale.input_size, scale.input_size)
        places = torch.arange(scale.batch)
        labels = (places % _CLASSES).to(self.device)
        counts = torch.ones(scale.batch, dtype=torch.bool, device=self.device)
        snippets = torch.randint(0, 256, shape, dtype=torch.uint8, device=self.device)
        return repeat((snippets, labels, places, counts))

    def run(self, learner: Learner, batches: Iterator[Batch], steps: int, clock: Clock) -> None:
        """Take steps, to their very end."""
        for _ in range(steps):
            with clock.computing():
                learner.step(islice(batches, 1), 1, self.scale.batch, _RATE)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def speed(
        self, learner: Learner, batches: Iterator[Batch], warm_up: int, clock: Clock
    ) -> dict[str, Any]:
        """Return snippets per second, of each round and their median, and the steps' shares."""
        self.run(learner, batches, warm_up, clock)
        before, rounds = clock.seconds(), []
        for _ in range(self.scale.rounds):
            began = time.perf_counter()
            self.run(learner, batches, self.scale.steps, clock)
            elapsed = time.perf_counter() - began
            rounds.append(self.scale.steps * self.scale.batch * _SEGMENTS / elapsed)
        spent = [now - then for now, then in zip(clock.seconds(), before)]
        waiting, computing, _, copying = spent
        whole = waiting + computing + copying
        return {
            "snippets_per_second": median(rounds),
            "rounds": rounds,
            "waiting": waiting / whole,
            "copying": copying / whole,
            "computing": computing / whole,
        }

    def fed(
        self,
        learner: Learner,
        shards: ShardSet,
        way: tuple[str, str],
        workers: int,
        then: Callable[[Iterator[Batch]], Any] | None = None,
    ) -> dict[str, Any]:
        """Return what ``speed`` does, of batches from shards.

        Args:
            learner: What trains.
            shards: On what.
            way: Who decodes, and who resizes.
            workers: Loading processes.
            then: Called with the batches that are left, whose result is ``then``.
        """
        scale, clock = self.scale, Clock()
        # As many steps as processes: these begin all at once, and hand over all at once. Nothing
        # pauses until the end, or they would get ahead, and their lead be measured.
        warm_up = workers + _WARM_UP
        steps = warm_up + scale.steps * scale.rounds + 2 * _PROFILED
        copies = -(-steps * scale.batch // len(shards))
        dataset = SnippetDataset(
            shards,
            list(range(len(shards))) * copies,
            num_segments=_SEGMENTS,
            input_size=scale.input_size,
            augmentation=TrainingAugmentation(True, SCALES),
            training=True,
            seed=0,
            decode=way[0] == "workers",
            resize=way[1] == "workers",
        )
        plan = BatchPlan(len(dataset), scale.batch, shuffle=True, seed=0)
        loader, _ = make_loader(dataset, plan, num_workers=workers)
        with closing(on_device(stream(loader), self.device, clock)) as batches:
            found = self.speed(learner, batches, warm_up, clock)
            if then is not None:
                found["then"] = then(batches)
        return found


class Report:
    """What was measured, written after every step, and what there was no time for."""

    def __init__(self, seconds: float, out: Path | None, **fields: Any) -> None:
        self._out = out
        self.fields: dict[str, Any] = {
            **fields,
            "synthetic": [],
            "fed": [],
            "profile": {},
            "left_out": [],
        }
        self._ends = time.monotonic() + seconds

    def add(self, name: str, row: dict[str, Any]) -> None:
        """Keep a measurement and print it."""
        ratio = f"  {row['fed_over_synthetic']:6.1%}" if "fed_over_synthetic" in row else ""
        print(f"{name:66} {row['snippets_per_second']:9,.0f} /s{ratio}", flush=True)
        self.write()

    def write(self) -> Path | None:
        """Write ``gpu_train.json`` if there is a folder for it."""
        return None if self._out is None else write_result("gpu_train", self.fields, self._out)

    def has_time(self, what: str) -> bool:
        """Return whether there is time for something; note it if there is not."""
        if time.monotonic() < self._ends:
            return True
        self.fields["left_out"].append(what)
        return False

    def synthetic(self, modality: str, arithmetic: str) -> float:
        """Return the speed of a measurement with synthetic snippets."""
        return next(
            row["snippets_per_second"]
            for row in self.fields["synthetic"]
            if (row["modality"], row["arithmetic"]) == (modality, arithmetic)
        )


def measure_synthetic(bench: Bench, report: Report, modality: str, arithmetic: str) -> Learner:
    """Measure what is fastest, and return what trained."""
    learner = bench.learner(modality, arithmetic)
    row = bench.speed(learner, bench.synthetic(modality), _WARM_UP, Clock())
    row = {"modality": modality, "arithmetic": arithmetic, **row}
    report.fields["synthetic"].append(row)
    report.add(f"{modality}, synthetic, {arithmetic}", row)
    return learner


def measure_fed(
    bench: Bench,
    report: Report,
    learner: Learner,
    arithmetic: str,
    shards: ShardSet,
    way: tuple[str, str],
    workers: int,
    then: Callable[[Iterator[Batch]], Any] | None = None,
) -> Any:
    """Measure one way of feeding; with fewer processes where shared memory lacks."""
    modality, codec = shards.modality.name, shards.modality.codec
    name = f"{modality} {codec}, decoded by {way[0]}, resized by {way[1]}, {arithmetic}"
    while True:
        try:
            row = bench.fed(learner, shards, way, workers, then)
            break
        except TSNError as error:
            print(f"{name}, {workers} workers: {error}", file=sys.stderr)
            if "shared memory" not in str(error) or workers < 2:
                report.fields["left_out"].append(f"{name}: {error}")
                return None
            workers //= 2
    result = row.pop("then", None)
    row = {
        "modality": modality,
        "codec": codec,
        "decode_on": way[0],
        "resize_on": way[1],
        "arithmetic": arithmetic,
        "workers": workers,
        "mean_image_bytes": shards.mean_image_bytes,
        **row,
        "fed_over_synthetic": row["snippets_per_second"] / report.synthetic(modality, arithmetic),
    }
    report.fields["fed"].append(row)
    report.add(f"{name}, {workers} workers", row)
    return result


def machine(device: torch.device) -> dict[str, Any]:
    """Return what computes."""
    if device.type != "cuda":
        return {"device": "cpu"}
    properties = torch.cuda.get_device_properties(device)
    return {
        "device": properties.name,
        "memory_gib": properties.total_memory / 2**30,
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "usable_cores": usable_cores(),
    }


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split("\n")[0].strip()


def table(report: Report) -> str:
    """Return the measurements of fed training, the largest operators and gaps as text."""
    lines = [
        "",
        f"{'fed from':12} {'decode':8} {'resize':8} {'arithmetic':30} {'workers':>7} "
        f"{'per s':>8} {'of synth.':>9} {'wait':>5} {'copy':>5}",
    ]
    lines += [
        f"{row['modality'] + ' ' + row['codec']:12} {row['decode_on']:8} {row['resize_on']:8} "
        f"{row['arithmetic']:30} {row['workers']:7} {row['snippets_per_second']:8,.0f} "
        f"{row['fed_over_synthetic']:9.1%} {row['waiting']:5.0%} {row['copying']:5.0%}"
        for row in report.fields["fed"]
    ]
    profiles = report.fields["profile"]
    for name in [name for name in _told(report) if name in profiles]:
        found = profiles[name]
        lines += [
            "",
            f"profile, {name}: idle {found['idle_share']:.1%} of {found['span_ms']:.0f} ms",
        ]
        lines += [
            f"  {one['share']:6.1%} {one['ms']:9.2f} ms {one['calls']:6} x  {one['name'][:70]}"
            for one in found["operators"][:8]
        ]
        lines += [
            f"  gap {gap['ms']:7.2f} ms after {gap['after'][:34]}, before {gap['before'][:34]}"
            for gap in found["gaps"][:4]
        ]
    lines += [f"left out: {what}" for what in report.fields["left_out"]]
    return "\n".join(lines)


def _told(report: Report) -> Iterator[str]:
    """Yield the names of the profiles of synthetic snippets, and of the best way to feed each."""
    for modality in MODALITIES:
        yield f"{modality}, synthetic"
        for codec in _WAYS:
            rows = [
                row
                for row in report.fields["fed"]
                if (row["modality"], row["codec"], row["arithmetic"]) == (modality, codec, _USUAL)
            ]
            best = max(rows, key=lambda row: row["snippets_per_second"], default=None)
            if best is not None:
                yield _profile_name(modality, codec, (best["decode_on"], best["resize_on"]))


def _profile_name(modality: str, codec: str, way: tuple[str, str]) -> str:
    return f"{modality} {codec}, decoded by {way[0]}, resized by {way[1]}"


def measure(bench: Bench, report: Report, folder: Path, workers: Sequence[int]) -> None:
    """Measure everything, the most important things first."""
    most, fewer = workers[0], workers[1:]
    scale, device = bench.scale, bench.device
    shards = {
        modality: make_shards(folder / modality, modality, scale.size, scale.videos, scale.snippets)
        for modality in MODALITIES
    }
    learners = {name: measure_synthetic(bench, report, name, _USUAL) for name in MODALITIES}
    for modality in MODALITIES:
        learner = learners[modality]

        def profile(batches: Iterator[Batch], learner: Learner = learner) -> dict[str, Any]:
            return profiled(lambda: bench.run(learner, batches, _PROFILED, Clock()), device)

        name = f"{modality}, synthetic"
        report.fields["profile"][name] = profile(bench.synthetic(modality))
        for codec, ways in _WAYS.items():
            for way in ways:
                one = (learner, _USUAL, shards[modality][codec], way, most)
                found = measure_fed(bench, report, *one, profile)
                if found is not None:
                    report.fields["profile"][_profile_name(modality, codec, way)] = found
                    report.write()
    for arithmetic in _ARITHMETIC:
        if arithmetic != _USUAL and report.has_time(f"rgb, {arithmetic}"):
            learner = measure_synthetic(bench, report, "rgb", arithmetic)
            if arithmetic == _COMPILED:
                for way in _WAYS["jpeg"]:
                    measure_fed(
                        bench, report, learner, arithmetic, shards["rgb"]["jpeg"], way, most
                    )
    for number in fewer:
        for modality in MODALITIES:
            for codec, ways in _WAYS.items():
                if report.has_time(f"{modality} {codec}, {number} workers"):
                    for way in ways:
                        one = (learners[modality], _USUAL, shards[modality][codec], way, number)
                        measure_fed(bench, report, *one)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write ``results/gpu_train.json``."""
    parser = argparse.ArgumentParser(description="Measure training on a GPU.")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--small", action="store_true", help="a small network, to try the script")
    parser.add_argument("--workers", help="such as 16,8: the first for all  [default: all cores]")
    parser.add_argument(
        "--seconds", type=float, default=270.0, help="after which only what matters most is begun"
    )
    parser.add_argument("--folder", type=Path, help="of the shards  [default: a temporary one]")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of gpu_train.json")
    chosen = parser.parse_args(arguments)
    device = torch.device(choose_device(chosen.device, "gpu_train"))
    if device.type == "cpu":
        torch.set_num_threads(1)
    cores = usable_cores()
    usual = "1" if chosen.small else str(cores) if cores < 2 else f"{cores},{cores // 2}"
    workers = [int(number) for number in (chosen.workers or usual).split(",")]
    scale = SMALL if chosen.small else Scale()
    report = Report(
        chosen.seconds,
        None if chosen.small and chosen.out == BESIDE else chosen.out,
        gpu=machine(device),
        small=chosen.small,
        backbone=scale.backbone,
        videos_per_step=scale.batch,
        segments=_SEGMENTS,
        input_size=scale.input_size,
        unit_size=list(scale.size),
        steps=scale.steps,
        rounds_of_steps=scale.rounds,
    )
    print(json.dumps(report.fields["gpu"]), flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        measure(Bench(scale, device), report, chosen.folder or Path(temporary), workers)
    print(table(report))
    print(report.write() or "a quick try: nothing is written")


if __name__ == "__main__":
    main()
