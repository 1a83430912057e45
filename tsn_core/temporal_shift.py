"""Temporal shift: a part of the channels moves to the snippet before, a part to the one after.

Source: Lin et al., TSM (ICCV 2019), section 3; placed in the residual branch of every block, before
its first convolution, as the authors' code does (github.com/mit-han-lab/temporal-shift-module).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from tsn_core.errors import InputError
from tsn_core.torchvision_models import load_torchvision

_MANY_BLOCKS = 23  # in the third stage; from there on only every second block shifts


class ShiftedConv2d(nn.Conv2d):
    """A convolution whose input is shifted in time first.

    Attributes:
        num_segments: Snippets of one video, K, that follow each other in a batch.
        shifted_channels: That move to the snippet before, and as many to the one after.
    """

    num_segments: int
    shifted_channels: int

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the convolution of (N * K, C, H, W)."""
        return super().forward(shift(images, self.num_segments, self.shifted_channels))


def shift(images: torch.Tensor, num_segments: int, channels: int) -> torch.Tensor:
    """Return images of K snippets each, shifted in time, with zeros where nothing came from.

    Args:
        images: Shape (N * K, C, H, W); K after one another are of one video.
        num_segments: K.
        channels: The first so many channels come from the snippet after, the next so many from the
            one before, and the rest stay.

    Returns:
        Of the same shape.
    """
    videos = images.unflatten(0, (-1, num_segments))  # (N, K, C, H, W)
    earlier, later = videos[:, :, :channels], videos[:, :, channels : 2 * channels]
    nothing = torch.zeros_like(earlier[:, :1])
    parts = (
        torch.cat([earlier[:, 1:], nothing], dim=1),
        torch.cat([nothing, later[:, :-1]], dim=1),
        videos[:, :, 2 * channels :],
    )
    return torch.cat(parts, dim=2).flatten(0, 1)


def add_temporal_shift(backbone: nn.Module, name: str, share: int, num_segments: int) -> None:
    """Make a backbone shift in time; its weights and their names stay.

    Args:
        backbone: A ResNet or MobileNetV2 of torchvision.
        name: Of it, for the message.
        share: One of so many channels moves to the snippet before, and one to the one after.
        num_segments: Snippets of one video, K.

    Raises:
        InputError: It is another backbone.
    """
    for path in shifted_layers(backbone, name):
        layer = backbone.get_submodule(path)
        assert isinstance(layer, nn.Conv2d)
        layer.__class__ = ShiftedConv2d  # in its place, with all that it holds
        layer.num_segments = num_segments  # type: ignore[assignment]
        layer.shifted_channels = layer.in_channels // share  # type: ignore[assignment]


def shifted_layers(backbone: nn.Module, name: str) -> list[str]:
    """Return the names of the convolutions before which a backbone shifts.

    In a ResNet whose third stage has 23 blocks or more, only every second block of a stage does.

    Raises:
        InputError: It is neither a ResNet nor a MobileNetV2.
    """
    models = load_torchvision().models
    if isinstance(backbone, models.ResNet):
        return list(_of_resnet(backbone))
    if isinstance(backbone, models.MobileNetV2):
        return list(_of_mobilenet(backbone))
    raise InputError(
        f"{name}: there is a temporal shift for resnets and mobilenet_v2 only; choose such a "
        "--backbone, or --temporal-shift 0"
    )


def _of_resnet(backbone: nn.Module) -> Iterator[str]:
    step = 2 if len(backbone.get_submodule("layer3")) >= _MANY_BLOCKS else 1  # type: ignore[arg-type]
    for stage in ("layer1", "layer2", "layer3", "layer4"):
        blocks = list(backbone.get_submodule(stage).named_children())
        for block, _ in blocks[::step]:
            yield f"{stage}.{block}.conv1"


def _of_mobilenet(backbone: nn.Module) -> Iterator[str]:
    """Yield the expanding convolutions of all blocks that have one and a residual connection."""
    for path, block in backbone.named_modules():
        if getattr(block, "use_res_connect", False) and len(block.conv) == 4:
            yield f"{path}.conv.0.0"
