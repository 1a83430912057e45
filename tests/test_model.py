"""The network: partial BatchNorm, dropout, normalisation, its settings."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from train_helpers import images_of, make_tsn, message_of, model_settings, same_tensors

from tsn_core.consensus import CONSENSUS
from tsn_core.modality import MODALITIES, get_modality, modality_names
from tsn_core.tsn import ModelSettings

# --- normalisation, dropout, consensus ---


@pytest.mark.parametrize("modality", MODALITIES)
def test_bytes_are_normalised_by_the_modality_table(modality):
    length = 2
    kind = get_modality(modality)
    model = make_tsn(modality=modality, snippet_length=length)
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    images = images_of(model, n=1, k=1)[0]
    model.eval().features(images)
    expected = np.zeros(images.shape, np.float32)
    for unit in range(length):
        for channel in range(kind.unit_channels):
            place = unit * kind.unit_channels + channel
            codes = images[:, place].numpy().astype(np.float64)
            expected[:, place] = (codes - kind.mean[channel]) / kind.std[channel]
    np.testing.assert_allclose(seen[0].numpy(), expected, atol=1e-5)


def test_rgb_is_normalised_as_torchvision_does():
    model = make_tsn()
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    images = images_of(model, n=1, k=1)[0]
    model.eval().features(images)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    torch.testing.assert_close(seen[0], (images / 255 - mean) / std)


def test_normalisation_is_no_part_of_a_checkpoint():
    assert not {"mean", "std"} & set(make_tsn().state_dict())


def test_dropout_lies_between_the_pooling_and_the_classifier():
    model = make_tsn(dropout=0.75)
    features = torch.ones(4, 3, 512)
    seen = []
    model.classifier.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    model.train().score(features)
    assert set(seen[0].unique().tolist()) == {0.0, 4.0}
    assert 0.7 < float((seen[0] == 0).float().mean()) < 0.8
    model.eval().score(features)
    assert torch.equal(seen[1], features)


def test_the_dropout_of_the_head_is_its_own():
    model = make_tsn(consensus="gru", dropout=0.75, head_dropout=0.25)
    inside = {layer.p for layer in model.consensus.modules() if isinstance(layer, nn.Dropout)}
    assert (inside, model.dropout.p) == ({0.25}, 0.75)
    inside = {layer.p for layer in make_tsn(consensus="gru").consensus.dense[2:3]}
    assert inside == {0.5}


def test_settings_survive_their_dictionary():
    settings = model_settings(head_dropout=0.3, dropout=0.8)
    assert ModelSettings.from_dict(settings.to_dict()) == settings


def test_settings_from_before_the_head_had_a_dropout_of_its_own():
    fields = model_settings(dropout=0.8).to_dict()
    del fields["head_dropout"]
    assert ModelSettings.from_dict(fields) == model_settings(dropout=0.8, head_dropout=0.8)
    del fields["dropout"]
    with pytest.raises(TypeError, match=r"missing 1 required positional argument: 'dropout'$"):
        ModelSettings.from_dict(fields)


@pytest.mark.parametrize("consensus", CONSENSUS)
def test_scores_are_those_of_every_snippet_alone(consensus):
    model = make_tsn(consensus=consensus).eval()
    images = images_of(model)
    with torch.inference_mode():
        video, snippets = model(images)
        features = torch.stack([model.features(images[:, k]) for k in range(3)], dim=1)
        if consensus == "gru":
            assert model.classifier is None
            scores = model.consensus(features, features)[:, None].expand(-1, 3, -1)
            expected = scores[:, 0]
        else:
            scores = model.classifier(features)
            expected = model.consensus(scores, features)
    torch.testing.assert_close(snippets, scores)
    torch.testing.assert_close(video, expected)
    assert (video.shape, snippets.shape) == ((2, 2), (2, 3, 2))


# --- partial BatchNorm ---


def batch_norms(model):
    return [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]


def train_a_step(model):
    model.train()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    video, _ = model(images_of(model))
    nn.functional.cross_entropy(video, torch.tensor([0, 1])).backward()
    optimizer.step()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "googlenet", "conv8"])
def test_all_batch_norms_but_the_first_are_frozen(name):
    model = make_tsn(backbone=name, partial_bn=True)
    layers = batch_norms(model)
    before = [{key: value.clone() for key, value in b.state_dict().items()} for b in layers]
    assert layers[0] is next(
        layer for layer in model.backbone.modules() if isinstance(layer, nn.BatchNorm2d)
    )
    for _ in range(2):
        train_a_step(model)
        model.eval()
        model.train()  # must not wake them
    after = [layer.state_dict() for layer in layers]
    frozen = [same_tensors(old, new) for old, new in zip(before, after)]
    assert frozen == [False] + [True] * (len(layers) - 1)
    for key in ("running_mean", "running_var", "num_batches_tracked"):
        assert not torch.equal(before[0][key], after[0][key]), key
    for parameter in layers[0].parameters():
        assert parameter.grad.abs().sum() > 0
    for layer in layers[1:]:
        assert not any(parameter.requires_grad for parameter in layer.parameters())
    assert [layer.training for layer in layers] == [True] + [False] * (len(layers) - 1)


def test_frozen_batch_norms_sleep_whoever_calls_train():
    model = make_tsn(partial_bn=True)
    frozen = batch_norms(model)[1:]
    before = [{key: value.clone() for key, value in b.state_dict().items()} for b in frozen]
    model.eval()
    model.backbone.train()
    model.backbone.layer2.train()
    frozen[3].train()
    model.load_state_dict(model.state_dict())
    model(images_of(model))
    copy.deepcopy(model).train()(images_of(model))
    for layer, had in zip(frozen, before, strict=True):
        assert not layer.training
        assert same_tensors(had, layer.state_dict())
        assert not layer.weight.requires_grad and not layer.bias.requires_grad
    assert batch_norms(model)[0].training
    assert len(frozen) == 19


def test_a_network_with_partial_bn_has_the_weights_of_one_without():
    frozen, plain = make_tsn(partial_bn=True), make_tsn()
    assert same_tensors(frozen.state_dict(), plain.state_dict())
    images = images_of(plain)
    assert torch.equal(frozen.eval()(images)[0], plain.eval()(images)[0])


def test_partial_bn_leaves_backbones_without_batch_norm_as_they_are():
    model, plain = (
        make_tsn(backbone="convnext_tiny", partial_bn=True),
        make_tsn(backbone="convnext_tiny"),
    )
    assert not batch_norms(model)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(layer.training for layer in model.train().modules())
    assert [type(layer) for layer in model.modules()] == [type(layer) for layer in plain.modules()]


def test_all_batch_norms_learn_without_partial_bn():
    model = make_tsn(partial_bn=False)
    layers = batch_norms(model)
    before = [{key: value.clone() for key, value in b.state_dict().items()} for b in layers]
    train_a_step(model)
    for old, layer in zip(before, layers):
        assert not torch.equal(old["running_mean"], layer.running_mean)
        assert not torch.equal(old["bias"], layer.bias)


def test_testing_freezes_everything():
    model = make_tsn(partial_bn=True).eval()
    assert not any(layer.training for layer in model.modules())
    model.train()
    assert model.training and model.dropout.training


# --- settings ---


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_segments": 0}, "num_segments must be > 0, got 0"),
        ({"num_classes": 1}, "at least 2 classes are needed, got 1"),
        ({"dropout": 1.0}, "dropout must be 0 or more and below 1, got 1.0"),
        ({"dropout": -0.1}, "dropout must be 0 or more and below 1, got -0.1"),
        ({"head_dropout": 1.0}, "head_dropout must be 0 or more and below 1, got 1.0"),
        (
            {"modality": "depth"},
            f"unknown modality 'depth'; choose from {', '.join(modality_names())}, or install the "
            "package that brings it",
        ),
        ({"consensus": "topk", "top": 4}, "topk must average 1 to num_segments=3, got 4"),
    ],
)
def test_settings_out_of_range(changes, message):
    assert message_of(make_tsn, **changes) == message
