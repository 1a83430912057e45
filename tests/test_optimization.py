"""Learning-rate groups, schedule and optimisers."""

from itertools import chain

import pytest
import torch
from torch import nn
from train_helpers import model_settings

from train.optimization import (
    OptimizerSettings,
    is_fused,
    load_optimizer,
    make_optimizer,
    parameter_groups,
    rate_at,
    set_rate,
)
from tsn_core.consensus import CONSENSUS
from tsn_core.errors import InputError
from tsn_core.tsn import TSN


def settings(**changes):
    fields = {
        "optimizer": "sgd",
        "learning_rate": 0.01,
        "head_factor": 1.0,
        "momentum": 0.9,
        "weight_decay": 0.0005,
        "schedule": "step",
        "decay_epochs": (2, 4),
        "warmup_epochs": 0,
        "gradient_clip": 20.0,
    }
    return OptimizerSettings(**{**fields, **changes})


def by_name(model, **changes):
    """(factor, decay) of every parameter that the optimiser has, by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {}
    for group in parameter_groups(model, settings(**changes)):
        for parameter in group["params"]:
            assert names[id(parameter)] not in found, "in two groups"
            found[names[id(parameter)]] = (group["factor"], group["weight_decay"])
    return found


@pytest.mark.parametrize(("modality", "first"), [("rgb", 1), ("flow", 5), ("rgbdiff", 1)])
def test_sgd_groups(modality, first):
    model = TSN(
        model_settings(modality=modality, backbone="alexnet")
    )  # its convolutions have biases
    groups = by_name(model)
    assert groups["backbone.features.0.weight"] == (first, 0.0005)
    assert groups["backbone.features.0.bias"] == (2 * first, 0.0)
    assert groups["backbone.features.3.weight"] == (1, 0.0005)
    assert groups["backbone.features.3.bias"] == (2, 0.0)
    assert groups["classifier.weight"] == (1, 0.0005)
    assert groups["classifier.bias"] == (2, 0.0)


def test_batch_norm_does_not_decay():
    groups = by_name(TSN(model_settings(modality="flow")))
    assert groups["backbone.conv1.weight"] == (5, 0.0005)
    assert groups["backbone.bn1.weight"] == groups["backbone.bn1.bias"] == (1, 0.0)
    assert groups["backbone.layer4.1.bn2.bias"] == (1, 0.0)


def test_layer_norm_does_not_decay():
    groups = by_name(TSN(model_settings(backbone="convnext_tiny")))
    assert groups["backbone.features.0.1.weight"] == (1, 0.0)
    assert groups["backbone.features.0.1.bias"] == (1, 0.0)


def test_adamw_groups():
    model = TSN(model_settings(modality="flow"))
    groups = by_name(model, optimizer="adamw", head_factor=10.0)
    assert groups.pop("classifier.weight") == (10, 0.0005)
    assert groups.pop("classifier.bias") == (10, 0.0)
    assert groups["backbone.conv1.weight"] == (1, 0.0005)
    assert {factor for factor, _ in groups.values()} == {1}


def test_the_head_is_faster_by_its_factor():
    model = TSN(model_settings(consensus="attention"))
    groups = by_name(model, head_factor=3.0)
    assert groups["consensus.weight"] == (3, 0.0005)
    assert groups["classifier.weight"] == (3, 0.0005)
    assert groups["classifier.bias"] == (6, 0.0)
    assert groups["backbone.layer1.0.conv1.weight"] == (1, 0.0005)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("consensus", CONSENSUS)
@pytest.mark.parametrize("partial_bn", [True, False])
def test_every_trained_parameter_is_there_once(optimizer, consensus, partial_bn):
    model = TSN(model_settings(consensus=consensus, partial_bn=partial_bn))
    groups = by_name(model, optimizer=optimizer)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert set(groups) == trained
    norms = {name for name in groups if ".bn" in name or "downsample.1" in name}
    expected = {"backbone.bn1.weight", "backbone.bn1.bias"}
    assert (norms == expected) if partial_bn else (norms > expected)


@pytest.mark.parametrize("backbone", ["vit_b_32", "googlenet", "mobilenet_v3_small"])
def test_every_trained_parameter_of_other_backbones_is_there_once(backbone):
    model = TSN(model_settings(backbone=backbone))
    assert set(by_name(model)) == {name for name, _ in model.named_parameters()}


def test_the_optimisers_take_the_settings():
    model = TSN(model_settings(modality="flow"))
    sgd = make_optimizer(model, settings(momentum=0.8))
    assert type(sgd) is torch.optim.SGD
    assert {group["momentum"] for group in sgd.param_groups} == {0.8}
    assert {group["weight_decay"] for group in sgd.param_groups} == {0.0005, 0.0}
    assert type(make_optimizer(model, settings(optimizer="adamw"))) is torch.optim.AdamW


def test_set_rate_gives_every_group_its_share():
    model = TSN(model_settings(modality="flow"))
    optimizer = make_optimizer(model, settings())
    set_rate(optimizer, 0.5)
    rates = {}
    for group in optimizer.param_groups:
        rates.update({id(parameter): group["lr"] for parameter in group["params"]})
    assert rates[id(model.backbone.conv1.weight)] == 2.5
    assert rates[id(model.backbone.layer1[0].conv1.weight)] == 0.5
    assert rates[id(model.classifier.bias)] == 1.0


def test_a_step_of_sgd_by_hand():
    """Two steps with momentum and decay on one weight and one bias of the head."""
    model = TSN(model_settings())
    optimizer = make_optimizer(model, settings(momentum=0.5, weight_decay=0.1))
    set_rate(optimizer, 0.01)
    weight, bias = model.classifier.weight, model.classifier.bias
    nn.init.constant_(weight, 2.0)
    nn.init.constant_(bias, 2.0)
    w, b, speed_w, speed_b = 2.0, 2.0, 0.0, 0.0
    for _ in range(2):
        weight.grad, bias.grad = torch.full_like(weight, 3.0), torch.full_like(bias, 3.0)
        optimizer.step()
        speed_w = 0.5 * speed_w + 3.0 + 0.1 * w
        speed_b = 0.5 * speed_b + 3.0
        w, b = w - 0.01 * speed_w, b - 0.02 * speed_b
    torch.testing.assert_close(weight.detach(), torch.full_like(weight, w))
    torch.testing.assert_close(bias.detach(), torch.full_like(bias, b))


def rates_of(steps_per_epoch, epochs, **changes):
    """The rate of every step, epoch by epoch."""
    every = [
        rate_at(step, steps_per_epoch, epochs, settings(**changes))
        for step in range(steps_per_epoch * epochs)
    ]
    return [every[n : n + steps_per_epoch] for n in range(0, len(every), steps_per_epoch)]


def test_the_rate_falls_to_a_tenth_after_so_many_epochs():
    rates = rates_of(2, 6, learning_rate=0.001, decay_epochs=(4, 2))
    expected = [0.001, 0.001, 0.0001, 0.0001, 0.00001, 0.00001]
    for epoch, rate in zip(rates, expected):
        assert epoch == pytest.approx([rate, rate])
    assert rates_of(1, 90, learning_rate=0.001, decay_epochs=())[-1] == [0.001]


def test_the_rate_rises_in_a_line_at_first():
    rates = rates_of(2, 4, learning_rate=0.5, decay_epochs=(3,), warmup_epochs=2)
    assert list(chain(*rates)) == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.05, 0.05])


def test_the_rate_falls_along_half_a_cosine():
    rates = rates_of(2, 2, learning_rate=0.001, schedule="cosine")
    half = 0.5**0.5
    expected = [0.001, 0.0005 * (1 + half), 0.0005, 0.0005 * (1 - half)]
    assert list(chain(*rates)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adam"}, "unknown optimizer 'adam'; choose from sgd, adamw"),
        ({"schedule": "line"}, "unknown schedule 'line'; choose from step, cosine"),
        ({"learning_rate": 0.0}, "learning_rate must be > 0, got 0.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be > 0, got nan"),
        ({"head_factor": -1.0}, "head_factor must be > 0, got -1.0"),
        ({"momentum": -0.1}, "momentum must be 0 or more, got -0.1"),
        ({"weight_decay": float("nan")}, "weight_decay must be 0 or more, got nan"),
        ({"gradient_clip": -1.0}, "gradient_clip must be 0 or more, got -1.0"),
        ({"decay_epochs": (3, 0)}, "decay_epochs must be > 0, got 0"),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(InputError) as caught:
        settings(**changes)
    assert str(caught.value) == message


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_step_of_fp16_that_overflows_leaves_no_trace(optimizer):
    """As a GPU would take it; fused optimisers and scaled gradients work on a CPU, too."""
    chosen, weights = settings(optimizer=optimizer), []
    assert is_fused(chosen, torch.device("cuda"), torch.bfloat16)
    assert not is_fused(chosen, torch.device("cpu"), torch.bfloat16)
    for overflows in (False, True):
        torch.manual_seed(0)
        model = TSN(model_settings(backbone="conv8", num_classes=3))
        fused = is_fused(chosen, torch.device("cuda"), torch.float16)
        stepped = make_optimizer(model, chosen, fused=fused)
        scaler = torch.amp.GradScaler("cpu")
        for value in (torch.inf, 1.0) if overflows else (1.0,):
            stepped.zero_grad()
            scaler.scale(sum((value * one).sum() for one in model.parameters())).backward()
            scaler.step(stepped)
            scaler.update()
            if value == torch.inf:
                assert not any("momentum_buffer" in one for one in stepped.state.values())
        weights.append(torch.cat([one.detach().flatten() for one in model.parameters()]))
    torch.testing.assert_close(weights[1], weights[0])


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_fused_optimiser_goes_on_where_another_stopped(optimizer):
    """It takes the same steps, and stays what it is, whatever the state was made by."""
    weights = []
    for first, second in ((False, False), (True, True), (False, True), (True, False)):
        torch.manual_seed(0)
        model = TSN(model_settings(backbone="conv8", num_classes=3))
        chosen = settings(optimizer=optimizer)

        def step(one, model=model, number=0):
            torch.manual_seed(number)
            for parameter in model.parameters():
                parameter.grad = torch.randn_like(parameter)
            one.step()

        before = make_optimizer(model, chosen, fused=first)
        step(before)
        after = make_optimizer(model, chosen, fused=second)
        load_optimizer(after, before.state_dict())
        assert {bool(group["fused"]) for group in after.param_groups} == {second}
        step(after, number=1)
        weights.append(torch.cat([one.detach().flatten() for one in model.parameters()]))
    for one in weights[1:]:
        torch.testing.assert_close(one, weights[0], atol=1e-6, rtol=1e-5)
