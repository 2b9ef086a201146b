"""What counts as one client where there are limits."""

from __future__ import annotations

import ipaddress


def network_of(address: str) -> str:
    """An IPv4 address itself; of IPv6 the network of 64 bits, all of whose addresses one machine may have."""
    if ":" not in address:
        return address
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or ipaddress.ip_network((parsed, 64), strict=False))
