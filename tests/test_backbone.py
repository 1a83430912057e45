"""Backbones: found generically, cross-modality weights, files of weights."""

import copy
import os
import re
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from train_helpers import images_of, make_tsn, message_of, same_tensors

from train.run_folder import save_checkpoint
from tsn_core.backbone import (
    adapt_convolution,
    average_channels,
    first_convolution,
    load_weights,
    make_backbone,
    read_state,
)
from tsn_core.errors import CheckpointError, MissingDependencyError
from tsn_core.torch_file import read_torch_file
from tsn_core.torchvision_models import (
    imagenet_weights,
    load_torchvision,
    make_model,
    model_names,
)

BACKBONES = {  # name: (features, first convolution)
    "resnet18": (512, "conv1"),
    "mobilenet_v2": (1280, "features.0.0"),
    "mobilenet_v3_small": (1024, "features.0.0"),
    "googlenet": (1024, "conv1.conv"),
    "efficientnet_b0": (1280, "features.0.0"),
    "squeezenet1_1": (512, "features.0"),
    "densenet121": (1024, "features.conv0"),
    "convnext_tiny": (768, "features.0.0"),
    "swin_t": (768, "features.0.0"),
    "conv8": (512, "layers.0"),
}


class OnMeta(TorchFunctionMode):
    """Makes all weights without their numbers: a layer asks for them with ``torch.empty``."""

    def __torch_function__(self, function, types, arguments=(), options=None):
        options = dict(options or {})
        if function is torch.empty:
            options["device"] = "meta"
        return function(*arguments, **options)


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
    model = make_tsn(backbone=name, modality="flow", snippet_length=5, num_classes=4)
    found, conv = first_convolution(model.backbone, name)
    assert (found, conv.in_channels) == (conv_name, 10)
    assert model.classifier.weight.shape == (4, features)
    linear = [layer for layer in model.backbone.modules() if isinstance(layer, nn.Linear)]
    assert all(layer.out_features != 1000 for layer in linear)
    for mode in (True, False):
        video, snippets = model.train(mode)(images_of(model, k=2))
        assert (video.shape, snippets.shape) == ((2, 4), (2, 2, 4))


@pytest.mark.parametrize("name", model_names())
def test_every_classification_model_of_torchvision_is_a_backbone(name, monkeypatch):
    with OnMeta():
        whole = make_model(name)
        before = whole.state_dict()
        monkeypatch.setattr("tsn_core.backbone.make_model", lambda _: whole)
        model, features = make_backbone(name, 10, "none")
    conv_name, conv = first_convolution(model, name)
    assert (conv.in_channels, conv.weight.shape[1]) == (10, 10)
    kept = model.state_dict()
    (classifier,) = {key.rpartition(".")[0] for key in before.keys() - kept.keys()}
    assert not kept.keys() - before.keys()
    assert before[f"{classifier}.weight"].shape[:2] == (1000, features)
    assert {key for key in kept if kept[key].shape != before[key].shape} == {f"{conv_name}.weight"}
    norms = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert not norms or norms[0].num_features == conv.out_channels  # the first is that after it
    if len(kept) < 200:  # else it takes long, even without numbers
        images = torch.empty(2, 10, 224, 224, device="meta")
        assert model.to("meta").eval()(images).shape == (2, features)


def test_inception_is_found_too():
    model, features = make_backbone("inception_v3", 10, "none")
    assert model.eval()(torch.zeros(1, 10, 75, 75)).shape == (1, features)


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


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_googlenets_weights_get_rgb_as_they_were_trained_on_it(name):
    """Pixels from -1 to 1, whereas the others' are normalised by ImageNet's statistics."""
    model = make_tsn(backbone=name).eval()
    seen = []
    first_convolution(model.backbone, name)[1].register_forward_pre_hook(
        lambda _, arguments: seen.append(arguments[0])
    )
    images = images_of(model, n=1, k=1, size=80)[0]
    with torch.inference_mode():
        model.features(images)
    torch.testing.assert_close(seen[0], images / 127.5 - 1, atol=1e-5, rtol=0)


def test_googlenet_gets_flow_as_the_modality_table_says():
    model = make_tsn(backbone="googlenet", modality="flow", snippet_length=5).eval()
    seen = []
    model.backbone.conv1.conv.register_forward_pre_hook(
        lambda _, arguments: seen.append(arguments[0])
    )
    images = images_of(model, n=1, k=1)[0]
    with torch.inference_mode():
        model.features(images)
    torch.testing.assert_close(seen[0], (images - 127.5) / (0.226 * 255))


def backbone_of(module, monkeypatch, *, in_channels=10):
    """Make a backbone of a model that torchvision does not have."""
    monkeypatch.setattr("tsn_core.backbone.make_model", lambda _: copy.deepcopy(module))
    return make_backbone("own", in_channels, "none")


def test_what_cannot_be_a_backbone(monkeypatch):
    assert message_of(make_backbone, "resnet", 3, "none") == (
        "unknown backbone 'resnet'; any of torchvision's classification models, such as "
        "resnet18, resnet50, mobilenet_v2, googlenet, or conv8"
    )
    for in_channels in (3, 10):
        mlp = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 5))
        assert message_of(backbone_of, mlp, monkeypatch, in_channels=in_channels) == (
            "own: no convolution to adapt to the modality's channels; choose another --backbone"
        )
    headless = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert message_of(backbone_of, headless, monkeypatch) == (
        "own: no linear layer and no 1x1 convolution to take off as classifier; choose another "
        "--backbone"
    )
    grouped = nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.Flatten(), nn.Linear(6, 5))
    assert message_of(backbone_of, grouped, monkeypatch) == (
        "own: its first convolution has 3 groups, so that it cannot be adapted to 10 channels; "
        "choose another --backbone"
    )
    assert backbone_of(grouped, monkeypatch, in_channels=3)[1] == 6  # which needs no change


# --- conv8 ---


def test_conv8_has_the_numbers_of_the_slides():
    """Keras counts running means and variances, too; PyTorch's count of batches it has not."""
    model = make_tsn(backbone="conv8", consensus="gru", num_classes=3)

    def numbers(module, name=""):
        return sum(
            value.numel()
            for key, value in module.state_dict().items()
            if key.startswith(name) and not key.endswith("num_batches_tracked")
        )

    assert numbers(model.backbone) == 4_689_216
    assert sum(value.numel() for value in model.backbone.buffers()) == 960 * 2 + 4
    assert numbers(model.consensus.gru) == 110_976
    dense = [numbers(layer) for layer in model.consensus.dense if isinstance(layer, nn.Linear)]
    assert dense == [66_560, 524_800, 65_664, 8_256, 195]
    assert model.classifier is None


def test_conv8_is_the_network_of_the_slides():
    model, _ = make_backbone("conv8", 3, "none")
    model.eval()
    images = torch.randn(2, 3, 21, 26)
    hidden = images
    state = model.state_dict()
    layers = iter(model.layers.named_children())
    for pair in range(4):
        for _ in range(2):
            name, conv = next(layers)
            assert type(conv) is nn.Conv2d
            weight, bias = state[f"layers.{name}.weight"], state[f"layers.{name}.bias"]
            hidden = nn.functional.conv2d(hidden, weight, bias, padding=1).clamp(min=0)
            assert type(next(layers)[1]) is nn.ReLU
        name, norm = next(layers)
        assert type(norm) is nn.BatchNorm2d
        hidden = norm(hidden)
        next(layers)
        hidden = hidden.amax(dim=(2, 3)) if pair == 3 else nn.functional.max_pool2d(hidden, 2)
    assert next(layers, None) is None
    torch.testing.assert_close(model(images), hidden)
    assert model(images[:, :, :8, :8]).shape == (2, 512)


def test_conv8_has_no_weights_of_imagenet(tmp_path):
    assert message_of(make_backbone, "conv8", 3, "imagenet") == (
        "conv8 has no ImageNet weights; give --weights none, or the path of its own"
    )
    first, _ = make_backbone("conv8", 3, "none")
    path = tmp_path / "conv8.pth"
    torch.save(first.state_dict(), path)
    second, _ = make_backbone("conv8", 3, str(path))
    assert same_tensors(first.state_dict(), second.state_dict())


def test_conv8_learns():
    model = make_tsn(backbone="conv8", consensus="gru", head_dropout=0.0, dropout=0.0)
    images = images_of(model, n=4, size=16)
    images[::2] //= 4
    labels = torch.tensor([0, 1, 0, 1])
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(model.train()(images)[0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < 0.6 < losses[0]


def test_the_models_are_classifiers_only():
    names = model_names()
    assert {"resnet18", "googlenet", "vit_b_16"} <= set(names)
    assert "r3d_18" not in names and "fcn_resnet50" not in names


# --- weights ---


@pytest.mark.parametrize(("modality", "length", "channels"), [("flow", 5, 10), ("rgbdiff", 5, 15)])
def test_cross_modality_weights_are_the_mean_over_rgb(resnet_file, modality, length, channels):
    state = torch.load(resnet_file, weights_only=True)
    model = make_tsn(str(resnet_file), modality=modality, snippet_length=length)
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
    assert same_tensors(make_tsn(str(resnet_file)).backbone.state_dict(), state)


def test_random_weights_are_not_averaged_over_channels():
    weight = make_tsn(modality="flow", snippet_length=5).backbone.conv1.weight
    assert not torch.equal(weight[:, 0], weight[:, 1])


def test_an_adapted_convolution_keeps_everything_but_its_channels():
    conv = nn.Conv2d(3, 8, (3, 5), (2, 1), padding=(1, 2), dilation=(1, 2), padding_mode="reflect")
    adapted = adapt_convolution(conv, 4)
    assert re.sub(r"^Conv2d\(4", "Conv2d(3", repr(adapted)) == repr(conv)
    assert (adapted.bias is None, adapted.weight.shape) == (False, (8, 4, 3, 5))
    plain = adapt_convolution(nn.Conv2d(3, 8, 1, bias=False), 4)
    assert plain.bias is None


def test_averaged_weights_answer_gray_as_the_old_ones_do():
    weight = torch.randn(8, 3, 3, 5)
    assert average_channels(weight, 3) is weight
    gray = torch.rand(1, 1, 12, 12)
    for channels in (1, 2, 10, 15):
        averaged = average_channels(weight, channels)
        torch.testing.assert_close(
            nn.functional.conv2d(gray.expand(-1, channels, -1, -1) / channels, averaged),
            nn.functional.conv2d(gray.expand(-1, 3, -1, -1) / 3, weight),
        )


def test_the_new_classifier_is_small():
    classifier = make_tsn(num_classes=101).classifier
    weight = classifier.weight.detach()
    assert classifier.bias.eq(0).all()
    assert 0.0009 < weight.std() < 0.0011
    assert abs(weight.mean()) < 1e-4


def test_the_same_seed_makes_the_same_network():
    assert same_tensors(make_tsn().state_dict(), make_tsn().state_dict())


def test_files_of_weights_in_other_wrappings(resnet_file, tmp_path):
    state = torch.load(resnet_file, weights_only=True)
    wrapped = tmp_path / "wrapped.pth"
    torch.save({"state_dict": {f"module.{key}": state[key] for key in state}, "epoch": 3}, wrapped)
    assert same_tensors(read_state(wrapped, "resnet18"), state)
    features = {key: state[key] for key in state if not key.startswith("fc.")}
    torch.save(features, wrapped)
    assert same_tensors(make_tsn(str(wrapped)).backbone.state_dict(), features)


def test_torchvisions_own_files_fit():
    """GoogLeNet's and Inception's hold auxiliary heads, DenseNet's older names."""
    models = load_torchvision().models
    state = models.googlenet(weights=None, init_weights=False, aux_logits=True).state_dict()
    assert any(key.startswith("aux1.") for key in state)
    model, _ = make_backbone("googlenet", 3, "none")
    load_weights(model, state, ignore=("fc.",), source="file")
    assert torch.equal(model.conv1.conv.weight, state["conv1.conv.weight"])

    densenet = models.densenet121(weights=None).state_dict()
    older = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])\.", r"\1.\2.", key): value
        for key, value in densenet.items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in older
    model, _ = make_backbone("densenet121", 3, "none")
    load_weights(model, older, ignore=("classifier.",), source="file")
    layer = "features.denseblock1.denselayer1.conv2.weight"
    assert torch.equal(model.state_dict()[layer], densenet[layer])


def save_as_checkpoint(path, **changes):
    """Write a checkpoint as tsn-train does, and return the network in it."""
    model = make_tsn(**changes)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.add_(0.01 * torch.rand_like(value))
    save_checkpoint(path, model, ("walk", "run"), {})
    return model


@pytest.mark.parametrize(
    ("modality", "length", "channels"), [("rgb", 1, 3), ("flow", 5, 10), ("rgbdiff", 5, 15)]
)
@pytest.mark.parametrize("trained", ["rgb", "flow"])
def test_the_backbone_of_a_checkpoint_of_any_modality(
    tmp_path, trained, modality, length, channels
):
    path = tmp_path / "last.pt"
    had = save_as_checkpoint(path, modality=trained, snippet_length=5 if trained == "flow" else 1)
    model = make_tsn(str(path), modality=modality, snippet_length=length, num_classes=7)
    before, after = had.backbone.state_dict(), model.backbone.state_dict()
    weight = before.pop("conv1.weight").numpy()
    expected = weight
    if modality != trained:
        expected = np.stack([weight.mean(axis=1)] * channels, axis=1)
    assert after["conv1.weight"].shape == (64, channels, 7, 7)
    np.testing.assert_allclose(after.pop("conv1.weight").numpy(), expected, atol=1e-7)
    assert same_tensors(before, after)
    assert model.classifier.weight.shape == (7, 512)


def test_a_checkpoint_of_another_backbone(tmp_path):
    path = tmp_path / "last.pt"
    save_as_checkpoint(path, backbone="mobilenet_v3_small")
    assert weights_error(path) == (
        f"{path}: a checkpoint of mobilenet_v3_small, this run has resnet18; choose that "
        "--backbone, or other --weights"
    )
    content = torch.load(path, weights_only=True)
    torch.save({**content, "settings": None}, path)
    assert weights_error(path) == (
        f"{path}: a checkpoint of None, this run has resnet18; choose that --backbone, or other "
        "--weights"
    )
    for model in (None, {"backbone.conv1.weight": "x"}):
        torch.save({**content, "settings": {"backbone": "resnet18"}, "model": model}, path)
        assert weights_error(path) == (
            f"{path}: a state dict (name to tensor) expected; check --weights"
        )


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v2"])
def test_weights_whose_classifier_lies_inside_a_sequence(name, tmp_path):
    whole = make_model(name)
    path = tmp_path / "whole.pth"
    torch.save(whole.state_dict(), path)
    model, _ = make_backbone(name, 3, str(path))
    kept = model.state_dict()
    before = {key: value for key, value in whole.state_dict().items() if key in kept}
    assert same_tensors(kept, before)
    assert len(before) == len(whole.state_dict()) - 2


def weights_error(path):
    return message_of(make_tsn, str(path), error=CheckpointError)


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
    torch.save({**good, "conv1.weight": torch.zeros(32, 3, 7, 7)}, path)
    assert weights_error(path) == (
        f"{path}: the weights do not fit the model: 1 of another shape (conv1.weight); "
        "check --backbone and --weights"
    )
    for wrong in (
        torch.zeros(64, 3),
        torch.zeros(64, 0, 7, 7),  # of which there is no mean
        torch.zeros(64, 4, 7, 7, dtype=torch.int64),
    ):
        torch.save({**good, "conv1.weight": wrong}, path)
        assert weights_error(path) == (
            f"{path}: the weights do not fit the model: 1 of another shape (conv1.weight); "
            "check --backbone and --weights"
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
    assert message_of(make_tsn, str(path)) == (
        f"{path}: no such weights file; give none, imagenet or a path"
    )
    torch.save({"a": torch.zeros(1000)}, path)
    good = path.read_bytes()
    for data in (b"", b"hello world", good[:10], good[: len(good) // 2], good[:-30], b"\x80\x04."):
        path.write_bytes(data)
        assert message_of(read_state, path, "resnet18", error=CheckpointError) == (
            f"{path}: damaged, or not a file of PyTorch tensors; check --weights"
        )
    message = message_of(read_torch_file, tmp_path, "try again", error=CheckpointError)
    assert message == f"{tmp_path}: cannot be read: Is a directory; try again"


def test_imagenet_weights_are_those_of_torchvision(resnet_file, monkeypatch):
    state = torch.load(resnet_file, weights_only=True)
    weights = load_torchvision().models.ResNet18_Weights
    asked = []

    def get_state_dict(self, *_, **options):
        asked.append((self, options))
        return state

    monkeypatch.setattr(weights, "get_state_dict", get_state_dict)
    model = make_tsn("imagenet")
    assert asked == [
        (weights.DEFAULT, {"progress": False, "check_hash": True, "weights_only": True})
    ]
    assert torch.equal(model.backbone.conv1.weight, state["conv1.weight"])
    flow = make_tsn("imagenet", modality="flow", snippet_length=5).backbone.conv1.weight
    mean = state["conv1.weight"].mean(dim=1)
    assert all(torch.equal(flow[:, channel], mean) for channel in range(10))


def test_imagenet_weights_without_a_network(monkeypatch):
    def no_network(*_, **__):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", no_network)
    weights = load_torchvision().models.ResNet18_Weights
    monkeypatch.setattr(weights, "get_state_dict", no_network)
    assert message_of(make_tsn, "imagenet") == (
        "ImageNet weights of resnet18 could not be downloaded from "
        "https://download.pytorch.org/models/resnet18-f37072fd.pth (<urlopen error no network>); "
        "download that file elsewhere and give it with --weights PATH, or use --weights none"
    )


def test_a_download_of_weights_is_told_in_one_line(resnet_file, monkeypatch, tmp_path, capfd):
    state = torch.load(resnet_file, weights_only=True)
    weights = load_torchvision().models.ResNet18_Weights

    def get_state_dict(self, **_):
        print("Downloading: torch says so")
        return state

    monkeypatch.setattr(weights, "get_state_dict", get_state_dict)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    imagenet_weights("resnet18")
    file = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    line = f"downloading the ImageNet weights of resnet18 once, 45 MB, to {file}\n"
    assert capfd.readouterr() == ("", line)
    file.parent.mkdir()
    file.touch()
    imagenet_weights("resnet18")
    assert capfd.readouterr() == ("", "")


def test_imagenet_weights_of_a_model_that_has_none(monkeypatch):
    monkeypatch.setattr(
        load_torchvision().models, "get_model_weights", lambda name: type("NoWeights", (), {})
    )
    assert message_of(make_tsn, "imagenet") == (
        "torchvision has no ImageNet weights of resnet18; give a file with --weights PATH, or use "
        "--weights none"
    )


def test_torchvision_is_missing(monkeypatch):
    def gone(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.import_module", gone)
    message = message_of(load_torchvision.__wrapped__, error=MissingDependencyError)
    assert message == "torchvision is not installed; run: pip install torchvision"


def test_another_failure_of_torchvision_is_not_hidden(monkeypatch):
    def broken(name):
        raise OSError("libjpeg.so: cannot open shared object file")

    monkeypatch.setattr("importlib.import_module", broken)
    with pytest.raises(OSError, match=r"^libjpeg\.so: cannot open shared object file$"):
        load_torchvision.__wrapped__()


def test_weights_of_tsn_pytorch_need_to_be_imported(tmp_path):
    path = tmp_path / "x.pth.tar"
    torch.save({"state_dict": {"module.base_model.conv1.weight": torch.zeros(1)}}, path)
    assert weights_error(path) == (
        f"{path}: a checkpoint of tsn-pytorch or TSM; make a run of it with tsn-train "
        "import-checkpoint, and give the last.pt of that"
    )
