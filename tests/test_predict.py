"""tsn-predict: the scores of the other programs, from a file or a stream, and what is made of them.

The oracle is what a user would otherwise type: extract, evaluate, fuse and windows.
"""

import io
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import claim_frames, decode_all, moving_frames, write_clip
from encoding import encode, turn
from file_server import Served, serving
from PIL import Image
from rich.console import Console
from train_helpers import run_program

from preprocess import isolation
from preprocess.cli import main as preprocess_main
from train.predictor import open_predictor
from train.scores import read_scores
from tsn_app import overlay as overlay_module
from tsn_app import stream as stream_module
from tsn_app.frame_buffer import FrameBuffer
from tsn_app.overlay import captioned, write_overlay
from tsn_app.predict_cli import main
from tsn_app.prediction import Prediction
from tsn_app.prediction_text import table
from tsn_app.stream import Stream, is_stream
from tsn_core.errors import InputError, VideoError
from tsn_core.torchvision_models import load_torchvision

CLASSES = ("nod", "wave")
LENGTHS = (9, 10, 12, 13, 14, 3, 45)  # frames; of the tested ones, one is shorter than a snippet
NUM_TRAIN = 4
FIXED = ("--size", "40x30", "--snippet-length", 4)
CASES = {
    "rgb": ("--snippets", 3, *FIXED),
    "flow": ("--snippets", 3, "--flow", "farneback", *FIXED),
    "rgbdiff": ("--dense", "--codec", "raw", "--short-side", 32, "--snippet-length", 4),
    "flowhsv": ("--fps", 10, *FIXED),
}
FOLDERS = {"flow": "flow-farneback"}


def name_of(number: int) -> str:
    return f"{number} of {CLASSES[number % 2]}.avi"


TESTED = [name_of(number) for number in range(NUM_TRAIN, len(LENGTHS))]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Videos, and for each case its shards and a run that was tested on them."""
    root = tmp_path_factory.mktemp("predict")
    lists = {"train": "path,label\n", "test": "path,label\n"}
    for number, length in enumerate(LENGTHS):
        write_clip(root / "data" / name_of(number), moving_frames(length, (36, 48), seed=number))
        subset = "train" if number < NUM_TRAIN else "test"
        lists[subset] += f"{name_of(number)},{CLASSES[number % 2]}\n"
    for subset, text in lists.items():
        (root / f"{subset}.csv").write_text(text)
    for modality, options in CASES.items():
        words = [
            *("extract", "--dataset", "list", "--data", root / "data", "--modality", modality),
            *("--list", f"train={root}/train.csv", "--list", f"test={root}/test.csv"),
            *("--out", root / "shards" / modality, "--no-isolation", "--jobs", 1, *options),
        ]
        done = CliRunner().invoke(preprocess_main, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        run, shards = root / "runs" / modality, root / "shards" / modality / "data"
        for command in (
            ("fit", "--shards", shards, "--modality", modality, "--out", run, "--device", "cpu",
             "--backbone", "conv8", "--weights", "none", "--input-size", 24, "--epochs", 1,
             "--batch-size", 4, "--lr", 0.01, "--workers", 0),
            ("evaluate", run, "--num-snippets", 3, "--crops", 3, "--workers", 0,
             "--device", "cpu"),
        ):  # fmt: skip
            done = run_program(*command)
            assert done.exit_code == 0, done.output
    return root


def predict(*arguments: object, isolated: bool = False) -> Result:
    """Run tsn-predict in this process, with the snippets and crops of the tests."""
    words = [*arguments, "--device", "cpu", "--num-snippets", 3, "--crops", 3]
    words += [] if isolated else ["--no-isolation"]
    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def predicted(*arguments: object, **options: bool) -> list[dict]:
    """Return what --json says of each video."""
    result = predict("--json", *arguments, **options)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return [json.loads(line) for line in result.stdout.splitlines()]


def failure(*arguments: object, **options: bool) -> str:
    """Return the error of a prediction that must fail, in one line."""
    result = predict(*arguments, **options)
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    return result.stderr


def scores_in(top: list[dict]) -> list[float]:
    """Return scores by class id."""
    return [next(one["score"] for one in top if one["label"] == label) for label in CLASSES]


def runs(root: Path, *modalities: str) -> list[object]:
    return [word for one in modalities for word in ("--run", root / "runs" / one)]


def videos_of(root: Path, *names: str) -> list[Path]:
    return [root / "data" / name for name in names or TESTED]


# --- the very scores of the other programs ---


@pytest.mark.parametrize("modality", CASES)
def test_scores_are_those_of_evaluate_to_the_last_bit(root, modality):
    """Sparse, dense and fixed-rate; JPEG and raw; fixed size and short side; a too short video."""
    expected = read_scores(root / "runs" / modality)
    found = predicted(*videos_of(root), *runs(root, modality))
    assert [row["video"] for row in found] == [str(path) for path in videos_of(root)]
    for row in found:
        (one,) = np.flatnonzero(expected.names == Path(row["video"]).name)
        assert scores_in(row["top"]) == expected.video_scores[one].astype(float).tolist()
        assert scores_in(row["runs"][0]["top"]) == scores_in(row["top"])
        assert row["runs"][0]["modality"] == FOLDERS.get(modality, modality)
    assert len({tuple(scores_in(row["top"])) for row in found}) == len(TESTED)


@pytest.mark.parametrize("weights", [(), (0.5, 2.0, 1.0)])
def test_fusion_is_that_of_fuse(root, tmp_path, weights):
    names = ("flow", "rgb", "rgbdiff")
    options = ["--weights", *weights] if weights else []
    inputs = [root / "runs" / name for name in names]
    assert run_program("fuse", *inputs, *options, "--out", tmp_path).exit_code == 0
    expected = read_scores(tmp_path)
    options = ["--weights", ",".join(map(str, weights))] if weights else []
    found = predicted(*videos_of(root), *runs(root, *names), *options)
    for row in found:
        (one,) = np.flatnonzero(expected.names == Path(row["video"]).name)
        default = [1.5 if "flow" in run["modality"] else 1.0 for run in row["runs"]]
        assert [run["weight"] for run in row["runs"]] == (list(weights) or default)
        fused = sum(
            run["weight"] * np.float32(scores_in(run["top"])) for run in row["runs"]
        )  # in the order of the runs
        assert scores_in(row["top"]) == np.float32(fused).astype(float).tolist()
        assert scores_in(row["top"]) == expected.video_scores[one].astype(float).tolist()


def test_a_timeline_is_that_of_windows(root, tmp_path):
    options = ("--scales", "0.2,0.4", "--threshold", 0.3)
    done = run_program(
        "windows", root / "runs/flowhsv", "--shards", root / "shards/flowhsv/data", *options,
        "--out", tmp_path, "--crops", 3, "--workers", 0, "--device", "cpu",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    expected = json.loads((tmp_path / "actions.json").read_text())["videos"]
    picture = tmp_path / "new" / "timeline.png"
    (found,) = predicted(
        *videos_of(root, TESTED[-1]), *runs(root, "flowhsv"), *options,
        "--timeline", "--fps", 10, "--timeline-png", picture,
    )  # fmt: skip
    assert found["actions"] == expected[TESTED[-1]]["actions"] != []
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_runs_of_different_rates_meet_in_a_timeline(root):
    video = videos_of(root, TESTED[-1])
    options = ("--timeline", "--fps", 5, "--threshold", 0.2, "--scales", 1)
    (found,) = predicted(*video, *runs(root, "flow", "rgb", "rgbdiff"), *options)
    assert {one["label"] for one in found["actions"]} <= set(CLASSES) and found["actions"]
    text = predict(*video, *runs(root, "rgb"), *options, "--threshold", 0.999).stdout
    assert "no action found; lower --threshold, or look at --timeline-png" in text


# --- what is printed ---


def test_the_json_of_a_prediction(root):
    (row,) = predicted(*videos_of(root, TESTED[0]), *runs(root, "rgb", "flow"), "--top", 1)
    assert list(row) == [
        "video", "version", "duration_seconds", "seconds", "label", "probability", "top", "runs",
    ]  # fmt: skip
    assert row["duration_seconds"] == LENGTHS[NUM_TRAIN] / 25 and row["seconds"] > 0
    assert len(row["top"]) == 1 and row["top"][0]["label"] == row["label"]
    assert row["top"][0]["probability"] == row["probability"] >= 0.5
    assert [list(run) for run in row["runs"]] == [["run", "modality", "weight", "top"]] * 2
    assert list(row["runs"][0]["top"][0]) == ["label", "probability", "score"]


def test_the_table_of_a_prediction(root):
    (path,) = videos_of(root, TESTED[0])
    (row,) = predicted(path, *runs(root, "rgb", "rgb"))
    lines = predict(path, *runs(root, "rgb", "rgb")).stdout.splitlines()
    assert lines[0] == str(path)
    assert lines[1].split() == ["fused", "rgb", "#1", "rgb", "#2"]
    best, share = row["label"], 100 * row["probability"]
    of_run = next(t["probability"] for t in row["runs"][0]["top"] if t["label"] == best)
    words = lines[2].split()
    assert words[:3] == [best, f"{share:.1f}", "%"]
    assert set(words[3]) <= set("█▏▎▍▌▋▊▉")
    assert words[4:] == [f"{100 * of_run:.0f}", "%"] * 2
    assert lines[4].startswith("0.6 s of video in ") and lines[4].endswith("as fast as it plays")
    plain = predict(path, *runs(root, "rgb")).stdout.splitlines()
    assert "fused" not in plain[1]


# --- runs ---


def test_shards_may_be_gone(root, tmp_path):
    """Where the checkpoint tells how its snippets were stored; else the shards must be there."""
    shards, run = tmp_path / "shards", tmp_path / "run"
    shutil.copytree(root / "runs/rgb", run)
    config = json.loads((run / "config.json").read_text())
    config["shards"] = str(shards)
    (run / "config.json").write_text(json.dumps(config))
    (video,) = videos_of(root, TESTED[0])
    (expected,) = predicted(video, *runs(root, "rgb"))
    (found,) = predicted(video, "--run", run)
    assert found["top"] == expected["top"]

    content = torch.load(run / "last.pt", weights_only=True)
    del content["progress"]["stored_modality"]
    for name in ("last.pt", "best.pt"):
        torch.save(content, run / name)
    missing = f"{shards}/rgb/index.json"
    assert failure(video, "--run", run) == (
        f"error: {run}: an older version made it, and does not tell how its snippets were stored; "
        f"its shards would, but {missing}: not there; extract that modality, or let an unfinished "
        "extraction finish; name others like them with --shards\n"
    )
    (found,) = predicted(video, "--run", run, "--shards", root / "shards/rgb/data")
    assert found["top"] == expected["top"]
    shutil.copytree(root / "shards/rgb/data", shards)
    (found,) = predicted(video, "--run", run)
    assert found["top"] == expected["top"]

    content["progress"]["stored_modality"] = "{}"
    torch.save(content, run / "last.pt")
    assert failure(video, "--run", run).startswith(
        f"error: {run}/last.pt: does not tell how its snippets were stored: "
    )


def test_an_imported_run_needs_shards(root, tmp_path):
    resnet18 = load_torchvision().models.resnet18

    torch.manual_seed(0)
    torch.save(resnet18(num_classes=2).state_dict(), tmp_path / "theirs.pth")
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    run = tmp_path / "imported"
    done = run_program(
        "import-checkpoint", tmp_path / "theirs.pth", "--from", "torchvision", "--backbone",
        "resnet18", "--modality", "rgb", "--classes", tmp_path / "classes.txt", "--input-size", 32,
        "--out", run,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    (video,) = videos_of(root, TESTED[0])
    assert failure(video, "--run", run) == (
        f"error: {run}: was imported without shards; name like ones with --shards\n"
    )
    shards = ("--shards", root / "shards/rgb/data")
    assert predicted(video, "--run", run, *shards)[0]["label"] in CLASSES
    (tmp_path / "classes.txt").write_text("hop\nskip")
    other = tmp_path / "other"
    run_program(
        "import-checkpoint", tmp_path / "theirs.pth", "--from", "torchvision", "--backbone",
        "resnet18", "--modality", "rgb", "--classes", tmp_path / "classes.txt", "--out", other,
    )  # fmt: skip
    assert failure(video, *runs(root, "rgb"), "--run", other, *shards) == (
        f"error: {other}: knows 2 classes (hop, skip), {root}/runs/rgb 2 (nod, wave); choose runs "
        "of the same dataset\n"
    )


def test_shards_of_another_kind_are_refused(root):
    (video,) = videos_of(root, TESTED[0])
    found = failure(video, *runs(root, "rgb"), "--shards", root / "shards/flow/data")
    assert found == (
        f"error: {root}/runs/rgb: --shards does not fit it: "
        f"{root}/shards/flow/data/rgb/index.json: not there; extract that modality, "
        "or let an unfinished extraction finish\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--weights", "1,2"), "1 --weights expected, one a run, got 2"),
        (("--weights", "nan"), "--weights must be finite numbers, got nan"),
        (("--weights", "a"), "--weights must be numbers such as 1,1.5, got 'a'"),
        (("--top", "0"), "--top must be > 0, got 0"),
        (("--threshold", "2"), "--threshold must be between 0 and 1, got 2"),
        (("--fps", "0"), "--fps must be > 0, got 0.0"),
        (("--scales", "0"), "scales must be > 0 seconds, got 0"),
    ],
)
def test_numbers_out_of_range(root, options, message):
    (video,) = videos_of(root, TESTED[0])
    assert failure(video, *runs(root, "rgb"), "--timeline", *options) == f"error: {message}\n"


def test_a_folder_that_is_no_run(root, tmp_path):
    (video,) = videos_of(root, TESTED[0])
    assert failure(video, "--run", tmp_path).startswith(f"error: {tmp_path}")


# --- videos that cannot be predicted ---


def test_bad_videos_among_good_ones(root, tmp_path, monkeypatch):
    monkeypatch.setattr(isolation, "CHILD_MODULE", "misbehaving_child")
    good = videos_of(root, *TESTED[:2])
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all")
    crash = shutil.copy(good[0], tmp_path / "segv.avi")
    bad = [tmp_path / "none.mp4", tmp_path / "empty.mp4", tmp_path / "text.mp4", crash]
    result = predict("--json", good[0], *bad, good[1], *runs(root, "rgb"), isolated=True)
    assert result.exit_code == 1
    assert [json.loads(line)["video"] for line in result.stdout.splitlines()] == [*map(str, good)]
    *lines, crashed, last = result.stderr.splitlines()
    assert lines == [
        f"error: {bad[0]}: no such file",
        f"error: {bad[1]}: the file is empty; download or copy it again",
        f"error: {bad[2]}: not a video that FFmpeg can open, or it has no video stream",
    ]
    assert crashed.startswith(f"error: {crash}: the decoding process was killed by SIGSEGV")
    assert last == "4 of 6 videos failed"


def test_a_cut_video_is_remarked(root, tmp_path):
    path = write_clip(tmp_path / "claims.avi", moving_frames(20, (36, 48)))
    claim_frames(path, 60)
    (row,) = predicted(path, *runs(root, "rgb"))
    assert row["note"] == "header says 60 frames, 20 could be decoded"
    text = predict(path, *runs(root, "rgb")).stdout
    assert "header says 60 frames, 20 could be decoded" in text


@pytest.mark.parametrize("ending", ["m3u8", "ffconcat"])
def test_a_playlist_opens_nothing_else(root, tmp_path, ending):
    clip = encode(tmp_path / "there.ts", "mpeg2video", moving_frames(12, (48, 64)))
    with serving({"/x.ts": Served(clip.read_bytes())}) as (url, asked):
        for target in (url("/x.ts"), "there.ts", str(clip)):
            path = tmp_path / f"list.{ending}"
            path.write_text(
                f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n"
                if ending == "m3u8"
                else f"ffconcat version 1.0\nfile '{target}'\n"
            )
            assert failure(path, *runs(root, "rgb")) == (
                f"error: {path}: not a video that FFmpeg can open, or it has no video stream\n"
            )
        assert asked == []


# --- overlay ---


def shown(path: Path) -> tuple[list[float], list[np.ndarray]]:
    """Return the times in seconds and the RGB frames of a video."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    return [float(frame.time) for frame in frames], [f.to_ndarray(format="rgb24") for f in frames]


@pytest.mark.parametrize("ending", ["mp4", "mov", "mkv"])
def test_an_overlay_keeps_frames_and_times(root, tmp_path, ending):
    """Of a varying frame rate and an odd size."""
    times = [0, 40, 80, 400, 410, 1000, 1040]
    frames = np.full((len(times), 71, 95, 3), 200, np.uint8)
    source = encode(tmp_path / "a.mkv", "ffv1", frames, times_ms=times, pixels="bgr0")
    target = tmp_path / "new" / f"b.{ending}"
    captions = []

    def caption(seconds: float):
        captions.append(seconds)
        return ("wave", 0.5) if seconds < 0.5 else None

    write_overlay(source, target, caption)
    expected = [time / 1000 for time in times]
    assert captions == pytest.approx(expected, abs=1e-6)
    seconds, found = shown(target)
    assert seconds == pytest.approx(expected, abs=1e-3)
    assert {frame.shape for frame in found} == {(70, 94, 3)}
    for time, frame in zip(expected, found):
        plain = np.abs(frame.astype(int) - 200).max(axis=(1, 2)) < 25  # rows as they were
        assert plain[:50].all()
        assert plain[54:].all() == (time >= 0.5)
    bar = np.asarray(found[0])[-1].astype(int)
    assert (bar[10:40, 2] > bar[10:40, 0] + 60).all()  # blue to the middle
    assert (abs(bar[54:, 2] - bar[54:, 0]) < 30).all()  # gray from there on
    assert list(target.parent.iterdir()) == [target]


def test_an_overlay_is_turned_upright(tmp_path):
    frames = np.zeros((4, 48, 64, 3), np.uint8)
    frames[:, :, :32] = 255  # left half is white: turned clockwise, the upper one
    source = encode(tmp_path / "a.mp4", "mpeg4", frames)
    turn(source, 90)
    write_overlay(source, tmp_path / "b.mp4", lambda _: None)
    _, found = shown(tmp_path / "b.mp4")
    assert len(found) == 4 and found[0].shape == (64, 48, 3)
    assert found[0][:28].mean() > 220 and found[0][36:].mean() < 40


def test_a_caption_fits_and_shows_no_control_letters():
    picture = Image.new("RGB", (120, 90), (200, 200, 200))
    plain, odd = (np.asarray(captioned(picture, (t, 1.0))) for t in ("a\ufffdb", "a\x1bb"))
    assert (plain == odd).all()
    long = np.asarray(captioned(picture, ("very long name of an action" * 5, 0.25)))
    assert long.shape == (90, 120, 3) and (long[:74] == 200).all()


def test_an_overlay_appears_whole_or_not_at_all(root, tmp_path, monkeypatch):
    (video,) = videos_of(root, TESTED[0])
    target = tmp_path / "out.mp4"
    target.write_bytes(b"before")
    calls = []

    def broken(*_):
        calls.append(1)
        if len(calls) == 3:
            raise VideoError("out of luck")
        return captioned(*_)

    monkeypatch.setattr(overlay_module, "captioned", broken)
    result = predict(video, *runs(root, "rgb"), "--overlay", target)
    assert (result.exit_code, result.stderr) == (1, f"error: {video}: out of luck\n")
    assert target.read_bytes() == b"before" and list(tmp_path.iterdir()) == [target]


def test_overlays_that_cannot_be(root, tmp_path):
    first, second, _ = videos_of(root)
    option = ("--overlay", tmp_path / "a.avi")
    assert failure(first, *runs(root, "rgb"), *option) == (
        f"error: {tmp_path}/a.avi: the overlay must end in .mp4, .mov, .mkv\n"
    )
    assert failure(first, second, *runs(root, "rgb"), *option) == (
        "error: --overlay and --timeline-png take one video, got 2\n"
    )
    source = tmp_path / "a.mkv"
    shutil.copy(first, source)
    before = source.read_bytes()
    assert failure(source, *runs(root, "rgb"), "--overlay", tmp_path / "." / "a.mkv") == (
        f"error: {source}: is the video itself; choose another --overlay\n"
    )
    assert source.read_bytes() == before


def test_the_overlay_of_a_timeline_names_what_is_found_then(root, tmp_path, monkeypatch):
    (video,) = videos_of(root, TESTED[-1])
    written = []
    monkeypatch.setattr(
        overlay_module, "captioned", lambda picture, caption: written.append(caption) or picture
    )
    options = ("--timeline", "--fps", 5, "--threshold", 0.3, "--json")
    target = tmp_path / "out.mp4"
    result = predict(video, *runs(root, "rgb"), "--overlay", target, *options)
    assert result.exit_code == 0, result.output
    assert result.stderr.startswith(f"{target}: written with ")
    assert result.stderr.endswith(", without sound\n")
    actions = json.loads(result.stdout)["actions"]
    assert {(label, round(score, 4)) for label, score in written} <= {
        (one["label"], one["score"]) for one in actions
    }
    assert written
    assert len(shown(target)[0]) == LENGTHS[-1]


# --- streams ---


@pytest.fixture
def served_clip(tmp_path):
    """(URL of an MPEG transport stream of 30 frames at 25 Hz, its frames, what was asked for)."""
    path = encode(tmp_path / "x.ts", "mpeg2video", moving_frames(30, (48, 64)))
    with serving({"/x.ts": Served(path.read_bytes())}) as (url, asked):
        yield url("/x.ts"), decode_all(path), asked


def test_a_stream_is_predicted_as_the_file_of_its_last_frames(root, tmp_path, served_clip):
    address, frames, asked = served_clip
    window, every = 10, 8  # frames
    before = os.environ.get("OPENCV_FFMPEG_CAPTURE_OPTIONS")
    found = predicted(
        address, *runs(root, "flow", "rgb", "rgbdiff"), "--window", window / 25, "--every",
        every / 25,
    )  # fmt: skip
    assert os.environ.get("OPENCV_FFMPEG_CAPTURE_OPTIONS") == before
    assert asked
    ends = range(every, len(frames) + 1, every)
    assert len(found) == len(ends) == 3
    for row, end in zip(found, ends):
        path = write_clip(tmp_path / f"{end}.avi", frames[max(end - window, 0) : end])
        (expected,) = predicted(path, *runs(root, "flow", "rgb", "rgbdiff"))
        assert row["top"] == expected["top"] and row["video"] == address


def test_a_stream_as_text_and_its_end(root, served_clip):
    address, _, _ = served_clip
    options = ("--every", 0.2, "--seconds", 0.4)
    result = predict(address, *runs(root, "rgb"), *options)
    lines = [line.split() for line in result.stdout.splitlines()]
    assert [line[:2] for line in lines] == [["0.2", "s"], ["0.4", "s"]]
    assert all(line[2] in CLASSES and line[4] == "%" for line in lines)


def test_ctrl_c_ends_a_stream(root, served_clip, monkeypatch):
    address, _, _ = served_clip
    closed, frames = [], Stream.frames

    def interrupted(self):
        for number, frame in enumerate(frames(self)):
            if number == 10:
                raise KeyboardInterrupt
            yield frame

    close = Stream.close
    monkeypatch.setattr(Stream, "frames", interrupted)
    monkeypatch.setattr(Stream, "close", lambda self: closed.append(close(self)))
    result = predict(address, *runs(root, "rgb"), "--every", 0.2)
    assert (result.exit_code, result.stderr) == (0, "stopped\n")
    assert len(result.stdout.splitlines()) == 2
    assert closed == [None]


def test_a_password_is_not_shown(root, served_clip):
    address, _, _ = served_clip
    secret = address.replace("//", "//me:secret@")
    (row, *_) = predicted(secret, *runs(root, "rgb"), "--seconds", 1)
    assert row["video"] == address.replace("//", "//…@")
    wrong = secret.replace("x.ts", "no.ts")
    assert failure(wrong, *runs(root, "rgb")) == (
        f"error: {wrong.replace('me:secret', '…')}: cannot be opened; is the address right, and "
        "the sender running?\n"
    )


def test_streams_that_cannot_be(root, tmp_path, served_clip, capfd):
    address, _, _ = served_clip
    (video,) = videos_of(root, TESTED[0])
    secret = address.replace("//", "//me:secret@")
    hidden = address.replace("//", "//…@")
    alone = f"error: {hidden}: a stream comes alone, without --overlay and --timeline\n"
    assert failure(secret, video, *runs(root, "rgb")) == alone
    assert failure(secret, *runs(root, "rgb"), "--timeline") == alone
    assert failure(address, *runs(root, "rgb"), "--window", 0) == (
        "error: --window must be > 0 seconds, got 0\n"
    )
    capfd.readouterr()
    assert failure("camera:99", *runs(root, "rgb")) == (
        "error: camera:99: cannot be opened; is it plugged in, free, and may this user open it?\n"
    )
    assert capfd.readouterr() == ("", "")  # nor has OpenCV said anything


def test_a_playlist_from_the_network_opens_no_file(tmp_path):
    """What a server sends may name other streams, but nothing on this machine."""
    clip = encode(tmp_path / "there.ts", "mpeg2video", moving_frames(12, (48, 64)))
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{clip}\n#EXT-X-ENDLIST\n"
    with (
        serving({"/list.m3u8": Served(text.encode())}) as (url, _),
        pytest.raises(VideoError, match=r": (cannot be opened|opened, but gives no frame)"),
    ):
        stream = Stream(url("/list.m3u8"))
        if next(stream.frames(), None) is None:
            raise VideoError("x: opened, but gives no frame")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("camera:0", True), ("RTSP://host/x", True), ("srt://host:1", True), ("camera:", False),
     ("file:///etc/passwd", False), ("http:///x", False), ("concat:a|b", False), ("a.mp4", False)],
)  # fmt: skip
def test_what_a_stream_is(text, expected):
    assert is_stream(text) == expected
    if not expected:
        with pytest.raises(InputError) as caught:
            Stream(text)
        assert str(caught.value) == (
            f"{text!r}: a camera such as camera:0 or an address such as rtsp://… expected"
        )


def test_nonsense_about_the_rate_of_a_stream(monkeypatch):
    class Capture:
        isOpened = staticmethod(lambda: True)  # OpenCV's name

        def __init__(self, rate):
            self.get = {cv2.CAP_PROP_FPS: rate}.__getitem__

    for rate, expected in ((30.0, 30.0), (0.0, 25.0), (90_000.0, 25.0), (float("nan"), 25.0)):
        monkeypatch.setattr(stream_module, "_open_camera", lambda _, rate=rate: Capture(rate))
        assert Stream("camera:0").fps == expected


# --- units ---


def test_a_buffer_holds_the_newest_frames():
    buffer = FrameBuffer("x", 10.0, 0.5)
    frames = moving_frames(8, (12, 16))
    assert not buffer.is_full
    for frame in frames:
        buffer.add(frame)
    assert (buffer.num_frames, buffer.size, buffer.is_full) == (5, (12, 16), True)
    held = list(buffer.frames(lambda number: number != 1))
    assert [number for number, _ in held] == [0, 2, 3, 4]
    assert all((frame == frames[3 + number]).all() for number, frame in held)
    picked = list(buffer.pick(lambda length: {length - 1, 0}, lambda frame: frame.mean()))
    assert picked == [(0, frames[3].mean()), (4, frames[7].mean())]
    buffer.add(frames[0][:6])
    assert (buffer.num_frames, buffer.size) == (1, (6, 16))


def test_a_video_in_memory_reads_as_a_shard(root):
    from preprocess.limits import Limits
    from tsn_app.prediction import Extraction, make_ensemble, plans_for
    from tsn_core.shard_set import ShardSet

    ensemble = make_ensemble([open_predictor(root / "runs/flow")], [])
    extraction = Extraction(ensemble, Limits(), isolated=False)
    (video,), note = extraction.file(*videos_of(root, TESTED[1]), plans_for(ensemble, 3))
    shards = ShardSet(root / "shards/flow/data/flow-farneback")
    number = shards.number(TESTED[1])
    assert note is None
    units = np.stack(video.unit_views(0, [2, 0]))
    assert (units == np.stack(shards.unit_views(number, [2, 0]))).all()
    assert (video.snippet_frames(0) == shards.snippet_frames(number)).all()
    for name in ("num_snippets", "num_frames", "fps"):
        assert getattr(video, name).tolist() == [getattr(shards, name)[number]]
    assert (video.modality, dict(video.sampling)) == (shards.modality, dict(shards.sampling))
    assert (len(video.names), video.labels.tolist()) == (1, [0])


@pytest.mark.parametrize("width", [36, 40, 100])
def test_percentages_are_seen_in_every_terminal(width):
    class_names = ["both_arms_sideways_up", "one_arm_raise_wave"]
    ensemble = SimpleNamespace(predictors=[None], names=["rgb"], class_names=class_names)
    scores = np.array([[4.0, 1.0]], np.float32)
    prediction = Prediction("a.avi", None, 1.0, scores, scores[0], None)
    console = Console(width=width, file=io.StringIO())
    console.print(table(ensemble, prediction, 2, console.width))
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2
    assert "95.3 %" in lines[0] and "█" in lines[0]
    assert "4.7 %" in lines[1]
