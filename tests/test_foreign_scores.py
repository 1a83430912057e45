"""Scores of other programs: mmaction2's pickles, of which nothing is executed, CSV, JSON, NPZ."""

import collections
import io
import json
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from train_helpers import failure, message_of, run_program

from train.foreign_scores import read_classes, read_list, to_scores
from train.inert_arrays import ARRAY_NAMES, numbers
from train.inert_pickle import Call, read_pickle
from train.score_formats import read_results, write_results
from train.scores import Scores, read_scores, write_scores

NAMES = ("walk/a b.avi", "run/b.avi", "walk/c 7.avi")
LABELS = (0, 1, 0)
CLASSES = ("walk", "run", "sit, down")


@pytest.fixture
def ours():
    generator = np.random.default_rng(0)
    return Scores(
        name="rgb",
        names=np.array(NAMES),
        labels=np.array(LABELS),
        scores=generator.normal(size=(3, 4, 3)).astype(np.float32),
        video_scores=generator.normal(size=(3, 3)).astype(np.float32),
        class_names=np.array(CLASSES),
    )


def read(path, kind="mmaction2", allow_pickle=True, videos=3, classes=3):
    return read_results(
        path, kind, num_videos=videos, num_classes=classes, allow_pickle=allow_pickle
    )


# --- what mmaction2 writes, in all its versions ---


def dictionary(row, label):
    """As version 1.1 and later write it."""
    return {
        "pred_score": torch.from_numpy(row.copy()),
        "gt_label": torch.tensor([label]),
        "pred_label": torch.tensor([int(row.argmax())]),
        "num_classes": 3,
        "img_shape": (224, 224),
        "start": {1, 2},
        "more": frozenset([(None, True, 2.5)]),
    }


def nested(row, label):
    """As version 1.0 does."""
    return {
        "pred_scores": {"item": torch.from_numpy(row.copy())},
        "gt_labels": {"item": torch.tensor(label)},
    }


SAMPLES = {
    "dictionary": dictionary,
    "nested": nested,
    "array": lambda row, _: row,
    "double": lambda row, _: row.astype(np.float64),
    "big endian": lambda row, _: row.astype(">f8"),
    "list": lambda row, _: row.tolist(),
    "batch of one": lambda row, _: row[None],
    "tensor": lambda row, _: torch.from_numpy(row.copy()),
    "half": lambda row, _: torch.from_numpy(row.copy()).half(),
    "bfloat16": lambda row, _: {"pred_score": torch.from_numpy(row.copy()).bfloat16()},
    "part of a tensor": lambda row, _: torch.tensor([[9.0, 9, 9], row.tolist()]).t()[:, 1],
    "numbers of numpy": lambda row, label: {"pred_score": row, "gt_label": np.int64(label)},
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("kind", SAMPLES)
def test_pickles_are_read_as_pickle_reads_them(ours, kind, protocol, tmp_path):
    samples = [SAMPLES[kind](row, label) for row, label in zip(ours.video_scores, LABELS)]
    path = tmp_path / "result.pkl"
    path.write_bytes(pickle.dumps(samples, protocol))
    found = read(path)
    loose = {"half": 1e-2, "bfloat16": 1e-1}.get(kind, 0)
    np.testing.assert_allclose(found.scores, ours.video_scores.astype(np.float64), atol=loose)
    has_labels = kind in ("dictionary", "nested", "numbers of numpy")
    assert found.labels is None if not has_labels else found.labels.tolist() == list(LABELS)
    assert found.names is None and found.class_names is None


def test_samples_of_classes_that_are_not_installed(ours, tmp_path):
    """Data samples that nobody turned into dictionaries, spelled by hand."""

    def text(value):
        return b"\x8c" + bytes([len(value)]) + value.encode()

    def instance(module, name, state):
        return text(module) + text(name) + b"\x93)\x81" + state + b"b"

    def label_data(tensor):
        state = b"}" + text("_item") + pickle.dumps(tensor, 2)[2:-1] + b"s"
        return instance("mmengine.structures.label_data", "LabelData", state)

    content = b"\x80\x04]("
    for row, label in zip(ours.video_scores, LABELS):
        state = b"}(" + text("_pred_scores") + label_data(torch.from_numpy(row.copy()))
        state += text("_gt_labels") + label_data(torch.tensor([label])) + b"u"
        module = "mmaction.structures.action_data_sample"
        content += instance(module, "ActionDataSample", state)
    path = tmp_path / "result.pkl"
    path.write_bytes(content + b"e.")
    found = read(path)
    assert np.array_equal(found.scores, ours.video_scores.astype(np.float64))
    assert found.labels.tolist() == list(LABELS)


# --- pickles that are not to be trusted ---


class Hostile:
    def __init__(self, function, *arguments):
        self.reduced = (function, arguments)

    def __reduce__(self):
        return self.reduced


def refused(path, name):
    return (
        f"{path}: holds {name}, which is not data; arrays, tensors and plain values expected; do "
        "not open this file with other programs unless you know who made it"
    )


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_nothing_is_executed(tmp_path, protocol):
    path, trace = tmp_path / "result.pkl", tmp_path / "trace"
    for function, arguments, name in (
        (os.system, (f"touch {trace}",), f"{os.system.__module__}.system"),
        (eval, (f"open({str(trace)!r}, 'w')",), "builtins.eval"),
        (getattr, (Path, "touch"), "builtins.getattr"),
        (Path.touch, (trace,), "builtins.getattr" if protocol < 4 else "pathlib.Path.touch"),
        (torch.load, (str(trace),), "torch.serialization.load"),
        (np.load, (str(trace),), None),
        (bytearray, (1 << 50,), "builtins.bytearray"),
    ):
        path.write_bytes(pickle.dumps([Hostile(function, *arguments)] * 3, protocol))
        told = message_of(read, path)
        if name is None:
            assert told.startswith(f"{path}: holds numpy")
        else:
            name = name.replace("builtins", "__builtin__") if protocol < 3 else name
            assert told == refused(path, name)
        assert not trace.exists()


def test_functions_that_are_allowed_are_not_called_either(tmp_path, monkeypatch):
    """What PyTorch's storages unpickle with would unpickle anything."""
    trace = tmp_path / "trace"
    inner = io.BytesIO()
    torch.save(Hostile(os.mkdir, str(trace)), inner, _use_new_zipfile_serialization=False)
    path = tmp_path / "result.pkl"
    storage = Hostile(torch.storage._load_from_bytes, inner.getvalue())
    arguments = (storage, 0, (3,), (1,), False, collections.OrderedDict())
    path.write_bytes(pickle.dumps([Hostile(torch._utils._rebuild_tensor_v2, *arguments)] * 3))
    mkdir = f"{os.mkdir.__module__}.mkdir"
    assert message_of(read, path) == refused("a tensor", mkdir)
    assert not trace.exists()
    with pytest.raises(AttributeError):  # too late:
        pickle.loads(path.read_bytes())
    assert trace.exists()  # the file does what it is feared for


def naming(*parts):
    return b"\x80\x04" + b"".join(parts) + b"."


def numpy_array(shape, kind="f4", data=b"", state_shape=None):
    """A list of three arrays that state a shape of their own."""
    array = Hostile(
        np._core.multiarray._reconstruct if hasattr(np, "_core") else None, np.ndarray, (0,), b"b"
    )
    reduced = (*array.reduced, (1, shape, np.dtype(kind), False, data))
    array.reduced = reduced
    return pickle.dumps([array] * 3)


BOMBS = {
    "an array of a petabyte": (
        numpy_array((1 << 50,)),
        "{}: the scores of video 0 must be 3 numbers, found 1125899906842624; check --classes and "
        "--list, or write the scores again",
    ),
    "an array of fewer bytes": (
        numpy_array((3,), data=b"1234"),
        "{}: the scores of video 0 must be 3 numbers, found an array of other bytes; check "
        "--classes and --list, or write the scores again",
    ),
    "an array of objects": (
        numpy_array((3,), "O", data=[1, 2, 3]),
        "{}: the scores of video 0 must be 3 numbers, found an array of something else; check "
        "--classes and --list, or write the scores again",
    ),
    "a text of an exabyte": (
        naming(b"\x8d" + struct.pack("<Q", 1 << 60)),
        "{}: damaged, or not a pickle; write the scores again",
    ),
    "bytes to be written of an exabyte": (
        naming(b"\x96" + struct.pack("<Q", 1 << 60)),
        "{}: damaged, or not a pickle; write the scores again",
    ),
    "a memo of four billion": (
        naming(b"]r\xff\xff\xff\xff"),
        "{}: scores of 0 videos, --list has 3; give the list file that was tested on",
    ),
    "a number of a million digits": (
        b"L" + b"9" * 1_000_000 + b"L\n.",
        "{}: damaged, or not a pickle; write the scores again",
    ),
    "a million lists, one inside the other": (
        naming(b"]" + b"]" * 1_000_00 + b"a" * 1_000_00),
        "{}: scores of 1 video, --list has 3; give the list file that was tested on",
    ),
    "a list in itself": (
        naming(b"]\x94h\x00ah\x00ah\x00a"),
        "{}: the scores of video 0 must be 3 numbers, found a list of something else; check "
        "--classes and --list, or write the scores again",
    ),
    "a state for a list": (
        naming(b"]}b"),
        "{}: a pickle that gives a state to plain values; write the scores again",
    ),
    "a call of a number": (
        naming(b"K\x01)R"),
        "{}: a pickle that calls what is no name; write the scores again",
    ),
    "a name that is a number": (
        naming(b"K\x01K\x02\x93"),
        "{}: a pickle that names what is no text; write the scores again",
    ),
    "a part that lies elsewhere": (
        naming(b"K\x01Q"),
        "{}: a pickle of which parts lie elsewhere; write the scores again",
    ),
    "an extension": (
        naming(b"\x82\x01"),
        "{}: a pickle with EXT1, which scores do not need; write the scores again",
    ),
    "nothing": (b"", "{}: damaged, or not a pickle; write the scores again"),
    "text": (b"hello", "{}: damaged, or not a pickle; write the scores again"),
    "two values": (naming(b"K\x01K\x02"), "{}: damaged, or not a pickle; write the scores again"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_pickles_that_ask_for_too_much(tmp_path, name):
    data, message = BOMBS[name]
    path = tmp_path / "result.pkl"
    path.write_bytes(data)
    assert message_of(read, path) == message.format(path)


def test_calls_that_lack_their_arguments():
    kind = "cnumpy\ndtype\n)R"
    array = f"cnumpy.core.numeric\n_frombuffer\n(V12\n{kind}(I2\ntVC\ntR."
    storage = "ctorch.storage\n_load_from_bytes\n)R"
    tensor = f"ctorch._utils\n_rebuild_tensor_v2\n({storage}I0\n(I2\nt(I1\nttR."
    for program in (array, tensor):
        value = read_pickle(io.BytesIO(program.encode()), "x", ARRAY_NAMES)
        assert message_of(numbers, value, 2, "x", "it") == (
            "x: it must be 2 numbers, found something else; check --classes and --list, or write "
            "the scores again"
        )


def test_tensors_that_state_too_much(tmp_path):
    good = torch.arange(3.0)
    storage = good.untyped_storage()
    for size, stride, offset, found in (
        ((3,), (1,), 1, "a tensor of fewer numbers than it states"),
        ((3,), (1 << 40,), 0, "a tensor of fewer numbers than it states"),
        ((3,), (-1,), 2, "a tensor of something else"),
        ((1 << 50,), (0,), 0, str(1 << 50)),
        ((3, 3), (1, 1), 0, "an array of shape (3, 3)"),
    ):
        typed = torch.storage.TypedStorage(
            wrap_storage=storage, dtype=torch.float32, _internal=True
        )
        arguments = (typed, offset, size, stride, False, collections.OrderedDict())
        data = pickle.dumps(Hostile(torch._utils._rebuild_tensor_v2, *arguments))
        value = read_pickle(io.BytesIO(data), "x", ARRAY_NAMES)
        assert isinstance(value, Call)
        assert message_of(numbers, value, 3, "x", "it") == (
            f"x: it must be 3 numbers, found {found}; check --classes and --list, or write the "
            "scores again"
        )


def test_a_pickle_needs_an_explicit_word(ours, tmp_path):
    path = tmp_path / "result.pkl"
    write_results(ours, path, "mmaction2")
    assert message_of(read, path, allow_pickle=False) == (
        f"{path}: a pickle, which other programs execute when they read it; give --allow-pickle "
        "to read its arrays here, where nothing in it is executed"
    )


# --- our own files for others ---


def test_mmaction2_reads_what_is_written_for_it(ours, tmp_path):
    """As its report_accuracy.py does."""
    path = tmp_path / "result.pkl"
    write_results(ours, path, "mmaction2")
    samples = pickle.loads(path.read_bytes())
    scores = np.stack([sample["pred_score"].numpy() for sample in samples])
    assert np.array_equal(scores, ours.video_scores)
    assert [sample["gt_label"].item() for sample in samples] == list(LABELS)


@pytest.mark.parametrize("suffix", ["pkl", "csv", "json", "npz"])
def test_round_trip(ours, suffix, tmp_path):
    write_scores(ours, tmp_path / "run" / "scores.npz")
    file, back = tmp_path / f"out.{suffix}", tmp_path / "back"
    result = run_program("export-scores", tmp_path / "run", "--out", file)
    assert result.exit_code == 0, result.output
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    kind = "mmaction2" if suffix == "pkl" else suffix
    assert result.stdout == f"{file}: {kind}, scores of 3 videos and 3 classes\n"
    more = ("--allow-pickle", "--classes", tmp_path / "classes.txt") if suffix == "pkl" else ()
    result = run_program("import-scores", file, *more, "--name", "rgb", "--out", back)
    assert (result.exit_code, result.stderr) == (0, "")
    found = read_scores(back)
    for field in ("name", "names", "labels", "video_scores", "class_names"):
        assert np.array_equal(getattr(found, field), getattr(ours, field)), field
    assert np.array_equal(found.scores[:, 0], ours.video_scores)
    assert json.loads((back / "metrics.json").read_text())["imported_from"] == file.name
    fused = run_program("fuse", tmp_path / "run", back, "--out", tmp_path / "fused")
    assert fused.exit_code == 0, fused.output
    again = run_program("import-scores", file, *more, "--out", back)
    assert again.stderr == f"error: --out {back}: holds scores already; choose another folder\n"


# --- videos, labels, classes ---


def test_list_files(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("./walk/a b.avi 0\nrun/b 120 1\nwalk/c 7.avi 0\r\n\nx/y 1 250 2\n")
    names, labels = read_list(path)
    assert names == ["walk/a b.avi", "run/b", "walk/c 7.avi", "x/y"]
    assert labels.tolist() == [0, 1, 0, 2]
    path.write_text("walk/a.avi\n")
    assert message_of(read_list, path) == (
        f"{path}:1: 'path label' or 'path num_frames label' expected, got 'walk/a.avi'"
    )
    path.write_text("")
    assert message_of(read_list, path) == f"{path}: no videos in it"
    assert message_of(read_list, tmp_path / "no") == (
        f"{tmp_path / 'no'}: cannot be read: No such file or directory; check the path"
    )


def test_class_files(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_text("walk\nrun fast\n")
    assert read_classes(path) == ("walk", "run fast")
    path.write_text("2 run\n1 walk\n")
    assert read_classes(path) == ("walk", "run")
    path.write_text("3 steps\n5 steps\n")  # names that begin with a number
    assert read_classes(path) == ("3 steps", "5 steps")
    path.write_text("walk\nwalk\n")
    assert message_of(read_classes, path) == (
        f"{path}: two classes or more expected, one a line, each of them once"
    )


@pytest.fixture
def array_file(ours, tmp_path):
    """A pickle of arrays, which says nothing about videos and classes."""
    path = tmp_path / "result.pkl"
    path.write_bytes(pickle.dumps(list(ours.video_scores)))
    return path


def imported(file, ours, listed=None, like=None, classes=CLASSES, probabilities=False):
    results = read(file)
    return to_scores(
        results,
        name="other",
        source=file,
        listed=listed or (list(NAMES), np.array(LABELS)),
        class_names=classes,
        like=like,
        probabilities=probabilities,
    )


def test_names_become_those_of_our_run(array_file, ours):
    frames = ["walk/a b", "run/b", "walk/c 7"]  # of frame folders
    found = imported(array_file, ours, (frames, np.array(LABELS)), ours)
    assert found.names.tolist() == list(NAMES)
    others = ["walk/a b.mp4", "run/b.mp4", "new.mp4"]
    found = imported(array_file, ours, (others, np.array(LABELS)), ours)
    assert found.names.tolist() == [*NAMES[:2], "new.mp4"]
    message = message_of(imported, array_file, ours, (["x", "y", "z"], np.array(LABELS)), ours)
    assert message == (
        f"{array_file}: none of its videos (x, y, z) is in --like, which has {', '.join(NAMES)}; "
        "give a run on the same videos"
    )


def test_a_list_of_another_order(ours, tmp_path):
    path = tmp_path / "result.pkl"
    write_results(ours, path, "mmaction2")
    samples = pickle.loads(path.read_bytes())
    for sample in samples:
        del sample["filename"]  # which theirs do not have
    path.write_bytes(pickle.dumps(samples))
    listed = ([NAMES[1], NAMES[0], NAMES[2]], np.array([1, 0, 0]))
    assert message_of(imported, path, ours, listed) == (
        f"{path}: video 0 has label 0, run/b.avi has 1 in --list; give the list file that was "
        "tested on, in its order"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("a", "b")}, "scores of 3 classes, 2 are named; check --classes"),
        (
            {"listed": (list(NAMES), np.array([0, 1, 3]))},
            "a label is 3, of 3 classes; labels count from 0",
        ),
        (
            {"listed": (["a", "b", "a"], np.array(LABELS))},
            "a stands in it twice; every video must have one name",
        ),
        (
            {"listed": (["a", "b"], np.array([0, 1]))},
            "scores of 3 videos, --list has 2; give the list file that was tested on",
        ),
        (
            {"classes": None},
            "says nothing about the classes; give --classes or --like",
        ),
    ],
)
def test_what_does_not_fit(array_file, ours, changes, message):
    assert message_of(imported, array_file, ours, **changes) == f"{array_file}: {message}"


def test_results_without_videos(tmp_path):
    path = tmp_path / "a.npz"
    nothing = np.empty(0, np.int64)
    names = np.empty(0, np.str_)
    np.savez(path, scores=np.empty((0, 3)), labels=nothing, names=names, class_names=CLASSES)
    assert failure("import-scores", path, "--out", tmp_path / "out") == (
        f"error: {path}: scores of no video; write the scores again\n"
    )


def test_classes_that_share_a_name(ours, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("name,label,walk,run,walk\nv,1,1,2,3\n")
    assert failure("import-scores", path, "--out", tmp_path / "out") == (
        f"error: {path}: class walk stands in it twice; name the classes with --classes\n"
    )


def test_one_sample_many_times(ours, tmp_path):
    path = tmp_path / "result.pkl"
    write_results(ours, path, "mmaction2")
    path.write_bytes(pickle.dumps([pickle.loads(path.read_bytes())[0]] * 100_000))
    assert message_of(read, path, videos=None) == (
        f"{path}: two of its videos have the same name; write the scores again"
    )


def test_scores_beyond_single_precision(ours, tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps([[1e39, 0, 0]] * 3))
    assert message_of(imported, path, ours) == f"{path}: its scores are not all finite"


def test_probabilities_become_scores(ours, tmp_path):
    raised = np.exp(ours.video_scores - ours.video_scores.max(axis=1, keepdims=True))
    chances = raised / raised.sum(axis=1, keepdims=True)
    (tmp_path / "result.json").write_text(json.dumps(chances.tolist()))
    (tmp_path / "list.txt").write_text("".join(f"{n} {i}\n" for n, i in zip(NAMES, LABELS)))
    (tmp_path / "classes.txt").write_text("\n".join(CLASSES))
    command = ("import-scores", tmp_path / "result.json", "--from", "mmaction2")
    command += ("--list", tmp_path / "list.txt", "--classes", tmp_path / "classes.txt")
    result = run_program(*command, "--out", tmp_path / "a")
    assert result.exit_code == 0, result.output
    assert result.stderr == "the scores are probabilities: their logarithms are taken\n"
    np.testing.assert_allclose(
        read_scores(tmp_path / "a").video_scores, np.log(chances), rtol=1e-4, atol=1e-5
    )
    result = run_program(*command, "--scores", "--out", tmp_path / "b")
    np.testing.assert_allclose(read_scores(tmp_path / "b").video_scores, chances, rtol=1e-6)
    assert failure(*command[:4], "--out", tmp_path / "c") == (
        f"error: {tmp_path / 'result.json'}: names neither videos nor classes; give the list file "
        "that was tested on with --list, and the classes with --classes or --like\n"
    )
    assert failure("import-scores", tmp_path / "list.txt", "--out", tmp_path / "c") == (
        f"error: {tmp_path / 'list.txt'}: name its format with --from or --to: mmaction2, csv, "
        "json, npz\n"
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "x,y\n", "a first line of name, label and the classes expected"),
        ("a.csv", "name,label,a,b\nv,a,1\n", "row 2 has 3 cells, not 4"),
        ("a.csv", "name,label,a,b\nv,c,1,2\n", "row 2 must be a name, a class and numbers"),
        (
            "a.csv",
            "name,label,a,b\nv,-1,1,2\n",
            "the label in row 2 must be a class id, found -1; labels count from 0",
        ),
        ("a.json", "{", "damaged, or not JSON; write the scores again"),
        ("a.json", "[" * 100_000, "damaged, or not JSON; write the scores again"),
        ("a.json", "{}", "class_names and videos expected; see docs/models.md"),
        (
            "a.json",
            '{"class_names": ["a", "b"], "videos": [{"name": "v", "label": NaN, "scores": [1, 2]}'
            "]}",
            "the label of v must be a class id, found nan; labels count from 0",
        ),
        (
            "a.json",
            '{"class_names": ["a", "b"], "videos": [{"name": "v", "label": 0, "scores": "12"}]}',
            "the scores of v must be 2 numbers, found something else; check --classes and --list, "
            "or write the scores again",
        ),
        (
            "a.npz",
            "hello",
            "damaged, or not plain arrays; save scores, labels, names and class_names with "
            "numpy.savez",
        ),
    ],
)
def test_files_that_are_something_else(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    kind = path.suffix[1:]
    assert message_of(read, path, kind, False) == f"{path}: {message}"
