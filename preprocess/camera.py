"""Warped flow: what moves once the camera's own motion is taken away.

A homography from the first frame to the second is estimated from matched features together with
points that the flow moved. People move too, but the background is in the majority, and RANSAC
listens to the majority. The second frame is warped back by it and the flow computed again.

Source: Wang and Schmid, "Action Recognition with Improved Trajectories" (ICCV 2013), section 3.1;
TSN's fourth input, with ORB for SURF.
"""

from collections.abc import Callable

import cv2
import numpy as np

from tsn_core.errors import InputError

MIN_INLIERS = 25  # accepted only above this
RANSAC_PIXELS = 1.0
MAX_POINTS = 1000


def camera_homography(
    first: np.ndarray, second: np.ndarray, flow: np.ndarray
) -> tuple[np.ndarray | None, int]:
    """Return the camera's motion between two frames.

    The same input gives the same result: OpenCV's RANSAC starts from a fixed seed.

    Args:
        first: Gray frame, shape (H, W), uint8.
        second: Gray frame of the same size.
        flow: Displacements from the first to the second, shape (H, W, 2), float32.

    Returns:
        The homography from points of the first frame to points of the second, shape (3, 3),
        float64, and the number of matches within 1 px of it. ``None`` in place of the homography
        where it has 25 or fewer such matches, or turns the frame inside out.

    Raises:
        InputError: The shapes do not fit.
    """
    if first.shape != second.shape or first.ndim != 2:
        raise InputError(
            f"frames must be gray and of one size, got shapes {first.shape} and {second.shape}"
        )
    if flow.shape != (*first.shape, 2):
        raise InputError(f"flow must have shape {(*first.shape, 2)}, got {flow.shape}")
    starts, ends = (
        np.concatenate(points)
        for points in zip(_feature_matches(first, second), _flow_matches(first, flow))
    )
    if len(starts) <= MIN_INLIERS:
        return None, 0
    homography, inliers = cv2.findHomography(starts, ends, cv2.RANSAC, RANSAC_PIXELS)
    if homography is None:
        return None, 0
    num_inliers = int(inliers.sum())
    if num_inliers <= MIN_INLIERS or not _keeps_corners(homography, first.shape):
        return None, num_inliers
    return homography, num_inliers


def warped_flow(
    first: np.ndarray,
    second: np.ndarray,
    flow_function: Callable[[np.ndarray, np.ndarray], np.ndarray],
    colours: tuple[np.ndarray, np.ndarray] | None = None,
) -> tuple[np.ndarray, bool]:
    """Return the flow between two frames with the camera's motion taken away.

    Where the warped second frame has no content, the first frame takes its place, so that nothing
    moves there.

    Args:
        first: Gray frame, shape (H, W), uint8.
        second: Gray frame of the same size.
        flow_function: Returns the (H, W, 2) float32 flow of two gray frames; called twice where
            the homography is accepted, else once.
        colours: The same two frames in colour, shape (H, W, 3), uint8, where ``flow_function``
            takes those.

    Returns:
        The flow, shape (H, W, 2), float32, in pixels of the first frame, and whether a homography
        was accepted. If not, the flow is that of the frames as they are.

    Raises:
        InputError: The frames are not gray or not of one size.
    """
    shown = (first, second) if colours is None else colours
    flow = flow_function(*shown)
    steady = stabilised(first, second, flow, colours)
    if steady is None:
        return flow, False
    return flow_function(shown[0], steady), True


def stabilised(
    first: np.ndarray,
    second: np.ndarray,
    flow: np.ndarray,
    colours: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray | None:
    """Return the second frame with the camera's motion taken out.

    Args:
        first: Gray frame, shape (H, W), uint8.
        second: Gray frame of the same size.
        flow: Displacements from the first to the second, shape (H, W, 2), float32.
        colours: The same two frames in colour, shape (H, W, 3), uint8, where that is wanted in
            colour.

    Returns:
        Of the shape of the frames; ``None`` where no homography is accepted.

    Raises:
        InputError: The shapes do not fit.
    """
    homography, _ = camera_homography(first, second, flow)
    if homography is None:
        return None
    return _warp_back(*((first, second) if colours is None else colours), homography)


def _warp_back(first: np.ndarray, second: np.ndarray, homography: np.ndarray) -> np.ndarray:
    """Return the second frame as seen by the first's camera."""
    size = (first.shape[1], first.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpPerspective(second, homography, size, flags=flags)
    white = np.full(second.shape[:2], 255, np.uint8)
    covered = cv2.warpPerspective(white, homography, size, flags=flags) == 255
    return np.where(covered[..., None] if second.ndim == 3 else covered, warped, first)


def _feature_matches(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points of both frames, shape (N, 2) each, float32, whose ORB features match."""
    detector = cv2.ORB.create(nfeatures=MAX_POINTS)
    keys_first, codes_first = detector.detectAndCompute(first, None)
    keys_second, codes_second = detector.detectAndCompute(second, None)
    if codes_first is None or codes_second is None:
        return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(codes_first, codes_second)
    starts = [keys_first[match.queryIdx].pt for match in matches]
    ends = [keys_second[match.trainIdx].pt for match in matches]
    return (
        np.array(starts, np.float32).reshape(-1, 2),
        np.array(ends, np.float32).reshape(-1, 2),
    )


def _flow_matches(first: np.ndarray, flow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return corners of the first frame and where the flow takes them, shape (N, 2) each."""
    corners = cv2.goodFeaturesToTrack(first, MAX_POINTS, qualityLevel=0.001, minDistance=3)
    if corners is None:
        return np.empty((0, 2), np.float32), np.empty((0, 2), np.float32)
    starts = corners.reshape(-1, 2)
    columns, rows = starts.astype(np.int64).T
    ends = starts + flow[rows, columns]
    return starts, ends


def _keeps_corners(homography: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Return whether the frame's corners keep their order and stay in front of the camera."""
    height, width = shape
    corners = np.array(
        [[0, 0, 1], [width - 1, 0, 1], [width - 1, height - 1, 1], [0, height - 1, 1]], float
    )
    moved = corners @ homography.T
    if (moved[:, 2] <= 0).any():
        return False
    points = moved[:, :2] / moved[:, 2:]
    edges = np.roll(points, -1, axis=0) - points
    following = np.roll(edges, -1, axis=0)
    return bool((edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0] > 0).all())
