"""RAFT's flow against torchvision's own network; its weights, kept and found again.

Weights are random: nobody downloads any here, and what RAFT finds with its own is its authors'
affair.
"""

import hashlib
import json
import shutil
from itertools import pairwise

import cv2
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import decode_all, moving_frames, stored, write_clip
from train_helpers import run_program

from preprocess.batch_flow import make_batch_flow
from preprocess.camera import warped_flow
from preprocess.flow import flow_function, flow_parameters
from preprocess.flow_weights import check_weights, find_weights
from preprocess.raft import BatchRAFT, _same_rounding
from preprocess.units import Frame
from preprocess.video import resize
from tsn_app.predict_cli import main as predict
from tsn_core.errors import CheckpointError, DeviceError, InputError
from tsn_core.quantization import quantize_flow
from tsn_core.shard_set import ShardSet
from tsn_core.torchvision_models import flow_network, load_torchvision

ITERATIONS = 2
CHANGES = ("network=small", f"iterations={ITERATIONS}")
PAIRS = np.array([[0, 1], [1, 2], [3, 0], [2, 2]])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Where this machine keeps weights, empty at first; there is no network."""
    monkeypatch.setenv("TSN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def refuse(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    return tmp_path / "cache" / "flow-weights"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file of random weights of the small network."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.pth"
    torch.save(flow_network("small").state_dict(), path)
    return path


@pytest.fixture
def parameters(weights):
    return flow_parameters("raft", CHANGES, weights=str(weights))


def message_of(function, *arguments, error=InputError, **options):
    with pytest.raises(error) as caught:
        function(*arguments, **options)
    return str(caught.value)


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def torchvision_flow(weights, first, second):
    """Return the flow (H, W, 2) of frames whose sides need no padding, by torchvision alone."""
    models = load_torchvision().models
    network = models.optical_flow.raft_small(weights=None)
    network.load_state_dict(torch.load(weights, weights_only=True))
    prepare = models.get_model_weights("raft_small").DEFAULT.transforms()
    images = [torch.from_numpy(frame).permute(2, 0, 1)[None] for frame in (first, second)]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        flow = network.eval()(*prepare(*images), num_flow_updates=ITERATIONS)[-1]
    torch.set_num_threads(threads)
    return flow[0].permute(1, 2, 0).numpy()


# --- the flow ---


def test_the_flow_is_torchvision_s(weights, parameters):
    frames = moving_frames(4, (128, 136))
    flow = make_batch_flow("raft", parameters, "cpu")(frames, PAIRS)
    assert flow.shape == (4, 128, 136, 2) and flow.dtype == np.float32
    for (first, last), found in zip(PAIRS, flow):
        expected = torchvision_flow(weights, frames[first], frames[last])
        assert np.abs(expected).max() > 0.1
        assert np.array_equal(found, expected)


def test_other_sizes_are_continued_at_the_edges_and_cut_back(weights, parameters):
    frames = moving_frames(2, (70, 141))
    compute = make_batch_flow("raft", parameters, "cpu")
    flow = compute(frames, PAIRS[:1])
    assert flow.shape == (1, 70, 141, 2)
    larger = [np.pad(frame, ((29, 29), (1, 2), (0, 0)), mode="edge") for frame in frames]
    assert larger[0].shape == (128, 144, 3)
    assert np.array_equal(flow[0], torchvision_flow(weights, *larger)[29:99, 1:142])
    assert compute(frames[:, :1, :1], PAIRS[:1]).shape == (1, 1, 1, 2)


def test_a_pair_does_not_depend_on_those_beside_it_nor_on_threads(parameters):
    frames = moving_frames(4, (40, 56))
    compute = make_batch_flow("raft", parameters, "cpu")
    together = compute(frames, PAIRS)
    threads = torch.get_num_threads()
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            for place in (3, 1, 0):
                alone = compute(frames, PAIRS[place : place + 1])
                assert np.array_equal(alone[0], together[place])
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(threads)
    assert not np.array_equal(together[0], together[1])
    assert compute(frames, PAIRS[:0]).shape == (0, 40, 56, 2)


def test_as_on_a_gpu_the_network_always_sees_as_many_pairs(parameters, monkeypatch):
    frames = moving_frames(4, (40, 56))
    compute = make_batch_flow("raft", parameters, "cpu")
    monkeypatch.setattr(BatchRAFT, "most_pairs", lambda *_: 3)
    seen = []
    compute._model.register_forward_pre_hook(lambda _, given: seen.append(given[0].shape[0]))
    together = compute(frames, PAIRS)
    assert seen == [3, 3]
    alone = [compute(frames, PAIRS[place : place + 1])[0] for place in range(4)]
    assert np.array_equal(together, alone)


def test_most_pairs_depend_on_the_size_alone(parameters):
    compute = make_batch_flow("raft", parameters, "cpu")
    assert compute.most_pairs(256, 340) == 1, "a CPU sees one at a time"
    compute._device = torch.device("cuda:0")
    sizes = ((64, 64), (256, 340), (1080, 1920), (4320, 7680))
    found = [compute.most_pairs(*size) for size in sizes]
    assert found[0] == 32 and found == sorted(found, reverse=True) and found[-1] == 1
    assert 8 < found[1] < 32


def test_a_gpu_is_asked_for_the_same_rounding_and_let_go_again():
    switches = torch.backends.cudnn

    def states():
        return switches.allow_tf32, switches.deterministic, switches.benchmark

    before = states()
    for _ in range(2):
        with _same_rounding(torch.device("cuda:0")):
            assert states() == (False, True, False) and switches.enabled
        assert states() == before


def test_one_pair_in_colour(parameters):
    frames = moving_frames(2, (40, 56))
    compute = flow_function("raft", parameters)
    expected = make_batch_flow("raft", parameters, "cpu")(frames, PAIRS[:1])[0]
    assert np.array_equal(compute(*frames), expected)


def test_a_real_pair(clips, parameters):
    path = next(path for path in sorted(clips.rglob("*")) if path.suffix in (".mp4", ".avi"))
    frames = np.stack(decode_all(path)[:2])[..., ::-1].copy()
    flow = make_batch_flow("raft", parameters, "cpu")(frames, PAIRS[:1])
    assert flow.shape == (1, *frames.shape[1:3], 2)
    assert np.isfinite(flow).all() and flow.std() > 0


def test_the_large_network(tmp_path):
    torch.manual_seed(0)
    torch.save({"state_dict": flow_network("large").state_dict()}, tmp_path / "large.pth")
    parameters = flow_parameters("raft", ["iterations=1"], weights=str(tmp_path / "large.pth"))
    assert parameters == {
        "network": "large",
        "iterations": 1,
        "weights": sha256(tmp_path / "large.pth"),
    }
    flow = flow_function("raft", parameters)(*moving_frames(2, (40, 56)))
    assert flow.shape == (40, 56, 2) and np.isfinite(flow).all() and flow.std() > 0


def test_frames_that_are_not_in_colour(parameters):
    compute = make_batch_flow("raft", parameters, "cpu")
    assert message_of(compute, np.zeros((2, 40, 56), np.uint8), PAIRS[:1]) == (
        "frames must be uint8 of shape (M, H, W, 3), got uint8 of (2, 40, 56)"
    )
    assert message_of(compute, np.zeros((2, 0, 56, 3), np.uint8), PAIRS[:1]) == (
        "frames are too small for raft: 56x0"
    )


def test_flow_that_is_not_finite(parameters):
    compute = make_batch_flow("raft", parameters, "cpu")
    with torch.no_grad():
        compute._model.update_block.flow_head.conv2.weight.fill_(1e38)
    assert message_of(compute, moving_frames(2, (40, 56)), PAIRS[:1]) == (
        "the flow of raft is not finite; check --flow-weights"
    )


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
            "cuda:0: too little memory for raft on 32 pairs of 56x40; end other programs on it, "
            "extract at a smaller --size, or use --device cpu",
        ),
        (
            RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with"),
            "cuda:0: raft on 32 pairs of 56x40 failed: CUDA error: an illegal memory access was "
            "encountered; see nvidia-smi",
        ),
    ],
)
def test_a_device_that_fails(parameters, monkeypatch, error, message):
    compute = make_batch_flow("raft", parameters, "cpu")
    compute._device = torch.device("cuda:0")

    def fail(*_):
        raise error

    monkeypatch.setattr(compute, "_compute", fail)
    frames = moving_frames(2, (40, 56))
    assert message_of(compute, frames, PAIRS[:1], error=DeviceError) == message


def test_a_device_that_is_not_there(parameters):
    number = torch.cuda.device_count()
    assert message_of(make_batch_flow, "raft", parameters, f"cuda:{number}") == (
        f"device cuda:{number}: this machine has {number} that torch can use"
    )


def test_the_camera_s_motion_is_taken_out_of_colour_frames():
    frames = moving_frames(2, (96, 128))
    grays = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    seen = []

    def compute(first, second):
        seen.append((first, second))
        return np.full((96, 128, 2), (2, 1), np.float32)

    _, accepted = warped_flow(*grays, compute, (frames[0], frames[1]))
    assert accepted and len(seen) == 2
    assert all(np.array_equal(first, frames[0]) for first, _ in seen)
    assert np.array_equal(seen[0][1], frames[1])
    difference = np.abs(seen[1][1].astype(int) - frames[0])[8:-8, 8:-8]
    assert np.median(difference) <= 2, "warped back onto the first"


# --- parameters and weights ---


def test_a_shard_says_what_the_weights_are_not_where(weights, parameters, tmp_path, cache):
    assert parameters == {
        "network": "small",
        "iterations": ITERATIONS,
        "weights": sha256(weights),
    }
    assert [path.name for path in cache.iterdir()] == [f"{sha256(weights)}.pth"]
    elsewhere = shutil.copy(weights, tmp_path / "other name.pth")
    assert flow_parameters("raft", CHANGES, weights=str(elsewhere)) == parameters
    torch.manual_seed(1)
    torch.save(flow_network("small").state_dict(), elsewhere)
    changed = flow_parameters("raft", CHANGES, weights=str(elsewhere))
    assert changed == {**parameters, "weights": sha256(elsewhere)} != parameters
    frames = moving_frames(2, (40, 56))
    assert not np.array_equal(
        flow_function("raft", parameters)(*frames), flow_function("raft", changed)(*frames)
    )
    weights_gone = find_weights(parameters["weights"], "small")
    assert weights_gone.read_bytes() == weights.read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("network=huge", "raft network must be one of large, small, got 'huge'"),
        ("iterations=0", "raft iterations must be 1 to 100, got 0"),
        ("iterations=101", "raft iterations must be 1 to 100, got 101"),
        (
            "weights=x.pth",
            "unknown parameter 'weights' of raft; choose from network, iterations",
        ),
    ],
)
def test_bad_parameters(change, message):
    assert message_of(flow_parameters, "raft", [change]) == message


def test_parameters_of_a_shard_are_not_trusted(parameters):
    for changes, message in (
        (
            {"weights": "../../secret"},
            "flow raft: a sha256 of weights expected in the shards, got '../../secret'; "
            "extract again",
        ),
        ({"network": "../x"}, "raft network must be one of large, small, got '../x'"),
        ({"iterations": "9"}, "raft iterations must be 1 to 100, got '9'"),
    ):
        assert message_of(flow_function, "raft", {**parameters, **changes}) == message


def test_weights_that_do_not_fit(weights, tmp_path):
    remedy = "check --flow-weights, and --flow-parameter network=large or small"
    path = tmp_path / "x.pth"
    state = torch.load(weights, weights_only=True)
    names = list(state)
    whole = dict(state)
    state["extra"] = state.pop(names[0])
    state[names[1]] = torch.zeros(3)
    state[names[2]] = torch.full_like(state[names[2]], float("nan"))
    torch.save(state, path)
    expected = (
        f"{path}: the weights do not fit the model: 1 missing ({names[0]}); 1 unexpected (extra); "
        f"1 of another shape ({names[1]}); 1 not finite ({names[2]}); {remedy}"
    )
    asked = {"changes": CHANGES, "weights": str(path), "error": CheckpointError}
    assert message_of(flow_parameters, "raft", **asked) == expected
    torch.save([1, 2], path)
    assert message_of(flow_parameters, "raft", **asked) == (
        f"{path}: a state dict (name to tensor) expected; {remedy}"
    )
    torch.save({"state": torch.nn.Identity()}, path)
    assert message_of(flow_parameters, "raft", **asked) == (
        f"{path}: holds torch.nn.modules.linear.Identity, which could run anything; tensors and "
        f"plain values expected; {remedy}"
    )
    path.write_bytes(b"junk")
    assert message_of(flow_parameters, "raft", **asked) == (
        f"{path}: damaged, or not a file of PyTorch tensors; {remedy}"
    )
    torch.save({"state_dict": {f"module.{name}": value for name, value in whole.items()}}, path)
    assert flow_parameters("raft", CHANGES, weights=str(path))["weights"] == sha256(path)
    path.unlink()
    assert message_of(flow_parameters, "raft", CHANGES, weights=str(path)) == (
        f"{path}: no such weights file; give --flow-weights default or a path"
    )


def test_torchvision_s_weights_without_a_network(tmp_path, capsys):
    file = "raft_small_C_T_V2-01064c6d.pth"
    assert message_of(flow_parameters, "raft", CHANGES) == (
        "weights of raft small could not be downloaded from "
        f"https://download.pytorch.org/models/{file} (no route to host); download that file "
        "elsewhere and give it with --flow-weights PATH"
    )
    assert capsys.readouterr().err == (
        f"downloading the weights of raft small once, 4 MB, to "
        f"{tmp_path / 'torch' / 'hub' / 'checkpoints' / file}\n"
    )


def test_torchvision_s_weights_that_are_there(weights, tmp_path, monkeypatch):
    named = f"raft_small_X-{sha256(weights)[:8]}.pth"
    published = load_torchvision().models.get_model_weights("raft_small")
    monkeypatch.setattr(
        published.DEFAULT, "_value_", published.DEFAULT.value.__class__(
            **{**vars(published.DEFAULT.value), "url": f"https://example.org/{named}"}
        ),
    )  # fmt: skip
    folder = tmp_path / "torch" / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    shutil.copy(weights, folder / named)
    parameters = flow_parameters("raft", CHANGES)
    assert parameters["weights"] == sha256(weights)
    shutil.rmtree(tmp_path / "cache")  # another machine, which can download them
    assert find_weights(sha256(weights), "small") == folder / named
    assert flow_function("raft", parameters)(*moving_frames(2, (40, 56))).std() > 0


def test_weights_that_this_machine_does_not_know(parameters, weights, cache):
    path = cache / f"{sha256(weights)}.pth"
    path.write_bytes(b"another")
    another = hashlib.sha256(b"another").hexdigest()
    assert message_of(flow_function, "raft", parameters, error=CheckpointError) == (
        f"{path}: weights of sha256 {sha256(weights)} expected, got {another}; delete that file, "
        "and name the right one once with --flow-weights"
    )
    path.unlink()
    assert message_of(flow_function, "raft", parameters) == (
        f"flow raft: weights of sha256 {sha256(weights)} are not known on this machine; name "
        f"their file once with --flow-weights, or copy it to {path}"
    )
    shutil.copy(weights, path)
    assert flow_function("raft", parameters)(*moving_frames(2, (40, 56))).std() > 0


# --- the programs ---

OPTIONS = (
    *("--modality", "flow", "--flow", "raft", "--flow-parameter", CHANGES[0]),
    *("--flow-parameter", CHANGES[1], "--size", "48x32", "--dense", "--snippet-length", 2),
    *("--codec", "raw", "--jobs", 1),
)


def test_flow_weights_of_another_algorithm(program, folder_dataset, tmp_path, weights):
    result = program(
        *("extract", "--dataset", "folder", "--data", folder_dataset, "--out", tmp_path / "shards"),
        *("--flow-weights", weights),
    )
    assert result.exit_code == 1
    assert result.stderr == "error: --flow-weights: only for --flow raft, got tvl1\n"


def test_extracting_with_raft(program, tmp_path, weights):
    write_clip(tmp_path / "data" / "gestures" / "nod" / "a.avi", moving_frames(4, (36, 48)))
    words = ("extract", "--dataset", "folder", "--data", tmp_path / "data" / "gestures")
    result = program(*(*words, *OPTIONS, "--flow-weights", weights, "--out", tmp_path / "a"))
    assert result.exit_code == 0, result.output
    shards = ShardSet(tmp_path / "a" / "gestures" / "flow-raft")
    modality = shards.modality
    assert (modality.algorithm, modality.parameters["weights"]) == ("raft", sha256(weights))
    frames = decode_all(tmp_path / "data/gestures/nod/a.avi")
    colours = [Frame(resize(frame, (32, 48))).rgb for frame in frames]
    compute = flow_function("raft", {n: v for n, v in modality.parameters.items() if n != "bound"})
    units = [
        np.dstack(np.split(quantize_flow(compute(*pair), 20.0), 2)) for pair in pairwise(colours)
    ]
    assert np.array_equal(shards.read(0, [0, 1]), [units[:2], units[1:]])
    again = program(
        *(*words, *OPTIONS, "--flow-weights", weights, "--out", tmp_path / "b", "--no-isolation")
    )
    assert again.exit_code == 0, again.output
    name = "gestures/flow-raft/shard-00000.h5"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    shutil.rmtree(tmp_path / "cache")
    retried = program("retry", tmp_path / "a" / "gestures")
    assert retried.exit_code == 1
    assert retried.stderr == (
        f"error: flow raft: weights of sha256 {sha256(weights)} are not known on this machine; "
        f"name their file once with --flow-weights, or copy it to "
        f"{tmp_path / 'cache' / 'flow-weights' / sha256(weights)}.pth\n"
    )


def test_predicting_with_a_network_trained_on_raft(program, tmp_path, weights):
    data = tmp_path / "data" / "gestures"
    for number in range(4):
        name = ("nod", "wave")[number % 2]
        write_clip(data / name / f"{number}.avi", moving_frames(4, (36, 48), seed=number))
    result = program(
        *("extract", "--dataset", "folder", "--data", data, "--out", tmp_path / "shards"),
        *(*OPTIONS, "--flow-weights", weights, "--no-isolation"),
    )
    assert result.exit_code == 0, result.output
    run = tmp_path / "run"
    trained = run_program(
        *("fit", "--shards", tmp_path / "shards" / "gestures", "--modality", "flow", "--out", run),
        *("--flow", "raft", "--device", "cpu", "--backbone", "conv8", "--weights", "none"),
        *("--input-size", 24, "--epochs", 1, "--batch-size", 2, "--workers", 0),
    )
    assert trained.exit_code == 0, trained.output
    words = [data / "nod/0.avi", "--run", run, "--num-snippets", 1, "--no-isolation", "--json"]
    words = [str(word) for word in (*words, "--device", "cpu")]
    first = CliRunner().invoke(predict, words)
    assert first.exit_code == 0, first.output
    shutil.rmtree(tmp_path / "cache")
    unknown = CliRunner().invoke(predict, words)
    assert (unknown.exit_code, unknown.stdout) == (1, "")
    assert unknown.stderr == (
        f"error: flow raft: weights of sha256 {sha256(weights)} are not known on this machine; "
        f"name their file once with --flow-weights, or copy it to "
        f"{tmp_path / 'cache' / 'flow-weights' / sha256(weights)}.pth\n"
    )
    torch.manual_seed(1)
    other = tmp_path / "other.pth"
    torch.save(flow_network("small").state_dict(), other)
    wrong = CliRunner().invoke(predict, [*words, "--flow-weights", str(other)])
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert wrong.stderr == (
        f"error: {other}: weights of sha256 {sha256(weights)} expected, with which the training "
        f"flow was computed, got {sha256(other)}; name that file with --flow-weights\n"
    )
    given = CliRunner().invoke(predict, [*words, "--flow-weights", str(weights)])
    assert given.exit_code == 0, given.output
    scores = [json.loads(done.stdout)["top"] for done in (first, given)]
    assert scores[0] == scores[1]


def test_weights_where_no_raft_flow_is_to_be_computed(weights):
    assert message_of(check_weights, [stored("rgb"), stored("flow")], str(weights)) == (
        f"--flow-weights {weights}: no flow of raft is to be computed"
    )
    check_weights([stored("rgb"), stored("flow")])
