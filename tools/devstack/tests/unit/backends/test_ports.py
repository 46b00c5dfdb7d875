import socket
from pathlib import Path

import pytest

from safevideo_devstack.backends import BackendFailed, Options, Ports, allot

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_every_server_gets_a_port_of_its_own() -> None:
    ports = allot(Options(brokers=3))
    allotted = [*ports.kafka, *ports.controllers, ports.mysql, ports.redis]
    assert len(set(allotted)) == 8


@pytest.mark.skipif(not EPHEMERAL.exists(), reason="only Linux tells from which ports clients are served")
def test_no_port_is_one_that_the_kernel_gives_to_clients() -> None:
    ports = allot(Options())
    assert max(*ports.kafka, *ports.controllers, ports.mysql, ports.redis) < int(EPHEMERAL.read_text().split()[0])


def test_ports_that_were_asked_for_are_kept() -> None:
    free = allot(Options()).redis
    assert allot(Options(ports=Ports(redis=free))).redis == free


def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(BackendFailed, match=f"Port {port} is taken"):
            allot(Options(ports=Ports(mysql=port)))
