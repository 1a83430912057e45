"""Training by several processes that torchrun started: who is who, and what they add up."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed, nn

from tsn_core.backbone import replace_layer


@dataclass(frozen=True)
class Ranks:
    """The processes of a training.

    Attributes:
        rank: Number of this one.
        size: How many there are.
        local_rank: Number of this one on its machine, and of its GPU.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and shows progress."""
        return self.rank == 0

    def add_up(self, numbers: torch.Tensor) -> torch.Tensor:
        """Return the sum of a tensor over all ranks, the same on each."""
        if self.size > 1:
            distributed.all_reduce(numbers)
        return numbers

    def first_says(self, is_so: bool, device: torch.device) -> bool:
        """Return on all ranks what the first one says; nobody waits for a device for one rank."""
        if self.size == 1:
            return is_so
        return bool(self.add_up(torch.tensor(float(self.is_first and is_so), device=device)))

    def wait(self) -> None:
        """Return when all ranks have come here."""
        if self.size > 1:
            distributed.barrier()


def find_ranks() -> Ranks:
    """Return this process's place, as torchrun tells it in the environment; alone without it."""
    environment = os.environ
    if not {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= environment.keys():
        return Ranks()
    return Ranks(
        int(environment["RANK"]), int(environment["WORLD_SIZE"]), int(environment["LOCAL_RANK"])
    )


def join(ranks: Ranks, device: torch.device) -> None:
    """Connect the ranks: by NCCL between GPUs, by Gloo between CPUs.

    A GPU becomes the current one of its rank: otherwise NCCL would guess which one is to wait for
    the others, by the rank among all machines.
    """
    if ranks.size == 1 or distributed.is_initialized():
        return
    if device.type != "cuda":
        distributed.init_process_group("gloo")
        return
    own = torch.device("cuda", ranks.local_rank if device.index is None else device.index)
    torch.cuda.set_device(own)
    distributed.init_process_group("nccl", device_id=own)


def leave() -> None:
    """Disconnect the ranks, if they were connected."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def synchronize_norms(model: nn.Module, device: torch.device) -> None:
    """Let trained BatchNorm layers take their statistics over the batch of all ranks.

    So that a batch that is spread over ranks gives what it gives on one. Parameters and names in
    the state dict stay.
    """
    for name, layer in list(model.named_modules()):
        if isinstance(layer, nn.BatchNorm2d) and any(p.requires_grad for p in layer.parameters()):
            if device.type == "cuda":
                synced: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(layer)
            else:
                synced = _BatchNormOverRanks(layer)
            replace_layer(model, name, synced)


class _BatchNormOverRanks(nn.BatchNorm2d):
    """What ``torch.nn.SyncBatchNorm`` does, which has no CPU version."""

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum)
        self.__dict__.update(layer.__dict__)  # the very parameters and buffers

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise (B, C, H, W)."""
        if not self.training:
            return super().forward(images)
        # One differentiable sum over the ranks: of values, of squares, and of their number.
        wide = images.double()
        count = wide.new_tensor([images.numel() // images.shape[1]])
        total = _add_up(torch.cat([wide.sum((0, 2, 3)), wide.square().sum((0, 2, 3)), count]))
        number = total[-1]
        mean, square = (total[:-1] / number).chunk(2)
        exact = self.weight.dtype  # also where images have 16 bits
        variance = (square - mean * mean).to(exact)
        mean = mean.to(exact)
        self._track(mean.detach(), (variance * (number / (number - 1)).to(exact)).detach())
        scale = self.weight * torch.rsqrt(variance + self.eps)
        shift = self.bias - mean * scale
        out = images * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)
        return out.to(images.dtype)

    def _track(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        share = self.momentum
        if share is None:
            share = 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance, share)


class _SumOverRanks(torch.autograd.Function):
    """The sum of a tensor over the ranks; its gradient is the sum of the ranks' gradients."""

    @staticmethod
    def forward(context: Any, numbers: torch.Tensor) -> torch.Tensor:
        total = numbers.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def _add_up(numbers: torch.Tensor) -> torch.Tensor:
    return _SumOverRanks.apply(numbers)
