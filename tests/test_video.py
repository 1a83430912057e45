"""Decoding one file: every frame counted, only the wanted ones given, and clear reasons."""

import os

import av
import cv2
import numpy as np
import pytest
from conftest import claim_frames, decode_all, moving_frames, write_clip
from encoding import blank_packets, encode, turn

from preprocess.video import Video, resize, target_size
from tsn_core.errors import VideoError

NOT_A_VIDEO = "not a video that FFmpeg can open, or it has no video stream"


def everything(_):
    return True


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.avi", moving_frames(12))


def test_every_frame_of_a_lossless_video(clip):
    video = Video(clip)
    assert (video.fps, video.size, video.num_frames) == (25.0, (0, 0), 0)
    frames = list(video.frames(everything))
    assert [number for number, _ in frames] == list(range(12))
    assert np.array_equal([frame for _, frame in frames], moving_frames(12))
    assert (video.size, video.num_frames) == ((48, 64), 12)


@pytest.mark.parametrize("codec", ["mp4v", "MJPG", "VP80"])
def test_wanted_frames_are_those_of_a_full_decode(tmp_path, codec):
    path = write_clip(tmp_path / "clip.avi", moving_frames(30), codec=codec)
    wanted = {0, 7, 8, 22, 29}
    frames = dict(Video(path).frames(wanted.__contains__))
    expected = decode_all(path)
    assert set(frames) == wanted
    for number in wanted:
        assert np.array_equal(frames[number], expected[number])


def test_frames_that_nobody_wants_are_counted(clip):
    video = Video(clip)
    assert list(video.frames(lambda _: False)) == []
    assert video.num_frames == 12


def test_a_second_pass_gives_the_same(clip):
    video = Video(clip)
    first, second = (list(video.frames(everything)) for _ in range(2))
    for (number, frame), (again, other) in zip(first, second):
        assert number == again
        assert np.array_equal(frame, other)


@pytest.mark.parametrize("claim", [0, 1, 11, 13, 5000, 2**31 - 1])
def test_the_header_is_not_believed(clip, claim):
    claim_frames(clip, claim)
    video = Video(clip)
    assert video.claimed_frames == claim or claim == 0
    assert len(list(video.frames(everything))) == video.num_frames == 12


def test_a_truncated_file_gives_what_it_holds(clip):
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) * 6 // 10])
    expected = decode_all(clip)
    assert 3 < len(expected) < 12
    video = Video(clip)
    assert np.array_equal([frame for _, frame in video.frames(everything)], expected)
    assert video.num_frames == len(expected)


def reason_of(path):
    with pytest.raises(VideoError) as caught:
        list(Video(path).frames(everything))
    return str(caught.value)


def test_reasons(tmp_path, monkeypatch):
    path = tmp_path / "x.mp4"
    assert reason_of(path) == "no such file"
    path.mkdir()
    assert reason_of(path) == "no such file"
    path.rmdir()
    path.write_bytes(b"")
    assert reason_of(path) == "the file is empty; download or copy it again"
    path.write_text("no video at all\n" * 100)
    assert reason_of(path) == NOT_A_VIDEO
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert reason_of(path) == "no permission to read the file"


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://192.0.2.1/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile http://192.0.2.1/a.mp4\n",
        "http://192.0.2.1/a.mp4\n",
    ],
)
@pytest.mark.parametrize("ending", ["mp4", "m3u8"])
def test_play_lists_do_not_reach_the_network(tmp_path, text, ending):
    path = tmp_path / f"list.{ending}"
    path.write_text(text)
    assert reason_of(path) == NOT_A_VIDEO


@pytest.mark.parametrize(
    "name", ["-i.avi", "a%03d.avi", "b 100%.avi", "[x]!+é.avi", "c:d.avi", "\udcff.avi"]
)
def test_names_are_names_and_not_patterns(tmp_path, name, monkeypatch):
    write_clip(tmp_path / "plain.avi", moving_frames(3)).rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(list(Video(name).frames(everything))) == 3


@pytest.mark.parametrize(
    ("size", "fixed", "short_side", "expected"),
    [
        ((240, 320), (256, 340), None, (256, 340)),
        ((240, 320), None, 120, (120, 160)),
        ((320, 240), None, 120, (160, 120)),
        ((100, 100), None, 256, (256, 256)),
        ((1, 1000), None, 10, (10, 10000)),
        ((1000, 1), None, 10, (10000, 10)),
    ],
)
def test_target_size(size, fixed, short_side, expected):
    assert target_size(size, fixed, short_side) == expected


def test_resize_averages_when_it_shrinks():
    frame = np.zeros((4, 4, 3), np.uint8)
    frame[:2, :2] = [[[0], [40]], [[80], [120]]]
    small = resize(frame, (2, 2))
    assert small[..., 0].tolist() == [[60, 0], [0, 0]]
    assert resize(frame, (4, 4)) is frame
    large = resize(frame, (8, 8))
    assert np.array_equal(large, cv2.resize(frame, (8, 8), interpolation=cv2.INTER_LINEAR))


@pytest.mark.clips
def test_rotation_is_applied(clips):
    video = Video(clips / "odd" / "video_90.mov")
    _, frame = next(video.frames(everything))
    assert frame.shape == (*video.size, 3) == (568, 320, 3)
    assert np.array_equal(frame, decode_all(clips / "odd" / "video_90.mov")[0])


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_frames_are_turned_as_opencv_turns_them(tmp_path, degrees):
    path = encode(tmp_path / "x.mov", "libx264", moving_frames(4))
    upright = decode_all(path)
    turn(path, degrees)
    expected = decode_all(path)
    assert not np.array_equal(expected, upright)
    video = Video(path)
    assert np.array_equal([frame for _, frame in video.frames(everything)], expected)
    assert video.size == expected[0].shape[:2]


@pytest.mark.clips
def test_av1_is_decoded(clips):
    video = Video(clips / "odd" / "av1_video.mkv")
    ((_, frame),) = video.frames(lambda number: number == 100)
    assert (video.num_frames, frame.shape) == (125, (*video.size, 3))


def test_a_file_that_opens_but_does_not_decode(tmp_path):
    path = encode(tmp_path / "x.mp4", "libx264", moving_frames(20))
    blank_packets(path)
    assert reason_of(path) == (
        "it opens, but no frame can be decoded (codec h264); convert it, for example with: "
        "ffmpeg -i IN -c:v libx264 OUT.mp4"
    )


@pytest.mark.clips
def test_damaged_packets_are_skipped(clips, capfd):
    video = Video(clips / "odd" / "corrupted.mp4")
    frames = list(video.frames(everything))
    assert (len(frames), video.num_frames, video.damaged_packets) == (49, 49, 1)
    assert capfd.readouterr() == ("", ""), "FFmpeg's messages do not reach the terminal"


@pytest.mark.clips
@pytest.mark.parametrize("pattern", ["ucf101/videos/*/*01.avi", "hmdb51/videos/*/*", "kinetics/S*"])
def test_pixels_are_those_of_opencv(clips, pattern):
    paths = sorted(clips.glob(pattern))
    assert paths
    for path in paths:
        frames = [frame for _, frame in Video(path).frames(everything)]
        assert np.array_equal(frames, decode_all(path)), path


def test_sound_and_cover_pictures_are_no_videos(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(path, "w") as file:
        stream = file.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        file.mux([*stream.encode(frame), *stream.encode(None)])
    assert reason_of(path) == NOT_A_VIDEO


def test_large_frames_are_refused(clip):
    assert list(Video(clip, max_pixels=48 * 64).frames(everything))
    with pytest.raises(VideoError) as caught:
        Video(clip, max_pixels=48 * 64 - 1)
    assert str(caught.value) == (
        "frames of 64x48 are larger than --max-pixels 3071 allows; raise it, or scale the video "
        "down"
    )


def test_frames_that_grow_are_refused(tmp_path):
    """What the container states is not what the stream holds."""
    path = encode(tmp_path / "x.ts", "mpeg2video", moving_frames(5))
    large = encode(tmp_path / "y.ts", "mpeg2video", moving_frames(5, (96, 128)))
    path.write_bytes(path.read_bytes() + large.read_bytes())
    assert list(Video(path).frames(everything))[-1][1].shape == (96, 128, 3)
    video = Video(path, max_pixels=48 * 64)
    with pytest.raises(VideoError) as caught:
        list(video.frames(lambda _: False))
    assert str(caught.value) == (
        "frames of 128x96 are larger than --max-pixels 3072 allows; raise it, or scale the video "
        "down"
    )


@pytest.mark.parametrize("read", ["frames", "pick"])
def test_long_videos_are_refused(clip, read):
    def numbers(video):
        if read == "frames":
            return [number for number, _ in video.frames(everything)]
        return [number for number, _ in video.pick(lambda n: set(range(n)), len)]

    assert numbers(Video(clip, max_frames=12)) == list(range(12))
    with pytest.raises(VideoError) as caught:
        numbers(Video(clip, max_frames=11))
    assert str(caught.value) == (
        "more than the 11 frames that --max-frames allows; raise it, or cut the video"
    )


def test_every_decoded_frame_is_a_beat(clip):
    beats = []
    video = Video(clip, beat=lambda: beats.append(1))
    list(video.frames(lambda number: number == 3))
    assert len(beats) == video.decoded_frames == 12
