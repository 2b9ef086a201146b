"""mobilenet_v2_small of tf-pose-estimation: MobileNetV2 of width 0.5 and six two-branch stages of separable convolutions.

Source: the published TensorFlow graph (ildoonet/tf-pose-estimation, Apache-2.0). Its convolutions pad as TensorFlow's SAME does: with
stride 2 on an even number of cells the one padding cell goes to the right and to the bottom.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

HEATMAP_CHANNELS = 19
PAF_CHANNELS = 38
STEM = 16
BATCH_NORM_EPSILON = 1e-3
# (input channels, output channels, stride, expanded channels) of each inverted residual; block 0 expands nothing.
BLOCKS = (
    (16, 8, 1, 16),
    (8, 16, 2, 48),
    (16, 16, 1, 96),
    (16, 16, 2, 96),
    (16, 16, 1, 96),
    (16, 16, 1, 96),
    (16, 32, 2, 96),
    *((32, 32, 1, 192),) * 3,
    (32, 48, 1, 192),
    *((48, 48, 1, 288),) * 2,
)
# Blocks up to this one work at stride 8 or finer, the others at stride 16; the outputs of both parts are the features.
LAST_FINE_BLOCK = 5
FEATURES = BLOCKS[LAST_FINE_BLOCK][1] + BLOCKS[-1][1]
STAGES = 6


class MobilenetV2Small(nn.Module):
    """(N, 3, H, W) BGR, x / 127.5 - 1 -> heatmaps (N, 19, H/8, W/8), the last one background, and PAFs (N, 38, H/8, W/8).

    H and W are multiples of 16, so that every convolution of stride 2 sees an even size and doubling the map of stride 16 gives the size
    of the one of stride 8. At other multiples of 8 the TensorFlow graph pads and resizes by fractions; this module raises RuntimeError.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _conv_bn(3, STEM, 3, stride=2)
        self.blocks = nn.ModuleList(InvertedResidual(*sizes) for sizes in BLOCKS)
        self.upsample = DoubleBilinear()
        self.paf = nn.ModuleList(_branch(PAF_CHANNELS, first=stage == 0) for stage in range(STAGES))
        self.heat = nn.ModuleList(_branch(HEATMAP_CHANNELS, first=stage == 0) for stage in range(STAGES))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self._features(x)
        pafs, heatmaps = self.paf[0](features), self.heat[0](features)
        for paf, heat in zip(self.paf[1:], self.heat[1:], strict=True):
            joined = torch.cat([pafs, heatmaps, features], 1)
            pafs, heatmaps = paf(joined), heat(joined)
        return heatmaps, pafs

    def _features(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, 64, H/8, W/8)."""
        x = functional.relu6(self.stem(x))
        for block in self.blocks[: LAST_FINE_BLOCK + 1]:
            x = block(x)
        fine = x
        for block in self.blocks[LAST_FINE_BLOCK + 1 :]:
            x = block(x)
        return torch.cat([fine, self.upsample(x)], 1)


class InvertedResidual(nn.Module):
    """1x1 expansion `e` + ReLU6, 3x3 depthwise `d` + ReLU6, 1x1 projection `p`; with the input added where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, stride: int, expanded: int) -> None:
        super().__init__()
        self.adds_input = stride == 1 and inputs == outputs
        self.e = _conv_bn(inputs, expanded) if expanded != inputs else None
        self.d = _conv_bn(expanded, expanded, 3, stride=stride, groups=expanded)
        self.p = _conv_bn(expanded, outputs)

    def forward(self, x: Tensor) -> Tensor:
        expanded = x if self.e is None else functional.relu6(self.e(x))
        y: Tensor = self.p(functional.relu6(self.d(expanded)))
        return x + y if self.adds_input else y


class Separable(nn.Module):
    """Depthwise convolution without bias, then 1x1 with bias (it holds the folded batch normalisation)."""

    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        self.dw = nn.Conv2d(inputs, inputs, kernel, padding=kernel // 2, groups=inputs, bias=False)
        self.pw = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pw(self.dw(x))
        return y


class Branch(nn.Module):
    """Separable convolutions with ReLU between them."""

    def __init__(self, layers: list[Separable]) -> None:
        super().__init__()
        self.l = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.l[:-1]:
            x = functional.relu(layer(x))
        y: Tensor = self.l[-1](x)
        return y


class DoubleBilinear(nn.Module):
    """(N, C, h, w) -> (N, C, 2h, 2w) as TensorFlow 1 does without align_corners: source = target / 2, clamped at the right and bottom edge.

    Even cells copy their source and odd cells lie half way to the next, which is what averaging each doubled cell with its right and
    lower neighbours gives; PyTorch's own bilinear mode puts its samples elsewhere.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        x = torch.cat([x, x[:, :, -1:]], 2)
        x = torch.cat([x, x[:, :, :, -1:]], 3)
        return functional.avg_pool2d(x, kernel_size=2, stride=1)


class ConvBatchNorm(nn.Sequential):
    """Convolution `0` and batch normalisation `1`. With stride 2, one zero cell is put to the right and to the bottom (SAME, even size)."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv, nn.BatchNorm2d(conv.out_channels, eps=BATCH_NORM_EPSILON))
        self.pads = conv.stride == (2, 2)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  Sequential's name
        x = functional.pad(input, (0, 1, 0, 1)) if self.pads else input
        y: Tensor = self[1](self[0](x))
        return y


def _conv_bn(inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1) -> ConvBatchNorm:
    padding = kernel // 2 if stride == 1 else 0
    return ConvBatchNorm(nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False))


def _branch(outputs: int, *, first: bool) -> Branch:
    inputs = FEATURES if first else PAF_CHANNELS + HEATMAP_CHANNELS + FEATURES
    hidden = 256 if first else 64
    return Branch(
        [
            Separable(inputs, 64, 3),
            Separable(64, 64, 3),
            Separable(64, 64, 3),
            Separable(64, hidden, 1),
            Separable(hidden, outputs, 1),
        ]
    )
