"""The weights of learnt flow, kept on this machine under the sha256 of their file.

A shard says by the sha256 of a file with which weights its flow was computed, wherever that lay.
Every process of an extraction, and whoever extracts more in the same way later, finds it here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from preprocess.flow_defaults import PUBLISHED
from tsn_core.atomic import atomic_path
from tsn_core.catalog import sha256_of
from tsn_core.errors import CheckpointError, InputError
from tsn_core.modality import StoredModality
from tsn_core.shard_cache import FOLDER_VARIABLE, default_folder

_SHA256 = re.compile(r"[0-9a-f]{64}")


def keep_weights(source: str, network: str) -> str:
    """Check weights of RAFT, keep them on this machine, and return the sha256 of their file.

    Args:
        source: Of a state dict of torchvision's RAFT, or ``default`` for torchvision's own weights,
            which are downloaded once.
        network: ``large`` or ``small``.

    Raises:
        InputError: There is no such file, or no network to download it with.
        CheckpointError: The file does not fit the network.
        OutputError: They cannot be kept.
    """
    from preprocess.raft import read_network

    path = _published(network) if source == PUBLISHED else Path(source)
    if path is None or not path.is_file():
        raise InputError(f"{source}: no such weights file; give --flow-weights default or a path")
    read_network(path, network)
    data = path.read_bytes()
    digest = sha256_of(data)
    kept = _kept(digest)
    if not (kept.is_file() and sha256_of(kept.read_bytes()) == digest):
        with atomic_path(kept) as temporary:
            temporary.write_bytes(data)
    return digest


def find_weights(digest: str, network: str) -> Path:
    """Return the file of weights of RAFT, downloading it where torchvision has published it.

    Raises:
        InputError: It is not known on this machine.
        CheckpointError: The file is another one by now.
    """
    if not _SHA256.fullmatch(digest):
        raise InputError(
            f"flow raft: a sha256 of weights expected in the shards, got {digest!r}; extract again"
        )
    path = _kept(digest)
    if not path.is_file():
        path = _published(network, digest) or path
    if not path.is_file():
        raise InputError(
            f"flow raft: weights of sha256 {digest} are not known on this machine; name their file "
            f"once with --flow-weights, or copy it to {path}"
        )
    found = sha256_of(path.read_bytes())
    if found != digest:
        raise CheckpointError(
            f"{path}: weights of sha256 {digest} expected, got {found}; delete that file, and name "
            "the right one once with --flow-weights"
        )
    return path


def check_weights(modalities: Iterable[StoredModality], given: str | None = None) -> None:
    """Check that this machine has the weights that modalities were computed with, if any.

    Args:
        modalities: What is to be made.
        given: The file of the weights; None where this machine should know them.

    Raises:
        InputError: It has not, or none of the modalities needs the file.
        CheckpointError: The file is another one.
    """
    wanted = [modality.parameters for modality in modalities if modality.algorithm == "raft"]
    if given is not None and not wanted:
        raise InputError(f"--flow-weights {given}: no flow of raft is to be computed")
    for parameters in wanted:
        digest, network = str(parameters.get("weights")), str(parameters.get("network"))
        if given is not None:
            found = keep_weights(given, network)
            if found != digest:
                raise CheckpointError(
                    f"{given}: weights of sha256 {digest} expected, with which the training flow "
                    f"was computed, got {found}; name that file with --flow-weights"
                )
        find_weights(digest, network)


def _kept(digest: str) -> Path:
    folder = os.environ.get(FOLDER_VARIABLE)
    return (Path(folder) if folder else default_folder()) / "flow-weights" / f"{digest}.pth"


def _published(network: str, digest: str = "") -> Path | None:
    from tsn_core.torchvision_models import flow_weights

    return flow_weights(network, digest)
