"""Looking at shards: statistics, what is suspicious, contact sheets, pictures in a terminal."""

import io
import json

import cv2
import numpy as np
import pytest
from conftest import moving_frames, stored, write_clip
from PIL import Image
from rich.console import Console

from preprocess.cli import main
from preprocess.commands.inspect import modality_lines
from preprocess.contact_sheet import CELL_WIDTH, Strip, contact_sheet
from preprocess.inspection import sheet_name
from preprocess.preview import half_blocks, protocol, show
from preprocess.unit_statistics import STEP, UnitStatistics
from preprocess.unit_verdicts import verdicts
from tsn_core.modality import StoredModality
from tsn_core.quantization import flow_scale_zero, quantize_flow
from tsn_core.shard_set import ShardSet

BOUND = 20.0
SIZE = (48, 64)


def flow_modality(bound: float = BOUND) -> StoredModality:
    scale, zero = flow_scale_zero(bound)
    return stored("flow", scale=scale, zero=zero, height=SIZE[0], width=SIZE[1])


def smooth_flow(seed: int, speed: float = 6.0) -> np.ndarray:
    """(K, L, H, W, 2) px: blobs that go on in one direction within a snippet, the rest still."""
    generator = np.random.default_rng(seed)
    flow = np.zeros((12, 5, *SIZE, 2), np.float32)
    ys, xs = np.mgrid[: SIZE[0], : SIZE[1]]
    for snippet in flow:
        direction = generator.normal(size=2)
        direction *= speed / np.linalg.norm(direction)
        top, left = generator.uniform(10, 38), generator.uniform(10, 54)
        for unit, field in enumerate(snippet):
            blob = np.exp(-((ys - top - unit) ** 2 + (xs - left - unit) ** 2) / 60)
            field += blob[..., None] * direction
    return flow


def coded(flow: np.ndarray, bound: float = BOUND) -> np.ndarray:
    units = [quantize_flow(unit, bound) for unit in flow.reshape(-1, *flow.shape[2:])]
    stacked = np.stack(units).reshape(len(units), 2, *SIZE)
    return stacked.transpose(0, 2, 3, 1).reshape(flow.shape)


def statistics_of(videos: list[np.ndarray], modality: StoredModality | None = None):
    statistics = UnitStatistics(modality or flow_modality())
    for number, video in enumerate(videos):
        statistics.add(f"video{number}.avi", video)
    return statistics


def good() -> list[np.ndarray]:
    return [coded(smooth_flow(seed)) for seed in range(6)]


# --- statistics ---


def test_statistics_are_those_of_a_naive_computation():
    videos = good()[:2]
    found = statistics_of(videos)
    seen = np.concatenate([video[:, :, ::STEP, ::STEP].reshape(-1, 24 * 32, 2) for video in videos])
    codes = seen.reshape(-1, 2).astype(float)
    assert found.num_units == 120
    np.testing.assert_allclose(found.means, codes.mean(axis=0))
    assert found.deviation == pytest.approx(np.sqrt(((codes - 127.5) ** 2).mean()))
    assert found.clipped_share == ((codes == 0) | (codes == 255)).mean()
    assert found.still_share == (codes == 128).all(axis=1).mean()
    speed = np.hypot(*(codes - 127.5).T) * 40 / 255
    for share in (0.5, 0.95, 0.99):
        assert found.speed_px(share) == pytest.approx(np.quantile(speed, share), abs=0.1)
    smooth, steady = [], []
    for video in videos:
        both = [(unit[::8, :-1], unit[::8, 1:]) for snippet in video for unit in snippet]
        smooth += [naive_correlation(a, b) for a, b in both]
        steady.append(naive_correlation(video[:, :-1, ::2, ::2], video[:, 1:, ::2, ::2]))
    assert found.mean_smoothness == pytest.approx(np.mean(smooth), abs=1e-5)
    assert found.mean_steadiness == pytest.approx(np.mean(steady), abs=1e-5)


def naive_correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(float), b.astype(float)
    return 1 - ((a - b) ** 2).mean() / (a.var() + b.var())


def test_equal_and_flat_units_are_counted():
    units = np.full((2, 5, *SIZE, 2), 128, np.uint8)
    units[0, 0, :8] = 200
    units[0, 1, :8] = 200
    found = statistics_of([units])
    assert (found.num_units, found.flat, found.num_pairs) == (10, 8, 8)
    assert found.same_pairs == 7, "two alike, then two still ones, and four still ones"


# --- verdicts ---


def offset_of(video: np.ndarray) -> np.ndarray:
    return video.astype(float) - 127.5


def unrelated(generator: np.random.Generator) -> np.ndarray:
    """Smooth flow that is large everywhere, as between frames that have nothing in common."""
    coarse = generator.uniform(-18, 18, (10, 3, 4, 2)).astype(np.float32)
    fields = [cv2.resize(field, SIZE[::-1], interpolation=cv2.INTER_CUBIC) for field in coarse]
    return np.stack(fields).reshape(2, 5, *SIZE, 2)


SPOILT = {
    "noise": (
        lambda video, generator: generator.integers(0, 256, video.shape, dtype=np.uint8),
        "this is noise, not flow",
    ),
    "signed": (
        lambda video, _: np.rint(offset_of(video) / 6).astype(np.int8).view(np.uint8),
        "was it stored signed, or without its offset?",
    ),
    "no offset": (
        lambda video, _: np.clip(offset_of(video), 0, 255).astype(np.uint8),
        "was it stored signed, or without its offset?",
    ),
    "other zero": (
        lambda video, _: np.clip(offset_of(video) + 100, 0, 255).astype(np.uint8),
        "motion to one side everywhere, or codes with another zero",
    ),
    "unrelated frames": (
        lambda video, generator: coded(unrelated(generator)),
        "do the frames follow each other",
    ),
    "bound too small": (
        lambda video, _: np.clip(offset_of(video) * 25 + 127.5, 0, 255).astype(np.uint8),
        "extract with a larger --bound",
    ),
    "bound too large": (
        lambda video, _: np.rint(offset_of(video) / 20 + 127.5).astype(np.uint8),
        "extract with a smaller --bound",
    ),
    "out of order": (
        lambda video, generator: generator.permutation(video.reshape(-1, *video.shape[2:])).reshape(
            video.shape
        ),
        "are the frames in order, and none left out?",
    ),
    "still": (lambda video, _: np.full_like(video, 128), "no motion at all in 6 of the videos"),
}


def test_good_flow_is_not_suspicious():
    assert verdicts(statistics_of(good())) == []


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt_flow_is(name):
    spoil, said = SPOILT[name]
    generator = np.random.default_rng(0)
    found = verdicts(statistics_of([spoil(video, generator) for video in good()]))
    assert any(said in line for line in found), found
    assert all("\n" not in line for line in found)


def test_the_full_texts_of_verdicts():
    clipped = SPOILT["bound too small"][0]
    (line,) = verdicts(statistics_of([clipped(video, None) for video in good()]))
    share = round(100 * statistics_of([clipped(v, None) for v in good()]).clipped_share)
    assert line == (
        f"{share} % of the codes are clipped at 20 px: extract with a larger --bound, if the "
        "frames follow each other"
    )
    assert verdicts(statistics_of([np.full((2, 5, *SIZE, 2), 128, np.uint8)])) == [
        "no motion at all in 1 of the videos (video0.avi): repeated frames, or a still picture; "
        "watch one of them"
    ]
    assert verdicts(UnitStatistics(flow_modality())) == ["nothing is stored"]


def test_repeated_frames_are_noticed():
    videos = good()
    for video in videos:
        video[:, 1::2] = video[:, 0:4:2]
    (line,) = verdicts(statistics_of(videos))
    assert line == (
        "50 % of consecutive images are equal: the video repeats frames, or its frame rate was "
        "raised"
    )


def test_black_frames_are_noticed():
    photographs = [frames[:, None] for frames in (moving_frames(4, SIZE, s) for s in range(3))]
    rgb = stored("rgb", height=SIZE[0], width=SIZE[1])
    assert verdicts(statistics_of(photographs, rgb)) == []
    photographs[1][1:3] = 0
    assert verdicts(statistics_of(photographs, rgb)) == [
        "17 % of the images are of a single colour: black frames, at cuts or ends"
    ]
    assert verdicts(statistics_of([np.zeros_like(photographs[0])], rgb)) == [
        "a single colour in 1 of the videos (video0.avi): black, or it did not decode; watch one "
        "of them"
    ]


# --- contact sheets ---


def test_a_sheet_shows_every_snippet_and_both_displacements():
    flow = coded(smooth_flow(0))[:3, 0]
    frames = np.array([3, 40, 77])
    photographs = moving_frames(3, (36, 64))
    strips = [
        Strip(stored("rgb", height=36, width=64), "rgb", photographs, frames),
        Strip(flow_modality(), "flow-farneback", flow, frames),
    ]
    sheet = np.asarray(contact_sheet("a.avi", "jump", strips, 25.0, ["odd"]))
    for photograph in photographs:
        height = round(CELL_WIDTH * 36 / 64)
        cell = Image.fromarray(photograph).resize((CELL_WIDTH, height), Image.Resampling.LANCZOS)
        assert places_of(np.asarray(cell), sheet) == 1
    gray = [
        np.asarray(
            Image.fromarray(np.repeat(unit[..., channel, None], 3, axis=-1)).resize(
                (CELL_WIDTH, round(CELL_WIDTH * 48 / 64)), Image.Resampling.LANCZOS
            )
        )
        for unit in flow
        for channel in (0, 1)
    ]
    assert [places_of(cell, sheet) for cell in gray] == [1] * 6


def places_of(cell: np.ndarray, sheet: np.ndarray) -> int:
    difference = cv2.matchTemplate(sheet, cell, cv2.TM_SQDIFF)
    return int((difference < 1000).sum())


def test_long_and_odd_names_stay_on_the_sheet():
    strip = Strip(stored("rgb"), "rgb", moving_frames(1, (24, 32)), np.array([0]))
    short = contact_sheet("a.avi", "jump", [strip], 0.0)
    long = contact_sheet("\x1b[31m\u202e" + "x" * 500 + ".avi", "ж 漢 " * 90, [strip], 0.0)
    assert long.size == short.size
    edge = np.asarray(long)[:, -20:]
    assert (edge == 255).all()


def test_names_of_sheets_stay_in_their_folder():
    assert sheet_name(0, "../../etc/passwd") == "00-..-..-etc-passwd.png"
    assert "/" not in sheet_name(1, "a/b\\c:d") and "\\" not in sheet_name(1, "a/b\\c:d")
    assert len(sheet_name(12, "x" * 400)) < 100


# --- the command ---


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inspect")
    data = folder / "films"
    for number, label in enumerate(("jump", "jump", "jump", "run")):
        write_clip(data / label / f"{label}{number}.avi", moving_frames(12, SIZE, seed=number))
    (data / "run" / "broken.avi").write_bytes(b"nothing")
    assert run("extract", "--dataset", "folder", "--data", data, "--out", folder / "shards",
               "--modality", "rgb", "--modality", "flow", "--modality", "rgbdiff", "--flow",
               "farneback", "--size", "64x48", "--snippets", 4, "--jobs", 1) == 1  # fmt: skip
    return folder / "shards/films"


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code


def test_the_command_draws_and_tells(shards, tmp_path, capsys):
    before = {path: path.read_bytes() for path in shards.rglob("*") if path.is_file()}
    assert run("inspect", shards, "--out", tmp_path / "out", "--videos", 2) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "jump       3  ████████████████████████",
        "run        1  ████████  (1 of 2 not stored)",
        "1 video failed: open 1",
    ]
    for folder in ("rgb", "flow-farneback", "rgbdiff"):
        assert any(line.startswith(f"{folder}: 4 videos, 16 snippets; ") for line in lines)
    sheets = sorted((tmp_path / "out").iterdir())
    assert [str(path) for path in sheets] == lines[-2:]
    for path in sheets:
        assert Image.open(path).size[0] > 4 * CELL_WIDTH
    assert {p: p.read_bytes() for p in shards.rglob("*") if p.is_file()} == before
    assert run("verify", shards) == 0


def test_the_same_seed_gives_the_same_pictures(shards, tmp_path, capsys):
    for name in ("a", "b", "c"):
        seed = 3 if name == "c" else 1
        assert run("inspect", shards, "--out", tmp_path / name, "--videos", 1, "--seed", seed) == 0
    first, second, third = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()}
                            for name in "abc")  # fmt: skip
    assert first == second and set(first) != set(third)


def test_statistics_as_json(shards, tmp_path, capsys):
    assert run("inspect", shards / "flow-farneback", "--out", tmp_path, "--json", "--video",
               "jump/jump1.avi") == 0  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    assert found["classes"] == {
        "jump": {"stored": 3, "listed": 3},
        "run": {"stored": 1, "listed": 2},
    }
    assert found["failures"] == {"open": 1}
    assert list(found["modalities"]) == ["flow-farneback"]
    facts = found["modalities"]["flow-farneback"]
    shard_set = ShardSet(shards / "flow-farneback")
    codes = np.concatenate([shard_set.read(video, range(4)) for video in range(4)])
    assert facts["mean_code"]["x"] == pytest.approx(codes[..., 0].mean(), abs=1)
    assert sum(part["share"] for part in facts["speed_histogram"]) == pytest.approx(1, abs=1e-4)
    assert set(found["sheets"]) == {"jump/jump1.avi"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--modality", "warpedflow"),
         "{shards}: no warpedflow shards, only flow-farneback, rgb, rgbdiff"),
        (("--video", "jump"), "no video 'jump' in these shards; did you mean jump/jump0.avi, "
         "jump/jump1.avi, jump/jump2.avi?"),
        (("--video", "x"), "no video 'x' in these shards; there are jump/jump0.avi, "
         "jump/jump1.avi, jump/jump2.avi, …"),
        (("--videos", 0), "--videos must be > 0, got 0"),
        (("--seed", -1), "--seed must be 0 or more, got -1"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_named(shards, capsys, arguments, message):
    assert run("inspect", shards, *arguments) == 1
    assert capsys.readouterr().err == f"error: {message.format(shards=shards)}\n"


def test_a_folder_without_shards(tmp_path, capsys):
    assert run("inspect", tmp_path) == 1
    assert capsys.readouterr().err == (
        f"error: {tmp_path}: no shards there; give the folder of a dataset's shards, such as "
        "shards/hmdb51\n"
    )


def test_videos_of_different_sizes_and_raw_codes(tmp_path, make_sized_shards, capsys):
    assert run("inspect", make_sized_shards, "--out", tmp_path / "out") == 0
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.fixture
def make_sized_shards(tmp_path):
    data = tmp_path / "films"
    write_clip(data / "a" / "wide.avi", moving_frames(5, (24, 64)))
    write_clip(data / "b" / "high.avi", moving_frames(5, (64, 24)))
    assert run("extract", "--dataset", "folder", "--data", data, "--out", tmp_path / "shards",
               "--short-side", 24, "--codec", "raw", "--jobs", 1, "--modality", "rgb",
               "--modality", "flow", "--flow", "dis") == 0  # fmt: skip
    return tmp_path / "shards/films"


def test_what_is_printed_of_an_empty_modality():
    lines = modality_lines("rgb", {"videos": 0, "snippets": 0, "units_looked_at": 0,
                                   "verdicts": ["nothing is stored"]})  # fmt: skip
    assert lines == ["rgb: 0 videos, 0 snippets; 0 images looked at", "  ! nothing is stored"]


# --- pictures in the terminal ---


@pytest.mark.parametrize(
    ("environment", "colors", "expected"),
    [
        ({"KITTY_WINDOW_ID": "1", "TERM": "xterm-kitty"}, "truecolor", "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "truecolor", "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "truecolor", "iterm"),
        ({"TERM_PROGRAM": "WezTerm"}, "256", "iterm"),
        ({"KITTY_WINDOW_ID": "1", "TMUX": "x", "TERM": "tmux-256color"}, "256", "blocks"),
        ({"TERM": "xterm-256color"}, "256", "blocks"),
        ({"TERM": "linux"}, "standard", None),
        ({"TERM": "dumb"}, None, None),
    ],
)
def test_what_a_terminal_can_show(environment, colors, expected):
    assert protocol(environment, colors) == expected


def console_of(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, color_system="truecolor", width=8)


def test_nothing_is_shown_where_there_is_no_terminal():
    console = console_of(False)
    assert not show(Image.new("RGB", (4, 4)), console, {"KITTY_WINDOW_ID": "1"})
    assert console.file.getvalue() == ""


def test_half_blocks_have_the_colours_of_two_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 3), dtype=np.uint8)
    console = console_of(True)
    console.print(half_blocks(Image.fromarray(pixels), 80))
    text = console.file.getvalue()
    for y in (0, 2):
        for x in range(8):
            upper, lower = (";".join(map(str, pixels[row, x])) for row in (y, y + 1))
            assert f"\x1b[38;2;{upper};48;2;{lower}m▀" in text
    assert text.count("▀") == 16


def test_kitty_gets_the_picture_in_chunks():
    import base64

    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    console = console_of(True)
    assert show(Image.fromarray(pixels), console, {"KITTY_WINDOW_ID": "1"})
    messages = [part for part in console.file.getvalue().split("\x1b\\") if part.strip()]
    assert len(messages) > 1
    assert messages[0].startswith("\x1b_Gf=100,a=T,m=1;") and messages[-1].startswith("\x1b_Gm=0;")
    assert all(len(message) < 4130 for message in messages)
    data = base64.b64decode("".join(message.partition(";")[2] for message in messages))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


def test_iterm_gets_it_in_one():
    console = console_of(True)
    assert show(Image.new("RGB", (3, 3)), console, {"TERM_PROGRAM": "iTerm.app"})
    text = console.file.getvalue()
    assert text.startswith("\x1b]1337;File=inline=1;width=100%:") and text.endswith("\x07\n")
