"""The temporal shift, against a shift and a network that are written down naively."""

import pytest
import torch
from conftest import stored
from rich.console import Console
from torch import nn
from train_helpers import (
    failure,
    fit_arguments,
    images_of,
    make_tsn,
    message_of,
    model_settings,
    run_program,
    write_dataset,
)

from train.long_videos import score_videos
from train.run_folder import load_checkpoint
from tsn_core.temporal_shift import shift, shifted_layers
from tsn_core.torchvision_models import make_model
from tsn_core.tsn import ModelSettings


def naive_shift(images, k, channels):
    """One pixel column at a time, as the paper's figure shows it."""
    shifted = torch.zeros_like(images)
    for number in range(len(images)):
        video, place = divmod(number, k)
        for channel in range(images.shape[1]):
            source = place
            if channel < channels:
                source = place + 1
            elif channel < 2 * channels:
                source = place - 1
            if 0 <= source < k:
                shifted[number, channel] = images[video * k + source, channel]
    return shifted


@pytest.mark.parametrize(("k", "channels"), [(3, 2), (1, 2), (4, 4), (2, 0)])
def test_shift_equals_a_naive_one(k, channels):
    images = torch.rand(2 * k, 8, 3, 2)
    assert torch.equal(shift(images, k, channels), naive_shift(images, k, channels))


def naive_resnet(model, images, k, share):
    """A ResNet with the shift spelled out, block by block."""
    x = model.maxpool(model.relu(model.bn1(model.conv1(images))))
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        for block in stage:
            y = naive_shift(x, k, x.shape[1] // share)
            y = nn.functional.conv2d(
                y, block.conv1.weight, None, block.conv1.stride, block.conv1.padding
            )
            y = block.bn2(block.conv2(block.relu(block.bn1(y))))
            if hasattr(block, "conv3"):
                y = block.bn3(block.conv3(block.relu(y)))
            x = block.relu(y + (x if block.downsample is None else block.downsample(x)))
    return model.avgpool(x).flatten(1)


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
def test_a_shifted_resnet_equals_a_naive_one(backbone):
    model = make_tsn(backbone=backbone, temporal_shift=8).eval()
    snippets = images_of(model)
    with torch.inference_mode():
        video, _ = model(snippets)
        normal = (snippets.flatten(0, 1) - model.mean) / model.std
        features = naive_resnet(model.backbone, normal, 3, 8).view(2, 3, -1)
        expected, _ = model.score(features)
        plain = make_tsn(backbone=backbone).eval()
        plain.load_state_dict(model.state_dict())  # the same names
        assert not torch.allclose(plain.snippet_features(snippets), features, rtol=1e-2)
    torch.testing.assert_close(model.snippet_features(snippets).detach(), features)
    torch.testing.assert_close(video, expected)


def test_where_the_backbones_shift():
    resnet = shifted_layers(make_model("resnet18"), "resnet18")
    assert resnet == [f"layer{stage}.{block}.conv1" for stage in (1, 2, 3, 4) for block in (0, 1)]
    with torch.device("meta"):
        deep = shifted_layers(make_model("resnet101"), "resnet101")
    third = [name for name in deep if name.startswith("layer3")]
    assert third == [f"layer3.{block}.conv1" for block in range(0, 23, 2)]
    assert [name for name in deep if name.startswith("layer1")] == [
        "layer1.0.conv1",
        "layer1.2.conv1",
    ]
    mobilenet = shifted_layers(make_model("mobilenet_v2"), "mobilenet_v2")
    residual = (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)  # stride 1 and as many channels out as in
    assert mobilenet == [f"features.{number}.conv.0.0" for number in residual]


def test_other_numbers_of_snippets_are_dealt_out():
    model = make_tsn(temporal_shift=4).eval()
    snippets = images_of(model, n=2, k=7)
    with torch.inference_mode():
        features = model.snippet_features(snippets)
        # three sequences of three, so that two snippets are in two of them
        sequences = [[0, 2, 5], [1, 3, 5], [1, 4, 6]]
        met = [[] for _ in range(7)]
        for sequence in sequences:
            part = model.features(snippets[:, sequence].flatten(0, 1)).view(2, 3, -1)
            for place, snippet in enumerate(sequence):
                met[snippet].append(part[:, place])
        expected = torch.stack([torch.stack(parts).mean(dim=0) for parts in met], dim=1)
        torch.testing.assert_close(features, expected)
        assert model.snippet_features(snippets[:, :1]).shape == (2, 1, 512)


def test_settings_with_a_shift_survive_their_dictionary():
    settings = model_settings(temporal_shift=8, input_mean=(1, 2.5, 3))
    fields = settings.to_dict()
    assert fields["temporal_shift"] == 8 and fields["input_mean"] == [1, 2.5, 3]
    assert ModelSettings.from_dict(fields) == settings
    plain = model_settings().to_dict()
    assert not {"temporal_shift", "input_mean"} & set(plain)  # runs of older versions go on


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temporal_shift": 1}, "temporal_shift must be 0, or 2 or more, got 1"),
        (
            {"temporal_shift": 8, "backbone": "squeezenet1_1"},
            "squeezenet1_1: there is a temporal shift for resnets and mobilenet_v2 only; choose "
            "such a --backbone, or --temporal-shift 0",
        ),
        ({"input_mean": (1.0,)}, "input_mean: rgb has 3 channels, got 1 numbers"),
    ],
)
def test_settings_that_do_not_go_together(changes, message):
    assert message_of(make_tsn, **changes) == message


def test_snippets_one_by_one_have_no_scores():
    videos = score_videos(
        make_tsn(temporal_shift=8),
        None,
        [],
        scales=(1.0,),
        stride=0.8,
        crops=1,
        input_size=32,
        num_workers=0,
        device=torch.device("cpu"),
        console=Console(quiet=True),
    )
    assert message_of(next, videos) == (
        "windows need the scores of single snippets, which a temporal shift mixes; choose a run "
        "without --temporal-shift"
    )


def test_a_network_with_a_shift_is_trained_and_tested(tmp_path):
    shards = write_dataset(tmp_path / "tiny", modalities=[stored("rgb")])
    run = tmp_path / "run"
    network = ("--backbone", "resnet18", "--temporal-shift", 8, "--epochs", 1)
    result = run_program(*fit_arguments(shards, run, *network))
    assert result.exit_code == 0, result.output
    model, _, _ = load_checkpoint(run / "last.pt")
    assert model.settings.temporal_shift == 8
    quick = ("--num-snippets", 4, "--crops", 3, "--workers", 0, "--device", "cpu")
    result = run_program("evaluate", run, *quick)
    assert result.exit_code == 0, result.output
    assert failure(*fit_arguments(shards, tmp_path / "b", "--temporal-shift", 8)) == (
        "error: mobilenet_v3_small: there is a temporal shift for resnets and mobilenet_v2 only; "
        "choose such a --backbone, or --temporal-shift 0\n"
    )
