"""How flow is computed in batches: an algorithm with its parameters, as one line of JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from preprocess.batch_flow import TORCH_BACKEND, make_batch_flow
from preprocess.flow_defaults import COLOUR_FLOWS

if TYPE_CHECKING:
    from preprocess.batch_flow import BatchFlow
    from tsn_core.modality import StoredModality

_IN_BATCHES = COLOUR_FLOWS  # learnt ones in batches alone; tvl1 where its backend says so


def method_of(modality: StoredModality) -> str | None:
    """Return the method of a modality's flow; None where it has none, or one pair at a time."""
    algorithm = modality.algorithm
    parameters = {name: value for name, value in modality.parameters.items() if name != "bound"}
    if algorithm in _IN_BATCHES or (
        algorithm == "tvl1" and parameters.get("backend") == TORCH_BACKEND
    ):
        return json.dumps({"algorithm": algorithm, "parameters": parameters}, sort_keys=True)
    return None


def make_flow(method: str, device: str) -> BatchFlow:
    """Return what computes the flow of a method; see ``make_batch_flow``. Loads torch.

    Args:
        method: As ``method_of`` returns it.
        device: As ``find_devices`` calls it.
    """
    content: dict[str, Any] = json.loads(method)
    return make_batch_flow(content["algorithm"], content["parameters"], torch_name(device))


def torch_name(device: str) -> str:
    """Return what torch calls a device.

    Examples:
        >>> torch_name("cpu:3"), torch_name("cuda:1")
        ('cpu', 'cuda:1')
    """
    return "cpu" if device.startswith("cpu") else device
