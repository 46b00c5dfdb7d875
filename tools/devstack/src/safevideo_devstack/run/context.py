"""One `make run`: what it was asked for, where it keeps things, what it says."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from safevideo_devstack.backends.stack import Say
from safevideo_devstack.run.config import HOST, SIMULATOR, Stack
from safevideo_devstack.run.state_files import Paths, PidRegistry, SecretStore

API_CLIENT: Final = "make-run"


@dataclass(frozen=True, slots=True)
class RunContext:
    """What every part of a run is given."""

    stack: Stack
    place: Paths
    ports: Mapping[str, int]
    secrets: SecretStore
    roster: PidRegistry
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


def shell_environment(run: RunContext, backends: BackendUrls, api_key: str) -> dict[str, str]:
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


# The services, and what each process of a run is configured with.


SHUTDOWN_SECONDS: Final = 2
"""What open requests get at the end: the whole run has ten seconds."""


SERVICES: Final = ("gateway", "kyc-worker", "sync-worker", "webhook-ingest")
"""In the order of their start: the door opens when the others are there."""


def command_of(name: str) -> tuple[str, ...]:
    """What starts a service as a process of its own."""
    return (sys.executable, "-m", name.replace("-", "_"))


def service_environment(run: RunContext, backends: BackendUrls, name: str) -> dict[str, str]:
    """The settings of one service (contract, §12)."""
    return {
        "SAFEVIDEO_ENV": "development",
        "HOST": HOST,
        "PORT": str(run.ports[name]),
        "SHUTDOWN_SECONDS": str(SHUTDOWN_SECONDS),
        "LOG_DIR": str(run.place.logs),
        "SHAREGRAM_API_URL": f"{run.url(SIMULATOR)}/v1",
        "SPOOL_DIR": str(run.place.data / "spool"),
        "ENCRYPTION_KEY": run.secrets.made("ENCRYPTION_KEY"),
        **backends.environment(),
        **_partner_secrets(run),
    }


def simulator_environment(run: RunContext) -> dict[str, str]:
    """The settings of the simulator."""
    return {
        "SIMULATOR_HOST": HOST,
        "SIMULATOR_PORT": str(run.ports[SIMULATOR]),
        "SAFEVIDEO_WEBHOOK_URL": run.webhook_url,
        **_partner_secrets(run),
    }


def _partner_secrets(run: RunContext) -> Mapping[str, str]:
    names = ("SHAREGRAM_WEBHOOK_SECRET", "SHAREGRAM_API_KEY", "SHAREGRAM_SECRET_KEY")
    return {name: run.secrets.made(name) for name in names}
