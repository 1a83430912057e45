"""What pip installs: the wheel holds the packages with their data and nothing else, and works."""

import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {"preprocess", "train", "tsn_app", "tsn_core"}
_OTHERS = (".git", ".venv", "build", "dist", "site", "*.egg-info", "__pycache__", ".*_cache")

_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def run(*command):
    """Return what a command prints; the source is not on its path."""
    words = list(map(str, command))
    done = subprocess.run(words, env=_ENVIRONMENT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(wheel, sdist) of a copy of the repository, so that nothing is left in it."""
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    source.mkdir()
    for name in (*PACKAGES, "tests"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns(*_OTHERS))
    for name in ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    run(
        *(sys.executable, "-m", "build", "--no-isolation"),
        *("--wheel", "--sdist", "--outdir", folder, source),
    )
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def data_files() -> set[str]:
    """Return what the packages hold besides code."""
    return {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".nbi", ".nbc")
    }


def test_the_wheel_holds_the_packages_and_their_data(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
        info = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        entry_points = configparser.ConfigParser()
        entry_points.read_string(wheel.read(f"{info}/entry_points.txt").decode())
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, info}
    code = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
    }
    assert "tsn_core/py.typed" in data_files()
    assert {name for name in names if not name.startswith(info)} == code | data_files()
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    for group, lines in setup["options.entry_points"].items():
        assert [f"{k} = {v}" for k, v in entry_points[group].items()] == lines.strip().split("\n")


def test_the_source_distribution_holds_no_tests(built):
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"setup.cfg", "README.md", "LICENSE", "tsn_core/py.typed"} <= names
    assert data_files() <= names
    assert not {name for name in names if name.startswith(("tests", "docs", "fuzz", "benchmarks"))}


def test_the_checkers_of_packages_are_content(built):
    assert run(sys.executable, "-m", "twine", "check", "--strict", *built).count("PASSED") == 2
    checker = Path(sys.executable).with_name("check-wheel-contents")
    assert ": OK" in run(checker, "--config", ROOT / "setup.cfg", built[0])


def test_the_installed_programs_start(built, tmp_path, monkeypatch):
    """In a fresh environment that sees the dependencies, but not the source."""
    venv.create(tmp_path / "env", symlinks=os.name != "nt", with_pip=False)
    scripts = tmp_path / "env" / ("Scripts" if os.name == "nt" else "bin")
    run(
        *(sys.executable, "-m", "pip", "--python", scripts / "python", "install", "--quiet"),
        *("--no-deps", "--no-index", "--no-compile", built[0]),
    )
    site = next((tmp_path / "env").rglob("site-packages"))
    import click

    (site / "dependencies.pth").write_text(str(Path(click.__file__).parent.parent))
    monkeypatch.chdir(tmp_path)
    assert "Temporal Segment Networks" in run(scripts / "tsn-train", "--help")
    where = "import train.cli, tsn_core; print(train.cli.__file__, tsn_core.__file__)"
    places = run(scripts / "python", "-c", where).split()
    assert [Path(place).is_relative_to(site) for place in places] == [True, True]
