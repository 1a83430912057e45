"""``tsn-train import-checkpoint``."""

from __future__ import annotations

from pathlib import Path

import click

from train.commands.options import PATH, shards_option
from tsn_core.errors import InputError
from tsn_core.modality import FLOW_ALGORITHMS, MODALITIES, get_modality, modality_folder

_KINDS = ("auto", "tsn-pytorch", "tsm", "torchvision")


@click.command("import-checkpoint")
@click.argument("file", type=PATH)
@click.option("--from", "kind", type=click.Choice(_KINDS), default="auto", help="Whose it is.")
@click.option("--modality", type=click.Choice(MODALITIES), required=True, help="That it takes.")
@click.option(
    "--backbone", help="The network.  [default: the torchvision model whose weights these are]"
)
@shards_option("Of the dataset, with its classes.  [default: none; then give --classes]")
@click.option(
    "--flow",
    type=click.Choice(FLOW_ALGORITHMS),
    help="Which flow, where several were extracted.  [default: the one there is]",
)
@click.option(
    "--classes",
    type=PATH,
    metavar="FILE",
    help="Their names, one a line, by class id.  [default: those of --shards, or ImageNet's]",
)
@click.option("--split", type=int, default=1, help="To test on.")
@click.option(
    "--num-segments",
    type=int,
    help="Of its training.  [default: as the file's name says, else 3, of TSM 8]",
)
@click.option(
    "--temporal-shift",
    type=int,
    metavar="N",
    help="One in N channels is shifted, in TSM.  [default: as the file's name says, else 8]",
)
@click.option("--input-size", type=int, default=224, help="Side of the crops, in px.")
@click.option(
    "--channel-order",
    type=click.Choice(["rgb", "bgr"]),
    default="rgb",
    help="That it was trained on; bgr in networks that came from Caffe.",
)
@click.option(
    "--input-mean",
    metavar="A,B,C",
    help="Subtracted from pixels of 0 to 255, in its order.  [default: as its authors do]",
)
@click.option(
    "--input-std", metavar="A,B,C", help="Divisor after that.  [default: as its authors do]"
)
@click.option("--out", type=PATH, required=True, help="Folder of the run.")
def import_checkpoint(
    file: Path,
    kind: str,
    modality: str,
    backbone: str | None,
    shards: Path | None,
    flow: str | None,
    classes: Path | None,
    split: int,
    num_segments: int | None,
    temporal_shift: int | None,
    input_size: int,
    channel_order: str,
    input_mean: str | None,
    input_std: str | None,
    out: Path,
) -> None:
    """Make a run of a checkpoint of tsn-pytorch or TSM, or of torchvision's state dict.

    evaluate, export, features and fit --weights RUN/last.pt take the run as one of their own.
    Nothing in the file is executed; its videos are not known, so that nothing keeps you from
    testing on those that it was trained on.

    Example: tsn-train import-checkpoint ucf101_flow_model_best.pth.tar --from tsn-pytorch
    --modality flow --shards shards/ucf101 --out runs/imported
    """
    from train.foreign_checkpoint import read_foreign
    from train.foreign_scores import read_classes
    from train.imported_run import convention, import_network, write_run
    from train.settings import check_at_least, parse_numbers
    from train.videos import open_modality
    from tsn_core.torchvision_models import imagenet_classes

    for option, value in (("--num-segments", num_segments), ("--input-size", input_size)):
        if value is not None:
            check_at_least(1, **{option: value})
    foreign = read_foreign(file, kind, backbone)
    mean, std = (
        parse_numbers(option, text or "", "104,117,128")
        for option, text in (("--input-mean", input_mean), ("--input-std", input_std))
    )
    theirs = convention(foreign.kind, modality, channel_order, mean, std)
    model = import_network(
        foreign,
        file,
        modality,
        theirs,
        num_segments=num_segments,
        temporal_shift=temporal_shift,
    )
    number = model.settings.num_classes
    names = None if classes is None else read_classes(classes)
    folder = modality_folder(modality, (flow or "tvl1") if _has_algorithm(modality) else None)
    if shards is not None:
        shard_set, _ = open_modality(shards, modality, flow)
        names, folder = names or shard_set.class_names, shard_set.modality.folder
    elif names is None and number == 1000:
        names = imagenet_classes(foreign.backbone)
    if names is None or len(names) != number:
        found = "nobody names them" if names is None else f"{len(names)} are named"
        raise InputError(
            f"{file}: scores {number} classes, {found}; give --classes FILE, one name a line"
        )
    write_run(
        out,
        model,
        names,
        source=file,
        shards="" if shards is None else str(shards.absolute()),
        modality_folder=folder,
        split=split,
        input_size=input_size,
    )
    settings = model.settings
    untold = (foreign.shift_share or temporal_shift) is None or (
        foreign.num_segments or num_segments
    ) is None
    if foreign.shifted and untold:
        click.echo(
            f"the name {file.name} does not say what TSM writes there (shift8, segment3): 1 in "
            f"{settings.temporal_shift} channels, {settings.num_segments} segments are taken; "
            "--temporal-shift and --num-segments say otherwise",
            err=True,
        )
    shift = f", shift 1/{settings.temporal_shift}" if settings.temporal_shift else ""
    click.echo(
        f"{out}: {foreign.kind} {settings.backbone} on {modality}, snippets of "
        f"{settings.snippet_length}, {settings.num_segments} segments{shift}, {number} classes; "
        "nobody knows which videos it was trained on"
    )


def _has_algorithm(modality: str) -> bool:
    return get_modality(modality).has_algorithm
