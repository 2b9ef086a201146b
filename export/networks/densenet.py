"""DenseNet with the parameter names of torchvision. Source: Huang et al., arXiv:1608.06993."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

GROWTH = 32
BOTTLENECK = 4 * GROWTH
STEM = 64
# Layers in each of the four dense blocks.
DENSENETS = {
    "densenet121": (6, 12, 24, 16),
    "densenet169": (6, 12, 32, 32),
    "densenet201": (6, 12, 48, 32),
}


class DenseNet(nn.Module):
    """(N, 3, H, W) -> the last feature map (N, outputs, H/32, W/32), normalised but without ReLU.

    The classifier only keeps the checkpoint's names: nothing is computed with it. Without classes there is none.
    """

    def __init__(self, layers: tuple[int, ...], classes: int = 0) -> None:
        super().__init__()
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            conv0=nn.Conv2d(3, STEM, 7, 2, 3, bias=False), norm0=nn.BatchNorm2d(STEM), relu0=nn.ReLU(), pool0=nn.MaxPool2d(3, 2, 1)
        )
        channels = STEM
        for index, count in enumerate(layers, start=1):
            parts[f"denseblock{index}"] = DenseBlock(channels, count)
            channels += count * GROWTH
            if index < len(layers):
                parts[f"transition{index}"] = _transition(channels)
                channels //= 2
        parts["norm5"] = nn.BatchNorm2d(channels)
        self.features = nn.Sequential(parts)
        self.outputs = channels
        self.classifier = nn.Linear(channels, classes) if classes else None

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.features(x)
        return y


class DenseBlock(nn.ModuleDict):
    """Layers that each see the block's input and everything the layers before them gave."""

    def __init__(self, inputs: int, count: int) -> None:
        super().__init__({f"denselayer{i + 1}": DenseLayer(inputs + i * GROWTH) for i in range(count)})

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.values():
            x = torch.cat([x, layer(x)], 1)
        return x


class DenseLayer(nn.Module):
    """(N, inputs, h, w) -> (N, 32, h, w) by a 1x1 and a 3x3 convolution, each after normalisation and ReLU."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, BOTTLENECK, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(BOTTLENECK)
        self.conv2 = nn.Conv2d(BOTTLENECK, GROWTH, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(functional.relu(self.norm1(x)))
        y: Tensor = self.conv2(functional.relu(self.norm2(x)))
        return y


def densenet_named(name: str, classes: int = 0) -> DenseNet:
    """One of DENSENETS, with random weights. KeyError for another name."""
    return DenseNet(DENSENETS[name], classes)


def _transition(channels: int) -> nn.Sequential:
    """Halves channels and size."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            norm=nn.BatchNorm2d(channels), relu=nn.ReLU(), conv=nn.Conv2d(channels, channels // 2, 1, bias=False), pool=nn.AvgPool2d(2)
        )
    )
