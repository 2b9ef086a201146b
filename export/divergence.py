"""Why two stages of a network differ: what the network sees, exchanged channels, and the first node at which they part."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.contract import ModelContract
from edgepose.engines.engine import Maps
from edgepose.export.stage import INPUT, Node, Pictures, Stage

_AT_ONCE = 32  # inner tensors marked as outputs in one run; bounds the memory
Values = NDArray[Any]


def cause_of(
    before: Stage, after: Stage, before_maps: Maps, after_maps: Maps, pictures: Pictures, contract: ModelContract, tolerance: float
) -> str:
    """One sentence: the likeliest cause, and the first node that differs."""
    told = [_input_fault(before, after, pictures, contract, tolerance)]
    if not told[0]:
        told = [_exchanged(before_maps.pafs, after_maps.pafs, "PAF", contract, tolerance)]
        told += [_exchanged(before_maps.heatmaps, after_maps.heatmaps, "heatmap", contract, tolerance)]
    node = first_difference(before, after, pictures, tolerance)
    if node:
        told.append(f"first node that differs: {node.kind} {node.name!r} (tensor {node.tensor!r})")
    return "; ".join(t for t in told if t) or "every inner tensor that both stages have is within the tolerance"


def first_difference(before: Stage, after: Stage, pictures: Pictures, tolerance: float) -> Node | None:
    """Marks inner tensors that both stages have as outputs, in the order of computation, and compares them on one batch."""
    known = {node.tensor for node in before.nodes()}
    shared = [node for node in after.nodes() if node.tensor in known]
    for start in range(0, len(shared), _AT_ONCE):
        part = shared[start : start + _AT_ONCE]
        names = [node.tensor for node in part]
        a, b = _probed(before, after, pictures, names)
        for node in part:
            if node.tensor in a and node.tensor in b and not relative_rmse(a[node.tensor], b[node.tensor]) <= tolerance:
                return node
    return None


def relative_rmse(reference: Values, other: Values) -> float:
    """RMS of the difference over RMS of the reference; infinite where shapes differ or values are not finite."""
    if reference.shape != other.shape or not (np.isfinite(reference).all() and np.isfinite(other).all()):
        return float("inf")
    difference = float(np.sqrt(np.mean(np.square(other.astype(np.float64) - reference))))
    scale = float(np.sqrt(np.mean(np.square(reference.astype(np.float64)))))
    return difference / scale if scale else (0.0 if difference == 0 else float("inf"))


def _probed(before: Stage, after: Stage, pictures: Pictures, names: list[str]) -> tuple[dict[str, Values], dict[str, Values]]:
    batch = pictures[: max(before.batch, after.batch)]
    batch = np.concatenate([batch, np.repeat(batch[-1:], max(before.batch, after.batch) - len(batch), 0)])
    return before.probe(batch, names), after.probe(batch, names)


def _input_fault(before: Stage, after: Stage, pictures: Pictures, contract: ModelContract, tolerance: float) -> str:
    a, b = (probe[INPUT] for probe in _probed(before, after, pictures, []))
    if relative_rmse(a, b) <= max(tolerance, 1e-5):
        return ""
    order, other = contract.input.channels, contract.input.channels[::-1]
    if relative_rmse(a[:, ::-1], b) <= max(tolerance, 1e-5):
        return f"what the network sees has its colours in {other} order, the contract says {order}"
    slopes, offsets = zip(*(np.polyfit(a[:, c].ravel(), b[:, c].ravel(), 1) for c in range(a.shape[1])), strict=True)
    std = np.asarray(contract.input.std) / np.asarray(slopes)
    mean = np.asarray(contract.input.mean) - np.asarray(offsets) * std
    used = f"mean {_levels(mean)} and std {_levels(std)}"
    return (
        f"what the network sees is normalised by {used}, the contract says {_levels(contract.input.mean)} and {_levels(contract.input.std)}"
    )


def _exchanged(a: Values, b: Values, kind: str, contract: ModelContract, tolerance: float) -> str:
    """Names output channels that turn up in each other's place."""
    if a.shape != b.shape or not np.isfinite(b).all():
        return ""
    channels = range(a.shape[1])
    bad = [c for c in channels if relative_rmse(a[:, c], b[:, c]) > tolerance]
    source = {c: next((d for d in bad if d != c and relative_rmse(a[:, d], b[:, c]) <= tolerance), None) for c in bad}
    pairs = [(c, d) for c, d in source.items() if d is not None and c < d and source.get(d) == c]
    return "; ".join(f"{kind} channels {c} and {d} are exchanged{_meaning(kind, c, d, contract)}" for c, d in pairs[:3])


def _meaning(kind: str, c: int, d: int, contract: ModelContract) -> str:
    skeleton = contract.skeleton
    if kind == "PAF":
        named = [f" (x and y of limb {skeleton.limb_name(i)})" for i, limb in enumerate(skeleton.limbs) if {limb.x, limb.y} == {c, d}]
        return named[0] if named else ""
    return f" ({skeleton.keypoints[c]} and {skeleton.keypoints[d]})" if d < len(skeleton.keypoints) else ""


def _levels(values: Any) -> str:
    return "(" + ", ".join(f"{float(v):.4g}" for v in values) + ")"
