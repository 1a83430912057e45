"""Checkpoints of tsn-pytorch and TSM, and torchvision's state dicts: their names and conventions.

tsn-pytorch (github.com/yjxiong/tsn-pytorch) saves a dictionary of ``epoch``, ``arch``,
``best_prec1`` and ``state_dict``; in that the backbone is ``module.base_model.*``, the classifier
``module.new_fc.*``. TSM
(github.com/mit-han-lab/temporal-shift-module) does the same, with ``.net`` in the name of every
convolution before which it shifts, and the share of channels in the name of the file only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tsn_core.backbone import find_classifier, first_convolution
from tsn_core.errors import CheckpointError, InputError
from tsn_core.listing import few
from tsn_core.torch_file import CHECKPOINT_FORMAT, read_torch_file
from tsn_core.torchvision_models import make_model, model_names

KINDS = ("tsn-pytorch", "tsm", "torchvision")
_REMEDY = (
    "if you trust who made it, keep its tensors alone: "
    "torch.save({'state_dict': torch.load(FILE, weights_only=False)['state_dict']}, NEW)"
)
_USUAL = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenet_v2")
_SHIFTED = ".net."
_BN_INCEPTION = ("conv1_7x7_s2", "inception_3a_1x1")  # layers that only it has


@dataclass(frozen=True)
class Foreign:
    """A network in somebody else's file.

    Attributes:
        kind: One of ``KINDS``.
        backbone: Name of the torchvision model.
        state: Of the backbone, by torchvision's names.
        classifier: Weight (C, F) and bias (C,).
        shifted: Names of the convolutions before which it shifts in time.
        shift_share: One of so many channels; None where the file's name does not tell.
        num_segments: Likewise.
    """

    kind: str
    backbone: str
    state: dict[str, torch.Tensor]
    classifier: tuple[torch.Tensor, torch.Tensor]
    shifted: tuple[str, ...]
    shift_share: int | None
    num_segments: int | None


def read_foreign(path: Path, kind: str = "auto", backbone: str | None = None) -> Foreign:
    """Read a checkpoint; nothing in it is executed.

    Args:
        path: Of the file.
        kind: One of ``KINDS``, or ``auto``.
        backbone: Name of the torchvision model; None finds it by the names and shapes.

    Raises:
        InputError: There is no such file, or no such model.
        CheckpointError: It is of another kind, or of a network that cannot be taken over.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint")
    content = read_torch_file(path, _REMEDY)
    if isinstance(content, dict) and content.get("format") == CHECKPOINT_FORMAT:
        raise CheckpointError(f"{path}: a checkpoint of tsn-train already; use the run it is of")
    arch = content.get("arch") if isinstance(content, dict) else None
    state = content
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        state = content["state_dict"]
    if (
        not isinstance(state, dict)
        or not state
        or not all(isinstance(value, torch.Tensor) for value in state.values())
    ):
        raise CheckpointError(f"{path}: a state dict (name to tensor) expected, got something else")
    state = {str(name).removeprefix("module."): value for name, value in state.items()}
    found = _kind(state)
    if kind not in ("auto", found):
        raise CheckpointError(f"{path}: looks like {found}, not like {kind}; leave --from out")
    if found == "torchvision":
        return _of_torchvision(path, state, backbone)
    return _of_tsn(path, state, found, backbone or (arch if isinstance(arch, str) else None))


def _kind(state: Iterable[str]) -> str:
    if not any(name.startswith(("base_model.", "new_fc.")) for name in state):
        return "torchvision"
    return "tsm" if any(_SHIFTED in name for name in state) else "tsn-pytorch"


def _of_torchvision(path: Path, state: dict[str, torch.Tensor], backbone: str | None) -> Foreign:
    backbone = _checked(path, backbone, state)
    head, _ = find_classifier(bare_model(backbone), backbone)
    weight, bias = state.pop(f"{head}.weight", None), state.pop(f"{head}.bias", None)
    if weight is None or bias is None or weight.ndim != 2:
        raise CheckpointError(
            f"{path}: has no linear classifier {head}; begin a training with it, by "
            f"tsn-train fit --backbone {backbone} --weights {path}"
        )
    return Foreign("torchvision", backbone, state, (weight, bias), (), None, None)


def _of_tsn(path: Path, state: dict[str, torch.Tensor], kind: str, backbone: str | None) -> Foreign:
    base = {
        name.removeprefix("base_model."): value
        for name, value in state.items()
        if name.startswith("base_model.")
    }
    if any(name.startswith(_BN_INCEPTION) for name in base):
        raise CheckpointError(
            f"{path}: holds a BNInception, which torchvision does not have; import a ResNet, or "
            "train its nearest relative there, by tsn-train fit --backbone googlenet"
        )
    if any(re.match(r"layer\d\.\d+\.(net|block)\.", name) for name in base):
        raise CheckpointError(
            f"{path}: shifts whole blocks or has non-local ones, which this package does not; "
            "import one with blockres in its name, and no nl"
        )
    heads = ("new_fc", "base_model.fc", "base_model.classifier")  # the latter without dropout
    head = next((name for name in heads if f"{name}.weight" in state), None)
    if head is None or f"{head}.bias" not in state or state[f"{head}.weight"].ndim != 2:
        raise CheckpointError(f"{path}: has no classifier (new_fc.weight and new_fc.bias)")
    base = {name: v for name, v in base.items() if not name.startswith(("fc.", "classifier."))}
    shifted = tuple(
        name.replace(_SHIFTED, ".").removesuffix(".weight")
        for name in base
        if name.endswith(f"{_SHIFTED}weight")
    )
    base = {name.replace(_SHIFTED, "."): value for name, value in base.items()}
    if "features.0.0.weight" in base:
        base = {_from_tsm_mobilenet(name): value for name, value in base.items()}
        shifted = tuple(
            _from_tsm_mobilenet(f"{name}.weight")[: -len(".weight")] for name in shifted
        )
    backbone = {"mobilenetv2": "mobilenet_v2"}.get(backbone or "", backbone)
    share = re.search(r"_shift(\d{1,3})_", path.name)
    segments = re.search(r"_segment(\d{1,3})(?!\d)", path.name)
    return Foreign(
        kind,
        _checked(path, backbone, base),
        base,
        (state[f"{head}.weight"], state[f"{head}.bias"]),
        shifted,
        int(share[1]) if share else None,
        int(segments[1]) if segments else None,
    )


def _checked(path: Path, backbone: str | None, state: dict[str, torch.Tensor]) -> str:
    """Return the backbone that a state dict is of.

    Raises:
        InputError: There is none of that name.
        CheckpointError: It is of another one, or of none.
    """
    if backbone is not None:
        if not _fits(backbone, state):
            raise CheckpointError(
                f"{path}: its weights are not those of {backbone} ({few(list(state))}); choose "
                "another --backbone"
            )
        return backbone
    for name in (*_USUAL, *(name for name in model_names() if name not in _USUAL)):
        if _fits(name, state):
            return name
    raise CheckpointError(
        f"{path}: its weights ({few(list(state))}) are those of no classification model of "
        "torchvision that is known by its names; name it with --backbone"
    )


def _fits(backbone: str, state: dict[str, torch.Tensor]) -> bool:
    """Return whether the weights have the names and shapes, apart from input and classifier."""
    model = bare_model(backbone)
    head, _ = find_classifier(model, backbone)
    conv, _ = first_convolution(model, backbone)
    own = {
        name: value
        for name, value in model.state_dict().items()
        if not name.startswith(f"{head}.") and not name.endswith("num_batches_tracked")
    }
    if any(name not in state for name in own):
        return False
    return all(
        state[name].shape == value.shape
        if name != f"{conv}.weight"
        else state[name].ndim == 4 and state[name].shape[::2] == value.shape[::2]
        for name, value in own.items()
    )


def bare_model(backbone: str) -> torch.nn.Module:
    """Return a model of torchvision for its names and shapes, mostly without any numbers in it."""
    try:
        with torch.device("meta"):
            return make_model(backbone)
    except NotImplementedError:  # RegNets compute their widths
        return make_model(backbone)


def _from_tsm_mobilenet(name: str) -> str:
    """Return torchvision's name of a layer of TSM's MobileNetV2, whose blocks are flat lists.

    Examples:
        >>> _from_tsm_mobilenet("features.2.conv.3.weight")
        'features.2.conv.1.0.weight'
        >>> _from_tsm_mobilenet("features.1.conv.3.weight")
        'features.1.conv.1.weight'
    """
    return _renamed(name, {theirs: ours for ours, theirs in _FLAT.items()})


def _to_tsm_mobilenet(name: str) -> str:
    """Return TSM's name of a layer of torchvision's MobileNetV2.

    Examples:
        >>> _to_tsm_mobilenet("features.2.conv.1.0.weight")
        'features.2.conv.3.weight'
    """
    return _renamed(name, _FLAT)


_FLAT = {  # (whether the block expands, torchvision's place in it): the place in a flat list
    (False, "0.0"): (False, "0"),
    (False, "0.1"): (False, "1"),
    (False, "1"): (False, "3"),
    (False, "2"): (False, "4"),
    (True, "0.0"): (True, "0"),
    (True, "0.1"): (True, "1"),
    (True, "1.0"): (True, "3"),
    (True, "1.1"): (True, "4"),
    (True, "2"): (True, "6"),
    (True, "3"): (True, "7"),
}


def _renamed(name: str, places: dict[tuple[bool, str], tuple[bool, str]]) -> str:
    match = re.fullmatch(r"(features\.(\d+)\.conv)\.([\d.]+)\.(\w+)", name)
    if match is None:
        return name
    block, number, place, rest = match.groups()
    _, found = places.get((number != "1", place), (True, place))
    return f"{block}.{found}.{rest}"


def to_tsn_pytorch(
    backbone: str,
    state: dict[str, torch.Tensor],
    classifier: tuple[torch.Tensor, torch.Tensor],
    shifted: Iterable[str] = (),
    more: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what tsn-pytorch saves, or TSM where the network shifts in time.

    Args:
        backbone: Name of the torchvision model.
        state: Of the backbone.
        classifier: Weight (C, F) and bias (C,).
        shifted: Names of the convolutions before which it shifts.
        more: Further entries, ``epoch`` for example.
    """
    marked = {f"{name}.weight": f"{name}{_SHIFTED}weight" for name in shifted}
    mobilenet = backbone == "mobilenet_v2"
    theirs = {}
    for name, value in state.items():
        renamed = _to_tsm_mobilenet(name) if mobilenet else name
        if name in marked:
            renamed = f"{renamed.removesuffix('.weight')}{_SHIFTED}weight"
        theirs[f"module.base_model.{renamed}"] = value
    theirs["module.new_fc.weight"], theirs["module.new_fc.bias"] = classifier
    arch = "mobilenetv2" if mobilenet else backbone
    return {"arch": arch, "state_dict": theirs, **(more or {})}
