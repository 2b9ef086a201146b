"""`Connections`: which clients are connected, how many there may be, and how one is cut off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from edgepose.runtime.daemon.http.network import network_of

Client = tuple[str, int]
"""Address and port: unique among the connections of a server."""


@dataclass(slots=True)
class Connections:
    """For the server's event loop only. `refused` counts connections beyond the limits, `late` those cut off because a request did not
    arrive in time, `stalled` those that took nothing of what was sent to them for too long. An IPv6 network of 64 bits is one address."""

    most: int
    most_per_address: int
    refused: int = 0
    late: int = 0
    stalled: int = 0
    _cut: dict[Client, Callable[[], None]] = field(default_factory=dict)
    _by_network: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self._cut)

    def admit(self, client: Client, cut: Callable[[], None]) -> bool:
        """`cut` ends the connection at once. False where there are too many."""
        network = network_of(client[0])
        if len(self._cut) >= self.most or self._by_network[network] >= self.most_per_address:
            self.refused += 1
            return False
        self._cut[client] = cut
        self._by_network[network] += 1
        return True

    def cut(self) -> None:
        """Ends all of them."""
        for cut in tuple(self._cut.values()):
            cut()

    def leave(self, client: Client) -> None:
        """Allowed for one that was never admitted."""
        if self._cut.pop(client, None) is not None:
            network = network_of(client[0])
            self._by_network[network] -= 1
            if not self._by_network[network]:
                del self._by_network[network]
