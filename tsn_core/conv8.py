"""The convolutional part of the student project that this package grew from."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn

_WIDTHS = (64, 128, 256, 512)  # of the four pairs of convolutions


class Conv8(nn.Module):
    """Eight 3x3 convolutions, in pairs of 64, 128, 256 and 512 channels, and a global maximum.

    Each convolution has biases and a ReLU; each pair ends with BatchNorm and max-pooling, of which
    the last is over all that is left. On RGB these are 4,689,216 numbers, running statistics
    counted; with the ``gru`` consensus it is the whole network of the project. There are no
    pretrained weights of it.

    Source: the project's slides, which list every layer with its number of parameters.
    """

    num_features = _WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise((3, *_WIDTHS)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            layers += [nn.Conv2d(outputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
            layers += [nn.BatchNorm2d(outputs), nn.MaxPool2d(2)]
        layers[-1] = nn.AdaptiveMaxPool2d(1)
        self.layers = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return features (N, 512) of images (N, 3, H, W), at least 8x8 px."""
        return self.layers(images).flatten(1)
