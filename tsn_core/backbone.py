"""The feature extractor of a TSN: any torchvision classification model, or ``conv8``.

The first convolution is adapted to the modality's channels and the layer that gives the class
scores is taken off; both are found generically, by their place in the model.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tsn_core.conv8 import Conv8
from tsn_core.errors import CheckpointError, InputError
from tsn_core.state_dict import load_state, plain_state
from tsn_core.torch_file import CHECKPOINT_FORMAT, read_torch_file
from tsn_core.torchvision_models import imagenet_weights, make_model

_OWN = {"conv8": Conv8}  # backbones that torchvision does not have
# In torchvision's own files: heads that only training on ImageNet used, and DenseNet's old names.
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
_OLD_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")


def make_backbone(name: str, in_channels: int, weights: str) -> tuple[nn.Module, int]:
    """Return a feature extractor and the number of its features.

    Weights that were made for another number of channels, such as RGB's 3, become those of
    ``in_channels`` by ``average_channels``.

    Args:
        name: Of a torchvision classification model, or ``conv8``.
        in_channels: Channels of one snippet: L units of C channels.
        weights: ``none`` for random ones, ``imagenet`` for torchvision's, or a path: of a state
            dict of the model, whose classifier is not used, or of a checkpoint of ``tsn-train``
            with that backbone, of any modality.

    Returns:
        A module that takes (N, in_channels, H, W) to pooled features (N, F), and F.

    Raises:
        InputError: There is no such model or file, the model has no convolution to adapt, or there
            are no such weights of it.
        CheckpointError: The file does not fit the model.
    """
    model: nn.Module
    head: tuple[str, ...] = ()
    if name in _OWN:
        model = _OWN[name]()
        num_features = _OWN[name].num_features
        if weights == "imagenet":
            raise InputError(
                f"{name} has no ImageNet weights; give --weights none, or the path of its own"
            )
    else:
        model = make_model(name)
        head_name, num_features = find_classifier(model, name)
        replace_layer(model, head_name, nn.Identity())
        head = (f"{head_name}.",)
    for layer in model.modules():
        if isinstance(layer, nn.Dropout):
            layer.p = 0.0  # TSN has its own, after the pooling
    if hasattr(model, "transform_input"):
        # GoogLeNet's and Inception's weights are for another normalisation of RGB than all others;
        # so they turn the usual one into theirs.
        setattr(model, "transform_input", in_channels == 3)  # noqa: B010  not a module
    conv_name, conv = first_convolution(model, name)
    if in_channels != conv.in_channels:
        if conv.groups != 1:
            raise InputError(
                f"{name}: its first convolution has {conv.groups} groups, so that it cannot be "
                f"adapted to {in_channels} channels; choose another --backbone"
            )
        replace_layer(model, conv_name, adapt_convolution(conv, in_channels))
    if weights != "none":
        state = imagenet_weights(name) if weights == "imagenet" else read_state(weights, name)
        key = f"{conv_name}.weight"
        given = state.get(key)
        if given is not None and given.ndim == 4 and given.numel() and given.is_floating_point():
            state = {**state, key: average_channels(given, in_channels)}
        load_weights(model, state, ignore=head, source=weights)
    return model, num_features


def first_convolution(model: nn.Module, name: str) -> tuple[str, nn.Conv2d]:
    """Return the name and the first of a model's 2D convolutions.

    Raises:
        InputError: It has none.
    """
    for path, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            return path, layer
    raise InputError(
        f"{name}: no convolution to adapt to the modality's channels; choose another --backbone"
    )


def adapt_convolution(conv: nn.Conv2d, in_channels: int) -> nn.Conv2d:
    """Return the same convolution for another number of input channels, with random weights."""
    assert conv.groups == 1
    return nn.Conv2d(
        in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        conv.dilation,  # type: ignore[arg-type]
        bias=conv.bias is not None,
        padding_mode=conv.padding_mode,
    )


def average_channels(weight: torch.Tensor, in_channels: int) -> torch.Tensor:
    """Return the weights of a convolution for another number of input channels.

    Args:
        weight: Shape (out, channels, h, w).
        in_channels: Of the new weights.

    Returns:
        The mean over the channels, repeated, shape (out, in_channels, h, w); ``weight`` itself
        where it has so many.

    Source: Wang et al., TSN (ECCV 2016), section 3.2, cross modality pre-training.
    """
    if weight.shape[1] == in_channels:
        return weight
    return weight.mean(dim=1, keepdim=True).expand(-1, in_channels, -1, -1)


def read_state(path: str | os.PathLike[str], backbone: str) -> dict[str, torch.Tensor]:
    """Return the state dict of a backbone in a file of tensors; nothing in it is executed.

    Args:
        path: Of a state dict, or of a checkpoint of ``tsn-train``.
        backbone: Which one is wanted; a checkpoint says which one it has.

    Raises:
        InputError: There is no such file.
        CheckpointError: It holds something else, or another backbone.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such weights file; give none, imagenet or a path")
    state = read_torch_file(path, "check --weights")
    if isinstance(state, dict) and state.get("format") == CHECKPOINT_FORMAT:
        state = _backbone_of_checkpoint(state, path, backbone)
    state = plain_state(state, path, "check --weights")
    if any(key.startswith("base_model.") for key in state):
        raise CheckpointError(
            f"{path}: a checkpoint of tsn-pytorch or TSM; make a run of it with tsn-train "
            "import-checkpoint, and give the last.pt of that"
        )
    return state


def _backbone_of_checkpoint(
    content: dict[str, Any], path: str | os.PathLike[str], backbone: str
) -> Any:
    settings, state = content.get("settings"), content.get("model")
    had = settings.get("backbone") if isinstance(settings, dict) else None
    if had != backbone:
        raise CheckpointError(
            f"{path}: a checkpoint of {had}, this run has {backbone}; choose that --backbone, or "
            "other --weights"
        )
    if not isinstance(state, dict):
        return None
    prefix = "backbone."
    return {
        str(key).removeprefix(prefix): value
        for key, value in state.items()
        if str(key).startswith(prefix)
    }


def load_weights(
    model: nn.Module, state: dict[str, torch.Tensor], *, ignore: tuple[str, ...], source: str
) -> None:
    """Load a state dict that must fit, apart from the classifier.

    Args:
        model: Whose weights are replaced.
        state: By name.
        ignore: Entries whose names start with one of these are left out, and those of auxiliary
            heads.
        source: Where the state comes from, for messages.

    Raises:
        CheckpointError: Something is missing, unexpected, of another shape or not finite.
    """
    state = {
        _OLD_NAME.sub(r"\1\2", key): value
        for key, value in state.items()
        if not key.startswith((*ignore, *_AUXILIARY))
    }
    load_state(model, state, source=source, remedy="check --backbone and --weights")


def replace_layer(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put another layer in the place of the one of that dotted name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)


def find_classifier(model: nn.Module, name: str) -> tuple[str, int]:
    """Return the name of the layer that gives the class scores, and the number of its features.

    It is the last linear layer; in SqueezeNet, which has none, the last 1x1 convolution.

    Raises:
        InputError: There is no such layer.
    """
    layers = list(model.named_modules())
    for path, layer in reversed(layers):
        if isinstance(layer, nn.Linear):
            return path, layer.in_features
    for path, layer in reversed(layers):
        if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1):
            return path, layer.in_channels
    raise InputError(
        f"{name}: no linear layer and no 1x1 convolution to take off as classifier; choose another "
        "--backbone"
    )
