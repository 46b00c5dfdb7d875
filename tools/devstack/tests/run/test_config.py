import os
import socket
from pathlib import Path

import pytest

from safevideo_common.errors import StartupError
from safevideo_devstack.run.config import PORTS, Config, moved_ports, process_on_port, read_config, require_free
from safevideo_devstack.run.testing import free_offset


def test_config_is_the_embedded_stack_on_the_usual_ports_by_default() -> None:
    assert read_config({}) == Config("embedded", 0, Path.cwd() / ".run")


def test_config_reads_stack_offset_and_folder() -> None:
    environment = {"STACK": "local", "PORT_OFFSET": "1000", "RUN_DIR": "/tmp/elsewhere"}
    assert read_config(environment) == Config("local", 1000, Path("/tmp/elsewhere"))


@pytest.mark.parametrize("offset", ["-1", "1_000", "59001", "many", "٣"])
def test_config_refuses_an_invalid_offset_and_says_what_to_type(offset: str) -> None:
    with pytest.raises(StartupError, match="PORT_OFFSET=1000 make run"):
        read_config({"PORT_OFFSET": offset})


def test_config_refuses_an_unknown_stack_and_lists_the_stacks() -> None:
    with pytest.raises(StartupError, match="embedded, local"):
        read_config({"STACK": "cloud"})


def test_ports_of_the_contract_move_together() -> None:
    assert moved_ports(0) == PORTS
    assert moved_ports(1000) == {name: port + 1000 for name, port in PORTS.items()}


def test_port_check_accepts_free_ports() -> None:
    require_free(free_offset())


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_port_check_names_a_taken_port_its_process_and_what_to_type(address: str) -> None:
    offset = free_offset()
    with socket.create_server((address, 3001 + offset)), pytest.raises(StartupError) as refused:
        require_free(offset)
    message = str(refused.value)
    assert f"{3001 + offset} (webhook-ingest): process {os.getpid()} (" in message
    assert "(gateway)" not in message
    assert f"PORT_OFFSET={offset + 1000} make run" in message


def test_port_check_finds_the_process_at_an_ipv6_address() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        assert process_on_port(server.getsockname()[1]).startswith(f"process {os.getpid()} (")


def test_port_check_ignores_a_connection_from_the_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        assert process_on_port(client.getsockname()[1]) == "an unknown process"
