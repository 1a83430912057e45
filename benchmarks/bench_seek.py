"""What a sparse plan costs of a 20-minute video against a 2-minute one, as ratios within one run.

25 snippets, 340x256, 25 Hz, one thread; the long video repeats the packets of the short one, so
that all settings, the distance of key pictures and the pixels are equal. For each container and
codec: rgb; how many frames are decoded; of MP4 also all modalities with Farneback flow, and the 20
minutes by decoding everything.

Run as ``python -m benchmarks.bench_seek``.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import av
import cv2
import numpy as np

from benchmarks.bench_extract import interleaved, modality
from benchmarks.report import write_result
from preprocess import video
from preprocess.extraction import extract_video
from preprocess.units import unit_maker
from preprocess.video import Video
from tsn_core.sampling import SnippetPlan

_PLAN = SnippetPlan(snippets=25)
_SHORT, _LONG = 3000, 30_070  # frames, at least; not a multiple, lest snippets meet key pictures
_ROUNDS = 3
_VP9 = {"deadline": "realtime", "cpu-used": "8", "b": "500k"}
_VIDEOS = {  # name: encoder, distance of key pictures, options, containers
    "h264_250": ("libx264", 250, {"preset": "veryfast"}, ("mp4", "mkv")),
    "h264_50": ("libx264", 50, {"preset": "veryfast"}, ("mp4",)),
    "vp9_128": ("libvpx-vp9", 128, _VP9, ("webm",)),
}


def views(num_frames: int) -> Iterator[np.ndarray]:
    """Yield frames of a camera that pans back and forth over a texture, with some noise."""
    generator = np.random.default_rng(0)
    texture = generator.integers(0, 255, (256, 1024, 3)).astype(np.uint8)
    texture = cv2.GaussianBlur(texture, (0, 0), 5)
    texture = cv2.normalize(texture, None, 0, 240, cv2.NORM_MINMAX)
    grain = generator.integers(0, 12, (8, 256, 340, 3)).astype(np.uint8)
    for t in range(num_frames):
        left = abs((3 * t) % 1360 - 680)
        yield texture[:, left : left + 340] + grain[t % 8]


def encode(path: Path, codec: str, key_distance: int, options: dict[str, str]) -> None:
    """Write the 2-minute video."""
    with av.open(path, "w") as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 340, 256, "yuv420p"
        stream.codec_context.gop_size = key_distance
        for view in views(_SHORT):
            frame = av.VideoFrame.from_ndarray(view, format="bgr24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def repeat(source: Path, path: Path, num_frames: int) -> None:
    """Write the packets of a video again and again, up to a key picture at that length or later."""
    written = 0
    with av.open(path, "w") as file:
        stream = None
        for turn in itertools.count():
            with av.open(source) as once:
                given = once.streams.video[0]
                stream = stream or file.add_stream_from_template(given)
                shift = turn * round(_SHORT / 25 / given.time_base)
                for packet in once.demux(given):
                    if packet.is_keyframe and written >= num_frames:
                        return
                    if packet.size:
                        written += 1
                        packet.pts += shift
                        packet.dts += shift
                        packet.stream = stream
                        file.mux(packet)


def extract(path: Path, names: tuple[str, ...], seek: bool = True) -> float:
    """Extract the images of one video, drop them, and return the seconds of computing it took."""
    modalities = [modality(name) for name in names]
    makers = [unit_maker(each) for each in modalities]
    began = time.process_time()
    with mock.patch.object(video, "pays", video.pays if seek else lambda *_: False):
        extract_video(path, _PLAN, modalities, makers, lambda *_: None)
    return time.process_time() - began


def decoded_frames(path: Path) -> int:
    """Return how many frames rgb snippets make be decoded."""
    source = Video(path)
    for _ in source.pick(lambda n: set(_PLAN.starts(n, 1, 0.0).tolist()), np.shape):
        pass
    return source.decoded_frames


def main() -> None:
    """Measure and write ``results/seek.json``."""
    cv2.setNumThreads(1)
    rgb, every = ("rgb",), ("rgb", "flow", "rgbdiff")
    result: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, (codec, key_distance, options, containers) in _VIDEOS.items():
            first = Path(folder) / f"{name}.{containers[0]}"
            encode(first, codec, key_distance, options)
            for container in containers:
                short, long = (Path(folder) / f"{n}.{container}" for n in ("short", "long"))
                repeat(first, short, _SHORT)
                repeat(first, long, _LONG)
                measures: dict[str, Callable[[], float]] = {
                    "rgb_2_minutes": lambda a=short: extract(a, rgb),
                    "rgb_20_minutes": lambda a=long: extract(a, rgb),
                }
                if container == "mp4":
                    measures["all_2_minutes"] = lambda a=short: extract(a, every)
                    measures["all_20_minutes"] = lambda a=long: extract(a, every)
                seconds = interleaved(measures, _ROUNDS)
                median = {key: statistics.median(values) for key, values in seconds.items()}
                found = {
                    "key_distance": key_distance,
                    "frames_decoded": [decoded_frames(short), decoded_frames(long)],
                    "seconds": median,
                    "rgb_20_over_2_minutes": median["rgb_20_minutes"] / median["rgb_2_minutes"],
                }
                if container == "mp4":
                    median["rgb_20_minutes_decoding_all"] = extract(long, rgb, seek=False)
                    found["all_20_over_2_minutes"] = (
                        median["all_20_minutes"] / median["all_2_minutes"]
                    )
                    found["rgb_decoding_all_over_seeking"] = (
                        median["rgb_20_minutes_decoding_all"] / median["rgb_20_minutes"]
                    )
                result[f"{name}.{container}"] = found
                print(f"{name}.{container}: {found}", flush=True)
    print(write_result("seek", {"videos": result}))


if __name__ == "__main__":
    main()
