import itertools
import os
import platform
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from preprocess import numba_cache, tvl1
from preprocess.tvl1 import opencv_tvl1, tvl1_backend, tvl1_flow
from preprocess.tvl1_parameters import TVL1Parameters
from tsn_core.errors import InputError, MissingDependencyError

ROOT = Path(__file__).parent.parent


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return smooth random structure of several sizes, float32, 0 to 255."""
    generator = np.random.default_rng(seed)
    image = np.zeros((height, width), np.float32)
    for size in (3, 6, 12, 24):
        coarse = generator.normal(size=(height // size + 2, width // size + 2))
        image += size**0.5 * cv2.resize(
            coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
    return (image - image.min()) / (image.max() - image.min()) * 255


def moved_pair(
    height: int, width: int, degrees: float, shift: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return two images and the true flow of a rotation about the centre and a shift."""
    margin = 20
    big = texture(height + 2 * margin, width + 2 * margin)
    matrix = cv2.getRotationMatrix2D((width / 2 + margin, height / 2 + margin), degrees, 1)
    matrix[:, 2] += shift
    moved = cv2.warpAffine(big, matrix, big.shape[::-1], flags=cv2.INTER_CUBIC)
    rows, columns = np.mgrid[margin : height + margin, margin : width + margin]
    points = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    truth = points @ matrix.T - points[..., :2]
    inside = np.s_[margin : height + margin, margin : width + margin]
    first, second = (np.clip(np.rint(image[inside]), 0, 255) for image in (big, moved))
    return first.astype(np.uint8), second.astype(np.uint8), truth


OPENCV_MAJOR = int(cv2.__version__.partition(".")[0])


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.linalg.norm(a - b, axis=-1)


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


OTHERS = {
    "tau": 0.2,
    "lambda_": 0.1,
    "theta": 0.4,
    "num_scales": 3,
    "scale_step": 0.5,
    "num_warps": 2,
    "epsilon": 0.03,
    "inner_iterations": 7,
    "outer_iterations": 3,
}


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"median": 1},
        {"median": 3},
        {"num_scales": 1},
        {"epsilon": 0.0, "inner_iterations": 3, "outer_iterations": 2},
        OTHERS,
    ],
)
def test_flow_is_opencvs(parameters: dict) -> None:
    first, second, _ = moved_pair(70, 90, 1.5, (2.3, -1.2))
    ours = tvl1_flow(first, second, **parameters)
    theirs = tvl1_flow(first, second, backend="opencv", **parameters)
    assert ours.shape == (70, 90, 2)
    assert ours.dtype == np.float32
    assert np.abs(theirs).mean() > 0.5
    difference = distance(ours, theirs)
    assert difference.mean() < 0.02
    assert np.percentile(difference, 99) < 0.25


@pytest.mark.parametrize("size", [(3, 3), (3, 40), (40, 3), (5, 16), (16, 17), (20, 33), (31, 48)])
def test_small_images_use_fewer_scales(size: tuple[int, int]) -> None:
    image = cv2.resize(texture(40, 50), size[::-1]).astype(np.uint8)
    moved = np.roll(image, 1, axis=1)
    ours = tvl1_flow(image, moved, median=3)
    theirs = tvl1_flow(image, moved, median=3, backend="opencv")
    assert np.isfinite(ours).all()
    if OPENCV_MAJOR >= 5 or min(size) > 3:  # OpenCV 4 warps tiny images otherwise
        assert distance(ours, theirs).mean() < 0.05


def test_scales_are_those_that_opencv_makes() -> None:
    image = np.zeros((31, 100), np.uint8)
    parameters = TVL1Parameters()
    sizes = [first.shape for first, _ in tvl1._pyramid(image, image, parameters)]
    assert sizes == parameters.sizes(31, 100) == [(31, 100), (25, 80), (20, 64), (16, 51)]


@pytest.mark.parametrize(
    ("degrees", "shift"), [(0.0, (3.0, -2.0)), (0.0, (0.4, 0.7)), (3.0, (0.0, 0.0)), (-2, (1, 2))]
)
def test_no_worse_than_opencv_against_the_truth(degrees: float, shift: tuple[float, float]) -> None:
    first, second, truth = moved_pair(90, 110, degrees, shift)
    inner = np.s_[8:-8, 8:-8]
    ours = distance(tvl1_flow(first, second), truth)[inner].mean()
    theirs = distance(tvl1_flow(first, second, backend="opencv"), truth)[inner].mean()
    assert ours < 0.15
    assert ours <= theirs + 0.005


def test_same_image_has_no_flow() -> None:
    image = texture(40, 50).astype(np.uint8)
    np.testing.assert_array_equal(tvl1_flow(image, image), np.zeros((40, 50, 2), np.float32))


def test_inputs_may_be_views() -> None:
    first, second, _ = moved_pair(40, 60, 0, (1, 0))
    turned = tvl1_flow(first.T, second.T)
    copied = tvl1_flow(first.T.copy(), second.T.copy())
    np.testing.assert_array_equal(turned, copied)
    read_only = first.copy()
    read_only.flags.writeable = False
    np.testing.assert_array_equal(tvl1_flow(read_only, second), tvl1_flow(first, second))


PRINT_HASH = """if True:
    import hashlib, cv2, numpy as np
    from preprocess.tvl1 import tvl1_flow
    image = np.random.default_rng(0).integers(0, 256, (50, 70)).astype(np.uint8)
    image = cv2.GaussianBlur(image, (0, 0), 2)
    flow = tvl1_flow(image, np.roll(image, 2, axis=0))
    from preprocess.tvl1_kernels import solve_scale
    misses = sum(solve_scale.stats.cache_misses.values())
    print(hashlib.sha256(flow.tobytes()).hexdigest(), misses)
"""


def test_every_process_gets_the_same_bits_and_loads_its_code() -> None:
    tvl1_backend()
    outputs = [run_python(PRINT_HASH).stdout for _ in range(2)]
    assert outputs[0] == outputs[1]
    assert outputs[0].split()[1] == "0"


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names an x86 processor")
def test_vector_width_and_fused_multiply_add_in_hardware_change_no_bit(tmp_path: Path) -> None:
    old = run_python(
        PRINT_HASH,
        NUMBA_CPU_NAME="x86-64",
        NUMBA_CPU_FEATURES="+sse2",
        NUMBA_CACHE_DIR=str(tmp_path),
    )
    here = run_python(PRINT_HASH)
    assert old.stdout.split() == [here.stdout.split()[0], "1"]


def test_threads_do_not_disturb_each_other() -> None:
    pairs = [moved_pair(50, 60, degrees, (1.0, 0.5))[:2] for degrees in range(8)]
    alone = [tvl1_flow(*pair) for pair in pairs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: tvl1_flow(*pair), pairs))
    np.testing.assert_array_equal(together, alone)


def test_parameters_that_diverge_do_no_harm() -> None:
    first, second, _ = moved_pair(40, 50, 0, (1, 0))
    flow = tvl1_flow(first, second, tau=1e9, lambda_=1e9, theta=1e-9)
    assert flow.shape == (40, 50, 2)


def test_import_loads_no_numba() -> None:
    code = "import sys, preprocess.tvl1; print('numba' in sys.modules)"
    assert run_python(code).stdout == "False\n"


@pytest.mark.parametrize("size", [3, 5])
def test_median_of_every_pattern_of_zeros_and_ones(size: int) -> None:
    """The zero-one principle: right for these, a list of minima and maxima is right for all."""
    from numba import njit

    from preprocess.tvl1_median import median_in_place

    @njit
    def run(work, height, width, stride, size, scratch):
        median_in_place(work, 0, stride, height, width, size, scratch)

    generator = np.random.default_rng(0)
    counts = np.array(list(itertools.product(range(size + 1), repeat=size))).ravel()
    columns = (np.arange(size)[:, None] < counts).astype(np.float32)
    image = generator.permuted(columns, axis=0)
    height, width = image.shape
    stride = (width + 15) // 16 * 16
    work = np.zeros(height * stride + 7 * (stride + 48), np.float32)
    work[: height * stride].reshape(height, stride)[:, :width] = image
    run(work, height, width, stride, size, height * stride)
    result = work[: height * stride].reshape(height, stride)[:, :width]
    np.testing.assert_array_equal(result, cv2.medianBlur(image, size))
    windows = image.reshape(size, -1, size)
    centres = result.reshape(size, -1, size)[size // 2, :, size // 2]
    np.testing.assert_array_equal(centres, np.median(windows, axis=(0, 2)))


GRAY = np.zeros((8, 9), np.uint8)


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            np.zeros((8, 9, 3), np.uint8),
            GRAY,
            "first image must be gray, shape (height, width), got shape (8, 9, 3); "
            "convert it with cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)",
        ),
        (
            GRAY,
            np.full((8, 9), np.nan),
            "second image has values that are not finite; repair them, then convert it to "
            "uint8, 0 to 255",
        ),
        (
            GRAY.astype(np.float32),
            GRAY,
            "first image must be uint8, 0 to 255, got float32; convert it with "
            "image.astype(numpy.uint8)",
        ),
        (
            GRAY,
            GRAY[:, :4],
            "both images must have the same size (height x width), got 8 x 9 and 8 x 4; "
            "resize one of them",
        ),
        (
            GRAY[:, :2],
            GRAY[:, :2],
            "first image must be at least 3 pixels high and wide, got 8 x 2",
        ),
    ],
)
def test_bad_images(first: np.ndarray, second: np.ndarray, message: str) -> None:
    with pytest.raises(InputError) as error:
        tvl1_flow(first, second)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("tau", 0, "tau must be > 0 and finite, got 0"),
        ("tau", float("nan"), "tau must be > 0 and finite, got nan"),
        ("lambda_", -1.0, "lambda_ must be > 0 and finite, got -1.0"),
        ("theta", float("inf"), "theta must be > 0 and finite, got inf"),
        ("epsilon", -0.1, "epsilon must be >= 0 and finite, got -0.1"),
        ("scale_step", 1.0, "scale_step must be between 0 and 1, got 1.0"),
        ("num_scales", 0, "num_scales must be a whole number > 0, got 0"),
        ("num_warps", 1.5, "num_warps must be a whole number > 0, got 1.5"),
        ("inner_iterations", -3, "inner_iterations must be a whole number > 0, got -3"),
        ("outer_iterations", 0, "outer_iterations must be a whole number > 0, got 0"),
        ("median", 7, "median must be 1 (no filter), 3 or 5, got 7"),
        ("backend", "cuda", "unknown TV-L1 backend 'cuda'; choose from numba, opencv"),
    ],
)
def test_bad_parameters(name: str, value: object, message: str) -> None:
    with pytest.raises(InputError) as error:
        tvl1_flow(GRAY, GRAY, **{name: value})
    assert str(error.value) == message


def test_without_numba_opencv_takes_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    tvl1._has_numba.cache_clear()
    first, second, _ = moved_pair(40, 50, 0, (1, 0))
    try:
        with pytest.warns(UserWarning) as caught:
            flow = tvl1_flow(first, second)
        assert [str(warning.message) for warning in caught] == [
            "Numba cannot be loaded (import of numba halted; None in sys.modules): OpenCV computes "
            "TV-L1 flow, about 30 times slower; pip install --upgrade numba"
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert tvl1_backend() == "opencv"
    finally:
        tvl1._has_numba.cache_clear()
    np.testing.assert_array_equal(flow, opencv_tvl1().calc(first, second, None))


def test_opencv_without_contributed_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(cv2, "optflow")
    with pytest.raises(MissingDependencyError) as error:
        tvl1_flow(GRAY, GRAY, backend="opencv")
    assert str(error.value) == (
        "opencv-contrib-python is needed for OpenCV's TV-L1, found OpenCV without cv2.optflow; "
        "uninstall opencv-python, then reinstall opencv-contrib-python"
    )


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "package" / "kernels.py"
    path.parent.mkdir()
    path.write_text("one = 1\n")
    return path


def test_the_first_compilation_is_told(
    source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    with numba_cache.numba_cache([source], "a sum") as folder:
        line = "compiling a sum for this processor, once; this takes up to a minute\n"
        assert capsys.readouterr() == ("", line)
        (folder / "kernels.total-1.py311.nbi").touch()
    with numba_cache.numba_cache([source], "a sum"):
        assert capsys.readouterr() == ("", "")


def test_cache_folder_follows_the_sources(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    before = numba_cache.cache_folder([source])
    assert before.parent == source.parent / "__pycache__"
    assert before == numba_cache.cache_folder([source])
    source.write_text("one = 2\n")
    assert numba_cache.cache_folder([source]) != before


def test_read_only_cache_folder_falls_back_once(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()  # nobody, root neither, can make a folder below a file
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    with pytest.warns(UserWarning) as caught:
        folder = numba_cache.cache_folder([source])
    base = tmp_path / "home" / "tsn-shards"
    assert folder.parent == base
    assert [str(warning.message) for warning in caught] == [
        f"{tmp_path / 'file' / 'cache'}: compiled code cannot be kept there, using {base}; "
        "set NUMBA_CACHE_DIR to a folder that is writable"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert numba_cache.cache_folder([source]) == folder


def test_without_a_home_the_temporary_folder_is_used(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "home"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    with pytest.warns(UserWarning, match="using"):
        folder = numba_cache.cache_folder([source])
    assert folder.parent.parent == tmp_path / "temporary"
    assert folder.is_dir()


@pytest.mark.clips
@pytest.mark.skipif("TSN_CLIPS" not in os.environ, reason="TSN_CLIPS names no folder of clips")
def test_real_clips_agree_with_opencv() -> None:
    means, tails = [], []
    clips = Path(os.environ["TSN_CLIPS"])
    paths = sorted((clips / "ucf101").rglob("*.avi")) + sorted((clips / "hmdb51").rglob("*.avi"))
    for path in paths[::2]:
        capture = cv2.VideoCapture(str(path))
        capture.set(cv2.CAP_PROP_POS_FRAMES, 20)
        frames = [cv2.resize(capture.read()[1], (340, 256)) for _ in range(2)]
        first, second = (cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames)
        difference = distance(tvl1_flow(first, second), tvl1_flow(first, second, backend="opencv"))
        means.append(difference.mean())
        tails.append(np.percentile(difference, 99))
    assert len(means) == 5
    assert np.mean(means) <= 0.02
    assert np.mean(tails) <= 0.25
