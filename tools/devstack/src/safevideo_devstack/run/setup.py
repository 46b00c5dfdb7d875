"""The preparation of a stack: schema, topics, API key and roles, and the simulator."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from aiohttp import web
from pydantic import SecretStr

from safevideo_common.audit.store import Caller
from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import Role
from safevideo_common.broker.port import Broker
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_common.events.topics import all_topics
from safevideo_common.users.rights import RoleGrant
from safevideo_common.users.role_grants import RoleGrants
from safevideo_devstack.run.config import HOST, SIMULATOR
from safevideo_devstack.run.context import API_CLIENT, BackendUrls, RunContext
from sharegram_simulator.app import build_app
from sharegram_simulator.settings import SimulatorSettings

SIMULATOR_SHUTDOWN_SECONDS: Final = 1

STAFF_ROLES: Final = (Role.MODERATOR, Role.ADMIN)
"""The roles of the people who can sign in from the start: `sg_moderator` and `sg_admin`."""


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A stack of which all services answer. A future of `failures` has an error when a part died for good."""

    backends: BackendUrls
    failures: tuple["asyncio.Future[None]", ...]

    async def failure(self) -> None:
        """Return never; raise the first error."""
        done, _ = await asyncio.wait(self.failures, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            future.result()


async def run_together(*work: Coroutine[object, object, None]) -> None:
    """Return when all work is done; the first failure cancels the rest and is raised as it is, without a group."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in work:
                group.create_task(each)
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


async def prepare_database(run: RunContext, url: str) -> None:
    """Migrate the schema to this build. Data of an earlier build stays."""
    state = await migrate(url)
    if state.is_behind:
        run.say(f"Database migrated to {state.head}.")


async def prepare_broker(broker: Broker) -> None:
    """Create the topics that are missing."""
    await broker.create_topics(all_topics())


async def admin_key(run: RunContext, database: Database) -> str:
    """Return the API key of role `admin` for `.run/env`: the last run's if this database has it, else a new one."""
    name = f"SAFEVIDEO_API_KEY of {run.stack}"
    now = utc_now()
    if last_key := run.secrets.get(name):
        async with database.read_connection() as connection:
            if await api_keys.find(connection, API_CLIENT, last_key, now):
                return last_key
    async with database.transaction() as tx:
        key = await api_keys.create(tx, API_CLIENT, Role.ADMIN, now)
    run.secrets.put(name, key)
    return key


def email_of(performer_id: str) -> str:
    """Return the e-mail of a person of the demo."""
    return f"{performer_id}@example.com"


async def grant_staff(database: Database) -> None:
    """Add the roles of the staff for their first sign-in. Who has an account already keeps the role that it has."""
    grants = RoleGrants(database, utc_now)
    operator = Caller(API_CLIENT, "cli", None, uuid4().hex)
    for role in STAFF_ROLES:
        email = email_of(f"sg_{role}")
        if await grants.account_of_email(email) is None:
            await grants.add(email, RoleGrant(role), "the staff of make run", operator)


@asynccontextmanager
async def serve_simulator(run: RunContext) -> AsyncIterator[None]:
    """Serve the simulator in this process for the block. Raises `OSError` when its port is taken."""
    settings = SimulatorSettings(
        host=HOST,
        port=run.ports[SIMULATOR],
        webhook_url=run.webhook_url,
        backchannel_logout_url=run.logout_url,
        webhook_secret=SecretStr(run.webhook_secret),
        api_key=SecretStr(run.secrets.get_or_create("SHAREGRAM_API_KEY")),
        secret_key=SecretStr(run.secrets.get_or_create("SHAREGRAM_SECRET_KEY")),
    )
    runner = web.AppRunner(
        build_app(settings), access_log=None, handle_signals=False, shutdown_timeout=SIMULATOR_SHUTDOWN_SECONDS
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        yield
    finally:
        await runner.cleanup()
