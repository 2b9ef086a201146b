"""Which layers an INT8 network pays for: each is quantised alone, and the error of the maps is measured."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgepose.calibration.graph import NetworkGraph
from edgepose.calibration.qdq import quantised_onnx
from edgepose.calibration.ranges import Levels, Ranges, step
from edgepose.calibration.source import Pictures
from edgepose.calibration.statistics import BINS, ActivationStatistics
from edgepose.engines.contract import ModelContract
from edgepose.engines.onnxruntime_ import session_from_onnx
from edgepose.engines.preprocess_reference import normalised


def ranked_layers(
    graph: NetworkGraph,
    statistics: ActivationStatistics,
    ranges: Ranges,
    floating: frozenset[str],
    contract: ModelContract,
    pictures: Pictures,
) -> list[tuple[str, float]]:
    """(layer, error) of all layers that are not in `floating`; first those whose return to floating point gains most for what it costs,
    the square of the error (errors of layers add as noise does) by the multiplications.

    The error is the RMS of what changes in heatmaps and PAFs over their own RMS, the two added, with only that layer in INT8; simulated
    by ONNX Runtime on `pictures` (n, height, width, 3) BGR.
    """
    tensor = normalised(pictures, contract.input).astype(np.float32)
    reference = _maps(graph.model.SerializeToString(), contract, tensor)
    means = statistics.by_tensor(statistics.means)
    everything = frozenset(layer.name for layer in graph.layers)
    errors = {}
    for layer in graph.layers:
        if layer.name not in floating:
            alone = quantised_onnx(graph, ranges, everything - {layer.name}, means)
            found = _maps(alone.SerializeToString(), contract, tensor)
            errors[layer.name] = sum(_relative(a, b) for a, b in zip(reference, found, strict=True))
    cost = {layer.name: layer.multiplications for layer in graph.layers}
    return sorted(errors.items(), key=lambda pair: -(pair[1] ** 2) / cost[pair[0]])


def input_noise(statistics: ActivationStatistics, ranges: Ranges, tensor: str, levels: Levels) -> float:
    """Noise over signal, in power, that INT8 adds to one tensor: rounding within its range and what saturates beyond it."""
    index = statistics.tensors.index(tensor)
    counts, limit = statistics.counts[index], float(statistics.limits[index])
    centre = (np.arange(BINS) + 0.5) * (2 * limit / BINS) - limit
    low, high = ranges[tensor]
    rounding = step(ranges[tensor], levels) ** 2 / 12
    noise = np.where((centre < low) | (centre > high), np.square(centre - np.clip(centre, low, high)), rounding)
    signal = float(counts @ np.square(centre))
    return float(counts @ noise) / signal if signal else 0.0


def _maps(model: bytes, contract: ModelContract, tensor: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Heatmaps and PAFs, one picture at a time, whatever batch the model was made for."""
    session = session_from_onnx(model)
    entry = session.get_inputs()[0]
    batch = entry.shape[0] if isinstance(entry.shape[0], int) else 1
    names = [contract.output.heatmaps, contract.output.pafs]
    runs = [session.run(names, {entry.name: np.repeat(one[None], batch, 0)}) for one in tensor]
    return [np.stack([run[side][0] for run in runs]) for side in (0, 1)]


def _relative(reference: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float(np.sqrt(np.square(other - reference).mean() / np.square(reference).mean()))
