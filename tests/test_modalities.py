"""Modalities that packages register: flowhsv of this one, depth of the documented example."""

import hashlib
import importlib
import json
import sys
import types
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from conftest import moving_frames, write_clip
from onnx import TensorProto, helper, numpy_helper
from train_helpers import run_program

from preprocess.cli import main as preprocess
from preprocess.flow import flow_function
from preprocess.flow_defaults import FLOW_DEFAULTS
from preprocess.flowhsv import FLOWHSV, flow_picture, mirrored_colours
from preprocess.units import Frame, unit_maker
from train.fuse import default_weight
from train.presets import PRESETS, preset_values
from tsn_core import modality_registry
from tsn_core.errors import InputError, ShardError
from tsn_core.modality import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MODALITIES,
    Modality,
    StoredModality,
    get_modality,
    modality_names,
)
from tsn_core.planes import mirror
from tsn_core.shard_reader import read_header
from tsn_core.shard_set import ShardSet

ROOT = Path(__file__).parent.parent
NEGATIVE = """
from tsn_core.modality import Modality

def make(parameters):
    return lambda frame, _: parameters["white"] - frame.gray

NEGATIVE = Modality(
    name="negative", frames_per_unit=1, unit_channels=1, snippet_length=1, stacked=True,
    mean=(127.5,), std=(64.0,), parameters={"white": 255, "note": "", "loud": False}, make=make,
)
"""


def install(folder: Path, monkeypatch, package: str, module: str, code: str, **points: str) -> None:
    """Put a package with entry points where a pip would, for this process and its children."""
    information = folder / f"{package}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    lines = [f"{name} = {value}\n" for name, value in points.items()]
    (information / "entry_points.txt").write_text("[tsn_shards.modalities]\n" + "".join(lines))
    (folder / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=":")
    monkeypatch.delitem(sys.modules, module, raising=False)
    look_again()


def look_again() -> None:
    importlib.invalidate_caches()
    modality_registry._registered.cache_clear()
    modality_registry._load.cache_clear()


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    look_again()
    yield
    monkeypatch.undo()
    look_again()


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        preprocess([str(argument) for argument in arguments])
    return stopped.value.code


def videos_in(folder: Path) -> Path:
    for number, label in enumerate(("jump", "jump", "run", "run")):
        frames = moving_frames(9, seed=number)
        write_clip(folder / label / f"{label}{number}.avi", frames)
    return folder


def stored_of(kind: Modality, **parameters: object) -> StoredModality:
    return StoredModality(
        name=kind.name,
        snippet_length=kind.snippet_length,
        channels=kind.unit_channels,
        codec="raw",
        quality=None,
        scale=1.0,
        zero=0.0,
        height=48,
        width=64,
        parameters={**kind.parameters, **parameters},
    )


# --- the registry ---


def test_flowhsv_is_registered_like_any_other():
    assert "flowhsv" not in MODALITIES
    assert modality_names()[: len(MODALITIES)] == MODALITIES
    assert "flowhsv" in modality_names()
    assert get_modality("flowhsv") is FLOWHSV


def test_a_package_brings_a_modality(tmp_path, monkeypatch):
    with pytest.raises(InputError):
        get_modality("negative")
    install(tmp_path, monkeypatch, "shades", "shades", NEGATIVE, negative="shades:NEGATIVE")
    assert get_modality("negative").name == "negative"
    assert modality_names() == (*MODALITIES, "flowhsv", "negative")


@pytest.mark.parametrize(
    ("code", "point", "message"),
    [
        (
            "import nothing_of_the_kind",
            "broken:X",
            "modality 'negative': broken:X of broken cannot be loaded: No module named "
            "'nothing_of_the_kind'; mend or uninstall it",
        ),
        (
            "X = 5",
            "broken:X",
            "modality 'negative': a tsn_core.modality.Modality expected in broken:X of broken, got "
            "int",
        ),
        (
            NEGATIVE.replace('name="negative"', 'name="positive"'),
            "broken:NEGATIVE",
            "modality 'negative': broken:NEGATIVE of broken calls itself 'positive'; register it "
            "under that name",
        ),
        (
            NEGATIVE.replace('name="negative"', 'name="negative", like="sound"'),
            "broken:NEGATIVE",
            "modality 'negative': broken:NEGATIVE of broken says like='sound'; choose from rgb, "
            "flow, warpedflow, rgbdiff",
        ),
    ],
)
def test_broken_packages(tmp_path, monkeypatch, code, point, message):
    install(tmp_path, monkeypatch, "broken", "broken", code, negative=point)
    assert "negative" in modality_names(), "listing loads nothing"
    with pytest.raises(InputError) as caught:
        get_modality("negative")
    assert str(caught.value) == message


def test_two_packages_of_one_name(tmp_path, monkeypatch):
    install(tmp_path / "a", monkeypatch, "one", "one", NEGATIVE, negative="one:NEGATIVE")
    install(tmp_path / "b", monkeypatch, "two", "two", NEGATIVE, negative="two:NEGATIVE")
    with pytest.raises(InputError) as caught:
        get_modality("negative")
    assert str(caught.value) == (
        "modality 'negative': registered by two:NEGATIVE of two and one:NEGATIVE of one; "
        "uninstall one"
    )


def test_nobody_replaces_what_is_built_in(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch, "shades", "shades", NEGATIVE, rgb="shades:NEGATIVE")
    assert get_modality("rgb").unit_channels == 3
    assert modality_names().count("rgb") == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../x"}, "modality '../x': a name of a-z, 0-9 and _ expected, a letter first"),
        ({"name": "a-b"}, "modality 'a-b': a name of a-z, 0-9 and _ expected, a letter first"),
        ({"frames_per_unit": 3}, "modality 'x': frames_per_unit must be 1 or 2, got 3"),
        ({"unit_channels": 0}, "modality 'x': unit_channels must be 1 to 64, got 0"),
        ({"snippet_length": 0}, "modality 'x': snippet_length must be > 0, got 0"),
        (
            {"unit_channels": 2},
            "modality 'x': an image has 3 channels, or is gray and stacked, got unit_channels=2 "
            "and stacked=False",
        ),
        (
            {"mean": (1.0,)},
            "modality 'x': mean must have 3 values, one for each channel, got 1",
        ),
        (
            {"std": (1.0, float("inf"), 1.0)},
            "modality 'x': std must be finite, got (1.0, inf, 1.0)",
        ),
        ({"std": (1.0, 0.0, 1.0)}, "modality 'x': std must be > 0, got (1.0, 0.0, 1.0)"),
        ({"mirrored_channels": (3,)}, "modality 'x': mirrored_channels must be 0 to 2, got (3,)"),
    ],
)
def test_a_modality_checks_itself(changes, message):
    fields = {
        "name": "x",
        "frames_per_unit": 1,
        "unit_channels": 3,
        "snippet_length": 1,
        "mean": (0.0,) * 3,
        "std": (1.0,) * 3,
    }
    with pytest.raises(InputError) as caught:
        Modality(**{**fields, **changes})
    assert str(caught.value) == message


# --- extraction ---


@pytest.fixture
def shades(tmp_path, monkeypatch):
    install(
        tmp_path / "site", monkeypatch, "shades", "shades", NEGATIVE, negative="shades:NEGATIVE"
    )
    return videos_in(tmp_path / "videos")


def test_a_registered_modality_from_video_to_test(shades, tmp_path):
    """Extraction in its processes, shards, verify, training, evaluation and fusion."""
    out = tmp_path / "shards"
    assert (
        run("extract", "--dataset", "folder", "--data", shades, "--out", out, "--modality", "rgb",
            "--modality", "negative", "--parameter", "negative.white=250", "--codec", "raw",
            "--size", "64x48", "--snippets", "3", "--jobs", "1")
        == 0
    )  # fmt: skip
    assert run("verify", out / "videos") == 0
    rgb, negative = ShardSet(out / "videos/rgb"), ShardSet(out / "videos/negative")
    assert negative.modality.parameters == {"white": 250, "note": "", "loud": False}
    for video in range(len(rgb)):
        frames = rgb.read(video, [0, 1, 2])[:, 0]
        found = negative.read(video, [0, 1, 2])
        assert found.shape == (3, 1, 48, 64, 1)
        for frame, image in zip(frames, found[:, 0, ..., 0], strict=True):
            assert np.array_equal(image, np.uint8(250) - cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))
    common = ("--backbone", "conv8", "--weights", "none", "--input-size", 32, "--epochs", 1,
              "--preset", "small", "--workers", 0)  # fmt: skip
    for name in ("rgb", "negative"):
        trained = run_program("fit", "--shards", out / "videos", "--modality", name, *common,
                              "--out", tmp_path / name)  # fmt: skip
        assert trained.exit_code == 0, trained.output
        tested = run_program("evaluate", tmp_path / name, "--num-snippets", 3, "--workers", 0)
        assert tested.exit_code == 0, tested.output
    fused = run_program("fuse", tmp_path / "rgb", tmp_path / "negative", "--out", tmp_path / "both")
    assert fused.exit_code == 0, fused.output
    rows = {line.split()[0]: line.split()[1] for line in fused.output.splitlines() if line.strip()}
    assert rows["negative"] == "1"


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (
            "negative",
            "--parameter must be MODALITY.NAME=VALUE such as flowhsv.window=21, got 'negative'",
        ),
        (
            "rgb.white=3",
            "--parameter rgb.white=3: there is no --modality rgb beside it",
        ),
        (
            "negative.black=3",
            "unknown parameter 'black' of negative; choose from white, note, loud",
        ),
        ("negative.white=x", "negative white must be a whole number, got 'x'"),
        ("negative.loud=perhaps", "negative loud must be true or false, got 'perhaps'"),
    ],
)
def test_wrong_parameters(shades, tmp_path, capsys, parameter, message):
    code = run("extract", "--dataset", "folder", "--data", shades, "--out", tmp_path / "out",
               "--modality", "negative", "--parameter", parameter)  # fmt: skip
    assert code == 1
    assert capsys.readouterr().err == f"error: {message}\n"
    assert not (tmp_path / "out").exists()


def test_flow_has_an_option_of_its_own(shades, tmp_path, capsys):
    code = run("extract", "--dataset", "folder", "--data", shades, "--out", tmp_path / "out",
               "--modality", "flow", "--parameter", "flow.window=3")  # fmt: skip
    assert code == 1
    assert capsys.readouterr().err == (
        "error: --parameter flow.window=3: use --flow-parameter for flow\n"
    )


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((48, 64), np.float32), "uint8 of shape (48, 64) expected, got float32 of shape "
         "(48, 64)"),
        (np.zeros((64, 48), np.uint8), "uint8 of shape (48, 64) expected, got uint8 of shape "
         "(64, 48)"),
        (None, "an array of shape (48, 64) expected, got NoneType"),
    ],
)  # fmt: skip
def test_images_of_others_are_checked(shades, monkeypatch, image, message):
    kind = replace(get_modality("negative"), make=lambda _: lambda *frames: image)
    monkeypatch.setitem(modality_registry._TABLE, "negative", kind)
    frame = Frame(np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(InputError) as caught:
        unit_maker(stored_of(kind))(frame, frame)
    assert str(caught.value) == message


def test_a_modality_that_only_reads(shades, monkeypatch):
    kind = replace(get_modality("negative"), make=None)
    monkeypatch.setitem(modality_registry._TABLE, "negative", kind)
    with pytest.raises(InputError) as caught:
        unit_maker(stored_of(kind))
    assert str(caught.value) == (
        "modality 'negative': the package that brings it does not say how its images are made "
        "(make is None); only its shards can be read"
    )


def test_an_error_in_somebodys_code_fails_the_video(tmp_path, monkeypatch, capsys):
    code = NEGATIVE.replace('parameters["white"] - frame.gray', "1 / 0")
    install(tmp_path / "site", monkeypatch, "shades", "shades", code, negative="shades:NEGATIVE")
    data, out = videos_in(tmp_path / "videos"), tmp_path / "out"
    assert run("extract", "--dataset", "folder", "--data", data, "--out", out,
               "--modality", "negative", "--jobs", "1") == 1  # fmt: skip
    lines = (out / "videos/failures.jsonl").read_text().splitlines()
    failures = [json.loads(line) for line in lines]
    assert {(line["stage"], line["reason"]) for line in failures} == {
        ("negative", "division by zero")
    }
    assert len(failures) == 4


def test_shards_of_a_package_that_is_gone(shades, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    run("extract", "--dataset", "folder", "--data", shades, "--out", out, "--modality", "negative",
        "--jobs", "1")  # fmt: skip
    capsys.readouterr()
    monkeypatch.setattr(modality_registry, "_registered", lambda: {})
    assert run("verify", out / "videos") == 1
    unknown = (
        "unknown modality 'negative'; choose from rgb, flow, warpedflow, rgbdiff, or install the "
        "package that brings it"
    )
    folder = out / "videos/negative"
    files = [folder / "index.json", *(folder / f"shard-{number:05d}.h5" for number in range(4))]
    assert capsys.readouterr().err == "".join(f"{file}: {unknown}\n" for file in files)
    with pytest.raises(ShardError) as caught:
        read_header(files[1])
    assert str(caught.value) == f"{files[1]}: {unknown}", "it is a shard: nobody may replace it"


# --- training takes what it needs from the object ---


def test_a_registered_modality_is_trained_like_the_one_it_names():
    for preset in PRESETS:
        assert preset_values(preset, "flowhsv") == preset_values(preset, "flow")
    assert default_weight("flowhsv") == 1.5


# --- flowhsv ---


def naive_colour(x: float, y: float, bound: float) -> tuple[float, float, float]:
    """(hue in degrees, saturation, value), the last two 0 to 1."""
    return np.degrees(np.arctan2(y, x)) % 360, 1.0, min(np.hypot(x, y) / bound, 1.0)


def test_the_colours_of_flow():
    generator = np.random.default_rng(0)
    flow = generator.uniform(-12, 12, (7, 9, 2)).astype(np.float32)
    colours = flow_picture(flow, 10).astype(float) / 255
    for place in np.ndindex(7, 9):
        hue, _, value = naive_colour(*flow[place].astype(float), 10)
        red, green, blue = colours[place]
        # the hexagon of HSV, by its definition
        sector = hue / 60
        rising = 1 - abs(sector % 2 - 1)
        parts = [(1, rising, 0), (rising, 1, 0), (0, 1, rising),
                 (0, rising, 1), (rising, 0, 1), (1, 0, rising)]  # fmt: skip
        expected = np.array(parts[int(sector)]) * value
        assert np.abs(expected - (red, green, blue)).max() < 0.03


def test_mirrored_colours_are_those_of_the_mirrored_flow():
    generator = np.random.default_rng(1)
    flow = generator.uniform(-12, 12, (2, 3, 12, 16, 2)).astype(np.float32)
    stack = np.stack([[flow_picture(unit, 10) for unit in snippet] for snippet in flow])
    turned = flow[:, :, :, ::-1] * np.float32([-1, 1])
    expected = np.stack([[flow_picture(unit, 10) for unit in snippet] for snippet in turned])
    planes = stack.transpose(0, 1, 4, 2, 3).reshape(6, 3, 12, 16)
    found = mirror(np.ascontiguousarray(planes), FLOWHSV)
    found = found.transpose(0, 2, 3, 1).reshape(stack.shape)
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 14 and difference.mean() < 3  # a hue is a step of two degrees
    assert np.abs(stack[..., ::-1, :].astype(int) - expected).mean() > 30, "colours must turn"
    again = np.abs(mirrored_colours(mirrored_colours(stack)).astype(int) - stack)
    assert again.mean() < 3


def test_flowhsv_from_frames():
    frames = [Frame(frame) for frame in moving_frames(2, (48, 64))]
    unit = unit_maker(stored_of(FLOWHSV, bound=4.0))(*frames)
    flow = flow_function("farneback", FLOW_DEFAULTS["farneback"])(frames[0].gray, frames[1].gray)
    assert np.array_equal(unit.image, flow_picture(flow, 4.0))
    assert unit.image.any()


def test_flowhsv_takes_the_bound_and_its_parameters(tmp_path, capsys):
    data, out = videos_in(tmp_path / "videos"), tmp_path / "out"
    arguments = ("extract", "--dataset", "folder", "--data", data, "--out", out, "--modality",
                 "flowhsv", "--size", "64x48", "--jobs", "1")  # fmt: skip
    assert run(*arguments, "--bound", "7", "--parameter", "flowhsv.window=9") == 0
    parameters = ShardSet(out / "videos/flowhsv").modality.parameters
    assert (parameters["bound"], parameters["window"], parameters["levels"]) == (7.0, 9, 3)
    capsys.readouterr()
    assert run(*arguments, "--parameter", "flowhsv.poly_n=-3") == 1
    assert capsys.readouterr().err.startswith("error: farneback: OpenCV refuses pyramid_scale=0.5")
    for bound in ("0.0", "-1.0", "nan", "inf"):
        assert run(*arguments, "--parameter", f"flowhsv.bound={bound}") == 1
        expected = f"error: flowhsv bound must be > 0 and finite, got {bound}\n"
        assert capsys.readouterr().err == expected


# --- the documented example: depth ---


def tiny_depth_network(path: Path, size: int) -> None:
    """Save a network that takes the red channel, blurred, for nearness."""
    kernel = np.zeros((1, 3, 3, 3), np.float32)
    kernel[0, 0] = 1 / 9
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["plane"], pads=[1, 1, 1, 1]),
        helper.make_node("Squeeze", ["plane", "axes"], ["depth"]),
    ]
    graph = helper.make_graph(
        nodes,
        "depth",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 3, size, size))],
        [helper.make_tensor_value_info("depth", TensorProto.FLOAT, (1, size, size))],
        [
            numpy_helper.from_array(kernel, "kernel"),
            numpy_helper.from_array(np.array([1], np.int64), "axes"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    onnx.save(model, str(path))


def naive_depth(rgb: np.ndarray, size: int) -> np.ndarray:
    small = cv2.resize(rgb, (size, size), interpolation=cv2.INTER_AREA).astype(float)
    red = (small[..., 0] - IMAGENET_MEAN[0]) / IMAGENET_STD[0]
    padded = np.pad(red, 1)
    plane = sum(padded[y : y + size, x : x + size] for y in range(3) for x in range(3)) / 9
    low, high = np.percentile(plane, (2, 98))
    gray = np.clip((plane - low) / (high - low), 0, 1) * 255
    return cv2.resize(np.rint(gray).astype(np.uint8), rgb.shape[1::-1])


@pytest.fixture
def depth(tmp_path, monkeypatch):
    """The example installed: its own module under its own entry point."""
    project = (ROOT / "docs/examples/depth/pyproject.toml").read_text()
    section = project.partition('[project.entry-points."tsn_shards.modalities"]\n')[2]
    name, _, value = section.splitlines()[0].partition(" = ")
    assert (name, value) == ("depth", '"depth_modality:DEPTH"')
    code = (ROOT / "docs/examples/depth/depth_modality.py").read_text()
    install(tmp_path / "site", monkeypatch, "tsn-depth-modality", "depth_modality", code,
            depth=value.strip('"'))  # fmt: skip
    return videos_in(tmp_path / "videos")


def test_depth_by_an_onnx_network(depth, tmp_path):
    network, out = tmp_path / "tiny.onnx", tmp_path / "out"
    tiny_depth_network(network, 32)
    arguments = ("extract", "--dataset", "folder", "--data", depth, "--out", out, "--modality",
                 "rgb", "--modality", "depth", "--parameter", f"depth.model={network}",
                 "--parameter", "depth.input_size=32", "--codec", "raw", "--size", "64x48",
                 "--snippets", "2", "--jobs", "2")  # fmt: skip
    assert run(*arguments) == 0
    rgb, found = ShardSet(out / "videos/rgb"), ShardSet(out / "videos/depth")
    assert found.modality.parameters == {
        "model": str(network),
        "input_size": 32,
        "sha256": hashlib.sha256(network.read_bytes()).hexdigest(),
    }
    for video in range(len(rgb)):
        frame, image = rgb.read(video, [1])[0, 0], found.read(video, [1])[0, 0, ..., 0]
        difference = np.abs(image.astype(int) - naive_depth(frame, 32))
        assert difference.max() <= 1  # float32 against float64
        assert image.std() > 20
    trained = run_program("fit", "--shards", out / "videos", "--modality", "depth", "--backbone",
                          "conv8", "--weights", "none", "--input-size", 32, "--epochs", 1,
                          "--workers", 0, "--out", tmp_path / "run")  # fmt: skip
    assert trained.exit_code == 0, trained.output


def test_depth_names_what_is_wrong(depth, tmp_path, capsys):
    arguments = ("extract", "--dataset", "folder", "--data", depth, "--out", tmp_path / "out",
                 "--modality", "depth")  # fmt: skip
    not_a_network = tmp_path / "text.onnx"
    not_a_network.write_text("hello")
    for parameters, message in (
        ((), "depth needs a network: --parameter depth.model=FILE.onnx"),
        (
            ("depth.model=nowhere.onnx",),
            f"{Path.cwd() / 'nowhere.onnx'}: No such file or directory; check --parameter "
            "depth.model",
        ),
        (
            (f"depth.model={not_a_network}",),
            f"{not_a_network}: OpenCV cannot read it as an ONNX network",
        ),
        (
            ("depth.model=x.onnx", "depth.input_size=8"),
            "depth input_size must be 32 to 2048, got 8",
        ),
    ):
        more = [part for parameter in parameters for part in ("--parameter", parameter)]
        assert run(*arguments, *more) == 1
        assert capsys.readouterr().err == f"error: {message}\n"


def test_the_modality_in_the_document_runs():
    text = (ROOT / "docs/modalities.md").read_text()
    code = text.partition("```python\n")[2].partition("```")[0]
    module = types.ModuleType("my_module")
    exec(code, module.__dict__)
    kind = module.NEGATIVE
    frame = Frame(moving_frames(1)[0])
    image = kind.make(kind.parameters)(frame, frame)
    assert np.array_equal(image, 255 - frame.gray) and image.shape == kind.image_shape(48, 64)
