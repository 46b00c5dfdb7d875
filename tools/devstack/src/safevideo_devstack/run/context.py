"""The context that all parts of a run share, and the settings of its services."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from safevideo_devstack.backends.stack import Say
from safevideo_devstack.run.config import HOST, SIMULATOR, Stack
from safevideo_devstack.run.state_files import Paths, PidRegistry, SecretStore

API_CLIENT: Final = "make-run"
WEBHOOK_SECRET: Final = "SHAREGRAM_WEBHOOK_SECRET"
PARTNER_SECRETS: Final = (WEBHOOK_SECRET, "SHAREGRAM_API_KEY", "SHAREGRAM_SECRET_KEY")
"""The secrets that are shared with Sharegram. Those of the environment win."""

SERVICES: Final = ("gateway", "kyc-worker", "sync-worker", "webhook-ingest")
"""The services in the order of their start: webhook-ingest accepts webhooks when the others run."""

SHUTDOWN_SECONDS: Final = 2
"""The time for open requests at the end: the whole run has ten seconds."""


@dataclass(frozen=True, slots=True)
class RunContext:
    """The choices, files and output of one run."""

    stack: Stack
    paths: Paths
    ports: Mapping[str, int]
    secrets: SecretStore
    pids: PidRegistry
    say: Say

    def url(self, name: str) -> str:
        """Return the base address of a service or of the simulator."""
        return f"http://{HOST}:{self.ports[name]}"

    @property
    def webhook_url(self) -> str:
        """The full address that webhooks are sent to."""
        return f"{self.url('webhook-ingest')}/webhooks/sharegram"

    @property
    def webhook_secret(self) -> str:
        """The secret that the simulator signs with."""
        return self.secrets.get_or_create(WEBHOOK_SECRET).partition(",")[0].strip()

    @property
    def logout_url(self) -> str:
        """The full address that the provider's logout tokens are sent to."""
        return f"{self.url('gateway')}/auth/sso/backchannel-logout"


@dataclass(frozen=True, slots=True)
class BackendUrls:
    """The addresses of this run's backends. `kafka` is empty when the broker is the embedded one."""

    kafka: str
    database: str
    redis: str

    def environment(self) -> dict[str, str]:
        """Return them as settings of the services."""
        return {"KAFKA_BOOTSTRAP_SERVERS": self.kafka, "DATABASE_URL": self.database, "REDIS_URL": self.redis}


def shell_environment(run: RunContext, backends: BackendUrls, api_key: str) -> dict[str, str]:
    """Return the variables of `.run/env` (contract, §15)."""
    return {
        "SAFEVIDEO_GATEWAY_URL": run.url("gateway"),
        "SAFEVIDEO_WEBHOOK_URL": run.webhook_url,
        "SAFEVIDEO_INGEST_URL": run.url("webhook-ingest"),
        "SAFEVIDEO_KYC_WORKER_URL": run.url("kyc-worker"),
        "SAFEVIDEO_SYNC_WORKER_URL": run.url("sync-worker"),
        "SAFEVIDEO_SIMULATOR_URL": run.url(SIMULATOR),
        "SAFEVIDEO_API_CLIENT": API_CLIENT,
        "SAFEVIDEO_API_KEY": api_key,
        **_partner_secrets(run),
        "SHAREGRAM_API_URL": f"{run.url(SIMULATOR)}/v1",
        "ENCRYPTION_KEY": run.secrets.get_or_create("ENCRYPTION_KEY"),
        **backends.environment(),
        "LOG_DIR": str(run.paths.logs),
        "UPLOAD_DIR": str(run.paths.documents),
    }


def command_of(name: str) -> tuple[str, ...]:
    """Return the command that starts a service as a process of its own."""
    return (sys.executable, "-m", name.replace("-", "_"))


def service_environment(run: RunContext, backends: BackendUrls, name: str) -> dict[str, str]:
    """Return the settings of one service (contract, §12)."""
    return {
        "SAFEVIDEO_ENV": "development",
        "HOST": HOST,
        "PORT": str(run.ports[name]),
        "SHUTDOWN_SECONDS": str(SHUTDOWN_SECONDS),
        "LOG_DIR": str(run.paths.logs),
        "SHAREGRAM_API_URL": f"{run.url(SIMULATOR)}/v1",
        "SHAREGRAM_ISSUER": run.url(SIMULATOR),
        "PUBLIC_URL": run.url("gateway"),
        "JWT_SECRET": run.secrets.get_or_create("JWT_SECRET"),
        "SPOOL_DIR": str(run.paths.data / "spool"),
        "UPLOAD_DIR": str(run.paths.documents),
        "ENCRYPTION_KEY": run.secrets.get_or_create("ENCRYPTION_KEY"),
        **backends.environment(),
        **_partner_secrets(run),
    }


def simulator_environment(run: RunContext) -> dict[str, str]:
    """Return the settings of the simulator. Of several webhook secrets it signs with the first."""
    return {
        "SIMULATOR_HOST": HOST,
        "SIMULATOR_PORT": str(run.ports[SIMULATOR]),
        "SAFEVIDEO_WEBHOOK_URL": run.webhook_url,
        "SIMULATOR_BACKCHANNEL_LOGOUT_URL": run.logout_url,
        **_partner_secrets(run),
        WEBHOOK_SECRET: run.webhook_secret,
    }


def _partner_secrets(run: RunContext) -> Mapping[str, str]:
    return {name: run.secrets.get_or_create(name) for name in PARTNER_SECRETS}
