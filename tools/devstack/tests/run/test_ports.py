import os
import socket

import pytest

from safevideo_common.errors import StartupError
from safevideo_devstack.run.config import PORTS, moved_ports, process_on_port, require_free
from safevideo_devstack.run.testing import free_offset


def test_ports_are_those_of_the_contract_moved_together() -> None:
    assert moved_ports(0) == PORTS
    assert moved_ports(1000) == {name: port + 1000 for name, port in PORTS.items()}


def test_free_ports_are_no_obstacle() -> None:
    require_free(free_offset())


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_taken_port_is_named_with_its_process_and_what_to_type(address: str) -> None:
    offset = free_offset()
    with socket.create_server((address, 3001 + offset)), pytest.raises(StartupError) as refused:
        require_free(offset)
    message = str(refused.value)
    assert f"{3001 + offset} (webhook-ingest): process {os.getpid()} (" in message
    assert "(gateway)" not in message
    assert f"PORT_OFFSET={offset + 1000} make run" in message


def test_a_port_is_also_found_at_an_ipv6_address() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        assert process_on_port(server.getsockname()[1]).startswith(f"process {os.getpid()} (")


def test_a_connection_that_merely_uses_the_port_does_not_have_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert process_on_port(client.getsockname()[1]) == "a process that cannot be told"
