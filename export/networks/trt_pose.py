"""trt_pose's networks: a backbone and a head of two branches, with the parameter names of NVIDIA's public checkpoints.

Source: https://github.com/NVIDIA-AI-IOT/trt_pose (`models/common.py`, `resnet.py`, `densenet.py`). Input (N, 3, H, W) RGB with ImageNet's
mean and standard deviation; H and W are multiples of 32.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgepose.export.networks.densenet import DENSENETS, DenseNet, densenet_named
from edgepose.export.networks.resnet import RESNETS, ResNet, resnet_named

BACKBONES = (*RESNETS, *DENSENETS)
BACKBONE_STRIDE = 32
UPSAMPLING_KERNEL = 4


@dataclass(frozen=True, slots=True)
class HeadShape:
    """Sizes of a head. `upsamplings` doublings of the map, each followed by `flats` 3x3 convolutions, run with `width` channels.

    The defaults are those of trt_pose's human pose networks.
    """

    heatmaps: int = 18
    pafs: int = 42
    width: int = 256
    upsamplings: int = 3
    flats: int = 0

    @property
    def stride(self) -> int:
        """Input pixels per map cell; 0 where the head enlarges the map beyond the input."""
        return BACKBONE_STRIDE >> self.upsamplings


class CmapPafHead(nn.Module):
    """(N, inputs, h, w) -> heatmaps, PAFs; h and w times 2 ** upsamplings. Without upsampling each branch is a single 1x1 convolution."""

    def __init__(self, inputs: int, shape: HeadShape) -> None:
        super().__init__()
        self.cmap_conv = _plain_branch(inputs, shape.heatmaps, shape)
        self.paf_conv = _plain_branch(inputs, shape.pafs, shape)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.cmap_conv(x), self.paf_conv(x)


class CmapPafHeadAttention(nn.Module):
    """As CmapPafHead, with each branch's features weighted by a sigmoid (heatmaps) or a tanh (PAFs) of a 3x3 convolution of themselves."""

    def __init__(self, inputs: int, shape: HeadShape) -> None:
        super().__init__()
        self.cmap_up, self.paf_up = _upsampling(inputs, shape), _upsampling(inputs, shape)
        self.cmap_att = nn.Conv2d(shape.width, shape.width, 3, padding=1)
        self.paf_att = nn.Conv2d(shape.width, shape.width, 3, padding=1)
        self.cmap_conv = nn.Conv2d(shape.width, shape.heatmaps, 1)
        self.paf_conv = nn.Conv2d(shape.width, shape.pafs, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        heat, paf = self.cmap_up(x), self.paf_up(x)
        heat = heat * torch.sigmoid(self.cmap_att(heat))
        paf = paf * torch.tanh(self.paf_att(paf))
        return self.cmap_conv(heat), self.paf_conv(paf)


class ResNetBackbone(nn.Module):
    """Holds the network under the name `resnet`, as the checkpoints do."""

    def __init__(self, resnet: ResNet) -> None:
        super().__init__()
        self.resnet = resnet

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.resnet(x)
        return y


class DenseNetBackbone(nn.Module):
    """Holds the network under the name `densenet`, as the checkpoints do."""

    def __init__(self, densenet: DenseNet) -> None:
        super().__init__()
        self.densenet = densenet

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.densenet(x)
        return y


def trt_pose_from_state(backbone: str, attention: bool, state: Mapping[str, Tensor]) -> nn.Sequential:
    """The network `backbone` (one of BACKBONES) whose head and unused classifier have the sizes found in `state`; weights are random.

    Its forward: (N, 3, H, W) -> heatmaps (N, heatmaps, H/stride, W/stride) without a background, PAFs (N, pafs, H/stride, W/stride).
    """
    shape = head_shape_from_state(state)
    head = CmapPafHeadAttention if attention else CmapPafHead
    if backbone in RESNETS:
        resnet = resnet_named(backbone, _length(state, "0.resnet.fc.bias", 0))
        return nn.Sequential(ResNetBackbone(resnet), head(resnet.features, shape))
    densenet = densenet_named(backbone, _length(state, "0.densenet.classifier.bias", 0))
    return nn.Sequential(DenseNetBackbone(densenet), head(densenet.outputs, shape))


def head_shape_from_state(state: Mapping[str, Tensor]) -> HeadShape:
    """Sizes of either kind of head, from names and shapes of its weights; the defaults stand in for what is not there."""
    usual = HeadShape()
    kernels = _upsampling_kernels(state)
    upsamplings = sum(kernel == UPSAMPLING_KERNEL for kernel in kernels)
    if not any(key.startswith("1.") for key in state):
        return usual
    return HeadShape(
        heatmaps=_branch_channels(state, "cmap", usual.heatmaps),
        pafs=_branch_channels(state, "paf", usual.pafs),
        width=_width(state, usual.width),
        upsamplings=upsamplings,
        flats=(len(kernels) - upsamplings) // upsamplings if upsamplings else 0,
    )


def _upsampling_kernels(state: Mapping[str, Tensor]) -> list[int]:
    """Kernel sizes of the heatmap branch's convolutions before its last: 4 where it doubles the map, 3 where it does not."""
    pattern = re.compile(r"1\.cmap_(up|conv\.0)\.\d+\.weight")
    return [weight.shape[-1] for key, weight in state.items() if pattern.fullmatch(key) and weight.ndim == 4]


def _width(state: Mapping[str, Tensor], otherwise: int) -> int:
    """Channels between upsampling and the last convolution: input channels of the latter, where it is not the head's only one."""
    for key in ("1.cmap_att.weight", "1.cmap_conv.1.weight"):
        if key in state and state[key].ndim == 4:
            return int(state[key].shape[1])
    return otherwise


def _branch_channels(state: Mapping[str, Tensor], branch: str, otherwise: int) -> int:
    return _length(state, f"1.{branch}_conv.bias", _length(state, f"1.{branch}_conv.1.bias", otherwise))


def _length(state: Mapping[str, Tensor], key: str, otherwise: int) -> int:
    """Elements of the vector `key`, or `otherwise` where there is no such vector."""
    return len(state[key]) if key in state and state[key].ndim == 1 else otherwise


def _plain_branch(inputs: int, outputs: int, shape: HeadShape) -> nn.Module:
    if not shape.upsamplings:
        return nn.Conv2d(inputs, outputs, 1)
    return nn.Sequential(_upsampling(inputs, shape), nn.Conv2d(shape.width, outputs, 1))


def _upsampling(inputs: int, shape: HeadShape) -> nn.Sequential:
    """Doublings of the map, each followed by `flats` convolutions; every convolution with batch normalisation and ReLU."""
    layers: list[nn.Module] = []
    for index in range(shape.upsamplings):
        channels = inputs if index == 0 else shape.width
        layers += _activated(nn.ConvTranspose2d(channels, shape.width, UPSAMPLING_KERNEL, stride=2, padding=1), shape.width)
        for _ in range(shape.flats):
            layers += _activated(nn.Conv2d(shape.width, shape.width, 3, padding=1), shape.width)
    return nn.Sequential(*layers)


def _activated(conv: nn.Module, channels: int) -> list[nn.Module]:
    return [conv, nn.BatchNorm2d(channels), nn.ReLU()]
