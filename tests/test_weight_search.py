"""Weights that validation videos choose, against trying them all."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from train.fuse import fuse, spread_remark
from train.metrics import top_k_accuracy
from train.scores import Scores
from train.weight_search import _grid, search_on_val, search_weights
from tsn_core.errors import InputError


def part(name, seed, scale=1.0, signal=1.0, videos=40, classes=3, prefix="v"):
    """Scores that know something of the label; the labels are those of every part."""
    labels = np.random.default_rng(0).integers(0, classes, videos)
    scores = np.random.default_rng(seed).normal(size=(videos, classes))
    scores[np.arange(videos), labels] += signal
    scores = (scale * scores).astype(np.float32)
    return Scores(
        name=name,
        names=np.array([f"{prefix}{n}" for n in range(videos)]),
        labels=labels,
        scores=scores[:, None],
        video_scores=scores,
        class_names=np.array([f"c{n}" for n in range(classes)]),
    )


def accuracy(parts, weights):
    fused = fuse(parts, weights)
    return top_k_accuracy(fused.video_scores, fused.labels, 1)


def message(function, *arguments):
    with pytest.raises(InputError) as caught:
        function(*arguments)
    return str(caught.value)


@pytest.mark.parametrize(("number", "steps"), [(2, 5), (3, 4), (4, 3)])
def test_the_grid_has_every_share_once(number, steps):
    naive = [
        [count / steps for count in counts]
        for counts in itertools.product(range(steps + 1), repeat=number)
        if sum(counts) == steps
    ]
    assert [shares.tolist() for shares in _grid(number, steps)] == naive


@pytest.mark.parametrize("scale", [1.0, 0.01, 300.0])
def test_two_inputs_of_any_scale(scale):
    parts = [part("rgb", 1), part("flow-dis", 2, scale)]
    rgb, flow = search_weights(parts)
    assert rgb == 1.0
    best = max(accuracy(parts, [1.0, ratio / scale]) for ratio in np.geomspace(0.01, 100, 300))
    assert accuracy(parts, [rgb, flow]) >= best - 1 / 40  # a peak may lie between the grid's lines
    assert accuracy(parts, [rgb, flow]) > max(accuracy(parts, w) for w in ([1, 0], [0, 1]))


def test_never_worse_than_the_usual_weights_or_one_input_alone():
    for seed in range(8):
        parts = [
            part("rgb", seed, 2.0, 0.5),
            part("rgbdiff", seed + 50, 0.3, 0.8),
            part("flow-dis", seed + 99, signal=0.2),
        ]
        found = accuracy(parts, search_weights(parts))
        assert found >= accuracy(parts, None)
        assert found >= max(accuracy(parts, list(row)) for row in np.eye(3))


def test_of_equally_good_weights_those_closest_to_the_usual():
    """With one input that is always right by far, and a weak one, nearly all weights are."""
    parts = [part("rgb", 1, 0.1, 0.0), part("flow-dis", 2, 10.0, 20.0)]
    assert accuracy(parts, [1.0, 1.5]) == 1.0
    assert search_weights(parts) == [1.0, 1.5]
    flipped = replace(parts[0], video_scores=-parts[1].video_scores)
    # flow must outweigh what contradicts it: usual weights already do
    assert search_weights([flipped, parts[1]]) == [1.0, 1.5]
    # and so little as can be where they do not
    strong = replace(flipped, video_scores=3 * flipped.video_scores)
    rgb, flow = search_weights([strong, parts[1]])
    assert (rgb, accuracy([strong, parts[1]], [rgb, flow])) == (1.0, 1.0)
    assert 3 < flow < 3.2


def test_an_input_that_only_harms_gets_nothing():
    good = part("rgb", 1, signal=9.0, videos=400)
    harm = np.zeros_like(good.video_scores)
    harm[7, (good.labels[7] + 1) % 3] = 1e6  # even a hundredth of it makes this video wrong
    bad = replace(good, name="flow-dis", video_scores=harm)
    assert accuracy([good], [1.0]) == 1.0
    assert search_weights([good, bad]) == [1.0, 0.0]
    assert search_weights([bad, good]) == [0.0, 1.0]
    assert search_weights([bad, replace(good, name="flow-tvl1")]) == [0.0, 1.5]


def test_an_input_without_any_spread():
    good = part("rgb", 1, signal=9.0)
    flat = replace(good, name="flow-dis", video_scores=np.ones_like(good.video_scores))
    assert search_weights([flat, good]) == [1.5, 1.0]


def test_the_search_is_deterministic():
    parts = [part("rgb", 1), part("flow-dis", 2), part("rgbdiff", 3)]
    assert search_weights(parts) == search_weights(parts)


def test_numbers_of_inputs():
    parts = [part("rgb", n, videos=4) for n in range(7)]
    assert message(search_weights, parts) == "--search takes 2 to 6 inputs, got 7"
    assert message(search_weights, parts[:1]) == "--search takes 2 to 6 inputs, got 1"
    for number in (4, 5, 6):
        assert len(search_weights(parts[:number])) == number


def test_what_is_told_of_a_search():
    val = [part("rgb", 1), part("flow-dis", 2)]
    test = [part("rgb", 3, prefix="t"), part("flow-dis", 4, prefix="t")]
    weights, how = search_on_val(val, test)
    assert weights == search_weights(val)
    assert how == {
        "weights": "searched on val videos",
        "val_videos": 40,
        "val_top1": accuracy(val, weights),
        "usual_val_top1": accuracy(val, [1.0, 1.5]),
    }


def test_val_videos_that_are_tested_are_refused():
    val = [part("rgb", 1), part("flow-dis", 2)]
    names = val[0].names.copy()
    names[:4] = ["t0", "t1", "t2", "t3"]
    leaky = [replace(scores, names=names) for scores in val]
    test = [part("rgb", 3, prefix="t"), part("flow-dis", 4, prefix="t")]
    assert message(search_on_val, leaky, test) == (
        "4 of 40 val videos are among those to fuse (t0, t1, t2, …): weights that they choose "
        "would flatter the test; evaluate both subsets of the same split"
    )


def test_val_scores_of_something_else_are_refused():
    val = [part("rgb", 1), part("flow-dis", 2)]
    test = [part("rgb", 3, prefix="t"), part("flow-tvl1", 4, prefix="t")]
    assert message(search_on_val, val, test) == (
        "the val scores beside flow-tvl1 are of flow-dis, or of other classes; "
        "evaluate both subsets of the same run"
    )
    other = replace(test[1], name="flow-dis", class_names=np.array(["x", "y", "z"]))
    assert message(search_on_val, val, [test[0], other]) == (
        "the val scores beside flow-dis are of flow-dis, or of other classes; "
        "evaluate both subsets of the same run"
    )


def test_remark_on_spreads():
    rgb, flow = part("rgb", 1), part("flow-dis", 2)
    assert spread_remark([rgb, flow]) == ""
    wide = replace(flow, video_scores=30 * rgb.video_scores)
    for parts in ([rgb, wide], [wide, flow, rgb][::2]):
        assert spread_remark(parts) == (
            "the scores of flow-dis are spread 30 times as far as those of rgb, "
            "and weigh so much more; choose --weights accordingly, or --search"
        )
