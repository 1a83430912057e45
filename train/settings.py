"""Everything that a training run is asked to do, checked when it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from train.optimization import OptimizerSettings
from tsn_core.errors import InputError
from tsn_core.seed import check_seed

PRECISIONS = ("auto", "fp32", "bf16", "fp16")
RESIZE_ON = DECODE_ON = ("workers", "device")


def check_at_least(least: float, **values: float) -> None:
    """Check numbers against a lower bound, by name.

    Raises:
        InputError: One is smaller, or not a number.
    """
    for name, value in values.items():
        if not value >= least:
            bound = f"{least:g} or more" if least != 1 else "> 0"
            raise InputError(f"{name} must be {bound}, got {value}")


def check_share(**values: float) -> None:
    """Check numbers that must be 0 or more and below 1, by name.

    Raises:
        InputError: One is not.
    """
    for name, value in values.items():
        if not 0 <= value < 1:
            raise InputError(f"{name} must be 0 or more and below 1, got {value}")


@dataclass(frozen=True)
class NetworkSettings:
    """The architecture, as far as it does not follow from the shards; see ``ModelSettings``."""

    backbone: str
    consensus: str
    num_segments: int
    dropout: float
    head_dropout: float
    top: int
    partial_bn: bool
    temporal_shift: int = 0


@dataclass(frozen=True)
class DataSettings:
    """Which videos are trained on and how they are cut.

    Attributes:
        split: Number of the split.
        val_fraction: Where the split has no val videos, this share of its training videos.
        input_size: Side of the crops in px.
        flip: Whether half of the training videos are mirrored.
        unflipped_classes: Names of classes of which none is.
        crop_scales: Sides of the training crops, as shares of the shorter side of a frame.
        crop_positions: Places of the training crops, 5 or 13.
        batch_size: Videos per step of the optimiser, over all ranks and parts.
        accumulate: Parts that a step is computed in, one after the other, to save memory.
        resize_on: Where crops are resized: by the loading ``workers``, or on the ``device``.
        decode_on: Where JPEGs are decoded; on the ``device``, they are resized there, too.
        shuffle_window: Videos that the next one is chosen from; 0 chooses from all.
    """

    split: int
    val_fraction: float
    input_size: int
    flip: bool
    unflipped_classes: tuple[str, ...]
    crop_scales: tuple[float, ...]
    crop_positions: int
    batch_size: int
    accumulate: int
    resize_on: str = "workers"
    decode_on: str = "workers"
    shuffle_window: int = 0

    def __post_init__(self) -> None:
        check_at_least(0, shuffle_window=self.shuffle_window)
        if self.resize_on not in RESIZE_ON:
            raise InputError(f"resize_on must be {' or '.join(RESIZE_ON)}, got {self.resize_on!r}")
        if self.decode_on not in DECODE_ON:
            raise InputError(f"decode_on must be {' or '.join(DECODE_ON)}, got {self.decode_on!r}")
        if self.decode_on == "device" and self.resize_on != "device":
            raise InputError(
                "--decode-on device: what is decoded there is resized there, too; leave out "
                f"--resize-on {self.resize_on}"
            )
        check_at_least(1, input_size=self.input_size, batch_size=self.batch_size)
        check_at_least(1, accumulate=self.accumulate)
        check_share(val_fraction=self.val_fraction)
        if self.crop_positions not in (5, 13):
            raise InputError(f"crop_positions must be 5 or 13, got {self.crop_positions}")
        if not self.crop_scales or not all(0 < scale <= 1 for scale in self.crop_scales):
            scales = ",".join(map(str, self.crop_scales))
            raise InputError(f"crop_scales must be numbers above 0 and up to 1, got {scales!r}")


@dataclass(frozen=True)
class LoopSettings:
    """How long and in which arithmetic.

    Attributes:
        epochs: Passes over the training videos.
        seed: Of weights, order, snippets, crops and dropout.
        patience: Stop after so many epochs without a better validation; 0 never does.
        ema: Decay of the moving average of the weights, that is validated and tested instead of
            them; 0 has none.
        label_smoothing: Share of the target that is spread over all classes.
        precision: ``fp32``, or the type of most of the network's arithmetic; ``auto`` leaves it to
            the device, see ``train.arithmetic``.
        channels_last: Whether images lie pixel by pixel in memory, or channel by channel; None
            leaves that to the device.
        compile: Whether the network is compiled by ``torch.compile``.
        save_seconds: A checkpoint is written so often within an epoch too; 0 after every step.
    """

    epochs: int
    seed: int
    patience: int
    ema: float
    label_smoothing: float
    precision: str
    channels_last: bool | None
    compile: bool
    save_seconds: float

    def __post_init__(self) -> None:
        check_at_least(1, epochs=self.epochs)
        check_seed(seed=self.seed)
        check_at_least(0, patience=self.patience, save_seconds=self.save_seconds)
        check_share(ema=self.ema, label_smoothing=self.label_smoothing)
        if self.precision not in PRECISIONS:
            raise InputError(
                f"unknown precision {self.precision!r}; choose from {', '.join(PRECISIONS)}"
            )


@dataclass(frozen=True)
class RunSettings:
    """One training run: what ``tsn-train fit`` is told.

    Attributes:
        shards: Folder of a dataset's shards.
        modality: Name of the modality.
        flow: Flow algorithm; None takes the only one that is there.
        weights: Of the backbone: ``none``, ``imagenet`` or a path.
        network: The architecture.
        data: The videos and crops.
        optimizer: How the weights are updated.
        loop: How long and in which arithmetic.
    """

    shards: Path
    modality: str
    flow: str | None
    weights: str
    network: NetworkSettings
    data: DataSettings
    optimizer: OptimizerSettings
    loop: LoopSettings

    def with_split(self, split: int) -> RunSettings:
        """Return the same run on another split."""
        return replace(self, data=replace(self.data, split=split))

    def with_network(self, **changes: Any) -> RunSettings:
        """Return the same run with another network."""
        return replace(self, network=replace(self.network, **changes))

    def to_config(
        self, *, modality_folder: str, shards_digest: str, model: dict[str, Any], val_subset: str
    ) -> dict[str, Any]:
        """Return what ``config.json`` holds: all that two runs must share to be the same one.

        Args:
            modality_folder: Of the shards, ``flow-tvl1`` for example.
            shards_digest: What the shards are known by, see ``ShardSet.digest``.
            model: Fields of the model settings.
            val_subset: What is watched while training: ``val`` or ``test``.
        """
        loop = asdict(self.loop)
        del loop["save_seconds"]  # it changes nothing but what a crash costs
        return {
            "shards": str(self.shards.absolute()),
            "modality_folder": modality_folder,
            "shards_digest": shards_digest,
            "model": model,
            "weights": self.weights,
            "optimizer": asdict(self.optimizer),
            **asdict(self.data),
            **loop,
            "val_subset": val_subset,
        }


def parse_numbers(option: str, text: str, example: str, kind: type = float) -> Sequence[Any]:
    """Return the numbers in the text of an option, separated by commas.

    Raises:
        InputError: There is something else in it.
    """
    what = "whole numbers" if kind is int else "numbers"
    try:
        return tuple(kind(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise InputError(f"{option} must be {what} such as {example}, got {text!r}") from None
