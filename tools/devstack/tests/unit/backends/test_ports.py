import socket
from pathlib import Path

import pytest

from safevideo_devstack.backends import BackendFailed, Options, Ports, allocate_ports

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def test_ports_of_all_servers_are_different() -> None:
    ports = allocate_ports(Options(brokers=3))
    allocated = [*ports.kafka, *ports.controllers, ports.mysql, ports.redis]
    assert len(set(allocated)) == 8


@pytest.mark.skipif(not EPHEMERAL.exists(), reason="only Linux shows the ports of clients")
def test_ports_are_below_those_that_the_kernel_gives_to_clients() -> None:
    ports = allocate_ports(Options())
    assert max(*ports.kafka, *ports.controllers, ports.mysql, ports.redis) < int(EPHEMERAL.read_text().split()[0])


def test_ports_of_the_options_are_kept() -> None:
    free = allocate_ports(Options()).redis
    assert allocate_ports(Options(ports=Ports(redis=free))).redis == free


def test_ports_refuse_a_taken_port_by_its_number() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(BackendFailed, match=f"Port {port} is taken"):
            allocate_ports(Options(ports=Ports(mysql=port)))
