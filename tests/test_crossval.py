"""Training on several splits, comparing variants, and going on after an interruption."""

import gc
import json
import os
import shutil
from multiprocessing import active_children
from pathlib import Path
from statistics import stdev

import cv2
import numpy as np
import pytest
from conftest import stored
from train_helpers import (
    CLASSES,
    bright_or_dark,
    failure,
    fit_arguments,
    message_of,
    run_program,
    write_shards,
)

from train import crossval
from train.ablation import ABLATION_FILES, choose_variants
from train.ablation_plot import plot_ablation
from train.cross_table import cells, markdown, text
from train.crossval import CrossResult, cross_result, pooled_scores
from train.results import RESULT_FILES
from train.scores import Scores, read_scores
from tsn_core.consensus import CONSENSUS
from tsn_core.errors import InputError
from tsn_core.manifest import Manifest, Record, write_manifest

FEW = (
    "--epochs",
    1,
    "--batch-size",
    4,
    "--num-snippets",
    2,
    "--crops",
    1,
    "--workers",
    0,
    "--device",
    "cpu",
)


@pytest.fixture(autouse=True)
def no_curves(monkeypatch):
    """Drawing them takes a third of such a training; tests/test_fit.py looks at them."""
    monkeypatch.setattr("train.training.plot_curves", lambda *_: None)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Two modalities of eight videos; splits 1 and 2 test on different ones, 3 on those of 1."""
    root = tmp_path_factory.mktemp("data") / "tiny"
    for modality in (stored("rgb"), stored("rgbdiff")):
        write_shards(root / modality.folder, modality, bright_or_dark(modality, 8))
    records = []
    for n in range(8):
        first, second = ("test", "train") if n < 4 else ("train", "test")
        records.append(Record(f"{CLASSES[n % 2]}/{n}.avi", n % 2, {1: first, 2: second, 3: first}))
    write_manifest(Manifest("tiny", CLASSES, tuple(records)), root / "manifest.jsonl")
    return root


def arguments(command, shards, out, *more):
    return [command, *fit_arguments(shards, out)[1:], *FEW, *more]


def edited(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


# --- what several tests say together ---


def scores_of(names, right):
    """Scores of two classes; the labels alternate."""
    labels = np.arange(len(names)) % 2
    chosen = np.where(right, labels, 1 - labels)
    video_scores = np.eye(2, dtype=np.float32)[chosen]
    return Scores(
        "rgb", np.array(names), labels, video_scores[:, None], video_scores, np.array(CLASSES)
    )


def test_disjoint_tests_are_pooled():
    parts = {
        1: scores_of(["a", "b", "c", "d"], [1, 1, 1, 0]),
        2: scores_of(["e", "f"], [0, 1]),
    }
    result = cross_result(parts, 12.5)
    assert result.top1 == {1: 0.75, 2: 0.5}
    assert result.mean == 0.625
    assert result.spread == pytest.approx(stdev([0.75, 0.5]))
    assert result.mean_class_accuracy == {1: 0.75, 2: 0.5}
    assert (result.pooled["right"], result.pooled["num_videos"]) == (4, 6)
    assert result.pooled["top1"] == pytest.approx(4 / 6)
    pooled = pooled_scores(list(parts.values()))
    assert pooled.names.tolist() == ["a", "b", "c", "d", "e", "f"]
    assert pooled.labels.tolist() == [0, 1, 0, 1, 0, 1]
    assert pooled.video_scores.argmax(axis=1).tolist() == [0, 1, 0, 0, 1, 1]
    assert result.to_dict()["top1_spread"] == result.spread


def test_tests_of_the_same_videos_are_not():
    parts = {1: scores_of(["a", "b"], [1, 1]), 2: scores_of(["b", "c"], [1, 1])}
    assert pooled_scores(list(parts.values())) is None
    assert cross_result(parts, 0.0).pooled is None


def test_a_single_split_has_no_spread():
    result = cross_result({2: scores_of(["a", "b"], [1, 0])}, 0.0)
    assert (result.mean, result.spread) == (0.5, None)


RESULTS = {
    ("avg", "3"): CrossResult(
        {1: 1.0, 2: 8 / 9},
        {1: 1.0, 2: 8 / 9},
        {"right": 17, "num_videos": 18, "top1": 17 / 18},
        99.6,
    ),
    ("attention", "3"): CrossResult({1: 0.5, 2: 0.5}, {1: 0.5, 2: 0.5}, None, 0.0),
}


def test_the_table():
    rows = cells(("consensus", "segments"), RESULTS)
    assert text(rows, 2) == (
        "consensus  segments  split 1  split 2         mean           pooled  training\n"
        "avg        3          100.0%    88.9%  94.4% ± 7.9  17 of 18, 94.4%     100 s\n"
        "attention  3           50.0%    50.0%  50.0% ± 0.0"
    )
    assert markdown(rows, 2) == (
        "| consensus | segments | split 1 | split 2 | mean | pooled | training |\n"
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| avg | 3 | 100.0% | 88.9% | 94.4% ± 7.9 | 17 of 18, 94.4% | 100 s |\n"
        "| attention | 3 | 50.0% | 50.0% | 50.0% ± 0.0 |  |  |\n"
    )


# --- crossval ---


@pytest.fixture(scope="module")
def done(shards, tmp_path_factory):
    """A finished cross-validation on all splits."""
    out = tmp_path_factory.mktemp("done") / "x"
    result = run_program(*arguments("crossval", shards, out))
    assert result.exit_code == 0, result.output
    return out, result


def test_crossval(shards, done, tmp_path):
    out = shutil.copytree(done[0], tmp_path / "x")
    result = run_program(*arguments("crossval", shards, out, "--splits", "1,2"))
    assert result.exit_code == 0, result.output
    parts = {split: read_scores(out / f"split{split}") for split in (1, 2)}
    assert [part.names.tolist() for part in parts.values()] == [
        [f"{CLASSES[n % 2]}/{n}.avi" for n in numbers] for numbers in (range(4), range(4, 8))
    ]
    configs = [json.loads((out / f"split{n}" / "config.json").read_text()) for n in (1, 2)]
    assert [config.pop("split") for config in configs] == [1, 2]
    assert configs[0] == configs[1]
    content = json.loads((out / "crossval.json").read_text())["results"]
    tested = [json.loads((out / f"split{n}" / "metrics.json").read_text()) for n in (1, 2)]
    assert list(content) == ["rgb"]
    assert content["rgb"]["top1"] == {str(n + 1): part["top1"] for n, part in enumerate(tested)}
    assert [part["num_snippets"] for part in tested] == [2, 2]
    whole = pooled_scores(list(parts.values()))
    assert read_scores(out).names.tolist() == whole.names.tolist()
    files = {path.name for path in out.iterdir()}
    assert files == {*RESULT_FILES, "split1", "split2", "split3", "crossval.json"}
    percents = [f"{100 * part['top1']:.1f}%" for part in tested]
    right = sum(round(4 * part["top1"]) for part in tested)
    assert result.stdout.splitlines()[0].split() == (
        ["modality", "split", "1", "split", "2", "mean", "pooled", "training"]
    )
    line = result.stdout.splitlines()[1]
    assert line.split()[:4] == ["rgb", *percents, f"{100 * right / 8:.1f}%"]
    assert f"{right} of 8, {100 * right / 8:.1f}%" in line
    assert result.stdout.splitlines()[2:] == [f"{out}: crossval.json"]
    places = [line for line in result.stderr.splitlines() if line.startswith("run ")]
    assert places == [f"run 1 of 2: {out / 'split1'}", f"run 2 of 2: {out / 'split2'}"]


def test_all_splits_of_the_dataset_are_the_default(done):
    out, result = done
    content = json.loads((out / "crossval.json").read_text())["results"]["rgb"]
    assert list(content["top1"]) == ["1", "2", "3"]
    assert content["pooled"] is None  # 1 and 3 test on the same videos
    assert "pooled" not in result.stdout
    assert not (out / "scores.npz").exists()


def test_what_is_done_is_not_done_again(shards, done, tmp_path, monkeypatch):
    out = shutil.copytree(done[0], tmp_path / "x")
    tested = []
    evaluate_run = crossval.evaluate_run
    monkeypatch.setattr(
        crossval,
        "evaluate_run",
        lambda folder, **how: (tested.append(folder.name), evaluate_run(folder, **how)),
    )
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.pt")}
    assert len(before) == 6

    def again(*more):
        tested.clear()
        result = run_program(*arguments("crossval", shards, out, *more))
        assert result.exit_code == 0, result.output
        return result.stdout.replace(str(out), str(done[0]))

    assert again() == done[1].stdout
    assert tested == []
    (out / "split1" / "metrics.json").write_text("{")
    edited(out / "split2" / "metrics.json", checkpoint="best")
    os.utime(out / "split3" / "last.pt")  # as if its training had gone on since
    assert again() == done[1].stdout
    assert tested == ["split1", "split2", "split3"]
    again("--num-snippets", 3)
    assert tested == ["split1", "split2", "split3"]
    before.pop(out / "split3" / "last.pt")
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_run_of_other_settings_is_refused(shards, done):
    out, _ = done
    result = run_program(*arguments("crossval", shards, out, "--dropout", 0.1))
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        f"error: {out / 'split1'}: holds a run with dropout=0.8, this one has dropout=0.1; "
        "choose another --out or delete the folder"
    )


def test_an_interrupted_one_goes_on(shards, done, tmp_path, monkeypatch):
    train_run = crossval.train_run

    def interrupted(settings, *positional, **named):
        if settings.data.split == 2:
            raise KeyboardInterrupt
        return train_run(settings, *positional, **named)

    command = arguments("crossval", shards, tmp_path, "--splits", "1 2")
    with monkeypatch.context() as patch:
        patch.setattr(crossval, "train_run", interrupted)
        result = run_program(*command)
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == (
        "interrupted; the same command goes on where this one stopped"
    )
    assert not (tmp_path / "crossval.json").exists()
    assert run_program(*command).exit_code == 0
    for split in (1, 2):
        first, second = (read_scores(out / f"split{split}") for out in (done[0], tmp_path))
        assert np.array_equal(first.scores, second.scores)


def test_loading_processes_end_with_their_run(shards, tmp_path, monkeypatch):
    left = []
    evaluate_run = crossval.evaluate_run
    monkeypatch.setattr(
        crossval,
        "evaluate_run",
        lambda *folder, **how: (left.append(active_children()), evaluate_run(*folder, **how)),
    )
    gc.disable()
    try:
        command = arguments("crossval", shards, tmp_path, "--splits", 1, "--workers", 1)
        assert run_program(*command).exit_code == 0
    finally:
        gc.enable()
    assert left == [[]]


def test_several_modalities_are_fused(shards, tmp_path):
    out = tmp_path / "x"
    more = ("--modality", "rgbdiff", "--splits", "1,2")
    result = run_program(*arguments("crossval", shards, out, *more))
    assert result.exit_code == 0, result.output
    rows = [line.split()[0] for line in result.stdout.splitlines()]
    assert rows == ["modality", "rgb", "rgbdiff", "fusion", f"{out}:"]
    for folder in ("split1", "split2", ""):
        parts = [read_scores(out / name / folder) for name in ("rgb", "rgbdiff")]
        fused = read_scores(out / "fusion" / folder)
        np.testing.assert_allclose(
            fused.video_scores, parts[0].video_scores + parts[1].video_scores, rtol=1e-5
        )
        assert fused.names.tolist() == parts[0].names.tolist()
        assert (out / "fusion" / folder / "gain.png").exists()
    content = json.loads((out / "crossval.json").read_text())["results"]
    assert list(content) == ["rgb", "rgbdiff", "fusion"]
    assert content["fusion"]["pooled"]["num_videos"] == 8
    assert "run 4 of 4" in result.stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--splits", "1,4"), "tiny: no split 4; it has 1, 2, 3"),
        (("--splits", "1,1"), "--splits must be different numbers; tiny has 1, 2, 3"),
        (("--splits", ""), "--splits must be different numbers; tiny has 1, 2, 3"),
        (("--splits", "a"), "--splits must be whole numbers such as 1,2,3, got 'a'"),
        (("--modality", "rgb"), "--modality must name each modality once, got rgb, rgb"),
        (
            ("--modality", "rgbdiff", "--flow", "dis"),
            "--flow dis: rgb, rgbdiff has no flow algorithm",
        ),
        (("--num-snippets", 0), "--num-snippets must be > 0, got 0"),
        (("--workers", -1), "--workers must be 0 or more, got -1"),
        (("--epochs", 0), "epochs must be > 0, got 0"),
    ],
)
def test_messages_of_crossval(shards, tmp_path, more, message):
    out = tmp_path / "x"
    assert failure(*arguments("crossval", shards, out, *more)) == f"error: {message}\n"
    assert not out.exists()


def test_several_processes_are_refused(shards, tmp_path, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert failure(*arguments("crossval", shards, tmp_path / "x")) == (
        "error: crossval runs in one process; use torchrun with tsn-train fit, split by split\n"
    )


# --- ablate ---


class Settings:
    """As much of a run's settings as the choice of variants looks at."""

    class network:
        consensus = "avg"
        num_segments = 3


def test_variants_are_trained_once():
    chosen = choose_variants(Settings, CONSENSUS, (1, 3, 5, 7))
    assert [variant.folder for variant in chosen] == [
        *("avg-3", "max-3", "topk-3", "weighted-3", "attention-3", "gru-3"),
        *("avg-1", "avg-5", "avg-7"),
    ]
    chosen = choose_variants(Settings, ("max", "gru"), (1, 3), grid=True)
    assert [variant.folder for variant in chosen] == ["max-1", "max-3", "gru-1", "gru-3"]


def test_variants_that_make_no_sense():
    assert message_of(choose_variants, Settings, ("mean",), (1,)) == (
        "unknown consensus 'mean'; choose from avg, max, topk, weighted, attention, gru"
    )
    assert message_of(choose_variants, Settings, (), (0,)) == (
        "--segments-list must be numbers > 0, got 0"
    )
    assert message_of(choose_variants, Settings, (), ()) == (
        "nothing to compare: --consensus-list and --segments-list are empty"
    )
    with pytest.raises(InputError):
        choose_variants(Settings, ("avg",), (), grid=True)


def test_ablate(shards, tmp_path):
    out = tmp_path / "x"
    more = ("--consensus-list", "avg,topk", "--segments-list", "1,2", "--num-segments", 2)
    command = arguments("ablate", shards, out, "--splits", "1,2", *more)
    result = run_program(*command)
    assert result.exit_code == 0, result.output
    assert {*ABLATION_FILES, "avg-2", "topk-2", "avg-1"} == {path.name for path in out.iterdir()}
    content = json.loads((out / "ablation.json").read_text())
    rows = content.pop("results")
    assert content == {
        "dataset": "tiny",
        "modality": "rgb",
        "splits": [1, 2],
        "num_snippets": 2,
        "crops": 1,
    }
    assert [(row["consensus"], row["num_segments"]) for row in rows] == [
        ("avg", 2),
        ("topk", 2),
        ("avg", 1),
    ]
    for row in rows:
        folder = out / f"{row['consensus']}-{row['num_segments']}"
        for split in (1, 2):
            config = json.loads((folder / f"split{split}" / "config.json").read_text())
            model = config["model"]
            assert (model["consensus"], config["split"]) == (row["consensus"], split)
            assert model["num_segments"] == row["num_segments"]
            assert model["top"] == min(2, row["num_segments"])
            metrics = json.loads((folder / f"split{split}" / "metrics.json").read_text())
            assert row["top1"][str(split)] == metrics["top1"]
        assert row["pooled"]["num_videos"] == 8
        assert row["training_seconds"] > 0
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [["avg", "2"], ["topk", "2"], ["avg", "1"]]
    assert lines[4:] == [f"{out}: {', '.join(ABLATION_FILES)}"]
    page = (out / "ablation.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in page[2:]] == ["| avg", "| topk", "| avg"]
    assert cv2.imread(str(out / "ablation.png")) is not None
    remarks = [line for line in result.stderr.splitlines() if line.startswith("split ")]
    assert [line.split(":")[0] for line in remarks] == [
        "split 1 has no val videos",
        "split 2 has no val videos",
    ]
    assert [line for line in result.stderr.splitlines() if line.startswith("run ")][-1] == (
        f"run 6 of 6: {out / 'avg-1' / 'split2'}"
    )
    again = run_program(*command)
    assert again.stdout == result.stdout


def test_messages_of_ablate(shards, tmp_path):
    def message(*more):
        return failure(*arguments("ablate", shards, tmp_path / "x", *more))

    assert message("--consensus-list", "avg,mean") == (
        "error: unknown consensus 'mean'; choose from avg, max, topk, weighted, attention, gru\n"
    )
    assert message("--segments-list", "1,x") == (
        "error: --segments-list must be whole numbers such as 1,3,5,7, got '1,x'\n"
    )
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    "accuracies",
    [
        {("avg", 3): [1.0]},
        {("avg", 1): [0.5, 0.7], ("avg", 3): [0.5, 0.9]},
        {("avg", 1): [0.5], ("max", 3): [0.5]},
        {(name, k): [0.5, 0.9] for name in ("avg", "max") for k in (1, 3)},
    ],
)
def test_pictures_of_any_choice(tmp_path, accuracies):
    path = Path(tmp_path / "a.png")
    plot_ablation(accuracies, path, "title")
    assert cv2.imread(str(path)).shape[0] > 400
