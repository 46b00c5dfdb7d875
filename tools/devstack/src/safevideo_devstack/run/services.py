"""The services, and what each process of a run is configured with."""

import sys
from collections.abc import Mapping
from typing import Final

from safevideo_devstack.run.ports import HOST, SIMULATOR
from safevideo_devstack.run.run import BackendUrls, Run

SHUTDOWN_SECONDS: Final = 2
"""What open requests get at the end: the whole run has ten seconds."""


SERVICES: Final = ("gateway", "kyc-worker", "sync-worker", "webhook-ingest")
"""In the order of their start: the door opens when the others are there."""


def command_of(name: str) -> tuple[str, ...]:
    """What starts a service as a process of its own."""
    return (sys.executable, "-m", name.replace("-", "_"))


def service_environment(run: Run, backends: BackendUrls, name: str) -> dict[str, str]:
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


def simulator_environment(run: Run) -> dict[str, str]:
    """The settings of the simulator."""
    return {
        "SIMULATOR_HOST": HOST,
        "SIMULATOR_PORT": str(run.ports[SIMULATOR]),
        "SAFEVIDEO_WEBHOOK_URL": run.webhook_url,
        **_partner_secrets(run),
    }


def _partner_secrets(run: Run) -> Mapping[str, str]:
    names = ("SHAREGRAM_WEBHOOK_SECRET", "SHAREGRAM_API_KEY", "SHAREGRAM_SECRET_KEY")
    return {name: run.secrets.made(name) for name in names}
