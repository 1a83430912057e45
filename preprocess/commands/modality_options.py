"""The options that say what is stored of a video, and what they mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from preprocess.batch_flow import TORCH_BACKEND
from preprocess.commands.options import device_option, gather
from preprocess.flow_defaults import PUBLISHED
from tsn_core.command_line import ModalityName, Size
from tsn_core.errors import InputError
from tsn_core.modality import CODECS, FLOW_ALGORITHMS, StoredModality, get_modality
from tsn_core.sampling import SnippetPlan


@dataclass(frozen=True)
class Stored:
    """What is stored of every video: these modalities, of these snippets.

    Attributes:
        modalities: What is stored.
        plan: Of which snippets.
        device: Where flow that is computed in batches is computed.
    """

    modalities: tuple[StoredModality, ...]
    plan: SnippetPlan
    device: str


def _stored(
    names: tuple[str, ...],
    flow: str | tuple[str, ...],
    flow_backend: str | None,
    device: str,
    flow_weights: str | None,
    flow_changes: tuple[str, ...],
    warp: bool,
    bound: float,
    changes: tuple[str, ...],
    size: tuple[int, int],
    short_side: int | None,
    snippets: int | None,
    dense: bool,
    fps: float | None,
    snippet_length: int | None,
    codec: str,
    quality: int,
) -> Stored:
    if snippets is None and not dense and fps is None:
        snippets = 25
    plan = SnippetPlan(snippets=snippets, dense=dense, fps=fps)
    from preprocess.devices import check_device_names, check_use, needs_gpu

    flows = (flow,) if isinstance(flow, str) else tuple(dict.fromkeys(flow))
    if flow_changes and len(flows) > 1:
        raise InputError(f"--flow-parameter needs a single --flow, got {', '.join(flows)}")
    if flow_weights is not None and "raft" not in flows:
        raise InputError(f"--flow-weights: only for --flow raft, got {', '.join(flows)}")
    check_device_names(device)
    if flow_backend is None:
        flow_backend = TORCH_BACKEND if needs_gpu(device) else "numba"
    by_name = _by_modality(changes, names)
    modalities = tuple(
        stored_modality(
            "warpedflow" if name == "flow" and warp else name,
            flow=algorithm,
            flow_backend=flow_backend,
            flow_weights=flow_weights or PUBLISHED,
            flow_changes=flow_changes,
            bound=bound,
            changes=by_name.get(name, ()),
            size=size,
            short_side=short_side,
            snippet_length=snippet_length,
            codec=codec,
            quality=quality,
        )
        for name in dict.fromkeys(names)
        for algorithm in (flows if name == "flow" else flows[:1])
    )
    check_use(device, modalities)
    return Stored(modalities, plan, device)


def stored_modality(
    name: str,
    *,
    flow: str,
    flow_backend: str = "numba",
    flow_weights: str = PUBLISHED,
    flow_changes: Sequence[str] = (),
    bound: float,
    changes: Sequence[str] = (),
    size: tuple[int, int],
    short_side: int | None,
    snippet_length: int | None,
    codec: str,
    quality: int,
) -> StoredModality:
    """Return the description of what the options ask to store of one modality."""
    from preprocess.flow import flow_parameters
    from preprocess.parameters import change_parameters

    kind = get_modality(name)
    if not 0 < bound < math.inf:
        raise InputError(f"--bound must be > 0 and finite, got {bound}")
    if kind.has_algorithm:
        own = flow_parameters(flow, flow_changes, flow_backend, flow_weights)
        parameters = {"bound": bound, **own}
    else:
        shared = {"bound": bound} if "bound" in kind.parameters else {}
        parameters = change_parameters({**kind.parameters, **shared}, changes, name)
    if kind.settle is not None:
        parameters = kind.settle(parameters)
    scale, zero = kind.scale_zero(parameters)
    for option, value in (("--short-side", short_side), ("--snippet-length", snippet_length)):
        if value is not None and value < 1:
            raise InputError(f"{option} must be > 0, got {value}")
    return StoredModality(
        name=name,
        snippet_length=kind.snippet_length
        if snippet_length is None or kind.frames_per_unit == 1
        else snippet_length,
        channels=kind.unit_channels,
        codec=codec,
        quality=quality if codec == "jpeg" else None,
        scale=scale,
        zero=zero,
        height=None if short_side else size[0],
        width=None if short_side else size[1],
        short_side=short_side,
        algorithm=flow if kind.has_algorithm else None,
        parameters=parameters,
    )


def _by_modality(changes: Sequence[str], names: Sequence[str]) -> dict[str, list[str]]:
    """Return ``NAME=VALUE`` by modality from ``MODALITY.NAME=VALUE``.

    Raises:
        InputError: A change is spelled otherwise, or its modality is not extracted.
    """
    found: dict[str, list[str]] = {}
    for change in changes:
        name, dot, rest = change.partition(".")
        if not dot or "=" not in rest:
            raise InputError(
                f"--parameter must be MODALITY.NAME=VALUE such as flowhsv.window=21, got {change!r}"
            )
        if name not in names:
            raise InputError(f"--parameter {change}: there is no --modality {name} beside it")
        if get_modality(name).has_algorithm:
            raise InputError(f"--parameter {change}: use --flow-parameter for {name}")
        found.setdefault(name, []).append(rest)
    return found


def _stored_options(names: tuple[str, ...], flow: str | tuple[str, ...]) -> Any:
    """Return a decorator for the options, of which these two have other defaults elsewhere."""
    several = not isinstance(flow, str)
    return gather(
        "stored",
        _stored,
        click.option(
            "--modality",
            "names",
            type=ModalityName(without=("warpedflow",)),
            multiple=True,
            default=names,
            help="May be repeated; one decode serves all.",
        ),
        click.option(
            "--flow",
            type=click.Choice(FLOW_ALGORITHMS),
            multiple=several,
            default=flow,
            help="Flow algorithm; may be repeated." if several else "Flow algorithm.",
        ),
        click.option(
            "--flow-backend",
            type=click.Choice(("numba", "opencv", TORCH_BACKEND)),
            help="Who computes tvl1: our own code one pair at a time, OpenCV, or our own code by "
            "torch, many pairs at a time on --device.  [default: numba; torch on a GPU]",
        ),
        device_option,
        click.option(
            "--flow-weights",
            metavar="FILE",
            help="Of raft: a state dict of torchvision's RAFT, or default for its own, which are "
            "downloaded once.  [default: default]",
        ),
        click.option(
            "--flow-parameter",
            "flow_changes",
            metavar="NAME=VALUE",
            multiple=True,
            help="Of the flow algorithm, such as median=1; may be repeated.",
        ),
        click.option(
            "--warp",
            is_flag=True,
            help="Take the camera's motion out of the flow: warpedflow shards.",
        ),
        click.option("--bound", type=float, default=20.0, help="Flow is clamped to ±BOUND px."),
        click.option(
            "--parameter",
            "changes",
            metavar="MODALITY.NAME=VALUE",
            multiple=True,
            help="Of a registered modality, such as flowhsv.window=21; may be repeated.",
        ),
        click.option("--size", type=Size(), default="340x256", help="Of the stored frames."),
        click.option(
            "--short-side",
            type=int,
            help="Length of the shorter side, keeping the aspect ratio; instead of --size.",
        ),
        click.option("--snippets", type=int, help="Snippets per video.  [default: 25]"),
        click.option("--dense", is_flag=True, help="Store every snippet instead."),
        click.option("--fps", type=float, help="Store snippets at this rate instead, in Hz."),
        click.option(
            "--snippet-length",
            type=int,
            help="Units per snippet of flow and rgbdiff.  [default: 5]",
        ),
        click.option(
            "--codec",
            type=click.Choice(CODECS),
            default="jpeg",
            help="How images are stored; raw needs no decoding and is many times larger.",
        ),
        click.option("--quality", type=click.IntRange(1, 100), default=95, help="Of the JPEGs."),
    )


stored_options = _stored_options(("rgb",), "tvl1")
_WITHOUT_WEIGHTS = tuple(name for name in FLOW_ALGORITHMS if name != "raft")
every_stored_options = _stored_options(("rgb", "rgbdiff", "flow"), _WITHOUT_WEIGHTS)
videos_per_shard_option = click.option(
    "--videos-per-shard",
    type=int,
    help="Videos in one file.  [default: 64, fewer if that made less than 16 shards]",
)
