"""A client of ours and a simulator in one process."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from safevideo_common.clock import Clock
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_common.sharegram.client import CallProtections, SharegramClient, open_sharegram
from safevideo_common.sharegram.errors import IdempotencyKeyConflict
from safevideo_common.sharegram.settings import SharegramSettings
from sharegram_simulator.client import SimulatorClient
from sharegram_simulator.settings import SimulatorSettings
from sharegram_simulator.testing import running_simulator

API_KEY = "planted-api-key-0123456789"
SECRET_KEY = "planted-secret-key-0123456789"


@dataclass
class KeysInMemory:
    """Idempotency keys without a database."""

    stored: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    async def reserve(self, work: str, content: bytes) -> str:
        key, first = self.stored.setdefault(work, (f"key-{len(self.stored)}", content))
        if first != content:
            raise IdempotencyKeyConflict(work)
        return key


def utc_clock() -> datetime:
    return datetime.now(UTC)


Open = Callable[..., AbstractAsyncContextManager[SharegramClient]]


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorClient]:
    settings = SimulatorSettings(
        port=0,
        webhook_secret=SecretStr("a webhook secret"),
        api_key=SecretStr(API_KEY),
        secret_key=SecretStr(SECRET_KEY),
        seed=7,
    )
    async with running_simulator(settings) as client:
        yield client


def settings_for(base_url: str, **changes: object) -> SharegramSettings:
    return SharegramSettings.model_validate(
        {
            "sharegram_api_url": f"{base_url}/v1",
            "sharegram_api_key": API_KEY,
            "sharegram_secret_key": SECRET_KEY,
            "sharegram_initial_delay": 1,
            "sharegram_max_delay": 1,
        }
        | changes
    )


@pytest.fixture
def open_client(log: FilteringBoundLogger) -> Open:
    """Opens a client for a base address, with settings, protections or a clock of the test."""

    @asynccontextmanager
    async def opened(
        base_url: str,
        *,
        protections: CallProtections | None = None,
        clock: Clock = utc_clock,
        registry: CollectorRegistry | None = None,
        **changes: object,
    ) -> AsyncIterator[SharegramClient]:
        settings = settings_for(base_url, **changes)
        protections, registry = protections or CallProtections(), registry or CollectorRegistry()
        async with open_sharegram(settings, protections, KeysInMemory(), registry, log, clock) as client:
            yield client

    return opened


@pytest.fixture
async def sharegram(simulator: SimulatorClient, open_client: Open) -> AsyncIterator[SharegramClient]:
    async with open_client(simulator.base_url) as client:
        yield client
