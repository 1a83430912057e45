"""Reading files of PyTorch tensors; nothing in them is executed."""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import Any

import torch

from tsn_core.errors import CheckpointError

CHECKPOINT_FORMAT = "tsn-checkpoint"  # the "format" entry of what tsn-train saves


def read_torch_file(path: str | os.PathLike[str], remedy: str) -> Any:
    """Return what ``torch.save`` wrote, if that is tensors and plain values only.

    Args:
        path: Of the file.
        remedy: What to do about an unreadable file, for the message. PyTorch's own messages
            advise to execute what the file holds.

    Raises:
        CheckpointError: It cannot be read, is damaged, or holds anything else.
    """
    try:
        file = Path(path).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        if isinstance(error, PermissionError):
            remedy = "allow that"
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}; {remedy}") from None
    with file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickle protocols, of bytes that are no pickle
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # PyTorch answers hostile bytes with many kinds
            blocked = re.search(r"GLOBAL (\S+)", str(error))
            what = (
                f"holds {blocked[1]}, which could run anything; tensors and plain values expected"
                if blocked
                else "damaged, or not a file of PyTorch tensors"
            )
            raise CheckpointError(f"{path}: {what}; {remedy}") from None
