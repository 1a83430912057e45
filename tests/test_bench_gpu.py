"""The measurements on a GPU: their small forms, and the table of what was reached."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import __main__ as everything
from benchmarks import bench_gpu, bench_gpu_flow, machine
from benchmarks.bench_gpu import BARS, SCRIPTS, bar_table, run_all
from benchmarks.bench_gpu_chain import SMALL, Chain
from benchmarks.machine import choose_device
from benchmarks.steps import Steps, Stopped
from tsn_core.consensus import CONSENSUS

ROOT = Path(__file__).resolve().parent.parent
FOREVER = ("http.server", "0 --bind 127.0.0.1")


def benchmarks(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *words],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


# --- the table ---

PAIRS, EXTRACTED, *FED, MINUTES = BARS


@pytest.mark.parametrize(
    ("bar", "value", "verdict"),
    [
        (PAIRS, None, "not measured"),
        (PAIRS, 1499.9, "missed"),
        (PAIRS, 1500.0, "reached"),
        (PAIRS, 4000.0, "aim reached"),
        (MINUTES, 9.1, "missed"),
        (MINUTES, 9.0, "reached"),
    ],
)
def test_verdicts(bar, value, verdict):
    assert bar.verdict(value) == verdict


def test_a_table_of_bars():
    ways = (("rgb", "jpeg", 0.85), ("rgb", "jpeg", 0.912), ("rgb", "raw", 0.7))
    usual = {"arithmetic": "bf16, channels last"}
    rows = [usual | dict(zip(("modality", "codec", "fed_over_synthetic"), way)) for way in ways]
    rows.append({**rows[2], "arithmetic": "another", "fed_over_synthetic": 0.99})
    results = {
        "gpu_flow": {"pairs_per_second": 12345.6},
        "gpu_extract": {
            "rows": [
                {"device": device, "images_per_second": rate, "flow": flow}
                for device, rate, flow in (
                    ("cuda:0", 900.0, {}),
                    ("cuda:0", 1400.0, {}),
                    ("cuda:0,cuda:1", 2800.0, {}),
                    ("cpu", 9000.0, None),
                )
            ]
        },
        "gpu_train": {"fed": rows},
        "gpu_chain": {"seconds": 630, "complete": True},
    }
    assert bar_table(BARS, results) == (
        "what                                     found      bar      aim\n"
        "TV-L1, pairs/s at 340x256               12,346  ≥ 1,500  ≥ 4,000  aim reached\n"
        "extraction with it on one GPU, pairs/s   1,400  ≥ 1,500  ≥ 4,000  missed\n"
        "rgb from jpeg, share of synthetic        0.912    ≥ 0.9        –  reached\n"
        "rgb from raw, share of synthetic           0.7    ≥ 0.9        –  missed\n"
        "flow from jpeg, share of synthetic           –    ≥ 0.9        –  not measured\n"
        "flow from raw, share of synthetic            –    ≥ 0.9        –  not measured\n"
        "the whole chain, minutes                  10.5      ≤ 9        –  missed"
    )
    results["gpu_chain"]["complete"] = False
    assert MINUTES.found(results) is None


def test_every_bar_is_of_a_script():
    assert {bar.script for bar in BARS} <= set(SCRIPTS)
    assert {bar.script for bar in FED} == {"gpu_train"}


@pytest.fixture
def scripts(tmp_path, monkeypatch):
    """Scripts by name: what each writes, if anything, and its status; and what was run."""
    made, ran = {}, []

    def run(words, check, env):
        assert not check and words[:2] == [sys.executable, "-m"]
        assert env["TSN_RESULTS"] == str(tmp_path)
        ran.append(words[2:])
        result, status = made[words[2].removeprefix("benchmarks.bench_")]
        if result is not None:
            name = words[2].removeprefix("benchmarks.bench_")
            (tmp_path / f"{name}.json").write_text(json.dumps(result))
        return SimpleNamespace(returncode=status)

    monkeypatch.setattr(bench_gpu.subprocess, "run", run)
    monkeypatch.setattr(bench_gpu.time, "monotonic", lambda: 0.0)
    return SimpleNamespace(made=made, ran=ran, folder=tmp_path)


def test_all_run_though_one_fails(scripts, capsys):
    scripts.made.update(gpu_flow=(None, 3), gpu_chain=({"seconds": 60, "complete": True}, 0))
    (scripts.folder / "gpu_flow.json").write_text('{"pairs_per_second": 9999}')  # an earlier run's
    names, bars = ("gpu_flow", "gpu_chain"), (PAIRS, MINUTES)
    assert run_all(names, ["--device", "cuda"], bars, scripts.folder) == 1
    assert scripts.ran == [
        ["benchmarks.bench_gpu_flow", "--device", "cuda"],
        ["benchmarks.bench_gpu_chain", "--device", "cuda"],
    ]
    assert capsys.readouterr().out == (
        "== gpu_flow\n== gpu_chain\n== gpu\n"
        "gpu_flow     status 3, 0 s\n"
        "gpu_chain    ended well, 0 s\n"
        "what                       found      bar      aim\n"
        "TV-L1, pairs/s at 340x256      –  ≥ 1,500  ≥ 4,000  not measured\n"
        "the whole chain, minutes       1      ≤ 9        –  reached\n"
        "failed: gpu_flow\n"
        "missed or not measured: TV-L1, pairs/s at 340x256\n"
    )


def test_what_a_machine_lacks_is_said_in_a_line(scripts, capsys, monkeypatch):
    monkeypatch.setattr(machine, "find_spec", lambda name: None)
    scripts.made.update(gpu_flow=({"pairs_per_second": 1600}, 0))
    assert run_all(("gpu_extract", "gpu_flow"), [], (), scripts.folder) == 1
    line = "gpu_extract: needs av, which is not installed; pip install av"
    assert capsys.readouterr().out == (
        f"== gpu_extract\n{line}\n== gpu_flow\n== gpu\n"
        "gpu_extract  status 1, 0 s\ngpu_flow     ended well, 0 s\nfailed: gpu_extract\n"
    )
    monkeypatch.setattr(sys, "argv", ["benchmarks", "gpu_chain"])
    with pytest.raises(SystemExit) as caught:
        everything.main()
    assert str(caught.value) == line.replace("gpu_extract", "gpu_chain")
    assert [name for (name,) in scripts.ran] == ["benchmarks.bench_gpu_flow"]


@pytest.mark.parametrize(("pairs", "status"), [(1600, 0), (1400, 1)])
def test_a_missed_bar_is_a_failure(scripts, capsys, pairs, status):
    scripts.made.update(gpu_flow=({"pairs_per_second": pairs}, 0))
    assert run_all(("gpu_flow",), [], (PAIRS, MINUTES), scripts.folder) == status
    output = capsys.readouterr().out
    assert "minutes" not in output, "a bar of a script that was not asked for"
    assert ("missed or not measured: TV-L1" in output) == bool(status)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("name", ["gpu", "gpu_chain"])
def test_without_a_gpu(name):
    done = benchmarks(name)
    assert done.returncode == 1
    assert done.stderr == (
        f"{name}: no GPU that torch can use; on this machine, "
        f"python -m benchmarks {name} --small --device cpu runs its small form\n"
    )


def test_the_cpu_where_it_is_asked_for():
    assert choose_device("cpu", "gpu") == "cpu"


# --- the steps of the chain ---


def test_a_step_is_done_once(tmp_path, capfd):
    steps = Steps(tmp_path, 600)
    steps.run("version", "train", "--version")
    assert "-- version: tsn-train --version\n" in capfd.readouterr().out
    again = Steps(tmp_path, 600)
    again.run("version", "train", "--version")
    assert capfd.readouterr().out == ""
    assert again.complete("version") and not again.complete("other")
    assert again.done["version"]["calls"] == 1
    again.run("version", "preprocess", "--version")  # another command is another step
    assert again.done["version"]["command"] == "tsn-preprocess --version"
    again.forget()
    assert not Steps(tmp_path, 600).done


def test_a_step_that_fails(tmp_path):
    steps = Steps(tmp_path, 600)
    with pytest.raises(Stopped) as caught:
        steps.run("fit", "train", "fit --nonsense")
    assert str(caught.value) == "fit: exit status 2: tsn-train fit --nonsense"
    assert not steps.complete("fit")


def test_a_step_without_time(tmp_path):
    with pytest.raises(Stopped) as caught:
        Steps(tmp_path, 0).run("fit", "train", "fit")
    assert str(caught.value) == "fit: no time left; the same command goes on there"
    steps = Steps(tmp_path, 0.5)
    with pytest.raises(Stopped) as caught:
        steps.run("serve", *FOREVER)
    assert str(caught.value) == "serve: ended, time is up; the same command goes on there"
    first = steps.done["serve"]
    with pytest.raises(Stopped):
        Steps(tmp_path, 0.5).run("serve", *FOREVER)
    second = Steps(tmp_path, 0).done["serve"]
    assert (first["calls"], second["calls"]) == (1, 2)
    assert second["seconds"] > first["seconds"] > 0.4


def test_a_chain_that_is_complete_begins_anew(tmp_path):
    steps = Steps(tmp_path, 600)
    chain = Chain(steps, SMALL, SimpleNamespace(out=tmp_path, more=[]))
    assert not chain.complete
    steps.done = {name: {"complete": True} for name in ("extract", "report", "evaluate gru")}
    assert chain.complete
    steps.done["evaluate flowhsv"] = {"complete": False}
    assert not chain.complete
    made = ("data/synthetic", "shards/synthetic", "runs/rgb", "consensus/avg-3", "data/mine")
    for name in made:
        (tmp_path / name).mkdir(parents=True)
    chain.clear()
    assert not steps.done
    assert [(tmp_path / name).exists() for name in made] == [False] * 4 + [True]


# --- ways of flow ---


def test_a_way_that_fails_does_not_keep_the_others_from_being_measured(monkeypatch, capsys):
    ways = {name: lambda *fields: fields[2] for name in ("default", "broken", "other")}
    monkeypatch.setattr(bench_gpu_flow, "solvers", lambda device: ways)
    monkeypatch.setattr(bench_gpu_flow, "tvl1_backend", lambda: "opencv")

    def broken(*fields):
        raise RuntimeError("no compiler\nanywhere")

    ways["broken"] = broken
    result = bench_gpu_flow.measure("cpu", bench_gpu_flow.SMALL)
    assert list(result["ways"]) == ["default", "other"]
    assert result["pairs_per_second"] > 0
    lines = bench_gpu_flow.table(result).splitlines()
    assert lines[3:] == [
        "broken failed: no compiler anywhere",
        "not compared with Numba's flow: Numba cannot be loaded here",
    ]
    ways["default"] = broken
    with pytest.raises(RuntimeError, match="no compiler"):
        bench_gpu_flow.measure("cpu", bench_gpu_flow.SMALL)


# --- the small forms ---

FOUND = {
    "gpu_flow": ("eager ", "to Numba's flow: "),
    "gpu_extract": ("torch  cpu ", "rgb    cpu ", "numba  cpu "),
    "gpu_chain": ("rgb ", "flow ", "rgbdiff ", "fusion ", *(f"{name} " for name in CONSENSUS)),
}


@pytest.mark.slow(reason="runs whole measurements, though on tiny frames and networks")
@pytest.mark.parametrize("name", FOUND)  # that of gpu_train: test_bench_gpu_train.py
def test_the_small_form_of_each(name):
    done = benchmarks("gpu", "--small", "--device", "cpu", "--only", name)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"\n== gpu\n{name:<12} ended well, " in done.stdout
    lines = done.stdout.splitlines()
    for word in FOUND.get(name, ()):
        assert any(line.startswith(word) for line in lines), word
