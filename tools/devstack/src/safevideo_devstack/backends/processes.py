"""The stacks that are processes of this machine: `local` and `embedded`."""

import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from safevideo_devstack.backends import local, state
from safevideo_devstack.backends.ports import allot
from safevideo_devstack.backends.process import Process, spawn
from safevideo_devstack.backends.redis import wheel_valkey
from safevideo_devstack.backends.stack import Backends, Options, Part, Role, Say, Server, Stack
from safevideo_devstack.backends.starting import Started, log_of, start


def start_local(folder: Path, options: Options, say: Say) -> Backends:
    """Kafka, MariaDB or MySQL, and Redis. Raises `BackendUnavailable` when something is missing, or `BackendFailed`."""
    local.install(say, options.database)
    started = _start("local", folder, options)
    return Backends(
        stack="local",
        kafka_bootstrap_servers=",".join(each.server.url for each in started if each.server.role == "log"),
        database_url=_of_role("database", started).server.url,
        redis_url=_of_role("cache", started).server.url,
        parts=(_log_part(started), _part(_of_role("database", started)), _part(_of_role("cache", started))),
    )


def start_embedded(folder: Path, options: Options, _say: Say) -> Backends:
    """Valkey, and files for the other two. Raises `BackendUnavailable` or `BackendFailed`."""
    cache = _of_role("cache", _start("embedded", folder, options))
    database = folder / "safevideo.db"
    return Backends(
        stack="embedded",
        kafka_bootstrap_servers="",
        database_url=f"sqlite+aiosqlite:///{database}",
        redis_url=cache.server.url,
        parts=(
            Part("log", "embedded log on SQLite", sqlite3.sqlite_version, "a file", 0.0),
            Part("database", "SQLite", sqlite3.sqlite_version, str(database), 0.0),
            _part(cache),
        ),
    )


def servers_of(stack: Stack, folder: Path, options: Options) -> tuple[Server, ...]:
    """The servers of a stack; `options` has their ports."""
    if stack == "local":
        return local.servers(folder, options)
    if stack == "embedded":
        return (wheel_valkey(folder, options.ports.redis, options.appendfsync),)
    return ()


def _start(stack: Stack, folder: Path, options: Options) -> list[Started]:
    options = replace(options, ports=allot(options))
    servers = servers_of(stack, folder, options)
    state.begin(folder, stack, options)

    def spawn_and_record(server: Server) -> Process:
        process = spawn(server.name, server.command(), log_of(server), tethered=options.tethered)
        state.add_process(folder, process)
        return process

    return start(servers, spawn_and_record)


def _of_role(role: Role, started: Sequence[Started]) -> Started:
    return next(each for each in started if each.server.role == role)


def _part(started: Started, *, software: str = "") -> Part:
    server = started.server
    return Part(server.role, software or server.software, started.version, server.address, round(started.seconds, 2))


def _log_part(started: Sequence[Started]) -> Part:
    brokers = [each for each in started if each.server.role == "log"]
    last = max(brokers, key=lambda broker: broker.seconds)
    number = "one broker" if len(brokers) == 1 else f"{len(brokers)} brokers"
    return _part(last, software=f"{last.server.software}, {number}")
