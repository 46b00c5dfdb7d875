"""The stack `external`: backends that run already, named by the environment."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

from safevideo_devstack.backends import probes, state
from safevideo_devstack.backends.stack import (
    BackendFailed,
    BackendInfo,
    Backends,
    BackendUnavailable,
    NotReady,
    Options,
    Role,
    Say,
    StackChoice,
)

VARIABLES = ("KAFKA_BOOTSTRAP_SERVERS", "DATABASE_URL", "REDIS_URL")
READY_SECONDS = 3.0


def start_external(folder: Path, options: Options, _say: Say) -> Backends:
    """Probe each backend and start nothing.

    Raises `BackendUnavailable` when a variable is not set. Raises `BackendFailed` when a backend does not answer: a
    person who names backends wants these and no others.
    """
    if missing := _not_set():
        raise BackendUnavailable(f"{', '.join(missing)} not set")
    kafka, database, redis = (os.environ[name] for name in VARIABLES)
    state.begin(folder, "external", options)
    return Backends("external", kafka, database, redis, probe_backends(kafka, database, redis, READY_SECONDS))


def uses_external(choice: StackChoice) -> bool:
    """Return whether `choice` leads to the external backends."""
    return choice == "external" or (choice == "auto" and not _not_set())


def probe_backends(kafka: str, database: str, redis: str, seconds: float) -> tuple[BackendInfo, ...]:
    """Wait until all three answer, side by side. Raises `BackendFailed` after `seconds`."""
    with ThreadPoolExecutor(3) as pool:
        infos = (
            pool.submit(_probe, "broker", "Apache Kafka", kafka, lambda: _kafka_version(kafka), seconds),
            pool.submit(
                _probe, "database", "MySQL family", _address(database), lambda: probes.mysql_version(database), seconds
            ),
            pool.submit(_probe, "cache", "Redis", _address(redis), lambda: probes.redis_version(redis), seconds),
        )
        return tuple(info.result() for info in infos)


def _not_set() -> list[str]:
    return [name for name in VARIABLES if not os.environ.get(name)]


def _probe(role: Role, software: str, address: str, version: Callable[[], str], seconds: float) -> BackendInfo:
    began = time.monotonic()
    while True:
        try:
            return BackendInfo(role, software, version(), address, round(time.monotonic() - began, 2))
        except NotReady as error:
            if time.monotonic() - began > seconds:
                raise BackendFailed(f"The {role} at {address} has not answered for {seconds:.0f} seconds.") from error
        time.sleep(0.1)


def _kafka_version(bootstrap_servers: str) -> str:
    probes.kafka_brokers(bootstrap_servers)
    return ""  # the protocol has no version of the software


def _address(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
