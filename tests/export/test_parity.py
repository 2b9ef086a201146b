"""Faults planted between two hops: each is caught, and named for what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import painted_people
import pytest
from onnx import numpy_helper

from edgepose.engines.errors import ParityError
from edgepose.engines.openvino_ import engine_from_ir
from edgepose.export.divergence import relative_rmse
from edgepose.export.exporter import LOSSLESS, TOLERANCES
from edgepose.export.ir_from_onnx import ir_from_onnx
from edgepose.export.network import Network
from edgepose.export.onnx_from_torch import program_from_module
from edgepose.export.parity import ParityCheck, Tolerance, structured_noise
from edgepose.export.stage import IrStage, OnnxStage, TorchStage


@pytest.fixture(scope="module")
def sound(small_bundles: Any) -> Path:
    return Path(small_bundles["onnx"].bundle.model_path)


@pytest.fixture(scope="module")
def check(small_network: Network) -> ParityCheck:
    return ParityCheck(small_network.contract, structured_noise(small_network.contract, 3), noise=True)


@pytest.fixture(scope="module")
def torch_stage(small_network: Network) -> TorchStage:
    assert small_network.module is not None
    return TorchStage(program_from_module(small_network.module, small_network.contract, 1), small_network.contract, 1)


def harmed(sound: Path, path: Path, tensor: str, harm: Callable[[Any], Any]) -> Path:
    """A copy of the model with one weight tensor changed."""
    model = onnx.load(sound)
    for weights in model.graph.initializer:
        if weights.name == tensor:
            weights.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(harm(numpy_helper.to_array(weights))), tensor))
            onnx.save(model, path)
            return path
    raise AssertionError(f"no {tensor} among {[w.name for w in model.graph.initializer]}")


def ir_stage(sound: Path, folder: Path, network: Network, **changes: Any) -> IrStage:
    """An IR of the sound model whose in-graph preprocessing follows another contract."""
    contract = network.contract.model_copy(update={"input": network.contract.input.model_copy(update=changes)})
    (folder / "ir").mkdir()
    path = ir_from_onnx(sound, folder / "ir" / "model.xml", "fp32")[0]
    return IrStage("ov-fp32", engine_from_ir(path, contract, "fp32", "CPU", 1, 1), path, "fp32", 1)


def fault(check: ParityCheck, before: Any, after: Any, tolerance: Tolerance = LOSSLESS) -> str:
    with pytest.raises(ParityError) as caught:
        check.compare(before, after, tolerance)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_sound_hop_passes(check: ParityCheck, torch_stage: TorchStage, sound: Path, small_network: Network, tmp_path: Path) -> None:
    onnx_stage = OnnxStage("onnx", sound, small_network.contract, 1)
    assert all(t.relative_rmse < 1e-6 for t in check.compare(torch_stage, onnx_stage, LOSSLESS).tensors)
    found = check.compare(onnx_stage, ir_stage(sound, tmp_path, small_network), TOLERANCES["ov-fp32"])
    assert [t.tensor for t in found.tensors] == ["heat_out", "paf_out"] and found.noise


def test_a_wrong_mean_is_named_with_the_mean_that_was_used(
    check: Any, torch_stage: Any, sound: Path, small_network: Any, tmp_path: Path
) -> None:
    after = ir_stage(sound, tmp_path, small_network, mean=(103.5, 116.5, 113.5))
    said = fault(check, torch_stage, after, TOLERANCES["ov-fp32"])
    assert "hop torch -> ov-fp32" in said and "tensor 'heat_out'" in said
    assert "normalised by mean (103.5, 116.5, 113.5)" in said and "the contract says (103.5, 116.5, 123.5)" in said


def test_swapped_colours_are_named(check: Any, torch_stage: Any, sound: Path, small_network: Any, tmp_path: Path) -> None:
    contract = small_network.contract.input
    swapped = {"channels": "BGR", "mean": contract.mean[::-1], "std": contract.std[::-1]}
    after = ir_stage(sound, tmp_path, small_network, **swapped)
    assert "has its colours in BGR order, the contract says RGB" in fault(check, torch_stage, after, TOLERANCES["ov-fp32"])


def test_a_transposed_paf_pair_is_named_with_its_limb(
    check: Any, torch_stage: Any, sound: Path, small_network: Any, tmp_path: Path
) -> None:
    path = harmed(sound, tmp_path / "m.onnx", "paf.weight", lambda w: w[::-1])
    path = harmed(path, path, "paf.bias", lambda b: b[::-1])
    said = fault(check, torch_stage, OnnxStage("transposed", path, small_network.contract, 1))
    assert "tensor 'paf_out'" in said and "PAF channels 0 and 1 are exchanged (x and y of limb left-right)" in said


def test_exchanged_heatmaps_are_named_with_their_keypoints(
    check: Any, torch_stage: Any, sound: Path, small_network: Any, tmp_path: Path
) -> None:
    path = harmed(sound, tmp_path / "m.onnx", "heat.weight", lambda w: w[[1, 0, 2]])
    path = harmed(path, path, "heat.bias", lambda b: b[[1, 0, 2]])
    said = fault(check, torch_stage, OnnxStage("exchanged", path, small_network.contract, 1))
    assert "heatmap channels 0 and 1 are exchanged (left and right)" in said


def test_a_broken_node_is_named_in_onnx_and_in_the_ir(
    check: Any, torch_stage: Any, sound: Path, small_network: Any, tmp_path: Path
) -> None:
    path = harmed(sound, tmp_path / "m.onnx", "second.weight", lambda w: w * np.float32(1.01))
    broken = OnnxStage("broken", path, small_network.contract, 1)
    node = next(n for n in broken.nodes() if n.tensor == "conv2d_1")
    assert f"first node that differs: Conv '{node.name}' (tensor 'conv2d_1')" in fault(check, torch_stage, broken)
    said = fault(check, torch_stage, ir_stage(path, tmp_path, small_network), TOLERANCES["ov-fp32"])
    assert "first node that differs:" in said and "conv2d_1" in said


def test_nan_in_a_map_is_never_within_tolerance(check: Any, torch_stage: Any, sound: Path, small_network: Any, tmp_path: Path) -> None:
    path = harmed(sound, tmp_path / "m.onnx", "heat.bias", lambda b: b * np.float32("nan"))
    assert "relative RMSE of inf" in fault(check, torch_stage, OnnxStage("nan", path, small_network.contract, 1))
    assert relative_rmse(np.ones(3), np.array([1, 1, np.nan])) == float("inf")


def test_relative_rmse_of_equal_zeros_is_zero_and_of_something_against_nothing_is_infinite() -> None:
    assert relative_rmse(np.zeros(3), np.zeros(3)) == 0
    assert relative_rmse(np.zeros(3), np.ones(3)) == float("inf")
    assert relative_rmse(np.ones(4), np.full(4, 1.5)) == 0.5


def test_structured_noise_has_power_on_every_scale(small_network: Any) -> None:
    noise = structured_noise(small_network.contract, 2).astype(float)
    assert noise.shape == (2, 24, 32, 3) and noise.std() > 30
    coarse = noise.reshape(2, 3, 8, 4, 8, 3).mean((2, 4))
    assert coarse.std() > 10, "not white noise"


def test_colours_that_look_exchanged_are_a_doubt_where_there_are_pictures_enough(tmp_path: Path) -> None:
    """Both stages share the contract, so their agreement says nothing of it."""
    model = painted_people.write_painted_network(tmp_path / "painted.onnx")
    stage = OnnxStage("onnx", model, painted_people.CONTRACT, 1)
    pictures = painted_people.painted_pictures(8)
    exchanged = np.ascontiguousarray(pictures[..., ::-1])

    def doubts(pictures: Any) -> tuple[str, ...]:
        return ParityCheck(painted_people.CONTRACT, pictures, noise=False).doubts(stage)

    assert doubts(pictures) == ()
    assert "blue and red look exchanged" in doubts(exchanged)[0] and "channel order" in doubts(exchanged)[0]
    assert not any("exchanged" in doubt for doubt in doubts(exchanged[:7]))
