"""human-pose-estimation-0001 of Intel's Open Model Zoo: a lightweight OpenPose on MobileNetV1, batch normalisation folded into biases.

Source: layer table of the published OpenVINO IR; Osokin, "Real-time 2D Multi-Person Pose Estimation on CPU: Lightweight OpenPose",
arXiv:1811.12004. Every padding is symmetric.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

HEATMAP_CHANNELS = 19
PAF_CHANNELS = 38
FEATURES = 128
# (input channels, output channels, stride, dilation) of each depthwise separable convolution.
BODY = (
    (32, 64, 1, 1),
    (64, 128, 2, 1),
    (128, 128, 1, 1),
    (128, 256, 2, 1),
    (256, 256, 1, 1),
    (256, 512, 1, 1),
    (512, 512, 1, 2),
    *((512, 512, 1, 1),) * 4,
)


class HumanPoseEstimation0001(nn.Module):
    """(N, 3, H, W) BGR, (x - 128) / 255 -> heatmaps (N, 19, H/8, W/8), the last one background, and PAFs (N, 38, H/8, W/8).

    H and W are multiples of 8; published at 256 x 456.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv(3, 32, 3, stride=2)
        self.body = nn.ModuleList(DepthwiseSeparable(*sizes) for sizes in BODY)
        self.align, self.red = _conv(512, FEATURES), _conv(FEATURES, FEATURES)
        self.cdw = nn.ModuleList(_conv(FEATURES, FEATURES, 3, groups=FEATURES) for _ in range(3))
        self.cpw = nn.ModuleList(_conv(FEATURES, FEATURES) for _ in range(3))
        self.cpm = _conv(FEATURES, FEATURES, 3)
        self.init = nn.ModuleList(_conv(FEATURES, FEATURES, 3) for _ in range(3))
        self.paf1, self.hm1 = _head(FEATURES, 512, PAF_CHANNELS), _head(FEATURES, 512, HEATMAP_CHANNELS)
        joined = PAF_CHANNELS + HEATMAP_CHANNELS + FEATURES
        self.ref = nn.ModuleList([Refinement(joined, FEATURES), *(Refinement(FEATURES, FEATURES) for _ in range(4))])
        self.paf2, self.hm2 = _head(FEATURES, FEATURES, PAF_CHANNELS), _head(FEATURES, FEATURES, HEATMAP_CHANNELS)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        heatmaps, pafs, _ = self.with_features(x)
        return heatmaps, pafs

    def with_features(self, x: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Heatmaps and PAFs, with what both stages see and what the last heads see, each (N, 128, H/8, W/8): for distillation."""
        features = self._features(x)
        x = features
        for conv in self.init:
            x = functional.relu(conv(x))
        x = torch.cat([self.paf1(x), self.hm1(x), features], 1)
        for block in self.ref:
            x = block(x)
        return self.hm2(x), self.paf2(x), (features, x)

    def _features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 128, H/8, W/8), what both stages see."""
        x = functional.relu(self.stem(x))
        for block in self.body:
            x = block(x)
        aligned = functional.elu(self.align(x))
        x = functional.elu(self.red(aligned))
        for depthwise, pointwise in zip(self.cdw, self.cpw, strict=True):
            x = functional.elu(pointwise(functional.elu(depthwise(x))))
        return functional.relu(self.cpm(aligned + x))


class DepthwiseSeparable(nn.Module):
    """3x3 depthwise + ReLU, 1x1 + ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.dw = _conv(inputs, inputs, 3, stride=stride, dilation=dilation, groups=inputs)
        self.pw = _conv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.pw(functional.relu(self.dw(x))))


class Refinement(nn.Module):
    """1x1 squeeze, then a residual of two 3x3 convolutions, the second dilated by 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.sq = _conv(inputs, outputs)
        self.a = _conv(outputs, outputs, 3)
        self.b = _conv(outputs, outputs, 3, dilation=2)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.sq(x))
        return x + functional.relu(self.b(functional.relu(self.a(x))))


class Head(nn.ModuleList):
    """1x1 + ReLU, 1x1. A list, because the checkpoint numbers its two convolutions 0 and 1."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self[1](functional.relu(self[0](x)))
        return y


def _head(inputs: int, hidden: int, outputs: int) -> Head:
    return Head([_conv(inputs, hidden), _conv(hidden, outputs)])


def _conv(inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, dilation: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation, groups)
