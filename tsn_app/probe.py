"""Looks at one library, in a process of its own: ``python -m tsn_app.probe NAME [FOLDER]``.

A library that is broken may end the process that imports it, or never come back; whoever starts
this one finds out and goes on. Facts are printed as one line of JSON.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_SIZE = (256, 340)  # (height, width) in px, of the default frames
_PART_SECONDS = 0.6  # of the speed test
# Format as FFmpeg calls it: (encoders that make it, the container to put it in).
_FORMATS = {
    "h264": (("libx264", "h264"), "mp4"),
    "hevc": (("libx265",), "mp4"),
    "mpeg4": (("mpeg4",), "avi"),
    "vp8": (("libvpx",), "webm"),
    "vp9": (("libvpx-vp9",), "webm"),
    "av1": (("libsvtav1", "libaom-av1"), "mkv"),
    "mjpeg": (("mjpeg",), "avi"),
}


def opencv() -> dict[str, Any]:
    """Return which OpenCV is imported, and what it can."""
    import cv2

    build = cv2.getBuildInformation()
    lines = {part[0].strip(): part[2].strip() for part in map(_split, build.splitlines())}
    return {
        "version": cv2.__version__,
        "file": str(cv2.__file__),
        "contrib": hasattr(getattr(cv2, "optflow", None), "DualTVL1OpticalFlow_create"),
        "ffmpeg": lines.get("FFMPEG", "NO").startswith("YES"),
    }


def _split(line: str) -> tuple[str, str, str]:
    return line.partition(":")


def decoders() -> dict[str, Any]:
    """Return how many of twelve frames each library decodes, by format; None where none is made."""
    import av
    import cv2

    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (encoders, ending) in _FORMATS.items():
            path = Path(folder) / f"{name}.{ending}"
            if not any(_write(path, encoder, 12) for encoder in encoders):
                found[name] = None
                continue
            with av.open(str(path)) as container:
                ours = sum(1 for _ in container.decode(video=0))
            capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
            theirs = 0
            while capture.read()[0]:
                theirs += 1
            found[name] = {"pyav": ours, "opencv": theirs}
    return {"formats": found, "pyav": av.__version__}


def _write(path: Path, encoder: str, num_frames: int) -> bool:
    """Write a small video of a moving pattern; return whether that was possible."""
    import av
    import numpy as np

    ramp = np.add.outer(np.arange(_SIZE[0]), np.arange(_SIZE[1] // 2 * 2))
    try:
        with av.open(str(path), "w") as output:
            stream: Any = output.add_stream(encoder, rate=25)
            stream.height, stream.width = ramp.shape
            stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
            for number in range(num_frames):
                gray = ((ramp + 3 * number) % 256).astype(np.uint8)
                image = np.stack([gray, np.roll(gray, 40), gray[::-1]], axis=-1)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def numba() -> dict[str, Any]:
    """Return whether TV-L1 is compiled here, and how far it is from a known shift, in px."""
    import numba as library
    import numpy as np

    from preprocess.flow import flow_function
    from preprocess.flow_defaults import FLOW_DEFAULTS
    from preprocess.tvl1 import tvl1_backend

    backend = tvl1_backend("numba")
    compute = flow_function("tvl1", {**FLOW_DEFAULTS["tvl1"], "backend": backend})
    inner = compute(*_shifted(np.random.default_rng(0), 2))[24:-24, 24:-24] - np.array([2.0, 1.0])
    return {
        "version": library.__version__,
        "backend": backend,
        "error_px": round(float(np.hypot(inner[..., 0], inner[..., 1]).mean()), 4),
    }


def _shifted(generator: Any, pixels: int) -> tuple[Any, Any]:
    """Return a smooth picture, and the same moved by (pixels, pixels / 2) to the right and down."""
    import cv2
    import numpy as np

    coarse = generator.integers(0, 256, (20, 26), dtype=np.uint8)
    wide = cv2.resize(coarse, (_SIZE[1] + 16, _SIZE[0] + 16), interpolation=cv2.INTER_CUBIC)
    x, y = pixels, pixels // 2
    first = wide[8 : 8 + _SIZE[0], 8 : 8 + _SIZE[1]]
    second = wide[8 - y : 8 - y + _SIZE[0], 8 - x : 8 - x + _SIZE[1]]
    return np.ascontiguousarray(first), np.ascontiguousarray(second)


def torch() -> dict[str, Any]:
    """Return what torch and torchvision are, whether they fit, and what they run on."""
    import torch as library

    from preprocess.device_probe import gpus
    from tsn_core.torchvision_models import load_torchvision

    found: dict[str, Any] = {
        "version": library.__version__,
        "cuda_build": library.version.cuda,
        "gpus": [{**gpu, "bf16": _has_bf16(number)} for number, gpu in enumerate(gpus())],
        "triton": _has_triton(),
        "threads": library.get_num_threads(),
        "weights": sorted(p.name for p in Path(library.hub.get_dir()).glob("checkpoints/*.pth")),
    }
    try:
        importlib.import_module("torchvision")
        found["fits"] = True
    except Exception as error:  # of many kinds, and all mean the same
        found["fits"], found["misfit"] = False, " ".join(str(error).split())
    vision = load_torchvision()
    found["torchvision"] = vision.__version__
    return found


def _has_bf16(number: int) -> bool:
    import torch as library

    with library.cuda.device(number):
        return library.cuda.is_bf16_supported()


def _has_triton() -> bool:
    """Return whether Triton, which compiles flow for GPUs, can be loaded."""
    try:
        importlib.import_module("triton")
    except Exception:  # of many kinds, and all mean the same
        return False
    return True


def hdf5() -> dict[str, Any]:
    """Return the versions of h5py and HDF5."""
    import h5py

    return {"version": h5py.__version__, "hdf5": h5py.version.hdf5_version}


def speed(folder: str = ".") -> dict[str, Any]:
    """Return how fast this machine is at each part of the job, one core; about five seconds."""
    import cv2
    import numpy as np

    from preprocess.decoder import Decoder
    from preprocess.flow import flow_function
    from preprocess.flow_defaults import FLOW_DEFAULTS
    from preprocess.tvl1 import tvl1_backend

    cv2.setNumThreads(1)
    first, second = _shifted(np.random.default_rng(0), 2)
    photograph = np.repeat(first[..., None], 3, axis=-1)
    data = cv2.imencode(".jpg", photograph, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    tvl1 = flow_function("tvl1", {**FLOW_DEFAULTS["tvl1"], "backend": tvl1_backend("numba")})
    farneback = flow_function("farneback", FLOW_DEFAULTS["farneback"])
    found: dict[str, Any] = {
        "jpeg_encode_ms": _milliseconds(lambda: cv2.imencode(".jpg", photograph)),
        "jpeg_decode_ms": _milliseconds(lambda: cv2.imdecode(data, cv2.IMREAD_COLOR)),
        "farneback_ms": _milliseconds(lambda: farneback(first, second)),
        "tvl1_ms": _milliseconds(lambda: tvl1(first, second)),
    }
    with tempfile.TemporaryDirectory(dir=folder) as here:
        clip = Path(here) / "clip.mp4"
        if _write(clip, "libx264", 200):
            began = time.perf_counter()
            with Decoder(clip) as decoder:
                count = sum(
                    1 for n, frame in enumerate(decoder.frames()) if decoder.bgr(frame, n).size
                )
            found["decode_fps"] = round(count / (time.perf_counter() - began))
        found.update(_disk(Path(here) / "disk"))
    return found


def _milliseconds(work: Callable[[], object]) -> float:
    """Return the median time of a call, over about half a second."""
    work()
    times: list[float] = []
    ends = time.perf_counter() + _PART_SECONDS
    while time.perf_counter() < ends or len(times) < 3:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return round(1000 * sorted(times)[len(times) // 2], 3)


def _disk(path: Path) -> dict[str, float]:
    """Return how fast files are written to the disk (not to memory), in MB/s."""
    import os

    block = os.urandom(1 << 22)
    written = 0
    began = time.perf_counter()
    with path.open("wb") as file:
        while time.perf_counter() - began < _PART_SECONDS / 2:
            file.write(block)
            written += len(block)
        file.flush()
        os.fsync(file.fileno())
    return {"write_mb_per_second": round(written / 1e6 / (time.perf_counter() - began))}


_PROBES: dict[str, Callable[..., dict[str, Any]]] = {
    "opencv": opencv,
    "decoders": decoders,
    "numba": numba,
    "torch": torch,
    "hdf5": hdf5,
    "speed": speed,
}

if __name__ == "__main__":
    print(json.dumps(_PROBES[sys.argv[1]](*sys.argv[2:])))
