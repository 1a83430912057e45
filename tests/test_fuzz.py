"""Hostile files: every reader answers with a result or one line, in bounded time and memory.

``python -m fuzz`` looks for more of them than these tests have time for.
"""

import json
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from random import Random

import h5py
import numpy as np
import pytest
from conftest import add_video, header_of, stored
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fuzz.sandbox import BugError, Sandbox
from fuzz.targets import TARGETS
from tsn_core.codec import decode_image, encode_image, jpeg_shape
from tsn_core.errors import InputError, ShardError, one_line
from tsn_core.index import read_index
from tsn_core.manifest import read_manifest
from tsn_core.modality import modality_names
from tsn_core.shard_reader import Shard
from tsn_core.shard_writer import ShardWriter

ROOT = Path(__file__).parent.parent
CORPUS = sorted(file for file in (ROOT / "fuzz" / "corpus").rglob("*") if file.is_file())
EXAMPLES = {"shard": 150, "index": 60}  # 100 for the others; some 30 s altogether


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox() as sandbox:
        yield sandbox


@pytest.mark.parametrize("name", TARGETS)
def test_sound_inputs_are_read(sandbox, name):
    for data in TARGETS[name].sound():
        assert sandbox.run(name, data) == ""


@pytest.mark.slow(reason="a thousand hostile inputs, each in another process")
@pytest.mark.parametrize("name", TARGETS)
def test_mutations_are_read_or_refused(sandbox, name):
    sound = TARGETS[name].sound()
    refused = []

    @settings(
        max_examples=EXAMPLES.get(name, 100),
        derandomize=True,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**63), place=st.integers(0, len(sound) - 1))
    def check(seed, place):
        mutated = TARGETS[name].mutate(sound[place], Random(seed))
        refused.append(bool(sandbox.run(name, mutated)))

    check()
    assert any(refused)


@pytest.mark.parametrize("path", CORPUS, ids=[f"{path.parent.name}-{path.name}" for path in CORPUS])
def test_inputs_that_once_were_bugs(sandbox, path):
    sandbox.run(path.parent.name, path.read_bytes())


# --- the sandbox itself ---

EVIL = """
import os, signal, time
class Target:
    sound = staticmethod(list)
TARGETS = {"evil": Target}
def run(name, data, folder):
    exec(data)
    return "said so"
"""


@pytest.mark.parametrize(
    ("code", "end"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "evil: the process ended with status -11"),
        ("signal.pause()", "evil: no answer within 5 s"),
        ("raise KeyError('x')", "KeyError: 'x'\n"),
        ("bytes(2 << 30)", "MemoryError\n"),
        ("b'x' * (200 << 20)", " MiB of memory for 18 bytes"),
        ("open('/etc/hosts').close()", "evil: opened /etc/hosts"),
    ],
)
def test_the_sandbox_survives_and_tells(tmp_path, monkeypatch, code, end):
    (tmp_path / "evil_targets.py").write_text(EVIL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Sandbox(seconds=5, targets="evil_targets") as sandbox:
        with pytest.raises(BugError) as caught:
            sandbox.run("evil", code.encode())
        assert str(caught.value).endswith(end)
        assert sandbox.run("evil", b"pass") == "said so"


def test_without_atheris_the_runner_says_what_to_install():
    code = (
        "import importlib.util, runpy, sys\n"
        "find = importlib.util.find_spec\n"
        "hide = lambda name, *rest: None if name == 'atheris' else find(name, *rest)\n"
        "importlib.util.find_spec = hide\n"
        "sys.argv = ['fuzz', '--seconds', '1', 'jpeg']\n"
        "runpy.run_module('fuzz', run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "error: atheris is not installed; pip install --editable '.[fuzz]' (Linux or macOS, "
        "Python 3.11 and newer)\n",
    )


# --- what was found, in words ---


def message_of(function, *arguments, error=ShardError):
    with pytest.raises(error) as caught:
        function(*arguments)
    return str(caught.value)


def jpeg_claiming(height: int, width: int) -> bytes:
    data = bytearray(encode_image(np.zeros((16, 24, 3), np.uint8), "jpeg", 90))
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def test_the_header_of_a_jpeg_is_read_before_memory_is_given():
    for height, width in ((16, 24), (65500, 65500), (32767, 32767), (0, 24)):
        data = np.frombuffer(jpeg_claiming(height, width), np.uint8)
        assert jpeg_shape(data) == (height, width, 3)
        if (height, width) != (16, 24):
            assert message_of(decode_image, data, "jpeg", (16, 24, 3)) == (
                f"JPEG of shape (16, 24, 3) expected, got shape ({height}, {width}, 3)"
            )
    gray = encode_image(np.zeros((16, 24), np.uint8), "jpeg", 90)
    assert jpeg_shape(np.frombuffer(gray, np.uint8)) == (16, 24)


def test_only_baseline_jpeg_is_decoded():
    import cv2

    image = np.zeros((16, 24, 3), np.uint8)
    progressive = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1]
    for data in (progressive, cv2.imencode(".png", image)[1], cv2.imencode(".bmp", image)[1]):
        assert jpeg_shape(data) is None
        assert message_of(decode_image, data, "jpeg", (16, 24, 3)) == (
            "JPEG of shape (16, 24, 3) expected, got no JPEG"
        )


@pytest.mark.parametrize("codec", ["jpeg", "raw"])
def test_units_cannot_be_larger_than_their_images_allow(tmp_path, codec):
    path = tmp_path / "shard-00000.h5"
    quality = 90 if codec == "jpeg" else None
    modality = stored("rgb", height=None, width=None, short_side=16, codec=codec, quality=quality)
    with ShardWriter(path, header_of(modality)) as writer:
        add_video(writer, modality, np.zeros((2, 16, 24, 3), np.uint8), starts=(0, 1))
        writer.finish()
    size = int(Shard(path).tables.image_start[1])
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        file["video_unit_size"][0] = (65500, 65500)
    assert message_of(Shard, path) == (
        f"{path}: damaged: image_start: {size} bytes cannot be the {65500 * 65500} px of image 0; "
        "delete the file and extract again"
    )


def test_units_have_the_size_that_the_header_says(tiny_shard):
    with h5py.File(tiny_shard, "r+", libver=("v110", "v110")) as file:
        file["video_unit_size"][0] = (3, 2)
    assert message_of(Shard, tiny_shard) == (
        f"{tiny_shard}: damaged: video_unit_size: 2, 3 expected; delete the file and extract again"
    )


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("sampling", "[1]", "attribute sampling: a JSON object expected, got '[1]'"),
        ("sampling", "[" * 9000, f"attribute sampling: a JSON object expected, got '{'[' * 40}'"),
        ("dataset", 7, "attribute dataset: a text expected, got something else"),
        ("videos_per_shard", "x", "attribute videos_per_shard: a whole number expected, got "
         "something else"),
        ("class_names", "x", "attribute class_names: texts expected, got something else"),
        ("fingerprint", None, "attribute fingerprint: a text expected, got none"),
        ("table_crc32", None, "attribute table_crc32: a whole number expected, got none"),
    ],
)  # fmt: skip
def test_attributes_of_other_kinds(tiny_shard, name, value, reason):
    with h5py.File(tiny_shard, "r+", libver=("v110", "v110")) as file:
        del file.attrs[name]
        if value is not None:
            file.attrs[name] = np.bytes_(value) if isinstance(value, str) else value
    assert message_of(Shard, tiny_shard) == (
        f"{tiny_shard}: damaged: {reason}; delete the file and extract again"
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"snippet_length": 2**16 + 1}, "snippet_length must be <= 65536, got 65537"),
        ({"snippet_length": 1.5}, "snippet_length must be a whole number, got 1.5"),
        ({"snippet_length": True}, "snippet_length must be a whole number, got True"),
        ({"height": "24"}, "height must be a whole number, got '24'"),
        ({"scale": float("nan")}, "scale must be a number, got nan"),
        ({"zero": [1]}, "zero must be a number, got [1]"),
        (
            {"algorithm": "../x"},
            "unknown flow algorithm '../x'; choose from tvl1, farneback, dis, raft",
        ),
        ({"parameters": 5}, "parameters must be a mapping, got 5"),
        ({"name": ["rgb"]},
         f"unknown modality ['rgb']; choose from {', '.join(modality_names())}, or install the "
         "package that brings it"),
    ],
)  # fmt: skip
def test_a_modality_of_other_types(changes, reason):
    fields = {**json.loads(stored("rgb").to_json()), **changes}
    with pytest.raises(InputError) as caught:
        type(stored("rgb"))(**fields)
    assert str(caught.value) == reason


def index_with(folder: Path, change) -> Path:
    content = json.loads(TARGETS["index"].sound()[0])
    change(content)
    (folder / "index.json").write_text(json.dumps(content))
    return folder / "index.json"


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (("dataset",), 5, "dataset: a text expected, got 5"),
        (("class_names",), "ab", "class_names: a list of texts expected"),
        (("class_names",), [1], "class_names: a list of texts expected"),
        (("sampling",), [], "sampling: an object expected, got []"),
        (("shards", 0, "file"), 5, "file: a text expected, got 5"),
        (("shards", 0, "fingerprint"), None, "fingerprint: a text expected, got None"),
        (("shards", 0, "num_bytes"), -1, "num_bytes: a number from 0 on expected, got -1"),
        (("shards", 0, "num_images"), True, "num_images: a number from 0 on expected, got True"),
        (("shards", 0, "file"), "a\nb", "'a\\nb': a plain file name expected"),
        (("shards", 0, "file"), "x" * 256, f"'{'x' * 256}': a plain file name expected"),
    ],
)
def test_an_index_of_other_types(tmp_path, place, value, reason):
    def change(content):
        for key in place[:-1]:
            content = content[key]
        content[place[-1]] = value

    path = index_with(tmp_path, change)
    assert message_of(read_index, tmp_path) == f"{path}: damaged: {reason}; run extract again"


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"tiny"', "5", "line 1: dataset must be a text, got 5"),
        ('["nod", "wave"]', '"ab"', "line 1: class_names must be a list of texts, got 'ab'"),
        ('"nod/v_nod_1.avi"', "7", "line 2: name must be a text, got 7"),
        ('"label": 0', '"label": false', "line 2: label must be a whole number, got False"),
    ],
)
def test_a_manifest_of_other_types(tmp_path, old, new, reason):
    path = tmp_path / "manifest.jsonl"
    text = TARGETS["manifest"].sound()[0].decode()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    assert message_of(read_manifest, path, error=InputError) == f"{path}, {reason}"


def test_messages_are_one_line_of_bounded_length():
    assert str(InputError("a\nb\r\x1b[2J\u2028\ud800é")) == "a\\nb\\r\\x1b[2J\\u2028\\ud800é"
    long = one_line(f"path: {'x' * 10_000}; the remedy")
    assert len(long) == 2000
    assert long.startswith("path: xxx") and long.endswith("xxx; the remedy") and "x…x" in long


# --- memory ---


def peak_of(function) -> int:
    """Return the most bytes that Python and NumPy held at once while a function ran."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def opened(path: Path) -> None:
    try:
        Shard(path).checksum_defects()
    except ShardError:
        return


def test_opening_a_shard_takes_no_more_than_a_few_times_its_size(tmp_path):
    """Names of two bytes each cost a reader most; of tables, it needs a copy or two."""
    path = tmp_path / "shard-00000.h5"
    modality = stored("rgb", height=1, width=1)
    with ShardWriter(path, header_of(modality)) as writer:
        for number in range(20_000):
            writer.drop_video(f"{number % 100:02d}", "x", "yz")
        writer.finish()
    size = path.stat().st_size
    assert size < 200_000
    assert peak_of(lambda: opened(path)) < 100 * size
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        del file["failed_name"]
        file.create_dataset("failed_name", data=np.zeros((1 << 20) + 1, "S1"))
    assert message_of(Shard, path) == (
        f"{path}: failed_name: a list of at most 1048576 texts expected"
    )


@pytest.mark.parametrize("shape", [(10**12,), (2**30, 2**30), (2**16,) * 3])
def test_shapes_that_do_not_fit_the_file_cost_nothing(tiny_shard, shape):
    with h5py.File(tiny_shard, "r+", libver=("v110", "v110")) as file:
        del file["image_frame"]
        file.create_dataset("image_frame", shape, np.int32)
    assert peak_of(lambda: opened(tiny_shard)) < 1 << 20
    assert message_of(Shard, tiny_shard) == f"{tiny_shard}: image_frame: larger than the file"


def test_tables_that_share_their_bytes_are_read_once(tmp_path):
    """Each table may be as large as the file, but not all of them."""
    path = tmp_path / "shard-00000.h5"
    modality = stored("rgb", height=1, width=1)
    with ShardWriter(path, header_of(modality)) as writer:
        add_video(writer, modality, np.zeros((100_000, 1, 1, 3), np.uint8))
        writer.finish()
    with h5py.File(path, "r+", libver=("v110", "v110")) as file:
        for name in ("snippet_image", "video_snippet", "video_image"):
            del file[name]
            file[name] = file["image_start"]
    size = path.stat().st_size
    assert message_of(Shard, path) == (
        f"{path}: damaged: its structures hold more than the file; "
        "delete the file and extract again"
    )
    assert peak_of(lambda: opened(path)) < 4 * size
