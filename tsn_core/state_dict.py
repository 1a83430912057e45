"""State dicts that come from files: what they hold, and whether they fit a model."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import nn

from tsn_core.errors import CheckpointError
from tsn_core.listing import few


def plain_state(content: Any, path: str | os.PathLike[str], remedy: str) -> dict[str, torch.Tensor]:
    """Return the state dict in what a file holds, without what ``DataParallel`` puts before names.

    Args:
        content: A state dict, or one under ``state_dict``, as some trainers write it.
        path: Of the file, for messages.
        remedy: What to do about another content, for messages.

    Raises:
        CheckpointError: It is something else.
    """
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise CheckpointError(f"{path}: a state dict (name to tensor) expected; {remedy}")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def load_state(
    model: nn.Module, state: dict[str, torch.Tensor], *, source: str, remedy: str
) -> None:
    """Load a state dict, which must fit.

    Args:
        model: Whose weights are replaced.
        state: By name.
        source: Where the state comes from, for messages.
        remedy: What to do where it does not fit, for messages.

    Raises:
        CheckpointError: Something is missing, unexpected, of another shape or not finite.
    """
    own = model.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in state if key not in own]
    wrong = [key for key in own if key in state and own[key].shape != state[key].shape]
    broken = [key for key in own if key in state and not state[key].isfinite().all()]
    problems = [
        f"{len(keys)} {what} ({few(keys)})"
        for what, keys in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", wrong),
            ("not finite", broken),
        )
        if keys
    ]
    if problems:
        raise CheckpointError(
            f"{source}: the weights do not fit the model: {'; '.join(problems)}; {remedy}"
        )
    model.load_state_dict(state, strict=False)
