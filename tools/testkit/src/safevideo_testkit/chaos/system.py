"""A stream's way through the house: where its records begin, when all of them are settled, and what is wrong then."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from aiokafka.errors import KafkaError

from safevideo_common.broker.port import Broker
from safevideo_common.broker.types import Record
from safevideo_common.database.engine import Database
from safevideo_common.errors import ServiceUnavailable
from safevideo_common.events.topics import KYC, OTHER, PERFORMER
from safevideo_testkit.chaos.event_stream import Stream
from safevideo_testkit.chaos.lag_probe import Offsets, asking_groups
from safevideo_testkit.chaos.publishing import TOPICS, ends_of, records_since
from safevideo_testkit.consumer_groups import seek_groups_to_end
from safevideo_testkit.oracle.published import TOLD_TOPICS, differences_told
from safevideo_testkit.oracle.reference_model import Expected, fold
from safevideo_testkit.oracle.state_checks import differences, events_in_inbox, messages_in_outbox
from safevideo_testkit.stacks import StackUnderTest

GROUPS: Mapping[str, Sequence[str]] = {"sync-worker": (PERFORMER, OTHER), "kyc-worker": (KYC,)}
ASK_SECONDS = 0.25
ANSWERS_SECONDS = 180.0
AWAY = (ServiceUnavailable, KafkaError, OSError, TimeoutError)

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`wrong` is empty when all is as it must be."""

    expected: Expected
    told: Sequence[Record]
    wrong: list[str]


@dataclass(frozen=True, slots=True)
class House:
    """The log and the database of a test; the offsets are where its part of the log begins."""

    broker: Broker
    database: Database
    kafka_bootstrap_servers: str
    begins: Offsets
    told_begins: Offsets

    async def wait_until_settled(self, seconds: float) -> None:
        """Return once both groups have committed all that is in the log, nothing waits, and all of it is told."""
        async with asyncio.timeout(seconds):
            while not await self._is_settled():
                await asyncio.sleep(ASK_SECONDS)

    async def judge(self, stream: Stream) -> Verdict:
        """Hold the tables, and what was told, against the records."""
        expected = fold(stream, await records_since(self.broker, self.begins))
        told = await records_since(self.broker, self.told_begins)
        wrong = await patiently(lambda: differences(self.database, expected))
        return Verdict(expected, told, [*wrong, *differences_told(expected, told)])

    async def _is_settled(self) -> bool:
        try:
            return (
                await self._all_is_committed()
                and not await events_in_inbox(self.database, status="waiting")
                and not await messages_in_outbox(self.database)
            )
        except AWAY:
            return False

    async def _all_is_committed(self) -> bool:
        async with asking_groups(self.kafka_bootstrap_servers) as groups:
            for group, topics in GROUPS.items():
                ends, committed = await ends_of(self.broker, topics), await groups.committed(group)
                if any(committed.get(place, 0) < end for place, end in ends.items()):
                    return False
        return True


@asynccontextmanager
async def open_house(stack: StackUnderTest, broker: Broker) -> AsyncIterator[House]:
    """Both groups begin at the end of the log: what other tests have left there is passed over."""
    servers = stack.kafka_bootstrap_servers
    await seek_groups_to_end(servers, broker, GROUPS)
    async with Database.open(stack.database_url, timeout=ANSWERS_SECONDS) as database:
        yield House(broker, database, servers, await ends_of(broker, TOPICS), await ends_of(broker, TOLD_TOPICS))


async def patiently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """The answer, asked for again when it was asked by a connection that had been cut."""
    async with asyncio.timeout(ANSWERS_SECONDS):
        while True:
            try:
                return await ask()
            except ServiceUnavailable:
                await asyncio.sleep(ASK_SECONDS)
