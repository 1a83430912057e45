"""Parameters of the flow algorithms, by name; loads nothing."""

from __future__ import annotations

PUBLISHED = "default"  # weights of raft: torchvision's own, in place of a file

# OpenCV's own defaults (TV-L1, DIS medium) and those of its Farneback sample, spelled out because
# they are part of what a shard says about itself.
FLOW_DEFAULTS: dict[str, dict[str, float | int | str]] = {
    "tvl1": {
        "tau": 0.25,
        "lambda": 0.15,
        "theta": 0.3,
        "num_scales": 5,
        "scale_step": 0.8,
        "num_warps": 5,
        "epsilon": 0.01,
        "inner_iterations": 30,
        "outer_iterations": 10,
        "median": 5,
        "backend": "numba",
    },
    "farneback": {
        "pyramid_scale": 0.5,
        "levels": 3,
        "window": 15,
        "iterations": 3,
        "poly_n": 5,
        "poly_sigma": 1.2,
    },
    "dis": {"preset": "medium"},
    # torchvision's own number of iterations; a shard has the sha256 of the weights' file instead.
    "raft": {"network": "large", "iterations": 12, "weights": PUBLISHED},
}
COLOUR_FLOWS = frozenset({"raft"})  # computed from RGB rather than gray frames
