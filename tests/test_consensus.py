"""Every consensus against a naive reference, its gradients, and other numbers of snippets."""

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


def naive(name, consensus, scores, features):
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
                out[n, c] = sum(sorted(column)[-2:]) / 2
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

    assert torch.autograd.gradcheck(function, (scores, features, *parameters), fast_mode=True)


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


def test_the_start_is_the_average():
    scores, features = inputs()
    for name in ("weighted", "attention"):
        fresh = make_consensus(
            name, num_segments=K, num_features=F, num_classes=C, top=2, dropout=0.0
        ).double()
        torch.testing.assert_close(fresh(scores, features), scores.mean(dim=1))


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
    np.testing.assert_allclose(consensus(scores, features).detach().numpy(), expected, rtol=1e-6)


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
