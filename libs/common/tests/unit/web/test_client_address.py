"""The client address: trusted proxies count, and nothing that anyone can forge."""

from ipaddress import ip_network

import pytest

from safevideo_common.web.client_address import UNKNOWN, ClientAddresses

ADDRESSES = ClientAddresses([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", (), "203.0.113.9"),
        ("203.0.113.9", ("198.51.100.1",), "203.0.113.9"),
        ("10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("1.1.1.1, 198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", ("1.1.1.1", "198.51.100.1"), "198.51.100.1"),
        ("10.0.0.1", ("1.1.1.1, 198.51.100.1, 10.9.9.9",), "198.51.100.1"),
        ("10.0.0.1", (), "10.0.0.1"),
        ("10.0.0.1", ("",), "10.0.0.1"),
        ("10.0.0.1", ("1.1.1.1, nonsense",), "10.0.0.1"),
        ("10.0.0.1", ("198.51.100.1:49152",), "198.51.100.1"),
        ("10.0.0.1", ("198.51.100.1, 10.9.9.9:8080",), "198.51.100.1"),
        ("10.0.0.1", ("[2001:db8:1:2::3]:49152",), "2001:db8:1:2::/64"),
        ("10.0.0.1", ("[2001:db8:1:2::3]",), "2001:db8:1:2::/64"),
        ("10.0.0.1", ("198.51.100.1:port",), "10.0.0.1"),
        ("10.0.0.1", ("10.0.0.2",), "10.0.0.2"),
        ("fd00::1", ("198.51.100.1",), "198.51.100.1"),
        ("::ffff:10.0.0.1", ("198.51.100.1",), "198.51.100.1"),
        ("10.0.0.1", (",".join(["10.0.0.2"] * 10_000),), "10.0.0.2"),
        ("", (), UNKNOWN),
        (None, (), UNKNOWN),
    ],
)
def test_client_address_is_nearest_address_that_is_no_trusted_proxy(
    peer: str | None, forwarded: tuple[str, ...], client: str
) -> None:
    assert ADDRESSES.of(peer, forwarded) == client


def test_client_address_of_ipv6_is_its_network() -> None:
    no_proxies = ClientAddresses([])
    assert no_proxies.of("2001:db8:1:2::3", ()) == no_proxies.of("2001:db8:1:2:ffff::4", ()) == "2001:db8:1:2::/64"
