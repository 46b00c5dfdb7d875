"""What a set of backends is, however it came to be, and what may be asked of it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from safevideo_common.errors import StartupError

Stack = Literal["given", "docker", "local", "embedded"]
Asked = Stack | Literal["auto"]
Role = Literal["log", "database", "cache"]
LocalDatabase = Literal["mariadb", "mysql"]
Say = Callable[[str], None]
"""Takes one line about slow work, such as an installation."""


class BackendUnavailable(StartupError):
    """This stack cannot be had here; the message says what is missing and what to type. The next one may be tried."""


class BackendFailed(StartupError):
    """A backend that should have come up did not; the message ends with the last lines of its log."""


class NotReady(Exception):
    """A server does not answer yet. Ask again until the deadline."""


@dataclass(frozen=True, slots=True)
class Part:
    """One of the three backends as the table shows it. `address` holds no password."""

    name: Role
    software: str
    version: str
    address: str
    started_in_seconds: float


@dataclass(frozen=True, slots=True)
class Backends:
    """A stack that is up. The URLs hold passwords and are kept out of the representation."""

    stack: Stack
    kafka_bootstrap_servers: str
    """Empty when embedded: the log is then a file of the messaging port."""
    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)
    parts: tuple[Part, ...]
    skipped: tuple[str, ...] = ()
    """Why each stack that comes earlier in the order was passed over."""

    def environment(self) -> dict[str, str]:
        """The settings that point a service at these backends."""
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
    """The server that `LOCAL_DATABASE` asks for, else MariaDB. Raises `BackendUnavailable` for one that is unknown."""
    known: dict[str, LocalDatabase] = {"": "mariadb", "mariadb": "mariadb", "mysql": "mysql"}
    asked = os.environ.get("LOCAL_DATABASE", "")
    if asked not in known:
        raise BackendUnavailable(f"LOCAL_DATABASE={asked} is not one of mariadb, mysql.")
    return known[asked]


@dataclass(frozen=True, slots=True)
class Options:
    """How to run what is started here; a given stack ignores them."""

    brokers: Literal[1, 3] = 1
    ports: Ports = Ports()
    database: LocalDatabase = field(default_factory=local_database)
    """Of the local stack."""
    fast_start: bool = True
    """Keep the JVM at its quick compiler. Benchmarks say False: a broker then starts later and runs faster."""
    appendfsync: Literal["everysec", "always"] = "everysec"
    tethered: bool = True
    """End the servers with the process that started them, even when that one is killed."""


class Server(Protocol):
    """One process of a stack. Whoever owns it prepares it once, then runs its command as often as it dies."""

    @property
    def name(self) -> str:
        """Unique within its stack, such as `kafka-2`."""
        ...

    @property
    def role(self) -> Role:
        """Which of the three backends it is, or is a member of."""
        ...

    @property
    def software(self) -> str:
        """What people call it."""
        ...

    @property
    def folder(self) -> Path:
        """Holds everything that it writes; exists once it is prepared."""
        ...

    @property
    def address(self) -> str:
        """Host and port."""
        ...

    @property
    def url(self) -> str:
        """What a client is configured with; valid once it is prepared."""
        ...

    def prepare(self) -> None:
        """Write the configuration and, where there is none yet, an empty data folder. Raises `BackendFailed`."""
        ...

    def command(self) -> list[str]:
        """Program and arguments. It stays in the foreground and ends on SIGTERM."""
        ...

    def probe(self) -> str:
        """Ask once, within two seconds, and return its version. Raises `NotReady`."""
        ...
