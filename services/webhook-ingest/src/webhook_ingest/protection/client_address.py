"""Whom a request comes from, where proxies stand in between."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

IPV6_CUSTOMER_PREFIX: Final = 64
"""A customer has at least such a network to himself; counted one by one, he would never meet a limit."""

UNKNOWN: Final = "unknown"
MAX_CACHED_PEERS: Final = 4096
"""Taking an address apart costs as much as verifying a webhook, and most come from few peers."""

MAX_CHAIN_LENGTH: Final = 16
"""Proxies that are looked through at most: a longer `X-Forwarded-For` is a forger's."""

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


class ClientAddresses:
    """`X-Forwarded-For` counts only as far as proxies from `trusted` networks wrote it; all else anyone can make up."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = tuple(trusted)

    def of(self, peer: str | None, forwarded: Sequence[str]) -> str:
        """The nearest address that is no trusted proxy, an IPv6 one as its /64 network.

        `forwarded` is every value of `X-Forwarded-For`. What is no address ends the search at the proxy that wrote it.
        """
        nearest, customer = _peer(peer)
        if nearest is None or not forwarded:
            return customer
        for hop in _hops_from_last(forwarded):
            if not self._is_trusted(nearest):
                break
            before = _parsed(hop)
            if before is None:
                break
            nearest = before
        return _customer(nearest)

    def is_trusted(self, peer: str | None) -> bool:
        """Whether a trusted proxy stands there."""
        address, _ = _peer(peer)
        return address is not None and self._is_trusted(address)

    def _is_trusted(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


@lru_cache(MAX_CACHED_PEERS)
def _peer(text: str | None) -> tuple[Address | None, str]:
    """For what the socket says alone: what a header says may be long, and ever new."""
    address = _parsed(text or "")
    return address, _customer(address) if address else UNKNOWN


def _hops_from_last(forwarded: Sequence[str]) -> Sequence[str]:
    return [hop for value in forwarded for hop in value.split(",")][: -MAX_CHAIN_LENGTH - 1 : -1]


def _parsed(text: str) -> Address | None:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _customer(address: Address) -> str:
    if isinstance(address, IPv4Address):
        return str(address)
    return str(ip_network((address.packed, IPV6_CUSTOMER_PREFIX), strict=False))
