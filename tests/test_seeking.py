"""A few frames of long videos: the very ones of a full decode, by seeking wherever it is exact."""

import struct
from functools import cache

import av
import numpy as np
import pytest
from conftest import decode_all, moving_frames, write_clip
from encoding import blank_packets, encode, packets_of, x264
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preprocess import seeking, video
from preprocess.decoder import Decoder
from preprocess.packets import (
    SHOWS,
    PacketTable,
    begins_cleanly,
    listed_packets,
)
from preprocess.seeking import plan_runs
from preprocess.video import Video

LENGTH = 240
CLOSED = x264("keyint=30:min-keyint=30:scenecut=0:bframes=3:b-adapt=0")
OPEN = x264("keyint=30:min-keyint=1:scenecut=0:bframes=3:b-adapt=0:open-gop=1")
DEEP = x264("keyint=40:min-keyint=1:scenecut=0:bframes=16:b-adapt=0:b-pyramid=strict:open-gop=1")
REFRESH = x264("keyint=30:bframes=0:intra-refresh=1")
PLAIN = x264("keyint=30:bframes=0")
HEVC = {
    "preset": "ultrafast",
    "x265-params": "keyint=30:min-keyint=1:bframes=4:open-gop=1:log-level=none",
}
FRAGMENTS = {"movflags": "frag_keyframe+empty_moov"}
FAST = {"deadline": "realtime", "cpu-used": "8"}
TIMES = np.cumsum(np.random.default_rng(1).integers(5, 90, LENGTH)).tolist()

EXACT = {  # name: (encoder, how)
    "closed.mp4": ("libx264", {"options": CLOSED}),
    "closed.mkv": ("libx264", {"options": CLOSED}),
    "closed.flv": ("libx264", {"options": CLOSED}),
    "closed.ts": ("libx264", {"options": CLOSED}),
    "faststart.mp4": ("libx264", {"options": CLOSED, "muxing": {"movflags": "faststart"}}),
    "fragments.mp4": ("libx264", {"options": CLOSED, "muxing": FRAGMENTS}),
    "open.mp4": ("libx264", {"options": OPEN}),
    "open.mkv": ("libx264", {"options": OPEN}),
    "open.ts": ("libx264", {"options": OPEN}),
    "deep.mp4": ("libx264", {"options": DEEP}),
    "plain.mp4": ("libx264", {"options": PLAIN}),
    "plain.avi": ("libx264", {"options": PLAIN}),
    "variable.mp4": ("libx264", {"options": CLOSED, "times_ms": TIMES}),
    "variable.mkv": ("libx264", {"options": OPEN, "times_ms": TIMES}),
    "hevc.mp4": ("libx265", {"options": HEVC}),
    "hevc.mkv": ("libx265", {"options": HEVC}),
    "mpeg4.avi": ("mpeg4", {"b_frames": 0}),
    "mpeg4.mp4": ("mpeg4", {"b_frames": 0}),
    "mpeg4-b.avi": ("mpeg4", {"b_frames": 2}),
    "mpeg4-b.mp4": ("mpeg4", {"b_frames": 2}),
    "mpeg4-b.mkv": ("mpeg4", {"b_frames": 2}),
    "mpeg2-b.ts": ("mpeg2video", {"b_frames": 2}),
    "mpeg2-b.mp4": ("mpeg2video", {"b_frames": 2}),
    "vp8.webm": ("libvpx", {"options": FAST}),
    "vp9.webm": ("libvpx-vp9", {"options": FAST}),
    "vp9.mp4": ("libvpx-vp9", {"options": FAST}),
    "vp9-variable.webm": ("libvpx-vp9", {"options": FAST, "times_ms": TIMES}),
    "ffv1.avi": ("ffv1", {"pixels": "bgr0"}),
    "ffv1.mkv": ("ffv1", {"pixels": "bgr0"}),
    "mjpeg.avi": ("mjpeg", {"pixels": "yuvj420p"}),
}
NOT_EXACT = {
    "refresh.mp4": ("libx264", {"options": REFRESH}),
    "refresh.mkv": ("libx264", {"options": REFRESH}),
    "closed.avi": ("libx264", {"options": CLOSED}),  # AVI does not tell when pictures are shown
    "mpeg2-b.mpg": ("mpeg2video", {"b_frames": 2}),
}


@pytest.fixture(autouse=True)
def however_short(monkeypatch):
    """Let packets be listed of short videos, too."""
    monkeypatch.setattr(video, "_LONG", 0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """``files(name)``: the path of an encoded video and all of its frames."""
    folder = tmp_path_factory.mktemp("files")

    @cache
    def make(name):
        codec, how = {**EXACT, **NOT_EXACT}[name]
        path = encode(
            folder / name, codec, moving_frames(LENGTH, (96, 128)), **how, key_distance=30
        )
        frames = [frame for _, frame in Video(path).frames(lambda _: True)]
        return path, frames

    return make


def picked(path, needed):
    """Return the video after ``pick``, and what was picked."""
    source = Video(path)
    return source, dict(source.pick(needed, lambda frame: frame))


def assert_exact(path, frames, needed):
    source, found = picked(path, needed)
    assert source.num_frames == len(frames)
    assert source.size == frames[0].shape[:2]
    assert list(found) == sorted(needed(len(frames)))
    for number, frame in found.items():
        assert np.array_equal(frame, frames[number]), number
    return source.decoded_frames


def spread(count):
    return lambda n: {(2 * k + 1) * n // (2 * count) for k in range(count)}


NEEDED = {
    "first": lambda n: {0},
    "last": lambda n: {n - 1},
    "second of a group": lambda n: {31},
    "around a key picture": lambda n: set(range(118, 123)),
    "few": spread(3),
    "some": lambda n: set(np.random.default_rng(n).integers(0, n, 4).tolist()),
}


@pytest.mark.parametrize("name", EXACT)
def test_sought_frames_are_those_of_a_full_decode(files, name):
    path, frames = files(name)
    assert len(frames) == LENGTH
    for needed in NEEDED.values():
        assert assert_exact(path, frames, needed) < LENGTH * 3 // 4


@pytest.mark.parametrize("name", NOT_EXACT)
def test_where_seeking_is_not_exact_all_is_decoded(files, name):
    path, frames = files(name)
    for needed in NEEDED.values():
        assert assert_exact(path, frames, needed) >= LENGTH


@pytest.mark.parametrize("name", ["closed.mp4", "ffv1.avi"])
def test_the_oracle_is_not_ours_alone(files, name):
    path, frames = files(name)
    assert np.array_equal(frames, decode_all(path))


def test_many_frames_are_not_sought(files):
    path, frames = files("closed.mp4")
    assert assert_exact(path, frames, spread(40)) == LENGTH


def test_frames_are_kept_in_order_and_let_go(files):
    path, frames = files("deep.mp4")
    order = []
    source = Video(path)
    found = source.pick(spread(4), lambda frame: order.append(frame.tobytes()) or len(order))
    assert source.num_frames == LENGTH
    assert list(found) == [(30, 1), (90, 2), (150, 3), (210, 4)]
    assert order == [frames[number].tobytes() for number in (30, 90, 150, 210)]


@pytest.mark.parametrize("ending", ["webm", "avi"])
def test_packets_that_show_nothing_are_not_counted(tmp_path, ending):
    """VP8's pictures that only serve others are packets of their own."""
    images = moving_frames(LENGTH, (96, 128))
    path = encode(tmp_path / f"x.{ending}", "libvpx", images, key_distance=30, options=FAST)
    data = path.read_bytes()
    with av.open(path) as file:
        packets = [bytes(packet) for packet in file.demux(video=0) if packet.size]
    hidden = (10, 45, 46, 100, 239)
    for number in hidden:
        packet = packets[number]
        data = data.replace(packet, bytes([packet[0] & ~0x10]) + packet[1:])
    path.write_bytes(data)
    frames = [frame for _, frame in Video(path).frames(lambda _: True)]
    assert len(frames) == LENGTH - len(hidden)
    for needed in NEEDED.values():
        assert assert_exact(path, frames, needed) < LENGTH * 3 // 4


@pytest.mark.parametrize(
    ("codec", "data", "shown"),
    [
        ("vp8", [0x10, 2, 0], True),
        ("vp8", [0x11, 2, 0], True),
        ("vp8", [0x01, 2, 0], False),
        ("vp8", [], False),
        ("vp9", [0b10_0_0_0_0_1_0], True),  # marker, profile, not a repetition, key, shown
        ("vp9", [0b10_0_0_0_1_0_0], False),
        ("vp9", [0b10_0_0_1_000], True),  # one that is shown again
        ("vp9", [0b10_1_1_0_0_0_1], True),  # profile 3 has a bit more
        ("vp9", [0b10_1_1_0_0_0_0], False),
        ("vp9", [0b10_0_0_0_1_0_0, 0xC1, 1, 1, 0xC1], True),  # a superframe of two
        ("vp9", [0b10_0_0_0_1_0_0, 0xC1, 1, 1, 0xC0], False),
        ("vp9", [], False),
    ],
)
def test_whether_a_packet_shows_a_picture(codec, data, shown):
    assert SHOWS[codec](memoryview(bytes(data))) == shown


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    length=st.integers(2, 150),
    keyint=st.integers(1, 60),
    b_frames=st.integers(0, 7),
    open_gop=st.booleans(),
    pyramid=st.sampled_from(["none", "strict", "normal"]),
    container=st.sampled_from(["mp4", "mkv", "ts"]),
    data=st.data(),
)
def test_any_h264(
    tmp_path_factory, length, keyint, b_frames, open_gop, pyramid, container, data, monkeypatch
):
    monkeypatch.setattr(seeking, "_WORTH", np.inf)
    parameters = f"keyint={keyint}:min-keyint=1:bframes={b_frames}:b-pyramid={pyramid}"
    path = encode(
        tmp_path_factory.mktemp("any") / f"x.{container}",
        "libx264",
        moving_frames(length),
        options={**x264(f"{parameters}:open-gop={int(open_gop)}"), "preset": "veryfast"},
    )
    frames = [frame for _, frame in Video(path).frames(lambda _: True)]
    numbers = data.draw(st.sets(st.integers(0, length - 1), min_size=1, max_size=6))
    assert_exact(path, frames, lambda n: {number for number in numbers if number < n})


# --- damage, lies and oddities ---


def rewritten(path, change):
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return [frame for _, frame in Video(path).frames(lambda _: True)]


def copied(files, name, folder):
    path = folder / name
    path.write_bytes(files(name)[0].read_bytes())
    return path


@pytest.mark.parametrize("name", ["faststart.mp4", "fragments.mp4", "closed.mkv", "mpeg4.avi"])
@pytest.mark.parametrize("part", [0.3, 0.7, 0.99])
def test_truncated_files(files, tmp_path, name, part):
    path = copied(files, name, tmp_path)
    frames = rewritten(path, lambda data: data.__delitem__(slice(int(len(data) * part), None)))
    assert 0 < len(frames) < LENGTH or part == 0.99
    for needed in (spread(2), spread(5)):
        assert_exact(path, frames, needed)


@pytest.mark.parametrize("name", ["closed.mp4", "closed.mkv", "mpeg4.mp4", "vp9.webm"])
def test_damage_that_is_met_makes_all_be_decoded(files, tmp_path, name):
    path = copied(files, name, tmp_path)
    needed = spread(2)
    blank_packets(path, [45])
    frames = rewritten(path, lambda data: None)
    source, found = picked(path, lambda n: {55} | needed(n))  # in the group of the damage
    assert source.decoded_frames > len(frames)
    assert source.num_frames == len(frames)
    assert source.damaged_packets == (0 if name == "mpeg4.mp4" else 1)  # which makes up a picture
    for number, frame in found.items():
        assert np.array_equal(frame, frames[number])


def test_damage_that_nobody_looks_at_is_not_met(files, tmp_path):
    """As the documentation of ``pick`` says: the frames are those of the undamaged file."""
    path = copied(files, "plain.mp4", tmp_path)
    blank_packets(path, [100])
    _, frames = files("plain.mp4")
    assert len(rewritten(path, lambda data: None)) < LENGTH
    assert assert_exact(path, frames, lambda n: {20, 200}) < LENGTH


@pytest.mark.parametrize("name", ["closed.mp4", "mpeg4.mp4", "mpeg4-b.mp4"])
def test_key_pictures_that_are_none(files, tmp_path, name):
    """The container states other packets as key pictures than those that are."""
    path = copied(files, name, tmp_path)

    def lie(data):
        at = data.index(b"stss") + 8
        (count,) = struct.unpack_from(">I", data, at)
        numbers = struct.unpack_from(f">{count}I", data, at + 4)
        struct.pack_into(f">{count}I", data, at + 4, 1, *(n + 7 for n in numbers[1:]))

    frames = rewritten(path, lie)
    for needed in NEEDED.values():
        assert assert_exact(path, frames, needed) >= LENGTH


def test_an_index_that_calls_every_picture_a_key(files, tmp_path):
    path = copied(files, "mpeg4.avi", tmp_path)

    def lie(data):
        at = data.rindex(b"idx1") + 8
        for place in range(at, len(data), 16):
            data[place + 4] |= 0x10

    frames = rewritten(path, lie)
    assert assert_exact(path, frames, spread(3)) >= LENGTH


@pytest.mark.parametrize("kept", [0.5, 0.9])
def test_an_index_that_ends_early(files, tmp_path, kept):
    path = copied(files, "ffv1.avi", tmp_path)

    def shorten(data):
        at = data.rindex(b"idx1") + 4
        (size,) = struct.unpack_from("<I", data, at)
        struct.pack_into("<I", data, at, int(size * kept) // 16 * 16)

    frames = rewritten(path, shorten)
    assert len(frames) == LENGTH
    for needed in NEEDED.values():
        assert_exact(path, frames, needed)


def test_a_list_of_edits_that_hides_frames(tmp_path):
    """Pictures before time 0 are decoded, but not shown."""
    times = [40 * number - 400 for number in range(LENGTH)]
    path = encode(
        tmp_path / "x.mp4",
        "libx264",
        moving_frames(LENGTH),
        options=CLOSED,
        times_ms=times,
        muxing={"use_editlist": "1"},
    )
    frames = [frame for _, frame in Video(path).frames(lambda _: True)]
    assert len(frames) == LENGTH - 10
    for needed in NEEDED.values():
        assert_exact(path, frames, needed)


def test_packed_b_pictures(tmp_path, clips):
    """HMDB51: a packet too many, and one that only says that nothing is shown."""
    for path in sorted((clips / "hmdb51").rglob("*.avi")):
        frames = decode_all(path)
        source, found = picked(path, spread(3))
        assert source.num_frames == len(frames) == source.claimed_frames - 1
        for number, frame in found.items():
            assert np.array_equal(frame, frames[number])


@pytest.mark.clips
@pytest.mark.parametrize("pattern", ["ucf101/videos/*/*", "kinetics/*", "aerobics/videos/*/*1.avi"])
def test_real_clips(clips, pattern, monkeypatch):
    monkeypatch.setattr(seeking, "_WORTH", np.inf)
    for path in sorted(clips.glob(pattern)):
        frames = decode_all(path)
        for needed in (spread(2), spread(7), lambda n: {n - 1}):
            assert_exact(path, frames, needed)


@pytest.mark.clips
def test_odd_files(clips, monkeypatch):
    monkeypatch.setattr(seeking, "_WORTH", np.inf)
    names = ("corrupted.mp4", "dvd_single_frame.mp4", "no_duration.webm", "video_90.mov")
    for name in (*names, "truncated_v_BaseballPitch.avi"):
        path = clips / "odd" / name
        frames = decode_all(path)
        for needed in (spread(2), spread(7), lambda n: {n - 1}):
            assert_exact(path, frames, needed)


# --- the parts ---


@pytest.mark.parametrize("name", ["open.mp4", "deep.mp4", "mpeg2-b.mp4", "mjpeg.avi"])
def test_the_stated_list_is_that_of_the_packets(files, name):
    path, frames = files(name)
    with Decoder(path) as decoder:
        table, stated = listed_packets(decoder, path.stat().st_size)
    assert stated
    packets = packets_of(path)
    assert table.num_packets == table.num_frames == len(packets) == len(frames)
    assert table.sizes.tolist() == [size for _, size in packets]
    assert table.keys[0] == 0
    assert table.keys.tolist() == [0, *table.keys[1:].tolist()]


@given(
    keys=st.sets(st.integers(1, 299), max_size=20),
    wanted=st.sets(st.integers(0, 299), min_size=1, max_size=10),
    depth=st.integers(0, 4),
)
def test_runs_hold_every_frame_once_and_end_with_the_stream(files, keys, wanted, depth):
    key_numbers = np.array([0, *sorted(keys)])
    marks = np.arange(300)
    firsts = np.arange(301)
    table = PacketTable("dts", marks, np.ones(300, np.int32), firsts, key_numbers, key_numbers)
    runs, cost = plan_runs(table, sorted(wanted), depth)
    assert [frame for run in runs for frame in run.wanted] == sorted(wanted)
    assert [run.last is None for run in runs] == [False] * (len(runs) - 1) + [True]
    decoded = 0
    for run in runs:
        begin = key_numbers[run.key]
        end = 299 if run.last is None else run.last
        assert begin <= min(run.wanted, default=299)
        assert run.last is None or run.last == run.wanted[-1]
        decoded += end - begin + 1
    assert decoded <= cost <= decoded + (depth + 6) * (len(runs) + 1)
    closest = {int(key_numbers[key_numbers <= n].max()) for n in (*wanted, 299)}
    assert len(runs) <= len(closest)


def sei(*messages):
    return b"\x06" + b"".join(messages) + b"\x80"


RECOVERY = b"\x06\x01\xe0"  # recovery point: 0 frames, exact match, no broken link
LATER = b"\x06\x02\x25\xc0"  # recovery point: 8 frames
OTHER = b"\x05\xff\x02" + bytes(range(1, 255)) + b"\x07\x08\x09"


@pytest.mark.parametrize(
    ("codec", "units", "clean"),
    [
        ("h264", [b"\x65\x88"], True),
        ("h264", [b"\x67\x42", b"\x68\xce", b"\x65\x88"], True),
        ("h264", [b"\x41\x9a"], False),
        ("h264", [sei(RECOVERY), b"\x41\x9a"], True),
        ("h264", [sei(OTHER, RECOVERY), b"\x41\x9a"], True),
        ("h264", [sei(OTHER), b"\x41\x9a"], False),
        ("h264", [sei(LATER), b"\x41\x9a"], False),
        ("h264", [b"\x41\x9a", sei(RECOVERY)], False),
        ("h264", [sei(b"\x06\x01\xa0"), b"\x41\x9a"], False),  # not exact
        ("h264", [sei(b"\xff\xff\xff"), b"\x41\x9a"], False),
        ("h264", [], False),
        ("hevc", [b"\x40\x01", b"\x26\x01"], True),
        ("hevc", [b"\x2a\x01"], True),
        ("hevc", [b"\x02\x01"], False),
        ("hevc", [b"\x40\x01"], False),
        ("vp9", [b"\x82"], True),
        ("wmv3", [b"\x82"], False),
    ],
)
def test_where_decoding_can_begin(codec, units, clean):
    head = b"\x01\x42\x00\x1e\xff" if codec == "h264" else b"\x01" + bytes(20) + b"\x03"
    lengths = b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)
    codes = b"".join(b"\0\0\0\1" + unit for unit in units)
    assert begins_cleanly(codec, head, lengths) == clean
    assert begins_cleanly(codec, None, codes) == clean
    assert begins_cleanly(codec, b"\0\0\0\1\x67", codes) == clean


def test_a_lossless_video_of_opencv(tmp_path):
    frames = moving_frames(200)
    path = write_clip(tmp_path / "x.avi", frames)
    assert assert_exact(path, list(frames), spread(4)) < 100
