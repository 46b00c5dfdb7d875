"""A Kafka, a MariaDB and a Redis on an address that containers reach, for tests of images and of a cluster."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from safevideo_devstack.backends import process
from safevideo_devstack.backends.install import install_programs
from safevideo_devstack.backends.kafka import KafkaServer
from safevideo_devstack.backends.mysql import MariaDBServer
from safevideo_devstack.backends.redis import system_redis
from safevideo_devstack.backends.servers import output_of, wait_ready
from safevideo_devstack.backends.stack import Ports, Server

PORTS: Final = Ports(kafka=(9092,), controllers=(9093,), mysql=3306, redis=6379)
"""Those of production, since network policies name them. So run this in a network namespace of its own."""


@dataclass(slots=True)
class Program:
    """A server and its process."""

    server: Server
    process: process.Process

    def kill(self) -> None:
        """End it as a power cut would."""
        process.stop([self.process], 0.0)

    def start(self) -> None:
        """Start it on its data, and return when it answers. Raises `BackendFailed`."""
        self.process = spawn(self.server)
        self.wait_ready()

    def wait_ready(self) -> None:
        """Return when it answers. Raises `BackendFailed`."""
        wait_ready(self.server, lambda: process.is_running(self.process))


@dataclass(frozen=True, slots=True)
class BackendsForContainers:
    """The three, while they run."""

    kafka: Program
    database: Program
    redis: Program

    @property
    def settings(self) -> dict[str, str]:
        """Return the settings of a service by which it finds them."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.server.url,
            "DATABASE_URL": self.database.server.url,
            "REDIS_URL": self.redis.server.url,
        }


def spawn(server: Server) -> process.Process:
    """Start the process of a server, which ends with ours."""
    return process.spawn(server.name, server.command(), output_of(server), die_with_parent=True)


@contextmanager
def backends_for_containers(folder: Path, host: str) -> Iterator[BackendsForContainers]:
    """Run them on `host` for the block, some 500 MB. Raises `BackendUnavailable` or `BackendFailed`."""
    install_programs(print, "mariadb")
    servers: tuple[Server, ...] = (
        KafkaServer(folder / "kafka", PORTS, node=1, host=host),
        MariaDBServer(folder / "mariadb", PORTS.mysql, host=host, settings={"innodb_buffer_pool_size": "128M"}),
        replace(
            system_redis(folder, PORTS.redis, "everysec"),
            host=host,
            settings={"protected-mode": "no"},  # the network of the sandbox is all that reaches it
        ),
    )
    with ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(lambda server: server.prepare(), servers))
    programs = [Program(server, spawn(server)) for server in servers]
    try:
        for program in programs:
            program.wait_ready()
        yield BackendsForContainers(*programs)
    finally:
        process.stop([program.process for program in programs], 0.0)
