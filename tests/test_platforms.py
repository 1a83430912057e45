"""What Windows and macOS have otherwise, as far as Linux can tell."""

import ast
import sys
from importlib.util import find_spec, module_from_spec
from pathlib import Path, PurePath, PureWindowsPath

import click
import pytest
from click.testing import CliRunner
from conftest import moving_frames, stored, write_clip

from preprocess import child, isolation
from preprocess.datasets import listing
from preprocess.datasets.listing import scan_list
from preprocess.limits import Limits
from preprocess.task import Task
from tsn_core import atomic, shard_cache
from tsn_core.errors import InputError, MissingDependencyError
from tsn_core.index import ShardEntry
from tsn_core.location import is_remote, location
from tsn_core.manifest import Record, check_relative
from tsn_core.sampling import SnippetPlan

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("tsn_core", "preprocess", "train", "tsn_app")
POSIX_MODULES = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}
POSIX_NAMES = {  # of os and signal: what a module must not need in order to be imported
    *("fork", "register_at_fork", "getuid", "geteuid", "killpg", "getpgid", "O_NONBLOCK"),
    *("SIGKILL", "SIGALRM", "SIGUSR1", "SIGHUP", "alarm", "uname", "mkfifo", "statvfs"),
}


def needed_at_import(source: str) -> set[str]:
    """Return the modules and attributes that a module needs before any function is called."""
    found = set()
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "hasattr" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found |= {str(node.module).partition(".")[0], *(alias.name for alias in node.names)}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found |= {node.attr} if node.value.id in ("os", "signal") else set()
        waiting += ast.iter_child_nodes(node)
    return found


def test_the_reading_of_sources_finds_every_kind():
    source = (
        "import fcntl\nfrom signal import SIGKILL\nclass A:\n    b = os.getuid()\n"
        "def f():\n    import pwd\n    os.fork()\n"
        "if hasattr(os, 'killpg'):\n    os.killpg\n"
    )
    assert needed_at_import(source) & (POSIX_MODULES | POSIX_NAMES) == {
        *("fcntl", "SIGKILL", "getuid"),
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_can_be_imported_everywhere(package):
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    wrong = {
        file.relative_to(ROOT).as_posix(): needed & (POSIX_MODULES | POSIX_NAMES)
        for file in files
        if (needed := needed_at_import(file.read_text(encoding="utf-8")))
    }
    assert {name: found for name, found in wrong.items() if found} == {}


@pytest.mark.parametrize("package", PACKAGES)
def test_no_text_is_read_or_written_in_the_system_s_own_encoding(package):
    """Which is another one on Windows. Files of bytes have a ``b`` in their mode."""
    wrong = []
    for file in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            text = ast.unparse(node)
            is_text = node.func.attr in ("read_text", "write_text") and "'/proc/" not in text
            if is_text and "encoding=" not in text:
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}: {text}")
    assert wrong == []


# --- paths ---


@pytest.mark.parametrize("name", ["walk/a.avi", "a b/c.avi", "walk\\a.avi"])
def test_names_inside_the_folder_are_inside_it_on_windows(name):
    folder = PureWindowsPath("D:/data")
    assert (folder / check_relative(name)).is_relative_to(folder)


@pytest.mark.parametrize(
    "name", ["..\\a.avi", "walk\\..\\..\\a.avi", "\\a.avi", "C:a.avi", "\\\\host\\share\\a.avi"]
)
def test_names_that_leave_the_folder_on_windows_are_refused_everywhere(name):
    folder = PureWindowsPath("D:/data")
    inside = folder / name
    assert not inside.is_relative_to(folder) or ".." in inside.parts
    with pytest.raises(InputError) as caught:
        Record(name, 0)
    assert str(caught.value) == f"{name!r}: expected a path inside the dataset folder"


@pytest.mark.parametrize("file", ["C:shard.h5", "a\\b.h5", "..\\b.h5", "b.h5:stream"])
def test_an_index_names_no_file_elsewhere_on_windows(file):
    with pytest.raises(OSError, match="a plain file name expected"):
        ShardEntry(file, "f", 1, 1, 1, 1, 0)


@pytest.mark.parametrize(
    "path", ["C:\\data", "C:/data", "c://data", "D:", "\\\\host\\share", "//host/share"]
)
def test_a_drive_is_no_kind_of_store(path):
    assert not is_remote(location(path))


def test_lists_written_on_windows(tmp_path):
    for name in ("walk/a.avi", "run/b.avi"):
        write_clip(tmp_path / name, moving_frames(3))
    (tmp_path / "train.txt").write_bytes(b"\xef\xbb\xbfwalk\\a.avi walk\r\n.\\run\\b.avi run\r\n")
    manifest = scan_list(tmp_path, [tmp_path / "train.txt"])
    assert [record.name for record in manifest.records] == ["walk/a.avi", "run/b.avi"]
    assert manifest.class_names == ("run", "walk")


def test_a_listed_video_on_another_drive(tmp_path, monkeypatch):
    def other_drive(path, start):
        raise ValueError("path is on mount 'E:', start on mount 'D:'")

    (tmp_path / "train.txt").write_text("/walk/a.avi walk\n")
    monkeypatch.setattr(listing.os.path, "relpath", other_drive)
    with pytest.raises(InputError) as caught:
        scan_list(tmp_path, [tmp_path / "train.txt"])
    assert str(caught.value) == (
        f"{tmp_path / 'train.txt'}, line 1: {PurePath('/walk/a.avi')} lies outside {tmp_path}; "
        "give a folder above it with --data"
    )


def test_the_cache_lies_in_the_user_s_cache_folder_on_windows(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_cache.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert shard_cache.default_folder() == tmp_path / "tsn-shards"
    monkeypatch.delenv("LOCALAPPDATA")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert shard_cache.default_folder() == tmp_path / "AppData" / "Local" / "tsn-shards"


# --- what is not there ---


def test_a_file_appears_where_folders_cannot_be_opened(tmp_path, monkeypatch):
    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "open", refuse)  # as Windows does of a folder
        atomic.publish(_written(tmp_path / "temporary"), tmp_path / "file")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "text"


def _written(path):
    path.write_text("text", encoding="utf-8")
    return path


def test_peak_memory_where_there_is_no_proc(monkeypatch):
    """On macOS the system counts it in bytes, elsewhere in KiB."""
    on_linux = child._peak_bytes()

    def missing(self, *_, **__):
        raise FileNotFoundError(2, "No such file or directory", str(self))

    with monkeypatch.context() as patch:
        patch.setattr(child.Path, "read_text", missing)
        here = child._peak_bytes()
        patch.setattr(child.sys, "platform", "darwin")
        assert child._peak_bytes() == pytest.approx(here / 1024, rel=0.1)
    assert here > 0.9 * on_linux > 1 << 20  # what it tells on Linux may be the parent's


def test_no_process_of_their_own_for_videos_on_windows(tmp_path, monkeypatch):
    path = write_clip(tmp_path / "a.avi", moving_frames(3))
    monkeypatch.setattr(isolation.sys, "platform", "win32")
    with pytest.raises(MissingDependencyError) as caught:
        isolation.VideoProcess().extract(
            Task(path, SnippetPlan(dense=True), (stored("rgb"),), Limits()), lambda *_: None
        )
    assert str(caught.value) == (
        "processes of their own for videos need Linux or macOS; extract with --no-isolation"
    )


@pytest.mark.parametrize(("platform", "default"), [("win32", False), ("darwin", True)])
def test_videos_are_isolated_where_that_works(platform, default, monkeypatch):
    spec = find_spec("preprocess.commands.options")
    options = module_from_spec(spec)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", platform)
        spec.loader.exec_module(options)

    @click.command()
    @options.isolation_option
    def command(isolation):
        click.echo(isolation)

    for words, expected in (([], default), (["--isolation"], True), (["--no-isolation"], False)):
        assert CliRunner().invoke(command, words).output == f"{expected}\n"
