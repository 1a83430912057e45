"""The options of a training run, for every command that trains, and what they come to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from train.commands.options import shards_option
from train.presets import PRESETS, preset_values
from tsn_core.command_line import ModalityName
from tsn_core.errors import InputError
from tsn_core.modality import FLOW_ALGORITHMS, get_modality

if TYPE_CHECKING:
    from train.settings import RunSettings

CONSENSUS = ("avg", "max", "topk", "weighted", "attention", "gru")
_OPTIMIZERS = {  # optimizer: (learning rate, factor of the head, tenths of the epochs to warm up)
    "sgd": (0.001, 1.0, 0),
    "adamw": (0.0002, 10.0, 1),
}

_ONE_RUN = (
    click.option(
        "--modality", type=ModalityName(), required=True, help="What the network sees of a video."
    ),
    click.option(
        "--split",
        type=int,
        default=1,
        help="Which split, where the lists make several, such as 1 to 3 of HMDB51.",
    ),
)
_SPLITS = click.option("--splits", metavar="1,2,…", help="Which splits.  [default: all there are]")
_SHARDS = (
    shards_option(required=True),
    click.option(
        "--flow",
        type=click.Choice(FLOW_ALGORITHMS),
        help="Which flow, where several were extracted.  [default: the one there is]",
    ),
)
_OPTIONS = (
    click.option(
        "--val-fraction",
        type=float,
        default=0.0,
        help="Share of the training videos to validate on, where the split has no val videos.",
    ),
    click.option(
        "--preset",
        type=click.Choice(sorted(PRESETS)),
        help="Settings that are known to work; options typed beside it come first.",
    ),
    # the network
    click.option(
        "--backbone", default="resnet18", help="conv8, or any torchvision classification model."
    ),
    click.option(
        "--weights",
        default="imagenet",
        help="none, imagenet, or the path of a state dict or of a checkpoint of fit.",
    ),
    click.option(
        "--consensus",
        type=click.Choice(CONSENSUS),
        default="avg",
        help="How the scores of the snippets become those of the video.",
    ),
    click.option("--top", type=int, default=2, help="Snippets that the topk consensus averages."),
    click.option("--num-segments", type=int, default=3, help="Snippets per video in training."),
    click.option(
        "--temporal-shift",
        type=int,
        default=0,
        metavar="N",
        help="Move one in N channels to the snippet before and one to the one after, in every "
        "residual block (TSM; 8 is usual); 0 moves none.",
    ),
    click.option("--dropout", type=float, default=0.8, help="After the global pooling."),
    click.option(
        "--head-dropout", type=float, default=0.5, help="Between the dense layers of gru."
    ),
    click.option(
        "--partial-bn/--full-bn",
        default=None,
        help="Freeze every BatchNorm but the first.  [default: with pretrained weights]",
    ),
    # the crops
    click.option("--input-size", type=int, default=224, help="Side of the crops, in px."),
    click.option("--flip/--no-flip", default=True, help="Mirror half of the training videos."),
    click.option(
        "--no-flip-class",
        multiple=True,
        metavar="CLASS",
        help="Never mirror videos of this class; may be repeated.",
    ),
    click.option(
        "--crop-scales",
        default="1,0.875,0.75,0.66",
        help="Sides of the training crops, as shares of the shorter side of a frame.",
    ),
    click.option(
        "--crop-positions",
        type=click.Choice(["5", "13"]),
        default="5",
        help="Corners and centre, or eight places between them too.",
    ),
    # the optimisation
    click.option("--epochs", type=int, default=90, help="Passes over the training videos."),
    click.option("--batch-size", type=int, default=32, help="Videos per step, over all ranks."),
    click.option(
        "--accumulate",
        type=int,
        default=1,
        help="Compute each step in so many parts, one after the other, to save memory.",
    ),
    click.option(
        "--optimizer",
        type=click.Choice(sorted(_OPTIMIZERS)),
        default="sgd",
        help="sgd is TSN's; adamw suits small datasets.",
    ),
    click.option("--lr", type=float, help="Learning rate.  [default: sgd 0.001, adamw 0.0002]"),
    click.option(
        "--head-lr-factor",
        type=float,
        help="Of classifier and consensus.  [default: sgd 1, adamw 10]",
    ),
    click.option("--momentum", type=float, default=0.9, help="Of SGD."),
    click.option(
        "--weight-decay", type=float, default=0.0005, help="Pull of the weights towards 0."
    ),
    click.option(
        "--schedule",
        type=click.Choice(["step", "cosine"]),
        default="step",
        help="How the rate falls: in steps, or along half a cosine.",
    ),
    click.option(
        "--lr-steps",
        help="Epochs after which the rate falls to a tenth, such as 36,72.  "
        "[default: at 40% and 80% of the epochs]",
    ),
    click.option(
        "--warmup-epochs",
        type=int,
        help="The rate rises over so many.  [default: sgd 0, adamw a tenth of the epochs]",
    ),
    click.option("--clip-gradient", type=float, default=20.0, help="Largest norm; 0: no clipping."),
    click.option(
        "--label-smoothing",
        type=float,
        default=0.0,
        help="Share of the target that goes to all classes alike.",
    ),
    click.option(
        "--ema",
        type=float,
        default=0.0,
        metavar="DECAY",
        help="Test the moving average of the weights, such as 0.999; 0 has none.",
    ),
    click.option(
        "--patience",
        type=int,
        default=0,
        help="Stop after so many epochs without a better validation; 0 never does.",
    ),
    click.option("--seed", type=int, default=0, help="The same one gives the same losses."),
    # the machine
    click.option(
        "--precision",
        type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
        default="auto",
        help="Of the arithmetic; bf16 is faster and safer than fp16; auto: bf16 on a GPU that has "
        "it, else fp32.",
    ),
    click.option(
        "--channels-last/--channels-first",
        default=None,
        help="Layout in memory.  [default: last on a GPU that computes in 16 bits, else first]",
    ),
    click.option("--compile/--no-compile", default=False, help="Use torch.compile."),
    click.option(
        "--save-seconds",
        type=float,
        default=300.0,
        help="Write a checkpoint so often within an epoch, too.",
    ),
    click.option(
        "--resize-on",
        type=click.Choice(["workers", "device"]),
        help="Where crops are resized and mirrored: by the loading processes, or many at once on "
        "the device that trains, which relieves them.  [default: workers; device with --decode-on "
        "device]",
    ),
    click.option(
        "--decode-on",
        type=click.Choice(["workers", "device"]),
        default="workers",
        help="Where JPEGs are decoded: by the loading processes, or by the decoder of the GPU, "
        "which relieves them of nearly all their work.",
    ),
    click.option(
        "--shuffle-window",
        type=int,
        default=0,
        metavar="N",
        help="Choose the next video among N that lie near each other in the shards, for spinning "
        "disks and object stores; 0 chooses among all.",
    ),
    click.option(
        "--worker-start",
        type=click.Choice(["fork", "spawn", "forkserver"]),
        help="How loading processes begin.  [default: as PyTorch does]",
    ),
)


def fit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command all options of a training run."""
    return _with_options(command, (_SHARDS[0], _ONE_RUN[0], _SHARDS[1], _ONE_RUN[1], *_OPTIONS))


def splits_options(several_modalities: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what gives a command the options of runs that differ in their split.

    Args:
        several_modalities: Whether ``--modality`` may be repeated.
    """
    modality = _ONE_RUN[0]
    if several_modalities:
        modality = click.option(
            "--modality",
            "modalities",
            type=ModalityName(),
            required=True,
            multiple=True,
            help="May be repeated; several are fused.",
        )
    options = (_SHARDS[0], modality, _SHARDS[1], _SPLITS, *_OPTIONS)
    return lambda command: _with_options(command, options)


def _with_options(command: Callable[..., Any], options: tuple[Any, ...]) -> Callable[..., Any]:
    for option in reversed(options):
        command = option(command)
    return command


def run_settings(context: click.Context, **instead: Any) -> RunSettings:
    """Return what the options of a command come to, presets included.

    Args:
        context: Of the command.
        instead: Values of options that the command does not have, or that are not to count.

    Raises:
        InputError: An option is out of range, or does not go with the others.
    """
    from train.optimization import OptimizerSettings
    from train.settings import (
        DataSettings,
        LoopSettings,
        NetworkSettings,
        RunSettings,
        parse_numbers,
    )

    options, typed = _with_preset({**context.params, **instead}, context)
    if options["flow"] and not get_modality(options["modality"]).has_algorithm:
        raise InputError(f"--flow {options['flow']}: {options['modality']} has no flow algorithm")
    if "lr_steps" in typed and options["schedule"] == "cosine":
        raise InputError("--lr-steps goes with --schedule step, not with cosine")
    usual_rate, usual_factor, usual_warmup = _OPTIMIZERS[options["optimizer"]]

    def chosen(name: str, usual: Any) -> Any:
        return usual if options[name] is None else options[name]

    return RunSettings(
        shards=options["shards"],
        modality=options["modality"],
        flow=options["flow"],
        weights=options["weights"],
        network=NetworkSettings(
            backbone=options["backbone"],
            consensus=options["consensus"],
            num_segments=options["num_segments"],
            dropout=options["dropout"],
            head_dropout=options["head_dropout"],
            top=options["top"],
            partial_bn=chosen("partial_bn", options["weights"] != "none"),
            temporal_shift=options["temporal_shift"],
        ),
        data=DataSettings(
            split=options["split"],
            val_fraction=options["val_fraction"],
            input_size=options["input_size"],
            flip=options["flip"],
            unflipped_classes=tuple(options["no_flip_class"]),
            crop_scales=tuple(parse_numbers("--crop-scales", options["crop_scales"], "1,0.875")),
            crop_positions=int(options["crop_positions"]),
            batch_size=options["batch_size"],
            accumulate=options["accumulate"],
            resize_on=chosen("resize_on", options["decode_on"]),
            decode_on=options["decode_on"],
            shuffle_window=options["shuffle_window"],
        ),
        optimizer=OptimizerSettings(
            optimizer=options["optimizer"],
            learning_rate=chosen("lr", usual_rate),
            head_factor=chosen("head_lr_factor", usual_factor),
            momentum=options["momentum"],
            weight_decay=options["weight_decay"],
            schedule=options["schedule"],
            decay_epochs=_decay_epochs(options["lr_steps"], options["epochs"]),
            warmup_epochs=chosen("warmup_epochs", usual_warmup * options["epochs"] // 10),
            gradient_clip=options["clip_gradient"],
        ),
        loop=LoopSettings(
            epochs=options["epochs"],
            seed=options["seed"],
            patience=options["patience"],
            ema=options["ema"],
            label_smoothing=options["label_smoothing"],
            precision=options["precision"],
            channels_last=options["channels_last"],
            compile=options["compile"],
            save_seconds=options["save_seconds"],
        ),
    )


def _with_preset(
    options: dict[str, Any], context: click.Context
) -> tuple[dict[str, Any], set[str]]:
    """Return the options, those of the preset for what was not typed, and what was typed."""
    typed = {
        name
        for name in options
        if context.get_parameter_source(name) not in (ParameterSource.DEFAULT, None)
    }
    if options["preset"] is None:
        return options, typed
    preset = preset_values(options["preset"], options["modality"])
    if "lr_steps" in preset and "epochs" in typed and "lr_steps" not in typed:
        # the same course in another number of epochs
        steps = _decay_epochs(preset["lr_steps"], preset["epochs"])
        share = options["epochs"] / preset["epochs"]
        preset["lr_steps"] = ",".join(str(max(round(step * share), 1)) for step in steps)
    return {**options, **{k: v for k, v in preset.items() if k not in typed}}, typed


def _decay_epochs(text: str | None, epochs: int) -> tuple[int, ...]:
    """Return the epochs at which the rate falls; TSN's 36 and 72 of 90 in proportion."""
    from train.settings import parse_numbers

    if text is None:
        return max(round(0.4 * epochs), 1), max(round(0.8 * epochs), 1)
    return tuple(parse_numbers("--lr-steps", text, "36,72", int))
