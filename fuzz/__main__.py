"""``python -m fuzz [--seconds N] [TARGET …]``: fuzz the readers, guided by the code they reach."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import click

from fuzz.targets import TARGETS

ROOT = Path(__file__).parent.parent
CORPUS = ROOT / "fuzz" / "corpus"
_WORK = ROOT / ".fuzz"
_ATHERIS_MISSING = (
    "atheris is not installed; pip install --editable '.[fuzz]' (Linux or macOS, Python 3.11 and "
    "newer)"
)


@click.command()
@click.option("--seconds", type=click.IntRange(min=1), default=60, show_default=True,
              help="For each target.")  # fmt: skip
@click.argument("targets", nargs=-1, type=click.Choice(tuple(TARGETS)))
def main(seconds: int, targets: tuple[str, ...]) -> None:
    """Fuzz some targets, or all, one after the other; exit with status 1 if a bug was found."""
    if importlib.util.find_spec("atheris") is None:
        click.echo(f"error: {_ATHERIS_MISSING}", err=True)
        sys.exit(1)
    found = []
    for name in targets or TARGETS:
        work = _WORK / name
        shutil.rmtree(work / "sound", ignore_errors=True)
        for folder in ("sound", "reached", "bugs"):
            (work / folder).mkdir(parents=True, exist_ok=True)
        for number, data in enumerate(TARGETS[name].sound()):
            (work / "sound" / str(number)).write_bytes(data)
        known = [str(CORPUS / name)] if (CORPUS / name).is_dir() else []
        command = [
            sys.executable, "-m", "fuzz.guided", name,
            str(work / "reached"), str(work / "sound"), *known,
            f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=1500", "-max_len=262144",
            f"-artifact_prefix={work / 'bugs'}/", "-print_final_stats=1",
        ]  # fmt: skip
        click.echo(f"{name}: {seconds} s")
        if subprocess.run(command, cwd=ROOT).returncode:
            found.append(name)
    for name in found:
        click.echo(
            f"{name}: a bug, described above; its input lies in {_WORK / name / 'bugs'}; mend it, "
            f"and keep the input in {CORPUS / name}",
            err=True,
        )
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
