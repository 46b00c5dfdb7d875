"""The stacks that are processes of this machine: `local`, and `embedded` with Valkey as its only process."""

import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

from safevideo_devstack.backends import state
from safevideo_devstack.backends.install import install_programs
from safevideo_devstack.backends.kafka import kafka_cluster
from safevideo_devstack.backends.mysql import MariaDBServer, MySQLServer
from safevideo_devstack.backends.ports import allocate_ports
from safevideo_devstack.backends.process import Process, is_running, last_lines, spawn
from safevideo_devstack.backends.redis import system_redis, wheel_valkey
from safevideo_devstack.backends.stack import (
    BackendFailed,
    BackendInfo,
    Backends,
    NotReady,
    Options,
    Role,
    Say,
    Server,
    Stack,
)

READY_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class StartedServer:
    """A server that answers."""

    server: Server
    version: str
    seconds: float

    def info(self, software: str = "") -> BackendInfo:
        """Return its line of the table."""
        server = self.server
        return BackendInfo(
            server.role, software or server.software, self.version, server.address, round(self.seconds, 2)
        )


def start_local(folder: Path, options: Options, say: Say) -> Backends:
    """Start Kafka, MariaDB or MySQL, and Redis. Raises `BackendUnavailable` or `BackendFailed`."""
    install_programs(say, options.database)
    started = _start("local", folder, options)
    brokers, (database,), (cache,) = (_of_role(role, started) for role in ("broker", "database", "cache"))
    last = max(brokers, key=lambda broker: broker.seconds)
    number = "one broker" if len(brokers) == 1 else f"{len(brokers)} brokers"
    return Backends(
        stack="local",
        kafka_bootstrap_servers=",".join(broker.server.url for broker in brokers),
        database_url=database.server.url,
        redis_url=cache.server.url,
        infos=(last.info(f"{last.server.software}, {number}"), database.info(), cache.info()),
    )


def start_embedded(folder: Path, options: Options, _say: Say) -> Backends:
    """Start Valkey; broker and database are files. Raises `BackendUnavailable` or `BackendFailed`."""
    (cache,) = _start("embedded", folder, options)
    database = folder / "safevideo.db"
    return Backends(
        stack="embedded",
        kafka_bootstrap_servers="",
        database_url=f"sqlite+aiosqlite:///{database}",
        redis_url=cache.server.url,
        infos=(
            BackendInfo("broker", "embedded broker on SQLite", sqlite3.sqlite_version, "a file", 0.0),
            BackendInfo("database", "SQLite", sqlite3.sqlite_version, str(database), 0.0),
            cache.info(),
        ),
    )


def servers_of(stack: Stack, folder: Path, options: Options) -> tuple[Server, ...]:
    """Return the servers of a stack, on the ports of `options`, which must be allocated. Starts nothing."""
    ports = options.ports
    if stack == "embedded":
        return (wheel_valkey(folder, ports.redis, options.appendfsync),)
    if stack != "local":
        return ()
    return (
        *kafka_cluster(folder, ports, fast_start=options.fast_start),
        MySQLServer(folder / "mysql", ports.mysql)
        if options.database == "mysql"
        else MariaDBServer(folder / "mariadb", ports.mysql),
        system_redis(folder, ports.redis, options.appendfsync),
    )


def wait_ready(server: Server, is_alive: Callable[[], bool], *, seconds: float = READY_SECONDS) -> str:
    """Return the version of the server once it answers. Raises `BackendFailed` when it ends or is late."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return server.probe()
        except NotReady as error:
            if not is_alive():
                raise BackendFailed(f"{server.name} ended while starting. {last_lines(output_of(server))}") from error
            if time.monotonic() > deadline:
                raise BackendFailed(
                    f"{server.name} has not answered for {seconds:.0f} seconds: {error} {last_lines(output_of(server))}"
                ) from error
        time.sleep(0.03)


def output_of(server: Server) -> Path:
    """Return the file of what a server prints."""
    return server.folder / "output.log"


def _start(stack: Stack, folder: Path, options: Options) -> list[StartedServer]:
    options = replace(options, ports=allocate_ports(options))
    servers = servers_of(stack, folder, options)
    state.begin(folder, stack, options)
    began = time.monotonic()

    def wait(server: Server, process: Process) -> StartedServer:
        version = wait_ready(server, lambda: is_running(process))
        return StartedServer(server, version, time.monotonic() - began)

    with ThreadPoolExecutor(len(servers)) as pool:
        preparing = {pool.submit(server.prepare): server for server in servers}
        waiting: list[Future[StartedServer]] = []
        for prepared in as_completed(preparing):
            prepared.result()
            server = preparing[prepared]
            # In this thread, not in the pool's: it writes the state of the folder.
            process = spawn(server.name, server.command(), output_of(server), die_with_parent=options.die_with_parent)
            state.add_process(folder, process)
            waiting.append(pool.submit(wait, server, process))
        return [each.result() for each in waiting]


def _of_role(role: Role, started: Sequence[StartedServer]) -> list[StartedServer]:
    return [each for each in started if each.server.role == role]
