"""``tsn-train import-scores`` and ``tsn-train export-scores``."""

from __future__ import annotations

from pathlib import Path

import click

from train.commands.options import PATH
from tsn_core.errors import InputError

_FORMATS = ("mmaction2", "csv", "json", "npz")  # of train.score_formats, which loads NumPy


@click.command("import-scores")
@click.argument("file", type=PATH)
@click.option(
    "--from",
    "kind",
    type=click.Choice(_FORMATS),
    help="What wrote the file.  [default: what its name tells]",
)
@click.option(
    "--list",
    "list_file",
    type=PATH,
    metavar="FILE",
    help="Of the tested videos: lines 'path label' or 'path num_frames label', in their order.",
)
@click.option("--classes", type=PATH, metavar="FILE", help="Their names, one a line, by class id.")
@click.option(
    "--like",
    type=PATH,
    metavar="RUN_OR_SCORES",
    help="A tested run on the same videos: its classes, and its spelling of their names.",
)
@click.option("--name", help="What tables call the scores.  [default: the file's name]")
@click.option(
    "--allow-pickle",
    is_flag=True,
    help="Read a pickle; nothing in it is executed, and what is not data is refused.",
)
@click.option(
    "--probabilities/--scores",
    default=None,
    help="Take logarithms, as fusion is of scores before softmax.  [default: where they add to 1]",
)
@click.option("--out", type=PATH, required=True, help="Folder for scores.npz and the metrics.")
def import_scores(
    file: Path,
    kind: str | None,
    list_file: Path | None,
    classes: Path | None,
    like: Path | None,
    name: str | None,
    allow_pickle: bool,
    probabilities: bool | None,
    out: Path,
) -> None:
    """Take over the scores of another program, to fuse and compare.

    Of mmaction2 that is what tools/test.py --dump writes. Writes what evaluate does.

    Example: tsn-train import-scores result.pkl --from mmaction2 --allow-pickle
    --list val.txt --like runs/flow --out runs/mmaction2
    """
    from train.foreign_scores import are_probabilities, read_classes, read_list, to_scores
    from train.results import RESULT_FILES, results_text, write_results
    from train.score_formats import format_of, read_results
    from train.scores import SCORES_NAME, read_scores

    if (out / SCORES_NAME).exists():
        raise InputError(f"--out {out}: holds scores already; choose another folder")
    listed = None if list_file is None else read_list(list_file)
    known = None if like is None else read_scores(like)
    names = None if classes is None else read_classes(classes)
    wanted = names or (None if known is None else tuple(known.class_names.tolist()))
    results = read_results(
        file,
        kind or format_of(file),
        num_videos=None if listed is None else len(listed[0]),
        num_classes=None if wanted is None else len(wanted),
        allow_pickle=allow_pickle,
    )
    if probabilities is None:
        probabilities = are_probabilities(results.scores)
        if probabilities:
            click.echo("the scores are probabilities: their logarithms are taken", err=True)
    scores = to_scores(
        results,
        name=name or file.stem,
        source=file,
        listed=listed,
        class_names=names,
        like=known,
        probabilities=probabilities,
    )
    metrics = write_results(scores, out, {"imported_from": file.name})
    click.echo(results_text(scores, {scores.name: metrics}))
    click.echo(f"\n{out}: {', '.join(RESULT_FILES)}")


@click.command("export-scores")
@click.argument("run", type=PATH, metavar="RUN_OR_SCORES")
@click.option(
    "--to",
    "kind",
    type=click.Choice(_FORMATS),
    help="What will read it.  [default: what the file's name tells]",
)
@click.option(
    "--subset",
    type=click.Choice(["test", "val", "train"]),
    default="test",
    help="Which test of the run.",
)
@click.option("--out", type=PATH, required=True, help="File to write.")
def export_scores(run: Path, kind: str | None, subset: str, out: Path) -> None:
    """Write the scores of a tested run for another program.

    Example: tsn-train export-scores runs/flow --to mmaction2 --out flow.pkl
    """
    from train.score_formats import format_of, write_results
    from train.scores import read_scores
    from tsn_core.listing import count

    scores = read_scores(run, subset)
    kind = kind or format_of(out)
    write_results(scores, out, kind)
    videos, classes = scores.video_scores.shape
    click.echo(f"{out}: {kind}, scores of {count(videos, 'video')} and {classes} classes")
