"""Shards as folders of images and as WebDataset tars."""

import json

import cv2
import numpy as np
import pytest
from conftest import tree_bytes

from preprocess.exchange.layout import folder_names, from_runs, to_runs
from tsn_core.errors import InputError
from tsn_core.shard_set import ShardSet


@pytest.fixture
def shards(program, folder_dataset, tmp_path):
    """Shards of rgb and flow of six tiny videos, by ``shards(*options)``."""

    def make(*options):
        result = program(
            *("extract", "--dataset", "folder", "--data", folder_dataset, "--jobs", 1),
            *("--out", tmp_path / "shards", "--size", "48x32", "--flow", "farneback"),
            *("--modality", "rgb", "--modality", "flow", "--no-isolation"),
            *(options or ("--snippets", 2)),
        )
        assert result.exit_code == 0, result.output
        return tmp_path / "shards" / "gestures"

    return make


def read(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_dense_frames_are_the_stored_images(program, shards, tmp_path):
    root = shards("--dense")
    out = tmp_path / "frames"
    result = program("export", root, "--to", "frames", "--out", out)
    assert result.exit_code == 0
    assert result.output == f"{out}: 6 videos, 8 list files\n"
    rgb, flow = ShardSet(root / "rgb"), ShardSet(root / "flow-farneback")
    for name, frames in zip(rgb.names, rgb.num_frames):
        folder = out / "rawframes" / name.removesuffix(".avi")
        assert sorted(path.name for path in folder.glob("img_*")) == [
            f"img_{number:05d}.jpg" for number in range(1, frames + 1)
        ]
        units = rgb.read(rgb.number(name), range(frames))[:, 0]
        pixels = [read(folder / f"img_{n + 1:05d}.jpg")[..., ::-1] for n in range(frames)]
        assert (np.stack(pixels) == units).all()
        snippets = flow.read(flow.number(name), [0])[0]  # (5, H, W, 2)
        for number, unit in enumerate(snippets):
            for channel, axis in enumerate("xy"):
                found = read(folder / f"flow_{axis}_{number + 1:05d}.jpg")
                assert (found == unit[..., channel]).all()


def test_lists_name_folders_numbers_and_labels(program, shards, tmp_path):
    root = shards("--dense")
    out = tmp_path / "frames"
    program("export", root, "--to", "frames", "--out", out)
    lines = (out / "tsn-pytorch" / "gestures_rgb_train_split_1.txt").read_text().splitlines()
    assert "rawframes/nod/nod_0 9 0" in lines or "rawframes/nod/nod_4 13 0" in lines
    for line in lines:
        path, number, _ = line.split(" ")
        assert len(list((out / path).glob("img_*"))) == int(number)
    lines = (out / "mmaction2/gestures_test_split_1_rawframes_flow.txt").read_text().splitlines()
    for line in lines:
        path, number, label = line.split(" ")
        assert len(list((out / "rawframes" / path).glob("flow_y_*"))) == int(number)
        assert path.startswith(("nod", "wave")[int(label)])
    assert (out / "label_map.txt").read_text() == "nod\nwave\n"


def test_again_does_nothing_and_an_interrupted_export_goes_on(program, shards, tmp_path):
    root, out = shards(), tmp_path / "frames"
    program("export", root, "--to", "frames", "--out", out)
    whole = tree_bytes(out)
    result = program("export", root, "--to", "frames", "--out", out)
    assert "everything was there already; nothing to do" in result.output
    state = json.loads((out / "tsn-export.json").read_text())
    (out / "tsn-export.json").write_text(json.dumps({**state, "complete": False}))
    (out / "rawframes/nod/nod_0").rename(out / "rawframes/nod/.nod_0.1-2.tmp")  # as a kill leaves
    program("export", root, "--to", "frames", "--out", out)
    assert tree_bytes(out) == whole
    assert not list(out.rglob(".nod*"))


def test_what_else_lies_there_is_left_alone(program, shards, tmp_path):
    root, out = shards(), tmp_path / "frames"
    out.mkdir()
    (out / "mine.txt").write_text("x")
    result = program("export", root, "--to", "frames", "--out", out)
    assert result.exit_code == 1
    assert result.output == f"error: {out}: not empty, and no export; choose another --out\n"
    other = tmp_path / "other"
    program("export", root, "--to", "frames", "--out", other)
    result = program("export", root / "rgb", "--to", "frames", "--out", other)
    assert result.output == (
        f"error: {other}: holds an export of other shards, or with other settings; choose "
        "another --out or delete the folder\n"
    )


def test_two_flows_would_have_the_same_names(program, shards, tmp_path):
    root = shards()
    shards("--flow", "dis", "--modality", "flow", "--snippets", "2")
    result = program("export", root, "--to", "frames", "--out", tmp_path / "frames")
    assert result.exit_code == 1
    assert result.output == (
        "error: flow-dis and flow-farneback would both be flow_x_00001.jpg; export the folder of "
        "one of them, such as SHARDS/flow-farneback\n"
    )


@pytest.mark.parametrize("samples", ["video", "snippet"])
def test_tars_are_read_back_by_webdataset(program, shards, tmp_path, samples):
    import webdataset

    root = shards()
    for out in (tmp_path / "a", tmp_path / "b"):
        result = program(
            *("export", root, "--to", "webdataset", "--out", out),
            *("--samples", samples, "--split", 1),
        )
        assert result.output.startswith(f"{out}: 4 tars, ")
    assert tree_bytes(tmp_path / "a") == tree_bytes(tmp_path / "b")
    flow = ShardSet(root / "flow-farneback")
    tars = sorted(map(str, (tmp_path / "a").glob("gestures-flow-farneback-split1-*.tar")))
    assert [tar[-17:] for tar in tars] == ["1-test-000000.tar", "-train-000000.tar"]
    found = list(webdataset.WebDataset(tars, shardshuffle=False).decode("rgb8", partial=True))
    assert len(found) == 6 * (2 if samples == "snippet" else 1)
    for sample in found:
        facts = sample["json"]
        number = flow.number(facts["name"])
        assert sample["cls"] == flow.labels[number] == facts["label"]
        snippet = facts.get("snippet", 0)
        unit = flow.read(number, [snippet])[0, 0]
        assert (sample["000.jpg"][..., 0] == np.concatenate([unit[..., 0], unit[..., 1]])).all()
        assert facts["frames"][0] == flow.snippet_frames(number)[snippet]


def test_tars_are_cut_at_their_size(program, shards, tmp_path, monkeypatch):
    monkeypatch.setattr("preprocess.exchange.webdataset._MEGABYTE", 30_000)
    root = shards()
    arguments = ("export", root / "rgb", "--to", "webdataset", "--out", tmp_path / "tars")
    program(*arguments, "--max-mb", 1)
    tars = sorted((tmp_path / "tars").glob("*.tar"))
    assert len(tars) > 1
    assert max(tar.stat().st_size for tar in tars[:-1]) <= 30_000 + 10_240
    result = program(*arguments)
    assert result.output == (
        f"error: {tmp_path / 'tars'}: holds an export of other shards, or with other settings; "
        "choose another --out or delete the folder\n"
    )


def test_an_interrupted_export_to_tars_goes_on(program, shards, tmp_path, monkeypatch):
    monkeypatch.setattr("preprocess.exchange.webdataset._MEGABYTE", 30_000)
    root, out = shards(), tmp_path / "tars"
    arguments = ("export", root, "--to", "webdataset", "--out", out, "--max-mb", 1)
    text = program(*arguments).output
    whole = tree_bytes(out)
    assert program(*arguments).output == f"{text}everything was there already; nothing to do\n"
    state = json.loads((out / "tsn-export.json").read_text())
    (out / "tsn-export.json").write_text(json.dumps({**state, "complete": False}))
    first, second, *rest = sorted(out.glob("*.tar"))
    before = first.stat().st_mtime_ns
    second.rename(out / f".{second.name}.1-2.tmp")  # as a kill leaves
    rest[-1].unlink()
    assert program(*arguments).output == text
    assert tree_bytes(out) == whole
    assert first.stat().st_mtime_ns == before
    result = program("import", out, "--out", tmp_path / "shards2")
    assert result.output == (
        f"error: {out / 'tsn-export.json'}: an export to tars, which is not imported; export --to "
        "frames\n"
    )


def test_no_such_split(program, shards, tmp_path):
    root = shards()
    result = program("export", root, "--to", "webdataset", "--out", tmp_path / "tars", "--split", 7)
    assert result.output == "error: gestures: no split 7; it has 1\n"


def test_folders_have_no_blanks_and_do_not_leave():
    assert folder_names(["a b/c d.avi", "a_b/c_d.avi"]) == {
        "a b/c d.avi": "a_b/c_d",
        "a_b/c_d.avi": "a_b/c_d.avi",
    }
    assert folder_names(["walk/ .avi", "walk/..avi"]) == {
        "walk/ .avi": "walk/_",
        "walk/..avi": "walk/..avi",
    }
    with pytest.raises(InputError) as error:
        folder_names(["../x.avi"])
    assert str(error.value) == "'../x.avi': expected a path inside the dataset folder"


@pytest.mark.parametrize("dots", [True, False])
def test_no_video_has_the_folder_that_others_lie_in(dots):
    """Else ``walk.avi`` were left out, its folder being there already."""
    names = ["walk/b.avi", "walk.avi", "Run.avi", "run/deep/c.avi", "run.avi/d.avi"]
    folders = [folder.casefold() for folder in folder_names(names, dots=dots).values()]
    assert len(set(folders)) == len(names)
    assert not [(one, other) for one in folders for other in folders if other.startswith(f"{one}/")]


def test_runs_come_back():
    generator = np.random.default_rng(0)
    for _ in range(50):
        numbers = generator.integers(0, 9, 12).tolist()
        assert from_runs(to_runs(numbers), 12) == numbers
    with pytest.raises(InputError) as error:
        from_runs([[0, 1 << 60]], 10)
    assert str(error.value) == (
        f"[first, count] within 10 numbers expected, got {json.loads(str([0, 1 << 60]))}"
    )
