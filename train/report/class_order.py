"""An order of classes in which those that are confused stand side by side."""

from __future__ import annotations

import numpy as np

_MOST_CLASSES = 1500  # clustering takes the third power of their number


def clustered(confusion: np.ndarray) -> list[int]:
    """Return class ids so that confused classes are neighbours.

    Clusters are joined, the most similar first, by the mean of the shares of their videos that were
    taken for each other's; joined ones are turned so that their closest ends meet.

    Args:
        confusion: Counts (C, C), rows are true classes.

    Source: Average linkage: Sokal and Michener, University of Kansas Science Bulletin 38 (1958).

    Examples:
        >>> clustered(np.array([[8, 0, 2], [0, 9, 1], [3, 1, 6]]))
        [0, 2, 1]
    """
    number = len(confusion)
    if number > _MOST_CLASSES:
        return list(range(number))
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    similarity = (shares + shares.T) / 2
    between = similarity.copy()
    np.fill_diagonal(between, -1.0)
    members = [[label] for label in range(number)]
    sizes = np.ones(number)
    for _ in range(number - 1):
        a, b = divmod(int(between.argmax()), number)
        if between[a, b] <= 0:  # nothing is confused any more: the rest keeps its order
            break
        a, b = min(a, b), max(a, b)
        members[a] = _joined(members[a], members[b], similarity)
        members[b] = []
        mean = (sizes[a] * between[a] + sizes[b] * between[b]) / (sizes[a] + sizes[b])
        sizes[a] += sizes[b]
        gone = (between[a] < 0) | (between[b] < 0)
        mean[gone] = -1.0
        between[a], between[:, a] = mean, mean
        between[b], between[:, b] = -1.0, -1.0
        between[a, a] = -1.0
    return [label for cluster in members for label in cluster]


def _joined(first: list[int], second: list[int], similarity: np.ndarray) -> list[int]:
    """Return two clusters as one, each turned or not so that the most similar ends meet."""
    ways = [(a, b) for a in (first, first[::-1]) for b in (second, second[::-1])]
    left, right = max(ways, key=lambda way: similarity[way[0][-1], way[1][0]])
    return left + right
