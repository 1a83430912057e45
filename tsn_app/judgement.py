"""From facts to findings: what is fine, worth knowing, or broken, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from packaging.specifiers import SpecifierSet

from tsn_app.finding import NOTE, PROBLEM, Finding
from tsn_app.machine import Machine, short
from tsn_app.probing import Probed
from tsn_core.listing import count

_LEAST_DISK_GB, _LEAST_MEMORY_GB = 5.0, 2.0
_LEAST_SHARED_GB = 1.0  # of /dev/shm: loading processes hand batches over through it
_LEAST_FILES = 1024
_REINSTALL = "pip install --force-reinstall tsn-shards"
_NEEDED_FORMATS = ("h264", "mpeg4")  # of what people have; the datasets are MPEG-4 in AVI
_TOLERATED_PX = 0.1
# One core of an AMD EPYC, 340x256: benchmarks/results/flow.json for flow; the rest was measured
# when the codecs were chosen.
REFERENCE = {
    "decode_fps": 2400.0,
    "jpeg_encode_ms": 0.29,
    "jpeg_decode_ms": 0.40,
    "farneback_ms": 19.81,
    "tvl1_ms": 42.06,
}
_SPEED_NAMES = {
    "decode_fps": ("decoding H.264", "frames/s"),
    "jpeg_encode_ms": ("encoding a JPEG", "ms"),
    "jpeg_decode_ms": ("decoding a JPEG", "ms"),
    "farneback_ms": ("Farneback flow of a pair", "ms"),
    "tvl1_ms": ("TV-L1 flow of a pair", "ms"),
    "write_mb_per_second": ("writing to the disk", "MB/s"),
}
_PAIRS_OF_A_VIDEO = 25 * 5  # snippets of flow, units each


def judge_machine(machine: Machine) -> Iterator[Finding]:
    """Yield what is to be said of the machine and its packages."""
    group = "Machine"
    where = machine.system + ("" if machine.in_venv else ", no environment of its own")
    yield Finding(group, "Python", f"{machine.python} on {where}")
    memory = f"{machine.cores} cores, {machine.memory_gb:.1f} GB, {machine.free_memory_gb:.1f} free"
    low = machine.free_memory_gb < _LEAST_MEMORY_GB
    yield Finding(
        group, "cores, memory", memory, NOTE if low else "ok",
        "extract with --jobs 1, train with --batch-size 8 --accumulate 4" if low else "",
    )  # fmt: skip
    yield _disk(machine)
    shared = machine.shared_memory_gb
    if shared is not None:
        small = shared < _LEAST_SHARED_GB
        yield Finding(
            group, "/dev/shm", f"{shared:.1f} GB free", NOTE if small else "ok",
            "train with --workers 0, or start the container with --shm-size 8g" if small else "",
        )  # fmt: skip
    if machine.open_files is not None and machine.open_files < _LEAST_FILES:
        yield Finding(group, "open files", f"{machine.open_files} allowed", NOTE, "ulimit -n 4096")
    if machine.encoding.lower().replace("-", "") not in ("utf8", "utf8sig"):
        yield Finding(
            group, "text", f"{machine.encoding or 'no encoding'}: names may be garbled", NOTE,
            "export PYTHONUTF8=1",
        )  # fmt: skip
    for name, value in machine.variables.items():
        yield Finding(group, name, f"{short(value)} (from the environment)", NOTE)
    yield from _packages(machine)


def _disk(machine: Machine) -> Finding:
    found = f"{machine.free_disk_gb:.1f} GB free in {short(str(machine.folder))}"
    if not machine.writable:
        text = f"{short(str(machine.folder))} cannot be written"
        return Finding("Machine", "disk", text, PROBLEM, "choose another --folder and --out")
    if machine.free_disk_gb < _LEAST_DISK_GB:
        return Finding("Machine", "disk", found, NOTE,
                       "tsn-preprocess plan tells what a dataset takes; --quality 85 or a smaller "
                       "--size take less")  # fmt: skip
    return Finding("Machine", "disk", found)


def _packages(machine: Machine) -> Iterator[Finding]:
    missing = [name for name, found in machine.installed.items() if found is None]
    outside = [
        f"{name} {found} ({machine.wanted[name]} expected)"
        for name, found in machine.installed.items()
        if found is not None
        and not SpecifierSet(machine.wanted[name]).contains(found, prereleases=True)
    ]
    if not machine.wanted:
        yield Finding("Packages", "tsn-shards", "not installed, only run from its folder", NOTE,
                      "pip install .")  # fmt: skip
    elif missing or outside:
        text = "; ".join([*(f"{name} is missing" for name in missing), *outside])
        yield Finding("Packages", "versions", text, PROBLEM, "make install, or pip install .")
    else:
        yield Finding("Packages", "versions", f"all {len(machine.wanted)} fit")
    if len(machine.opencvs) > 1:
        names = ", ".join(f"{name} {found}" for name, found in machine.opencvs.items())
        yield Finding(
            "Packages", "OpenCV", f"several, which overwrite each other: {names}", PROBLEM,
            f"pip uninstall -y {' '.join(machine.opencvs)} && pip install opencv-contrib-python",
        )  # fmt: skip


def judge_opencv(probed: Probed) -> Iterator[Finding]:
    """Yield what is to be said of OpenCV."""
    group = "OpenCV"
    facts = probed.facts
    if facts is None:
        yield Finding(group, "import cv2", probed.failure, PROBLEM,
                      "pip install --force-reinstall opencv-contrib-python")  # fmt: skip
        return
    yield Finding(group, "version", f"{facts['version']} in {short(facts['file'])}")
    if facts["contrib"]:
        yield Finding(group, "contrib modules", "there, cv2.optflow among them")
    else:
        yield Finding(
            group, "contrib modules", "missing: another OpenCV hides them, or is there instead; "
            "--flow-backend opencv and --warp may not work", NOTE,
            "pip uninstall -y opencv-python opencv-python-headless opencv-contrib-python && "
            "pip install opencv-contrib-python",
        )  # fmt: skip
    if not facts["ffmpeg"]:
        yield Finding(group, "FFmpeg", "this build has none: tsn-predict opens no stream", NOTE,
                      "pip install opencv-contrib-python")  # fmt: skip


def judge_decoders(probed: Probed) -> Iterator[Finding]:
    """Yield what is to be said of the decoders; extraction takes PyAV's."""
    group = "Video"
    if probed.facts is None:
        yield Finding(group, "PyAV", probed.failure, PROBLEM, "pip install --force-reinstall av")
        return
    formats: Mapping[str, Any] = probed.facts["formats"]
    tried = {name: counts for name, counts in formats.items() if counts is not None}
    works = [name for name, counts in tried.items() if counts["pyav"] == 12]
    broken = [name for name in tried if name not in works]
    untried = [name for name in formats if name not in tried]
    yield Finding(group, "PyAV", f"{probed.facts['pyav']}; decodes {', '.join(works) or 'nothing'}")
    if broken:
        needed = any(name in _NEEDED_FORMATS for name in broken)
        yield Finding(group, "not decoded", ", ".join(broken), PROBLEM if needed else NOTE,
                      "pip install --force-reinstall av")  # fmt: skip
    if untried:
        yield Finding(group, "not tried", f"{', '.join(untried)}: nothing here can encode them")
    other = [name for name in works if tried[name]["opencv"] != 12]
    if other:
        yield Finding(group, "OpenCV alone", f"does not decode {', '.join(other)}; extraction does")


def judge_numba(probed: Probed) -> Iterator[Finding]:
    """Yield what is to be said of Numba and the flow that it compiles."""
    group = "Flow"
    facts = probed.facts
    if facts is None or facts["backend"] != "numba":
        why = probed.failure if facts is None else "cannot be loaded; OpenCV computes TV-L1"
        yield Finding(group, "Numba", why, PROBLEM if facts is None else NOTE,
                      "pip install --force-reinstall numba; TV-L1 is some 30 times slower "
                      "without")  # fmt: skip
        return
    error = facts["error_px"]
    if error > _TOLERATED_PX:
        text = f"{error:.2f} px from a known shift, at most {_TOLERATED_PX} expected"
        yield Finding(group, "TV-L1", text, PROBLEM, _REINSTALL)
    else:
        text = f"Numba {facts['version']}; {error:.3f} px from a known shift"
        yield Finding(group, "TV-L1", text)


def judge_torch(probed: Probed) -> Iterator[Finding]:
    """Yield what is to be said of torch, torchvision and GPUs."""
    group = "Training"
    facts = probed.facts
    if facts is None:
        yield Finding(group, "torch", probed.failure, PROBLEM,
                      "pip install --force-reinstall torch torchvision")  # fmt: skip
        return
    yield Finding(group, "torch", f"{facts['version']}, {count(facts['threads'], 'thread')}")
    if facts["fits"]:
        yield Finding(group, "torchvision", f"{facts['torchvision']}, fits this torch")
    else:
        yield Finding(
            group, "torchvision", f"{facts['torchvision']}, made for another torch "
            f"({facts['misfit']}); this package's programs work all the same", NOTE,
            "install a pair that belongs together if your own code imports torchvision",
        )  # fmt: skip
    gpus = facts["gpus"]
    for number, gpu in enumerate(gpus):
        more = "bf16" if gpu["bf16"] else "no bf16"
        yield Finding(group, f"GPU {number}", f"{gpu['name']}, {gpu['gb']} GB, {more}")
    if not gpus and facts["cuda_build"]:
        yield Finding(
            group, "GPU", f"none is seen, though torch is built for CUDA {facts['cuda_build']}",
            NOTE, "look at nvidia-smi and CUDA_VISIBLE_DEVICES; a container needs --gpus all",
        )  # fmt: skip
    elif not gpus:
        yield Finding(group, "GPU", "none: training runs on the CPU")
    yield _flow_on_gpus(facts)
    weights = facts["weights"]
    if weights:
        yield Finding(group, "ImageNet weights", f"{len(weights)} files are there already")
    else:
        yield Finding(
            group, "ImageNet weights", "none are there: --weights imagenet downloads them once",
            NOTE, "without a network, copy a state dict here and name it: --weights FILE.pth",
        )  # fmt: skip


def _flow_on_gpus(facts: Mapping[str, Any]) -> Finding:
    """Return whether ``tsn-preprocess extract --device cuda`` would work."""
    name, gpus = "extract --device", facts["gpus"]
    if not gpus:
        return Finding("Training", name, "cuda would not work; flow is computed by Numba")
    if not facts.get("triton"):
        return Finding(
            "Training", name, "cuda works, slowly: Triton, which compiles TV-L1, is missing", NOTE,
            "pip install triton",
        )  # fmt: skip
    return Finding(
        "Training", name, f"cuda works: TV-L1 and RAFT flow on {count(len(gpus), 'GPU')}"
    )


def judge_hdf5(probed: Probed) -> Iterator[Finding]:
    """Yield what is to be said of h5py."""
    if probed.facts is None:
        yield Finding("Shards", "h5py", probed.failure, PROBLEM,
                      "pip install --force-reinstall h5py")  # fmt: skip
    else:
        yield Finding("Shards", "h5py", f"{probed.facts['version']}, HDF5 {probed.facts['hdf5']}")


def judge_speed(probed: Probed) -> Iterator[Finding]:
    """Yield how fast this machine is, beside the one that the documentation's numbers are from."""
    group = "Speed of one core"
    if probed.facts is None:
        yield Finding(group, "test", probed.failure, NOTE)
        return
    for key, (name, unit) in _SPEED_NAMES.items():
        if key not in probed.facts:
            continue
        value = probed.facts[key]
        text = f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
        if key in REFERENCE and value > 0:
            ratio = value / REFERENCE[key] if unit == "frames/s" else REFERENCE[key] / value
            text += f"  ({ratio:.2g} x the machine of the README)"
        yield Finding(group, name, text)
    seconds = probed.facts["tvl1_ms"] * _PAIRS_OF_A_VIDEO / 1000
    text = f"TV-L1 flow of a video (25 snippets) takes about {seconds:.1f} s"
    yield Finding(group, "together", text)


def judge_modalities(load: Callable[[str], object], names: tuple[str, ...]) -> Iterator[Finding]:
    """Yield what is to be said of the modalities that packages register.

    Args:
        load: Takes a name; raises ``InputError`` where its package is broken.
        names: Of all modalities.
    """
    broken: dict[str, str] = {}
    for name in names:
        failure = _failure(load, name)
        if failure:
            broken[name] = failure
    works = ", ".join(name for name in names if name not in broken)
    yield Finding("Shards", "modalities", works)
    for failure in broken.values():
        yield Finding("Shards", "modality", failure, NOTE)


def _failure(load: Callable[[str], object], name: str) -> str:
    from tsn_core.errors import InputError

    try:
        load(name)
    except InputError as error:
        return str(error)
    return ""
