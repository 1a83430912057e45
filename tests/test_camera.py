import cv2
import numpy as np
import pytest

from preprocess.camera import camera_homography, warped_flow
from preprocess.tvl1 import tvl1_flow
from tsn_core.errors import InputError

HEIGHT, WIDTH, MARGIN = 160, 220, 40


def texture(height: int, width: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    image = np.zeros((height, width), np.float32)
    for size in (2, 4, 8, 16, 32):
        coarse = generator.normal(size=(height // size, width // size)).astype(np.float32)
        image += size**0.5 * cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return (image - image.min()) / (image.max() - image.min()) * 255


def camera(degrees: float, shift: tuple[float, float]) -> np.ndarray:
    """Return where the background goes, shape (3, 3)."""
    matrix = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), degrees, 1)
    matrix[:, 2] += shift
    return np.vstack([matrix, [0, 0, 1]])


def frames(motion: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return two frames of a background that moves and two objects that move by themselves.

    The third array tells where there is background in the first frame, away from the objects.
    """
    background = texture(HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN, seed=0)
    offset = np.array([[1, 0, -MARGIN], [0, 1, -MARGIN], [0, 0, 1.0]])
    images = []
    for matrix, step in ((np.eye(3), 0), (motion, 1)):
        image = cv2.warpPerspective(
            background, matrix @ offset, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC
        )
        for seed, (top, left, down, right) in enumerate(((30, 40, 2, 5), (90, 150, -4, -3))):
            y, x = top + step * down, left + step * right
            image[y : y + 50, x : x + 40] = texture(50, 64, seed=seed + 1)[:, :40]
        images.append(np.clip(np.rint(image), 0, 255).astype(np.uint8))
    is_background = np.ones((HEIGHT, WIDTH), bool)
    is_background[20:90, 30:90] = False
    is_background[80:150, 140:200] = False
    return images[0], images[1], is_background


MOTIONS = [
    camera(0, (4, 1)),
    camera(0, (-6, 3)),
    camera(2, (0, 0)),
    camera(-3, (2, 1)),
    camera(0, (0, 0)),
]


@pytest.mark.parametrize("motion", MOTIONS)
def test_background_stands_still(motion: np.ndarray) -> None:
    first, second, is_background = frames(motion)
    flow, accepted = warped_flow(first, second, tvl1_flow)
    speed = np.linalg.norm(flow, axis=-1)
    assert accepted
    assert flow.shape == (HEIGHT, WIDTH, 2)
    assert flow.dtype == np.float32
    assert speed[is_background].mean() < 0.15
    assert np.percentile(speed[is_background], 95) < 0.3
    assert speed[45:65, 50:70].mean() > 1  # the object still moves


@pytest.mark.parametrize("motion", MOTIONS)
def test_homography_is_the_cameras_motion_and_repeatable(motion: np.ndarray) -> None:
    first, second, _ = frames(motion)
    flow = tvl1_flow(first, second)
    homography, num_inliers = camera_homography(first, second, flow)
    assert homography is not None
    assert num_inliers > 200
    corners = np.array([[[0, 0]], [[WIDTH - 1, 0]], [[0, HEIGHT - 1]], [[110, 80]]], float)
    expected = cv2.perspectiveTransform(corners, motion)
    found = cv2.perspectiveTransform(corners, homography)
    assert np.abs(found - expected).max() < 0.5
    cv2.setRNGSeed(7)
    again, num_again = camera_homography(first, second, flow)
    np.testing.assert_array_equal(again, homography)
    assert num_again == num_inliers


def test_frames_without_structure_keep_their_flow() -> None:
    plain = np.full((60, 80), 90, np.uint8)
    calls = []

    def count(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        calls.append(1)
        return np.ones((*first.shape, 2), np.float32)

    flow, accepted = warped_flow(plain, plain, count)
    assert not accepted
    assert len(calls) == 1
    np.testing.assert_array_equal(flow, np.ones((60, 80, 2), np.float32))
    assert camera_homography(plain, plain, flow) == (None, 0)


def test_few_matches_are_not_accepted() -> None:
    first = np.full((60, 80), 90, np.uint8)
    first[20:30, 20:30] = 200
    homography, num_inliers = camera_homography(first, first, np.zeros((60, 80, 2), np.float32))
    assert homography is None
    assert num_inliers <= 25


def test_unrelated_frames_keep_their_flow() -> None:
    generator = np.random.default_rng(0)
    first, second = (texture(100, 120, seed).astype(np.uint8) for seed in (0, 50))
    flow = generator.uniform(-30, 30, (100, 120, 2)).astype(np.float32)
    homography, num_inliers = camera_homography(first, second, flow)
    assert homography is None
    assert num_inliers <= 25


def test_uncovered_border_does_not_move() -> None:
    first, second, _ = frames(camera(0, (8, 0)))
    flow, accepted = warped_flow(first, second, tvl1_flow)
    assert accepted
    assert np.linalg.norm(flow[:, -4:], axis=-1).mean() < 0.3


@pytest.mark.parametrize(
    ("second", "flow", "message"),
    [
        (
            np.zeros((8, 8), np.uint8),
            np.zeros((8, 9, 2), np.float32),
            "frames must be gray and of one size, got shapes (8, 9) and (8, 8)",
        ),
        (
            np.zeros((8, 9), np.uint8),
            np.zeros((9, 8, 2), np.float32),
            "flow must have shape (8, 9, 2), got (9, 8, 2)",
        ),
    ],
)
def test_shapes_must_fit(second: np.ndarray, flow: np.ndarray, message: str) -> None:
    with pytest.raises(InputError) as error:
        camera_homography(np.zeros((8, 9), np.uint8), second, flow)
    assert str(error.value) == message
