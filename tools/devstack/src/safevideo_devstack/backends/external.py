"""The stack `given`: backends that stand already, named by the environment."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from safevideo_devstack.backends import probes, state
from safevideo_devstack.backends.stack import (
    Asked,
    BackendFailed,
    Backends,
    BackendUnavailable,
    NotReady,
    Options,
    Part,
    Role,
    Say,
)

VARIABLES = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "REDIS_URL")
SECONDS = 3.0


def start_given(folder: Path, options: Options, _say: Say) -> Backends:
    """Ask each that it answers, and start nothing.

    Raises `BackendUnavailable` when a variable is not set, and `BackendFailed` when a backend does not answer: whoever
    names backends wants these and no others.
    """
    if missing := _not_set():
        raise BackendUnavailable(f"{', '.join(missing)} not set")
    kafka, database, redis = (os.environ[name] for name in VARIABLES)
    state.begin(folder, "given", options)
    return Backends("given", kafka, database, redis, ask_parts(kafka, database, redis, seconds=SECONDS))


def are_given(asked: Asked) -> bool:
    """Return whether a start of `asked` takes the given backends."""
    return asked == "given" or (asked == "auto" and not _not_set())


def ask_parts(kafka: str, database: str, redis: str, *, seconds: float) -> tuple[Part, ...]:
    """Wait until all three answer, side by side. Raises `BackendFailed` after `seconds`."""
    with ThreadPoolExecutor(3) as pool:
        parts = (
            pool.submit(_ask, "log", "Apache Kafka", kafka, lambda: _kafka_version(kafka), seconds),
            pool.submit(
                _ask, "database", "MySQL family", _address(database), lambda: probes.mysql_version(database), seconds
            ),
            pool.submit(_ask, "cache", "Redis", _address(redis), lambda: probes.redis_version(redis), seconds),
        )
        return tuple(part.result() for part in parts)


def _not_set() -> list[str]:
    return [name for name in VARIABLES if not os.environ.get(name)]


def _ask(role: Role, software: str, address: str, version: Callable[[], str], seconds: float) -> Part:
    began = time.monotonic()
    while True:
        try:
            return Part(role, software, version(), address, round(time.monotonic() - began, 2))
        except NotReady as error:
            if time.monotonic() - began > seconds:
                raise BackendFailed(f"The {role} at {address} has not answered for {seconds:.0f} seconds.") from error
        time.sleep(0.1)


def _kafka_version(bootstrap_servers: str) -> str:
    probes.kafka_brokers(bootstrap_servers)
    return ""  # the protocol does not tell


def _address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
