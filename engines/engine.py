"""`Engine` and `Slot`: a network that is ready to run, and one inference in flight.

An engine hands out a fixed ring of slots. Write pictures into `slot.pictures`, call `start()`, do something else, call `wait()`: used
round-robin, a ring of slots gives pipelining, order and bounded memory without callbacks.

    slot.pictures[0] = fitted_picture
    slot.start()
    maps = slot.wait()          # valid until this slot is started again

A slot belongs to one thread at a time; different slots may be used from different threads.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.contract import ModelContract
from edgepose.engines.errors import InferenceFailed, ShapeMismatch

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Maps:
    """Confidence maps (N, channels, h, w) and PAFs (N, channels, h, w), float32; memory belongs to the slot."""

    heatmaps: NDArray[np.float32]
    pafs: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Execution:
    """What really runs, as the vendor library reports it: never what was merely asked for.

    `precisions` counts the executed compute layers (convolutions, matrix products) by arithmetic, e.g. {"i8": 56, "f32": 2};
    `multiplications` counts their multiplications of one inference. Both are empty where the library does not tell.
    """

    backend: str
    device: str
    why: str
    precisions: dict[str, int] = field(default_factory=dict)
    multiplications: dict[str, int] = field(default_factory=dict)

    @property
    def shares(self) -> dict[str, float]:
        """The part of all multiplications that each arithmetic executes, largest first; "int8" has signed and unsigned activations."""
        whole, parts = sum(self.multiplications.values()), Counter[str]()
        for precision, count in self.multiplications.items():
            parts["int8" if precision in ("i8", "u8") else precision] += count
        return {arithmetic: count / whole for arithmetic, count in parts.most_common()}

    def __str__(self) -> str:
        layers = ", ".join(f"{n} layers {p}" for p, n in sorted(self.precisions.items(), key=lambda item: -item[1]))
        shares = [f"{share:.1%} of the multiplications {p}" for p, share in self.shares.items()]
        return f"{self.backend} on {self.device}" + (f" ({'; '.join([layers, *shares[:1]])})" if layers else "")


class Slot(Protocol):
    """One inference in flight. `start` on a started slot and `wait` on one that was not started raise RuntimeError."""

    @property
    def pictures(self) -> NDArray[np.uint8]:
        """(N, height, width, 3) BGR levels, owned by the slot, to be written in place while the slot is idle."""

    def start(self) -> None:
        """Begins the inference and returns at once."""

    def wait(self) -> Maps:
        """Blocks until the inference is done. Raises InferenceFailed where the vendor library reports an error."""


class Engine(Protocol):
    """A loaded network. `close` waits for what is in flight, then frees everything; closing twice is allowed."""

    @property
    def contract(self) -> ModelContract: ...

    @property
    def execution(self) -> Execution: ...

    @property
    def slots(self) -> tuple[Slot, ...]: ...

    def close(self) -> None: ...


class Flight:
    """Whether a slot is in flight: the part of the slot contract that every backend shares."""

    def __init__(self) -> None:
        self._flying = False

    def begin(self) -> None:
        if self._flying:
            raise RuntimeError("slot started twice: wait for it first")
        self._flying = True

    def end(self) -> None:
        if not self._flying:
            raise RuntimeError("slot is not in flight: start it first")
        self._flying = False

    def drain(self, wait: Callable[[], object]) -> None:
        """Before closing: waits for what is in flight, whatever came of it."""
        if self._flying:
            try:
                wait()
            except InferenceFailed as error:
                logger.warning("closing with a failed inference: %s", error)


def check_outputs(contract: ModelContract, heatmaps: tuple[Any, ...], pafs: tuple[Any, ...], where: str) -> None:
    """Compares a model's output shapes (without the batch axis) with the contract. Raises ShapeMismatch."""
    h, w = contract.map_hw
    for name, channels, found in (
        (contract.output.heatmaps, contract.output.heatmap_channels, heatmaps),
        (contract.output.pafs, contract.output.paf_channels, pafs),
    ):
        if tuple(found) != (channels, h, w):
            raise ShapeMismatch(f"{where}: output {name!r} is {tuple(found)}, the contract wants {(channels, h, w)}: correct the contract")
