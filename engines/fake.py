"""A deterministic engine without a network, for tests of everything that surrounds one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from edgepose.engines.contract import ModelContract
from edgepose.engines.engine import Execution, Flight, Maps, check_outputs

MapsFrom = Callable[[NDArray[np.uint8]], Maps]


class FakeEngine:
    """Computes its maps with `maps_from`, a function of the (N, height, width, 3) BGR pictures.

    A slot computes in `start`, so that what is written into its pictures afterwards cannot change the result.
    """

    def __init__(self, contract: ModelContract, maps_from: MapsFrom, slots: int = 1, batch: int = 1) -> None:
        self.contract = contract
        self.execution = Execution("fake", "CPU", "asked for")
        self._slots = tuple(FakeSlot(contract, maps_from, batch) for _ in range(slots))

    @property
    def slots(self) -> tuple[FakeSlot, ...]:
        return self._slots

    def close(self) -> None:
        self._slots = ()


class FakeSlot:
    """See FakeEngine."""

    def __init__(self, contract: ModelContract, maps_from: MapsFrom, batch: int) -> None:
        self._contract = contract
        self._maps_from = maps_from
        self._pictures = np.zeros((batch, contract.input.height, contract.input.width, 3), np.uint8)
        self._flight = Flight()
        self._maps: Maps | None = None

    @property
    def pictures(self) -> NDArray[np.uint8]:
        return self._pictures

    def start(self) -> None:
        self._flight.begin()
        try:
            maps = self._maps_from(self._pictures)
            check_outputs(self._contract, maps.heatmaps.shape[1:], maps.pafs.shape[1:], "the fake's maps")
        except BaseException:
            self._flight.end()
            raise
        self._maps = maps

    def wait(self) -> Maps:
        self._flight.end()
        assert self._maps is not None
        return self._maps


def block_means(pictures: NDArray[np.uint8], contract: ModelContract) -> Maps:
    """Identity maps: heatmap k is BGR channel k mod 3, averaged over each cell and scaled to 0-1; every limb's PAF is (1, 0)."""
    n, stride, (h, w) = len(pictures), contract.output.stride, contract.map_hw
    cells = pictures.reshape(n, h, stride, w, stride, 3).mean((2, 4), dtype=np.float32) / 255
    heatmaps = np.ascontiguousarray(np.moveaxis(cells, -1, 1)[:, np.arange(contract.output.heatmap_channels) % 3])
    pafs = np.zeros((n, contract.output.paf_channels, h, w), np.float32)
    pafs[:, [limb.x for limb in contract.skeleton.limbs]] = 1
    return Maps(heatmaps, pafs)
