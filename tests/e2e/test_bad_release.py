"""A release that cannot read what it gets: it must not empty the topic into the dead letters."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from secrets import token_hex

from sqlalchemy import func, select

import kyc_worker.app
from kyc_worker.settings import KycWorkerSettings
from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import Message
from safevideo_common.database.engine import Database
from safevideo_common.database.tables import event_inbox
from safevideo_common.events import kyc, topics
from safevideo_common.events.envelope import Envelope
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.all_services import begin_here, environment
from safevideo_testkit.eventually import eventually
from safevideo_testkit.http import Api, running
from safevideo_testkit.stacks import StackUnderTest

UNREADABLE = 150
"""More than the 100 that may die before a worker halts."""


async def test_it_halts_says_so_and_leaves_the_events_to_the_next_release(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger
) -> None:
    prefix = f"sg_{token_hex(4)}"
    await begin_here(stack, broker)
    await _publish_unreadable(broker, prefix)
    async with Database.open(stack.database_url) as database:
        async with _worker(stack, broker, log, {}) as api:
            await eventually(lambda: _is_halted(api))
            assert (await api.get("/healthz")).status == 200  # a restart would only bury more
            assert b"safevideo_consumer_halted 1.0" in (await api.get("/metrics")).body
            assert await _dead(database, prefix) < 100
        async with _worker(stack, broker, log, {"dlq_rate_limit": 1}) as api:
            await eventually(lambda: _has_dead(database, prefix, UNREADABLE))
            assert (await api.get("/readyz")).status == 200


@asynccontextmanager
async def _worker(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, changes: dict[str, object]
) -> AsyncIterator[Api]:
    given = {name.lower(): value for name, value in environment(stack).items()}
    settings = KycWorkerSettings.model_validate(given | changes)
    async with running(kyc_worker.app.build_app(settings, broker, log), settings) as api:
        yield api


async def _publish_unreadable(broker: Broker, prefix: str) -> None:
    async with broker.producer("test") as publisher:
        for number in range(UNREADABLE):
            subject = f"{prefix}_{number}"
            envelope = Envelope(f"{prefix}-evt-{number}", kyc.COMPLETED, datetime.now(UTC), subject)
            await publisher.publish(Message(topics.KYC, subject.encode(), b"{}", envelope.headers()))


async def _is_halted(api: Api) -> bool:
    answer = await api.get("/readyz")
    return answer.status == 503 and "halted" in answer.json["failed"].get("consumer", "")


async def _has_dead(database: Database, prefix: str, number: int) -> bool:
    return await _dead(database, prefix) == number


async def _dead(database: Database, prefix: str) -> int:
    of_this_test = event_inbox.c.performer_id.startswith(prefix, autoescape=True)
    async with database.read_connection() as connection:
        query = select(func.count()).where(of_this_test, event_inbox.c.status == "dead")
        return await connection.scalar(query) or 0
