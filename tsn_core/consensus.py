"""Segmental consensus: from the snippets of a video to its class scores.

Every consensus is a module called with the snippets' class scores (N, K, C) and pooled features
(N, K, F), returning the video's scores (N, C). K at test time may differ from K in training.

Source: Wang et al., TSN (ECCV 2016) and its journal version (TPAMI 2018), section 3.3; ``gru`` is
the head of the student project that this package grew from.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

from tsn_core.errors import InputError

CONSENSUS = ("avg", "max", "topk", "weighted", "attention", "gru")


def make_consensus(
    name: str,
    *,
    num_segments: int,
    num_features: int,
    num_classes: int,
    top: int,
    dropout: float,
) -> Consensus:
    """Return the consensus of that name.

    Args:
        name: One of ``CONSENSUS``.
        num_segments: K in training.
        num_features: F.
        num_classes: C.
        top: How many snippets ``topk`` averages, q.
        dropout: Between the dense layers of ``gru``.

    Raises:
        InputError: There is none of that name, or q is out of range.
    """
    if name == "avg":
        return Average()
    if name == "max":
        return Maximum()
    if name == "topk":
        if not 1 <= top <= num_segments:
            raise InputError(f"topk must average 1 to num_segments={num_segments}, got {top}")
        return TopK(top, num_segments)
    if name == "weighted":
        return Weighted(num_segments)
    if name == "attention":
        return Attention(num_features)
    if name == "gru":
        return Recurrent(num_segments, num_features, num_classes, dropout)
    raise InputError(f"unknown consensus {name!r}; choose from {', '.join(CONSENSUS)}")


class Consensus(nn.Module):
    """What all of them share: whether they look at the snippets' own scores."""

    uses_scores = True


class Average(Consensus):
    """Mean over the snippets."""

    def forward(self, scores: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return (N, C)."""
        return scores.mean(dim=1)


class Maximum(Consensus):
    """For each class, the largest score of any snippet."""

    def forward(self, scores: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return (N, C)."""
        return scores.amax(dim=1)


class TopK(Consensus):
    """For each class, the mean of its q largest scores.

    With another number of snippets than in training the same share of them is averaged.
    """

    def __init__(self, top: int, num_segments: int) -> None:
        super().__init__()
        self.share = top / num_segments

    def forward(self, scores: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return (N, C)."""
        top = max(round(self.share * scores.shape[1]), 1)
        return scores.topk(top, dim=1).values.mean(dim=1)


class Weighted(Consensus):
    """Sum of the snippets' scores with learned weights, shared by all classes, 1/K at first.

    With another number of snippets than in training, every snippet takes that part of the segments'
    weights which it covers of them in time; their sum stays, and so does the consensus of a
    constant score.
    """

    def __init__(self, num_segments: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((num_segments,), 1 / num_segments))

    def forward(self, scores: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return (N, C)."""
        weight: torch.Tensor = self.weight
        if scores.shape[1] != len(weight):
            weight = _coverage(scores.shape[1], len(weight)).to(weight) @ weight
        return torch.einsum("k,nkc->nc", weight, scores)


def _coverage(snippets: int, segments: int) -> torch.Tensor:
    """Return the share of each segment that each snippet covers, (snippets, segments).

    Both cut the same video into equal parts, so the columns sum to 1.
    """
    units = torch.arange(snippets * segments)  # of which segments have ``snippets`` each
    shares = torch.zeros(snippets, segments, dtype=torch.float64)
    parts = torch.full(units.shape, 1 / snippets, dtype=torch.float64)
    return shares.index_put_((units // segments, units // snippets), parts, accumulate=True)


class Attention(Consensus):
    """Sum of the snippets' scores, weighted by a softmax over w·R with learned w, 0 at first."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_features))

    def forward(self, scores: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return (N, C)."""
        attention = (features @ self.weight).softmax(dim=1)  # (N, K)
        return torch.einsum("nk,nkc->nc", attention, scores)


class Recurrent(Consensus):
    """GRU(64) over the pooled features in time, then dense 1024-512-128-64-C with dropout.

    It scores the video from the features alone; the snippets' own scores are not used. A GRU knows
    sequences of the length that it was trained on: more snippets are dealt out to several of that
    length, each over the whole video, and the video has the mean of their scores.
    """

    uses_scores = False

    def __init__(
        self, num_segments: int, num_features: int, num_classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.num_segments = num_segments
        self.gru = nn.GRU(num_features, 64, batch_first=True)
        sizes = (64, 1024, 512, 128, 64)
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), nn.ReLU(), nn.Dropout(dropout)]
        self.dense = nn.Sequential(*layers[:-1], nn.Linear(sizes[-1], num_classes))

    def forward(self, scores: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Return (N, C)."""
        n, k = features.shape[:2]
        if k > self.num_segments:
            chosen = interleaved(k, self.num_segments).to(features.device)  # (G, K)
            features = features[:, chosen].flatten(0, 1)  # (N * G, K, F)
        _, state = self.gru(features)  # (1, N * G, 64)
        return self.dense(state[0]).view(n, -1, self.dense[-1].out_features).mean(dim=1)


def interleaved(snippets: int, length: int) -> torch.Tensor:
    """Return sequences of so many snippets, one of each segment, (G, length).

    G is the smallest number of sequences that hold every snippet.
    """
    number = -(-snippets // length)
    twice = 2 * torch.arange(number)[:, None] + 1  # middle of part g of a segment, in 1 / (2 G)
    return (2 * number * torch.arange(length) + twice) * snippets // (2 * number * length)
