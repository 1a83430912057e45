"""Score files and their fusion."""

import json
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from train_helpers import failure, run_program

from train.fuse import align, default_weight, fuse
from train.score_formats import read_results
from train.scores import Scores, read_scores, write_scores
from tsn_core.errors import InputError

NAMES = ("walk/a.avi", "run/b (1)!.avi", "walk/é.avi")


def scores_of(name="rgb", names=NAMES, seed=0, snippets=4, class_names=("walk", "run")):
    generator = np.random.default_rng(seed)
    videos, classes = len(names), len(class_names)
    return Scores(
        name=name,
        names=np.array(names),
        labels=np.array([0, 1, 0, 1])[:videos],
        scores=generator.normal(size=(videos, snippets, classes)).astype(np.float32),
        video_scores=generator.normal(size=(videos, classes)).astype(np.float32),
        class_names=np.array(class_names),
    )


def assert_same(first, second):
    assert first.name == second.name
    for field in ("names", "labels", "scores", "video_scores", "class_names"):
        assert getattr(first, field).tolist() == getattr(second, field).tolist(), field


def message(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    return str(caught.value)


# --- files ---


def test_round_trip(tmp_path):
    scores = scores_of()
    write_scores(scores, tmp_path / "run" / "scores.npz")
    assert_same(read_scores(tmp_path / "run" / "scores.npz"), scores)
    assert_same(read_scores(tmp_path / "run"), scores)
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["scores.npz"]
    write_scores(scores_of(seed=1), tmp_path / "run" / "scores-val.npz")
    assert_same(read_scores(tmp_path / "run", "val"), scores_of(seed=1))
    assert_same(read_scores(tmp_path / "run" / "scores.npz", "val"), scores_of(seed=1))


def test_the_file_is_plain_arrays(tmp_path):
    write_scores(scores_of(), tmp_path / "scores.npz")
    with np.load(tmp_path / "scores.npz", allow_pickle=False) as arrays:
        shapes = {name: (arrays[name].shape, arrays[name].dtype.kind) for name in arrays}
    assert shapes == {
        "name": ((), "U"),
        "names": ((3,), "U"),
        "labels": ((3,), "i"),
        "scores": ((3, 4, 2), "f"),
        "video_scores": ((3, 2), "f"),
        "class_names": ((2,), "U"),
    }


def test_no_scores(tmp_path):
    assert message(read_scores, tmp_path) == (
        f"{tmp_path / 'scores.npz'}: no scores there; run tsn-train evaluate on the run first"
    )
    assert message(read_scores, tmp_path, "val") == (
        f"{tmp_path / 'scores-val.npz'}: no scores there; "
        f"run tsn-train evaluate {tmp_path} --subset val first"
    )
    assert message(read_scores, tmp_path / "x.npz") == (
        f"{tmp_path / 'x.npz'}: no scores there; run tsn-train evaluate on the run first"
    )


def test_damaged_files(tmp_path):
    path = tmp_path / "scores.npz"
    write_scores(scores_of(), path)
    good = path.read_bytes()
    damaged = [b"", b"hello", good[: len(good) // 2], good[:-4]]
    damaged += [
        good[:place] + bytes([good[place] ^ 255]) + good[place + 1 :]
        for place in range(20, len(good), 37)
    ]
    told = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            read_scores(path)  # a flipped bit in a time stamp is no damage
        except InputError as error:
            assert str(error).startswith(f"{path}: ")
            assert str(error).endswith("evaluate the run again")
            assert "\n" not in str(error)
            told += 1
    assert told > len(damaged) / 2
    for data in damaged[:4]:
        path.write_bytes(data)
        assert message(read_scores, path) == (
            f"{path}: damaged, or not a scores file; evaluate the run again"
        )
    array = tmp_path / "array.npy"
    np.save(array, np.zeros(3))
    assert message(read_scores, array) == (
        f"{array}: damaged, or not a scores file; take those of another program over with "
        "tsn-train import-scores"
    )


def test_an_array_that_unpacks_to_far_more_than_its_size(tmp_path):
    path = tmp_path / "scores.npz"
    many = {**vars(scores_of()), "scores": np.zeros((3, 3_000_000, 2), np.float32)}  # 72 MB
    np.savez_compressed(path, **many)
    told = "unpacks to 72 MB, at most 67 MB expected of its size; save the scores again with"
    assert message(read_scores, path) == f"{path}: {told} numpy.savez"
    read = {"num_videos": None, "num_classes": None, "allow_pickle": False}
    with pytest.raises(InputError) as caught:
        read_results(path, "npz", **read)
    assert str(caught.value) == f"{path}: {told} numpy.savez"


class Hostile:
    """Creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_nothing_in_a_file_is_unpickled(tmp_path):
    path, trace = tmp_path / "scores.npz", tmp_path / "trace"
    content = {key: value for key, value in vars(scores_of()).items() if key != "names"}
    np.savez(path, names=np.array([Hostile(trace)] * 3, dtype=object), **content)
    expected = f"{path}: damaged, or not a scores file; evaluate the run again"
    assert message(read_scores, path) == expected
    path.write_bytes(pickle.dumps(Hostile(trace)))
    assert message(read_scores, path) == expected
    assert not trace.exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"labels": np.zeros(2, int)}, "labels has shape (2,) and type int64"),
        ({"labels": np.zeros(3)}, "labels has shape (3,) and type float64"),
        ({"labels": np.array([0, 2, 0])}, "labels must be 0 to 1"),
        ({"labels": np.array([0, -1, 0])}, "labels must be 0 to 1"),
        ({"names": np.array(["a", "b", "a"])}, "a video stands in it twice"),
        ({"names": np.arange(3)}, "names has shape (3,) and type int64"),
        ({"scores": np.zeros((3, 2))}, "scores has shape (3, 2) and type float64"),
        ({"scores": np.zeros(())}, "scores has shape () and type float64"),
        ({"scores": np.zeros((3, 4, 5))}, "scores has shape (3, 4, 5) and type float64"),
        ({"video_scores": np.full((3, 2), np.nan)}, "video_scores are not all finite"),
        ({"video_scores": np.zeros((2, 2))}, "video_scores has shape (2, 2) and type float64"),
        ({"class_names": np.array([["a"], ["b"]])}, "class_names has shape (2, 1) and type <U1"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, changes, reason):
    path = tmp_path / "scores.npz"
    np.savez(path, **{**vars(scores_of()), **changes})
    assert message(read_scores, path) == (
        f"{path}: not a scores file: {reason}; evaluate the run again"
    )


def test_an_array_is_missing(tmp_path):
    path = tmp_path / "scores.npz"
    write_scores(scores_of(), tmp_path / "whole.npz")
    with zipfile.ZipFile(tmp_path / "whole.npz") as whole, zipfile.ZipFile(path, "w") as part:
        for name in whole.namelist():
            if name != "labels.npy":
                part.writestr(name, whole.read(name))
    assert message(read_scores, path) == (
        f"{path}: not a scores file: no labels in it; evaluate the run again"
    )


# --- alignment ---


def reordered(scores, order):
    order = list(order)
    return replace(
        scores,
        names=scores.names[order],
        labels=scores.labels[order],
        scores=scores.scores[order],
        video_scores=scores.video_scores[order],
    )


def test_videos_are_matched_by_name_never_by_position():
    rgb, flow = scores_of("rgb"), scores_of("flow-tvl1", seed=1, snippets=7)
    expected = fuse(align([rgb, flow]), [1.0, 2.0])
    np.testing.assert_allclose(
        expected.video_scores, rgb.video_scores + 2 * flow.video_scores, rtol=1e-6
    )
    for order in ((2, 0, 1), (1, 0, 2), (2, 1, 0)):
        assert_same(fuse(align([rgb, reordered(flow, order)]), [1.0, 2.0]), expected)
    other = fuse(align([reordered(rgb, (2, 0, 1)), flow]), [1.0, 2.0])
    assert_same(other, reordered(expected, (2, 0, 1)))


def test_only_the_common_videos_stay_in_the_first_ones_order():
    rgb = scores_of("rgb", ("a", "b", "c", "d"))
    flow = reordered(scores_of("flow-dis", ("x", "b", "y", "d"), seed=1), (3, 0, 1, 2))
    first, second = align([rgb, flow])
    assert first.names.tolist() == second.names.tolist() == ["b", "d"]
    assert_same(first, reordered(rgb, (1, 3)))
    assert_same(second, replace(reordered(flow, (2, 0)), names=first.names))


def test_what_cannot_be_aligned():
    rgb = scores_of()
    other = scores_of("flow-tvl1", class_names=("walk", "jump"))
    assert message(align, [rgb, other]) == (
        "flow-tvl1 has other classes than rgb: class 1 is 'jump' against 'run'; "
        "fuse runs on the same dataset"
    )
    other = scores_of("flow-tvl1", class_names=("walk", "run", "jump"))
    assert message(align, [rgb, other]) == (
        "flow-tvl1 has other classes than rgb: 3 against 2; fuse runs on the same dataset"
    )
    other = replace(scores_of("flow-tvl1"), labels=np.array([0, 0, 0]))
    assert message(align, [rgb, other]) == (
        "run/b (1)!.avi: label 0 in flow-tvl1, 1 in rgb; fuse runs on the same dataset"
    )
    assert message(align, [rgb, scores_of("flow-tvl1", ("x", "y", "z"))]) == (
        "rgb, flow-tvl1 have no video in common; fuse runs on the same split"
    )


# --- fusion ---


def test_default_weights():
    names = ("rgb", "rgbdiff", "flow-tvl1", "flow-farneback", "flow-dis", "fusion")
    assert [default_weight(name) for name in names] == [1, 1, 1.5, 1.5, 1.5, 1]
    parts = [scores_of("flow-dis"), scores_of("rgb", seed=1)]
    assert_same(fuse(parts, None), fuse(parts, [1.5, 1.0]))


def test_the_fusion_is_scores_again():
    parts = [scores_of("rgb"), scores_of("rgbdiff", seed=1), scores_of("flow-dis", seed=2)]
    fused = fuse(parts, [1.0, 0.5, -2.0])
    assert fused.name == "fusion"
    for video in range(3):
        for label in range(2):
            expected = sum(
                weight * float(part.video_scores[video, label])
                for weight, part in zip((1.0, 0.5, -2.0), parts)
            )
            assert fused.video_scores[video, label] == pytest.approx(expected, rel=1e-5)
    assert fused.scores.shape == (3, 1, 2)
    assert fused.scores[:, 0].tolist() == fused.video_scores.tolist()


def test_weights_that_do_not_fit():
    parts = [scores_of("rgb"), scores_of("flow-dis")]
    assert message(fuse, parts, [1.0]) == "2 weights expected, one for each input, got 1"
    assert message(fuse, parts, [1.0, float("nan")]) == "weights must be finite numbers, got nan"
    assert message(fuse, parts, [0.0, 0.0]) == (
        "weights are all 0, which leaves no scores; give one that is not"
    )


# --- the program ---

RIGHT = np.array([[2, 1], [1, 2], [2, 1]], np.float32)
WRONG = np.array([[1, 2], [2, 1], [0, 1]], np.float32)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Folders of two evaluated runs, one right everywhere, one wrong everywhere."""
    monkeypatch.chdir(tmp_path)
    flow = reordered(replace(scores_of("flow-dis", seed=1), video_scores=RIGHT), (2, 1, 0))
    write_scores(replace(scores_of("rgb"), video_scores=WRONG), Path("rgb/scores.npz"))
    write_scores(flow, Path("flow/scores.npz"))
    return tmp_path


TABLE = """\
modality  weight  videos   top-1  95% interval     top-5  mean class  95% interval
rgb            1       3    0.0%  0.0 to 0.0      100.0%        0.0%  0.0 to 0.0
flow-dis     1.5       3  100.0%  100.0 to 100.0  100.0%      100.0%  100.0 to 100.0
fusion                 3  100.0%  100.0 to 100.0  100.0%      100.0%  100.0 to 100.0

class  videos  right  accuracy  precision  taken for
walk        2      2    100.0%     100.0%
run         1      1    100.0%     100.0%

fusion over flow-dis: top-1 +0.0 points (+0.0 to +0.0), mean class +0.0 points (+0.0 to +0.0)

fused: scores.npz, metrics.json, classes.csv, mistakes.csv, confusion.png, gain.csv, gain.png
"""
GAIN = """\
class,videos,rgb,flow-dis,fusion,flow-dis over rgb,fusion over flow-dis
walk,2,0.0,1.0,1.0,1.0,0.0
run,1,0.0,1.0,1.0,1.0,0.0
"""


def test_fuse(runs):
    result = run_program("fuse", "rgb", "flow/scores.npz", "--out", "fused")
    assert (result.exit_code, result.stdout, result.stderr) == (0, TABLE, "")
    assert {path.name for path in Path("fused").iterdir()} == {
        "scores.npz",
        "metrics.json",
        "classes.csv",
        "mistakes.csv",
        "confusion.png",
        "gain.csv",
        "gain.png",
    }
    assert Path("fused/gain.csv").read_text() == GAIN
    assert Path("fused/gain.png").read_bytes().startswith(b"\x89PNG")
    assert Path("fused/mistakes.csv").read_text() == (
        "video,true,predicted,probability_true,probability_predicted\n"
    )
    fused = read_scores(Path("fused"))
    np.testing.assert_allclose(fused.video_scores, WRONG + 1.5 * RIGHT)
    metrics = json.loads(Path("fused/metrics.json").read_text())
    assert (metrics["top1"], metrics["num_videos"]) == (1.0, 3)
    assert [row["weight"] for row in metrics["inputs"].values()] == [1.0, 1.5]
    assert metrics["weights"] == "usual"
    assert metrics["gain"] == {
        "over": "flow-dis",
        "top1": 0.0,
        "mean_class_accuracy": 0.0,
        "top1_interval": [0.0, 0.0],
        "mean_class_accuracy_interval": [0.0, 0.0],
    }
    assert Path("fused/confusion.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "arguments",
    [
        "rgb flow --weights 1 0.5 --out fused",
        "--weights 1 0.5 --out fused rgb flow",
        "--out fused --weights 1 .5 rgb flow",
        "rgb --weights 1 --weights 0.5 --out fused flow",
        "rgb flow --weights=1 5e-1 --out=fused",
        "rgb flow --weights=1 --weights=0.5 --out=fused",
    ],
)
def test_spellings_of_weights(runs, arguments):
    assert run_program("fuse", *arguments.split()).exit_code == 0
    fused = read_scores(Path("fused")).video_scores
    np.testing.assert_allclose(fused, WRONG + 0.5 * RIGHT)
    assert json.loads(Path("fused/metrics.json").read_text())["weights"] == "given"


def test_numbers_that_are_no_weights(runs):
    """Folders may be named like numbers."""
    Path("rgb").rename("1")
    Path("flow").rename("2")
    result = run_program("fuse", "1", "2", "--weights", "1", "-2", "--out", "3")
    assert result.exit_code == 0
    np.testing.assert_allclose(read_scores(Path("3")).video_scores, WRONG - 2 * RIGHT)


def test_messages_of_fuse(runs):
    assert failure("fuse", "rgb", "flow", "--weights", "1", "2", "3", "--out", "x") == (
        "error: 2 weights expected, one for each input, got 3\n"
    )
    assert failure("fuse", "rgb", "gone", "--out", "x") == (
        "error: gone: no scores there; run tsn-train evaluate on the run first\n"
    )
    assert failure("fuse", "rgb", "flow/scores.npz", "--out", "flow") == (
        "error: --out flow: holds one of the inputs; choose another folder\n"
    )
    assert failure("fuse", "rgb", "rgb", "--out", "x") == (
        "error: an input is given twice; give every run once\n"
    )
    assert failure("fuse", "rgb", "flow", "--search", "--weights", "1", "1", "--out", "x") == (
        "error: --search finds the weights; leave out --weights\n"
    )
    assert not Path("x").exists()


def test_one_input_alone(runs):
    result = run_program("fuse", "rgb", "--out", "fused")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == (
        "fused: scores.npz, metrics.json, classes.csv, mistakes.csv, confusion.png"
    )
    assert not Path("fused/gain.csv").exists()
    assert "gain" not in json.loads(Path("fused/metrics.json").read_text())


# --- weights from val videos ---

VAL_NAMES = ("walk/v.avi", "run/w.avi", "walk/x.avi")


@pytest.fixture
def searched(runs):
    """The runs with val scores: rgb is wrong by 4 there, flow right by 2."""
    for run, name, scores in (("rgb", "rgb", 4 * WRONG), ("flow", "flow-dis", 2 * RIGHT)):
        val = replace(scores_of(name, VAL_NAMES), video_scores=scores.astype(np.float32))
        write_scores(val, Path(run, "scores-val.npz"))
    return runs


def test_weights_from_val_videos(searched):
    result = run_program("fuse", "rgb", "flow/scores.npz", "--search", "--out", "fused")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "weights from 3 val videos: top-1 there 100.0% (usual weights 0.0%)"
    metrics = json.loads(Path("fused/metrics.json").read_text())
    weights = [row["weight"] for row in metrics["inputs"].values()]
    assert weights[0] == 1.0
    assert 2 < weights[1] < 2.2  # the least that makes all val videos right
    chosen = {key: metrics[key] for key in ("weights", "val_videos", "val_top1", "usual_val_top1")}
    assert chosen == {
        "weights": "searched on val videos",
        "val_videos": 3,
        "val_top1": 1.0,
        "usual_val_top1": 0.0,
    }
    fused = read_scores(Path("fused")).video_scores
    np.testing.assert_allclose(fused, WRONG + weights[1] * RIGHT, rtol=1e-5)


def test_test_videos_have_no_say_in_the_weights(searched):
    run_program("fuse", "rgb", "flow", "--search", "--out", "first")
    rgb = read_scores(Path("rgb"))
    write_scores(replace(rgb, video_scores=100 * RIGHT), Path("rgb/scores.npz"))
    run_program("fuse", "rgb", "flow", "--search", "--out", "second")
    first, second = (
        [
            row["weight"]
            for row in json.loads(Path(out, "metrics.json").read_text())["inputs"].values()
        ]
        for out in ("first", "second")
    )
    assert first == second


def test_searches_that_cannot_be(searched):
    command = ("fuse", "rgb", "flow", "--search", "--out", "x")
    val = read_scores(Path("flow"), "val")
    write_scores(
        replace(val, names=np.array([NAMES[0], *VAL_NAMES[1:]])), Path("flow/scores-val.npz")
    )
    rgb = read_scores(Path("rgb"), "val")
    write_scores(
        replace(rgb, names=np.array([NAMES[0], *VAL_NAMES[1:]])), Path("rgb/scores-val.npz")
    )
    assert failure(*command) == (
        "error: 1 of 3 val videos are among those to fuse (walk/a.avi): weights that they choose "
        "would flatter the test; evaluate both subsets of the same split\n"
    )
    Path("flow/scores-val.npz").unlink()
    assert failure(*command) == (
        "error: flow/scores-val.npz: no scores there; "
        "run tsn-train evaluate flow --subset val first\n"
    )
    assert failure("fuse", "flow/scores.npz", "rgb", *command[3:]) == (
        "error: flow/scores-val.npz: no scores there; "
        "run tsn-train evaluate flow --subset val first\n"
    )
    assert not Path("x").exists()


def test_remark_on_scores_that_outweigh_others(runs):
    rgb = read_scores(Path("rgb"))
    write_scores(replace(rgb, video_scores=40 * WRONG), Path("rgb/scores.npz"))
    result = run_program("fuse", "rgb", "flow", "--out", "fused")
    assert result.stderr == (
        "the scores of rgb are spread 40 times as far as those of flow-dis, "
        "and weigh so much more; choose --weights accordingly, or --search\n"
    )
    assert run_program("fuse", "rgb", "flow", "--weights", "1", "60", "--out", "f").stderr == ""


def test_videos_that_not_all_have_are_counted(runs):
    write_scores(scores_of("rgbdiff", ("a", NAMES[1])), Path("rgbdiff/scores.npz"))
    result = run_program("fuse", "rgb", "rgbdiff", "--out", "fused")
    assert result.exit_code == 0
    assert result.stderr == "3 videos are left out: not every input has them\n"


def test_two_runs_of_a_modality_and_a_fusion_get_a_row_each(runs):
    write_scores(replace(scores_of("fusion"), video_scores=RIGHT), Path("old/scores.npz"))
    write_scores(replace(scores_of("rgb"), video_scores=RIGHT), Path("rgb2/scores.npz"))
    result = run_program("fuse", "rgb", "rgb2", "old", "--out", "fused")
    rows = [line[:12].rstrip() for line in result.stdout.splitlines()[:5]]
    assert rows == ["modality", "rgb", "rgb (rgb2)", "fusion (old)", "fusion"]


def test_fuse_that_cannot_write(runs):
    Path("file").write_text("")
    assert failure("fuse", "rgb", "flow", "--out", "file") == (
        "error: file/gain.csv: cannot be written: File exists; free space or choose another place\n"
    )
