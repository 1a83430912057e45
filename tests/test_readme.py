"""What the README shows must run as it stands there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocess.cli import main as preprocess
from tsn_core.shard_set import ShardSet

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder in which the shards of the demo lie where the README looks for them."""
    folder = tmp_path_factory.mktemp("demo")
    data = folder / "data"
    shards = folder / "demo/shards"
    for command in (
        f"synth --out {data} --videos-per-class 2 --frames 12 --jobs 1",
        f"extract --dataset synthetic --data {data} --out {shards} --modality rgb --modality flow "
        "--flow farneback --size 160x120 --jobs 1",
    ):
        with pytest.raises(SystemExit) as stopped:
            preprocess(command.split())
        assert stopped.value.code == 0
    return folder


def code_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def run_block(code: str, folder: Path) -> dict:
    here = Path.cwd()
    names: dict = {}
    os.chdir(folder)
    try:
        exec(code, names)
    finally:
        os.chdir(here)
    return names


def test_eight_lines_of_h5py_and_opencv_read_a_shard(demo):
    code = code_blocks()[0]
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("import")]
    assert len(lines) == 7, "with the imports, eight lines"
    assert "tsn_core" not in code
    found = run_block(code, demo)
    shards = ShardSet(demo / "demo/shards/synthetic/rgb")
    assert found["names"][0] == shards.names[0] and found["labels"][0] == shards.labels[0]
    rgb = cv2.cvtColor(found["pixels"], cv2.COLOR_BGR2RGB)
    assert np.array_equal(rgb, shards.read(0, [12])[0, 0])


def test_the_shard_set_of_the_readme(demo):
    found = run_block(code_blocks()[1], demo)
    assert found["snippets"].shape == (3, 5, 120, 160, 2)


def test_make_extract_says_what_to_put_where():
    """``make extract`` without data, with this environment in the place of .venv."""
    script = [sys.executable, "-m", "preprocess"]
    done = subprocess.run(
        [*script, "extract", "--dataset", "hmdb51", "--data", "data/hmdb51", "--out", "shards"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr == (
        "error: data/hmdb51: no such folder; get HMDB51 with: tsn-preprocess download hmdb51 "
        "--out DIR; or put the class folders into its videos/ and the *_test_splitN.txt files into "
        "its splits/ yourself, from the archives at https://serre.lab.brown.edu/hmdb51.html\n"
    )


def make(*words: str) -> list[str]:
    """Lines that make prints, also if these tests were started by make."""
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MF"))
    }
    done = subprocess.run(
        ["make", *words], cwd=ROOT, capture_output=True, text=True, check=True, env=clean
    )
    return done.stdout.splitlines()


def dry_run(*words: str) -> str:
    lines = make("--dry-run", "--assume-old=.venv/.installed", *words)
    return " ".join(line.strip().rstrip("\\").strip() for line in lines)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["extract", "DATASET=hmdb51"],
            "tsn-preprocess extract --dataset hmdb51 --data data/hmdb51 --out shards "
            "--modality rgb --modality flow --modality rgbdiff --flow tvl1",
        ),
        (
            ["extract", "DATASET=ucf101", "MODALITIES=rgb", "JOBS=4", "ARGS=--dense"],
            "tsn-preprocess extract --dataset ucf101 --data data/ucf101 --out shards "
            "--modality rgb --flow tvl1 --jobs 4 --dense",
        ),
        (
            ["train", "MODALITY=flow"],
            "tsn-train fit --shards shards/hmdb51 --modality flow --flow tvl1 --split 1 "
            "--preset hmdb51 --backbone resnet18 --weights imagenet "
            "--out runs/hmdb51/flow-split1",
        ),
        (
            ["train", "DATASET=folder", "DATA=my/videos", "SPLIT=2", "WEIGHTS=none"],
            "tsn-train fit --shards shards/videos --modality rgb --split 2 --backbone resnet18 "
            "--weights none --out runs/videos/rgb-split2",
        ),
        (
            ["train", "DATASET=ucf101", "PRESET=small", "ARGS=--accumulate 4"],
            "tsn-train fit --shards shards/ucf101 --modality rgb --split 1 --preset small "
            "--backbone resnet18 --weights imagenet --out runs/ucf101/rgb-split1 --accumulate 4",
        ),
        (
            ["plan", "DATASET=folder", "DATA=my/videos"],
            "tsn-preprocess plan --dataset folder --data my/videos",
        ),
        (["retry", "JOBS=2"], "tsn-preprocess retry shards/hmdb51 --jobs 2"),
        (["verify", "ARGS=--repair"], "tsn-preprocess verify shards/hmdb51 --repair"),
        (["evaluate", "MODALITY=flow"], "tsn-train evaluate runs/hmdb51/flow-split1"),
        (
            ["fuse", "MODALITIES=rgb flow"],
            "tsn-train fuse runs/hmdb51/rgb-split1 runs/hmdb51/flow-split1 "
            "--out runs/hmdb51/fused-split1",
        ),
        (["download", "DATASET=ucf101"], "tsn-preprocess download ucf101 --out data/ucf101"),
        (["inspect", "DATASET=ucf101"], "tsn-preprocess inspect shards/ucf101"),
        (["report"], "tsn-train report runs/hmdb51/fused-split1"),
        (
            ["predict", "VIDEO=a.mp4", "MODALITIES=rgb flow"],
            "tsn-predict a.mp4 --run runs/hmdb51/rgb-split1 --run runs/hmdb51/flow-split1",
        ),
        (["doctor", "ARGS=--json"], "tsn-doctor --json"),
    ],
)
def test_make_calls_the_programs(words, expected):
    """The commands of the README, as make would run them."""
    found = " ".join(dry_run(*words).replace(".venv/bin/", "").split())
    assert found.endswith(expected)


def test_make_help_is_the_default_and_names_every_target():
    assert dry_run() == dry_run("help")
    targets = (
        "help install demo doctor download plan extract retry verify inspect repack train evaluate "
        "fuse report predict test check fuzz bench bench-gpu docs docs-serve dist clean"
    )
    variables = (
        "DATASET MODALITY MODALITIES FLOW SPLIT DATA SHARDS RUNS JOBS PRESET BACKBONE WEIGHTS ARGS"
    )
    shown = make()
    assert [line.split()[1] for line in shown if line.startswith("  make ")] == targets.split()
    assert [line.split()[0] for line in shown if " = " in line] == variables.split()


def test_clean_never_touches_data():
    recipe = dry_run("clean")
    assert "rm -rf .venv demo build" in recipe
    removed = recipe.partition("find")[0].split()
    assert not {"data", "shards", "runs"} & set(removed)
