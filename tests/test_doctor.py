"""The page about this machine: facts to findings, and libraries that are broken."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from preprocess import OPENCV_VARIABLES
from tsn_app import judgement
from tsn_app.doctor_cli import main
from tsn_app.finding import NOTE, OK, PROBLEM, Finding
from tsn_app.machine import Machine, look, short
from tsn_app.probing import Probed, run_probe
from tsn_core.errors import InputError

FINE = Machine(
    python="3.11.7",
    system="Linux",
    in_venv=True,
    cores=8,
    memory_gb=32.0,
    free_memory_gb=20.0,
    folder=Path("/data"),
    free_disk_gb=500.0,
    writable=True,
    shared_memory_gb=16.0,
    open_files=65536,
    encoding="utf-8",
    installed={"numpy": "2.4.6"},
    wanted={"numpy": ">=1.26"},
    opencvs={"opencv-contrib-python": "5.0.0"},
)
TORCH = {
    "version": "2.13.0+cpu",
    "cuda_build": None,
    "gpus": [],
    "threads": 2,
    "weights": ["resnet18.pth"],
    "fits": True,
    "torchvision": "0.28.0",
}


def trouble(findings) -> list[tuple[str, str, str, str]]:
    return [(f.status, f.name, f.found, f.remedy) for f in findings if f.status != OK]


def test_a_good_machine():
    assert trouble(judgement.judge_machine(FINE)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"writable": False},
            (PROBLEM, "disk", "/data cannot be written", "choose another --folder and --out"),
        ),
        (
            {"free_disk_gb": 1.0},
            (NOTE, "disk", "1.0 GB free in /data", "tsn-preprocess plan tells what a dataset "
             "takes; --quality 85 or a smaller --size take less"),
        ),
        (
            {"shared_memory_gb": 0.064},
            (NOTE, "/dev/shm", "0.1 GB free",
             "train with --workers 0, or start the container with --shm-size 8g"),
        ),
        ({"open_files": 256}, (NOTE, "open files", "256 allowed", "ulimit -n 4096")),
        (
            {"encoding": "ascii"},
            (NOTE, "text", "ascii: names may be garbled", "export PYTHONUTF8=1"),
        ),
        (
            {"installed": {"numpy": None}},
            (PROBLEM, "versions", "numpy is missing", "make install, or pip install ."),
        ),
        (
            {"installed": {"numpy": "1.20"}},
            (PROBLEM, "versions", "numpy 1.20 (>=1.26 expected)", "make install, or pip install ."),
        ),
        (
            {"opencvs": {"opencv-python": "4.9", "opencv-contrib-python": "5.0"}},
            (PROBLEM, "OpenCV", "several, which overwrite each other: opencv-python 4.9, "
             "opencv-contrib-python 5.0", "pip uninstall -y opencv-python opencv-contrib-python "
             "&& pip install opencv-contrib-python"),
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_machine(changes, expected):
    assert trouble(judgement.judge_machine(replace(FINE, **changes))) == [expected]


def test_opencv_without_its_contrib_modules():
    facts = {"version": "4.9", "file": "/x/cv2.py", "contrib": False, "ffmpeg": True}
    ((status, name, found, remedy),) = trouble(judgement.judge_opencv(Probed(facts)))
    assert (status, name) == (NOTE, "contrib modules")
    assert found.startswith("missing: another OpenCV hides them")
    assert remedy.endswith("pip install opencv-contrib-python")


def test_a_torchvision_of_another_torch():
    facts = {**TORCH, "fits": False, "misfit": "operator torchvision::nms does not exist"}
    assert trouble(judgement.judge_torch(Probed(facts))) == [
        (NOTE, "torchvision", "0.28.0, made for another torch (operator torchvision::nms does not "
         "exist); this package's programs work all the same",
         "install a pair that belongs together if your own code imports torchvision")
    ]  # fmt: skip
    assert trouble(judgement.judge_torch(Probed(TORCH))) == []


def test_what_is_there_is_counted_and_what_is_not_has_a_remedy():
    facts = {**TORCH, "threads": 1, "weights": []}
    torch, *_, weights = judgement.judge_torch(Probed(facts))
    assert torch.found == "2.13.0+cpu, 1 thread"
    assert (weights.found, weights.remedy) == (
        "none are there: --weights imagenet downloads them once",
        "without a network, copy a state dict here and name it: --weights FILE.pth",
    )


def test_variables_of_this_package_are_not_those_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENCV_LOG_LEVEL", OPENCV_VARIABLES["OPENCV_LOG_LEVEL"])
    assert "OPENCV_LOG_LEVEL" not in look(tmp_path).variables
    monkeypatch.setenv("OPENCV_LOG_LEVEL", "INFO")
    assert look(tmp_path).variables["OPENCV_LOG_LEVEL"] == "INFO"


def test_a_gpu_that_is_not_seen():
    ((status, _, found, _),) = trouble(judgement.judge_torch(Probed({**TORCH, "cuda_build": "13"})))
    assert (status, found) == (NOTE, "none is seen, though torch is built for CUDA 13")


def test_decoders_that_are_missing():
    formats = {
        "h264": {"pyav": 0, "opencv": 12},
        "av1": {"pyav": 12, "opencv": 0},
        "hevc": None,
    }
    found = list(judgement.judge_decoders(Probed({"formats": formats, "pyav": "18"})))
    assert trouble(found) == [(PROBLEM, "not decoded", "h264", "pip install --force-reinstall av")]
    assert Finding("Video", "OpenCV alone", "does not decode av1; extraction does") in found


@pytest.mark.parametrize(
    "judge",
    [
        judgement.judge_opencv,
        judgement.judge_decoders,
        judgement.judge_numba,
        judgement.judge_torch,
        judgement.judge_hdf5,
    ],
)
def test_a_library_that_does_not_load_is_a_problem(judge):
    ((status, _, found, remedy),) = trouble(judge(Probed(None, "No module named 'x'")))
    assert (status, found) == (PROBLEM, "No module named 'x'") and remedy


def test_flow_that_is_wrong():
    facts = {"version": "0.68", "backend": "numba", "error_px": 1.5}
    ((status, _, found, _),) = trouble(judgement.judge_numba(Probed(facts)))
    assert (status, found) == (PROBLEM, "1.50 px from a known shift, at most 0.1 expected")


def test_a_broken_modality_is_named():
    def load(name):
        if name == "depth":
            raise InputError("modality 'depth': broken")

    found = list(judgement.judge_modalities(load, ("rgb", "depth")))
    assert [one.found for one in found] == ["rgb", "modality 'depth': broken"]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise RuntimeError('operator does not exist')", "operator does not exist"),
        ("import os; os.abort()", "ends its process with SIGABRT"),
        ("import sys; sys.exit(3)", "ends with status 3"),
    ],
)
def test_libraries_that_break_when_they_are_imported(tmp_path, monkeypatch, code, said):
    (tmp_path / "h5py.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(__file__).parent.parent}")
    probed = run_probe("hdf5")
    assert probed.facts is None and probed.failure.endswith(said)


def test_one_that_never_comes_back(tmp_path, monkeypatch):
    (tmp_path / "h5py.py").write_text("import threading; threading.Event().wait()")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{Path(__file__).parent.parent}")
    assert run_probe("hdf5", seconds=1) == Probed(None, "does not come back within 1 s")


def test_this_machine_in_json(tmp_path):
    """Really, but for the speed; one line for each thing, none of them secret."""
    environment = {**os.environ, "TSN_SECRET_KEY": "hush", "PYTHONPATH": str(Path.cwd())}
    done = subprocess.run(
        [sys.executable, "-m", "tsn_app.doctor_cli", "--json", "--no-speed", "--folder", tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(done.stdout)
    names = {one["name"]: one for one in content["findings"]}
    assert {"Python", "disk", "torch", "TV-L1", "PyAV", "h5py", "modalities"} <= set(names)
    assert "flowhsv" in names["modalities"]["found"] or "rgb" in names["modalities"]["found"]
    assert "h264" in names["PyAV"]["found"]
    assert "hush" not in done.stdout
    assert "numpy" in content["packages"]


def test_the_page_and_its_status(monkeypatch):
    findings = [
        Finding("A", "one", "well"),
        Finding("A", "two", "ill", PROBLEM, "mend it"),
        Finding("B", "three", "so so", NOTE, "look at it"),
    ]
    monkeypatch.setattr("tsn_app.doctor_cli.examine", lambda *_, **__: iter(findings))
    done = CliRunner().invoke(main, [])
    assert done.exit_code == 1
    lines = [line.rstrip() for line in done.output.splitlines()]
    assert lines[-3:] == ["What to do", "  ✗ two: mend it", "  • three: look at it"]
    monkeypatch.setattr("tsn_app.doctor_cli.examine", lambda *_, **__: iter(findings[:1]))
    done = CliRunner().invoke(main, [])
    assert done.exit_code == 0 and done.output.rstrip().endswith("Everything is fine.")


def test_the_facts_of_this_machine(tmp_path):
    found = look(tmp_path / "not" / "yet")
    assert found.folder == tmp_path and found.writable and found.free_disk_gb > 0
    assert found.cores >= 1 and found.memory_gb > 0
    assert short(str(Path.home() / "x")) in ("~/x", str(Path.home() / "x"))


@pytest.mark.parametrize(
    ("gpus", "triton", "status", "text"),
    [
        (0, True, OK, "cuda would not work; flow is computed by Numba"),
        (2, True, OK, "cuda works: TV-L1 and RAFT flow on 2 GPUs"),
        (1, False, NOTE, "cuda works, slowly: Triton, which compiles TV-L1, is missing"),
    ],
)
def test_whether_flow_is_computed_on_gpus(gpus, triton, status, text):
    gpu = {"name": "H100", "gb": 80.0, "bf16": True}
    facts = {**TORCH, "gpus": [gpu] * gpus, "triton": triton}
    found = {one.name: one for one in judgement.judge_torch(Probed(facts))}["extract --device"]
    assert (found.status, found.found) == (status, text)
    assert found.remedy == ("" if triton else "pip install triton")
