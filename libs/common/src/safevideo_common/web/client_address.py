"""The address of the client behind trusted proxies, for limits that sent a request."""

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

IPV6_CUSTOMER_PREFIX: Final = 64
"""One customer has at least such a network; counted by single addresses, no limit would apply to it."""

UNKNOWN: Final = "unknown"
MAX_CACHED_PEERS: Final = 4096
"""Parsing an address costs as much as verifying a webhook, and most webhooks come from few peers."""

MAX_CHAIN_LENGTH: Final = 16
"""Maximum number of proxies in `X-Forwarded-For`; a longer value is forged."""

_WITH_PORT: Final = re.compile(r"^(?:\[([^\]]*)\]|([0-9.]+))(?::[0-9]{1,5})?$")
"""Some balancers write `192.0.2.1:49152` or `[2001:db8::1]:49152`."""

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


class ClientAddresses:
    """The trusted proxies. Only what they wrote of `X-Forwarded-For` counts; anyone can forge the rest."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = tuple(trusted)

    def of(self, peer: str | None, forwarded: Sequence[str]) -> str:
        """Return the nearest address that is no trusted proxy, an IPv6 one as its /64 network.

        `forwarded` has every value of `X-Forwarded-For`. A part that is no address ends the search.
        """
        nearest, customer = _peer(peer)
        return customer if nearest is None or not forwarded else _customer(self._nearest(nearest, forwarded))

    def exact(self, peer: str | None, forwarded: Sequence[str]) -> str:
        """Return the same address in full, for the audit log."""
        nearest, _ = _peer(peer)
        return UNKNOWN if nearest is None else str(self._nearest(nearest, forwarded))

    def _nearest(self, nearest: Address, forwarded: Sequence[str]) -> Address:
        for hop in _hops_from_last(forwarded):
            if not self._is_trusted(nearest):
                break
            before = _parse(_WITH_PORT.sub(r"\1\2", hop.strip()))
            if before is None:
                break
            nearest = before
        return nearest

    def is_trusted(self, peer: str | None) -> bool:
        """Return True if `peer` is a trusted proxy."""
        address, _ = _peer(peer)
        return address is not None and self._is_trusted(address)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


@lru_cache(MAX_CACHED_PEERS)
def _peer(text: str | None) -> tuple[Address | None, str]:
    """Parse the address of a socket. Values of headers are not cached: they may be long and always new."""
    address = _parse(text or "")
    return address, _customer(address) if address else UNKNOWN


def _hops_from_last(forwarded: Sequence[str]) -> Sequence[str]:
    return [hop for value in forwarded for hop in value.split(",")][: -MAX_CHAIN_LENGTH - 1 : -1]


def _parse(text: str) -> Address | None:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _customer(address: Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((address.packed, IPV6_CUSTOMER_PREFIX), strict=False))
