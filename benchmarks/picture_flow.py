"""Draw docs/images/flow.png: flow of the same pairs of frames by each algorithm.

The upper row is a real clip, of which only the flow is shown; the lower row is a made-up scene
whose true flow is known.
"""

import os
from pathlib import Path

import click
import cv2
import matplotlib
import numpy as np

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from preprocess.tvl1 import tvl1_flow

SIZE = (340, 256)
CLIP = "ucf101/**/v_SoccerJuggling_g23_c01.avi"


def colours(flow: np.ndarray, largest: float) -> np.ndarray:
    """Return the usual picture of a flow: hue is direction, saturation is speed."""
    hue = (np.arctan2(flow[..., 1], flow[..., 0]) / (2 * np.pi)) % 1
    speed = np.clip(np.linalg.norm(flow, axis=-1) / largest, 0, 1)
    hsv = np.stack([hue, speed, np.ones_like(hue)], axis=-1)
    return matplotlib.colors.hsv_to_rgb(hsv)


def wheel(size: int = 161) -> np.ndarray:
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = colours(np.stack([x, y], axis=-1), 1.0)
    image[np.hypot(x, y) > 1] = 1
    return image


def texture(height: int, width: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    image = np.zeros((height, width), np.float32)
    for size in (2, 4, 8, 16, 32):
        coarse = generator.normal(size=(height // size + 1, width // size + 1))
        image += size**0.5 * cv2.resize(
            coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
    return (image - image.min()) / (image.max() - image.min()) * 255


def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return two frames and the true flow: a panning background, a disc that turns, a box."""
    width, height = SIZE
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    layers = [(texture(height + 80, width + 80, 0), np.array([[1, 0, 2.0], [0, 1, 0.5]]), None)]
    turn = cv2.getRotationMatrix2D((110, 130), 6, 1)
    disc = (np.hypot(columns - 110, rows - 130) < 60).astype(np.float32)
    layers.append((texture(height + 80, width + 80, 1), turn, disc))
    box = ((abs(columns - 250) < 35) & (abs(rows - 110) < 50)).astype(np.float32)
    layers.append((texture(height + 80, width + 80, 2), np.array([[1, 0, -4.0], [0, 1, 3.0]]), box))
    first = np.zeros((height, width), np.float32)
    second = first.copy()
    truth = np.zeros((height, width, 2))
    points = np.stack([columns, rows, np.ones_like(rows)], axis=-1)
    for image, matrix, mask in layers:
        offset = np.array([[1, 0, -40], [0, 1, -40], [0, 0, 1.0]])
        here = cv2.warpAffine(image, offset[:2], SIZE, flags=cv2.INTER_CUBIC)
        there = cv2.warpAffine(image, matrix @ offset, SIZE, flags=cv2.INTER_CUBIC)
        if mask is None:
            mask = np.ones_like(first)
        moved = cv2.warpAffine(mask, matrix, SIZE, flags=cv2.INTER_LINEAR)
        first = first * (1 - mask) + here * mask
        second = second * (1 - moved) + there * moved
        flow = points @ matrix.T - points[..., :2]
        truth = np.where(mask[..., None] > 0, flow, truth)
    first, second = (np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in (first, second))
    return first, second, truth


def real_pair(clips: Path, start: int) -> tuple[np.ndarray, np.ndarray]:
    capture = cv2.VideoCapture(str(next(clips.glob(CLIP))))
    frames = [capture.read()[1] for _ in range(start + 2)][start:]
    first, second = (cv2.cvtColor(cv2.resize(f, SIZE), cv2.COLOR_BGR2GRAY) for f in frames)
    return first, second


@click.command(help=__doc__)
@click.option(
    "--clips",
    default=lambda: os.environ.get("TSN_CLIPS"),
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)
@click.option("--frame", default=90, show_default=True)
@click.option("--out", default="docs/images/flow.png", show_default=True)
def main(clips: Path, frame: int, out: str) -> None:
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    methods = {
        "tvl1 of OpenCV": lambda a, b: tvl1_flow(a, b, backend="opencv"),
        "tvl1": tvl1_flow,
        "farneback": lambda a, b: cv2.calcOpticalFlowFarneback(
            a, b, None, 0.5, 3, 15, 3, 5, 1.2, 0
        ),
        "dis (medium)": lambda a, b: dis.calc(a, b, None),
    }
    figure, axes = plt.subplots(2, 5, figsize=(15, 5.4), layout="constrained")
    for axis in axes.ravel():
        axis.set_axis_off()
    real, made = real_pair(clips, frame), scene()
    flows = {name: function(*real) for name, function in methods.items()}
    largest = float(np.percentile(np.linalg.norm(flows["tvl1"], axis=-1), 99.5))
    axes[0, 0].imshow(wheel())
    axes[0, 0].set_title(f"direction and speed;\nrim: {largest:.1f} px above, 6 px below")
    axes[1, 0].imshow(colours(made[2], 6))
    axes[1, 0].set_title("the truth")
    for column, (name, function) in enumerate(methods.items(), start=1):
        axes[0, column].imshow(colours(flows[name], largest))
        axes[0, column].set_title(name)
        flow = function(made[0], made[1])
        error = np.linalg.norm(flow - made[2], axis=-1).mean()
        axes[1, column].imshow(colours(flow, 6))
        axes[1, column].set_title(f"{error:.2f} px from the truth")
    figure.savefig(out, dpi=80)


if __name__ == "__main__":
    main()
