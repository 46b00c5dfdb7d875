"""Types of a stack: a broker, a database and a cache, wherever they come from."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from safevideo_common.errors import StartupError

Stack = Literal["external", "docker", "local", "embedded"]
StackChoice = Stack | Literal["auto"]
Role = Literal["broker", "database", "cache"]
LocalDatabase = Literal["mariadb", "mysql"]
Say = Callable[[str], None]
"""Takes one line about slow work, such as an installation."""


class BackendUnavailable(StartupError):
    """A stack that this machine cannot run: the message says what is missing and what to type. Try the next one."""


class BackendFailed(StartupError):
    """A backend that should have come up did not; the message ends with the last lines of its output."""


class NotReady(Exception):
    """A server does not answer yet. Probe it again until the deadline."""


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """A line of the table of backends. `address` holds no password."""

    role: Role
    software: str
    version: str
    address: str
    started_in_seconds: float


@dataclass(frozen=True, slots=True)
class Backends:
    """A stack that is up. The URLs hold passwords and are kept out of the representation."""

    stack: Stack
    kafka_bootstrap_servers: str
    """Empty when embedded: the broker is then a file."""
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    infos: tuple[BackendInfo, ...]
    skipped: tuple[str, ...] = ()
    """The reason why each stack that comes earlier in the order was skipped."""

    def environment(self) -> dict[str, str]:
        """Return the settings that point a service at these backends."""
        return {
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka_bootstrap_servers,
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
        }


@dataclass(frozen=True, slots=True)
class Ports:
    """Ports on the loopback interface; 0 or an empty tuple takes free ones. Kafka needs one of each kind a broker."""

    kafka: tuple[int, ...] = ()
    controllers: tuple[int, ...] = ()
    mysql: int = 0
    redis: int = 0


def local_database() -> LocalDatabase:
    """Return the server that `LOCAL_DATABASE` names, by default MariaDB. Raises `BackendUnavailable`."""
    databases: dict[str, LocalDatabase] = {"": "mariadb", "mariadb": "mariadb", "mysql": "mysql"}
    name = os.environ.get("LOCAL_DATABASE", "")
    if name not in databases:
        raise BackendUnavailable(f"LOCAL_DATABASE={name} is not one of mariadb, mysql.")
    return databases[name]


@dataclass(frozen=True, slots=True)
class Options:
    """Settings of the servers that are started here; an external stack ignores them."""

    brokers: Literal[1, 3] = 1
    ports: Ports = Ports()
    database: LocalDatabase = field(default_factory=local_database)
    """The server of the local stack."""
    fast_start: bool = True
    """Keep the JVM at its quick compiler. Benchmarks say False: a broker then starts later and runs faster."""
    appendfsync: Literal["everysec", "always"] = "everysec"
    die_with_parent: bool = True
    """End the servers with the process that started them, even when that one is killed."""


class Server(Protocol):
    """A process of a stack. Its owner prepares it once, then runs its command as often as it dies."""

    @property
    def name(self) -> str:
        """A name that is unique within its stack, such as `kafka-2`."""
        ...

    @property
    def role(self) -> Role:
        """The backend that it is, or is a member of."""
        ...

    @property
    def software(self) -> str:
        """The product's name."""
        ...

    @property
    def folder(self) -> Path:
        """The folder of everything that it writes; exists once it is prepared."""
        ...

    @property
    def address(self) -> str:
        """Host and port."""
        ...

    @property
    def url(self) -> str:
        """The address for a client's settings; valid once it is prepared."""
        ...

    def prepare(self) -> None:
        """Write the configuration and, where there is none yet, an empty data folder. Raises `BackendFailed`."""
        ...

    def command(self) -> list[str]:
        """Return program and arguments. It stays in the foreground and ends on SIGTERM."""
        ...

    def probe(self) -> str:
        """Return its version, within two seconds. Raises `NotReady`."""
        ...
