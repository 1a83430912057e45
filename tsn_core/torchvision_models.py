"""torchvision's classification models and RAFT, also where its compiled extension cannot be loaded.

torchvision's wheels are compiled for one build of torch. Beside another one (a CPU build of torch
with the CUDA build of torchvision, say) ``import torchvision`` stops with ``operator
torchvision::nms does not exist``, though its models need none of the compiled operators. Declaring
their schemas first is enough. Everything here imports torchvision through this module.
"""

from __future__ import annotations

import functools
import importlib
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from tsn_core.errors import InputError, MissingDependencyError
from tsn_core.notice import say

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


@functools.cache
def load_torchvision() -> ModuleType:
    """Import torchvision and return it.

    Raises:
        MissingDependencyError: It is not installed, or does not fit this torch at all.
    """
    try:
        return importlib.import_module("torchvision")
    except ModuleNotFoundError:
        raise MissingDependencyError(
            "torchvision is not installed; run: pip install torchvision"
        ) from None
    except (RuntimeError, OSError) as error:
        if "torchvision::" not in str(error):
            raise
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported
    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    try:
        module = importlib.import_module("torchvision")
    except (RuntimeError, OSError) as error:
        raise MissingDependencyError(
            f"torchvision does not fit torch {torch.__version__}: {error}; reinstall the pair"
        ) from None
    module._tsn_schemas = library  # type: ignore[attr-defined]  # they live as long as it does
    return module


def model_names() -> list[str]:
    """Return the names of torchvision's classification models."""
    models = load_torchvision().models
    return models.list_models(module=models)


def make_model(name: str) -> torch.nn.Module:
    """Return a randomly initialised classification model.

    Raises:
        InputError: torchvision has none of that name.
    """
    if name not in model_names():
        raise InputError(
            f"unknown backbone {name!r}; any of torchvision's classification models, such as "
            "resnet18, resnet50, mobilenet_v2, googlenet, or conv8"
        )
    options: dict[str, Any] = {}
    if name in ("googlenet", "inception_v3"):  # without their auxiliary heads
        options = {"aux_logits": False, "init_weights": True}
    return load_torchvision().models.get_model(name, weights=None, **options)


def imagenet_classes(name: str) -> tuple[str, ...]:
    """Return the names of the 1000 classes that torchvision's weights of a model know, by id.

    Raises:
        InputError: There are no such weights.
    """
    try:
        weights = load_torchvision().models.get_model_weights(name).DEFAULT
        return tuple(weights.meta["categories"])
    except (AttributeError, KeyError, ValueError):
        raise InputError(f"{name}: torchvision does not name its classes") from None


def imagenet_weights(name: str) -> dict[str, torch.Tensor]:
    """Return torchvision's ImageNet weights of a model, downloaded unless cached.

    A line on standard error tells of a download before it begins, in the place of torch's.

    Raises:
        InputError: They cannot be downloaded, or there are none.
    """
    models = load_torchvision().models
    try:
        weights = models.get_model_weights(name).DEFAULT
    except (AttributeError, ValueError):
        raise InputError(
            f"torchvision has no ImageNet weights of {name}; give a file with --weights PATH, or "
            "use --weights none"
        ) from None
    return _fetched(
        weights, f"ImageNet weights of {name}", "give it with --weights PATH, or use --weights none"
    )


def flow_network(name: str) -> torch.nn.Module:
    """Return torchvision's RAFT, randomly initialised.

    Args:
        name: ``large`` or ``small``.
    """
    return load_torchvision().models.get_model(f"raft_{name}", weights=None)


def flow_weights(name: str, sha256: str = "") -> Path | None:
    """Return the file of torchvision's weights of RAFT, downloaded unless cached.

    Args:
        name: ``large`` or ``small``.
        sha256: Of the file that is wanted, hexadecimal; none takes torchvision's default.

    Returns:
        The file; None where torchvision has published none of that sha256, of which the names of
        its files show the beginning.

    Raises:
        InputError: It cannot be downloaded.
    """
    published = load_torchvision().models.get_model_weights(f"raft_{name}")
    if not sha256:
        found = [published.DEFAULT]
    else:
        found = [one for one in published if sha256.startswith(_digest_in_name(one))]
    if not found:
        return None
    _fetched(found[0], f"weights of raft {name}", "give it with --flow-weights PATH")
    return _hub_file(found[0])


def _hub_file(weights: Any) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]


def _digest_in_name(weights: Any) -> str:
    return _hub_file(weights).stem.rpartition("-")[2]


def _fetched(weights: Any, what: str, remedy: str) -> dict[str, torch.Tensor]:
    """Return published weights, downloaded unless cached.

    Raises:
        InputError: They cannot be downloaded.
    """
    file = _hub_file(weights)
    if not file.exists():
        say(f"downloading the {what} once, {weights.meta['_file_size']:.0f} MB, to {file}")
    try:
        with redirect_stdout(StringIO()):
            return weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{what} could not be downloaded from {weights.url} ({error}); "
            f"download that file elsewhere and {remedy}"
        ) from None
