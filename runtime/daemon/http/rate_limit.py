"""`RateLimit`: how often an address may do something."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from edgepose.runtime.daemon.http.network import network_of

_ADDRESSES = 4096


class RateLimit:
    """`burst` at once, refilled at `per_minute`. Remembers the 4096 addresses last seen, networks of 64 bits for IPv6. For one thread."""

    def __init__(self, per_minute: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._clock = per_minute / 60, burst, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> float:
        """Seconds until it may again; 0 now, which counts."""
        network = network_of(address)
        left = self._now_left(network)
        if left < 1:
            return (1 - left) / self._per_s
        self._left[network] = left - 1, self._clock()
        self._left.move_to_end(network)
        if len(self._left) > _ADDRESSES:
            self._left.popitem(last=False)
        return 0.0

    def _now_left(self, network: str) -> float:
        left, at_s = self._left.get(network, (self._burst, 0.0))
        return min(self._burst, left + (self._clock() - at_s) * self._per_s)
