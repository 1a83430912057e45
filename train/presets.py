"""Settings that are known to work, by dataset and modality; ``tsn-train fit --preset NAME``.

Every value stands for the option of that name and gives way to one that is typed.

Sources:
    hmdb51, ucf101, rgb and flow: the TSN authors' Caffe models (github.com/yjxiong/
        temporal-segment-networks, solver files), their iterations counted as epochs: 128 videos
        a step, of 3,570 (HMDB51) and 9,537 (UCF101) training videos of split 1. Crops in 13
        places (``more_fix_crop``), for flow without the smallest scale.
    hmdb51, ucf101, rgbdiff: the README of the authors' PyTorch code (github.com/yjxiong/
        tsn-pytorch), for UCF101; HMDB51 takes the same.
    warpedflow: as flow, as in the paper.
    small: ours, for a few dozen videos and ImageNet weights, where SGD at the rates above never
        leaves chance: chosen on 27 clips of three people, each left out in turn
        (benchmarks/results/accuracy.json).
"""

from __future__ import annotations

from typing import Any

from tsn_core.modality import get_modality

_TSN: dict[str, Any] = {
    "optimizer": "sgd",
    "lr": 0.001,
    "momentum": 0.9,
    "weight_decay": 0.0005,
    "schedule": "step",
    "batch_size": 128,
    "num_segments": 3,
    "dropout": 0.8,
    "crop_scales": "1,0.875,0.75,0.66",
    "crop_positions": "13",
}
_TSN_FLOW: dict[str, Any] = {
    **_TSN,
    "lr": 0.005,
    "dropout": 0.7,
    "crop_scales": "1,0.875,0.75",
    "clip_gradient": 20.0,
}
_TSN_RGBDIFF: dict[str, Any] = {
    **_TSN,
    "num_segments": 7,
    "crop_scales": "1,0.875,0.75",
    "clip_gradient": 40.0,
    "epochs": 180,
    "lr_steps": "80,160",
}

_HMDB51_FLOW = {**_TSN_FLOW, "epochs": 251, "lr_steps": "143,215"}
_UCF101_FLOW = {**_TSN_FLOW, "epochs": 242, "lr_steps": "134,215"}
_SMALL: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 0.0002,
    "head_lr_factor": 10.0,
    "schedule": "cosine",
    "epochs": 40,
    "batch_size": 6,
    "num_segments": 3,
    "dropout": 0.8,
    "crop_scales": "1,0.875",
    "clip_gradient": 20.0,
}

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "hmdb51": {
        "rgb": {**_TSN, "clip_gradient": 40.0, "epochs": 90, "lr_steps": "36,72"},
        "flow": _HMDB51_FLOW,
        "warpedflow": _HMDB51_FLOW,
        "rgbdiff": _TSN_RGBDIFF,
    },
    "ucf101": {
        "rgb": {**_TSN, "clip_gradient": 40.0, "epochs": 47, "lr_steps": "20,40"},
        "flow": _UCF101_FLOW,
        "warpedflow": _UCF101_FLOW,
        "rgbdiff": _TSN_RGBDIFF,
    },
    "small": dict.fromkeys(("rgb", "flow", "warpedflow", "rgbdiff"), _SMALL),
}


def preset_values(preset: str, modality: str) -> dict[str, Any]:
    """Return what a preset says of a modality; of a registered one, what it says of its like.

    Raises:
        InputError: There is no such modality.
    """
    return dict(PRESETS[preset][get_modality(modality).like])
