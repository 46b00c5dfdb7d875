"""The gateway over real HTTP, on an SQLite or MySQL-family database, a real Redis and the embedded log."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from gateway.app import CACHE_DB, build_app
from gateway.settings import GatewaySettings
from safevideo_common.auth import api_keys
from safevideo_common.auth.api_keys import Role
from safevideo_common.broker.open import open_broker
from safevideo_common.broker.port import Broker
from safevideo_common.cache.redis import ANSWER_SECONDS, open_redis
from safevideo_common.database import performers
from safevideo_common.database.engine import Database
from safevideo_common.domain.ordering import WriteVersion
from safevideo_common.domain.outcomes import Status
from safevideo_common.domain.performers import DEFAULTS, Performer
from safevideo_common.inbox.store import rows as inbox_rows
from safevideo_common.inbox.store.rows import InboxEntry
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.http import Api, running
from safevideo_testkit.stacks import MIGRATED

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
EMAIL = "jane@example.com"
KEY_LIFE = timedelta(days=1)


# Tests of what the database does run on both kinds; SQLite is enough for the rest.
@pytest.fixture
def database_kind(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "sqlite")


@pytest.fixture
def database_url(database_kind: str, request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(MIGRATED[database_kind])
    return url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    async with open_redis(redis_url, CACHE_DB, seconds=5) as redis:
        yield redis


@pytest.fixture
async def embedded_broker(tmp_path: Path) -> AsyncIterator[Broker]:
    async with open_broker("", tmp_path / "log") as embedded_broker:
        yield embedded_broker


@pytest.fixture
def logged(log: FilteringBoundLogger, logs: Path) -> Callable[[], list[str]]:
    """The lines of the text log up to now."""

    def lines() -> list[str]:
        log.error("The test looks", code="LOOK")  # an ERROR is written at once, with what was gathered before
        return (logs / "app.log").read_text().splitlines()

    return lines


@pytest.fixture
def settings(database_url: str, redis_url: str) -> GatewaySettings:
    return GatewaySettings(
        host="127.0.0.1",
        port=0,
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url),
        kafka_bootstrap_servers="",
        redis_timeout_seconds=2,  # so that a busy machine makes no outage; tests of outages wait less
        shutdown_seconds=1,
        memory_limit_mb=16_384,  # the check counts the whole test process
        rate_limit_authentication="100000/60",  # tests of the limits set their own
        rate_limit_general="100000/60",
    )


@pytest.fixture
def start(
    embedded_broker: Broker, log: FilteringBoundLogger
) -> Callable[[GatewaySettings], AbstractAsyncContextManager[Api]]:
    """Runs a gateway with the settings given."""
    return lambda settings: running(build_app(settings, embedded_broker, log), settings)


@pytest.fixture
async def impatient(
    start: Callable[[GatewaySettings], AbstractAsyncContextManager[Api]], settings: GatewaySettings
) -> AsyncIterator[Api]:
    """A gateway that waits for Redis no longer than it does by default."""
    async with start(settings.model_copy(update={"redis_timeout_seconds": ANSWER_SECONDS})) as api:
        yield api


@pytest.fixture
async def gateway(
    start: Callable[[GatewaySettings], AbstractAsyncContextManager[Api]], settings: GatewaySettings
) -> AsyncIterator[Api]:
    async with start(settings) as api:
        yield api


@pytest.fixture
def key(database: Database) -> Callable[[Role], Awaitable[dict[str, str]]]:
    """Makes a key of the role and gives the headers that show it."""

    async def make(role: Role) -> dict[str, str]:
        now = datetime.now(UTC)
        async with database.transaction() as tx:
            secret = await api_keys.create(tx, f"a-{role}", role, now, now + KEY_LIFE)
        return {"X-API-Client": f"a-{role}", "X-API-Key": secret}

    return make


@pytest.fixture
async def user(key: Callable[[Role], Awaitable[dict[str, str]]]) -> dict[str, str]:
    return await key(Role.USER)


@pytest.fixture
async def admin(key: Callable[[Role], Awaitable[dict[str, str]]]) -> dict[str, str]:
    return await key(Role.ADMIN)


@pytest.fixture
def store(database: Database) -> Callable[..., Awaitable[int]]:
    """Stores a performer and gives our id."""

    async def store(sharegram_id: str = "sg_1", version: int | None = 3, **fields: object) -> int:
        write_version = WriteVersion(version, 1_700_000_000_000_000)
        whole = {**DEFAULTS, "username": "jane", "display_name": "Jane", "email": EMAIL, **fields}
        async with database.transaction() as tx:
            await performers.insert_new(tx, [Performer(sharegram_id, whole, dict.fromkeys(fields, write_version))], NOW)
        async with database.read_connection() as connection:
            found = await performers.id_of(connection, sharegram_id)
        assert found is not None
        return found

    return store


@pytest.fixture
def rename(database: Database) -> Callable[[str, str], Awaitable[None]]:
    """Gives the stored performer another user name, as the sync-worker would, without dropping it from the cache."""

    async def rename(sharegram_id: str, username: str) -> None:
        async with database.transaction() as tx:
            found = (await performers.load_for_update(tx, [sharegram_id]))[sharegram_id]
            fields = {**found.performer.fields, "username": username}
            after = Performer(sharegram_id, fields, found.performer.write_versions)
            await performers.update(tx, [found._replace(performer=after)], NOW)

    return rename


@pytest.fixture
def record(database: Database) -> Callable[..., Awaitable[None]]:
    """Puts an event into the inbox; each comes a minute after the one before."""
    offsets = count()

    async def record(event_id: str, **fields: object) -> None:
        offset = next(offsets)
        at = NOW + timedelta(minutes=offset)
        known: dict[str, object] = {
            "consumer_group": "sync-worker",
            "event_type": "performer.profile.updated",
            "performer_id": "sg_1",
            "source_topic": "sharegram.performer.v1",
            "source_partition": 0,
            "source_offset": offset,
            "occurred_at": at,
            "received_at": at,
            "decided_at": at,
            "status": Status.APPLIED,
        }
        entry = InboxEntry(event_id=event_id, **(known | fields))  # type: ignore[arg-type]  # a test names what it wants
        async with database.transaction() as tx:
            await inbox_rows.insert_rows(tx, [entry])

    return record
