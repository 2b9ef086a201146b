"""The student family: its sizes, its maps, and that it holds nothing that is bad for INT8."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from edgepose.engines.errors import ConfigError
from edgepose.engines.skeleton import skeleton_named
from edgepose.engines.target import target_named
from edgepose.export.exporter import export_bundles
from edgepose.export.network import network_from_architecture
from edgepose.export.networks.catalogue import architecture_named
from edgepose.export.networks.edgepose import SIZES, EdgePose

MILLIONS = {"n": 0.35, "s": 1.17, "m": 2.98}


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("size", SIZES)
def test_each_size_has_the_parameters_that_its_documentation_tells(size: str) -> None:
    with torch.device("meta"):
        assert parameters(EdgePose(SIZES[size])) == pytest.approx(1e6 * MILLIONS[size], rel=0.01)


@pytest.mark.parametrize("size", SIZES)
def test_a_student_is_made_of_plain_convolutions_with_channels_in_sixteens(size: str) -> None:
    with torch.device("meta"):
        network = EdgePose(SIZES[size])
    inner = [m for m in network.modules() if not list(m.children())]

    assert {type(m) for m in inner} == {nn.Conv2d, nn.BatchNorm2d, nn.ReLU}
    convolutions = [m for m in inner if isinstance(m, nn.Conv2d)]
    assert all(m.groups == 1 and m.dilation == (1, 1) and m.kernel_size in ((3, 3), (1, 1)) for m in convolutions)
    assert all(m.out_channels % 16 == 0 for m in convolutions if m.bias is None)


@pytest.mark.parametrize(("height", "width"), [(256, 456), (64, 104), (8, 8)])
def test_a_student_takes_any_multiple_of_8(height: int, width: int) -> None:
    network = EdgePose(SIZES["n"]).eval()
    with torch.no_grad():
        heatmaps, pafs = network(torch.zeros(1, 3, height, width))

    assert heatmaps.shape == (1, 19, height // 8, width // 8)
    assert pafs.shape == (1, 38, height // 8, width // 8)


def test_a_student_of_another_skeleton_comes_back_with_its_channels(tmp_path: Path) -> None:
    original = EdgePose(SIZES["n"], heatmaps=18, pafs=42)
    torch.save({"state_dict": original.state_dict(), "cfg": {"arch": "edgepose-n"}}, tmp_path / "n.pth")

    network = network_from_architecture("edgepose-n", tmp_path / "n.pth", skeleton_named("trt_pose18"))

    assert (network.contract.output.heatmap_channels, network.contract.output.paf_channels) == (18, 42)
    assert not network.contract.output.background
    with pytest.raises(ConfigError, match="pass the skeleton it was trained with"):
        network_from_architecture("edgepose-n", tmp_path / "n.pth")


def test_a_student_is_exported_with_the_odd_width_of_its_usual_size(tmp_path: Path) -> None:
    """456 is 57 cells at stride 8 and no whole number at stride 16, where its deepest layers work."""
    torch.manual_seed(0)
    network = architecture_named("edgepose-n").build({})
    torch.save(network.state_dict(), tmp_path / "n.pth")
    quiet = {k: 0 * v if k.endswith("1.weight") and v.ndim == 4 else v for k, v in network.state_dict().items()}  # nobody in noise
    torch.save(quiet, tmp_path / "n.pth")

    (made,) = export_bundles(network_from_architecture("edgepose-n", tmp_path / "n.pth"), [target_named("ov-fp32")], tmp_path)

    assert made.bundle.contract.map_hw == (32, 57)
    assert made.bundle.manifest.opset == 17
