"""Who may import whom, and what the programs must not load before they know what to do."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FORBIDDEN = {
    "tsn_core": {"preprocess", "train", "tsn_app"},
    "preprocess": {"train", "tsn_app"},
    "train": {"preprocess", "tsn_app"},
}


def imported_packages(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Yield (line, top-level package) of every import in a module, nested ones included."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name.partition(".")[0]
        elif isinstance(node, ast.ImportFrom):
            name = package if node.level else (node.module or "")
            yield node.lineno, name.partition(".")[0]


def test_the_reading_of_imports_finds_every_kind():
    source = "import a.b, c\ndef f():\n    from d.e import g\n    from . import h\n"
    assert {name for _, name in imported_packages(source, "p")} == {"a", "c", "d", "p"}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_packages_import_only_downwards(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in files
        for line, name in imported_packages(file.read_text(encoding="utf-8"), package)
        if name in FORBIDDEN[package]
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("preprocess.cli", {"torch", "torchvision", "train", "cv2", "matplotlib", "numba"}),
        ("train.cli", {"cv2", "preprocess", "torch", "torchvision", "matplotlib"}),
        (
            "tsn_app.predict_cli",
            {"cv2", "av", "torch", "torchvision", "matplotlib", "preprocess", "train"},
        ),
        ("tsn_core.shard_set", {"cv2", "torch", "preprocess", "train"}),
    ],
)
def test_importing_loads_nothing_heavy(module, unwanted):
    if not (ROOT / f"{module.replace('.', '/')}.py").exists():
        pytest.skip(f"{module} does not exist")
    code = f"import sys, {module}; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert module in loaded
    assert unwanted.intersection(loaded) == set()
