"""Networks for other programs: ONNX files and programs of ``torch.export``, checked when made.

Both take uint8 snippets as the shards hold them, (N, K, L * C, H, W), and have the normalisation
inside: there is nothing to get wrong outside.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from train.augmentation import test_views
from train.evaluate import check_snippets_fit
from tsn_core.atomic import atomic_path, write_text
from tsn_core.errors import CheckpointError, InputError, MissingDependencyError, TSNError
from tsn_core.location import location
from tsn_core.planes import by_snippet
from tsn_core.sampling import center_offsets
from tsn_core.shard_set import ShardSet
from tsn_core.tsn import TSN
from tsn_core.version import __version__

KINDS = ("onnx", "torch-export")
PARTS = ("whole", "backbone")
METADATA_KEY = "tsn"  # in the ONNX file's properties, and of the text beside a program
_ANY_NUMBER = ("avg", "max", "attention")  # consensus of however many snippets there are
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")  # of a terminal, in the exporters' texts
_NEEDED = ("onnx", "onnxscript", "onnxruntime")


class _Whole(nn.Module):
    """Snippets to the scores of videos."""

    def __init__(self, model: TSN) -> None:
        super().__init__()
        self.model = model

    def forward(self, snippets: torch.Tensor) -> torch.Tensor:
        return self.model(snippets)[0]


class _Backbone(_Whole):
    """Snippets to their pooled features."""

    def forward(self, snippets: torch.Tensor) -> torch.Tensor:
        return self.model.snippet_features(snippets)


@dataclass(frozen=True)
class ExportSettings:
    """What is exported.

    Attributes:
        kind: One of ``KINDS``.
        part: One of ``PARTS``: the whole network, or the pooled features of its backbone.
        input_size: Side of the crops in px, H and W.
        num_snippets: K, where it cannot be left open; None takes that of the training.
        tolerance: Largest difference to PyTorch, as a share of the largest output.
    """

    kind: str
    part: str
    input_size: int
    num_snippets: int | None
    tolerance: float

    def __post_init__(self) -> None:
        for name in ("input_size", "num_snippets"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be > 0, got {value}")
        if not self.tolerance > 0:
            raise InputError(f"tolerance must be > 0, got {self.tolerance}")


def open_snippets(model: TSN, part: str) -> bool:
    """Return whether a network takes any number of snippets without changing its arithmetic."""
    if model.settings.temporal_shift:
        return False
    return part == "backbone" or model.settings.consensus in _ANY_NUMBER


def describe(
    model: TSN, class_names: Sequence[str], settings: ExportSettings, source: object
) -> dict[str, Any]:
    """Return what the user of an exported network must know, in plain values."""
    network = model.settings
    open_number = open_snippets(model, settings.part)
    number = None if open_number else settings.num_snippets or network.num_segments
    height = width = settings.input_size
    whole = settings.part == "whole"
    return {
        "format": "tsn-export",
        "version": 1,
        "made_by": f"tsn-shards {__version__}, torch {torch.__version__}",
        "source": str(source),
        "part": settings.part,
        "modality": network.modality,
        "snippet_length": network.snippet_length,
        "backbone": network.backbone,
        "consensus": network.consensus,
        "class_names": list(class_names),
        "input": {
            "name": "snippets",
            "dtype": "uint8",
            "shape": ["videos", number or "snippets", len(model.mean), height, width],
        },
        "output": {
            "name": "scores" if whole else "features",
            "dtype": "float32",
            "shape": ["videos", len(class_names)]
            if whole
            else ["videos", number or "snippets", _num_features(model, settings.input_size)],
        },
        "mean": model.mean.flatten().tolist(),
        "std": model.std.flatten().tolist(),
        "normalisation": "inside",
    }


def _num_features(model: TSN, input_size: int) -> int:
    snippets = torch.zeros(1, 1, len(model.mean), input_size, input_size, dtype=torch.uint8)
    with torch.inference_mode():
        return model.eval().snippet_features(snippets).shape[-1]


def export(
    model: TSN, description: dict[str, Any], settings: ExportSettings, path: Path, real: np.ndarray
) -> dict[str, float]:
    """Write a network and its description, if it computes what PyTorch does.

    Args:
        model: What is exported; it is put into testing.
        description: See ``describe``; goes into the file, and beside it as JSON.
        settings: What is exported.
        path: File to write; the description goes to ``path`` with ``.json`` added.
        real: Snippets of real videos for the comparison, (V, K, L * C, H, W) uint8; V may be 0.

    Returns:
        The largest difference to PyTorch, as a share of the largest output, by the name of the
        input: ``random`` and, if there was any, ``real``.

    Raises:
        MissingDependencyError: ONNX is not installed.
        InputError: The network cannot be exported.
        CheckpointError: The differences are beyond the tolerance; nothing is written.
        OutputError: The files cannot be written.
    """
    if settings.kind == "onnx":
        _check_onnx()
    module = (_Whole if settings.part == "whole" else _Backbone)(model.cpu().eval()).eval()
    inputs = {"random": list(_random_inputs(description))}
    if len(real):
        inputs["real"] = [real]
    text = json.dumps(description, indent=1)
    with atomic_path(path) as temporary:
        with _quiet(), _explaining(model):
            _WRITERS[settings.kind](module, description, temporary)
            run = _READERS[settings.kind](temporary)
            differences = {
                name: max(_difference(module, run, part) for part in parts)
                for name, parts in inputs.items()
            }
        name, worst = max(differences.items(), key=lambda item: item[1])
        if not worst <= settings.tolerance:
            raise CheckpointError(
                f"{path}: differs from PyTorch by {worst:.2g} of the largest output on {name} "
                f"input, at most {settings.tolerance:.2g} expected; nothing was written; try "
                "another version of onnxruntime or torch, or allow it with --tolerance"
            )
    write_text(path.with_name(f"{path.name}.json"), text + "\n")
    return differences


def _check_onnx() -> None:
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingDependencyError(
            f"{', '.join(missing)} not installed; run: pip install 'tsn-shards[onnx]'"
        )


def _random_inputs(description: dict[str, Any]) -> Iterator[np.ndarray]:
    """Yield one video and three, and several numbers of snippets where they are open."""
    generator = np.random.default_rng(0)
    _, number, *image = description["input"]["shape"]
    for videos, snippets in ((1, 1), (3, 4)):
        shape = (videos, snippets if number == "snippets" else number, *image)
        yield generator.integers(0, 256, shape, dtype=np.uint8)


def _difference(
    module: nn.Module, run: Callable[[np.ndarray], np.ndarray], snippets: np.ndarray
) -> float:
    with torch.inference_mode():
        expected = module(torch.from_numpy(snippets)).numpy()
    found = run(snippets)
    if found.shape != expected.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-12))


def _program(module: nn.Module, description: dict[str, Any]) -> tuple[torch.Tensor, Any]:
    """Return an example of the input, and which of its sides are open."""
    _, number, *image = description["input"]["shape"]
    sides: dict[int, Any] = {0: torch.export.Dim("videos")}
    if number == "snippets":
        sides[1] = torch.export.Dim("snippets")
        number = 3
    return torch.zeros(2, number, *image, dtype=torch.uint8), {"snippets": sides}


def _write_onnx(module: nn.Module, description: dict[str, Any], path: Path) -> None:
    import onnx

    example, sides = _program(module, description)
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        dynamic_shapes=sides,
        input_names=["snippets"],
        output_names=[description["output"]["name"]],
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {METADATA_KEY: json.dumps(description)})
    with path.open("wb") as file:
        file.write(proto.SerializeToString())


def _read_onnx(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return lambda snippets: session.run(None, {"snippets": snippets})[0]


def _write_program(module: nn.Module, description: dict[str, Any], path: Path) -> None:
    example, sides = _program(module, description)
    program = torch.export.export(module, (example,), dynamic_shapes=sides)
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={METADATA_KEY: json.dumps(description)})


def _read_program(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    with path.open("rb") as file:
        module = torch.export.load(file).module()

    def run(snippets: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(snippets)).numpy()

    return run


_WRITERS = {"onnx": _write_onnx, "torch-export": _write_program}
_READERS = {"onnx": _read_onnx, "torch-export": _read_program}


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' remarks about their own insides from the user."""
    loggers = [logging.getLogger(name) for name in ("torch", "torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)


@contextmanager
def _explaining(model: TSN) -> Iterator[None]:
    """Turn what the exporters cannot do with a network into one line."""
    try:
        yield
    except Exception as error:
        kind = type(error)
        if _interrupted(error):
            raise KeyboardInterrupt from error
        if not kind.__module__.startswith(("torch.", "onnx")):
            raise
        reason = _COLOUR.sub("", str(error)).strip().split("\n")[0].rstrip(".:")
        raise InputError(
            f"{model.settings.backbone} with {model.settings.consensus} cannot be exported: "
            f"{kind.__name__}: {reason[:300]}; choose another --to"
        ) from error


def _interrupted(error: BaseException | None) -> bool:
    """Return whether the user's interruption is what an exporter wraps into an error of its own."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def real_snippets(
    model: TSN,
    description: dict[str, Any],
    config: dict[str, Any],
    shards: Path | None,
    most: int,
) -> tuple[np.ndarray, str]:
    """Return snippets of a few videos to compare on, and what to say if there are none.

    Args:
        model: What is exported.
        description: See ``describe``.
        config: Of the run.
        shards: Of a dataset; None takes those of the training.
        most: Videos.

    Returns:
        Middle crops of snippets at the centres of equal parts, (V, K, L * C, H, W) uint8, and an
        empty text; or V = 0, and why.

    Raises:
        ShardError: The shards that were named are not there, or damaged.
        CheckpointError: They are of another modality.
    """
    number, height = description["input"]["shape"][1], description["input"]["shape"][3]
    root = shards or (location(config["shards"]) if config["shards"] else None)
    empty = np.empty((0,), np.uint8)
    if root is None:
        return empty, "the run names no shards: compared on random input only"
    try:
        opened = ShardSet(root / config["modality_folder"])
        check_snippets_fit(model, opened, "the run")
    except (TSNError, OSError) as error:
        if shards is not None:
            raise
        return empty, f"compared on random input only: {error}"
    snippets = model.settings.num_segments if number == "snippets" else number
    videos = []
    for video in range(min(most, len(opened))):
        chosen = center_offsets(int(opened.num_snippets[video]), snippets, 1)
        units = opened.unit_views(video, chosen)
        (view,) = test_views(units, 1, height, opened.modality.kind)
        videos.append(by_snippet(view, len(chosen)))
    return np.stack(videos) if videos else empty, ""
