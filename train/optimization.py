"""TSN's parameter groups, optimisers and learning-rate schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from tsn_core.backbone import first_convolution
from tsn_core.errors import InputError
from tsn_core.modality import get_modality
from tsn_core.tsn import TSN

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("step", "cosine")
# For a first convolution: (weights, biases), by the modality's likeness; other layers have (1, 2).
_FIRST_CONVOLUTION = {"flow": (5.0, 10.0), "warpedflow": (5.0, 10.0)}
_OTHERWISE = (1.0, 2.0)


@dataclass(frozen=True)
class OptimizerSettings:
    """How the weights are updated.

    Attributes:
        optimizer: ``sgd`` or ``adamw``.
        learning_rate: Of the backbone, before the groups' factors.
        head_factor: The classifier and the consensus learn so many times faster.
        momentum: Of SGD.
        weight_decay: Of weights; biases and BatchNorm have none.
        schedule: ``step`` divides the rate by ten at ``decay_epochs``; ``cosine`` lets it fall
            along half a cosine, to nothing after the last step.
        decay_epochs: How many epochs are through when a step comes.
        warmup_epochs: Over so many first epochs the rate rises in a line. AdamW needs it: its steps
            are of full size from the first on, when a fresh classifier's gradients are only noise.
        gradient_clip: Largest norm of the gradient; 0 does not clip.
    """

    optimizer: str
    learning_rate: float
    head_factor: float
    momentum: float
    weight_decay: float
    schedule: str
    decay_epochs: tuple[int, ...]
    warmup_epochs: int
    gradient_clip: float

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise InputError(
                f"unknown optimizer {self.optimizer!r}; choose from {', '.join(OPTIMIZERS)}"
            )
        if self.schedule not in SCHEDULES:
            raise InputError(
                f"unknown schedule {self.schedule!r}; choose from {', '.join(SCHEDULES)}"
            )
        for name in ("learning_rate", "head_factor"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be > 0, got {getattr(self, name)}")
        for name in ("momentum", "weight_decay", "warmup_epochs", "gradient_clip"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} must be 0 or more, got {getattr(self, name)}")
        for epoch in self.decay_epochs:
            if epoch < 1:
                raise InputError(f"decay_epochs must be > 0, got {epoch}")


def parameter_groups(model: TSN, settings: OptimizerSettings) -> list[dict[str, Any]]:
    """Return the trained parameters in groups of equal rate and decay.

    Weights of the first convolution learn at 1x (flow: 5x), its biases at 2x (flow: 10x); other
    weights at 1x, biases at 2x, BatchNorm at 1x; biases and BatchNorm do not decay. With AdamW,
    whose step does not depend on the gradient's size, all of the backbone learns at 1x. The head
    is ``head_factor`` times faster.

    Source: the TSN authors' PyTorch code, ``TSN.get_optim_policies``.
    """
    _, first = first_convolution(model.backbone, model.settings.backbone)
    in_backbone = set(map(id, model.backbone.parameters()))
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for layer in model.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            if not parameter.requires_grad:
                continue
            is_norm = isinstance(layer, (nn.BatchNorm2d, nn.LayerNorm))
            is_bias = parameter.ndim == 1 and "bias" in name and not is_norm
            weight_factor, bias_factor = _OTHERWISE
            if layer is first:
                modality = get_modality(model.settings.modality).like
                weight_factor, bias_factor = _FIRST_CONVOLUTION.get(modality, _OTHERWISE)
            factor = 1.0 if is_norm else bias_factor if is_bias else weight_factor
            if settings.optimizer == "adamw":
                factor = 1.0
            if id(parameter) not in in_backbone:
                factor *= settings.head_factor
            decay = 0.0 if is_norm or is_bias else settings.weight_decay
            groups.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": parameters, "factor": factor, "weight_decay": decay}
        for (factor, decay), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


def is_fused(settings: OptimizerSettings, device: torch.device, type_: torch.dtype) -> bool:
    """Return whether one kernel should do all of a step: on a CPU, it gains nothing.

    Nor with SGD in fp16, whose first steps often overflow and are left out: torch's fused SGD has
    momentum from then on that nobody has set.
    """
    return device.type == "cuda" and not (settings.optimizer == "sgd" and type_ is torch.float16)


def make_optimizer(
    model: TSN, settings: OptimizerSettings, fused: bool = False
) -> torch.optim.Optimizer:
    """Return the optimiser over the model's parameter groups.

    Args:
        model: Whose parameters, on the device already.
        settings: Which one.
        fused: Whether all is done by one kernel; the same arithmetic, but for rounding.
    """
    groups, one = parameter_groups(model, settings), True if fused else None
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=settings.learning_rate, fused=one)
    return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum, fused=one)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Give an optimiser the state of another one, of another device perhaps; it stays fused."""
    groups = [
        {**group, "fused": own["fused"]}
        for group, own in zip(state["param_groups"], optimizer.param_groups)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})


def rate_at(step: int, steps_per_epoch: int, epochs: int, settings: OptimizerSettings) -> float:
    """Return the learning rate of a step.

    ``step`` moves it at whole epochs, as TSN does; warm-up and ``cosine`` move with every step.

    Args:
        step: 0-based, counted from the start of the training.
        steps_per_epoch: Steps of one epoch.
        epochs: Of the whole training.
        settings: The schedule and its numbers.
    """
    rate = settings.learning_rate
    warmup = settings.warmup_epochs * steps_per_epoch
    if step < warmup:
        rate *= (step + 1) / (warmup + 1)
    if settings.schedule == "cosine":
        return rate * 0.5 * (1 + math.cos(math.pi * step / (steps_per_epoch * epochs)))
    epoch = step // steps_per_epoch
    return rate / 10 ** sum(epoch >= decay for decay in settings.decay_epochs)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]
