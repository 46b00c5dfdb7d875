"""One `make run`: what it was asked for, where it keeps things, what it says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from safevideo_devstack.backends.stack import Say
from safevideo_devstack.run.choices import Stack
from safevideo_devstack.run.place import Place
from safevideo_devstack.run.ports import HOST, SIMULATOR
from safevideo_devstack.run.roster import Roster
from safevideo_devstack.run.secret_store import SecretStore

API_CLIENT: Final = "make-run"


@dataclass(frozen=True, slots=True)
class Run:
    """What every part of a run is given."""

    stack: Stack
    place: Place
    ports: Mapping[str, int]
    secrets: SecretStore
    roster: Roster
    say: Say

    def url(self, name: str) -> str:
        """Base address of a service or of the simulator."""
        return f"http://{HOST}:{self.ports[name]}"

    @property
    def webhook_url(self) -> str:
        """The full address that webhooks are sent to."""
        return f"{self.url('webhook-ingest')}/webhooks/sharegram"


@dataclass(frozen=True, slots=True)
class BackendUrls:
    """Where the backends of this run are. `kafka` is empty when the log is the embedded one."""

    kafka: str
    database: str
    redis: str

    def environment(self) -> dict[str, str]:
        """As settings of the services."""
        return {"KAFKA_BOOTSTRAP_SERVERS": self.kafka, "DATABASE_URL": self.database, "REDIS_URL": self.redis}


def shell_environment(run: Run, backends: BackendUrls, api_key: str) -> dict[str, str]:
    """What `.run/env` has (contract, §15)."""
    return {
        "SAFEVIDEO_GATEWAY_URL": run.url("gateway"),
        "SAFEVIDEO_WEBHOOK_URL": run.webhook_url,
        "SAFEVIDEO_SIMULATOR_URL": run.url(SIMULATOR),
        "SHAREGRAM_WEBHOOK_SECRET": run.secrets.made("SHAREGRAM_WEBHOOK_SECRET"),
        "SAFEVIDEO_API_CLIENT": API_CLIENT,
        "SAFEVIDEO_API_KEY": api_key,
        **backends.environment(),
        "LOG_DIR": str(run.place.logs),
    }
