"""`ActivationStatistics`: how large every inner tensor of a network gets on the calibration pictures, and what people it finds there.

One pass serves every calibrator and every target: each later choice of ranges is arithmetic on these histograms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.calibration.source import Pictures
from edgepose.engines.contract import ModelContract
from edgepose.engines.errors import CalibrationError
from edgepose.engines.openvino_ import compile_model, computes_bf16, read_model
from edgepose.engines.target import Precision
from edgepose.runtime.paf import PafParser

if TYPE_CHECKING:
    import openvino as ov

BINS = 4096
_SAMPLE = 1 << 14
"""About how many values of one tensor and picture enter its histogram; minima and maxima are taken over all of them."""
Tick = Callable[[], None]
_Values = tuple[NDArray[np.float32], ...]
_SUMMARIES = 4
_TRIMMED = 0.05


@dataclass(frozen=True, slots=True, eq=False)
class ActivationStatistics:
    """Of T tensors over P pictures.

    `low` and `high` (P, T) are each picture's exact extremes. `counts` (T, BINS) is a histogram of sampled values over
    [-limit, limit) with `limits` (T,), a power of two above every magnitude. `people` (P,) is how many people the network found and
    `scores` (P,) the sum of their scores; `swapped` (P,) is that sum with the colours exchanged, NaN where it was not asked.
    `magnitudes` and `means` hold, tensor after tensor, `channels` (T,) values each: the pictures' trimmed mean of a channel's largest
    magnitude and of its mean. `arithmetic` is what the statistics were computed in.
    """

    tensors: tuple[str, ...]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    limits: NDArray[np.float64]
    counts: NDArray[np.int64]
    people: NDArray[np.int64]
    scores: NDArray[np.float64]
    swapped: NDArray[np.float64]
    channels: NDArray[np.int64]
    magnitudes: NDArray[np.float64]
    means: NDArray[np.float64]
    arithmetic: str

    def by_tensor(self, values: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """`magnitudes` or `means`, taken apart."""
        return dict(zip(self.tensors, np.split(values, np.cumsum(self.channels)[:-1]), strict=True))

    def save(self, path: Path) -> None:
        values: dict[str, Any] = {name: np.asarray(getattr(self, name)) for name in self.__dataclass_fields__}
        np.savez(path, **values)

    @staticmethod
    def load(path: Path) -> ActivationStatistics:
        with np.load(path, allow_pickle=False) as file:
            values = {name: file[name] for name in ActivationStatistics.__dataclass_fields__}
        return ActivationStatistics(**{**values, "tensors": tuple(values["tensors"].tolist()), "arithmetic": str(values["arithmetic"])})


def statistics_precision() -> Precision:
    """BF16 where the CPU computes it: a range needs no more than its 8 bits, and it is several times faster."""
    return "bf16" if computes_bf16("CPU") else "fp32"


def statistics_of(
    model: Path,
    tensors: Sequence[str],
    contract: ModelContract,
    batch: int,
    pictures: Pictures,
    asked_swapped: int,
    tick: Tick = lambda: None,
) -> ActivationStatistics:
    """Runs an ONNX file or IR by OpenVINO on the CPU; `tensors` names inner tensors or the input.

    The first `asked_swapped` pictures are run once more with blue and red exchanged. `tick` is called after each picture. Raises
    CalibrationError where a tensor is not finite.
    """
    probe = _Probe(model, tensors, contract, batch)
    parser = PafParser(contract.skeleton)
    total = _Histograms(tensors)
    lows, highs, people, scores = [], [], [], []
    for index, (values, heatmaps, pafs) in enumerate(probe.run(pictures)):
        low, high = total.add(values, index)
        poses = parser.parse(heatmaps, pafs)
        lows.append(low)
        highs.append(high)
        people.append(len(poses))
        scores.append(float(poses.scores.sum()))
        tick()
    swapped = np.full(len(pictures), np.nan)
    for index, (_, heatmaps, pafs) in enumerate(probe.run(np.ascontiguousarray(pictures[:asked_swapped, ..., ::-1]))):
        swapped[index] = parser.parse(heatmaps, pafs).scores.sum()
        tick()
    return ActivationStatistics(
        tensors=tuple(tensors),
        low=np.stack(lows),
        high=np.stack(highs),
        limits=total.limits,
        counts=total.counts,
        people=np.array(people),
        scores=np.array(scores),
        swapped=swapped,
        channels=np.array(total.channels),
        magnitudes=trimmed_mean(np.stack(total.magnitudes)),
        means=trimmed_mean(np.stack(total.means)),
        arithmetic=probe.arithmetic,
    )


def trimmed_mean(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """(P, ...) -> (...): the mean over the pictures, for each value without the lowest and the highest twentieth of them.

    A few pictures, of gratings say, can drive a network's features to forty times what all others reach; they must not choose the scales.
    """
    away = int(_TRIMMED * len(values))
    kept = np.sort(values, axis=0)[away : len(values) - away]
    return np.asarray(kept.mean(0, dtype=np.float64))


class _Probe:
    """A compiled model that shows, of each inner tensor, its lowest and highest value and a sample; computed inside the graph, since
    bringing the whole tensors out takes longer than the network."""

    def __init__(self, path: Path, tensors: Sequence[str], contract: ModelContract, batch: int) -> None:
        model = read_model(path)
        model.reshape([batch, 3, contract.input.height, contract.input.width])
        known = {name: output for op in model.get_ordered_ops() for output in op.outputs() for name in output.get_names()}
        model.add_outputs([node.output(0) for name in tensors for node in _summary(known[name])])
        self._compiled, execution = compile_model(model, contract, statistics_precision(), "CPU", 1, batch)
        self.arithmetic = str(execution)
        self._batch = batch
        maps = contract.output.heatmaps, contract.output.pafs
        self._maps = [next(i for i, output in enumerate(self._compiled.outputs) if name in output.get_names()) for name in maps]
        self._first = len(self._compiled.outputs) - _SUMMARIES * len(tensors)

    def run(self, pictures: Pictures) -> Iterator[tuple[list[_Values], NDArray[np.float32], NDArray[np.float32]]]:
        """((low, high, mean, sample) of the tensors, heatmaps, PAFs) of each picture; views that the next picture overwrites."""
        for start in range(0, len(pictures), self._batch):
            part = pictures[start : start + self._batch]
            filled = np.concatenate([part, np.repeat(part[-1:], self._batch - len(part), 0)])
            results = self._compiled(filled, share_outputs=True).to_tuple()
            for row in range(len(part)):
                heatmaps, pafs = (results[index][row] for index in self._maps)
                inner = [result[row] for result in results[self._first :]]
                yield list(zip(*(inner[side::_SUMMARIES] for side in range(_SUMMARIES)), strict=True)), heatmaps, pafs


def _summary(output: ov.Output) -> tuple[ov.Node, ...]:
    """Lowest, highest and mean value of each picture's channels, and every n-th row and column."""
    from openvino import opset13 as ops

    shape = list(output.get_shape())
    axes = list(range(2, len(shape)))
    step = max(1, round((np.prod(shape[1:]) / _SAMPLE) ** 0.5)) if len(shape) == 4 else 1
    sample = ops.slice(output, [0, 0], [2**31 - 1] * 2, [step, step], [2, 3]) if step > 1 else ops.convert(output, "f32")
    return ops.reduce_min(output, axes), ops.reduce_max(output, axes), ops.reduce_mean(output, axes), sample


class _Histograms:
    """Histograms whose range doubles when a value lies outside: bins are merged in pairs, so the order of pictures does not matter.

    `magnitudes` and `means` hold an array a picture: tensor after tensor, a value a channel.
    """

    def __init__(self, tensors: Sequence[str]) -> None:
        self._tensors = tensors
        self.limits = np.full(len(tensors), 2.0**-20)
        self.counts = np.zeros((len(tensors), BINS), np.int64)
        self.magnitudes: list[NDArray[np.float32]] = []
        self.means: list[NDArray[np.float32]] = []
        self.channels: list[int] = []

    def add(self, values: list[_Values], picture: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Takes one picture in and gives each tensor's extremes."""
        low = np.array([value[0].min() for value in values], np.float32)
        high = np.array([value[1].max() for value in values], np.float32)
        broken = ~(np.isfinite(low) & np.isfinite(high))
        if broken.any():
            raise CalibrationError(
                f"tensor {self._tensors[int(broken.argmax())]!r} is not finite on calibration picture {picture}:"
                " check the contract's mean and std"
            )
        self.magnitudes.append(np.concatenate([np.maximum(-least, most) for least, most, _, _ in values]))
        self.means.append(np.concatenate([mean for _, _, mean, _ in values]))
        self.channels = [len(mean) for _, _, mean, _ in values]
        for index, (_, _, _, sample) in enumerate(values):
            self._widen(index, max(-float(low[index]), float(high[index])))
            limit = self.limits[index]
            flat = np.ascontiguousarray(sample).reshape(1, -1)
            self.counts[index] += cv2.calcHist([flat], [0], None, [BINS], [-limit, limit]).ravel().astype(np.int64)
        return low, high

    def _widen(self, index: int, magnitude: float) -> None:
        while magnitude >= self.limits[index]:
            middle = self.counts[index].reshape(-1, 2).sum(1)
            self.counts[index] = 0
            self.counts[index, BINS // 4 : 3 * BINS // 4] = middle
            self.limits[index] *= 2
