"""A stack that is up, with a hold on each of its servers."""

from dataclasses import dataclass, fields
from pathlib import Path

from safevideo_devstack.backends import state
from safevideo_devstack.backends.faults import RunningServer
from safevideo_devstack.backends.stack import Backends


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningBackends(Backends):
    """Backends and the folder that says what runs for them.

    Only the local stack has all three servers, and the embedded one has the cache. Of the given and the docker stack
    nobody may kill or freeze anything: `servers` is empty.
    """

    folder: Path

    @classmethod
    def of(cls, backends: Backends, folder: Path) -> "RunningBackends":
        """The same backends, which were started in `folder`."""
        return cls(**{each.name: getattr(backends, each.name) for each in fields(Backends)}, folder=folder)

    def servers(self) -> tuple[RunningServer, ...]:
        """Those that are processes of ours: `kafka-1` (to `kafka-3`), `mariadb` or `mysql`, `redis`; or `valkey`."""
        found = state.read(self.folder)
        return tuple(RunningServer(self.folder, each.name) for each in found.processes) if found else ()

    def server(self, *names: str) -> RunningServer:
        """The first server that has one of these names. Raises `LookupError`."""
        for server in self.servers():
            if server.name in names:
                return server
        raise LookupError(f"The {self.stack} stack has no server {' or '.join(names)} of its own.")

    @property
    def kafka(self) -> RunningServer:
        """The only broker, or the first of three. Raises `LookupError`."""
        return self.server("kafka-1")

    @property
    def mysql(self) -> RunningServer:
        """The database server. Raises `LookupError`."""
        return self.server("mariadb", "mysql")

    @property
    def redis(self) -> RunningServer:
        """Redis, or Valkey. Raises `LookupError`."""
        return self.server("redis", "valkey")
