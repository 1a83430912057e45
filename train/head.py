"""Consensus heads on stored features: a small training loop over tensors in memory.

With features of several modalities the head is a fusion head: every modality is standardised by
the statistics of its training videos, and the snippets' features are concatenated. A linear
classifier on them is the sum of one classifier for each modality, so that for ``avg`` this is late
fusion with weights learned for every class and feature; ``attention`` and ``gru`` look at all
modalities together, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from train.alignment import common_rows
from train.feature_file import Features
from train.optimization import OptimizerSettings, rate_at, set_rate
from train.settings import check_at_least, check_share
from tsn_core.consensus import make_consensus
from tsn_core.errors import InputError, TSNError
from tsn_core.sampling import random_stored
from tsn_core.seed import check_seed
from tsn_core.tsn import new_classifier, score_snippets

_SMALLEST_DEVIATION = 1e-6  # features below it are constant
_VIDEOS_AT_ONCE = 256  # that are scored together
_USUAL_STEPS, _FEWEST_EPOCHS = 500, 30


@dataclass(frozen=True)
class HeadSettings:
    """What a head is and how long it is trained.

    Attributes:
        consensus: One of ``tsn_core.consensus.CONSENSUS``.
        num_segments: Snippets per video in training, K.
        top: Snippets that the ``topk`` consensus averages, q.
        dropout: Of the features.
        head_dropout: Between the dense layers of ``gru``.
        epochs: Passes over the training videos; None takes enough for 500 steps, 30 at least.
        batch_size: Videos per step.
        seed: Of weights, order, snippets and dropout.
    """

    consensus: str
    num_segments: int
    top: int
    dropout: float
    head_dropout: float
    epochs: int | None
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        check_at_least(1, num_segments=self.num_segments, batch_size=self.batch_size)
        check_at_least(1, epochs=1 if self.epochs is None else self.epochs)
        check_seed(seed=self.seed)
        check_share(dropout=self.dropout, head_dropout=self.head_dropout)


@dataclass(frozen=True)
class Table:
    """Features of all modalities, side by side, of the videos that all of them have.

    Attributes:
        names: Of the videos, (V,).
        labels: Class ids, (V,) int64.
        class_names: By class id.
        blocks: Of each modality, (V, S, crops, F_m).
    """

    names: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    blocks: tuple[np.ndarray, ...]

    def values(self) -> np.ndarray:
        """Return the features of all modalities in one array, (V, S, crops, F) float32."""
        return np.concatenate(self.blocks, axis=-1, dtype=np.float32)

    def places(self, names: Sequence[str]) -> tuple[list[int], list[str]]:
        """Return where the videos of these names stand, and the names of those that do not."""
        place = {name: number for number, name in enumerate(self.names.tolist())}
        return [place[name] for name in names if name in place], [
            name for name in names if name not in place
        ]


def side_by_side(parts: Sequence[Features]) -> Table:
    """Return the features of several modalities of the same videos.

    Raises:
        InputError: They are not of the same videos, classes, or numbers of snippets and crops.
    """
    rows = common_rows(parts, "give features of")
    first = parts[0]
    for part in parts[1:]:
        for axis, what, option in ((1, "snippets", "--num-snippets"), (2, "crops", "--crops")):
            own, wanted = part.values.shape[axis], first.values.shape[axis]
            if own != wanted:
                raise InputError(
                    f"{part.name} has {own} {what} a video, {first.name} {wanted}; "
                    f"make both with the same {option}"
                )
    return Table(
        names=np.array(first.names)[rows[0]],
        labels=first.labels[rows[0]],
        class_names=first.class_names,
        blocks=tuple(part.values[own] for part, own in zip(parts, rows)),
    )


class Head(nn.Module):
    """Standardisation, dropout, classifier and consensus: a TSN without its backbone."""

    def __init__(self, settings: HeadSettings, num_features: int, num_classes: int) -> None:
        """Make a head with random weights.

        Raises:
            InputError: The settings do not fit the consensus.
        """
        super().__init__()
        self.mean: torch.Tensor
        self.deviation: torch.Tensor
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("deviation", torch.ones(num_features))
        self.dropout = nn.Dropout(settings.dropout)
        self.consensus = make_consensus(
            settings.consensus,
            num_segments=settings.num_segments,
            num_features=num_features,
            num_classes=num_classes,
            top=settings.top,
            dropout=settings.head_dropout,
        )
        self.classifier: nn.Linear | None = None
        if self.consensus.uses_scores:
            self.classifier = new_classifier(num_features, num_classes)

    def standardise_by(self, features: torch.Tensor) -> None:
        """Take mean and deviation of every feature from those of training, (..., F)."""
        flat = features.flatten(0, -2)
        deviation, mean = torch.std_mean(flat, dim=0, correction=0)
        self.mean.copy_(mean)
        constant = deviation < _SMALLEST_DEVIATION
        self.deviation.copy_(torch.where(constant, torch.ones_like(deviation), deviation))

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return scores of videos (N, C) and snippets (N, K, C) from features (N, K, F)."""
        standard = (features - self.mean) / self.deviation
        return score_snippets(self.dropout(standard), self.classifier, self.consensus)


def train_head(
    features: torch.Tensor,
    labels: torch.Tensor,
    num_classes: int,
    settings: HeadSettings,
    optimizer_settings: OptimizerSettings,
) -> Head:
    """Train a head; the same seed gives the same one.

    In every epoch each video takes part with K of its S snippets, one at random in each segment,
    and one of its crops.

    Args:
        features: Of the training videos, (V, S, crops, F) float32.
        labels: Their class ids, (V,) int64.
        num_classes: C.
        settings: What is trained, and how long.
        optimizer_settings: How; of the optimisers, ``adamw``.

    Raises:
        InputError: There are fewer snippets than segments.
        TSNError: The loss is no longer finite.
    """
    num_videos, num_snippets, num_crops, num_features = features.shape
    if settings.num_segments > num_snippets:
        raise InputError(
            f"--num-segments must be 1 to {num_snippets}, the snippets that the features have of "
            f"each video, got {settings.num_segments}"
        )
    torch.manual_seed(settings.seed)
    head = Head(settings, num_features, num_classes)
    head.standardise_by(features)
    optimizer = _optimizer(head, optimizer_settings)
    steps_per_epoch = math.ceil(num_videos / settings.batch_size)
    epochs = settings.epochs or max(math.ceil(_USUAL_STEPS / steps_per_epoch), _FEWEST_EPOCHS)
    step = 0
    head.train()
    for epoch in range(epochs):
        generator = np.random.default_rng((settings.seed, epoch))
        order = generator.permutation(num_videos)
        for batch in np.array_split(order, steps_per_epoch):
            chosen = [random_stored(num_snippets, settings.num_segments, generator) for _ in batch]
            crops = generator.integers(num_crops, size=(len(batch), 1))
            scores, _ = head(features[batch[:, None], np.stack(chosen), crops])  # (N, C)
            loss = functional.cross_entropy(scores, labels[batch])
            if not math.isfinite(loss.item()):
                raise TSNError(f"epoch {epoch + 1}: the loss is {loss.item()}; lower --lr")
            set_rate(optimizer, rate_at(step, steps_per_epoch, epochs, optimizer_settings))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if optimizer_settings.gradient_clip:
                nn.utils.clip_grad_norm_(head.parameters(), optimizer_settings.gradient_clip)
            optimizer.step()
            step += 1
    return head.eval()


def _optimizer(head: Head, settings: OptimizerSettings) -> torch.optim.Optimizer:
    """Return AdamW over the head's parameters, of which biases do not decay."""
    assert settings.optimizer == "adamw"
    decaying: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in head.named_parameters():
        (others if "bias" in name.rpartition(".")[2] else decaying).append(parameter)
    groups = [
        {"params": parameters, "factor": settings.head_factor, "weight_decay": decay}
        for parameters, decay in ((decaying, settings.weight_decay), (others, 0.0))
        if parameters
    ]
    return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)


def score(head: Head, features: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Score videos by all of their snippets and crops.

    Args:
        head: A trained head.
        features: (V, S, crops, F) float32.

    Returns:
        Scores of the videos (V, C): the consensus over the snippets of each crop, and the mean
        over crops; of the snippets (V, S, C), mean over crops. Both float32.
    """
    videos, snippets = [], []
    with torch.inference_mode():
        for part in features.split(_VIDEOS_AT_ONCE):
            n, _, crops = part.shape[:3]
            video, snippet = head(part.transpose(1, 2).flatten(0, 1))  # (N * crops, S, F)
            videos.append(video.unflatten(0, (n, crops)).mean(dim=1))
            snippets.append(snippet.unflatten(0, (n, crops)).mean(dim=1))
    return torch.cat(videos).numpy(), torch.cat(snippets).numpy()
