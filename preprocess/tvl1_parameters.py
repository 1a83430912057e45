"""The parameters of TV-L1 flow, as OpenCV names them, and what they say about its scales."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tsn_core.errors import InputError

SMALLEST_SCALE = 16  # pixels; OpenCV makes no smaller scale either
SMALLEST_IMAGE = 3


@dataclass(frozen=True)
class TVL1Parameters:
    """How TV-L1 flow is computed; the defaults are those of OpenCV.

    Attributes:
        tau: Time step of the dual update.
        lambda_: Weight of the data term; smaller is smoother.
        theta: Tightness of the coupling between data and smoothness.
        num_scales: Scales of the pyramid. Fewer are used where a scale would be below 16 pixels.
        scale_step: Size of a scale relative to the next finer one.
        num_warps: How often the second image is warped at each scale.
        epsilon: Root mean square change in pixels below which the iterations of a warp stop.
        inner_iterations: Iterations between two median filters.
        outer_iterations: Median filters for each warp, unless ``epsilon`` stops it before.
        median: Size of the median filter of the flow: 3, 5, or 1 for none.

    Raises:
        InputError: A parameter is outside its range.
    """

    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.3
    num_scales: int = 5
    scale_step: float = 0.8
    num_warps: int = 5
    epsilon: float = 0.01
    inner_iterations: int = 30
    outer_iterations: int = 10
    median: int = 5

    def __post_init__(self) -> None:
        for name in ("tau", "lambda_", "theta"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise InputError(f"{name} must be > 0 and finite, got {value}")
        if not (self.epsilon >= 0 and math.isfinite(self.epsilon)):
            raise InputError(f"epsilon must be >= 0 and finite, got {self.epsilon}")
        if not 0 < self.scale_step < 1:
            raise InputError(f"scale_step must be between 0 and 1, got {self.scale_step}")
        for name in ("num_scales", "num_warps", "inner_iterations", "outer_iterations"):
            count = getattr(self, name)
            if count < 1 or count != int(count):
                raise InputError(f"{name} must be a whole number > 0, got {count}")
        if self.median not in (1, 3, 5):
            raise InputError(f"median must be 1 (no filter), 3 or 5, got {self.median}")

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Return (height, width) of every scale in px, finest first.

        Examples:
            >>> TVL1Parameters().sizes(31, 100)
            [(31, 100), (25, 80), (20, 64), (16, 51)]
        """
        sizes = [(height, width)]
        while len(sizes) < self.num_scales:
            height, width = (round(side * self.scale_step) for side in sizes[-1])
            if min(height, width) < SMALLEST_SCALE:
                break
            sizes.append((height, width))
        return sizes

    # The displacements are computed in units of theta / tau px, see ``tvl1_kernels``.

    @property
    def unit(self) -> float:
        """Pixels in one unit of the displacements, rounded to float32."""
        return float(np.float32(self.theta / self.tau))

    @property
    def units_per_pixel(self) -> float:
        """The inverse of ``unit``, rounded to float32."""
        return float(np.float32(self.tau / self.theta))

    @property
    def limit(self) -> float:
        """Largest step along the slope, rounded to float32."""
        return float(np.float32(self.lambda_ * self.theta * (self.tau / self.theta) ** 2))

    @property
    def smallest(self) -> float:
        """Squared slope below which it counts as that, rounded to float32."""
        return float(np.float32(np.finfo(np.float32).eps * self.unit * self.unit))

    def threshold(self, height: int, width: int) -> float:
        """Return the sum of squared changes at which iterations stop, rounded to float32."""
        squared = self.epsilon * self.epsilon * height * width
        return float(np.float32(squared * (self.tau / self.theta) ** 2))


def argument_names(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters, as shards name them, by the names of arguments.

    Examples:
        >>> argument_names({"lambda": 0.15, "tau": 0.25})
        {'lambda_': 0.15, 'tau': 0.25}
    """
    return {"lambda_" if name == "lambda" else name: parameters[name] for name in parameters}


def check_size(name: str, height: int, width: int) -> None:
    """Check that an image is large enough.

    Raises:
        InputError: It is not.
    """
    if min(height, width) < SMALLEST_IMAGE:
        raise InputError(
            f"{name} must be at least {SMALLEST_IMAGE} pixels high and wide, got {height} x {width}"
        )
