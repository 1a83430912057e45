"""The network: backbones, cross-modality weights, partial BatchNorm, dropout, normalisation."""

import os
import re
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import nn
from train_helpers import model_settings, same_tensors

from tsn_core.backbone import (
    adapt_convolution,
    first_convolution,
    load_weights,
    make_backbone,
    read_state,
)
from tsn_core.consensus import CONSENSUS
from tsn_core.errors import CheckpointError, InputError, MissingDependencyError
from tsn_core.modality import MODALITIES, get_modality
from tsn_core.torch_file import read_torch_file
from tsn_core.torchvision_models import load_torchvision, make_model, model_names
from tsn_core.tsn import TSN, ModelSettings

BACKBONES = {  # name: (features, first convolution)
    "resnet18": (512, "conv1"),
    "mobilenet_v2": (1280, "features.0.0"),
    "mobilenet_v3_small": (1024, "features.0.0"),
    "googlenet": (1024, "conv1.conv"),
    "efficientnet_b0": (1280, "features.0.0"),
}


def make(weights="none", **changes):
    torch.manual_seed(0)
    return TSN(model_settings(**changes), weights)


def images_of(model, n=2, k=3, size=32):
    generator = torch.Generator().manual_seed(1)
    shape = (n, k, len(model.mean), size, size)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory):
    """A file of weights of torchvision's resnet18, every one of them a little random."""
    torch.manual_seed(5)
    state = make_model("resnet18").state_dict()
    for value in state.values():
        if value.is_floating_point():
            value.add_(0.01 * torch.rand_like(value))
    path = tmp_path_factory.mktemp("weights") / "resnet18.pth"
    torch.save(state, path)
    return path


# --- backbones ---


@pytest.mark.parametrize("name", BACKBONES)
def test_backbones_are_found_generically(name):
    features, conv_name = BACKBONES[name]
    model = make(backbone=name, modality="flow", snippet_length=5, num_classes=4)
    found, conv = first_convolution(model.backbone, name)
    assert (found, conv.in_channels) == (conv_name, 10)
    assert model.classifier.weight.shape == (4, features)
    linear = [layer for layer in model.backbone.modules() if isinstance(layer, nn.Linear)]
    assert all(layer.out_features != 1000 for layer in linear)
    for mode in (True, False):
        video, snippets = model.train(mode)(images_of(model, k=2))
        assert (video.shape, snippets.shape) == ((2, 4), (2, 2, 4))


def test_a_vision_transformer_is_found_too():
    model, features = make_backbone("vit_b_16", 2, "none")
    assert features == 768
    assert first_convolution(model, "vit_b_16")[1].in_channels == 2
    assert isinstance(model.heads.head, nn.Identity)


def test_only_the_classifier_is_taken_off():
    backbone, _ = make_backbone("resnet18", 3, "none")
    whole = make_model("resnet18")
    whole.load_state_dict(backbone.state_dict(), strict=False)
    whole.fc = nn.Identity()
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(backbone.eval()(images), whole.eval()(images))


def test_dropout_inside_the_backbone_is_off():
    for name in ("mobilenet_v2", "googlenet", "efficientnet_b0"):
        backbone, _ = make_backbone(name, 3, "none")
        rates = {layer.p for layer in backbone.modules() if isinstance(layer, nn.Dropout)}
        assert rates == {0.0}


def test_googlenet_does_not_normalise_a_second_time():
    assert make_backbone("googlenet", 3, "none")[0].transform_input is False


def input_error(function, *arguments, error=InputError, **options):
    with pytest.raises(error) as caught:
        function(*arguments, **options)
    return str(caught.value)


def test_what_cannot_be_a_backbone():
    assert input_error(make_backbone, "resnet", 3, "none") == (
        "unknown backbone 'resnet'; any of torchvision's classification models, such as "
        "resnet18, resnet50, mobilenet_v2, googlenet"
    )
    assert input_error(make_backbone, "squeezenet1_0", 3, "none") == (
        "squeezenet1_0: no Linear layer to take off as classifier"
    )
    assert input_error(first_convolution, nn.Sequential(nn.Linear(2, 2)), "mlp") == (
        "mlp: no convolution to adapt to the modality's channels"
    )
    grouped = nn.Conv2d(4, 4, 3, groups=2)
    assert input_error(adapt_convolution, grouped, 10, average=True) == (
        "a grouped first convolution cannot be adapted to other channels"
    )


def test_the_models_are_classifiers_only():
    names = model_names()
    assert {"resnet18", "googlenet", "vit_b_16"} <= set(names)
    assert "r3d_18" not in names and "fcn_resnet50" not in names


# --- weights ---


@pytest.mark.parametrize(("modality", "length", "channels"), [("flow", 5, 10), ("rgbdiff", 5, 15)])
def test_cross_modality_weights_are_the_mean_over_rgb(resnet_file, modality, length, channels):
    state = torch.load(resnet_file, weights_only=True)
    model = make(str(resnet_file), modality=modality, snippet_length=length)
    own = model.backbone.state_dict()
    rgb = state["conv1.weight"].numpy()
    expected = np.zeros((64, channels, 7, 7), np.float32)
    for channel in range(channels):
        expected[:, channel] = (rgb[:, 0] + rgb[:, 1] + rgb[:, 2]) / 3
    np.testing.assert_allclose(own.pop("conv1.weight").numpy(), expected, atol=1e-7)
    del state["conv1.weight"], state["fc.weight"], state["fc.bias"]
    assert same_tensors(own, state)


def test_rgb_takes_the_weights_as_they_are(resnet_file):
    state = torch.load(resnet_file, weights_only=True)
    del state["fc.weight"], state["fc.bias"]
    assert same_tensors(make(str(resnet_file)).backbone.state_dict(), state)


def test_random_weights_are_not_averaged_over_channels():
    weight = make(modality="flow", snippet_length=5).backbone.conv1.weight
    assert not torch.equal(weight[:, 0], weight[:, 1])


def test_an_adapted_convolution_keeps_everything_but_its_channels():
    conv = nn.Conv2d(3, 8, (3, 5), (2, 1), padding=(1, 2), dilation=(1, 2), padding_mode="reflect")
    adapted = adapt_convolution(conv, 4, average=True)
    assert re.sub(r"^Conv2d\(4", "Conv2d(3", repr(adapted)) == repr(conv).replace("(3, 8", "(3, 8")
    assert torch.equal(adapted.bias, conv.bias)
    gray = torch.rand(1, 1, 12, 12)
    torch.testing.assert_close(
        adapted(gray.expand(-1, 4, -1, -1) / 4), conv(gray.expand(-1, 3, -1, -1) / 3)
    )


def test_the_new_classifier_is_small():
    classifier = make(num_classes=101).classifier
    weight = classifier.weight.detach()
    assert classifier.bias.eq(0).all()
    assert 0.0009 < weight.std() < 0.0011
    assert abs(weight.mean()) < 1e-4


def test_the_same_seed_makes_the_same_network():
    assert same_tensors(make().state_dict(), make().state_dict())


def test_files_of_weights_in_other_wrappings(resnet_file, tmp_path):
    state = torch.load(resnet_file, weights_only=True)
    wrapped = tmp_path / "wrapped.pth"
    torch.save({"state_dict": {f"module.{key}": state[key] for key in state}, "epoch": 3}, wrapped)
    assert same_tensors(read_state(wrapped), state)
    features = {key: state[key] for key in state if not key.startswith("fc.")}
    torch.save(features, wrapped)
    assert same_tensors(make(str(wrapped)).backbone.state_dict(), features)


def test_torchvisions_own_files_fit():
    """GoogLeNet's and Inception's hold auxiliary heads, DenseNet's older names."""
    models = load_torchvision().models
    state = models.googlenet(weights=None, init_weights=False, aux_logits=True).state_dict()
    assert any(key.startswith("aux1.") for key in state)
    model, _ = make_backbone("googlenet", 3, "none")
    load_weights(model, state, ignore="fc.", source="file")
    assert torch.equal(model.conv1.conv.weight, state["conv1.conv.weight"])

    densenet = models.densenet121(weights=None).state_dict()
    older = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value
        for key, value in densenet.items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in older
    model, _ = make_backbone("densenet121", 3, "none")
    load_weights(model, older, ignore="classifier.", source="file")
    layer = "features.denseblock1.denselayer1.conv2.weight"
    assert torch.equal(model.state_dict()[layer], densenet[layer])


def weights_error(path):
    return input_error(make, str(path), error=CheckpointError)


def test_weights_that_do_not_fit(resnet_file, tmp_path):
    path = tmp_path / "w.pth"
    good = torch.load(resnet_file, weights_only=True)
    state = {key: value for key, value in good.items() if not key.startswith("layer1.0.")}
    torch.save({**state, "x": torch.zeros(1), "bn1.bias": torch.zeros(3)}, path)
    assert weights_error(path) == (
        f"{path}: the weights do not fit the model: 10 missing (layer1.0.conv1.weight, "
        "layer1.0.bn1.weight, layer1.0.bn1.bias, …); 1 unexpected (x); "
        "1 of another shape (bn1.bias); check --backbone and --weights"
    )
    torch.save({"a": 1}, path)
    assert weights_error(path) == (
        f"{path}: a state dict (name to tensor) expected; check --weights"
    )
    torch.save([torch.zeros(1)], path)
    assert weights_error(path) == (
        f"{path}: a state dict (name to tensor) expected; check --weights"
    )


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.makedirs, (str(self.path),)


def test_nothing_in_a_file_is_executed(tmp_path):
    path, trace = tmp_path / "w.pth", tmp_path / "trace"
    torch.save({"conv1.weight": Hostile(trace)}, path)
    assert weights_error(path) == (
        f"{path}: holds os.makedirs, which could run anything; tensors and plain values "
        "expected; check --weights"
    )
    assert not trace.exists()
    torch.load(path, weights_only=False)  # the file does what it is feared for
    assert trace.exists()


def test_files_that_are_no_tensors(tmp_path):
    path = tmp_path / "w.pth"
    assert input_error(make, str(path)) == (
        f"{path}: no such weights file; give none, imagenet or a path"
    )
    torch.save({"a": torch.zeros(1000)}, path)
    good = path.read_bytes()
    for data in (b"", b"hello world", good[:10], good[: len(good) // 2], good[:-30], b"\x80\x04."):
        path.write_bytes(data)
        assert input_error(read_state, path, error=CheckpointError) == (
            f"{path}: damaged, or not a file of PyTorch tensors; check --weights"
        )
    message = input_error(read_torch_file, tmp_path, "try again", error=CheckpointError)
    assert message == f"{tmp_path}: cannot be read: Is a directory; try again"


def test_imagenet_weights_are_those_of_torchvision(resnet_file, monkeypatch):
    state = torch.load(resnet_file, weights_only=True)
    weights = load_torchvision().models.ResNet18_Weights
    asked = []

    def get_state_dict(self, *_, **options):
        asked.append((self, options))
        return state

    monkeypatch.setattr(weights, "get_state_dict", get_state_dict)
    model = make("imagenet")
    assert asked == [(weights.DEFAULT, {"progress": False, "check_hash": True})]
    assert torch.equal(model.backbone.conv1.weight, state["conv1.weight"])


def test_imagenet_weights_without_a_network(monkeypatch):
    def no_network(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    weights = load_torchvision().models.ResNet18_Weights
    monkeypatch.setattr(weights, "get_state_dict", no_network)
    assert input_error(make, "imagenet") == (
        "ImageNet weights of resnet18 could not be downloaded (<urlopen error no network>); "
        "download them elsewhere and give the file with --weights PATH, or use --weights none"
    )


def test_imagenet_weights_of_a_model_that_has_none(monkeypatch):
    monkeypatch.setattr(
        load_torchvision().models, "get_model_weights", lambda name: type("NoWeights", (), {})
    )
    assert input_error(make, "imagenet") == (
        "ImageNet weights of resnet18 could not be downloaded (type object 'NoWeights' has no "
        "attribute 'DEFAULT'); download them elsewhere and give the file with --weights PATH, or "
        "use --weights none"
    )


def test_torchvision_is_missing(monkeypatch):
    def gone(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.import_module", gone)
    message = input_error(load_torchvision.__wrapped__, error=MissingDependencyError)
    assert message == "torchvision is not installed; run: pip install torchvision"


def test_another_failure_of_torchvision_is_not_hidden(monkeypatch):
    def broken(name):
        raise OSError("libjpeg.so: cannot open shared object file")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(OSError, match=r"^libjpeg\.so: cannot open shared object file$"):
        load_torchvision.__wrapped__()


# --- normalisation, dropout, consensus ---


@pytest.mark.parametrize("modality", MODALITIES)
def test_bytes_are_normalised_by_the_modality_table(modality):
    length = 2
    kind = get_modality(modality)
    model = make(modality=modality, snippet_length=length)
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
    model = make()
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    images = images_of(model, n=1, k=1)[0]
    model.eval().features(images)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    torch.testing.assert_close(seen[0], (images / 255 - mean) / std)


def test_normalisation_is_no_part_of_a_checkpoint():
    assert not {"mean", "std"} & set(make().state_dict())


def test_dropout_lies_between_the_pooling_and_the_classifier():
    model = make(dropout=0.75)
    features = torch.ones(4, 3, 512)
    seen = []
    model.classifier.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    model.train().score(features)
    assert set(seen[0].unique().tolist()) == {0.0, 4.0}
    assert 0.7 < float((seen[0] == 0).float().mean()) < 0.8
    model.eval().score(features)
    assert torch.equal(seen[1], features)


def test_the_dropout_of_the_head_is_its_own():
    model = make(consensus="gru", dropout=0.75, head_dropout=0.25)
    inside = {layer.p for layer in model.consensus.modules() if isinstance(layer, nn.Dropout)}
    assert (inside, model.dropout.p) == ({0.25}, 0.75)
    inside = {layer.p for layer in make(consensus="gru").consensus.dense[2:3]}
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
    model = make(consensus=consensus).eval()
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


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "googlenet"])
def test_all_batch_norms_but_the_first_are_frozen(name):
    model = make(backbone=name, partial_bn=True)
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


def test_all_batch_norms_learn_without_partial_bn():
    model = make(partial_bn=False)
    layers = batch_norms(model)
    before = [{key: value.clone() for key, value in b.state_dict().items()} for b in layers]
    train_a_step(model)
    for old, layer in zip(before, layers):
        assert not torch.equal(old["running_mean"], layer.running_mean)
        assert not torch.equal(old["bias"], layer.bias)


def test_testing_freezes_everything():
    model = make(partial_bn=True).eval()
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
            "unknown modality 'depth'; choose from rgb, flow, warpedflow, rgbdiff",
        ),
        ({"consensus": "topk", "top": 4}, "topk must average 1 to num_segments=3, got 4"),
    ],
)
def test_settings_out_of_range(changes, message):
    assert input_error(make, **changes) == message
