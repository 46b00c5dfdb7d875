"""What both stacks need before a service may start: the schema, the topics, a key to the gateway."""

from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import Role
from safevideo_common.broker.port import Broker
from safevideo_common.clock import utc_now
from safevideo_common.database.engine import Database
from safevideo_common.database.migrate import migrate
from safevideo_common.events.topics import all_topics
from safevideo_devstack.run.run import API_CLIENT, Run


async def prepare_database(run: Run, url: str) -> None:
    """Bring the schema up to this build. Data of an earlier build is kept."""
    state = await migrate(url)
    if state.is_behind:
        run.say(f"Database migrated to {state.head}.")


async def prepare_log(event_log: Broker) -> None:
    """Create the topics that are missing."""
    await event_log.create_topics(all_topics())


async def admin_key(run: Run, database: Database) -> str:
    """The key of role `admin` that `.run/env` has: yesterday's where this database knows it, else a new one."""
    name = f"SAFEVIDEO_API_KEY of {run.stack}"
    now = utc_now()
    if known := run.secrets.get(name):
        async with database.reading() as connection:
            if await api_keys.find(connection, API_CLIENT, known, now):
                return known
    async with database.transaction() as tx:
        key = await api_keys.create(tx, API_CLIENT, Role.ADMIN, now)
    run.secrets.put(name, key)
    return key
