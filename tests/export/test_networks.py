"""The networks against what the original ones compute, and the sizes that they take from a checkpoint."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgepose.engines.errors import CheckpointError, ConfigError
from edgepose.engines.skeleton import COCO18, skeleton_from_trt_pose
from edgepose.export.checkpoint import load_state_dict, load_weights
from edgepose.export.networks.catalogue import ARCHITECTURES, architecture_named
from edgepose.export.networks.mobilenet_v2_small import DoubleBilinear
from edgepose.export.networks.trt_pose import CmapPafHead, CmapPafHeadAttention, HeadShape, head_shape_from_state

HUMAN_POSE = "human-pose-estimation-0001"


@pytest.fixture(scope="module")
def human_pose(assets: Path) -> nn.Module:
    return load_weights(architecture_named(HUMAN_POSE), load_state_dict(assets / "weights" / f"{HUMAN_POSE}.pth"))


def run(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    with torch.no_grad():
        heatmaps, pafs = network(x)
    return heatmaps, pafs


def photo(assets: Path, height: int, width: int) -> Tensor:
    """A street of people, (1, 3, height, width) BGR in 0-255."""
    picture = cv2.imread(str(assets / "coco" / "val" / "000000000872.jpg"))
    assert picture is not None
    return torch.from_numpy(cv2.resize(picture, (width, height)).transpose(2, 0, 1)[None].astype(np.float32))


def randomised(network: nn.Module) -> nn.Module:
    """With statistics that a mistake in batch normalisation would show."""
    for name, value in network.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.8, 1.2)
    return network.eval()


@pytest.mark.parametrize(("height", "width"), [(256, 456), (64, 104)])
def test_human_pose_estimation_0001_takes_any_multiple_of_8(human_pose: nn.Module, assets: Path, height: int, width: int) -> None:
    heatmaps, pafs = run(human_pose, (photo(assets, height, width) - 128) / 255)

    assert heatmaps.shape == (1, 19, height // 8, width // 8)
    assert pafs.shape == (1, 38, height // 8, width // 8)


def test_human_pose_estimation_0001_agrees_with_the_published_ir(human_pose: nn.Module, assets: Path) -> None:
    openvino = pytest.importorskip("openvino")
    model = openvino.Core().read_model(assets / "weights" / f"{HUMAN_POSE}.xml")
    quantisers = [node for node in model.get_ops() if node.get_type_name() == "FakeQuantize"]
    for node in quantisers:
        source = node.input(0).get_source_output()
        if source.get_node().get_type_name() not in ("Constant", "Convert"):  # an activation, not a weight
            node.output(0).replace(source)
    picture = photo(assets, 256, 456)
    original = openvino.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(picture.numpy())

    heatmaps, pafs = run(human_pose, (picture - 128) / 255)

    assert np.abs(pafs.numpy() - original["Mconv7_stage2_L1"]).max() < 0.01
    assert np.abs(heatmaps.numpy() - original["Mconv7_stage2_L2"]).max() < 0.01


def test_mobilenet_v2_small_agrees_with_the_published_graph_when_it_normalises_by_the_picture(assets: Path) -> None:
    """The graph normalises by the statistics of the picture at hand, which is what batch normalisation in training mode does."""
    openvino = pytest.importorskip("openvino")
    network = load_weights(architecture_named("mobilenet_v2_small"), load_state_dict(assets / "weights" / "mobilenet_v2_small.pth"))
    graph = openvino.Core().read_model(assets / "weights" / "mobilenet_v2_small.pb")
    x = photo(assets, 128, 96) / 127.5 - 1
    original = openvino.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x.numpy().transpose(0, 2, 3, 1).copy())[0]

    heatmaps, pafs = run(network.train(), x)

    found = torch.cat([heatmaps, pafs], 1).numpy().transpose(0, 2, 3, 1)
    assert np.abs(found - original).max() < 0.01


def test_mobilenet_v2_small_sees_the_people_on_a_photograph(assets: Path) -> None:
    network = load_weights(architecture_named("mobilenet_v2_small"), load_state_dict(assets / "weights" / "mobilenet_v2_small.pth"))
    heatmaps, _ = run(network, photo(assets, 368, 432) / 127.5 - 1)

    assert heatmaps.shape == (1, 19, 46, 54)
    assert (heatmaps[0, :18].amax((1, 2)) > 0.3).sum() >= 14
    assert heatmaps[0, :18].median() < 0.02


def test_the_doubling_of_mobilenet_v2_small_puts_its_samples_where_tensorflow_does() -> None:
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(1))
    rows, columns = (np.minimum(np.arange(2 * n) / 2, n - 1) for n in (4, 5))

    y = DoubleBilinear()(x)

    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            r, c = int(np.ceil(row)), int(np.ceil(column))
            corners = [x[:, :, a, b] for a in (int(row), r) for b in (int(column), c)]
            assert torch.allclose(y[:, :, i, j], torch.stack(corners).mean(0), atol=1e-6)


@pytest.mark.parametrize(
    "shape",
    [HeadShape(), HeadShape(21, 40, 64, 2, 1), HeadShape(5, 8, 32, 1, 2), HeadShape(14, 26, upsamplings=0)],
    ids=["usual", "flat", "two flat", "single convolution"],
)
def test_the_sizes_of_a_plain_head_are_read_from_its_weights(shape: HeadShape) -> None:
    state = {f"1.{key}": value for key, value in CmapPafHead(48, shape).state_dict().items()}

    assert head_shape_from_state(state) == shape


@pytest.mark.parametrize("shape", [HeadShape(), HeadShape(21, 40, 64, 2, 1), HeadShape(14, 26, 48, 0)], ids=["usual", "flat", "none"])
def test_the_sizes_of_an_attention_head_are_read_from_its_weights(shape: HeadShape) -> None:
    state = {f"1.{key}": value for key, value in CmapPafHeadAttention(48, shape).state_dict().items()}

    assert head_shape_from_state(state) == shape


@pytest.mark.parametrize("upsamplings", [0, 3])
def test_a_plain_checkpoint_comes_back_as_the_network_that_wrote_it(upsamplings: int) -> None:
    architecture = architecture_named("resnet18_baseline")
    original = architecture.build({})
    original[1] = CmapPafHead(512, HeadShape(18, 42, 32, upsamplings))  # type: ignore[operator]
    randomised(original)
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    wanted = run(original, x)

    found = run(load_weights(architecture, original.state_dict()), x)

    stride = 32 >> upsamplings
    assert architecture.contract(original.state_dict(), None).output.stride == stride
    assert found[0].shape == (2, 18, 64 // stride, 96 // stride)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@pytest.mark.parametrize("name", [architecture.name for architecture in ARCHITECTURES])
def test_every_network_returns_maps_of_the_shape_that_its_contract_tells(name: str) -> None:
    architecture = architecture_named(name)
    contract = architecture.contract({}, None)
    side = 4 * architecture.size_multiple
    with torch.device("meta"):
        heatmaps, pafs = architecture.build({}).eval()(torch.empty(2, 3, side, 2 * side))

    cells = (side // contract.output.stride, 2 * side // contract.output.stride)
    assert heatmaps.shape == (2, contract.output.heatmap_channels, *cells)
    assert pafs.shape == (2, contract.output.paf_channels, *cells)
    assert contract.input.height % architecture.size_multiple == contract.input.width % architecture.size_multiple == 0


def test_the_contracts_of_openpose_networks_differ_in_normalisation() -> None:
    first, second = (architecture_named(name).contract({}, None) for name in (HUMAN_POSE, "mobilenet_v2_small"))

    assert (first.input.channels, first.input.mean[0], first.input.std[0]) == ("BGR", 128, 255)
    assert (second.input.channels, second.input.mean[0], second.input.std[0]) == ("BGR", 127.5, 127.5)
    assert first.skeleton == second.skeleton == COCO18
    assert first.output.background
    assert second.output.background


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'resnet18_baselin_att' is unknown \(did you mean 'resnet18_baseline_att'\?\)"):
        architecture_named("resnet18_baselin_att")


def test_other_channel_counts_need_the_skeleton_that_goes_with_them() -> None:
    architecture = architecture_named("resnet18_baseline_att")
    with torch.device("meta"):
        head = CmapPafHeadAttention(512, HeadShape(3, 4))
    state = {f"1.{key}": value for key, value in head.state_dict().items()}

    with pytest.raises(ConfigError, match=r"finds 3 keypoints and 4 PAF channels, but skeleton 'trt_pose18' has 18 .*--skeleton"):
        architecture.contract(state, None)
    arm = skeleton_from_trt_pose({"name": "arm", "keypoints": ["a", "b", "c"], "skeleton": [[1, 2], [2, 3]]}, "arm")
    contract = architecture.contract(state, arm)
    assert (contract.output.heatmap_channels, contract.output.paf_channels, contract.skeleton.name) == (3, 4, "arm")


def test_a_head_that_enlarges_beyond_the_input_is_refused() -> None:
    with torch.device("meta"):
        head = CmapPafHeadAttention(512, HeadShape(width=8, upsamplings=6))
    state = {f"1.{key}": value for key, value in head.state_dict().items()}

    with pytest.raises(ConfigError, match="doubles its map 6 times; wanted at most 5"):
        architecture_named("resnet18_baseline_att").contract(state, None)


def test_tensors_of_another_kind_named_like_a_head_hinder_no_network() -> None:
    """`build` never fails: the advice on a wrong checkpoint builds all networks with it."""
    names = ("heatmaps.1.weight", "pafs.1.weight", "1.cmap_conv.bias", "1.cmap_att.weight", "1.cmap_up.0.weight", "0.resnet.fc.bias")

    with pytest.raises(CheckpointError, match="no known network is near it"):
        load_weights(architecture_named("edgepose-n"), {name: torch.tensor(1.0) for name in names})
