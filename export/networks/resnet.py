"""ResNet with the parameter names of torchvision. Source: He et al., arXiv:1512.03385; stride in the 3x3 convolution ("v1.5")."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

# Blocks in each of the four layers, and whether they are bottlenecks.
RESNETS = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
}
BOTTLENECK_EXPANSION = 4
WIDTHS = (64, 128, 256, 512)


class ResNet(nn.Module):
    """(N, 3, H, W) -> the last feature map (N, features, H/32, W/32); `features` is 512, or 2048 with bottlenecks.

    The classifier `fc` only keeps the checkpoint's names: nothing is computed with it. Without classes there is none.
    """

    def __init__(self, blocks: tuple[int, ...], bottleneck: bool, classes: int = 0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        expansion = BOTTLENECK_EXPANSION if bottleneck else 1
        inputs = (64, *(width * expansion for width in WIDTHS))
        layers = [_layer(inputs[i], width, expansion, count=blocks[i], stride=1 if i == 0 else 2) for i, width in enumerate(WIDTHS)]
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.features = inputs[-1]
        self.fc = nn.Linear(self.features, classes) if classes else None

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = functional.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        y: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return y


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _downsample(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1 to `width`, 3x3 with the stride, 1x1 to four times `width`, and a shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * BOTTLENECK_EXPANSION
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _downsample(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


def resnet_named(name: str, classes: int = 0) -> ResNet:
    """One of RESNETS, with random weights. KeyError for another name."""
    blocks, bottleneck = RESNETS[name]
    return ResNet(blocks, bottleneck, classes)


def _layer(inputs: int, width: int, expansion: int, *, count: int, stride: int) -> nn.Sequential:
    block = BasicBlock if expansion == 1 else Bottleneck
    later = (block(width * expansion, width, 1) for _ in range(count - 1))
    return nn.Sequential(block(inputs, width, stride), *later)


def _downsample(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    """The shortcut's projection, or None where the shapes agree."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
