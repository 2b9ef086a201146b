"""`ReplayEngine`: maps that a real engine once gave, at once and again and again; what is left of a pipeline's time is everybody else's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.contract import ModelContract
from edgepose.engines.engine import Engine, Execution, Flight, Maps
from edgepose.runtime.preprocess import fit_into
from edgepose.runtime.sources import Frame


class ReplaySlot:
    """Gives every `ring`-th of the recorded maps from number `place` on, whatever is written into its pictures."""

    def __init__(self, contract: ModelContract, recorded: Sequence[Maps], place: int, ring: int) -> None:
        self._pictures = np.zeros((1, contract.input.height, contract.input.width, 3), np.uint8)
        self._recorded, self._ring, self._number, self._flight = recorded, ring, place - ring, Flight()

    @property
    def pictures(self) -> NDArray[np.uint8]:
        return self._pictures

    def start(self) -> None:
        self._flight.begin()
        self._number += self._ring

    def wait(self) -> Maps:
        self._flight.end()
        return self._recorded[self._number % len(self._recorded)]


class ReplayEngine:
    """A ring of slots of a picture each; used in turn, they give the recorded maps in order."""

    def __init__(self, contract: ModelContract, recorded: Sequence[Maps], slots: int) -> None:
        self.contract = contract
        self.execution = Execution("replay", "CPU", "asked for")
        self._slots = tuple(ReplaySlot(contract, recorded, place, slots) for place in range(slots))

    @property
    def slots(self) -> tuple[ReplaySlot, ...]:
        return self._slots

    def close(self) -> None:
        self._slots = ()


def recorded_maps(engine: Engine, frames: Sequence[Frame]) -> list[Maps]:
    """A copy of the engine's maps of each frame."""
    slot, found = engine.slots[0], []
    for frame in frames:
        fit_into(slot.pictures[0], frame.picture, engine.contract.input)
        slot.start()
        maps = slot.wait()
        found.append(Maps(maps.heatmaps[:1].copy(), maps.pafs[:1].copy()))
    return found
