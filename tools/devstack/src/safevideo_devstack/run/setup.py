"""A stack that is up."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from pydantic import SecretStr

from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import Role
from safevideo_common.broker.port import Broker
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_common.events.topics import all_topics
from safevideo_devstack.run.config import HOST, SIMULATOR
from safevideo_devstack.run.context import API_CLIENT, BackendUrls, RunContext
from sharegram_simulator.app import build_app
from sharegram_simulator.settings import SimulatorSettings


@dataclass(frozen=True, slots=True)
class RunningStack:
    """All services answer. `failures` are done, each with its error, when a part has died that nobody starts again."""

    backends: BackendUrls
    failures: tuple["asyncio.Future[None]", ...]

    async def failure(self) -> None:
        """Return never; raise the first error."""
        done, _ = await asyncio.wait(self.failures, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            future.result()


# Work side by side.


async def run_together(*work: Coroutine[object, object, None]) -> None:
    """Return when all of it is done; the first failure cancels the rest and is raised as it is, without a group."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


# What both stacks need before a service may start: the schema, the topics, a key to the gateway.


async def prepare_database(run: RunContext, url: str) -> None:
    """Bring the schema up to this build. Data of an earlier build is kept."""
    state = await migrate(url)
    if state.is_behind:
        run.say(f"Database migrated to {state.head}.")


async def prepare_broker(broker: Broker) -> None:
    """Create the topics that are missing."""
    await broker.create_topics(all_topics())


async def admin_key(run: RunContext, database: Database) -> str:
    """The key of role `admin` that `.run/env` has: yesterday's where this database knows it, else a new one."""
    name = f"SAFEVIDEO_API_KEY of {run.stack}"
    now = utc_now()
    if known := run.secrets.get(name):
        async with database.read_connection() as connection:
            if await api_keys.find(connection, API_CLIENT, known, now):
                return known
    async with database.transaction() as tx:
        key = await api_keys.create(tx, API_CLIENT, Role.ADMIN, now)
    run.secrets.put(name, key)
    return key


# The simulator inside of this process.


SHUTDOWN_SECONDS = 1


@asynccontextmanager
async def serve_simulator(run: RunContext) -> AsyncIterator[None]:
    """Serve it for the block. Raises `OSError` when its port is taken."""
    settings = SimulatorSettings(
        host=HOST,
        port=run.ports[SIMULATOR],
        webhook_url=run.webhook_url,
        webhook_secret=SecretStr(run.secrets.made("SHAREGRAM_WEBHOOK_SECRET")),
        api_key=SecretStr(run.secrets.made("SHAREGRAM_API_KEY")),
        secret_key=SecretStr(run.secrets.made("SHAREGRAM_SECRET_KEY")),
    )
    runner = web.AppRunner(
        build_app(settings), access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        yield
    finally:
        await runner.cleanup()
