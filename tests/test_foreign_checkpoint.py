"""Networks of tsn-pytorch, TSM and torchvision: the same scores here, and the way back."""

import os

import numpy as np
import pytest
import torch
from conftest import stored
from torch import nn
from train_helpers import (
    failure,
    images_of,
    make_tsn,
    message_of,
    run_program,
    same_tensors,
    write_dataset,
)

from train.foreign_checkpoint import read_foreign
from train.imported_run import convention, export_network, fold, import_network
from train.run_folder import load_checkpoint, save_checkpoint
from tsn_core.errors import CheckpointError
from tsn_core.modality import get_modality
from tsn_core.torchvision_models import make_model

IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class TheirShift(nn.Module):
    """TSM's wrapper around a convolution, which puts ``.net`` into its name."""

    def __init__(self, net, k, share):
        super().__init__()
        self.net, self.k, self.share = net, k, share

    def forward(self, x):
        n, channels = len(x) // self.k, x.shape[1] // self.share
        videos, out = x.view(n, self.k, *x.shape[1:]), torch.zeros(n, self.k, *x.shape[1:])
        for k in range(self.k):
            if k + 1 < self.k:
                out[:, k, :channels] = videos[:, k + 1, :channels]
            if k:
                out[:, k, channels : 2 * channels] = videos[:, k - 1, channels : 2 * channels]
            out[:, k, 2 * channels :] = videos[:, k, 2 * channels :]
        return self.net(out.view_as(x))


class TheirTSN(nn.Module):
    """The network of tsn-pytorch and TSM, as their checkpoints name it."""

    def __init__(self, backbone="resnet18", channels=3, classes=2, k=3, share=0):
        super().__init__()
        torch.manual_seed(1)
        self.k = k
        self.base_model = make_model(backbone)
        if channels != 3:
            self.base_model.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        for layer in self.base_model.modules():  # statistics and scales as if trained
            if isinstance(layer, nn.BatchNorm2d):
                nn.init.uniform_(layer.running_mean, -0.5, 0.5)
                nn.init.uniform_(layer.running_var, 0.5, 2.0)
                nn.init.uniform_(layer.weight, 0.5, 1.5)
                nn.init.uniform_(layer.bias, -0.2, 0.2)
        if share:
            for stage in ("layer1", "layer2", "layer3", "layer4"):
                for block in getattr(self.base_model, stage):
                    block.conv1 = TheirShift(block.conv1, k, share)
        self.base_model.fc = nn.Dropout(0.8)
        self.new_fc = nn.Linear(512, classes)

    def forward(self, images):
        """Scores (N, C) of images as their loaders make them, (N * K, L * C, H, W)."""
        scores = self.new_fc(self.base_model(images))
        return scores.view(-1, self.k, scores.shape[1]).mean(dim=1)


def save(model, path, **more):
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    content = {"epoch": 80, "arch": "resnet18", "state_dict": state, "best_prec1": 93.2, **more}
    torch.save(content, path)
    return path


def their_input(codes, modality):
    """What their loaders make of the uint8 codes in our shards, (B, L * C, H, W)."""
    images = codes.float()
    if modality == "rgb":
        mean, std = (torch.tensor(v).view(-1, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
        return (images / 255 - mean) / std
    if modality == "flow":
        return (images / 255 - 0.5) / float(np.mean(IMAGENET_STD))
    return (images - 128) / 255  # differences of pixels that were divided by 255


@pytest.mark.parametrize(
    ("modality", "channels", "share"),
    [("rgb", 3, 0), ("flow", 10, 0), ("rgbdiff", 15, 0), ("rgb", 3, 8), ("flow", 10, 4)],
)
def test_the_same_scores_and_the_way_back(modality, channels, share, tmp_path):
    theirs = TheirTSN(channels=channels, share=share).eval()
    name = f"TSM_x_RGB_resnet18_shift{share}_blockres_avg_segment3_e45.pth" if share else "x.pth"
    path = save(theirs, tmp_path / name)
    foreign = read_foreign(path)
    assert foreign.kind == ("tsm" if share else "tsn-pytorch")
    ours = import_network(foreign, path, modality, convention(foreign.kind, modality))
    assert ours.settings.temporal_shift == share
    assert (ours.settings.num_segments, ours.settings.snippet_length) == (
        3,
        5 if channels > 3 else 1,
    )
    snippets = images_of(ours, size=32)
    with torch.inference_mode():
        expected = theirs(their_input(snippets.flatten(0, 1), modality))
        found, _ = ours(snippets)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert (expected[0] - expected[1]).abs().min() > 1e-3  # a mix-up would show

    export_network(ours, tmp_path / "back.pth", "run", {"rows": [{"val_top1": 0.5}]})
    back = torch.load(tmp_path / "back.pth", weights_only=True)
    assert (back["arch"], back["epoch"], back["best_prec1"]) == ("resnet18", 1, 50.0)
    had = torch.load(path, weights_only=True)["state_dict"]
    if modality == "rgbdiff":  # its scale is folded, with one rounding each way
        first = "module.base_model.conv1.weight"
        torch.testing.assert_close(back["state_dict"][first], had.pop(first), rtol=3e-7, atol=0)
        del back["state_dict"][first]
    assert same_tensors(back["state_dict"], had)


def test_a_checkpoint_without_dropout(tmp_path):
    theirs = TheirTSN()
    theirs.base_model.fc, theirs.new_fc = theirs.new_fc, nn.Identity()
    path = save(theirs, tmp_path / "x.pth")
    foreign = read_foreign(path)
    ours = import_network(foreign, path, "rgb", convention("tsn-pytorch", "rgb"))
    assert torch.equal(ours.classifier.weight, theirs.base_model.fc.weight)


# --- colours and scales ---


@pytest.mark.parametrize("std", [(), (1.0,), (57.0, 58.0, 59.0)])
def test_a_network_from_caffe(std, tmp_path):
    """BGR of 0 to 255 with a mean of its own, which cannot be folded where pixels are padded."""
    theirs = TheirTSN().eval()
    path = save(theirs, tmp_path / "x.pth")
    mean = (104.0, 117.0, 128.0)
    chosen = convention("tsn-pytorch", "rgb", "bgr", mean, std)
    ours = import_network(read_foreign(path), path, "rgb", chosen)
    snippets = images_of(ours, size=32)
    bgr = snippets.flatten(0, 1).flip(1).float()
    usual = tuple(255 * value for value in IMAGENET_STD[::-1])
    with torch.inference_mode():
        scale = torch.tensor(std or usual).view(-1, 1, 1)
        expected = theirs((bgr - torch.tensor(mean).view(-1, 1, 1)) / scale)
        found, _ = ours(snippets)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert ours.settings.input_mean == (128.0, 117.0, 104.0)


def test_another_order_is_folded_to_the_last_bit():
    weight = torch.rand(4, 6, 3, 3)  # two units of three channels
    kind = get_modality("rgb")
    folded = fold(weight, convention("torchvision", "rgb", "bgr"), kind)
    for unit in range(2):
        for channel in range(3):
            assert torch.equal(folded[:, 3 * unit + channel], weight[:, 3 * unit + 2 - channel])
    assert torch.equal(fold(weight, convention("torchvision", "rgb"), kind), weight)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tsm", "flow", "bgr"), "--channel-order bgr: flow has 2 channels"),
        (("tsm", "rgb", "rgb", (1.0, 2.0)), "--input-mean: 1 or 3 numbers expected, got 2"),
        (("tsm", "rgb", "rgb", (), (0.0,)), "--input-std must be above 0, got 0,0,0"),
        (
            ("tsm", "rgb", "grb"),
            "unknown order of channels 'grb'; choose from rgb, bgr",
        ),
    ],
)
def test_conventions_that_make_no_sense(arguments, message):
    assert message_of(convention, *arguments) == message


# --- TSM's MobileNetV2 ---


def test_the_names_of_the_mobilenet_of_tsm(tmp_path):
    """Blocks are flat lists there: convolutions at 0, 3 and 6, BatchNorms behind them."""
    ours = make_tsn(backbone="mobilenet_v2", temporal_shift=8)
    path = tmp_path / "TSM_kinetics_RGB_mobilenetv2_shift8_blockres_avg_segment3.pth"
    export_network(ours, path, "run", {})
    content = torch.load(path, weights_only=True)
    assert content["arch"] == "mobilenetv2"
    names = [name.removeprefix("module.base_model.") for name in content["state_dict"]]
    weights = [name for name in names if name.startswith("features.3.") and name.endswith("weight")]
    places = [name.removeprefix("features.3.conv.").removesuffix(".weight") for name in weights]
    assert places == ["0.net", "1", "3", "4", "6", "7"]
    first = [name for name in names if name.startswith("features.1.") and name.endswith("weight")]
    assert [name.split(".")[3] for name in first] == ["0", "1", "3", "4"]
    foreign = read_foreign(path)
    back = import_network(foreign, path, "rgb", convention("tsm", "rgb"))
    assert same_tensors(back.state_dict(), ours.state_dict())
    assert (back.settings.temporal_shift, back.settings.num_segments) == (8, 3)


# --- torchvision ---


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_a_state_dict_of_torchvision(name, tmp_path):
    torch.manual_seed(0)
    whole = make_model(name).eval()
    torch.save(whole.state_dict(), tmp_path / "w.pth")
    foreign = read_foreign(tmp_path / "w.pth", backbone=None if name == "resnet18" else name)
    assert (foreign.kind, foreign.backbone) == ("torchvision", name)
    ours = import_network(foreign, "w.pth", "rgb", convention("torchvision", "rgb"))
    snippets = images_of(ours, n=1, size=32)
    with torch.inference_mode():
        expected = whole(their_input(snippets[0], "rgb"))
        found = ours(snippets)[1][0]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


# --- what cannot be taken over ---


def refusal(path, error=CheckpointError, **options):
    return message_of(read_foreign, path, error=error, **options)


def test_checkpoints_that_cannot_be_taken_over(tmp_path):
    path = tmp_path / "x.pth"
    good = {f"module.{name}": v for name, v in TheirTSN().state_dict().items()}

    def told(state, **options):
        torch.save({"state_dict": state}, path)
        return refusal(path, **options).removeprefix(f"{path}: ")

    inception = {"module.base_model.conv1_7x7_s2.weight": torch.zeros(64, 3, 7, 7)}
    assert told(inception) == (
        "holds a BNInception, which torchvision does not have; import a ResNet, or train its "
        "nearest relative there, by tsn-train fit --backbone googlenet"
    )
    block = {"module.base_model.layer1.0.net.conv1.weight": torch.zeros(1), **good}
    assert told(block) == (
        "shifts whole blocks or has non-local ones, which this package does not; import one with "
        "blockres in its name, and no nl"
    )
    for weight in (torch.tensor(1.0), torch.ones(3)):
        assert told({**good, "module.new_fc.weight": weight}) == (
            "has no classifier (new_fc.weight and new_fc.bias)"
        )
    headless = {name: v for name, v in good.items() if "new_fc" not in name}
    assert told(headless) == "has no classifier (new_fc.weight and new_fc.bias)"
    assert told(good, kind="tsm") == "looks like tsn-pytorch, not like tsm; leave --from out"
    assert told(good, backbone="resnet34") == (
        "its weights are not those of resnet34 (conv1.weight, bn1.weight, bn1.bias, …); choose "
        "another --backbone"
    )
    assert told({}) == "a state dict (name to tensor) expected, got something else"
    bare = {name: v for name, v in make_model("resnet18").state_dict().items() if "fc" not in name}
    torch.save(bare, path)
    assert refusal(path) == (
        f"{path}: has no linear classifier fc; begin a training with it, by tsn-train fit "
        f"--backbone resnet18 --weights {path}"
    )
    save_checkpoint(path, make_tsn(), ("a", "b"), {})
    assert refusal(path) == f"{path}: a checkpoint of tsn-train already; use the run it is of"
    assert message_of(read_foreign, tmp_path / "no") == f"{tmp_path / 'no'}: no such checkpoint"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "new_fc.bias",
            "its classifier holds numbers that are not finite; import a checkpoint from before its "
            "training failed",
        ),
        (
            "base_model.layer1.0.conv1.weight",
            "the weights do not fit the model: 1 not finite (layer1.0.conv1.weight); check "
            "--backbone and --weights",
        ),
    ],
)
def test_numbers_that_are_not_finite(tmp_path, name, message):
    network = TheirTSN()
    with torch.no_grad():
        network.get_parameter(name).view(-1)[0] = float("nan")
    path = save(network, tmp_path / "x.pth")
    foreign, theirs = read_foreign(path), convention("tsn-pytorch", "rgb")
    found = message_of(import_network, foreign, path, "rgb", theirs, error=CheckpointError)
    assert found == f"{path}: {message}"


class Hostile:
    def __reduce__(self):
        return os.getenv, ("HOME",)


def test_nothing_in_a_checkpoint_is_executed(tmp_path):
    path = save(TheirTSN(), tmp_path / "x.pth", optimizer=Hostile())
    assert refusal(path) == (
        f"{path}: holds os.getenv, which could run anything; tensors and plain values expected; "
        "if you trust who made it, keep its tensors alone: "
        "torch.save({'state_dict': torch.load(FILE, weights_only=False)['state_dict']}, NEW)"
    )


def test_another_modality(tmp_path):
    path = save(TheirTSN(), tmp_path / "x.pth")
    foreign = read_foreign(path)
    for modality, channels in (("flow", 2), ("rgbdiff", 3)):
        theirs = convention("tsn-pytorch", modality)
        message = message_of(import_network, foreign, path, modality, theirs, error=CheckpointError)
        assert message == (
            f"{path}: its first convolution takes 3 channels, {modality} has {channels} times the "
            "length of a snippet; choose the --modality that it was trained on, and begin one of "
            "another modality with fit --weights RUN/last.pt"
        )


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"consensus": "gru"}, "consensus gru"),
        ({"backbone": "squeezenet1_1"}, "backbone squeezenet1_1"),
        ({"input_mean": (1.0, 2.0, 3.0)}, "input_mean (1.0, 2.0, 3.0)"),
    ],
)
def test_networks_that_they_do_not_have(changes, what, tmp_path):
    message = message_of(
        export_network, make_tsn(**changes), tmp_path / "x", "last.pt", {}, error=CheckpointError
    )
    assert message == (
        f"last.pt: has {what}, which tsn-pytorch and TSM do not have (avg; ResNets, with a "
        "temporal shift mobilenet_v2 too); export it --to onnx"
    )


# --- the program ---


def test_an_imported_run_is_tested_fine_tuned_and_exported(tmp_path):
    shards = write_dataset(tmp_path / "tiny", modalities=[stored("rgb")])
    path = save(TheirTSN(share=8), tmp_path / "tsm.pth")
    run = tmp_path / "run"
    command = ("import-checkpoint", path, "--modality", "rgb", "--input-size", 32)
    result = run_program(*command, "--shards", shards, "--out", run)
    assert result.exit_code == 0, result.output
    assert result.stderr == (
        "the name tsm.pth does not say what TSM writes there (shift8, segment3): 1 in 8 channels, "
        "8 segments are taken; --temporal-shift and --num-segments say otherwise\n"
    )
    assert result.stdout == (
        f"{run}: tsm resnet18 on rgb, snippets of 1, 8 segments, shift 1/8, 2 classes; nobody "
        "knows which videos it was trained on\n"
    )
    quick = ("--num-snippets", 3, "--crops", 1, "--workers", 0, "--device", "cpu")
    result = run_program("evaluate", run, *quick)
    assert result.exit_code == 0, result.output
    fit = ("fit", "--shards", shards, "--modality", "rgb", "--weights", run / "last.pt")
    fit += ("--epochs", 1, "--input-size", 32, "--workers", 0, "--batch-size", 4)
    result = run_program(*fit, "--device", "cpu", "--out", tmp_path / "tuned")
    assert result.exit_code == 0, result.output
    result = run_program("export", run, "--to", "tsn-pytorch", "--out", tmp_path / "back.pth")
    assert result.stdout == (
        f"{tmp_path / 'back.pth'}: weights of {run / 'last.pt'} under tsn-pytorch's names\n"
    )
    back = torch.load(tmp_path / "back.pth", weights_only=True)["state_dict"]
    assert same_tensors(back, torch.load(path, weights_only=True)["state_dict"])
    assert failure(*command, "--shards", shards, "--out", run) == (
        f"error: {run}: holds a run; choose another --out or delete the folder\n"
    )


def test_a_run_without_shards(tmp_path):
    path = save(TheirTSN(), tmp_path / "x.pth")
    command = ("import-checkpoint", path, "--modality", "rgb", "--input-size", 32)
    assert failure(*command, "--out", tmp_path / "run") == (
        f"error: {path}: scores 2 classes, nobody names them; give --classes FILE, one name a "
        "line\n"
    )
    (tmp_path / "classes.txt").write_text("walk\nrun\n")
    command += ("--classes", tmp_path / "classes.txt", "--out", tmp_path / "run")
    assert run_program(*command).exit_code == 0
    _, names, _ = load_checkpoint(tmp_path / "run" / "last.pt")
    assert names == ["walk", "run"]
    assert failure("evaluate", tmp_path / "run") == (
        f"error: {tmp_path / 'run'}: was imported without shards; name them with --shards\n"
    )
    shards = write_dataset(tmp_path / "tiny", modalities=[stored("rgb")])
    quick = ("--num-snippets", 1, "--crops", 1, "--workers", 0, "--device", "cpu")
    result = run_program("evaluate", tmp_path / "run", "--shards", shards, *quick)
    assert result.exit_code == 0, result.output
