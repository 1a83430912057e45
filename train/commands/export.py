"""``tsn-train export``."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from train.commands.options import PATH, checkpoint_option, shards_option, stderr_console
from tsn_core.errors import InputError
from tsn_core.notice import say

_VIDEOS = 4  # of the test, to compare on
_OF_PROGRAMS = ("part", "input_size", "num_snippets", "tolerance", "shards")


@click.command()
@click.argument("run", type=PATH)
@click.option(
    "--to",
    "kind",
    type=click.Choice(["onnx", "torch-export", "tsn-pytorch"]),
    required=True,
    help="ONNX, a program of torch.export, or the weights under tsn-pytorch's names.",
)
@checkpoint_option
@click.option(
    "--part",
    type=click.Choice(["whole", "backbone"]),
    default="whole",
    help="Scores of videos, or pooled features of their snippets.",
)
@click.option("--input-size", type=int, help="Side of the crops in px.  [default: the run's]")
@click.option(
    "--num-snippets",
    type=int,
    help="Of a video, where the consensus needs to know it; avg, max and attention take any "
    "number.  [default: segments of the training]",
)
@click.option(
    "--tolerance",
    type=float,
    default=1e-4,
    help="Largest difference to PyTorch, as a share of the largest output.",
)
@shards_option("With videos to compare on.  [default: those of the training, if they are there]")
@click.option("--out", type=PATH, required=True, help="File to write.")
def export(
    run: Path,
    kind: str,
    checkpoint: str,
    part: str,
    input_size: int | None,
    num_snippets: int | None,
    tolerance: float,
    shards: Path | None,
    out: Path,
) -> None:
    """Write a trained network for other programs.

    ONNX files and programs of torch.export take uint8 snippets as the shards hold them, (videos,
    snippets, channels, height, width), have the normalisation inside, and give scores before
    softmax. They are compared with PyTorch on random and on real input before they get their name;
    classes, modality and sizes go into the file, and beside it as JSON.

    ONNX needs: pip install 'tsn-shards[onnx]'

    Example: tsn-train export runs/flow --to onnx --out flow.onnx
    """
    from train.exported import ExportSettings, describe, real_snippets
    from train.exported import export as export_to
    from train.imported_run import export_network
    from train.run_folder import RunFolder, chosen_checkpoint, load_checkpoint

    if kind == "tsn-pytorch":
        _refuse_options_of_programs()
    folder = RunFolder(run)
    config = folder.read_config()
    checkpoint = chosen_checkpoint(config, checkpoint)
    path = folder.checkpoint(checkpoint)
    model, class_names, progress = load_checkpoint(path)
    if kind == "tsn-pytorch":
        export_network(model, out, path, progress)
        click.echo(f"{out}: weights of {path} under tsn-pytorch's names")
        return
    settings = ExportSettings(
        kind, part, input_size or config["input_size"], num_snippets, tolerance
    )
    description = describe(model, class_names, settings, path)
    real, remark = real_snippets(model, description, config, shards, _VIDEOS)
    if remark:
        stderr_console().print(remark, highlight=False, markup=False, soft_wrap=True)
    say(f"writing {out} and comparing it with PyTorch; this takes up to a minute")
    differences = export_to(model, description, settings, out, real)
    told = ", ".join(f"{value:.1e} on {name} input" for name, value in differences.items())
    shape = ", ".join(map(str, description["input"]["shape"]))
    click.echo(
        f"{out}: {kind}, uint8 ({shape}) to {description['output']['name']}, "
        f"{out.stat().st_size / 1e6:.1f} MB\n"
        f"largest difference to PyTorch, of the largest output: {told}; {tolerance:g} allowed\n"
        f"{out}.json: classes, modality, sizes"
    )


def _refuse_options_of_programs() -> None:
    """Refuse what weights alone do not depend on, instead of ignoring it."""
    context = click.get_current_context()
    typed = [
        f"--{name.replace('_', '-')}"
        for name in _OF_PROGRAMS
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    ]
    if typed:
        raise InputError(
            f"--to tsn-pytorch writes weights, to which {', '.join(typed)} means nothing; leave it "
            "out, or choose --to onnx or torch-export"
        )
