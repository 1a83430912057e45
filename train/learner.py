"""A network and everything that changes while it learns: one step, and what a checkpoint keeps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from train.arithmetic import choose_algorithms, precision_type, settled
from train.distributed import Ranks, synchronize_norms
from train.feed import Batch
from train.optimization import (
    OptimizerSettings,
    is_fused,
    load_optimizer,
    make_optimizer,
    set_rate,
)
from train.settings import LoopSettings
from tsn_core.errors import InputError
from tsn_core.tsn import TSN


@dataclass
class Sums:
    """What is added up over videos.

    Attributes:
        loss: Of all videos.
        right: Videos whose largest score is that of their class.
        videos: How many.
    """

    loss: float = 0.0
    right: float = 0.0
    videos: float = 0.0

    def add(self, other: Sums) -> None:
        """Add those of other videos."""
        self.loss += other.loss
        self.right += other.right
        self.videos += other.videos


class Learner:
    """Trains a network by single steps.

    Attributes:
        model: The network that is trained.
        device: Where it runs.
    """

    def __init__(
        self,
        model: TSN,
        optimizer: OptimizerSettings,
        loop: LoopSettings,
        device: torch.device,
        ranks: Ranks,
    ) -> None:
        """Prepare training on a device.

        Raises:
            InputError: The device cannot compute in the precision.
        """
        loop = settled(loop, device)
        choose_algorithms(device)
        self._type = precision_type(loop.precision, device)
        self._loop = loop
        self.device = device
        self._ranks = ranks
        self._gradient_clip = optimizer.gradient_clip
        self.model = model.to(device)
        if loop.channels_last:
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        fused = is_fused(optimizer, device, self._type)
        self._optimizer = make_optimizer(model, optimizer, fused=fused)
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._type is torch.float16)
        self._average: AveragedModel | None = None
        if loop.ema:
            self._average = AveragedModel(
                model, multi_avg_fn=_moving_average(loop.ema), use_buffers=True
            ).eval()
        if ranks.size > 1:
            synchronize_norms(model, device)
        network: nn.Module = model
        if loop.compile:
            network = torch.compile(network)  # type: ignore[assignment]
        if ranks.size > 1:
            network = DistributedDataParallel(
                network,
                device_ids=[device] if device.type == "cuda" else None,
                broadcast_buffers=False,  # they are equal: statistics are taken over all ranks
            )
        self._network = network

    @property
    def tested(self) -> TSN:
        """The network to validate and to keep: the average of the weights, if there is one."""
        return self.model if self._average is None else self._average.module  # type: ignore[return-value]

    def step(self, parts: Iterable[Batch], num_parts: int, num_videos: int, rate: float) -> Sums:
        """Take one step of the optimiser, unless the loss is no longer finite.

        Args:
            parts: Batches of this rank on the device, whose gradients are added up.
            num_parts: How many these are.
            num_videos: That count, over all parts and ranks.
            rate: Learning rate before the groups' factors.

        Returns:
            The sums over the videos of all ranks. With a loss that is not finite, no weight has
            been changed.
        """
        set_rate(self._optimizer, rate)
        self._optimizer.zero_grad(set_to_none=True)
        self.model.train()
        total = torch.zeros(3, dtype=torch.float64, device=self.device)
        for number, (snippets, labels, _, counts) in enumerate(parts, start=1):
            with self._wait_with_gradients(number < num_parts):
                with self._autocast(), _explaining():
                    scores = self._network(snippets)[0]  # (N, C)
                losses = functional.cross_entropy(
                    scores.float(),
                    labels,
                    reduction="none",
                    label_smoothing=self._loop.label_smoothing,
                )
                # DDP takes the mean over ranks, which may have different numbers of videos.
                loss = (losses * counts).sum() * (self._ranks.size / num_videos)
                self._scaler.scale(loss).backward()
            total += _sums(scores, losses, labels, counts)
        sums = Sums(*self._ranks.add_up(total).tolist())
        if not math.isfinite(sums.loss):
            return sums
        if self._gradient_clip:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self._gradient_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._average is not None:
            self._average.update_parameters(self.model)
        return sums

    def validate(self, batch: Batch) -> Sums:
        """Return the sums over a batch of this rank's validation videos, on the device."""
        snippets, labels, _, counts = batch
        with torch.inference_mode(), self._autocast():
            scores = self.tested.eval()(snippets)[0]
            losses = functional.cross_entropy(scores.float(), labels, reduction="none")
            return Sums(*_sums(scores, losses, labels, counts).tolist())

    def add_up(self, sums: Sums) -> Sums:
        """Return the sums over the videos of all ranks."""
        mine = torch.tensor(astuple(sums), dtype=torch.float64)
        return Sums(*self._ranks.add_up(mine.to(self.device)).tolist())

    def state(self) -> dict[str, Any]:
        """Return all that a checkpoint needs beside the weights of ``tested``."""
        state: dict[str, Any] = {
            "optimizer": self._optimizer.state_dict(),
            "scaler": self._scaler.state_dict(),
        }
        if self._average is not None:
            state["trained_weights"] = self.model.state_dict()
            state["averaged_steps"] = int(self._average.n_averaged)
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint's state; ``model`` holds the weights of ``tested`` already."""
        load_optimizer(self._optimizer, state["optimizer"])
        self._scaler.load_state_dict(state.get("scaler", {}))
        if self._average is not None:
            self._average.module.load_state_dict(self.model.state_dict())
            self._average.n_averaged.fill_(state["averaged_steps"])
            self.model.load_state_dict(state["trained_weights"])

    def _autocast(self) -> Any:
        if self._type is torch.float32:
            return nullcontext()
        return torch.autocast(self.device.type, self._type)

    def _wait_with_gradients(self, more_to_come: bool) -> Any:
        """Let ranks exchange gradients only when their last part of a step is done."""
        if more_to_come and isinstance(self._network, DistributedDataParallel):
            return self._network.no_sync()
        return nullcontext()


@contextmanager
def _explaining() -> Iterator[None]:
    """Turn what a step cannot do with the user's settings into one line.

    Raises:
        InputError: The network could not be compiled, for lack of a C++ compiler for example, or
            BatchNorm has a single number to take the statistics of.
    """
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            raise InputError(
                f"--compile: torch could not compile the network: {reason}; leave --compile out"
            ) from None
        if "more than 1 value per channel" in reason:
            raise InputError(
                "BatchNorm cannot train on a single image of one pixel: a part of a step has only "
                "one snippet left; choose another --batch-size or a larger --input-size"
            ) from None
        raise


def _sums(
    scores: torch.Tensor, losses: torch.Tensor, labels: torch.Tensor, counts: torch.Tensor
) -> torch.Tensor:
    """Return loss, right and videos of a batch, (3,) float64."""
    right = (scores.detach().argmax(dim=1) == labels) & counts
    return torch.stack(
        [(losses.detach().double() * counts).sum(), right.sum().double(), counts.sum().double()]
    )


def _moving_average(decay: float) -> Any:
    """Return the update of an exponential moving average, faster in the first steps.

    The decay of step n is at most (1 + n) / (10 + n), so that the first weights, which are random
    in the head, are soon forgotten.

    Source: TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``.
    """

    def update(averages: Any, weights: Any, steps: torch.Tensor | int) -> None:
        if not averages[0].is_floating_point():  # all are of one type
            torch._foreach_copy_(averages, weights)
            return
        step = int(steps)  # the one time that a device is waited for
        torch._foreach_lerp_(averages, weights, 1 - min(decay, (1 + step) / (10 + step)))

    return update
