"""Decoding one file: every frame counted, only the wanted ones given, and clear reasons."""

import os

import cv2
import numpy as np
import pytest
from conftest import OPENCV_STOPS_EARLY, claim_frames, decode_all, moving_frames, write_clip

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
    if OPENCV_STOPS_EARLY and 0 < claim < 11:
        pytest.skip("OpenCV 4 believes headers that state too few frames")
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


@pytest.mark.parametrize("name", ["-i.avi", "a%03d.avi", "b 100%.avi", "[x]!+é.avi", "c:d.avi"])
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
    capture = cv2.VideoCapture(str(clips / "odd" / "video_90.mov"), cv2.CAP_FFMPEG)
    capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
    done, stored = capture.read()
    assert done
    assert stored.shape[0] < stored.shape[1]
    assert frame.shape == (stored.shape[1], stored.shape[0], 3)
    turned = [np.rot90(stored, turns) for turns in (1, 3)]
    assert any(np.array_equal(frame, way) for way in turned)


@pytest.mark.clips
def test_a_codec_that_opens_but_does_not_decode_is_named(clips):
    assert reason_of(clips / "odd" / "av1_video.mkv") == (
        "it opens, but no frame can be decoded (codec AV01); convert it, for example with: "
        "ffmpeg -i IN -c:v libx264 OUT.mp4"
    )
