"""Help, usage errors and messages of tsn-train, and everything together on real weights."""

import os
import re
import subprocess
import sys
from urllib.error import URLError

import pytest
import torch
from train_helpers import failure, fit_arguments, model_settings, run_program, write_dataset

from train.cli import main
from train.commands.fit_options import _decay_epochs
from train.run_folder import RunFolder, load_checkpoint
from tsn_core.modality import modality_names
from tsn_core.torchvision_models import load_torchvision
from tsn_core.tsn import TSN
from tsn_core.version import __version__


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_dataset(tmp_path_factory.mktemp("data") / "tiny")


def one_epoch(shards, out, *more):
    """Train for one epoch and return the settings that the run notes."""
    result = run_program(*fit_arguments(shards, out, "--epochs", 1, *more))
    assert result.exit_code == 0, result.output
    return RunFolder(out).read_config()


# --- help and usage ---


def test_version():
    assert run_program("--version").stdout == f"tsn-train, version {__version__}\n"


def test_help_lists_the_commands():
    text = run_program("--help").stdout
    commands = [
        *(
            "ablate",
            "completion",
            "crossval",
            "evaluate",
            "export",
            "export-scores",
            "features",
            "fit",
            "fuse",
        ),
        *("head", "import-checkpoint", "import-scores", "report", "windows"),
    ]
    assert re.findall(r"^  (\w[\w-]+)  ", text, re.MULTILINE) == commands


@pytest.mark.parametrize(
    ("command", "example"),
    [
        (
            "fit",
            "tsn-train fit --shards shards/hmdb51 --modality flow --preset hmdb51 --out runs/flow",
        ),
        ("evaluate", "tsn-train evaluate runs/flow --num-snippets 25 --crops 10"),
        ("fuse", "tsn-train fuse runs/rgb runs/flow --weights 1 1.5 --out runs/fused"),
        (
            "crossval",
            "tsn-train crossval --shards shards/hmdb51 --modality rgb --modality flow "
            "--preset hmdb51 --out runs/hmdb51",
        ),
        (
            "ablate",
            "tsn-train ablate --shards shards/hmdb51 --modality flow --preset hmdb51 "
            "--out runs/ablation",
        ),
        (
            "features",
            "tsn-train features --backbone resnet50 --weights imagenet --modality rgb "
            "--shards shards/hmdb51 --out features/rgb.h5",
        ),
        (
            "head",
            "tsn-train head features/rgb.h5 features/flow.h5 --consensus gru --split 1 "
            "--out runs/head",
        ),
        ("export", "tsn-train export runs/flow --to onnx --out flow.onnx"),
        (
            "import-checkpoint",
            "tsn-train import-checkpoint ucf101_flow_model_best.pth.tar --from tsn-pytorch "
            "--modality flow --shards shards/ucf101 --out runs/imported",
        ),
        (
            "import-scores",
            "tsn-train import-scores result.pkl --from mmaction2 --allow-pickle --list val.txt "
            "--like runs/flow --out runs/mmaction2",
        ),
        ("export-scores", "tsn-train export-scores runs/flow --to mmaction2 --out flow.pkl"),
        (
            "windows",
            "tsn-train windows runs/flow --shards shards/long --annotations annotations.json",
        ),
    ],
)
def test_help_shows_an_example_that_parses(command, example):
    text = run_program(command, "--help").stdout.replace(" \\\n", " ")
    assert f"Example: {example}" in " ".join(text.split())
    arguments = example.split()[2:]
    context = main.commands[command].make_context(command, list(arguments))
    assert context.params


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("fit --modality rgb --out x", "Missing option '--shards'."),
        (
            "fit --shards s --modality depth --out x",
            "Invalid value for '--modality': 'depth' is not one of "
            + ", ".join(map(repr, modality_names()))
            + ".",
        ),
        (
            "fit --shards s --modality flow-tvl1 --out x",
            "Invalid value for '--modality': 'flow-tvl1' is two options: --modality flow "
            "--flow tvl1",
        ),
        (
            "fit --shards s --modality rgb --consensus mean --out x",
            "Invalid value for '--consensus': 'mean' is not one of "
            "'avg', 'max', 'topk', 'weighted', 'attention', 'gru'.",
        ),
        (
            "fit --shards s --modality rgb --epochs many --out x",
            "Invalid value for '--epochs': 'many' is not a valid integer.",
        ),
        (
            "evaluate x --crops 5",
            "Invalid value for '--crops': '5' is not one of '1', '3', '10'.",
        ),
        ("evaluate", "Missing argument 'RUN'."),
        ("fuse --out x", "Missing argument 'RUN_OR_SCORES...'."),
        ("fuse a b", "Missing option '--out'."),
        ("fuse a --weights x --out b", "Invalid value for '--weights': 'x' is not a valid float."),
        ("train", "No such command 'train'."),
    ],
)
def test_usage_errors_exit_with_2(arguments, message):
    result = run_program(*arguments.split())
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == f"Error: {message}"


def test_the_module_is_the_program():
    result = subprocess.run(
        [sys.executable, "-m", "train", "evaluate", "nowhere"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "error: nowhere/config.json: no settings of a run there; "
        "give the folder that tsn-train fit made\n"
    )


def test_bugs_keep_their_traceback(monkeypatch):
    def broken(self):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(RunFolder, "read_config", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        run_program("evaluate", "run")


# --- values out of range ---


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--epochs", 0, "epochs must be > 0, got 0"),
        ("--batch-size", 0, "batch_size must be > 0, got 0"),
        ("--input-size", -1, "input_size must be > 0, got -1"),
        ("--seed", -1, "seed must be 0 or more, got -1"),
        ("--workers", -2, "--workers must be 0 or more, got -2"),
        ("--num-segments", 0, "num_segments must be > 0, got 0"),
        ("--dropout", 1, "dropout must be 0 or more and below 1, got 1.0"),
        ("--lr", 0, "learning_rate must be > 0, got 0.0"),
        ("--head-lr-factor", 0, "head_factor must be > 0, got 0.0"),
        ("--momentum", -1, "momentum must be 0 or more, got -1.0"),
        ("--weight-decay", -1, "weight_decay must be 0 or more, got -1.0"),
        ("--clip-gradient", -1, "gradient_clip must be 0 or more, got -1.0"),
        ("--warmup-epochs", -1, "warmup_epochs must be 0 or more, got -1"),
        ("--lr-steps", "3,x", "--lr-steps must be whole numbers such as 36,72, got '3,x'"),
        ("--lr-steps", "0", "decay_epochs must be > 0, got 0"),
        ("--crop-scales", "1,2", "crop_scales must be numbers above 0 and up to 1, got '1.0,2.0'"),
        ("--crop-scales", "nan", "crop_scales must be numbers above 0 and up to 1, got 'nan'"),
        ("--crop-scales", "a", "--crop-scales must be numbers such as 1,0.875, got 'a'"),
        ("--crop-scales", "", "crop_scales must be numbers above 0 and up to 1, got ''"),
        ("--accumulate", 0, "accumulate must be > 0, got 0"),
        ("--val-fraction", 1, "val_fraction must be 0 or more and below 1, got 1.0"),
        ("--label-smoothing", -0.1, "label_smoothing must be 0 or more and below 1, got -0.1"),
        ("--ema", "nan", "ema must be 0 or more and below 1, got nan"),
        ("--patience", -1, "patience must be 0 or more, got -1"),
        ("--save-seconds", -1, "save_seconds must be 0 or more, got -1.0"),
        ("--head-dropout", 1, "head_dropout must be 0 or more and below 1, got 1.0"),
        ("--precision", "fp16", "--precision fp16 needs a GPU; choose bf16 or fp32"),
        ("--flow", "tvl1", "--flow tvl1: rgb has no flow algorithm"),
        ("--device", "gpu", "unknown device 'gpu'; choose auto, cpu, cuda or cuda:N"),
    ],
)
def test_values_out_of_range(shards, tmp_path, option, value, message):
    arguments = fit_arguments(shards, tmp_path / "run", option, value)
    assert failure(*arguments) == f"error: {message}\n"
    assert not (tmp_path / "run").exists()


def test_topk_of_more_snippets_than_there_are(shards, tmp_path):
    arguments = fit_arguments(shards, tmp_path / "run", "--consensus", "topk", "--top", 4)
    assert failure(*arguments) == ("error: topk must average 1 to num_segments=3, got 4\n")


@pytest.mark.parametrize(
    ("text", "epochs", "expected"),
    [
        (None, 90, (36, 72)),
        (None, 251, (100, 201)),
        (None, 2, (1, 2)),
        (None, 1, (1, 1)),  # not at once
        ("36,72", 90, (36, 72)),
        ("36 72,80", 90, (36, 72, 80)),
        ("", 90, ()),
    ],
)
def test_when_the_rate_falls(text, epochs, expected):
    assert _decay_epochs(text, epochs) == expected


# --- defaults that depend on other options ---


def config_without_lr(shards, out, *more):
    arguments = fit_arguments(shards, out, "--epochs", 1, *more)
    place = arguments.index("--lr")
    assert run_program(*arguments[:place], *arguments[place + 2 :]).exit_code == 0
    return RunFolder(out).read_config()


def test_defaults_of_sgd(shards, tmp_path):
    config = config_without_lr(shards, tmp_path / "run")
    optimizer = config["optimizer"]
    assert (optimizer["learning_rate"], optimizer["head_factor"]) == (0.001, 1.0)
    assert optimizer["warmup_epochs"] == 0
    assert config["model"]["partial_bn"] is False  # without pretrained weights


def test_defaults_of_adamw(shards, tmp_path, monkeypatch):
    arguments = ("--optimizer", "adamw", "--epochs", 10)
    with monkeypatch.context() as patch:
        rows = [{"val_top1": 1.0}] * 10
        patch.setattr("train.training.fit", lambda learner, **options: rows)
        patch.setattr("train.training.plot_curves", lambda *_: None)
        optimizer = config_without_lr(shards, tmp_path / "run", *arguments)["optimizer"]
    assert (optimizer["learning_rate"], optimizer["head_factor"]) == (0.0002, 10.0)
    assert optimizer["warmup_epochs"] == 1


def test_partial_bn_comes_with_pretrained_weights(shards, tmp_path):
    torch.manual_seed(0)
    whole = TSN(model_settings(backbone="mobilenet_v3_small")).backbone.state_dict()
    torch.save(whole, tmp_path / "w.pth")
    pretrained = ("--weights", tmp_path / "w.pth")
    assert one_epoch(shards, tmp_path / "a", *pretrained)["model"]["partial_bn"] is True
    full = one_epoch(shards, tmp_path / "b", *pretrained, "--full-bn")
    assert full["model"]["partial_bn"] is False
    model, _, _ = load_checkpoint(tmp_path / "a" / "last.pt")
    frozen, statistics = "features.12.1.running_mean", "features.0.1.running_mean"
    assert torch.equal(model.backbone.state_dict()[frozen], whole[frozen])
    assert not torch.equal(model.backbone.state_dict()[statistics], whole[statistics])
    model, _, _ = load_checkpoint(tmp_path / "b" / "last.pt")
    assert not torch.equal(model.backbone.state_dict()[frozen], whole[frozen])


@pytest.mark.parametrize("consensus", ["max", "topk", "weighted", "attention", "gru"])
def test_every_consensus_trains_and_is_tested(shards, tmp_path, consensus):
    config = one_epoch(shards, tmp_path / "run", "--consensus", consensus, "--schedule", "cosine")
    assert config["model"]["consensus"] == consensus
    options = ("--num-snippets", 5, "--crops", 1, "--workers", 0, "--device", "cpu")
    assert run_program("evaluate", tmp_path / "run", *options).exit_code == 0


# --- weights ---


def test_imagenet_weights_without_a_network(shards, tmp_path, monkeypatch):
    def no_network(*_, **__):
        raise URLError("no network")

    weights = load_torchvision().models.MobileNet_V3_Small_Weights
    monkeypatch.setattr(weights, "get_state_dict", no_network)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    name = "mobilenet_v3_small-047dcff4.pth"
    assert failure(*fit_arguments(shards, tmp_path / "run", "--weights", "imagenet")) == (
        "downloading the ImageNet weights of mobilenet_v3_small once, 10 MB, to "
        f"{tmp_path / 'checkpoints' / name}\n"
        "error: ImageNet weights of mobilenet_v3_small could not be downloaded from "
        f"https://download.pytorch.org/models/{name} (<urlopen error no network>); download that "
        "file elsewhere and give it with --weights PATH, or use --weights none\n"
    )


def test_weights_that_do_not_fit(shards, tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(1)}, path)
    assert failure(*fit_arguments(shards, tmp_path / "run", "--weights", path)) == (
        f"error: {path}: the weights do not fit the model: 208 missing (features.0.0.weight, "
        "features.0.1.weight, features.0.1.bias, …); 1 unexpected (a); "
        "check --backbone and --weights\n"
    )
    path.write_bytes(b"hello")
    assert failure(*fit_arguments(shards, tmp_path / "run", "--weights", path)) == (
        f"error: {path}: damaged, or not a file of PyTorch tensors; check --weights\n"
    )


@pytest.mark.slow(reason="trains a larger network on larger images")
def test_pretrained_features_learn_at_once(tmp_path):
    """Dark and bright videos, with ImageNet's MobileNetV2."""
    weights = os.environ.get("TSN_WEIGHTS")
    if not weights:
        pytest.skip("TSN_WEIGHTS is not set")
    shards = write_dataset(tmp_path / "tiny", train=12, val=0, test=6)
    options = ("--backbone", "mobilenet_v2", "--weights", weights, "--input-size", 96)
    options += ("--optimizer", "adamw", "--lr", 0.0002, "--dropout", 0.5, "--epochs", 4)
    assert run_program(*fit_arguments(shards, tmp_path / "run", *options)).exit_code == 0
    result = run_program("evaluate", tmp_path / "run", "--num-snippets", 3, "--workers", 0)
    assert result.stdout.splitlines()[1] == (
        "rgb            6  100.0%  100.0 to 100.0  100.0%      100.0%  100.0 to 100.0"
    )
