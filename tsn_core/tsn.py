"""The Temporal Segment Network: one ConvNet shared by all snippets, and a consensus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from tsn_core.backbone import make_backbone
from tsn_core.consensus import interleaved, make_consensus
from tsn_core.errors import InputError
from tsn_core.modality import get_modality
from tsn_core.sampling import check_num_snippets
from tsn_core.temporal_shift import add_temporal_shift


@dataclass(frozen=True)
class ModelSettings:
    """Everything that the architecture depends on; travels in the checkpoint.

    Attributes:
        modality: Name of the modality, which fixes normalisation and channels.
        snippet_length: Units of one snippet, L.
        backbone: Name of a torchvision classification model, or ``conv8``.
        consensus: One of ``tsn_core.consensus.CONSENSUS``.
        num_segments: Snippets per video in training, K.
        num_classes: C.
        dropout: After the global pooling.
        top: Snippets that the ``topk`` consensus averages, q.
        partial_bn: Whether all BatchNorm layers but the first are frozen; some backbones have
            none.
        head_dropout: Between the dense layers of the ``gru`` consensus.
        temporal_shift: One of so many channels moves to the snippet before, and one to the one
            after, in every residual block; 0 shifts nothing. See ``tsn_core.temporal_shift``.
        input_mean: Subtracted from the uint8 values, one per channel of a unit; None takes the
            modality's.
    """

    modality: str
    snippet_length: int
    backbone: str
    consensus: str
    num_segments: int
    num_classes: int
    dropout: float
    top: int
    partial_bn: bool
    head_dropout: float = 0.5
    temporal_shift: int = 0
    input_mean: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_num_snippets(num_segments=self.num_segments)
        if self.num_classes < 2:
            raise InputError(f"at least 2 classes are needed, got {self.num_classes}")
        for name in ("dropout", "head_dropout"):
            rate = getattr(self, name)
            if not 0 <= rate < 1:
                raise InputError(f"{name} must be 0 or more and below 1, got {rate}")
        if self.temporal_shift and self.temporal_shift < 2:
            raise InputError(f"temporal_shift must be 0, or 2 or more, got {self.temporal_shift}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields by name, as JSON has them.

        What an older version did not know is left out where it has no effect, so that a run that
        was begun there is the same run here.
        """
        fields = asdict(self)
        if not self.temporal_shift:
            del fields["temporal_shift"]
        mean = fields.pop("input_mean")
        return fields if mean is None else {**fields, "input_mean": list(mean)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ModelSettings:
        """Return the settings that ``to_dict`` gave, also those of an older version.

        ``head_dropout`` was once the same as ``dropout``.

        Raises:
            InputError: A setting is out of range.
            TypeError: One is missing, or unknown.
        """
        if "dropout" in fields:
            fields = {"head_dropout": fields["dropout"], **fields}
        if fields.get("input_mean") is not None:
            fields = {**fields, "input_mean": tuple(map(float, fields["input_mean"]))}
        return cls(**fields)


class TSN(nn.Module):
    """Scores videos of K snippets.

    Attributes:
        settings: What the architecture was made from.
        backbone: Snippets to pooled features.
        classifier: Features to class scores; None where the consensus needs no snippet's scores.
        consensus: Scores and features of all snippets to the video's scores.
    """

    def __init__(self, settings: ModelSettings, weights: str = "none") -> None:
        """Make the network.

        Args:
            settings: The architecture.
            weights: Of the backbone: ``none``, ``imagenet`` or a path.

        Raises:
            InputError: A setting is out of range, or the weights cannot be had.
            CheckpointError: The weights do not fit.
        """
        super().__init__()
        self.settings = settings
        kind = get_modality(settings.modality)
        channels = settings.snippet_length * kind.unit_channels
        self.backbone, num_features = make_backbone(settings.backbone, channels, weights)
        self.dropout = nn.Dropout(settings.dropout)
        self.consensus = make_consensus(
            settings.consensus,
            num_segments=settings.num_segments,
            num_features=num_features,
            num_classes=settings.num_classes,
            top=settings.top,
            dropout=settings.head_dropout,
        )
        self.classifier: nn.Linear | None = None
        if self.consensus.uses_scores:
            self.classifier = new_classifier(num_features, settings.num_classes)
        unit_mean = kind.mean if settings.input_mean is None else settings.input_mean
        if len(unit_mean) != kind.unit_channels:
            raise InputError(
                f"input_mean: {settings.modality} has {kind.unit_channels} channels, got "
                f"{len(unit_mean)} numbers"
            )
        mean = torch.tensor(unit_mean * settings.snippet_length)
        std = torch.tensor(kind.std * settings.snippet_length)
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", mean.view(-1, 1, 1), persistent=False)
        self.register_buffer("std", std.view(-1, 1, 1), persistent=False)
        if settings.partial_bn:
            freeze_batch_norms(self.backbone)
        if settings.temporal_shift:
            add_temporal_shift(
                self.backbone, settings.backbone, settings.temporal_shift, settings.num_segments
            )

    def forward(self, snippets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Score videos.

        Args:
            snippets: uint8, shape (N, K, L * C, H, W), as the shards hold them.

        Returns:
            Scores of the videos (N, num_classes), and of their snippets (N, K, num_classes), both
            before softmax.
        """
        return self.score(self.snippet_features(snippets))

    def snippet_features(self, snippets: torch.Tensor) -> torch.Tensor:
        """Return the pooled features (N, S, F) of videos' snippets, uint8 (N, S, L * C, H, W).

        A temporal shift knows sequences of K snippets: other numbers of snippets are dealt out to
        several of that length, each over the whole video, as the ``gru`` consensus does; one that
        belongs to two of them gets the mean of its features there.
        """
        n, s = snippets.shape[:2]
        k = self.settings.num_segments
        if not self.settings.temporal_shift or s == k:
            return self.features(snippets.flatten(0, 1)).unflatten(0, (n, s))
        dealt = interleaved(s, k).flatten().to(snippets.device)  # (G * K,)
        features = self.features(snippets[:, dealt].flatten(0, 1)).unflatten(0, (n, -1))
        belongs = torch.nn.functional.one_hot(dealt, s).to(features)  # (G * K, S)
        return torch.einsum("gs,ngf->nsf", belongs / belongs.sum(dim=0), features)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """Return the pooled features (B, F) of snippets, uint8, shape (B, L * C, H, W).

        With a temporal shift, every K of them after one another are of one video.
        """
        return self.backbone((images.to(self.mean.dtype) - self.mean) / self.std)

    def score(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what ``forward`` does, from features (N, K, F).

        Where the consensus scores the video as a whole, every snippet gets the video's scores.
        """
        return score_snippets(self.dropout(features), self.classifier, self.consensus)


def new_classifier(num_features: int, num_classes: int) -> nn.Linear:
    """Return a classifier as TSN begins with: weights ~ N(0, 0.001), no bias."""
    classifier = nn.Linear(num_features, num_classes)
    nn.init.normal_(classifier.weight, std=0.001)
    nn.init.zeros_(classifier.bias)
    return classifier


def score_snippets(
    features: torch.Tensor, classifier: nn.Module | None, consensus: nn.Module
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the scores of videos (N, C) and of their snippets (N, K, C), before softmax.

    Args:
        features: Pooled features of the snippets, (N, K, F).
        classifier: Of single snippets; None where the consensus scores the video as a whole, and
            every snippet gets the video's scores.
        consensus: See ``tsn_core.consensus``.
    """
    if classifier is None:
        video = consensus(features, features)
        return video, video[:, None].expand(-1, features.shape[1], -1)
    scores = classifier(features)  # (N, K, C)
    return consensus(scores, features), scores


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm that only ever applies its statistics, whoever calls ``train``."""

    def train(self, mode: bool = True) -> FrozenBatchNorm2d:
        """Stay in testing."""
        super().train(False)
        return self


def freeze_batch_norms(model: nn.Module) -> None:
    """Freeze every BatchNorm layer of a model but the first: statistics, weights and biases.

    A model without BatchNorm, such as a vision transformer or ConvNeXt, stays as it is: its
    LayerNorms keep no statistics.

    Source: Wang et al., TSN (ECCV 2016), section 3.2, partial BN.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.BatchNorm2d)]
    for layer in layers[1:]:
        layer.__class__ = FrozenBatchNorm2d  # in its place, with all that it holds
        layer.eval()
        layer.requires_grad_(False)
