"""Each conversion compared with the one before, tensor by tensor and down to the poses; what differs is named.

A hop that lies beyond its tolerance raises `ParityError` with the hop, the first bad tensor, the likely cause (normalisation, colour
order, exchanged channels) and the first node of the graph at which the two stages part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgepose.calibration.oks import agreement
from edgepose.calibration.survey import look_exchanged
from edgepose.engines.bundle import HopParity, PoseParity, TensorParity
from edgepose.engines.contract import ModelContract
from edgepose.engines.engine import Maps
from edgepose.engines.errors import ParityError
from edgepose.export.divergence import cause_of, relative_rmse
from edgepose.export.stage import Pictures, Stage
from edgepose.runtime.paf import PafParser
from edgepose.runtime.poses import Poses

_LEAST_TO_JUDGE = 8
"""Pictures: fewer say nothing about the order of colours."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """`relative_rmse` bounds every output; `oks` bounds the worst (`min`) or the average (`mean`) person of the hop before."""

    relative_rmse: float
    oks: float
    bounds: Literal["min", "mean"] = "min"


class ParityCheck:
    """Compares stages on one set of fitted pictures, (n, height, width, 3) BGR; each stage's maps are computed once."""

    def __init__(self, contract: ModelContract, pictures: Pictures, noise: bool) -> None:
        self._contract = contract
        self._pictures = pictures
        self._noise = noise
        self._seen: dict[Stage, tuple[Maps, list[Poses]]] = {}

    @property
    def pictures(self) -> Pictures:
        """What is compared on, photographs or noise."""
        return self._pictures

    def doubts(self, first: Stage) -> tuple[str, ...]:
        """What the pictures say against the contract, which no hop can show because all share it: nothing, or one sentence."""
        if self._noise:
            return ()
        straight = sum(float(poses.scores.sum()) for poses in self._poses(first))
        exchanged = decoded(first.maps(np.ascontiguousarray(self._pictures[..., ::-1])), self._contract)
        swapped = sum(float(poses.scores.sum()) for poses in exchanged)
        if len(self._pictures) >= _LEAST_TO_JUDGE and look_exchanged(straight, swapped):
            return (
                f"blue and red look exchanged: on these pictures people reach a score of {swapped:.1f} with the colours exchanged,"
                f" {straight:.1f} as they are: is the contract's channel order, {self._contract.input.channels}, the network's?",
            )
        if not any(map(len, self._poses(first))):
            return ("nobody is found on these pictures, so no pose was compared: verify on pictures of people, or correct the contract",)
        return ()

    def compare(self, before: Stage, after: Stage, tolerance: Tolerance) -> HopParity:
        """The figures of a hop. Raises ParityError where they lie beyond the tolerance."""
        found = self.measure(before, after, tolerance)
        bad = [t for t in found.tensors if not t.relative_rmse <= tolerance.relative_rmse]
        poses = found.poses
        if bad:
            fault = (
                f"tensor {bad[0].tensor!r} differs by a relative RMSE of {bad[0].relative_rmse:.2g} (at most {tolerance.relative_rmse:g})"
            )
        elif poses and poses.persons and not (poses.oks_min if tolerance.bounds == "min" else poses.oks_mean) >= tolerance.oks:
            worst = f"worst OKS {poses.oks_min:.4f}, mean {poses.oks_mean:.4f}, {poses.missed} of {poses.persons} persons missed"
            fault = f"decoded poses differ: {worst} (wanted a {tolerance.bounds} of {tolerance.oks:g})"
        else:
            return found
        pair = self._maps(before), self._maps(after)
        cause = cause_of(before, after, *pair, self._pictures, self._contract, tolerance.relative_rmse)
        raise ParityError(f"hop {found.hop}: {fault}; {cause}")

    def measure(self, before: Stage, after: Stage, tolerance: Tolerance) -> HopParity:
        """The figures of a hop, whatever they are."""
        a, b = self._maps(before), self._maps(after)
        output = self._contract.output
        pairs = ((output.heatmaps, a.heatmaps, b.heatmaps), (output.pafs, a.pafs, b.pafs))
        tensors = tuple(_tensor_parity(name, x, y, tolerance.relative_rmse) for name, x, y in pairs)
        poses = self._pose_parity(before, after, tolerance)
        return HopParity(
            hop=f"{before.name} -> {after.name}", pictures=len(self._pictures), noise=self._noise, tensors=tensors, poses=poses
        )

    def _pose_parity(self, before: Stage, after: Stage, tolerance: Tolerance) -> PoseParity | None:
        if self._noise:
            return None
        found = agreement(self._poses(before), self._poses(after), self._contract.skeleton)
        oks = found.oks or (1.0,)
        return PoseParity(
            persons=len(found.oks),
            oks_min=min(oks),
            oks_mean=float(np.mean(oks)),
            missed=found.missed,
            extra=found.extra,
            tolerance=tolerance.oks,
            bounds=tolerance.bounds,
        )

    def _maps(self, stage: Stage) -> Maps:
        return self._results(stage)[0]

    def _poses(self, stage: Stage) -> list[Poses]:
        return self._results(stage)[1]

    def _results(self, stage: Stage) -> tuple[Maps, list[Poses]]:
        if stage not in self._seen:
            maps = stage.maps(self._pictures)
            self._seen[stage] = maps, [] if self._noise else decoded(maps, self._contract)
        return self._seen[stage]


def decoded(maps: Maps, contract: ModelContract) -> list[Poses]:
    """People of each picture, in network input pixels."""
    parser = PafParser(contract.skeleton)
    poses = [parser.parse(heatmaps, pafs) for heatmaps, pafs in zip(maps.heatmaps, maps.pafs, strict=True)]
    return [p.moved(p.keypoints[..., :2].astype(np.float64) * contract.output.stride) for p in poses]


def structured_noise(contract: ModelContract, count: int, seed: int = 0) -> Pictures:
    """Pictures for a comparison without photographs: coloured noise with power on every scale, (count, height, width, 3)."""
    h, w = contract.input.height, contract.input.width
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None])
    spectrum = np.fft.rfft2(rng.standard_normal((count, 3, h, w))) / np.maximum(frequency, 1 / max(h, w))
    waves = np.fft.irfft2(spectrum, s=(h, w))
    levels = 127.5 + 64 * waves / waves.std((-2, -1), keepdims=True)
    return np.ascontiguousarray(np.moveaxis(np.clip(levels, 0, 255).astype(np.uint8), 1, -1))


def _tensor_parity(name: str, a: NDArray[np.float32], b: NDArray[np.float32], tolerance: float) -> TensorParity:
    x, y = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    norms = float(np.linalg.norm(x) * np.linalg.norm(y))
    return TensorParity(
        tensor=name,
        max_abs=float(np.max(np.abs(x - y))),
        relative_rmse=relative_rmse(a, b),
        cosine=float(x @ y) / norms if norms else float(np.array_equal(x, y)),
        tolerance=tolerance,
    )
