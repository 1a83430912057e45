"""Runs made of other people's networks, and the way back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from train.features import file_sha256
from train.foreign_checkpoint import Foreign, bare_model, to_tsn_pytorch
from train.run_folder import RunFolder, save_checkpoint
from train.training import check_input
from tsn_core.atomic import atomic_path
from tsn_core.backbone import first_convolution, load_weights
from tsn_core.errors import CheckpointError, InputError, SettingsError
from tsn_core.modality import Modality, get_modality
from tsn_core.temporal_shift import shifted_layers
from tsn_core.tsn import TSN, ModelSettings

ORDERS = ("rgb", "bgr")
_USUAL_SHARE = 8  # TSM's
_USUAL_SEGMENTS = {"tsn-pytorch": 3, "tsm": 8, "torchvision": 3}
_THEIR_MODALITIES = ("rgb", "flow", "warpedflow", "rgbdiff")


@dataclass(frozen=True)
class Convention:
    """What a network takes: ``(code - mean) / std`` of uint8 codes, channels in some order.

    Attributes:
        order: Of the three channels of a unit, ``rgb`` or ``bgr``.
        mean: One per channel of a unit, in our order.
        std: Likewise.
    """

    order: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def convention(
    kind: str,
    modality: str,
    order: str = "rgb",
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> Convention:
    """Return what a network of somebody else's takes.

    For RGB and flow, tsn-pytorch's and TSM's ResNets and torchvision's models take exactly what
    ours do. Their RGB differences are divided by 255 and by nothing else, as in training there.

    Args:
        kind: Of the checkpoint, one of ``foreign_checkpoint.KINDS``.
        modality: Name of the modality.
        order: ``rgb`` or ``bgr``.
        mean: Of uint8 codes, one number or one per channel in their order; empty for the usual.
        std: Likewise.

    Raises:
        InputError: There are other numbers of them, or one is out of range.
    """
    ours = get_modality(modality)
    if order not in ORDERS:
        raise InputError(f"unknown order of channels {order!r}; choose from {', '.join(ORDERS)}")
    if order == "bgr" and ours.unit_channels != 3:
        raise InputError(f"--channel-order bgr: {modality} has {ours.unit_channels} channels")
    usual_std = ours.std
    if kind != "torchvision" and modality == "rgbdiff":
        usual_std = (255.0,) * 3
    return Convention(
        order,
        _per_channel("--input-mean", mean, ours.mean, order, ours),
        _per_channel("--input-std", std, usual_std, order, ours),
    )


def _per_channel(
    option: str, given: Sequence[float], usual: tuple[float, ...], order: str, kind: Modality
) -> tuple[float, ...]:
    if not given:
        return usual
    values = tuple(given) * (kind.unit_channels if len(given) == 1 else 1)
    if len(values) != kind.unit_channels or not all(np.isfinite(values)):
        raise InputError(f"{option}: 1 or {kind.unit_channels} numbers expected, got {len(given)}")
    if option == "--input-std" and not all(value > 0 for value in values):
        raise InputError(f"{option} must be above 0, got {','.join(f'{v:g}' for v in values)}")
    return values[::-1] if order == "bgr" else values


def fold(weight: torch.Tensor, theirs: Convention, kind: Modality) -> torch.Tensor:
    """Return the weights of a first convolution that takes our order and scale instead of theirs.

    Args:
        weight: Shape (out, L * C, h, w).
        theirs: What it took.
        kind: Of the units.

    Returns:
        Of the same shape: with ``x / std`` of ours it gives what ``weight`` gave of theirs. Where
        only the order differs this is exact; a scale is one rounding of each weight.
    """
    units = weight.unflatten(1, (-1, kind.unit_channels))  # (out, L, C, h, w)
    if theirs.order == "bgr":
        units = units.flip(2)
    if theirs.std != kind.std:
        ratio = torch.tensor(kind.std, dtype=torch.float64) / torch.tensor(
            theirs.std, dtype=torch.float64
        )
        units = (units.double() * ratio.view(1, 1, -1, 1, 1)).to(weight.dtype)
    return units.flatten(1, 2).contiguous()


def import_network(
    foreign: Foreign,
    source: object,
    modality: str,
    theirs: Convention,
    *,
    num_segments: int | None = None,
    temporal_shift: int | None = None,
) -> TSN:
    """Return the network of a foreign checkpoint as ours.

    Args:
        foreign: What ``read_foreign`` returns.
        source: What messages call the file.
        modality: Name of the modality.
        theirs: What it takes. Order and scale are folded into its first convolution; another mean
            goes into the settings, since zero padding is not to be folded.
        num_segments: K of its training; None takes what the file's name tells, or the usual.
        temporal_shift: Likewise, of a network that shifts.

    Raises:
        CheckpointError: It does not take snippets of that modality, shifts in other places, or
            holds numbers that are not finite.
        InputError: A number is out of range.
    """
    kind = get_modality(modality)
    probe = bare_model(foreign.backbone)
    conv = f"{first_convolution(probe, foreign.backbone)[0]}.weight"
    channels = foreign.state[conv].shape[1]
    if channels % kind.unit_channels or (channels == 3 and modality != "rgb"):
        raise CheckpointError(
            f"{source}: its first convolution takes {channels} channels, {modality} has "
            f"{kind.unit_channels} times the length of a snippet; choose the --modality that it "
            "was trained on, and begin one of another modality with fit --weights RUN/last.pt"
        )
    if hasattr(probe, "transform_input") and theirs != convention("torchvision", modality):
        raise InputError(
            f"{source}: {foreign.backbone} normalises its input itself; leave --channel-order, "
            "--input-mean and --input-std out"
        )
    settings = _settings(
        foreign,
        modality,
        channels // kind.unit_channels,
        foreign.classifier[0].shape[0],
        theirs,
        num_segments or foreign.num_segments or _USUAL_SEGMENTS[foreign.kind],
        (temporal_shift or foreign.shift_share or _USUAL_SHARE) if foreign.shifted else 0,
    )
    model = TSN(settings)
    if foreign.shifted and set(shifted_layers(model.backbone, "")) != set(foreign.shifted):
        raise CheckpointError(
            f"{source}: shifts in {len(foreign.shifted)} other places than TSM's blockres does; "
            "train again with fit --temporal-shift 8"
        )
    state = {**foreign.state, conv: fold(foreign.state[conv], theirs, kind)}
    load_weights(model.backbone, state, ignore=(), source=str(source))
    assert model.classifier is not None
    weight, bias = foreign.classifier
    if weight.shape != model.classifier.weight.shape or bias.shape != model.classifier.bias.shape:
        raise CheckpointError(
            f"{source}: a classifier of shape {tuple(model.classifier.weight.shape)} expected, got "
            f"{tuple(weight.shape)}"
        )
    if not (weight.isfinite().all() and bias.isfinite().all()):
        raise CheckpointError(
            f"{source}: its classifier holds numbers that are not finite; import a checkpoint from "
            "before its training failed"
        )
    model.classifier.load_state_dict({"weight": weight, "bias": bias})
    return model.eval()


def _settings(
    foreign: Foreign,
    modality: str,
    snippet_length: int,
    num_classes: int,
    theirs: Convention,
    num_segments: int,
    temporal_shift: int,
) -> ModelSettings:
    mean = get_modality(modality).mean
    return ModelSettings(
        modality=modality,
        snippet_length=snippet_length,
        backbone=foreign.backbone,
        consensus="avg",
        num_segments=num_segments,
        num_classes=num_classes,
        dropout=0.8,
        top=1,
        partial_bn=True,
        temporal_shift=temporal_shift,
        input_mean=None if theirs.mean == mean else theirs.mean,
    )


def write_run(
    out: Path,
    model: TSN,
    class_names: Sequence[str],
    *,
    source: Path,
    shards: str,
    modality_folder: str,
    split: int,
    input_size: int,
) -> None:
    """Write a network into the folder of a run, as if ``tsn-train fit`` had trained it.

    Args:
        out: Folder to make.
        model: The network.
        class_names: By class id.
        source: The file that it comes from.
        shards: Of a dataset; empty if none are known.
        modality_folder: Of them, ``flow-tvl1`` for example.
        split: Number of the split to test on.
        input_size: Side of the crops in px.

    Raises:
        SettingsError: The folder holds a run.
        InputError: The backbone does not take such crops.
        OutputError: The files cannot be written.
    """
    run = RunFolder(out)
    if run.checkpoint("last").exists():
        raise SettingsError(f"{out}: holds a run; choose another --out or delete the folder")
    check_input(model, input_size)
    config = {
        "shards": shards,
        "modality_folder": modality_folder,
        "model": model.settings.to_dict(),
        "weights": source.name,
        "weights_sha256": file_sha256(source),
        "split": split,
        "input_size": input_size,
        "val_subset": "test",  # nobody knows what was watched, so that there is no best.pt
        "imported": True,
    }
    run.claim(config)
    progress: dict[str, Any] = {
        "rows": [],
        "step": 0,
        "sums": [0, 0, 0],
        "seconds": [0, 0, 0],
        "trained_on": torch.empty(0, dtype=torch.int64),
    }
    save_checkpoint(run.checkpoint("last"), model, class_names, progress)


def export_network(model: TSN, path: Path, source: object, progress: dict[str, Any]) -> None:
    """Write a network as a checkpoint of tsn-pytorch, or of TSM where it shifts in time.

    Args:
        model: The network.
        path: File to write.
        source: What messages call the run.
        progress: Of its training, see ``load_checkpoint``.

    Raises:
        CheckpointError: They have no such networks.
        OutputError: The file cannot be written.
    """
    settings = model.settings
    mobilenet = settings.backbone == "mobilenet_v2" and settings.temporal_shift
    for what, found, possible in (
        ("consensus", settings.consensus, settings.consensus == "avg"),
        ("backbone", settings.backbone, settings.backbone.startswith("resnet") or mobilenet),
        ("modality", settings.modality, settings.modality in _THEIR_MODALITIES),
        ("input_mean", settings.input_mean, settings.input_mean is None),
    ):
        if not possible:
            raise CheckpointError(
                f"{source}: has {what} {found}, which tsn-pytorch and TSM do not have (avg; "
                "ResNets, with a temporal shift mobilenet_v2 too); export it --to onnx"
            )
    kind = get_modality(settings.modality)
    state = dict(model.backbone.state_dict())
    conv = f"{first_convolution(model.backbone, settings.backbone)[0]}.weight"
    theirs = convention("tsn-pytorch", settings.modality)
    if theirs.std != kind.std:
        ratio = theirs.std[0] / kind.std[0]
        state[conv] = (state[conv].double() * ratio).to(state[conv].dtype)
    shifted = shifted_layers(model.backbone, "") if settings.temporal_shift else []
    rows = progress.get("rows") or []
    assert model.classifier is not None
    classifier = (model.classifier.weight.detach(), model.classifier.bias.detach())
    best = max((float(row["val_top1"]) for row in rows), default=0.0)
    more = {"epoch": len(rows), "best_prec1": 100 * best}
    content = to_tsn_pytorch(settings.backbone, state, classifier, shifted, more)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        torch.save(content, file)
