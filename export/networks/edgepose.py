"""edgepose-n, -s and -m: our own networks, made to be distilled and to run in INT8.

Plain 3x3 convolutions, ReLU and nothing else that a quantiser or a tensor core dislikes: no depthwise or transposed convolution, no
exotic activation, channels in multiples of 16, one head for each output. Most layers work at stride 8, where the maps are; the deepest
at stride 16, where a convolution costs a quarter and sees twice as far. Residual blocks after K. He et al., "Deep Residual Learning for
Image Recognition", arXiv:1512.03385; the way back up by addition after T.-Y. Lin et al., "Feature Pyramid Networks for Object
Detection", arXiv:1612.03144.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional

from edgepose.engines.contract import Fit, InputContract

HEATMAP_CHANNELS = 19
PAF_CHANNELS = 38


@dataclass(frozen=True, slots=True)
class Size:
    """Channels at strides 2, 4, 8 and 16, hidden channels of a head, and how many residual blocks stand where."""

    half: int
    quarter: int
    near: int
    far: int
    head: int
    quarter_blocks: int
    near_blocks: int
    far_blocks: int
    refining_blocks: int


SIZES = {
    "n": Size(half=16, quarter=32, near=48, far=64, head=32, quarter_blocks=0, near_blocks=1, far_blocks=2, refining_blocks=2),
    "s": Size(half=16, quarter=32, near=64, far=128, head=64, quarter_blocks=1, near_blocks=2, far_blocks=2, refining_blocks=3),
    "m": Size(half=32, quarter=48, near=112, far=192, head=96, quarter_blocks=1, near_blocks=2, far_blocks=2, refining_blocks=3),
}


def edgepose_input() -> InputContract:
    """What the family takes, at 256 x 456; any multiples of 8 will do."""
    return InputContract(
        name="input",
        height=256,
        width=456,
        channels="BGR",
        mean=(128, 128, 128),
        std=(255, 255, 255),
        fit=Fit.PAD_RIGHT_BOTTOM,
        pad_value=(128, 128, 128),
    )


def edgepose_from_state(size: str, state: Mapping[str, Tensor]) -> EdgePose:
    """With as many channels as the checkpoint's heads have."""
    return EdgePose(SIZES[size], *channels_from_state(state))


def channels_from_state(state: Mapping[str, Tensor]) -> tuple[int, int]:
    """Of heatmaps and PAFs; the usual ones where the checkpoint has no such convolution."""
    usual = {"heatmaps.1.weight": HEATMAP_CHANNELS, "pafs.1.weight": PAF_CHANNELS}
    heatmaps, pafs = (len(state[key]) if key in state and state[key].ndim == 4 else channels for key, channels in usual.items())
    return heatmaps, pafs


class Features(NamedTuple):
    """Inner tensors, (N, channels, H/8, W/8), that distillation compares with a teacher's: what was seen near by, then with the
    surroundings added, then after refining."""

    near: Tensor
    joined: Tensor
    refined: Tensor


class EdgePose(nn.Module):
    """(N, 3, H, W) BGR, (x - 128) / 255 -> heatmaps (N, 19, H/8, W/8), the last one background, and PAFs (N, 38, H/8, W/8).

    H and W are multiples of 8. Channels are by default those of human-pose-estimation-0001; a student of another teacher has that one's.
    """

    def __init__(self, size: Size, heatmaps: int = HEATMAP_CHANNELS, pafs: int = PAF_CHANNELS) -> None:
        super().__init__()
        self.channels = size.near
        self.stem = nn.Sequential(
            ConvNormRelu(3, size.half, stride=2),
            ConvNormRelu(size.half, size.quarter, stride=2),
            *_blocks(size.quarter, size.quarter_blocks),
            ConvNormRelu(size.quarter, size.near, stride=2),
        )
        self.near = _blocks(size.near, size.near_blocks)
        self.far = nn.Sequential(ConvNormRelu(size.near, size.far, stride=2), *_blocks(size.far, size.far_blocks))
        self.back = nn.Sequential(nn.Conv2d(size.far, size.near, 1, bias=False), nn.BatchNorm2d(size.near))
        self.refining = _blocks(size.near, size.refining_blocks)
        self.heatmaps, self.pafs = (_head(size.near, size.head, channels) for channels in (heatmaps, pafs))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        heatmaps, pafs, _ = self.with_features(x)
        return heatmaps, pafs

    def with_features(self, x: Tensor) -> tuple[Tensor, Tensor, Features]:
        near = self.near(self.stem(x))
        joined = functional.relu(near + _doubled(self.back(self.far(near)), near))
        refined = self.refining(joined)
        return self.heatmaps(refined), self.pafs(refined), Features(near, joined, refined)


class ConvNormRelu(nn.Sequential):
    """3x3 convolution, batch normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """x + two 3x3 convolutions, then ReLU."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = ConvNormRelu(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.second(self.first(x)))


def _blocks(channels: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(Residual(channels) for _ in range(count)))


def _head(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(ConvNormRelu(inputs, hidden), nn.Conv2d(hidden, outputs, 1))


def _doubled(x: Tensor, like: Tensor) -> Tensor:
    """Each cell four times; an odd size of `like` loses the last row or column."""
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")[..., : like.shape[-2], : like.shape[-1]]
