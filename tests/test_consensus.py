"""Every consensus against a naive reference, its gradients, and other numbers of snippets."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from tsn_core.consensus import CONSENSUS, make_consensus
from tsn_core.errors import InputError

N, K, C, F = 2, 4, 3, 5


def make(name, *, num_segments=K, top=2, dropout=0.5):
    torch.manual_seed(0)
    consensus = make_consensus(
        name, num_segments=num_segments, num_features=F, num_classes=C, top=top, dropout=dropout
    ).double()
    for parameter in consensus.parameters():  # away from their even start
        torch.nn.init.normal_(parameter, std=0.5)
    return consensus.eval()


def inputs(k=K, seed=0):
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(N, k, C, generator=generator, dtype=torch.float64)
    return scores, torch.randn(N, k, F, generator=generator, dtype=torch.float64)


def naive(name, consensus, scores, features, top=2):
    """The table of the design, one number at a time."""
    weight = consensus.weight.tolist() if hasattr(consensus, "weight") else []
    out = np.zeros((N, C))
    for n in range(N):
        for c in range(C):
            column = [float(scores[n, k, c]) for k in range(scores.shape[1])]
            if name == "avg":
                out[n, c] = sum(column) / len(column)
            elif name == "max":
                out[n, c] = max(column)
            elif name == "topk":
                out[n, c] = sum(sorted(column)[-top:]) / top
            elif name == "weighted":
                out[n, c] = sum(w * s for w, s in zip(weight, column))
            else:
                logits = [
                    sum(w * r for w, r in zip(weight, features[n, k].tolist()))
                    for k in range(len(column))
                ]
                total = sum(np.exp(logits))
                out[n, c] = sum(np.exp(a) / total * s for a, s in zip(logits, column))
    return out


@pytest.mark.parametrize("name", ["avg", "max", "topk", "weighted", "attention"])
def test_equals_the_naive_reference(name):
    consensus = make(name)
    scores, features = inputs()
    np.testing.assert_allclose(
        consensus(scores, features).detach().numpy(),
        naive(name, consensus, scores, features),
        rtol=1e-12,
    )


@pytest.mark.parametrize("top", range(1, 8))
def test_topk_equals_the_naive_reference_for_every_q(top):
    consensus = make("topk", num_segments=7, top=top)
    scores, features = inputs(7)
    found = consensus(scores, features)
    np.testing.assert_allclose(
        found.numpy(), naive("topk", consensus, scores, features, top), rtol=1e-12
    )
    if top == 1:
        assert torch.equal(found, make("max")(scores, features))
    if top == 7:
        torch.testing.assert_close(found, make("avg")(scores, features))


@pytest.mark.parametrize("name", ["avg", "max", "topk", "weighted", "attention"])
def test_ties_change_nothing(name):
    """Equal scores of several snippets, the second and the third largest among them."""
    scores, features = inputs()
    scores[0, :, 0] = torch.tensor([1.0, 3.0, 1.0, 1.0])
    scores[0, :, 1] = 2.0
    scores[1, :, 2] = torch.tensor([5.0, -1.0, 5.0, 5.0])
    consensus = make(name)
    np.testing.assert_allclose(
        consensus(scores, features).detach().numpy(),
        naive(name, consensus, scores, features),
        rtol=1e-12,
    )


@pytest.mark.parametrize("name", ["max", "topk"])
def test_the_gradient_of_ties_adds_up_to_that_of_one_score(name):
    scores, features = inputs()
    scores[:] = 1.0
    scores.requires_grad_()
    make(name)(scores, features).sum().backward()
    torch.testing.assert_close(scores.grad.sum(dim=1), torch.ones(N, C, dtype=torch.float64))


@pytest.mark.parametrize("name", CONSENSUS)
def test_crops_do_not_touch_each_other(name):
    """Ten crops of a video are scored like ten videos: each as if it were alone."""
    generator = torch.Generator().manual_seed(3)
    scores = torch.randn(10, K, C, generator=generator, dtype=torch.float64)
    features = torch.randn(10, K, F, generator=generator, dtype=torch.float64)
    consensus = make(name)
    together = consensus(scores, features)
    for crop in range(10):
        alone = consensus(scores[crop, None], features[crop, None])
        torch.testing.assert_close(together[crop, None], alone)
    if name == "avg":  # then the mean over crops is the mean over all views
        torch.testing.assert_close(together.mean(dim=0), scores.mean(dim=(0, 1)))


ORDERS = [(1, 0, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)]


@pytest.mark.parametrize("name", ["avg", "max", "topk", "attention"])
@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_the_snippets_does_not_matter(name, order):
    scores, features = inputs()
    consensus = make(name)
    torch.testing.assert_close(
        consensus(scores[:, order], features[:, order]), consensus(scores, features)
    )


@pytest.mark.parametrize("name", ["weighted", "gru"])
@pytest.mark.parametrize("order", ORDERS)
def test_the_order_of_the_snippets_matters_to_weights_and_gru(name, order):
    scores, features = inputs()
    consensus = make(name)
    difference = consensus(scores[:, order], features[:, order]) - consensus(scores, features)
    assert difference.abs().max() > 1e-3


def naive_gru(gru, sequence):
    """The last state of a GRU, from the equations in its documentation."""

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    w_in, w_state = gru.weight_ih_l0.detach().numpy(), gru.weight_hh_l0.detach().numpy()
    b_in, b_state = gru.bias_ih_l0.detach().numpy(), gru.bias_hh_l0.detach().numpy()
    state = np.zeros(64)
    for x in sequence:
        r_in, z_in, n_in = np.split(w_in @ x + b_in, 3)
        r_state, z_state, n_state = np.split(w_state @ state + b_state, 3)
        r, z = sigmoid(r_in + r_state), sigmoid(z_in + z_state)
        state = (1 - z) * np.tanh(n_in + r * n_state) + z * state
    return state


def test_gru_equals_the_naive_reference():
    consensus = make("gru")
    scores, features = inputs()
    video = consensus(scores, features).detach().numpy()
    layers = [layer for layer in consensus.dense if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in layers] == [1024, 512, 128, 64, C]
    for n in range(N):
        hidden = naive_gru(consensus.gru, features[n].numpy())
        for number, layer in enumerate(layers):
            hidden = layer.weight.detach().numpy() @ hidden + layer.bias.detach().numpy()
            if number < len(layers) - 1:
                hidden = np.maximum(hidden, 0)
        np.testing.assert_allclose(video[n], hidden, rtol=1e-9)


@pytest.mark.parametrize("snippets", [4, 6, 7, 8, 25])
def test_gru_sees_sequences_of_the_length_it_was_trained_on(snippets):
    """Each takes one snippet of every third of the video; all snippets are seen."""
    consensus = make("gru", num_segments=3)
    scores, features = inputs(snippets)
    number = math.ceil(snippets / 3)
    sequences = []
    for g in range(number):
        middle = Fraction(2 * g + 1, 2 * number)
        places = [math.floor((k + middle) * snippets / 3) for k in range(3)]
        for k, place in enumerate(places):
            assert k * snippets / 3 - 1 < place < (k + 1) * snippets / 3
        sequences.append(places)
    assert {place for places in sequences for place in places} == set(range(snippets))
    expected = torch.stack(
        [consensus(scores[:, places], features[:, places]) for places in sequences]
    ).mean(dim=0)
    torch.testing.assert_close(consensus(scores, features), expected)


@pytest.mark.parametrize("snippets", [1, 2, 3])
def test_gru_takes_fewer_snippets_as_they_are(snippets):
    consensus = make("gru", num_segments=3)
    scores, features = inputs(snippets)
    _, state = consensus.gru(features)
    torch.testing.assert_close(consensus(scores, features), consensus.dense(state[0]))


def test_gru_has_dropout_between_its_dense_layers_and_not_before_the_scores():
    dense = make("gru", dropout=0.3).dense
    kinds = [type(layer).__name__ for layer in dense]
    assert kinds == ["Linear", "ReLU", "Dropout"] * 3 + ["Linear", "ReLU", "Linear"]
    assert {layer.p for layer in dense if isinstance(layer, torch.nn.Dropout)} == {0.3}


def test_gru_needs_no_scores_and_the_others_do():
    assert {name: make(name).uses_scores for name in CONSENSUS} == {
        **dict.fromkeys(CONSENSUS, True),
        "gru": False,
    }
    _, features = inputs()
    consensus = make("gru")
    assert torch.equal(consensus(features, features), consensus(features * 0, features))


@pytest.mark.parametrize("name", CONSENSUS)
@pytest.mark.parametrize("k", [K, 7])
def test_gradients(name, k):
    consensus = make(name)
    scores, features = inputs(k)
    scores.requires_grad_()
    features.requires_grad_()
    parameters = list(consensus.parameters()) if name != "gru" else []

    def function(scores, features, *_):
        return consensus(scores, features)

    arguments = (scores, features, *parameters)
    assert torch.autograd.gradcheck(function, arguments, fast_mode=name == "gru")


@pytest.mark.parametrize("name", CONSENSUS)
@pytest.mark.parametrize("k", [1, 3, 25])
def test_another_number_of_snippets_than_in_training(name, k):
    scores, features = inputs(k)
    assert make(name)(scores, features).shape == (N, C)


@pytest.mark.parametrize("name", ["avg", "max", "topk", "attention", "weighted"])
@pytest.mark.parametrize("k", [1, 2, 3, K, 5, 8, 25])
def test_a_constant_score_keeps_its_consensus(name, k):
    consensus = make(name)
    total = sum(consensus.weight.tolist()) if name == "weighted" else 1.0
    constant = torch.tensor([2.0, -1.0, 0.5], dtype=torch.float64)
    _, features = inputs(k)
    video = consensus(constant.expand(N, k, C), features)
    np.testing.assert_allclose(
        video.detach().numpy(), total * constant.expand(N, C).numpy(), rtol=1e-6
    )


@pytest.mark.parametrize("name", ["weighted", "attention"])
@pytest.mark.parametrize("k", [1, 3, K, 7, 25])
def test_the_start_is_the_average(name, k):
    scores, features = inputs(k)
    fresh = make_consensus(
        name, num_segments=K, num_features=F, num_classes=C, top=2, dropout=0.0
    ).double()
    torch.testing.assert_close(fresh(scores, features), scores.mean(dim=1))


def test_attention_is_a_softmax_of_features():
    """It looks at a snippet's features, not at its scores, and at one vector for all classes."""
    consensus = make("attention")
    scores, features = inputs()
    ones = torch.ones_like(scores)
    torch.testing.assert_close(consensus(ones, features), ones[:, 0])
    with torch.no_grad():
        consensus.weight.mul_(1000)
    chosen = (features @ consensus.weight).argmax(dim=1)
    torch.testing.assert_close(consensus(scores, features), scores[torch.arange(N), chosen])


@pytest.mark.parametrize("k", [1, 2, 3, 8, 10, 25])
def test_weighted_gives_every_snippet_the_weight_of_its_share_of_the_video(k):
    consensus = make("weighted")
    weights = [Fraction(weight) for weight in consensus.weight.tolist()]
    scores, features = inputs(k)
    expected = np.zeros((N, C))
    for i in range(k):
        start, stop = Fraction(i, k), Fraction(i + 1, k)
        weight = Fraction(0)
        for j, own in enumerate(weights):
            covered = min(stop, Fraction(j + 1, K)) - max(start, Fraction(j, K))
            weight += own * max(covered, Fraction(0)) * K
        expected += float(weight) * scores[:, i].numpy()
    np.testing.assert_allclose(consensus(scores, features).detach().numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize(
    ("top", "num_segments", "k", "averaged"),
    [(2, 3, 3, 2), (2, 3, 25, 17), (1, 3, 25, 8), (3, 3, 25, 25), (1, 7, 2, 1), (2, 8, 4, 1)],
)
def test_topk_averages_the_same_share_of_the_snippets(top, num_segments, k, averaged):
    scores, features = inputs(k)
    expected = np.sort(scores.numpy(), axis=1)[:, k - averaged :].mean(axis=1)
    consensus = make("topk", num_segments=num_segments, top=top)
    np.testing.assert_allclose(consensus(scores, features).numpy(), expected, rtol=1e-12)


def message(name, **changes):
    with pytest.raises(InputError) as caught:
        make(name, **changes)
    return str(caught.value)


def test_messages():
    assert message("mean") == (
        "unknown consensus 'mean'; choose from avg, max, topk, weighted, attention, gru"
    )
    assert message("topk", top=0) == "topk must average 1 to num_segments=4, got 0"
    assert message("topk", top=5) == "topk must average 1 to num_segments=4, got 5"
