"""The commands that would make a run and its test again."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from train.commands.fit import fit

# By option of fit: where its value stands in config.json.
_MODEL = ("backbone", "consensus", "top", "num_segments", "dropout", "head_dropout", "partial_bn")
_PLAIN = (
    *("split", "val_fraction", "input_size", "flip", "batch_size", "accumulate", "epochs"),
    *("label_smoothing", "ema", "patience", "seed", "precision", "channels_last", "compile"),
)
_OPTIMIZER = {
    "optimizer": "optimizer",
    "lr": "learning_rate",
    "head_lr_factor": "head_factor",
    "momentum": "momentum",
    "weight_decay": "weight_decay",
    "schedule": "schedule",
    "lr_steps": "decay_epochs",
    "warmup_epochs": "warmup_epochs",
    "clip_gradient": "gradient_clip",
}


def fit_command(config: Mapping[str, Any], out: str | os.PathLike[str]) -> str | None:
    """Return the command that trains with some settings; None if they are not all there.

    Options are left out whose value is that of this version's ``tsn-train fit`` anyway.

    Args:
        config: Content of ``config.json``.
        out: Folder of the run.
    """
    try:
        return shlex.join(["tsn-train", "fit", *_fit_words(config), "--out", os.fspath(out)])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None  # of another version, or changed by hand


def _fit_words(config: Mapping[str, Any]) -> list[str]:
    model, optimizer = config["model"], config["optimizer"]
    values: dict[str, Any] = {"shards": config["shards"], "modality": model["modality"]}
    values["flow"] = config["modality_folder"].partition("-")[2] or None
    values |= {name: model[name] for name in _MODEL}
    values |= {name: config[name] for name in _PLAIN}
    values |= {name: optimizer[field] for name, field in _OPTIMIZER.items()}
    values["weights"] = config["weights"]
    values["no_flip_class"] = config["unflipped_classes"]
    values["crop_scales"] = _joined(config["crop_scales"])
    values["crop_positions"] = str(config["crop_positions"])
    values["lr_steps"] = None if values["schedule"] == "cosine" else _joined(values["lr_steps"])
    values["decode_on"] = config.get("decode_on", "workers")
    resize_on = config.get("resize_on", "workers")
    values["resize_on"] = None if resize_on == values["decode_on"] else resize_on
    values["shuffle_window"] = config.get("shuffle_window", 0)
    words: list[str] = []
    for option in fit.params:
        name = str(option.name)
        if name in values and values[name] not in (None, option.default):
            words += _option(option, values[name])
    return words


def _option(option: Any, value: Any) -> list[str]:
    """Return the words of one option."""
    if option.is_flag:
        return [(option.opts if value else option.secondary_opts)[0]]
    values = value if option.multiple else [value]
    return [word for value in values for word in (option.opts[0], _text(value))]


def _joined(numbers: Sequence[float]) -> str:
    return ",".join(_text(number) for number in numbers)


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def evaluate_command(run: Path, metrics: Mapping[str, Any]) -> str | None:
    """Return the command that tests a run as it was tested; None if that is not known."""
    named = ("split", "subset", "checkpoint", "num_snippets", "crops")
    if not all(isinstance(metrics.get(name), (str, int)) for name in named):
        return None
    words = ["tsn-train", "evaluate", str(run)]
    for name in named:
        words += [f"--{name.replace('_', '-')}", str(metrics[name])]
    return shlex.join(words)


def fuse_command(runs: Sequence[Path], weights: Sequence[float], out: Path | None) -> str:
    """Return the command that fuses runs by some weights."""
    words = ["tsn-train", "fuse", *map(str, runs), "--weights", *map(_text, weights)]
    return shlex.join([*words, "--out", "runs/fused" if out is None else str(out)])
