"""One step of training against the same step written out by hand."""

import copy

import pytest
import torch
from test_optimization import settings as optimizer_settings
from torch import nn
from torch.nn import functional
from train_helpers import model_settings

from train.distributed import Ranks
from train.learner import Learner, Sums
from train.settings import LoopSettings
from tsn_core.errors import InputError
from tsn_core.tsn import TSN

CPU = torch.device("cpu")
RATE = 0.01


def loop(**changes):
    fields = {
        "epochs": 3,
        "seed": 0,
        "patience": 0,
        "ema": 0.0,
        "label_smoothing": 0.0,
        "precision": "fp32",
        "channels_last": False,
        "compile": False,
        "save_seconds": 300.0,
    }
    return LoopSettings(**{**fields, **changes})


@pytest.fixture
def network():
    """A network without BatchNorm and dropout: its batch may be cut anywhere."""
    torch.manual_seed(0)
    return TSN(model_settings(backbone="squeezenet1_1", dropout=0.0, num_classes=3))


def learner_of(model, **changes):
    optimizer = optimizer_settings(gradient_clip=changes.pop("gradient_clip", 0.0))
    return Learner(model, optimizer, loop(**changes), CPU, Ranks())


def batch(videos=4, seed=0, counts=None):
    generator = torch.Generator().manual_seed(seed)
    snippets = torch.randint(0, 256, (videos, 3, 3, 32, 32), generator=generator).byte()
    labels = torch.arange(videos) % 3
    counts = torch.ones(videos, dtype=torch.bool) if counts is None else torch.tensor(counts)
    return snippets, labels, torch.arange(videos), counts


def pieces(whole, *sizes):
    return list(zip(*(tensor.split(sizes) for tensor in whole)))


def weights(model):
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def step(learner, parts, videos=4):
    return learner.step(iter(parts), len(parts), videos, RATE)


def test_a_step_is_gradient_descent_on_the_mean_loss(network):
    twin = copy.deepcopy(network)
    snippets, labels, _, _ = batch()
    sums = step(learner_of(network, label_smoothing=0.3), [batch()])
    scores, _ = twin(snippets)
    # Label smoothing by its formula: 0.3 of the target is spread over the three classes.
    target = functional.one_hot(labels, 3) * 0.7 + 0.3 / 3
    losses = -(target * scores.log_softmax(dim=1)).sum(dim=1)
    assert sums == Sums(
        pytest.approx(float(losses.sum().detach()), rel=1e-5),
        int((scores.argmax(dim=1) == labels).sum()),
        4,
    )
    losses.mean().backward()
    weight = twin.classifier.weight
    expected = weight - RATE * (weight.grad + 0.0005 * weight)
    torch.testing.assert_close(network.classifier.weight, expected)


@pytest.mark.parametrize("sizes", [(2, 2), (1, 3), (1, 1, 1, 1)])
def test_parts_of_a_step_come_to_the_whole(network, sizes):
    twin = copy.deepcopy(network)
    whole = step(learner_of(network), [batch()])
    parts = step(learner_of(twin), pieces(batch(), *sizes))
    assert (parts.loss, parts.right, parts.videos) == (pytest.approx(whole.loss), whole.right, 4)
    torch.testing.assert_close(weights(twin), weights(network), atol=1e-6, rtol=1e-5)


def test_videos_that_do_not_count_change_nothing(network):
    twin = copy.deepcopy(network)
    counted = [tensor[:3] for tensor in batch()]
    expected = step(learner_of(network), [counted], videos=3)
    found = step(learner_of(twin), [batch(counts=[True, True, True, False])], videos=3)
    assert found == Sums(pytest.approx(expected.loss), expected.right, 3)
    torch.testing.assert_close(weights(twin), weights(network), atol=1e-6, rtol=1e-5)


def test_the_gradient_is_clipped_to_its_norm(network):
    twin = copy.deepcopy(network)
    snippets, labels, _, _ = batch()
    functional.cross_entropy(twin(snippets)[0], labels).backward()
    norm = torch.cat([p.grad.flatten() for p in twin.parameters()]).norm()
    assert norm > 0.01
    weight = twin.classifier.weight
    expected = weight - RATE * (weight.grad * 0.01 / norm + 0.0005 * weight)
    step(learner_of(network, gradient_clip=0.01), [batch()])
    torch.testing.assert_close(network.classifier.weight, expected, atol=1e-9, rtol=1e-5)


def test_the_average_follows_its_formula(network):
    learner = learner_of(network, ema=0.5)
    expected = None
    for number in range(4):
        step(learner, [batch(seed=number)])
        decay = min(0.5, (1 + number) / (10 + number))
        now = weights(learner.model)
        expected = now if expected is None else decay * expected + (1 - decay) * now
    torch.testing.assert_close(weights(learner.tested), expected, atol=1e-6, rtol=1e-5)
    assert not torch.equal(weights(learner.tested), weights(learner.model))


def test_the_average_holds_the_statistics_of_batch_norm_too():
    torch.manual_seed(0)
    learner = learner_of(TSN(model_settings(num_classes=3)), ema=0.5)
    for number in range(3):
        step(learner, [batch(seed=number)])
    mean = learner.model.backbone.bn1.running_mean
    averaged = learner.tested.backbone.bn1.running_mean
    assert not torch.equal(averaged, mean) and averaged.abs().sum() > 0
    assert int(learner.tested.backbone.bn1.num_batches_tracked) == 3


@pytest.mark.parametrize("changes", [{}, {"ema": 0.9}])
def test_a_learner_goes_on_from_a_state_to_the_last_bit(network, changes):
    first = learner_of(copy.deepcopy(network), **changes)
    for number in range(2):
        step(first, [batch(seed=number)])
    state, tested = copy.deepcopy(first.state()), copy.deepcopy(first.tested)
    second = learner_of(tested, **changes)
    second.load(state)
    for learner in (first, second):
        step(learner, [batch(seed=2)])
    assert torch.equal(weights(first.model), weights(second.model))
    assert torch.equal(weights(first.tested), weights(second.tested))


def test_a_loss_that_is_not_finite_changes_no_weight(network):
    nn.init.constant_(network.classifier.bias, float("inf"))
    before = weights(network)
    learner = learner_of(network, ema=0.9)
    assert not step(learner, [batch()]).loss < float("inf")
    assert torch.equal(weights(network), before)
    assert torch.equal(weights(learner.tested), before)


def test_validation_adds_up_losses_without_smoothing(network):
    learner = learner_of(network, label_smoothing=0.5)
    snippets, labels, _, counts = batch(counts=[True, True, False, True])
    sums = learner.validate((snippets, labels, torch.arange(4), counts))
    with torch.inference_mode():
        scores, _ = network.eval()(snippets)
    losses = [-float(scores[n].log_softmax(dim=0)[labels[n]]) for n in (0, 1, 3)]
    right = [int(scores[n].argmax() == labels[n]) for n in (0, 1, 3)]
    assert sums == Sums(pytest.approx(sum(losses), rel=1e-5), sum(right), 3)


# --- arithmetic ---


def test_channels_last_gives_the_same_step(network):
    twin = copy.deepcopy(network)
    expected = step(learner_of(network), [batch()])
    learner = learner_of(twin, channels_last=True)
    assert learner.model.backbone.features[0].weight.is_contiguous(
        memory_format=torch.channels_last
    )
    assert step(learner, [batch()]).loss == pytest.approx(expected.loss, rel=1e-5)
    torch.testing.assert_close(
        learner.model.classifier.weight, network.classifier.weight, atol=1e-6, rtol=1e-4
    )


def test_bf16_computes_most_in_it_and_keeps_weights_in_fp32(network):
    seen = []
    network.backbone.features[3].register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )
    twin = copy.deepcopy(network)
    expected = step(learner_of(network), [batch()])
    learner = learner_of(twin, precision="bf16")
    found = step(learner, [batch()])
    learner.validate(batch())
    assert seen[0] is torch.float32 and set(seen[1:]) == {torch.bfloat16}
    assert {parameter.dtype for parameter in twin.parameters()} == {torch.float32}
    assert found.loss == pytest.approx(expected.loss, rel=0.05)
    assert found.loss != expected.loss


def test_partial_batch_norm_trains_in_bf16_and_channels_last_as_in_fp32():
    """The statistics that are frozen stay as they were, and the losses are close."""
    losses = []
    for changes in ({}, {"precision": "bf16", "channels_last": True}):
        torch.manual_seed(0)
        model = TSN(model_settings(num_classes=3, partial_bn=True, dropout=0.0))
        frozen = model.backbone.layer1[0].bn1.running_mean.clone()
        first = model.backbone.bn1.running_mean.clone()
        learner = learner_of(model, **changes)
        losses.append([step(learner, [batch(seed=number)]).loss for number in range(3)])
        assert torch.equal(model.backbone.layer1[0].bn1.running_mean, frozen)
        assert not torch.equal(model.backbone.bn1.running_mean, first)
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert losses[1] != losses[0]


@pytest.mark.slow(reason="compiles a network")
def test_what_is_compiled_trains_as_what_is_not():
    """For real, by the compiler of this machine, in bf16 and channels last."""
    losses = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = TSN(model_settings(backbone="conv8", num_classes=3, dropout=0.0))
        learner = learner_of(
            model, compile=compiled, precision="bf16", channels_last=True, gradient_clip=20.0
        )
        losses.append([step(learner, [batch(seed=number)]).loss for number in range(3)])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


def test_fp16_needs_a_gpu(network):
    with pytest.raises(InputError) as caught:
        learner_of(network, precision="fp16")
    assert str(caught.value) == "--precision fp16 needs a GPU; choose bf16 or fp32"


def test_compile_trains_the_compiled_network(network, monkeypatch):
    """What the compiler itself makes of it is not ours to test: here it only notes the calls."""
    calls = []

    def compiler(module):
        def compiled(snippets):
            calls.append(1)
            return module(snippets)

        return compiled

    monkeypatch.setattr(torch, "compile", compiler)
    twin = copy.deepcopy(network)
    expected = step(learner_of(network), [batch()])
    learner = learner_of(twin, compile=True)
    assert step(learner, [batch()]) == expected
    assert calls == [1]
    assert torch.equal(weights(learner.model), weights(network))


@pytest.mark.parametrize("is_compiler", [True, False])
def test_a_network_that_cannot_be_compiled(network, monkeypatch, is_compiler):
    from torch._inductor.exc import InductorError

    reason = RuntimeError("no C++ compiler found\n\nmore")

    def compiled(snippets):
        raise InductorError(reason, None) if is_compiler else reason

    monkeypatch.setattr(torch, "compile", lambda module: compiled)
    learner = learner_of(network, compile=True)
    if not is_compiler:  # a bug keeps its traceback
        with pytest.raises(RuntimeError) as bug:
            step(learner, [batch()])
        assert bug.value is reason
        return
    with pytest.raises(InputError) as caught:
        step(learner, [batch()])
    assert str(caught.value) == (
        "--compile: torch could not compile the network: RuntimeError: no C++ compiler found; "
        "leave --compile out"
    )
