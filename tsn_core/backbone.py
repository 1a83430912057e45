"""Any torchvision classification model as the feature extractor of a TSN.

The first convolution is adapted to the modality's channels and the last linear layer is taken off;
both are found generically, by their place in the model.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

from tsn_core.errors import CheckpointError, InputError
from tsn_core.torch_file import read_torch_file
from tsn_core.torchvision_models import imagenet_weights, make_model

Layer = TypeVar("Layer", bound=nn.Module)
# In torchvision's own files: heads that only training on ImageNet used, and DenseNet's old names.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def make_backbone(name: str, in_channels: int, weights: str) -> tuple[nn.Module, int]:
    """Return a feature extractor and the number of its features.

    Args:
        name: Of a torchvision classification model.
        in_channels: Channels of one snippet: L units of C channels.
        weights: ``none`` for random ones, ``imagenet`` for torchvision's, or the path of a state
            dict of the torchvision model; its classifier is not used.

    Returns:
        A module that takes (N, in_channels, H, W) to pooled features (N, F), and F.

    Raises:
        InputError: There is no such model or file, or the model has no convolution to adapt.
        CheckpointError: The file does not fit the model.
    """
    model = make_model(name)
    head_name, head = _last(model, nn.Linear, name)
    replace_layer(model, head_name, nn.Identity())
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0  # TSN has its own, after the pooling
    if weights != "none":
        state = imagenet_weights(name) if weights == "imagenet" else read_state(weights)
        load_weights(model, state, ignore=f"{head_name}.", source=weights)
    if hasattr(model, "transform_input"):
        setattr(model, "transform_input", False)  # noqa: B010  GoogLeNet's own normalisation, of three channels
    conv_name, conv = first_convolution(model, name)
    if in_channels != conv.in_channels:
        adapted = adapt_convolution(conv, in_channels, average=weights != "none")
        replace_layer(model, conv_name, adapted)
    return model, head.in_features


def first_convolution(model: nn.Module, name: str) -> tuple[str, nn.Conv2d]:
    """Return the name and the first of a model's 2D convolutions.

    Raises:
        InputError: It has none.
    """
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            return path, layer
    raise InputError(f"{name}: no convolution to adapt to the modality's channels")


def adapt_convolution(conv: nn.Conv2d, in_channels: int, *, average: bool) -> nn.Conv2d:
    """Return the same convolution for another number of input channels.

    Args:
        conv: A convolution on RGB.
        in_channels: Of the new one.
        average: Whether its weights are the mean of the old ones over their input channels,
            repeated (cross-modality initialisation); random otherwise.

    Source: Wang et al., TSN (ECCV 2016), section 3.2, cross modality pre-training.
    """
    if conv.groups != 1:
        raise InputError("a grouped first convolution cannot be adapted to other channels")
    adapted = nn.Conv2d(
        in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
    )
    if average:
        with torch.no_grad():
            mean = conv.weight.mean(dim=1, keepdim=True)  # (out, 1, h, w)
            adapted.weight.copy_(mean.expand_as(adapted.weight))
            if conv.bias is not None and adapted.bias is not None:
                adapted.bias.copy_(conv.bias)
    return adapted


def read_state(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Return the state dict in a file of PyTorch tensors; nothing in it is executed.

    Raises:
        InputError: There is no such file.
        CheckpointError: It holds something else than a state dict.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such weights file; give none, imagenet or a path")
    state = read_torch_file(path, "check --weights")
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise CheckpointError(f"{path}: a state dict (name to tensor) expected; check --weights")
    return {str(key).removeprefix("module."): value for key, value in state.items()}


def load_weights(
    model: nn.Module, state: dict[str, torch.Tensor], *, ignore: str, source: str
) -> None:
    """Load a state dict that must fit, apart from one layer.

    Args:
        model: Whose weights are replaced.
        state: By name.
        ignore: Entries whose names start so are left out, and those of auxiliary heads.
        source: Where the state comes from, for messages.

    Raises:
        CheckpointError: Something is missing, unexpected or of another shape.
    """
    state = {
        _OLD_NAME.sub(r"\1\2", key): value
        for key, value in state.items()
        if not key.startswith((ignore, *_AUXILIARY))
    }
    own = model.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    wrong = [key for key in own if key in state and own[key].shape != state[key].shape]
    problems = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", wrong),
        )
        if keys
    ]
    if problems:
        raise CheckpointError(
            f"{source}: the weights do not fit the model: {'; '.join(problems)}; "
            "check --backbone and --weights"
        )
    model.load_state_dict(state, strict=False)


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put another layer in the place of the one of that dotted name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def _last(model: nn.Module, kind: type[Layer], name: str) -> tuple[str, Layer]:
    found = [(path, layer) for path, layer in model.named_modules() if isinstance(layer, kind)]
    if not found:
        raise InputError(f"{name}: no {kind.__name__} layer to take off as classifier")
    return found[-1]
