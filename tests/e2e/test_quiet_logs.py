"""Healthy services under light traffic write no WARNING and no ERROR, also when each idle connection is closed."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex

import aiohttp
import pytest
from sqlalchemy import text

import gateway.app
from gateway.settings import GatewaySettings
from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import Role
from safevideo_common.broker.port import Broker
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.all_services import SECRET, all_services, serving, settings_of
from safevideo_testkit.eventually import eventually
from safevideo_testkit.http import Api
from safevideo_testkit.kyc import kyc_settings
from safevideo_testkit.log_lines import app_lines
from safevideo_testkit.oracle.stream import write_webhook
from safevideo_testkit.stacks import REAL, StackUnderTest
from safevideo_testkit.webhook_sender import post

CYCLES = 2
"""The times that all connections are replaced in a window. With the default that is 360 times an hour."""
STARVED = ("without Redis", "heartbeat late")
"""Written by a process that got no processor for 50 ms, or for a third of a lease: no matter of idle times."""
WINDOWS = 5
"""One of them must be quiet. On a busy machine a service may be starved for longer than the idle time."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Addresses of running services, and a performer whose webhooks and reads they get."""

    session: aiohttp.ClientSession
    webhooks: str
    api: Api
    headers: dict[str, str]
    performer: str

    async def pass_once(self, version: int) -> None:
        """Send a webhook, wait until its value is shown, and ask for health and the jobs."""
        changes = {"changes": {"bio": f"v{version}"}}
        event = write_webhook(
            "performer.profile.updated", f"{self.performer}-{version}", self.performer, changes, version=version
        )
        assert await post(self.session, self.webhooks, SECRET, event) == 200

        async def is_shown() -> bool:
            answer = await self.api.get(f"/api/v1/performers/{self.performer}", self.headers)
            return answer.status == 200 and answer.json["data"]["bio"] == f"v{version}"

        await eventually(is_shown, poll_seconds=0.2)
        for path in ("/api/integration/health", "/api/v1/admin/jobs"):
            assert (await self.api.get(path, self.headers)).status == 200


@asynccontextmanager
async def light_traffic(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, documents: Path
) -> AsyncIterator[Traffic]:
    """Run all services."""
    async with AsyncExitStack() as opened:
        url = await opened.enter_async_context(all_services(stack, broker, log))
        settings = GatewaySettings.model_validate(settings_of(stack) | kyc_settings(documents))
        port = await opened.enter_async_context(serving(gateway.app.build_app(settings, broker, log), settings))
        session = await opened.enter_async_context(aiohttp.ClientSession())
        async with Database.open(stack.database_url) as database, database.transaction() as tx:
            key = await api_keys.create(tx, "an-admin", Role.ADMIN, utc_now())
        headers = {"X-API-Client": "an-admin", "X-API-Key": key}
        yield Traffic(session, url, Api(f"http://127.0.0.1:{port}", session), headers, f"sg_{token_hex(4)}")


async def connections(database: Database) -> set[int]:
    """Return the ids of all connections to the database but this one."""
    query = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    async with database.read_connection() as reading:
        return set(await reading.scalars(text(query)))


async def all_are_replaced(database: Database) -> None:
    """Wait until each connection that is there now was closed: since it was idle, or since it was due."""
    before = await connections(database)
    assert before

    async def are_closed() -> bool:
        return not before & await connections(database)

    await eventually(are_closed, poll_seconds=0.1)


@pytest.mark.parametrize("stack", [REAL], indirect=True)
async def test_light_traffic_over_idle_connections_writes_no_warning(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, logs: Path, tmp_path: Path
) -> None:
    joint = "&" if "?" in stack.database_url else "?"
    impatient = replace(stack, database_url=f"{stack.database_url}{joint}idle_seconds=2")
    noise: list[str] = []
    async with (
        Database.open(stack.database_url) as observer,
        light_traffic(impatient, broker, log, tmp_path / "documents") as traffic,
    ):
        for window in range(WINDOWS):
            written = len(app_lines(log, logs))
            for cycle in range(CYCLES):
                await traffic.pass_once(window * CYCLES + cycle + 1)
                await all_are_replaced(observer)
            lines = [line for line in app_lines(log, logs)[written:] if not any(each in line for each in STARVED)]
            noise = [line for line in lines if line.split()[2] in {"WARNING", "ERROR"}]
            if not noise:
                break
    assert noise == []
