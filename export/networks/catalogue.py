"""Every network that can be exported by name: how it is built for a checkpoint, and the contract that its input and output obey."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from edgepose.engines.contract import Fit, InputContract, ModelContract, OutputContract
from edgepose.engines.errors import ConfigError
from edgepose.engines.record import did_you_mean
from edgepose.engines.skeleton import COCO18, TRT_POSE18, Skeleton
from edgepose.export.networks import edgepose, human_pose_estimation_0001, mobilenet_v2_small
from edgepose.export.networks.densenet import DENSENETS
from edgepose.export.networks.human_pose_estimation_0001 import HumanPoseEstimation0001
from edgepose.export.networks.mobilenet_v2_small import MobilenetV2Small
from edgepose.export.networks.trt_pose import BACKBONE_STRIDE, BACKBONES, head_shape_from_state, trt_pose_from_state

State = Mapping[str, Tensor]

_PACKAGED = Path(__file__).parent / "weights"

IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


@dataclass(frozen=True, slots=True)
class Architecture:
    """A network by its public name.

    `build(state)` makes the module with random weights; sizes that vary between checkpoints follow `state`, and what `state` lacks has
    its usual size, so that it never fails: whether a checkpoint fits is for `load_weights` to say. Every forward takes (N, 3, H, W),
    with H and W multiples of `size_multiple`, and returns (heatmaps, pafs).
    `contract(state, skeleton)` tells the published input size; without a skeleton the network's usual one is taken. Raises ConfigError
    where the skeleton does not fit the channels.
    """

    name: str
    build: Callable[[State], nn.Module]
    contract: Callable[[State, Skeleton | None], ModelContract]
    size_multiple: int


def architecture_named(name: str) -> Architecture:
    """One of ARCHITECTURES. Raises ConfigError with the nearest name."""
    for architecture in ARCHITECTURES:
        if architecture.name == name:
            return architecture
    known = [architecture.name for architecture in ARCHITECTURES]
    raise ConfigError(f"network {name!r} is unknown{did_you_mean(name, known)}: wanted one of {', '.join(known)}")


def packaged_weights(name: str) -> Path:
    """Of an architecture that comes trained. Raises ConfigError for any other."""
    path = _PACKAGED / f"{name}.pth"
    if not path.is_file():
        carried = ", ".join(sorted(file.stem for file in _PACKAGED.glob("*.pth")))
        raise ConfigError(f"{name} comes without weights: give a checkpoint with --weights, or take what comes trained: {carried}")
    return path


def _human_pose_estimation_0001_contract(_: State, skeleton: Skeleton | None) -> ModelContract:
    network = human_pose_estimation_0001
    return _contract(
        _openpose_input((256, 456), mean=128, std=255),
        _output(network.HEATMAP_CHANNELS, network.PAF_CHANNELS, stride=8, background=True),
        skeleton or COCO18,
        "human-pose-estimation-0001",
    )


def _mobilenet_v2_small_contract(_: State, skeleton: Skeleton | None) -> ModelContract:
    network = mobilenet_v2_small
    return _contract(
        _openpose_input((256, 448), mean=127.5, std=127.5),
        _output(network.HEATMAP_CHANNELS, network.PAF_CHANNELS, stride=8, background=True),
        skeleton or COCO18,
        "mobilenet_v2_small",
    )


def _edgepose_contract(name: str, state: State, skeleton: Skeleton | None) -> ModelContract:
    skeleton = skeleton or COCO18
    heatmaps, pafs = edgepose.channels_from_state(state)
    output = _output(heatmaps, pafs, stride=8, background=heatmaps > len(skeleton.keypoints))
    return _contract(edgepose.edgepose_input(), output, skeleton, name)


def _trt_pose_contract(name: str, side: int, state: State, skeleton: Skeleton | None) -> ModelContract:
    head = head_shape_from_state(state)
    if not head.stride:
        raise ConfigError(f"{name}: the head doubles its map {head.upsamplings} times; wanted at most 5: is this a trt_pose checkpoint?")
    return _contract(
        InputContract(name="input", height=side, width=side, channels="RGB", mean=IMAGENET_MEAN, std=IMAGENET_STD, fit=Fit.STRETCH),
        _output(head.heatmaps, head.pafs, stride=head.stride, background=False),
        skeleton or TRT_POSE18,
        name,
    )


def _openpose_input(size_hw: tuple[int, int], mean: float, std: float) -> InputContract:
    return InputContract(
        name="input",
        height=size_hw[0],
        width=size_hw[1],
        channels="BGR",
        mean=(mean, mean, mean),
        std=(std, std, std),
        fit=Fit.PAD_RIGHT_BOTTOM,
        pad_value=(128, 128, 128),
    )


def _output(heatmaps: int, pafs: int, *, stride: int, background: bool) -> OutputContract:
    return OutputContract(
        heatmaps="heatmaps", pafs="pafs", heatmap_channels=heatmaps, paf_channels=pafs, stride=stride, background=background
    )


def _contract(taken: InputContract, given: OutputContract, skeleton: Skeleton, name: str) -> ModelContract:
    """The contract, once the skeleton accounts for exactly the channels that there are. Raises ConfigError."""
    keypoints = given.heatmap_channels - given.background
    if (len(skeleton.keypoints), skeleton.paf_channels) != (keypoints, given.paf_channels):
        raise ConfigError(
            f"{name}: the checkpoint finds {keypoints} keypoints and {given.paf_channels} PAF channels, but skeleton {skeleton.name!r} has"
            f" {len(skeleton.keypoints)} keypoints and {skeleton.paf_channels} PAF channels: pass the skeleton it was trained with"
            " (--skeleton human_pose.json)"
        )
    return ModelContract(input=taken, output=given, skeleton=skeleton)


def _edgepose(size: str) -> Architecture:
    name = f"edgepose-{size}"
    return Architecture(
        name, build=partial(edgepose.edgepose_from_state, size), contract=partial(_edgepose_contract, name), size_multiple=8
    )


def _trt_pose(backbone: str, *, attention: bool) -> Architecture:
    name = f"{backbone}_baseline{'_att' if attention else ''}"
    return Architecture(
        name,
        build=partial(trt_pose_from_state, backbone, attention),
        contract=partial(_trt_pose_contract, name, 256 if backbone in DENSENETS else 224),
        size_multiple=BACKBONE_STRIDE,
    )


ARCHITECTURES: tuple[Architecture, ...] = (
    Architecture("human-pose-estimation-0001", lambda _: HumanPoseEstimation0001(), _human_pose_estimation_0001_contract, size_multiple=8),
    Architecture("mobilenet_v2_small", lambda _: MobilenetV2Small(), _mobilenet_v2_small_contract, size_multiple=16),
    *(_edgepose(size) for size in edgepose.SIZES),
    *(_trt_pose(backbone, attention=attention) for backbone in BACKBONES for attention in (False, True)),
)
