"""A release that cannot parse its events must not move the whole topic to the dead letters."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from secrets import token_hex

import kyc_worker.app
from kyc_worker.settings import KycWorkerSettings
from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import Message
from safevideo_common.events import kyc, topics
from safevideo_common.events.envelope import Envelope
from safevideo_common.observability.logs import FilteringBoundLogger
from safevideo_testkit.all_services import settings_of
from safevideo_testkit.eventually import eventually
from safevideo_testkit.http import Api, running
from safevideo_testkit.oracle.checks import count_events
from safevideo_testkit.oracle.system import open_system
from safevideo_testkit.stacks import StackUnderTest

UNREADABLE = 150
"""More than the 100 events that a worker dead-letters before it halts."""


async def test_worker_halts_reports_it_and_leaves_unreadable_events_to_the_next_release(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger
) -> None:
    async with open_system(stack, broker) as system:

        async def all_are_dead() -> bool:
            return await count_events(system.database, status="dead") == UNREADABLE

        await _publish_unreadable(broker, f"sg_{token_hex(4)}")
        async with _worker(stack, broker, log, {}) as api:
            await eventually(lambda: _is_halted(api))
            assert (await api.get("/healthz")).status == 200  # a restart would only dead-letter more
            assert b"safevideo_consumer_halted 1.0" in (await api.get("/metrics")).body
            assert await count_events(system.database, status="dead") < 100
        async with _worker(stack, broker, log, {"dlq_rate_limit": 1}) as api:
            await eventually(all_are_dead)
            await eventually(lambda: _is_ready(api))


async def _is_ready(api: Api) -> bool:
    return (await api.get("/readyz")).status == 200


@asynccontextmanager
async def _worker(
    stack: StackUnderTest, broker: Broker, log: FilteringBoundLogger, changes: dict[str, object]
) -> AsyncIterator[Api]:
    settings = KycWorkerSettings.model_validate(settings_of(stack) | changes)
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
