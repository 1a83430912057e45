"""TV-L1 of many pairs at once against the Numba version, on a CPU."""

import sys

import cv2
import numpy as np
import pytest
import torch
from test_tvl1 import OTHERS, distance, moved_pair, texture

from preprocess.batch_flow import make_batch_flow
from preprocess.flow_defaults import FLOW_DEFAULTS
from preprocess.torch_device import device_errors
from preprocess.tvl1 import tvl1_flow
from preprocess.tvl1_torch import BatchTVL1, resize
from tsn_core.errors import DeviceError, InputError

MOTIONS = [(1.5, (2.3, -1.2)), (0.0, (3.0, -2.0)), (0.0, (0.0, 0.0)), (0.0, (0.4, 0.7))]


@pytest.fixture(scope="module")
def moved() -> tuple[np.ndarray, np.ndarray]:
    """Frames, (8, H, W), and four pairs of them that need very different numbers of iterations."""
    frames = [frame for motion in MOTIONS for frame in moved_pair(50, 70, *motion)[:2]]
    return np.stack(frames), np.arange(8).reshape(4, 2)


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"median": 1},
        {"median": 3},
        {"epsilon": 0.0, "inner_iterations": 3, "outer_iterations": 2},
        OTHERS,
    ],
)
def test_flow_is_that_of_numba(moved, parameters: dict) -> None:
    check_flow(*moved, parameters, "eager")


@pytest.mark.slow(reason="torch.compile takes half a minute")
def test_compiled_flow_is_that_of_numba(moved) -> None:
    check_flow(*moved, OTHERS, "compiled")


def check_flow(frames: np.ndarray, pairs: np.ndarray, parameters: dict, solver: str) -> None:
    flow = BatchTVL1("cpu", solver=solver, **parameters)(frames, pairs)
    assert flow.shape == (4, 50, 70, 2)
    assert flow.dtype == np.float32
    assert np.abs(flow[0]).mean() > 0.5
    for (first, second), found in zip(frames[pairs], flow):
        difference = distance(found, tvl1_flow(first, second, **parameters))
        assert difference.mean() <= 0.02
        assert np.percentile(difference, 99) < 0.25


def test_a_pair_does_not_depend_on_those_beside_it(moved) -> None:
    frames, pairs = moved
    compute = BatchTVL1("cpu")
    together = compute(frames, pairs)
    for number, pair in enumerate(pairs):
        np.testing.assert_array_equal(compute(frames, pair[None])[0], together[number])
        np.testing.assert_array_equal(compute(frames[pair], pairs[:1])[0], together[number])


def test_frames_may_be_shared_by_pairs(moved) -> None:
    frames, _ = moved
    compute = BatchTVL1("cpu", num_warps=1)
    there, back = compute(frames[:2], np.array([[0, 1], [1, 0]]))
    np.testing.assert_array_equal(compute(frames[[1, 0]], np.array([[0, 1]]))[0], back)
    assert (np.sign(there[10:-10, 10:-10].mean((0, 1))) == [1, -1]).all()
    assert (np.sign(back[10:-10, 10:-10].mean((0, 1))) == [-1, 1]).all()


@pytest.mark.parametrize("size", [(3, 3), (3, 40), (40, 3), (16, 17), (31, 48)])
def test_small_frames(size: tuple[int, int]) -> None:
    image = cv2.resize(texture(40, 50), size[::-1]).astype(np.uint8)
    frames = np.stack([image, np.roll(image, 1, axis=1)])
    flow = BatchTVL1("cpu", median=3)(frames, np.array([[0, 1]]))[0]
    assert distance(flow, tvl1_flow(*frames, median=3)).mean() <= 0.02


def test_same_frames_have_no_flow() -> None:
    image = texture(40, 50).astype(np.uint8)
    flow = BatchTVL1("cpu")(image[None], np.array([[0, 0]]))
    np.testing.assert_array_equal(flow, np.zeros((1, 40, 50, 2), np.float32))


@pytest.mark.parametrize("step", [0.8, 0.5, 0.37])
def test_resizing_is_that_of_opencv(step: float) -> None:
    image = texture(53, 71)
    smaller = cv2.resize(image, None, fx=step, fy=step)
    found = resize(torch.from_numpy(image), smaller.shape, 1 / step, 1 / step).numpy()
    np.testing.assert_allclose(found, smaller, atol=1e-3)
    larger = cv2.resize(smaller, (71, 53))
    steps = smaller.shape[0] / 53, smaller.shape[1] / 71
    found = resize(torch.from_numpy(smaller), (53, 71), *steps).numpy()
    np.testing.assert_allclose(found, larger, atol=1e-3)


def test_parameters_are_those_that_shards_name(moved) -> None:
    frames, pairs = moved
    named = make_batch_flow("tvl1", {**FLOW_DEFAULTS["tvl1"], "lambda": 0.3, "num_warps": 1}, "cpu")
    ours = BatchTVL1("cpu", lambda_=0.3, num_warps=1)
    np.testing.assert_array_equal(named(frames, pairs[:1]), ours(frames, pairs[:1]))
    assert named.most_pairs(256, 340) >= 1


FRAMES = np.zeros((2, 8, 9), np.uint8)


@pytest.mark.parametrize(
    ("frames", "pairs", "message"),
    [
        (
            FRAMES.astype(np.float32),
            [[0, 1]],
            "gray frames, (M, H, W) uint8, expected, got float32 of shape (2, 8, 9)",
        ),
        (
            FRAMES[0],
            [[0, 1]],
            "gray frames, (M, H, W) uint8, expected, got uint8 of shape (8, 9)",
        ),
        (
            FRAMES[:, :2],
            [[0, 1]],
            "frames must be at least 3 pixels high and wide, got 2 x 9",
        ),
        (FRAMES, [0, 1], "pairs, (N, 2) of whole numbers, expected, got int64 of shape (2,)"),
        (FRAMES, [[0, 2]], "pairs of frames 0 to 1 expected, got 0 to 2"),
        (FRAMES, [[-1, 1]], "pairs of frames 0 to 1 expected, got -1 to 1"),
        (
            FRAMES,
            [[0.0, 1.0]],
            "pairs, (N, 2) of whole numbers, expected, got float64 of shape (1, 2)",
        ),
    ],
)
def test_arguments_are_checked(frames, pairs, message: str) -> None:
    with pytest.raises(InputError) as caught:
        BatchTVL1("cpu")(frames, np.array(pairs))
    assert str(caught.value) == message


def test_unknown_solvers_and_algorithms_are_named() -> None:
    with pytest.raises(InputError) as caught:
        BatchTVL1("cpu", solver="magic")
    assert str(caught.value) == (
        "unknown TV-L1 solver 'magic'; choose from triton, eager, compiled"
    )
    with pytest.raises(InputError) as caught:
        make_batch_flow("dis", {}, "cpu")
    assert str(caught.value) == "flow dis is not computed in batches; choose tvl1 or raft"


def test_a_gpu_without_triton_is_remarked(monkeypatch) -> None:
    from preprocess import tvl1_torch

    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.warns(UserWarning) as caught:
        assert not tvl1_torch._has_triton(torch.device("cuda:1"))
    assert str(caught[0].message) == (
        "Triton cannot be loaded (import of triton halted; None in sys.modules): TV-L1 on cuda:1 "
        "takes torch's own operations, several times slower; pip install triton"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError) as caught:
        BatchTVL1("cuda:0")
    assert str(caught.value) == "device cuda:0: this machine has 0 that torch can use"


def test_memory_that_other_sizes_have_left_with_torch_counts_as_free(monkeypatch) -> None:
    gpu = {"device_count": 1, "mem_get_info": (1 << 20, 80 << 30)}
    gpu |= {"memory_reserved": 79 << 30, "memory_allocated": 1 << 30}
    for name, value in gpu.items():
        monkeypatch.setattr(torch.cuda, name, lambda *_, value=value: value)
    compute = BatchTVL1("cuda:0", solver="eager")
    assert compute.most_pairs(256, 340) == 512
    assert compute.most_pairs(1080, 1920) == ((39 << 30) + (1 << 19)) // (4 * 36 * 1080 * 1952)
    gpu["memory_allocated"] = 79 << 30
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: gpu["memory_allocated"])
    assert compute.most_pairs(256, 340) == 1


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
            "cuda:1: too little memory for tvl1 on 3 pairs of 9x8; end other programs on it, "
            "extract at a smaller --size, or use --device cpu",
        ),
        (
            RuntimeError("CUDA error: an illegal memory access was encountered\nmore"),
            "cuda:1: tvl1 on 3 pairs of 9x8 failed: CUDA error: an illegal memory access was "
            "encountered; see nvidia-smi",
        ),
        (
            PermissionError(13, "Permission denied", "/home/me/.triton"),
            "cuda:1: tvl1 on 3 pairs of 9x8 failed: [Errno 13] Permission denied: "
            "'/home/me/.triton'; Triton keeps what it compiles in files: set TRITON_CACHE_DIR to a "
            "folder that may be written",
        ),
    ],
)
def test_a_device_that_fails_is_one_line(raised: Exception, message: str) -> None:
    what = "tvl1 on 3 pairs of 9x8"
    with pytest.raises(DeviceError) as caught, device_errors(torch.device("cuda:1"), what):
        raise raised
    assert str(caught.value) == message


def test_errors_on_a_cpu_are_bugs_unless_memory_is_short(monkeypatch) -> None:
    def fail(*_):
        raise raised

    compute = BatchTVL1("cpu")
    monkeypatch.setattr(compute, "_solve", fail)
    raised: Exception = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match=r"^a bug$"):
        compute(FRAMES, np.array([[0, 1]]))
    raised = torch.OutOfMemoryError("too much")
    with pytest.raises(DeviceError) as caught:
        compute(FRAMES, np.array([[0, 1]]))
    assert str(caught.value) == (
        "cpu: too little memory for tvl1 on 1 pairs of 9x8; end other programs on it, extract at "
        "a smaller --size, or use --device cpu"
    )
