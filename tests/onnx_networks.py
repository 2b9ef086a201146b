"""Small ONNX networks for the calibration tests, built by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def depthwise_network(spread: float, seed: int = 0) -> Any:
    """Everything that equalisation meets: depthwise and dense readers, ReLU, ReLU6, ELU, a sum, a concatenation of maps and features.

    Channels of inner tensors differ by up to `spread`, and what reads them makes up for it, so that small channels count.
    Input `picture` (1, 3, 24, 32); outputs `heat_out` (1, 3, 6, 8) and `paf_out`.
    """
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    nodes: list[Any] = []
    tensors: list[Any] = []
    scale: dict[str, NDArray[np.float64]] = {}

    def conv(source: str, out: str, shape: tuple[int, ...], stride: int = 1, groups: int = 1, wide: bool = False) -> str:
        weights = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        bias = rng.standard_normal(shape[0]) * 0.1
        if source in scale:
            weights = weights / scale[source].reshape((-1, 1, 1, 1) if groups > 1 else (1, -1, 1, 1))
        if wide:
            scale[out] = np.geomspace(1, spread, shape[0])
            weights, bias = weights * scale[out].reshape(-1, 1, 1, 1), bias * scale[out]
        tensors.extend(numpy_helper.from_array(v.astype(np.float32), f"{out}_{n}") for n, v in (("w", weights), ("b", bias)))
        pad = shape[2] // 2
        nodes.append(
            helper.make_node(
                "Conv", [source, f"{out}_w", f"{out}_b"], [out], f"conv_{out}", pads=[pad] * 4, strides=[stride] * 2, group=groups
            )
        )
        return out

    def node(kind: str, sources: list[str], out: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, sources, [out], f"{kind.lower()}_{out}", **attributes))
        if sources[0] in scale and kind in ("Relu", "Elu"):
            scale[out] = scale[sources[0]]
        return out

    tensors.extend(numpy_helper.from_array(np.float32(v), n) for n, v in (("zero", 0), ("six", 6)))
    x = node("Relu", [conv("picture", "c1", (8, 3, 3, 3), 2, wide=True)], "r1")
    x = node("Relu", [conv(x, "d1", (8, 1, 3, 3), 2, 8, wide=True)], "r2")
    x = node("Elu", [conv(x, "c2", (8, 8, 1, 1), wide=True)], "e1")
    skip = node("Relu", [conv(x, "c3", (8, 8, 1, 1))], "r3")
    x = node("Clip", [conv(skip, "c4", (8, 8, 3, 3)), "zero", "six"], "k1")
    features = node("Add", [conv(x, "c5", (8, 8, 1, 1)), skip], "sum")
    maps = conv(features, "stage", (3, 8, 1, 1))
    x = node("Concat", [maps, features], "cat", axis=1)
    x = node("Relu", [conv(x, "d2", (11, 1, 3, 3), 1, 11)], "r4")
    conv(x, "heat_out", (3, 11, 1, 1))
    conv(x, "paf_out", (2, 11, 1, 1))
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 6, 8]) for n, c in (("heat_out", 3), ("paf_out", 2))]
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 24, 32])
    graph = helper.make_graph(nodes, "depthwise", [picture], outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def concatenating_network(seed: int = 0) -> Any:
    """Two stages, the second of which reads the first one's signed maps beside features. Inputs and outputs as of `depthwise_network`."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    nodes: list[Any] = []
    tensors: list[Any] = []

    def conv(source: str, out: str, shape: tuple[int, ...], stride: int = 1) -> None:
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:])), rng.standard_normal(shape[0]) * 0.1
        tensors.extend(numpy_helper.from_array(v.astype(np.float32), f"{out}_{n}") for n, v in zip("wb", values, strict=True))
        pads, strides = [shape[2] // 2] * 4, [stride] * 2
        nodes.append(helper.make_node("Conv", [source, f"{out}_w", f"{out}_b"], [out], f"conv_{out}", pads=pads, strides=strides))

    conv("picture", "c1", (16, 3, 3, 3), 4)
    nodes.append(helper.make_node("Relu", ["c1"], ["features"], "relu_features"))
    conv("features", "stage", (16, 16, 1, 1))
    nodes.append(helper.make_node("Concat", ["stage", "features"], ["cat"], "cat", axis=1))
    conv("cat", "c2", (16, 32, 1, 1))
    nodes.append(helper.make_node("Relu", ["c2"], ["r2"], "relu_r2"))
    conv("r2", "heat_out", (3, 16, 1, 1))
    conv("r2", "paf_out", (2, 16, 1, 1))
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, 6, 8]) for n, c in (("heat_out", 3), ("paf_out", 2))]
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, 24, 32])
    graph = helper.make_graph(nodes, "concatenating", [picture], outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def outputs_of(model: Any, seen: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    from edgepose.engines.onnxruntime_ import session_from_onnx

    session = session_from_onnx(model.SerializeToString())
    return [session.run(None, {session.get_inputs()[0].name: one[None]})[0] for one in seen]
