"""The folder of one training run: settings, metrics, checkpoints."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from train.csv_file import write_csv
from tsn_core.atomic import atomic_path, write_text
from tsn_core.errors import CheckpointError, SettingsError
from tsn_core.torch_file import CHECKPOINT_FORMAT, read_torch_file
from tsn_core.tsn import TSN, ModelSettings

_VERSION = 1
_CONFIG_KEYS = ("shards", "modality_folder", "split", "input_size", "val_subset")
# as if older runs named them
_ADDED_SETTINGS = {"resize_on": "workers", "decode_on": "workers", "shuffle_window": 0}
METRIC_COLUMNS = (
    "epoch",
    "learning_rate",
    "train_loss",
    "train_top1",
    "val_loss",
    "val_top1",
    "duration_seconds",
    "data_seconds",
    "copy_seconds",
    "compute_seconds",
    "other_seconds",
)


@dataclass(frozen=True)
class RunFolder:
    """Names of the files in a run's folder, and how they are read and written."""

    path: Path

    @property
    def curves(self) -> Path:
        """Loss and accuracy over the epochs."""
        return self.path / "curves.png"

    def checkpoint(self, name: str) -> Path:
        """Path of ``last.pt`` or ``best.pt``."""
        return self.path / f"{name}.pt"

    def claim(self, config: dict[str, Any]) -> None:
        """Write ``config.json``, unless the folder holds a run with other settings.

        A run that has finished no epoch holds nothing: its settings may be put right.

        Raises:
            SettingsError: It does.
        """
        path = self.path / "config.json"
        config = json.loads(json.dumps(config))
        if self.checkpoint("last").exists():
            if not path.is_file():
                raise SettingsError(
                    f"{self.path}: holds last.pt, but no config.json to compare the settings "
                    "with; choose another --out or delete the folder"
                )
            had = _ADDED_SETTINGS | _flat(self.read_config())
            wanted = _ADDED_SETTINGS | _flat(config)
            for name in sorted((set(had) | set(wanted)) - {"shards_digest"}):
                if had.get(name) != wanted.get(name):
                    raise SettingsError(
                        f"{self.path}: holds a run with {name}={had.get(name)}, this one has "
                        f"{name}={wanted.get(name)}; choose another --out or delete the folder"
                    )
            if had.get("shards_digest") != wanted.get("shards_digest"):
                raise SettingsError(
                    f"{self.path}: holds a run on other shards than {config['shards']} holds now; "
                    "choose another --out or delete the folder"
                )
        write_text(path, json.dumps(config, indent=1) + "\n")

    def check_resumable(self) -> None:
        """Check that there is a run to go on with.

        Raises:
            CheckpointError: There is none.
        """
        if not self.checkpoint("last").is_file():
            raise CheckpointError(
                f"{self.path}: no last.pt to go on from; leave --resume out to begin a run there"
            )

    def read_config(self) -> dict[str, Any]:
        """Return ``config.json``.

        Raises:
            CheckpointError: The folder is not that of a run, or the file cannot be read.
        """
        path = self.path / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except PermissionError as error:
            raise CheckpointError(f"{path}: cannot be read: {error.strerror}; allow that") from None
        except OSError:
            config = None
        except ValueError:  # cut short, perhaps
            raise CheckpointError(
                f"{path}: damaged: no JSON; copy it again, or delete the run's folder and train "
                "again"
            ) from None
        if not isinstance(config, dict) or any(key not in config for key in _CONFIG_KEYS):
            raise CheckpointError(
                f"{path}: no settings of a run there; give the folder that tsn-train fit made"
            )
        return config

    def write_metrics(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write ``metrics.csv``, one row for each epoch."""
        write_csv(self.path / "metrics.csv", METRIC_COLUMNS, rows)


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    flat = {}
    for name, value in config.items():
        if isinstance(value, dict):
            flat.update(_flat(value))
        else:
            flat[name] = value
    return flat


def save_checkpoint(
    path: Path, model: TSN, class_names: Sequence[str], progress: dict[str, Any]
) -> None:
    """Write a checkpoint atomically: the architecture, the classes, the weights and more.

    Args:
        path: File to write.
        model: Whose weights are saved.
        class_names: By class id.
        progress: Anything else, of plain values and tensors.

    Raises:
        OutputError: It cannot be written; one that was there stays whole.
    """
    content = {
        "format": CHECKPOINT_FORMAT,
        "version": _VERSION,
        "settings": model.settings.to_dict(),
        "class_names": list(class_names),
        "model": model.state_dict(),
        "progress": progress,
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)  # given the path, it hides why writing fails


def chosen_checkpoint(config: dict[str, Any], asked: str) -> str:
    """Return which checkpoint of a run to take, ``best`` or ``last``.

    Args:
        config: What ``RunFolder.read_config`` returns.
        asked: One of these, or ``auto``: the best if val videos chose it, else the last.
    """
    if asked != "auto":
        return asked
    return "best" if config["val_subset"] == "val" else "last"


def load_checkpoint(path: Path) -> tuple[TSN, list[str], dict[str, Any]]:
    """Return the model, the class names and the rest of a checkpoint; nothing is executed.

    Raises:
        CheckpointError: There is none, it is damaged, or of another format.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; train with tsn-train fit first")
    content = read_torch_file(path, "delete the file and train again")
    if not isinstance(content, dict) or content.get("format") != CHECKPOINT_FORMAT:
        raise CheckpointError(f"{path}: a checkpoint of tsn-train expected, got something else")
    if content.get("version") != _VERSION:
        raise CheckpointError(
            f"{path}: format version {_VERSION} expected, got {content.get('version')}; "
            "train again, or update this package"
        )
    try:
        model = TSN(ModelSettings.from_dict(content["settings"]))
        model.load_state_dict(content["model"])
        return model, list(content["class_names"]), dict(content["progress"])
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = str(error).strip().split("\n")[0].rstrip(":")
        if isinstance(error, KeyError):
            reason = f"no {error.args[0]}"
        raise CheckpointError(
            f"{path}: damaged: {reason}; delete the file and train again"
        ) from None


def videos_behind(weights: str) -> np.ndarray:
    """Return the videos that weights to start from were trained on; see ``hashes``.

    Args:
        weights: ``none``, ``imagenet``, or a path; only a checkpoint of ``tsn-train`` knows them.

    Returns:
        Shape (V,), int64; of what is no checkpoint, none.
    """
    if weights not in ("none", "imagenet"):
        content = read_torch_file(weights, "check --weights")
        if isinstance(content, dict) and content.get("format") == CHECKPOINT_FORMAT:
            progress = content.get("progress")
            numbers = progress.get("trained_on") if isinstance(progress, dict) else None
            if isinstance(numbers, torch.Tensor):
                return numbers.numpy()
    return np.empty(0, np.int64)
