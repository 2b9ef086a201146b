"""A pose network that fits into a test: it finds dumbbells, a red disc and a blue one to its right on a green bar.

Its first channels are made by hand, so that what it sees is known; the others are noise, as wide as real ones, that every layer mixes in a
little, so that quantisers have something to lose.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.engines import Fit, InputContract, ModelContract, OutputContract, Skeleton
from edgepose.engines.skeleton import Limb

HEIGHT, WIDTH = 96, 160
LAYERS = 8
_WIDTH = 12
_LEAK = 0.02

CONTRACT = ModelContract(
    input=InputContract(name="picture", height=HEIGHT, width=WIDTH, channels="BGR", mean=(0, 0, 0), std=(255, 255, 255), fit=Fit.LETTERBOX),
    output=OutputContract(heatmaps="heat_out", pafs="paf_out", heatmap_channels=3, paf_channels=2, stride=4, background=True),
    skeleton=Skeleton(name="dumbbell", keypoints=("red", "blue"), limbs=(Limb(start=0, end=1, x=0, y=1),)),
)


def painted_pictures(count: int, seed: int = 0, people: int = 2) -> NDArray[np.uint8]:
    """(count, HEIGHT, WIDTH, 3) BGR, one to `people` dumbbells each, on grey noise."""
    rng = np.random.default_rng(seed)
    pictures = np.repeat(rng.integers(60, 190, (count, HEIGHT, WIDTH, 1), np.uint8), 3, axis=3)
    for picture in pictures:
        for row in rng.permutation(3)[: rng.integers(1, people + 1)]:
            y = int(16 + 32 * row + rng.integers(-3, 4))
            left, length = int(rng.integers(16, 60)), int(rng.integers(32, 72))
            cv2.line(picture, (left, y), (left + length, y), (0, 255, 0), 9)
            cv2.circle(picture, (left, y), 7, (0, 0, 255), -1)
            cv2.circle(picture, (left + length, y), 7, (255, 0, 0), -1)
    return pictures


def write_painted_network(path: Path, seed: int = 0) -> Path:
    """An ONNX file of LAYERS convolutions, two of them heads."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    nodes: list[Any] = []
    tensors: list[Any] = []

    def conv(source: str, out: str, weights: NDArray[np.float64], bias: tuple[float, ...] = (), stride: int = 1) -> None:
        named = [(f"{out}_w", weights), (f"{out}_b", np.array(bias or [0.0] * len(weights)))]
        tensors.extend(numpy_helper.from_array(value.astype(np.float32), name) for name, value in named)
        pads, inputs = [weights.shape[2] // 2] * 4, [source, *(name for name, _ in named)]
        nodes.append(helper.make_node("Conv", inputs, [out], f"conv_{out}", pads=pads, strides=[stride] * 2))

    def noise(outputs: int, inputs: int, side: int, scale: float) -> NDArray[np.float64]:
        return rng.standard_normal((outputs, inputs, side, side)) * scale / np.sqrt(inputs * side * side)

    blur = np.outer([1, 2, 1], [1, 2, 1]) / 16
    opponents = np.array([[-0.5, -0.5, 1], [-0.5, 1, -0.5], [1, -0.5, -0.5]])  # red, green and blue, of BGR
    first = noise(_WIDTH, 3, 3, 1.0)
    first[:3] = opponents[:, :, None, None] * blur
    conv("picture", "c1", first, stride=2)
    x = "c1"
    for layer in range(2, LAYERS - 1):
        nodes.append(helper.make_node("Relu", [x], [f"r{layer}"], f"relu_{layer}"))
        weights = noise(_WIDTH, _WIDTH, 3, 1.4)
        weights[:3] = noise(3, _WIDTH, 3, _LEAK)
        weights[range(3), range(3)] += blur
        x = f"c{layer}"
        conv(f"r{layer}", x, weights, stride=2 if layer == 2 else 1)
    nodes.append(helper.make_node("Relu", [x], ["features"], "relu_features"))
    heat, paf = noise(3, _WIDTH, 1, _LEAK), noise(2, _WIDTH, 1, _LEAK)
    heat[0, 0] += 1.2
    heat[1, 2] += 1.2
    heat[2, [0, 2]] -= 1.2
    paf[0, :3] += 1.2
    conv("features", "heat_out", heat, (0, 0, 1))
    conv("features", "paf_out", paf)
    outputs = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, HEIGHT // 4, WIDTH // 4]) for n, c in (("heat_out", 3), ("paf_out", 2))
    ]
    picture = helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])
    graph = helper.make_graph(nodes, "painted", [picture], outputs, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path
