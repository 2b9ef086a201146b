"""Equalisation changes nothing that floating point computes, and makes INT8 work where it did not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_networks
import pytest

from edgepose.calibration.equalise import equalised
from edgepose.calibration.graph import network_graph
from edgepose.calibration.qdq import quantised_onnx
from edgepose.calibration.ranges import mean_min_max
from edgepose.calibration.statistics import ActivationStatistics, statistics_of
from edgepose.engines import ModelContract
from edgepose.engines.preprocess_reference import normalised
from edgepose.export.parity import structured_noise


def saved(model: Any, path: Path) -> Path:
    import onnx

    onnx.save(model, str(path))
    return path


def measured(path: Path, contract: ModelContract) -> ActivationStatistics:
    return statistics_of(path, network_graph(path).tensors, contract, 1, structured_noise(contract, 12), 0)


def relative(reference: list[Any], found: list[Any]) -> float:
    a, b = (np.concatenate([part.ravel() for part in parts]) for parts in (reference, found))
    return float(np.linalg.norm(a - b) / np.linalg.norm(a))


@pytest.mark.parametrize("seed", range(3))
def test_it_computes_the_same_and_int8_loses_far_less(seed: int, tmp_path: Path, tiny_model: Any) -> None:
    contract = tiny_model.contract
    model = onnx_networks.depthwise_network(200.0, seed)
    seen = normalised(structured_noise(contract, 4), contract.input).astype(np.float32)
    reference = onnx_networks.outputs_of(model, seen)
    raw = saved(model, tmp_path / "raw.onnx")
    before = measured(raw, contract)
    graph = network_graph(raw)
    better, changed = equalised(graph.model, before.by_tensor(before.magnitudes))
    assert changed >= 4
    assert relative(reference, onnx_networks.outputs_of(better, seen)) < 1e-5

    even = network_graph(saved(better, tmp_path / "even.onnx"))
    after = measured(even.path, contract)
    uneven, level = (statistics.by_tensor(statistics.magnitudes)["r1"] for statistics in (before, after))
    assert level.max() / level.min() < 2 < uneven.max() / uneven.min()
    losses = []
    for one, statistics in ((graph, before), (even, after)):
        quantised = quantised_onnx(one, mean_min_max(statistics), one.floating(False), statistics.by_tensor(statistics.means))
        losses.append(relative(reference, onnx_networks.outputs_of(quantised, seen)))
    assert losses[1] < 0.6 * losses[0]


def test_an_even_network_is_left_as_it_is_where_nothing_can_be_gained(tmp_path: Path, tiny_model: Any) -> None:
    graph = network_graph(tiny_model.write_onnx(tmp_path / "tiny.onnx", 1))
    statistics = measured(graph.path, tiny_model.contract)
    same, changed = equalised(graph.model, statistics.by_tensor(statistics.magnitudes))
    assert changed == 0 and [n.op_type for n in same.graph.node] == [n.op_type for n in graph.model.graph.node]


@pytest.mark.parametrize("seven_bits", [False, True])
def test_bias_correction_takes_the_average_error_away(tmp_path: Path, tiny_model: Any, seven_bits: bool) -> None:
    graph = network_graph(saved(onnx_networks.depthwise_network(1.0, 5), tmp_path / "n.onnx"))
    contract = tiny_model.contract
    statistics = measured(graph.path, contract)
    floating = frozenset(layer.name for layer in graph.layers) - {"conv_c3"}
    seen = normalised(structured_noise(contract, 12), contract.input).astype(np.float32)
    means = statistics.by_tensor(statistics.means)
    silent = {name: np.zeros_like(value) for name, value in means.items()}
    wide = {name: (-1e3, 1e3) if name != "e1" else limits for name, limits in mean_min_max(statistics).items()}
    errors = []
    for known in (silent, means):
        model = quantised_onnx(graph, wide, floating, known, seven_bits)
        errors.append(
            np.mean(
                [b - a for a, b in zip(onnx_networks.outputs_of(graph.model, seen), onnx_networks.outputs_of(model, seen), strict=True)]
            )
        )
    assert abs(errors[1]) < abs(errors[0])


def test_a_tensor_that_is_always_zero_and_weights_that_are_are_left_as_they_are(tmp_path: Path, tiny_model: Any) -> None:
    """A branch that a ReLU has killed, as trained networks have them."""
    from onnx import numpy_helper

    model = onnx_networks.depthwise_network(10.0)
    dead = {"c1_w": 0.0, "c1_b": -1.0, "c3_w": 0.0}
    for tensor in model.graph.initializer:
        if tensor.name in dead:
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(tensor), dead[tensor.name]), tensor.name))
    graph = network_graph(saved(model, tmp_path / "dead.onnx"))
    statistics = measured(graph.path, tiny_model.contract)
    better, _ = equalised(graph.model, statistics.by_tensor(statistics.magnitudes))
    seen = normalised(structured_noise(tiny_model.contract, 2), tiny_model.contract.input).astype(np.float32)
    assert relative(onnx_networks.outputs_of(model, seen), onnx_networks.outputs_of(better, seen)) < 1e-5
