"""Which inner tensors of a teacher are worth learning from: those that everything must pass through."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import openvino as ov

_COMPUTE = frozenset({"Convolution", "GroupConvolution", "ConvolutionBackpropData"})


def bottlenecks(model: ov.Model, cells_hw: tuple[int, int]) -> tuple[ov.Output, ...]:
    """The teacher's features nearest to half of its work, and its last ones before the outputs part, of those with maps of `cells_hw`.

    A bottleneck is a tensor that every path from the picture to any output crosses: it alone holds all that the network knows there.
    One where both are the same, none for a network that has none of this size.
    """
    found = [(work, tensor) for work, tensor in _bottlenecks(model) if _cells(tensor) == cells_hw]
    if not found:
        return ()
    half = sum(map(_multiplications, model.get_ordered_ops())) / 2
    nearest = min(abs(work - half) for work, _ in found)
    middle = [place for place, (work, _) in enumerate(found) if abs(work - half) == nearest][-1]  # after bias and activation
    return tuple(found[place][1] for place in sorted({middle, len(found) - 1}))


def _bottlenecks(model: ov.Model) -> list[tuple[int, ov.Output]]:
    """(multiplications so far, tensor), in order; none that is itself an output.

    In an order of execution a tensor is alive from its operation to its last reader, an output to the end: where one alone is alive, it
    is a bottleneck.
    """
    moving = _depending_on_input(model)
    order = {op.get_name(): len(moving) if op.get_type_name() == "Result" else place for place, op in enumerate(moving)}
    last_reader = {op.get_name(): max(_readers(op, order), default=-1) for op in moving}
    found, alive_until, work = [], -1, 0
    for place, op in enumerate(moving):
        work += _multiplications(op)
        alone = alive_until <= place
        alive_until = max(alive_until, last_reader[op.get_name()])
        if alone and op.outputs() and last_reader[op.get_name()] < len(moving):
            found.append((work, op.output(0)))
    return found


def _depending_on_input(model: ov.Model) -> list[Any]:
    """Operations that the picture flows through, in an order of execution."""
    seen: set[str] = set()
    chosen = []
    for op in model.get_ordered_ops():
        sources = [port.get_source_output().get_node().get_name() for port in op.inputs()]
        if op.get_type_name() == "Parameter" or any(name in seen for name in sources):
            seen.add(op.get_name())
            chosen.append(op)
    return chosen


def _readers(op: Any, order: dict[str, int]) -> list[int]:
    return [order[port.get_node().get_name()] for output in op.outputs() for port in output.get_target_inputs()]


def _cells(tensor: ov.Output) -> tuple[int, ...]:
    shape = tensor.get_partial_shape()
    return tuple(shape.to_shape())[2:] if shape.is_static and len(shape) == 4 else ()


def _multiplications(op: Any) -> int:
    """An estimate that suits ordinary convolutions; only the shares matter."""
    if op.get_type_name() not in _COMPUTE:
        return 0
    return int(math.prod(op.input(1).get_shape()) * math.prod(op.output(0).get_shape()[2:]))
