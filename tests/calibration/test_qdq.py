"""The 8 bits of activations: what TensorRT knows, the same for OpenVINO, and finer ones for OpenVINO."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx_networks
import pytest
from numpy.typing import NDArray

from edgepose.calibration.graph import network_graph
from edgepose.calibration.qdq import quantised_onnx
from edgepose.calibration.quantiser import saturates
from edgepose.calibration.ranges import Levels, mean_min_max, step, zero_point
from edgepose.calibration.statistics import statistics_of
from edgepose.engines.contract import ModelContract
from edgepose.engines.openvino_ import engine_from_ir
from edgepose.engines.preprocess_reference import normalised
from edgepose.export.parity import structured_noise

Maps = list[NDArray[np.float32]]


@pytest.fixture(scope="module")
def quantised(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[Levels, Path]:
    """A network that concatenates signed maps with features, all layers but the heads in INT8."""
    import onnx

    folder = tmp_path_factory.mktemp("levels")
    onnx.save(onnx_networks.concatenating_network(), str(folder / "network.onnx"))
    graph = network_graph(folder / "network.onnx")
    statistics = statistics_of(graph.path, graph.tensors, tiny_model.contract, 1, structured_noise(tiny_model.contract, 12), 0)
    ranges, means = mean_min_max(statistics), statistics.by_tensor(statistics.means)
    assert ranges["cat"][0] < -0.1
    for levels in Levels:
        model = quantised_onnx(graph, ranges, graph.floating(False), means, saturates(), levels)
        onnx.save(model, str(folder / f"{levels.value}.onnx"))
    return {levels: folder / f"{levels.value}.onnx" for levels in Levels}


def by_the_standard(path: Path, contract: ModelContract) -> Maps:
    import onnx

    return onnx_networks.outputs_of(onnx.load(str(path)), normalised(structured_noise(contract, 12), contract.input).astype(np.float32))


def relative(reference: Maps, found: Maps) -> float:
    a, b = (np.concatenate([part.ravel() for part in parts]) for parts in (reference, found))
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


def test_shifted_levels_are_the_signed_ones(quantised: dict[Levels, Path], tiny_model: Any) -> None:
    signed, shifted = (by_the_standard(quantised[levels], tiny_model.contract) for levels in (Levels.SIGNED, Levels.SHIFTED))
    assert relative(signed, shifted) < 1e-6


@pytest.mark.parametrize("levels", [Levels.SHIFTED, Levels.ASYMMETRIC])
def test_openvino_computes_what_the_standard_says(levels: Levels, quantised: dict[Levels, Path], tiny_model: Any) -> None:
    """Not so for SIGNED: on CPUs with VNNI and without AMX it rounds the concatenation to whole numbers."""
    contract = tiny_model.contract
    wanted = by_the_standard(quantised[levels], contract)
    found = []
    with closing(engine_from_ir(quantised[levels], contract, "int8", "CPU", 1, 1, exact=True)) as engine:
        slot = engine.slots[0]
        for picture in structured_noise(contract, 12):
            slot.pictures[0] = picture
            slot.start()
            maps = slot.wait()
            found.append(maps.heatmaps.copy())
        assert any(name in engine.execution.precisions for name in ("u8", "i8"))
    assert relative(wanted, found) < 0.02


@pytest.mark.parametrize("limits", [(0.0, 5.1), (-1.0, 4.1), (-2.0, 2.0), (-3.0, 0.0)])
def test_zero_is_a_level_and_the_range_is_covered(limits: tuple[float, float]) -> None:
    for levels, (first, last) in {Levels.SIGNED: (-128, 127), Levels.SHIFTED: (0, 255), Levels.ASYMMETRIC: (0, 255)}.items():
        size, zero = step(limits, levels), zero_point(limits, levels)
        assert first <= zero <= last
        assert (first - zero) * size <= limits[0] + size / 2 and (last - zero) * size >= limits[1] - size / 2
        assert levels is not Levels.ASYMMETRIC or size < step(limits, Levels.SIGNED)


def test_what_is_never_negative_has_twice_the_levels() -> None:
    assert step((0, 5), Levels.ASYMMETRIC) == pytest.approx(step((0, 5), Levels.SIGNED) * 127 / 255)
