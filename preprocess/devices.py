"""The devices that flow is computed on in batches: what ``--device`` names, and what is there."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from preprocess.child_environment import child_environment
from preprocess.flow_method import method_of
from tsn_core.errors import DeviceError, InputError, MissingDependencyError
from tsn_core.listing import count
from tsn_core.modality import StoredModality

CPU = "cpu"
GPU_SHARE = 0.25  # of a GPU that a job asks a scheduler for: a few decoders keep one busy
_PROBE_MODULE = "preprocess.device_probe"
_PROBE_SECONDS = 180.0  # torch may lie on a slow disk
_REMEDY = "leave --device out to compute on the CPU"


@dataclass(frozen=True)
class Device:
    """A device of torch, or a core of the CPU that a process of its own computes on.

    Attributes:
        name: ``cuda:N``, or ``cpu:N`` of a core.
        label: Of the GPU, by its maker.
    """

    name: str
    label: str


def check_device_names(text: str) -> None:
    """Check that a text names devices; whether they are there, ``find_devices`` finds out.

    Raises:
        InputError: It does not.

    Examples:
        >>> check_device_names("cuda:0,cuda:1")
    """
    if not re.fullmatch(r"cpu|cuda|cuda:\d+(,cuda:\d+)*", text):
        raise InputError(
            f"--device must be cpu, cuda, cuda:N or a list such as cuda:0,cuda:1, got {text!r}"
        )


def needs_gpu(text: str) -> bool:
    """Return whether that is a GPU, or several."""
    return text.startswith("cuda")


def find_devices(text: str) -> tuple[Device, ...]:
    """Return the devices of this machine that a text names.

    ``cuda`` names all GPUs, ``cpu`` as many cores as this process may use: each is a device, so
    that jobs compute side by side, on one thread each, whose sums do not depend on how many there
    are. GPUs are those that this process sees: ``CUDA_VISIBLE_DEVICES`` counts. torch is loaded by
    another process, and only where the text names a GPU.

    Raises:
        InputError: The text names none, or a GPU that is not there.
        DeviceError: There is no GPU, or this torch cannot use any.
        MissingDependencyError: torch cannot be loaded.
    """
    check_device_names(text)
    if not needs_gpu(text):
        from preprocess.executor import default_workers

        return tuple(Device(f"{CPU}:{number}", "") for number in range(default_workers()))
    facts = _facts(os.environ.get("CUDA_VISIBLE_DEVICES"))
    if not facts["cuda_build"]:
        raise DeviceError(
            f"--device {text}: torch {facts['torch']} is built without CUDA; install a build with "
            f"it, or {_REMEDY}"
        )
    there = [gpu["name"] for gpu in facts["gpus"]]
    if not there:
        raise DeviceError(
            f"--device {text}: torch finds no GPU here; look at nvidia-smi and "
            f"CUDA_VISIBLE_DEVICES, or {_REMEDY}"
        )
    wanted: Iterable[int] = range(len(there))
    if text != "cuda":
        wanted = dict.fromkeys(int(name.removeprefix("cuda:")) for name in text.split(","))
    for number in wanted:
        if number >= len(there):
            raise InputError(
                f"--device {text}: there is no cuda:{number}, only {count(len(there), 'GPU')}, "
                "counted from 0"
            )
    return tuple(Device(f"cuda:{number}", there[number]) for number in wanted)


@functools.cache
def _facts(visible: str | None) -> dict[str, Any]:
    """Return what another process says of torch and its GPUs.

    Args:
        visible: ``CUDA_VISIBLE_DEVICES``, with which the answer changes.

    Raises:
        MissingDependencyError: It cannot load torch.
    """
    try:
        asked = subprocess.run(
            [sys.executable, "-m", _PROBE_MODULE],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            env=child_environment(),
            check=False,
        )
        facts: dict[str, Any] = json.loads(asked.stdout.strip().split("\n")[-1])
    except (subprocess.TimeoutExpired, ValueError) as error:
        complaint = f"no answer after {_PROBE_SECONDS:g} s"
        if not isinstance(error, subprocess.TimeoutExpired):
            lines = [line for line in asked.stderr.split("\n") if line.strip()]
            complaint = lines[-1].strip() if lines else f"status {asked.returncode}"
        raise MissingDependencyError(
            f"--device: torch cannot be loaded ({complaint}); pip install torch, or {_REMEDY}"
        ) from error
    return facts


def check_use(text: str, modalities: Iterable[StoredModality]) -> None:
    """Check that a GPU has something to do, and that it can be done there.

    Raises:
        InputError: There is no flow, or one that is only computed on the CPU.
    """
    check_device_names(text)
    if not needs_gpu(text):
        return
    flows = [modality for modality in modalities if modality.algorithm is not None]
    if not flows:
        raise InputError(
            f"--device {text}: only flow is computed there, and none is to be made; leave "
            "--device out, or extract --modality flow"
        )
    for modality in flows:
        if method_of(modality) is None:
            backend = modality.parameters.get("backend")
            what = f"{modality.algorithm} of {backend}" if backend else modality.algorithm
            raise InputError(
                f"--device {text}: {what} is computed on the CPU alone; take --flow tvl1 with "
                f"--flow-backend torch, or {_REMEDY}"
            )


def devices_text(devices: Iterable[Device]) -> str:
    """Return devices in one line.

    Examples:
        >>> devices_text([Device("cuda:0", "NVIDIA H100"), Device("cuda:1", "NVIDIA H100")])
        'cuda:0 (NVIDIA H100), cuda:1 (NVIDIA H100)'
        >>> devices_text([Device("cpu:0", ""), Device("cpu:1", "")])
        'cpu'
    """
    names = (f"{each.name} ({each.label})" if each.label else CPU for each in devices)
    return ", ".join(dict.fromkeys(names))
